//! The sessions of a connection as its loop sees them: what each was granted, and in which room it sits.

use std::sync::Arc;
use std::time::Instant;

use super::Driver;
use crate::auth::Access;
use crate::connection::Input;
use crate::error::CloseReason;
use crate::hooks::{HookSet, SessionScope};
use crate::hub::directory::Registration;
use crate::hub::notices::tell_disconnected;
use crate::hub::registry::{Command, RoomHandle};
use crate::hub::transport::Transport;
use crate::id::SessionKey;

/// Where a session's messages go.
pub(super) struct Seat {
    pub(super) session: SessionKey,
    /// `None`: let in, but not in its room yet.
    pub(super) room: Option<Arc<RoomHandle>>,
    pub(super) scope: Box<SessionScope>,
    /// Held: the session is in the hub's directory for as long as it sits here.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) registration: Option<Registration>,
}

impl<T: Transport> Driver<T> {
    pub(super) fn scope(&self, session: SessionKey) -> Option<Box<SessionScope>> {
        self.seats.iter().find(|seat| seat.session == session).map(|seat| seat.scope.clone())
    }

    /// Keeps what a session was granted, fresh or changed.
    pub(super) fn keep_scope(
        &mut self,
        session: SessionKey,
        scope: Box<SessionScope>,
        registration: Option<Registration>,
    ) {
        match self.seats.iter_mut().find(|seat| seat.session == session) {
            None => {
                self.shared.metrics.sessions_open.add(1);
                self.seats.push(Seat { session, room: None, scope, registration });
            }
            Some(seat) => {
                let access = scope.grant.access;
                let changed = seat.scope.grant.access != access;
                seat.scope = scope;
                if changed {
                    self.change_access(session, access);
                }
            }
        }
    }

    pub(super) fn change_access(&mut self, session: SessionKey, access: Access) {
        let seat = self.seats.iter().find(|seat| seat.session == session);
        if let Some(room) = seat.and_then(|seat| seat.room.as_ref()) {
            room.send(Command::Access(session, access));
        }
        self.machine.handle_input(Input::AccessChanged(session, access), Instant::now());
    }

    /// The session is in its room, unless it left meanwhile.
    pub(super) fn enter(&mut self, session: SessionKey, room: Arc<RoomHandle>) {
        match self.seats.iter_mut().find(|seat| seat.session == session) {
            Some(seat) => seat.room = Some(room),
            None => drop(room.send(Command::Leave(session))),
        }
    }

    pub(super) fn leave(&mut self, session: SessionKey, reason: &CloseReason) {
        let Some(index) = self.seats.iter().position(|seat| seat.session == session) else { return };
        let seat = self.seats.swap_remove(index);
        self.shared.metrics.sessions_open.sub(1);
        self.lagging.retain(|lagging| *lagging != session);
        let Some(room) = seat.room else { return };
        tracing::debug!(document = %room.name(), code = reason.code, "Session ended");
        room.send(Command::Leave(session));
        if self.shared.hooks.wants(HookSet::ON_DISCONNECT) {
            let shared = Arc::clone(&self.shared);
            // Sessions may end where no runtime is entered: where their socket's task is dropped.
            self.shared.runtime.spawn(async move { tell_disconnected(&shared, &seat.scope).await });
        }
    }
}
