//! The end of a hub: rooms save, sockets are told, and the deadline is kept.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Hub;
use super::registry::Command;
use crate::error::CloseReason;
use crate::hooks::{DestroyEvent, HookSet, run_hooks};
use crate::id::DocumentName;
use crate::room::Note;

/// How many sockets are closed before a pause.
const SOCKETS_CLOSED_AT_ONCE: usize = 16;

/// What a shutdown left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Documents with changes that are in no store.
    pub unsaved: Vec<DocumentName>,
}

impl Hub {
    /// Ends everything: closes the sockets with `close`, spread over `spread` so that not all clients come
    /// back at once, saves all documents, closes the store. Takes no longer than `deadline`.
    pub async fn shutdown(&self, deadline: Duration, spread: Duration, close: CloseReason) -> ShutdownReport {
        let end = Instant::now() + deadline;
        self.0.shutting_down.store(true, Ordering::Release);
        // Rooms save while their sockets are being closed: what still arrives makes them save again.
        for room in self.0.registry.rooms() {
            room.send(Command::Shutdown);
        }
        let closed = self.close_sockets(spread.min(deadline / 4), close);
        let saved = async { tokio::join!(closed, self.connections_gone(), self.0.registry.emptied()) };
        let _ = tokio::time::timeout_at(end.into(), saved).await;
        let unsaved: Vec<_> = self
            .0
            .registry
            .rooms()
            .iter()
            .filter(|room| room.unsaved.load(Ordering::Acquire))
            .map(|room| room.name().clone())
            .collect();
        // Whatever a hook or a store still does, the deadline is the deadline.
        let grace = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let _ = tokio::time::timeout(grace, self.destroy()).await;
        self.abandon();
        ShutdownReport { unsaved }
    }

    /// Ends what could not be saved: a host may outlive its hub, and nobody is to try for ever on a closed store.
    fn abandon(&self) {
        self.0.ended.send_replace(true);
        for room in self.0.registry.rooms() {
            room.send(Command::Abandon);
        }
    }

    async fn close_sockets(&self, spread: Duration, close: CloseReason) {
        let outboxes: Vec<_> = self.0.lock_connections().values().cloned().collect();
        let pause = spread / (outboxes.len() / SOCKETS_CLOSED_AT_ONCE + 1) as u32;
        for some in outboxes.chunks(SOCKETS_CLOSED_AT_ONCE) {
            for outbox in some {
                outbox.post(Note::CloseConnection(close.clone()));
            }
            if outboxes.len() > SOCKETS_CLOSED_AT_ONCE {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn connections_gone(&self) {
        loop {
            let gone = self.0.connections_gone.notified();
            if self.0.lock_connections().is_empty() {
                return;
            }
            gone.await;
        }
    }

    async fn destroy(&self) {
        if self.0.hooks.wants(HookSet::ON_DESTROY)
            && run_hooks!(self.0.hooks, ON_DESTROY, on_destroy, &mut DestroyEvent::default()).is_err()
        {
            self.0.metrics.hook_errors_total.add(1);
        }
        self.0.store.close().await;
    }
}
