//! Sockets that live in JavaScript: frames in by call, frames out as events. What a room's turn wrote to them is gathered
//! on the engine's own threads, so that JavaScript is woken once a turn and has nothing to wake for each socket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use fidibus_core::auth::Handshake;
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{HostConnection, Hub, ReceiveError};

use crate::event::Event;
use crate::rooms::Shared;
use crate::runtime::runtime;

/// Frames of one event at the most; what is left is an event of its own, so that no socket starves others.
const FRAMES_PER_EVENT_MAX: usize = 256;

/// One socket of the host.
struct HostSocket {
    connection: OnceLock<HostConnection>,
    /// An event for it is in the queue already.
    signalled: AtomicBool,
    all: Weak<HostSockets>,
}

/// All of them.
pub struct HostSockets {
    open: Mutex<HashMap<u64, Arc<HostSocket>>>,
    /// Those that have something to say.
    ready: Mutex<Vec<u64>>,
    shared: Arc<Shared>,
}

impl HostSockets {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), ready: Mutex::default(), shared })
    }

    /// Opens a connection; its id.
    pub fn connect(self: &Arc<Self>, hub: &Hub, handshake: Handshake) -> u64 {
        let socket = Arc::new(HostSocket {
            connection: OnceLock::new(),
            signalled: AtomicBool::new(false),
            all: Arc::downgrade(self),
        });
        // Weak: the connection must not keep itself open.
        let weak: Weak<HostSocket> = Arc::downgrade(&socket);
        let connection = hub.connect(Arc::new(handshake), Arc::new(move || signal(&weak)));
        let id = connection.id().0;
        // Set once, here.
        let _ = socket.connection.set(connection);
        self.lock().insert(id, socket);
        id
    }

    /// Takes a frame of the peer in. `Full`: try again after the next event of this connection.
    pub fn receive(&self, id: u64, frame: Bytes) -> Result<(), ReceiveError> {
        let socket = self.lock().get(&id).cloned();
        match socket.as_ref().and_then(|socket| socket.connection.get()) {
            Some(connection) => connection.receive(frame),
            None => Err(ReceiveError::Closed),
        }
    }

    /// The peer is gone.
    pub fn gone(&self, id: u64) {
        let socket = self.lock().get(&id).cloned();
        if let Some(connection) = socket.as_ref().and_then(|socket| socket.connection.get()) {
            connection.close(CloseReason::GONE);
        }
    }

    /// What a socket has to say: frames, and at the end why it ended.
    pub fn poll(&self, id: u64) -> Vec<Event> {
        let Some(socket) = self.lock().get(&id).cloned() else { return Vec::new() };
        let Some(connection) = socket.connection.get() else { return Vec::new() };
        // Before the look: what comes meanwhile signals again.
        socket.signalled.store(false, Ordering::Release);
        let mut events = Vec::new();
        let closed = connection.close_reason().cloned();
        loop {
            let frames: Vec<_> =
                std::iter::from_fn(|| connection.poll_frame()).take(FRAMES_PER_EVENT_MAX).collect();
            if frames.is_empty() {
                break;
            }
            events.push(Event::Frames { connection: id, frames });
        }
        if events.is_empty() && closed.is_none() {
            // It was woken since there is space again for what JavaScript hands in.
            events.push(Event::Frames { connection: id, frames: Vec::new() });
        }
        if let Some(reason) = closed {
            self.lock().remove(&id);
            let reason_text = reason.reason.into_owned();
            events.push(Event::SocketClosed { connection: id, code: reason.code, reason: reason_text });
        }
        events
    }

    /// A socket has something to say; it is asked when the room that writes to it has ended its turn.
    fn ready(self: Arc<Self>, id: u64) {
        let is_first = {
            let mut ready = self.lock_ready();
            ready.push(id);
            ready.len() == 1
        };
        if is_first {
            runtime().spawn(async move { self.gather() });
        }
    }

    fn gather(&self) {
        let ids = std::mem::take(&mut *self.lock_ready());
        let mut events = Vec::with_capacity(ids.len());
        // Where JavaScript is behind, frames stay with their sockets until it comes for them: those have their bounds.
        let is_full = self.shared.queue.holds_many_frames();
        for id in ids {
            if is_full {
                events.push(Event::Poll { connection: id });
            } else {
                events.extend(self.poll(id));
            }
        }
        self.shared.queue.push_all(events);
    }

    fn lock_ready(&self) -> MutexGuard<'_, Vec<u64>> {
        // The list is whole between any two statements.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<HostSocket>>> {
        // The map is whole between any two statements.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(socket: &Weak<HostSocket>) {
    let Some(socket) = socket.upgrade() else { return };
    let (Some(connection), Some(all)) = (socket.connection.get(), socket.all.upgrade()) else { return };
    if !socket.signalled.swap(true, Ordering::AcqRel) {
        all.ready(connection.id().0);
    }
}
