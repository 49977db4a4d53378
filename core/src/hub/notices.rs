//! Hooks that are told and not asked: one task per room that has any, in order, beside the traffic. What
//! waits for slow hooks counts as waiting in the room, so its readers slow down instead of memory
//! growing.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Shared;
use super::error_chain;
use super::panics::contain;
use super::registry::RoomHandle;
use crate::hooks::{
    AwarenessEvent, ChangeEvent, HookSet, Rejection, SessionEvent, SessionScope, StatelessEvent, run_hooks,
};
use crate::id::{DocumentName, SessionKey};
use crate::protocol::message::Text;
use crate::room::{AwarenessChange, Origin};

/// Something that hooks are told.
pub(super) enum Notice {
    Changed { update: Bytes, origin: Origin },
    AwarenessChanged { change: AwarenessChange, origin: Option<Origin> },
    Stateless { session: SessionKey, payload: Text },
}

impl Notice {
    /// What it costs to keep, about.
    fn bytes(&self) -> usize {
        128 + match self {
            Self::Changed { update, .. } => update.len(),
            Self::AwarenessChanged { change, .. } => change.clients().count() * 8,
            Self::Stateless { payload, .. } => payload.len(),
        }
    }
}

/// Hands notices to a room's hook task.
pub(super) struct Notices(mpsc::UnboundedSender<Notice>);

/// The hooks that are told of a room's events.
const TOLD: HookSet = HookSet::ON_CHANGE.union(HookSet::ON_AWARENESS_UPDATE).union(HookSet::ON_STATELESS);

impl Notices {
    /// Starts the task where any extension has such a hook. It ends with the room.
    pub(super) fn start(shared: &Arc<Shared>, room: &Arc<RoomHandle>) -> Option<Self> {
        if !shared.hooks.wants(TOLD) {
            return None;
        }
        let (sender, mut receiver) = mpsc::unbounded_channel::<Notice>();
        let (shared, room) = (Arc::clone(shared), Arc::clone(room));
        tokio::spawn(async move {
            while let Some(notice) = receiver.recv().await {
                let bytes = notice.bytes();
                // Also after a panic: what waits would hold up the room's readers for ever.
                if let Err(panic) = contain(tell(&shared, room.name(), notice)).await {
                    shared.metrics.hook_errors_total.add(1);
                    tracing::error!(document = %room.name(), error = %panic, "Hook failed");
                }
                room.release(bytes);
            }
        });
        Some(Self(sender))
    }

    /// Queues a notice.
    pub(super) fn tell(&self, room: &RoomHandle, notice: Notice) {
        room.hold(notice.bytes());
        // The task lives as long as this sender.
        let _ = self.0.send(notice);
    }
}

async fn tell(shared: &Shared, document: &DocumentName, notice: Notice) {
    let (hook, result) = match notice {
        Notice::Changed { update, origin } => {
            let mut event = ChangeEvent { document, update: &update, origin };
            ("onChange", run_hooks!(shared.hooks, ON_CHANGE, on_change, &mut event))
        }
        Notice::AwarenessChanged { change, origin } => {
            let mut event = AwarenessEvent { document, change: &change, origin };
            (
                "onAwarenessUpdate",
                run_hooks!(shared.hooks, ON_AWARENESS_UPDATE, on_awareness_update, &mut event),
            )
        }
        Notice::Stateless { session, payload } => {
            let mut event = StatelessEvent { document, session, payload: &payload };
            ("onStateless", run_hooks!(shared.hooks, ON_STATELESS, on_stateless, &mut event))
        }
    };
    report(shared, document, hook, result);
}

/// Tells the hooks that a session opened.
pub(super) async fn tell_connected(shared: &Shared, scope: &SessionScope) {
    if shared.hooks.wants(HookSet::CONNECTED) {
        let mut event = SessionEvent { scope };
        let result = run_hooks!(shared.hooks, CONNECTED, connected, &mut event);
        report(shared, scope.document(), "connected", result);
    }
}

/// Tells the hooks that a session ended.
pub(super) async fn tell_disconnected(shared: &Shared, scope: &SessionScope) {
    if shared.hooks.wants(HookSet::ON_DISCONNECT) {
        let mut event = SessionEvent { scope };
        let result = run_hooks!(shared.hooks, ON_DISCONNECT, on_disconnect, &mut event);
        report(shared, scope.document(), "onDisconnect", result);
    }
}

/// A hook that was only told failed: its author has to see it, nobody else is hurt. A rejection without
/// any text stays silent, as `SkipFurtherHooks`-like throws do in Hocuspocus.
fn report(shared: &Shared, document: &DocumentName, hook: &str, result: Result<(), Rejection>) {
    if let Err(rejection) = result {
        shared.metrics.hook_errors_total.add(1);
        tracing::error!(hook, document = %document, error = %error_chain(&rejection), "Hook failed");
    }
}
