//! Which documents are loaded, and how to reach their rooms. A room's entry exists from the first join
//! until the room has decided, under the registry's lock, that nobody is on the way to it: so there is
//! one load for any number of first clients, and no join into a room that is ending.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

use super::inbox::Inbox;

use crate::auth::Access;
use crate::error::{CloseReason, HubError};
use crate::id::{DocumentName, SessionKey};
use crate::protocol::message::Inbound;
use crate::room::{Acks, Room, Subscriber};
use crate::store::LogId;

const SHARDS: usize = 16;
/// What a command counts in an inbox beside its payload: many have none, and are no less to keep.
const COMMAND_BYTES: usize = 128;

/// Something to be done with a room between two messages.
pub(super) type RoomCall = Box<dyn FnOnce(&mut Room, Instant) + Send>;

/// What a room's task is told.
pub(super) enum Command {
    /// A message of a session.
    Message(SessionKey, Inbound),
    /// A session wants in.
    Join(Box<Join>),
    /// Somebody waits for the document to be loaded.
    Open(oneshot::Sender<Result<(), HubError>>),
    /// A session is gone.
    Leave(SessionKey),
    /// The outbox of a conflated session is empty.
    Drained(SessionKey),
    /// A session may do something else from now on.
    Access(SessionKey, Access),
    /// The log has these rows; the acks that are still to be given.
    Committed { rows: SmallVec<[LogId; 2]>, parked: bool, acks: Acks },
    /// A snapshot was stored, or not.
    Saved(bool),
    /// Something to be done with the room, in turn.
    With(RoomCall),
    /// All sessions end.
    CloseSessions(CloseReason),
    /// Save now and end.
    Shutdown,
    /// End now: the hub is gone, and its store closed.
    Abandon,
    /// Somebody who kept the room loaded let go.
    Reconsider,
}

/// A session on its way in.
pub(super) struct Join {
    pub(super) subscriber: Subscriber,
    pub(super) reply: oneshot::Sender<Result<(), HubError>>,
    pub(super) pin: Pin,
}

/// How to reach one room.
pub(super) struct RoomHandle {
    name: DocumentName,
    inbox: Inbox,
    /// Bytes that wait in the inbox, for a commit, or for hooks: beyond the bound readers wait.
    waiting_bytes: AtomicUsize,
    waiting_bytes_max: usize,
    /// Joins under way and direct connections: the room is not unloaded meanwhile.
    pins: AtomicUsize,
    /// Sessions inside.
    pub(super) sessions: AtomicUsize,
    /// Something is not stored yet, as of the last turn.
    pub(super) unsettled: AtomicBool,
    /// The task did not save everything when it was asked to end.
    pub(super) unsaved: AtomicBool,
    /// Why the document could not be loaded, for who comes to the closed inbox.
    load_failure: OnceLock<HubError>,
}

impl RoomHandle {
    /// What waits for the room's task.
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The document.
    pub(super) fn name(&self) -> &DocumentName {
        &self.name
    }

    /// Sends a command; `false` when the room has ended.
    pub(super) fn send(&self, command: Command) -> bool {
        self.inbox.send(command).is_ok()
    }

    /// Tells the room what it need not hear at once.
    pub(super) fn mention(&self, command: Command) {
        self.inbox.send_patiently(command);
    }

    /// Sends a command at once that is to be answered; the answer, or why there is none.
    pub(super) fn ask<T: Send>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> impl Future<Output = Result<T, HubError>> + Send {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        async move { answer.await.map_err(|_| self.ended()) }
    }

    /// Notes that the document could not be loaded; before the inbox closes.
    pub(super) fn fail(&self, error: &HubError) {
        let _ = self.load_failure.set(error.clone());
    }

    /// Why a command got no answer: the room ended before, or while, it was there.
    fn ended(&self) -> HubError {
        self.load_failure.get().cloned().unwrap_or(HubError::Unloaded)
    }

    /// Sends a session's message and accounts for its bytes.
    pub(super) fn deliver(&self, session: SessionKey, message: Inbound) {
        self.hold(message.payload_len());
        self.send(Command::Message(session, message));
    }

    /// Bytes wait here from now on.
    pub(super) fn hold(&self, bytes: usize) {
        self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes wait no longer.
    pub(super) fn release(&self, bytes: usize) {
        let before = self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > self.waiting_bytes_max {
            self.inbox.opened().notify_waiters();
        }
    }

    /// Whether readers have to wait. Not for a room that has ended: nothing leaves it any more.
    pub(super) fn is_full(&self) -> bool {
        let full =
            self.waiting_bytes.load(Ordering::Acquire) > self.waiting_bytes_max || self.inbox.is_full();
        full && !self.inbox.is_closed()
    }

    /// Whether somebody keeps it loaded who is no session.
    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Waits until readers may go on.
    pub(super) async fn opened(&self) {
        loop {
            let opened = self.inbox.opened().notified();
            if !self.is_full() {
                return;
            }
            opened.await;
        }
    }

    /// Keeps the room loaded; only for callers that hold a pin already.
    pub(super) fn pin(self: &Arc<Self>) -> Pin {
        self.pins.fetch_add(1, Ordering::AcqRel);
        Pin(Arc::clone(self))
    }
}

/// Keeps a room loaded while it lives.
pub(super) struct Pin(Arc<RoomHandle>);

impl Pin {
    /// The room.
    pub(super) fn room(&self) -> &Arc<RoomHandle> {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::AcqRel);
        self.0.send(Command::Reconsider);
    }
}

type Shard = HashMap<DocumentName, Arc<RoomHandle>>;

/// All rooms.
pub(super) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    loaded: AtomicUsize,
    loaded_max: usize,
    waiting_bytes_max: usize,
    emptied: Notify,
}

impl Registry {
    pub(super) fn new(loaded_max: usize, waiting_bytes_max: usize) -> Self {
        Self {
            shards: Default::default(),
            loaded: AtomicUsize::new(0),
            loaded_max,
            waiting_bytes_max,
            emptied: Notify::new(),
        }
    }

    /// The room of a document, pinned; where there is none, `start` gets a new one's handle.
    ///
    /// # Errors
    /// [`HubError::Limit`] when as many documents are loaded as may be.
    pub(super) fn open(
        &self,
        name: &DocumentName,
        start: impl FnOnce(Arc<RoomHandle>),
    ) -> Result<Pin, HubError> {
        let mut shard = self.lock(name);
        if let Some(room) = shard.get(name) {
            return Ok(room.pin());
        }
        // Taken at once: other shards are opened at the same time.
        let one_more = |loaded| (loaded < self.loaded_max).then_some(loaded + 1);
        if self.loaded.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            return Err(HubError::Limit("documents"));
        }
        let room = Arc::new(RoomHandle {
            name: name.clone(),
            inbox: Inbox::new(self.waiting_bytes_max / COMMAND_BYTES),
            waiting_bytes: AtomicUsize::new(0),
            waiting_bytes_max: self.waiting_bytes_max,
            pins: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
            load_failure: OnceLock::new(),
        });
        let pin = room.pin();
        shard.insert(name.clone(), Arc::clone(&room));
        drop(shard);
        start(room);
        Ok(pin)
    }

    /// The room of a document, if it is loaded.
    pub(super) fn find(&self, name: &DocumentName) -> Option<Arc<RoomHandle>> {
        self.lock(name).get(name).cloned()
    }

    /// The room of a document, if it is loaded, pinned: it cannot end between the two.
    pub(super) fn pin(&self, name: &DocumentName) -> Option<Pin> {
        self.lock(name).get(name).map(RoomHandle::pin)
    }

    /// Removes a room that nobody is on the way to; `false`: somebody is.
    pub(super) fn remove_unpinned(&self, room: &Arc<RoomHandle>) -> bool {
        let mut shard = self.lock(&room.name);
        if room.is_pinned() {
            return false;
        }
        self.remove_from(&mut shard, room);
        true
    }

    /// Removes a room that only one pin holds and only `leaving` sessions are in, if `clean` agrees to what is
    /// unsettled in it.
    pub(super) fn retire(
        &self,
        room: &Arc<RoomHandle>,
        leaving: usize,
        clean: impl FnOnce(bool) -> bool,
    ) -> bool {
        let mut shard = self.lock(&room.name);
        let unsettled =
            room.unsettled.load(Ordering::Acquire) || room.waiting_bytes.load(Ordering::Acquire) > 0;
        let sole = room.pins.load(Ordering::Acquire) == 1;
        if !sole || room.sessions.load(Ordering::Acquire) > leaving || !clean(unsettled) {
            return false;
        }
        self.remove_from(&mut shard, room);
        true
    }

    /// Removes a room that failed; whoever is on the way learns it from the closed inbox.
    pub(super) fn remove(&self, room: &Arc<RoomHandle>) {
        self.remove_from(&mut self.lock(&room.name), room);
    }

    fn remove_from(&self, shard: &mut Shard, room: &Arc<RoomHandle>) {
        if shard.get(&room.name).is_some_and(|known| Arc::ptr_eq(known, room)) {
            shard.remove(&room.name);
            if self.loaded.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.emptied.notify_waiters();
            }
        }
        room.inbox.opened().notify_waiters();
    }

    /// How many documents are loaded or loading.
    pub(super) fn len(&self) -> usize {
        self.loaded.load(Ordering::Acquire)
    }

    /// All rooms at this moment.
    pub(super) fn rooms(&self) -> Vec<Arc<RoomHandle>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Waits until no document is loaded.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self, name: &DocumentName) -> MutexGuard<'_, Shard> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // The map is whole between any two statements.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnectionId;
    use std::time::Duration;

    fn room(waiting_bytes_max: usize) -> Arc<RoomHandle> {
        let registry = Registry::new(1, waiting_bytes_max);
        let pin = registry.open(&DocumentName::parse("notes").unwrap(), drop).unwrap();
        Arc::clone(pin.room())
    }

    async fn may_read(room: &RoomHandle) -> bool {
        tokio::time::timeout(Duration::from_millis(50), room.opened()).await.is_ok()
    }

    /// Goal: a flood of messages that carry nothing pauses readers as any other does, until the room has
    /// taken them.
    #[tokio::test]
    async fn messages_without_payload_are_counted() {
        let room = room(10 * COMMAND_BYTES);
        let session = SessionKey { connection: ConnectionId(1), number: 1 };
        let mut commands = Vec::new();
        room.inbox().take(&mut commands);
        for _ in 0..10 {
            room.deliver(session, Inbound::QueryAwareness);
        }
        assert!(may_read(&room).await);
        room.deliver(session, Inbound::QueryAwareness);
        assert!(!may_read(&room).await);
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.opened().await }
        });
        tokio::task::yield_now().await;
        room.inbox().take(&mut commands);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken").unwrap();
    }

    /// Goal: what is pinned stays. Method: one thread opens and removes a room again and again, another one
    /// pins it.
    #[test]
    fn a_room_that_is_pinned_is_not_removed() {
        let (registry, name) = (Registry::new(1, 1_000), DocumentName::parse("notes").unwrap());
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                for _ in 0..50_000 {
                    let room = Arc::clone(registry.open(&name, drop).unwrap().room());
                    room.inbox().close();
                    registry.remove_unpinned(&room);
                }
            });
            while !remover.is_finished() {
                if let Some(pin) = registry.pin(&name) {
                    let found = registry.find(&name);
                    assert!(found.is_some_and(|room| Arc::ptr_eq(&room, pin.room())));
                }
            }
        });
    }

    #[test]
    fn no_more_documents_are_open_than_may_be() {
        for _ in 0..2_000 {
            let registry = Registry::new(1, 1_000);
            std::thread::scope(|scope| {
                for number in 0..4 {
                    let registry = &registry;
                    let name = DocumentName::parse(&format!("notes{number}")).unwrap();
                    scope.spawn(move || drop(registry.open(&name, drop)));
                }
            });
            assert_eq!(registry.len(), 1);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_room_that_ends() {
        let room = room(1_000);
        room.hold(2_000);
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.opened().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        room.inbox().close();
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken").unwrap();
    }
}
