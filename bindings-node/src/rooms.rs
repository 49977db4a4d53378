//! Follows the rooms of the hub for JavaScript: what it has to hear becomes an event, what nobody there listens to
//! costs a flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::hooks::HookSet;
use fidibus_core::hub::{Follower, Held, RoomFollower};
use fidibus_core::id::{DocumentName, SessionKey};
use fidibus_core::protocol::message::Text;
use fidibus_core::room::{AwarenessChange, Origin};

use crate::document::{Document, Documents};
use crate::event::Event;
use crate::queue::Queue;
use crate::runtime::runtime;

/// A busy server wakes JavaScript this often for changes that only hooks are told of: a wake costs more than the
/// call of a hook.
const TOLD_WITHIN: Duration = Duration::from_millis(8);
/// And this often where JavaScript keeps a copy, so that the copy is hardly older than what clients have.
const COPIED_WITHIN: Duration = Duration::from_millis(1);

/// What the parts of an engine share.
#[derive(Default)]
pub struct Shared {
    /// To JavaScript.
    pub queue: Queue,
    /// What it knows.
    pub documents: Documents,
    /// Which hooks the user has, as [`HookSet`] bits; JavaScript keeps it current.
    pub hooks: AtomicU32,
}

impl Shared {
    /// Whether the user has any of these hooks.
    pub fn wants(&self, hooks: HookSet) -> bool {
        self.hooks.load(Ordering::Acquire) & hooks.bits() != 0
    }

    /// Tells JavaScript something that nobody waits for.
    pub fn tell(self: &Arc<Self>, event: Event, within: Duration) {
        if let Some(due) = self.queue.push_told(event, within) {
            let shared = Arc::clone(self);
            // Also where it is due already: JavaScript must not take the core from the room in the middle of its turn.
            runtime().spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                shared.queue.wake_late();
            });
        }
    }
}

/// Gives every room a follower.
pub struct Rooms(pub Arc<Shared>);

impl Follower for Rooms {
    fn follow(&self, document: &DocumentName) -> Option<Box<dyn RoomFollower>> {
        let document = self.0.documents.named(document.as_str())?;
        Some(Box::new(Follow { document, shared: Arc::clone(&self.0) }))
    }

    fn load_failed(&self, document: &DocumentName) {
        // One that JavaScript refused itself is forgotten already.
        if let Some(document) = self.0.documents.named(document.as_str()) {
            self.0.documents.remove(document.id);
            self.0.queue.push(Event::Ended { document: document.id });
        }
    }
}

struct Follow {
    document: Arc<Document>,
    shared: Arc<Shared>,
}

impl Follow {
    fn push(&self, event: Event) {
        self.shared.queue.push(event);
    }
}

fn session_of(origin: Origin) -> Option<SessionKey> {
    match origin {
        Origin::Session(session) => Some(session),
        Origin::Cluster | Origin::Direct => None,
    }
}

impl RoomFollower for Follow {
    fn entered(&mut self, session: SessionKey) {
        self.push(Event::Entered { document: self.document.id, session });
    }

    fn left(&mut self, session: SessionKey) {
        self.push(Event::Left { document: self.document.id, session });
    }

    fn changed(&mut self, update: &Bytes, origin: Origin, held: Held) {
        // What JavaScript does itself, it knows.
        if origin == Origin::Direct {
            return;
        }
        let (document, session) = (self.document.id, session_of(origin));
        self.document.note_change(session);
        let copied = self.document.eager.load(Ordering::Acquire);
        if copied || self.shared.wants(HookSet::ON_CHANGE) {
            let within = if copied { COPIED_WITHIN } else { TOLD_WITHIN };
            self.shared.tell(Event::Changed { document, session, update: update.clone(), held }, within);
        } else if !self.document.touched.swap(true, Ordering::AcqRel) {
            self.shared.tell(Event::Touched { document }, TOLD_WITHIN);
        }
    }

    fn awareness_changed(&mut self, _: &AwarenessChange, update: Bytes, origin: Option<Origin>, held: Held) {
        if origin == Some(Origin::Direct) || !self.document.awareness.load(Ordering::Acquire) {
            return;
        }
        let session = origin.and_then(session_of);
        let event = Event::Awareness { document: self.document.id, session, update, held };
        self.shared.tell(event, COPIED_WITHIN);
    }

    fn stateless(&mut self, session: SessionKey, payload: &Text, held: Held) {
        if self.shared.wants(HookSet::ON_STATELESS) {
            let payload = payload.to_string();
            self.push(Event::Stateless { document: self.document.id, session, payload, held });
        }
    }

    fn ended(&mut self) {
        let document = self.document.id;
        if self.shared.documents.find(document).is_some() {
            self.shared.documents.remove(document);
            self.push(Event::Ended { document });
        }
    }
}
