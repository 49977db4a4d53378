//! What one socket has still to send, as shared pieces in order, and the notes that rooms leave for the
//! connection. Bounded by bytes: beyond the bound broadcasts are conflated by the room (it keeps a
//! cursor instead of queueing) and the connection stops reading, so replies cannot pile up either.
//!
//! It does no IO: it lends the queued bytes as slices to its [`Sink`], when the room's task ends its
//! turn, or when the connection's own task finds the socket writable again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::frame::{Frame, Framing, Header, WEBSOCKET_HEADER_BYTES_MAX};
use crate::auth::Access;
use crate::error::CloseReason;
use crate::id::SessionKey;

/// The socket of a connection as its outbox sees it. Called from any task; must not block.
pub trait Sink: Send + Sync + 'static {
    /// How frames become bytes here.
    fn framing(&self) -> Framing;

    /// Writes what the socket takes of these slices, in order, and says how many bytes that was.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now; anything else means that the socket is dead.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Wakes the connection's task: there is a note, or bytes that the socket did not take.
    fn wake(&self);

    /// Frames wait that the socket did not take; called once per blockage, and under no lock.
    fn refused(&self) {
        self.wake();
    }
}

/// What a room tells a connection besides frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// End one session; the socket stays where the dialect allows it.
    CloseSession(SessionKey, CloseReason),
    /// End the socket.
    CloseConnection(CloseReason),
    /// The session may do something else from now on.
    AccessChanged(SessionKey, Access),
    /// A conflated session waits in its room to be told when this outbox is empty.
    Lagging(SessionKey),
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    /// Bytes of the front frame, header included, that the socket has taken.
    front_written: usize,
    /// When the socket last took something, or when the queue became non-empty.
    progress_at: Option<Instant>,
    notes: Vec<Note>,
    departures: u32,
    /// The connection's task wants to be woken when all is written, whoever writes it.
    awaited: bool,
}

/// The outgoing side of one connection, shared by its rooms and its own task. The socket lies in it and not
/// behind a pointer: a room sends to each of its sockets after a pause, and every place in memory that it has
/// to look at is then a miss of the cache.
pub struct Outbox<S: ?Sized = dyn Sink> {
    queue: Mutex<Queue>,
    bytes: AtomicUsize,
    bytes_max: usize,
    framing: Framing,
    closed: AtomicBool,
    /// The socket took less than it was given; only the connection's task writes until it drained.
    blocked: AtomicBool,
    sink: S,
}

/// What a write left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing is queued any more.
    All,
    /// The socket takes no more for now.
    Blocked,
}

/// Frames smaller than this together are copied into one buffer, beyond they are lent as slices: the
/// copy is cheaper than the kernel's walk over many small vectors.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// Slices lent at once (Linux takes at most 1,024, `UIO_MAXIOV`).
const SLICES_MAX: usize = 64;

impl<S: Sink> Outbox<S> {
    /// An empty outbox. `bytes_max` is the bound in bytes.
    pub fn new(bytes_max: usize, sink: S) -> Self {
        Self {
            queue: Mutex::default(),
            bytes: AtomicUsize::new(0),
            bytes_max,
            framing: sink.framing(),
            closed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            sink,
        }
    }

    /// The socket.
    pub fn sink(&self) -> &S {
        &self.sink
    }
}

impl<S: Sink + ?Sized> Outbox<S> {
    /// Queues a frame whatever the bound: for replies, whose number the reader's pause bounds.
    /// Frames for a closed outbox vanish.
    pub fn push(&self, frame: Frame, now: Instant) {
        self.push_locked(&mut self.lock(), frame, now);
    }

    fn push_locked(&self, queue: &mut Queue, frame: Frame, now: Instant) {
        // Under the lock: what came between a look at it and the end would be written behind the end.
        if self.is_closed() {
            return;
        }
        if queue.frames.is_empty() {
            queue.progress_at = Some(now);
        }
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        queue.frames.push_back(frame);
    }

    /// How often a session has left a room.
    pub fn departures(&self) -> u32 {
        self.lock().departures
    }

    /// A session left a room.
    pub fn depart(&self) {
        let mut queue = self.lock();
        queue.departures = queue.departures.wrapping_add(1);
    }

    /// As [`Self::push`], unless a session has left a room since [`Self::departures`] was asked: what was meant
    /// for that one would be taken for the next one's of that name. `false`: nothing was queued.
    pub fn push_unless_departed(&self, departures: u32, frame: Frame, now: Instant) -> bool {
        let mut queue = self.lock();
        if queue.departures == departures {
            self.push_locked(&mut queue, frame, now);
        }
        queue.departures == departures
    }

    /// Bytes queued.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether the bound is reached: rooms conflate, the connection stops reading.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// Whether the socket refused bytes and its own task has to wait until it takes more.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Whether the connection ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Since when the socket has taken nothing although something is queued.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.lock().progress_at
    }

    /// Whether anything is queued; if so, the sink is woken once when nothing is any more, whoever has
    /// written it. Without that, frames that a room's task queues and writes by itself leave no trace.
    pub fn wake_when_drained(&self) -> bool {
        let mut queue = self.lock();
        queue.awaited = !queue.frames.is_empty();
        queue.awaited
    }

    /// Leaves a note and wakes the connection.
    pub fn post(&self, note: Note) {
        {
            let mut queue = self.lock();
            if self.is_closed() {
                return;
            }
            queue.notes.push(note);
        }
        self.sink.wake();
    }

    /// Takes the notes left, in order.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().notes)
    }

    /// Ends it: drops what is queued, takes and writes nothing more. Whether it ended between two frames:
    /// where not, nothing that follows on the socket can be understood.
    pub fn close(&self) -> bool {
        let mut queue = self.lock();
        self.closed.store(true, Ordering::Release);
        self.bytes.store(0, Ordering::Release);
        let queue = std::mem::take(&mut *queue);
        queue.front_written == 0
    }

    /// Takes the oldest frame: for fronts that carry frames, not bytes. Taking the last one ends the
    /// blockage, so the next frame is reported to the sink again.
    pub fn pop(&self, now: Instant) -> Option<Frame> {
        let mut queue = self.lock();
        let frame = queue.frames.pop_front()?;
        self.bytes.fetch_sub(frame.len(), Ordering::AcqRel);
        let awaited = if queue.frames.is_empty() {
            self.drained(&mut queue)
        } else {
            queue.progress_at = Some(now);
            false
        };
        drop(queue);
        if awaited {
            self.sink.wake();
        }
        Some(frame)
    }

    /// Has what is queued written: now, or where the socket is blocked, when it takes more. A dead socket ends
    /// the connection.
    pub fn write(&self, now: Instant) {
        if !self.is_blocked() && self.flush(now).is_err() {
            self.post(Note::CloseConnection(CloseReason::GONE));
        }
    }

    /// Writes all that is queued, or as much as the socket takes. The first time that it takes less,
    /// the connection's task is woken, to wait until it takes more.
    ///
    /// # Errors
    /// What the sink says, but for `WouldBlock`, which is [`Written::Blocked`].
    pub fn flush(&self, now: Instant) -> io::Result<Written> {
        let (mut newly_blocked, mut awaited) = (false, false);
        let written = self.write_queue(now, &mut newly_blocked, &mut awaited);
        if newly_blocked {
            self.sink.refused();
        } else if awaited || written.is_err() {
            self.sink.wake();
        }
        written
    }

    fn write_queue(&self, now: Instant, newly_blocked: &mut bool, awaited: &mut bool) -> io::Result<Written> {
        let mut queue = self.lock();
        if self.framing == Framing::Whole && !queue.frames.is_empty() {
            *newly_blocked = !self.blocked.swap(true, Ordering::AcqRel);
            return Ok(Written::Blocked);
        }
        while !queue.frames.is_empty() {
            let result = match self.write_once(&queue) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            };
            match result {
                Ok(taken) => {
                    self.advance(&mut queue, taken);
                    queue.progress_at = Some(now);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *newly_blocked = !self.blocked.swap(true, Ordering::AcqRel);
                    return Ok(Written::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        *awaited = self.drained(&mut queue);
        Ok(Written::All)
    }

    /// Notes that nothing is queued any more; whether somebody is to be woken for it.
    fn drained(&self, queue: &mut Queue) -> bool {
        // An idle outbox holds no memory. Making the queue anew costs tens of nanoseconds, a write
        // thousands.
        queue.frames = VecDeque::new();
        queue.progress_at = None;
        // Under the queue's lock: whoever pushes next must see it, or its frame would wait unseen.
        self.blocked.store(false, Ordering::Release);
        std::mem::take(&mut queue.awaited)
    }

    fn write_once(&self, queue: &Queue) -> io::Result<usize> {
        if self.bytes() + queue.frames.len() * WEBSOCKET_HEADER_BYTES_MAX <= COPY_BYTES_MAX {
            return COPY.with_borrow_mut(|buffer| {
                buffer.clear();
                for frame in &queue.frames {
                    let header = self.header(frame);
                    buffer.extend_from_slice(header.as_slice());
                    let [head, body] = frame.parts();
                    buffer.extend_from_slice(head);
                    buffer.extend_from_slice(body);
                }
                self.sink.try_write(&[IoSlice::new(&buffer[queue.front_written..])])
            });
        }
        let headers: Vec<Header> = queue.frames.iter().take(SLICES_MAX / 3).map(|f| self.header(f)).collect();
        let mut slices = Vec::with_capacity(SLICES_MAX);
        let mut skip = queue.front_written;
        for (frame, header) in queue.frames.iter().zip(&headers) {
            let [head, body] = frame.parts();
            for part in [header.as_slice(), head, body] {
                if skip >= part.len() {
                    skip -= part.len();
                } else {
                    slices.push(IoSlice::new(&part[skip..]));
                    skip = 0;
                }
            }
        }
        self.sink.try_write(&slices)
    }

    fn advance(&self, queue: &mut Queue, mut taken: usize) {
        while let Some(front) = queue.frames.front() {
            let left = self.header(front).len() + front.len() - queue.front_written;
            if taken < left {
                queue.front_written += taken;
                return;
            }
            taken -= left;
            self.bytes.fetch_sub(front.len(), Ordering::AcqRel);
            queue.frames.pop_front();
            queue.front_written = 0;
        }
    }

    fn header(&self, frame: &Frame) -> Header {
        match self.framing {
            Framing::WebSocket if !frame.is_framed() => Header::binary(frame.len()),
            _ => Header::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements, so a panic elsewhere leaves it usable.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static COPY: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    /// A socket that takes `step` bytes a call, and nothing while `room` is used up.
    #[derive(Clone)]
    struct Socket {
        framing: Framing,
        step: usize,
        room: Arc<AtomicUsize>,
        stream: Arc<Mutex<Vec<u8>>>,
        wakes: Arc<AtomicUsize>,
    }

    impl Socket {
        fn new(framing: Framing, step: usize, room: usize) -> Self {
            let room = Arc::new(AtomicUsize::new(room));
            Self { framing, step, room, stream: Arc::default(), wakes: Arc::default() }
        }

        fn stream(&self) -> Vec<u8> {
            self.stream.lock().unwrap().clone()
        }
    }

    impl Sink for Socket {
        fn framing(&self) -> Framing {
            self.framing
        }

        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut space = self.step.min(self.room.load(Ordering::Acquire));
            let mut stream = self.stream.lock().unwrap();
            let before = stream.len();
            for slice in slices {
                let part = &slice[..space.min(slice.len())];
                stream.extend_from_slice(part);
                space -= part.len();
            }
            let taken = stream.len() - before;
            self.room.fetch_sub(taken, Ordering::AcqRel);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn wake(&self) {
            self.wakes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Goal: whatever the socket takes per call, the byte stream is that of a plain encoder. Method:
    /// write the same frames through sockets that take 1, 2, 3, 7, 4,096, … bytes at a time.
    #[test]
    fn any_partial_write_gives_the_same_stream() {
        let frames: Vec<Frame> = [0, 1, 125, 126, 70_000, 3]
            .iter()
            .map(|&len| Frame::shared(vec![7; len / 2].into(), vec![9; len - len / 2].into()))
            .chain([Frame::framed(Bytes::from_static(b"\x8a\x00"))])
            .collect();
        let mut plain = Vec::new();
        for frame in frames.iter().cloned() {
            if !frame.is_framed() {
                plain.extend_from_slice(Header::binary(frame.len()).as_slice());
            }
            plain.extend_from_slice(&frame.into_bytes());
        }
        for step in [1, 2, 3, 7, 4_096, 1_000_000] {
            let socket = Socket::new(Framing::WebSocket, step, usize::MAX);
            let outbox = Outbox::new(10, socket.clone());
            for frame in &frames {
                outbox.push(frame.clone(), Instant::now());
            }
            assert_eq!(outbox.flush(Instant::now()).unwrap(), Written::All);
            assert!(socket.stream() == plain, "step {step}");
        }
    }

    #[test]
    fn a_full_socket_blocks_and_goes_on_where_it_stopped() {
        let socket = Socket::new(Framing::None, 100, 2);
        let outbox = Outbox::new(4, socket.clone());
        outbox.push(Bytes::from_static(b"hello").into(), Instant::now());
        assert!(outbox.is_full());
        assert_eq!(outbox.flush(Instant::now()).unwrap(), Written::Blocked);
        assert_eq!(outbox.flush(Instant::now()).unwrap(), Written::Blocked);
        assert!(outbox.is_blocked() && outbox.stalled_since().is_some());
        assert_eq!(socket.wakes.load(Ordering::Acquire), 1, "woken once per blockage");
        socket.room.store(100, Ordering::Release);
        assert_eq!(outbox.flush(Instant::now()).unwrap(), Written::All);
        assert_eq!(socket.stream(), b"hello");
        assert!(!outbox.is_blocked() && outbox.bytes() == 0 && outbox.stalled_since().is_none());
    }

    #[test]
    fn a_closed_outbox_takes_nothing() {
        let outbox = Outbox::new(4, Socket::new(Framing::None, 1, 1));
        outbox.close();
        outbox.push(Bytes::from_static(b"x").into(), Instant::now());
        outbox.post(Note::CloseConnection(CloseReason::NORMAL));
        assert!(outbox.bytes() == 0 && outbox.take_notes().is_empty());
    }

    #[test]
    fn it_says_whether_it_ended_within_a_frame() {
        for (space, whole) in [(0, true), (2, false), (5, true), (6, false), (10, true)] {
            let outbox = Outbox::new(4, Socket::new(Framing::None, 100, space));
            outbox.push(Bytes::from_static(b"hello").into(), Instant::now());
            outbox.push(Bytes::from_static(b"world").into(), Instant::now());
            outbox.flush(Instant::now()).unwrap();
            assert_eq!(outbox.close(), whole, "after {space} bytes");
        }
    }

    #[test]
    fn who_waits_for_the_end_of_the_queue_is_woken_once_whoever_writes_it() {
        for framing in [Framing::None, Framing::Whole] {
            let socket = Socket::new(framing, 100, 100);
            let outbox = Outbox::new(4, socket.clone());
            assert!(!outbox.wake_when_drained(), "there is nothing to wait for");
            for _ in 0..2 {
                outbox.push(Bytes::from_static(b"hello").into(), Instant::now());
                assert!(outbox.wake_when_drained());
                match framing {
                    Framing::Whole => drop(outbox.pop(Instant::now())),
                    _ => drop(outbox.flush(Instant::now()).unwrap()),
                }
                assert_eq!(socket.wakes.swap(0, Ordering::AcqRel), 1);
            }
            outbox.push(Bytes::from_static(b"hello").into(), Instant::now());
            outbox.pop(Instant::now());
            assert_eq!(socket.wakes.load(Ordering::Acquire), 0, "nobody waits");
        }
    }
}
