//! One document that JavaScript knows, from its load to its unload. A name that is loaded again is another
//! document with another id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fidibus_core::hub::Hold;
use fidibus_core::id::SessionKey;
use fidibus_core::room::Room;

/// JavaScript waits this long for a room's turn. Turns take microseconds; this is for a room that failed.
const TURN_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub struct Document {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    hold: Mutex<Option<Hold>>,
    /// JavaScript wants every update.
    pub eager: AtomicBool,
    /// JavaScript wants every awareness update.
    pub awareness: AtomicBool,
    /// JavaScript was told that it changed and has not rearmed it.
    pub touched: AtomicBool,
    /// Changes by others than JavaScript.
    pub version: AtomicU32,
    /// When that was last, in milliseconds of the epoch.
    pub changed_at_ms: AtomicU64,
    /// The session that made the last of them.
    pub last_author: Mutex<Option<SessionKey>>,
}

impl Document {
    /// Does something with the room, in turn and without waiting.
    pub fn queue(&self, bytes: usize, call: impl FnOnce(&mut Room, Instant) + Send + 'static) {
        if let Some(hold) = &*self.lock_hold() {
            hold.call(bytes, call);
        }
    }

    /// Does something with the room and waits for it; `None`: the room has ended.
    pub fn ask<R: Send + 'static>(&self, call: impl FnOnce(&mut Room) -> R + Send + 'static) -> Option<R> {
        let (reply, answered) = mpsc::sync_channel(1);
        self.queue(0, move |room, _| drop(reply.send(call(room))));
        answered.recv_timeout(TURN_MAX).ok()
    }

    /// Changes what a session may do.
    pub fn set_access(&self, session: SessionKey, access: fidibus_core::auth::Access) {
        if let Some(hold) = &*self.lock_hold() {
            hold.set_access(session, access);
        }
    }

    /// Notes a change by others.
    pub fn note_change(&self, session: Option<SessionKey>) {
        self.version.fetch_add(1, Ordering::AcqRel);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.changed_at_ms.store(now.as_millis() as u64, Ordering::Release);
        *self.last_author.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    fn lock_hold(&self) -> MutexGuard<'_, Option<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All documents that JavaScript knows.
#[derive(Default)]
pub struct Documents {
    last: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<u32, Arc<Document>>,
    by_name: HashMap<String, Arc<Document>>,
}

impl Documents {
    /// A document that is being loaded.
    pub fn add(&self, name: &str, hold: Hold) -> Arc<Document> {
        let document = Arc::new(Document {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            name: name.to_owned(),
            hold: Mutex::new(Some(hold)),
            eager: AtomicBool::new(false),
            awareness: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            version: AtomicU32::new(0),
            changed_at_ms: AtomicU64::new(0),
            last_author: Mutex::default(),
        });
        let mut known = self.lock();
        known.by_id.insert(document.id, Arc::clone(&document));
        known.by_name.insert(name.to_owned(), Arc::clone(&document));
        document
    }

    /// By number.
    pub fn find(&self, id: u32) -> Option<Arc<Document>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The latest of that name.
    pub fn named(&self, name: &str) -> Option<Arc<Document>> {
        self.lock().by_name.get(name).cloned()
    }

    /// Forgets a document whose room ended or was never opened.
    pub fn remove(&self, id: u32) {
        let mut known = self.lock();
        let Some(document) = known.by_id.remove(&id) else { return };
        if known.by_name.get(&document.name).is_some_and(|latest| latest.id == id) {
            known.by_name.remove(&document.name);
        }
        drop(known);
        // Dropped outside of the lock: it wakes the room.
        drop(document.lock_hold().take());
    }

    /// Lets a document go, with `leaving` sessions that are being closed; `false`: somebody is on the way in.
    pub fn retire(&self, id: u32, leaving: usize) -> bool {
        let Some(document) = self.find(id) else { return true };
        let mut slot = document.lock_hold();
        let Some(hold) = slot.take() else { return true };
        match hold.retire(leaving) {
            Ok(()) => {
                drop(slot);
                self.remove(id);
                true
            }
            Err(hold) => {
                *slot = Some(hold);
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // The maps are whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
