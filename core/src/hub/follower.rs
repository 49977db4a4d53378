//! A host that keeps a picture of its rooms (the Node front): told of everything within the room's turn, in the
//! order in which it happened, and never waited for. What it has not dealt with yet counts as waiting in
//! the room, so that readers slow down instead of the host's queue growing.

use std::sync::Arc;

use bytes::Bytes;

use super::registry::RoomHandle;
use crate::id::{DocumentName, SessionKey};
use crate::protocol::message::Text;
use crate::room::{AwarenessChange, Origin};

/// Gives every room that is loaded somebody who follows it.
pub trait Follower: Send + Sync + 'static {
    /// Who follows this room; `None`: nobody.
    fn follow(&self, document: &DocumentName) -> Option<Box<dyn RoomFollower>>;

    /// A document that was loading will have no room.
    fn load_failed(&self, document: &DocumentName);
}

/// Follows one room. Called from the room's turn: none of this may block.
pub trait RoomFollower: Send + Sync + 'static {
    /// A session is in the room.
    fn entered(&mut self, session: SessionKey);

    /// A session left; all that it caused was told before.
    fn left(&mut self, session: SessionKey);

    /// The document changed. `held` is to be kept until the host is through with it.
    fn changed(&mut self, update: &Bytes, origin: Origin, held: Held);

    /// Awareness changed; the update holds the states of the clients that did.
    fn awareness_changed(
        &mut self,
        change: &AwarenessChange,
        update: Bytes,
        origin: Option<Origin>,
        held: Held,
    );

    /// A client sent a stateless message.
    fn stateless(&mut self, session: SessionKey, payload: &Text, held: Held);

    /// The room ended.
    fn ended(&mut self);
}

/// Bytes that wait in a room until this is dropped.
pub struct Held {
    room: Arc<RoomHandle>,
    bytes: usize,
}

impl Held {
    /// What an event costs to keep beside its payload, about.
    const OVERHEAD_BYTES: usize = 128;

    pub(super) fn new(room: &Arc<RoomHandle>, payload_bytes: usize) -> Self {
        let bytes = payload_bytes + Self::OVERHEAD_BYTES;
        room.hold(bytes);
        Self { room: Arc::clone(room), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.release(self.bytes);
    }
}
