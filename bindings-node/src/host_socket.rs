//! Sockets that live in JavaScript: frames in by call, frames out as events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use fidibus_core::auth::Handshake;
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{HostConnection, Hub, ReceiveError};

use crate::event::Event;
use crate::rooms::Shared;

/// Frames of one event at the most; what is left is an event of its own, so that no socket starves others.
const FRAMES_PER_EVENT_MAX: usize = 256;

/// One socket of the host.
struct HostSocket {
    connection: OnceLock<HostConnection>,
    /// An event for it is in the queue already.
    signalled: AtomicBool,
    shared: Arc<Shared>,
}

/// All of them.
#[derive(Default)]
pub struct HostSockets {
    open: Arc<Mutex<HashMap<u64, Arc<HostSocket>>>>,
}

impl HostSockets {
    /// Opens a connection; its id.
    pub fn connect(&self, hub: &Hub, shared: &Arc<Shared>, handshake: Handshake) -> u64 {
        let socket = Arc::new(HostSocket {
            connection: OnceLock::new(),
            signalled: AtomicBool::new(false),
            shared: Arc::clone(shared),
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
        if let Some(reason) = closed {
            self.lock().remove(&id);
            let reason_text = reason.reason.into_owned();
            events.push(Event::SocketClosed { connection: id, code: reason.code, reason: reason_text });
        }
        events
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<HostSocket>>> {
        // The map is whole between any two statements.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(socket: &Weak<HostSocket>) {
    let Some(socket) = socket.upgrade() else { return };
    let Some(connection) = socket.connection.get() else { return };
    if !socket.signalled.swap(true, Ordering::AcqRel) {
        let connection = connection.id().0;
        socket.shared.queue.push(Event::Poll { connection });
    }
}
