//! A room that the host keeps loaded, and how it lets go of it: the host decides when a document is unloaded,
//! and a session that comes afterwards finds a fresh one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::registry::{Command, Pin};
use super::{Hub, Shared};
use crate::auth::Access;
use crate::error::{CloseReason, HubError};
use crate::id::{ConnectionId, DocumentName, SessionKey};
use crate::room::{Note, Room};

/// Keeps one room loaded. Calls are carried out in order, between the messages of sessions; those made
/// while the document is loading wait for it.
pub struct Hold {
    pin: Pin,
    shared: Arc<Shared>,
}

impl Hub {
    /// Holds a document that is loaded or loading.
    pub fn hold(&self, document: &DocumentName) -> Option<Hold> {
        Some(Hold { pin: self.0.registry.pin(document)?, shared: Arc::clone(&self.0) })
    }

    /// Loads a document where it is not, on behalf of the host; somebody has to hold it meanwhile.
    ///
    /// # Errors
    /// The document cannot be loaded, or the hub is shutting down.
    pub async fn load(&self, document: &DocumentName) -> Result<(), HubError> {
        let pin = self.0.open_room(document, None)?;
        let room = Arc::clone(pin.room());
        let opened = room.ask(Command::Open);
        // Let go before the host can know that the document is loaded: it may retire it at once, and a pin
        // that is about to go would count as somebody on the way in.
        drop(pin);
        opened.await?
    }

    /// Looks again at which hooks the extensions have. Connections that are open keep what they were opened with
    /// for the hooks that see messages.
    pub fn refresh_hooks(&self) {
        self.0.hooks.refresh();
    }

    /// Sends a frame to a socket, whatever it holds.
    pub fn send(&self, connection: ConnectionId, frame: Bytes) -> bool {
        let outbox = self.0.lock_connections().get(&connection).cloned();
        let Some(outbox) = outbox else { return false };
        let now = Instant::now();
        outbox.push(frame.into(), now);
        outbox.write(now);
        true
    }

    /// Ends a session; its client is told.
    pub fn close_session(&self, session: SessionKey, reason: CloseReason) {
        self.post(session.connection, Note::CloseSession(session, reason));
    }

    /// Ends a socket.
    pub fn close_connection(&self, connection: ConnectionId, reason: CloseReason) {
        self.post(connection, Note::CloseConnection(reason));
    }

    fn post(&self, connection: ConnectionId, note: Note) {
        let outbox = self.0.lock_connections().get(&connection).cloned();
        if let Some(outbox) = outbox {
            outbox.post(note);
        }
    }
}

impl Hold {
    /// Does something with the room in turn; `bytes` count as waiting until then. It must not block.
    pub fn call(&self, bytes: usize, call: impl FnOnce(&mut Room, Instant) + Send + 'static) {
        let room = Arc::clone(self.pin.room());
        room.hold(bytes);
        let held = Arc::clone(&room);
        room.send(Command::With(Box::new(move |room, now| {
            call(room, now);
            held.release(bytes);
        })));
    }

    /// Changes what a session may do, before its next message.
    pub fn set_access(&self, session: SessionKey, access: Access) {
        self.pin.room().send(Command::Access(session, access));
        let outbox = self.shared.lock_connections().get(&session.connection).cloned();
        if let Some(outbox) = outbox {
            outbox.post(Note::AccessChanged(session, access));
        }
    }

    /// Lets go of the room for good: it ends, and whoever comes loads the document anew. Refused, with the hold
    /// given back, when somebody else is on the way in, when other than `leaving` sessions are inside, or (for
    /// a store that keeps documents) when something is not stored yet.
    ///
    /// # Errors
    /// The hold itself.
    pub fn retire(self, leaving: usize) -> Result<(), Self> {
        let clean = |unsettled: bool| !self.shared.keeps_documents || !unsettled;
        if !self.shared.registry.retire(self.pin.room(), leaving, clean) {
            return Err(self);
        }
        self.pin.room().send(Command::Shutdown);
        Ok(())
    }
}
