//! A socket that lives in the host: it hands frames in, and takes frames out when it is woken. For fronts
//! whose sockets are not ours (C, Node). Everything else is the driver's, as for any socket: a host that
//! never takes its frames is conflated, and closed when it stalls.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::transport::{FrameSink, Incoming, Transport};
use super::{Hub, driver};
use crate::auth::Handshake;
use crate::error::{BoxError, CloseReason};
use crate::id::ConnectionId;
use crate::room::{Framing, Outbox};

/// Frames that wait to be read, at the most.
const RECEIVE_FRAMES_MAX: usize = 1024;
/// Their bytes, at the most, but for a single larger frame.
const RECEIVE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tells the host to look: frames wait, space is free again, or the connection ended. It is called once
/// per occasion from any thread, under no lock, and may call back into the connection.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Why a frame was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// More waits than may; the host is woken when there is space.
    #[error("too much waits to be read; try again when woken")]
    Full,
    /// The frame is larger than a message may be; the connection ends.
    #[error("the frame is larger than message_bytes_max")]
    TooLarge,
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
}

#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Incoming>,
    bytes: usize,
    /// The host was refused a frame and waits for space.
    starved: bool,
    /// The host will send no more.
    ended: Option<CloseReason>,
}

/// What both halves share.
struct Link {
    inbox: Mutex<Inbox>,
    message_bytes_max: usize,
    /// Wakes the driver's reading.
    reader: AtomicWaker,
    /// Wakes the driver when the host has taken all frames.
    writer: AtomicWaker,
    outbox: OnceLock<Arc<Outbox>>,
    closed: OnceLock<CloseReason>,
    wake: Wake,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // The inbox is whole between any two statements.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, reason: CloseReason) {
        {
            let mut inbox = self.lock();
            inbox.waiting = VecDeque::new();
            inbox.bytes = 0;
            // Under the lock, so that nothing is taken in after it. Only one driver ends, once.
            let _ = self.closed.set(inbox.ended.take().unwrap_or(reason));
        }
        (self.wake)();
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Takes the oldest frame; whether the host waits for the space that this made.
    fn take(&self) -> Option<(Incoming, bool)> {
        let mut inbox = self.lock();
        let incoming = inbox.waiting.pop_front()?;
        if let Incoming::Binary(frame) = &incoming {
            inbox.bytes -= frame.len();
        }
        // Woken at half, so that it is not woken for every frame.
        let spacious = inbox.bytes <= RECEIVE_BYTES_MAX / 2 && inbox.waiting.len() <= RECEIVE_FRAMES_MAX / 2;
        let starved = inbox.starved && spacious;
        if starved {
            inbox.starved = false;
        }
        if inbox.waiting.is_empty() && inbox.waiting.capacity() > 16 {
            inbox.waiting = VecDeque::new();
        }
        Some((incoming, starved))
    }

    fn next(&self) -> Option<Incoming> {
        let (incoming, starved) = self.take()?;
        if starved {
            (self.wake)();
        }
        Some(incoming)
    }
}

/// One connection that a host feeds. Dropping it ends the connection.
pub struct HostConnection {
    id: ConnectionId,
    link: Arc<Link>,
}

impl Hub {
    /// Opens a connection whose socket the host keeps; see [`Wake`] for when it is woken. Works on any
    /// thread.
    pub fn connect(&self, handshake: Arc<Handshake>, wake: Wake) -> HostConnection {
        let link = Arc::new(Link {
            inbox: Mutex::default(),
            message_bytes_max: self.0.limits.message_bytes_max,
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            outbox: OnceLock::new(),
            closed: OnceLock::new(),
            wake,
        });
        let transport = HostTransport { link: Arc::clone(&link) };
        let sink = HostSink { link: Arc::downgrade(&link) };
        let id = self.reserve();
        self.0.runtime.spawn(driver::drive(Arc::clone(&self.0), id, transport, sink, handshake));
        HostConnection { id, link }
    }
}

impl HostConnection {
    /// Its id in hooks.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Hands in one binary frame, as it came from the peer. Never blocks.
    ///
    /// # Errors
    /// See [`ReceiveError`]; the frame was not taken then.
    pub fn receive(&self, frame: Bytes) -> Result<(), ReceiveError> {
        if frame.len() > self.link.message_bytes_max {
            self.push(Incoming::Invalid(CloseReason::MESSAGE_TOO_BIG))?;
            return Err(ReceiveError::TooLarge);
        }
        self.push(Incoming::Binary(frame))
    }

    /// Tells that the peer sent a text frame, which ends the connection: both dialects are binary.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_text(&self) -> Result<(), ReceiveError> {
        self.push(Incoming::Text)
    }

    fn push(&self, incoming: Incoming) -> Result<(), ReceiveError> {
        let bytes = if let Incoming::Binary(frame) = &incoming { frame.len() } else { 0 };
        {
            let mut inbox = self.link.lock();
            if inbox.ended.is_some() || self.link.is_closed() {
                return Err(ReceiveError::Closed);
            }
            let fits = inbox.bytes + bytes <= RECEIVE_BYTES_MAX && inbox.waiting.len() < RECEIVE_FRAMES_MAX;
            if !fits && !inbox.waiting.is_empty() {
                inbox.starved = true;
                return Err(ReceiveError::Full);
            }
            inbox.bytes += bytes;
            inbox.waiting.push_back(incoming);
        }
        self.link.reader.wake();
        Ok(())
    }

    /// Takes the next frame for the peer. After a wake, take frames until there is none: only then is
    /// the host woken again.
    pub fn poll_frame(&self) -> Option<Bytes> {
        let outbox = self.link.outbox.get()?;
        let frame = outbox.pop(Instant::now())?;
        if !outbox.is_blocked() {
            self.link.writer.wake();
        }
        Some(frame.into_bytes())
    }

    /// Ends the connection: [`CloseReason::GONE`] where the peer went away, or what the peer is closed
    /// with. What was received before is still handled; [`Self::close_reason`] tells when it is over.
    pub fn close(&self, reason: CloseReason) {
        {
            let mut inbox = self.link.lock();
            if inbox.ended.is_some() || self.link.is_closed() {
                return;
            }
            inbox.ended = Some(reason);
        }
        self.link.reader.wake();
        self.link.writer.wake();
    }

    /// Why the connection ended; `None`: it has not. The peer's socket is to be closed with it, after the
    /// frames that are left.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.link.closed.get()
    }
}

impl Drop for HostConnection {
    fn drop(&mut self) {
        self.close(CloseReason::GONE);
    }
}

/// The driver's half.
struct HostTransport {
    link: Arc<Link>,
}

impl Transport for HostTransport {
    type Sink = HostSink;

    fn poll_recv(&mut self, _: &HostSink, cx: &mut Context<'_>) -> Poll<Result<Option<Incoming>, BoxError>> {
        let link = &self.link;
        // Registered before the look: what arrives in between wakes.
        link.reader.register(cx.waker());
        match link.next() {
            Some(incoming) => Poll::Ready(Ok(Some(incoming))),
            None if link.lock().ended.is_some() => Poll::Ready(Ok(None)),
            None => Poll::Pending,
        }
    }

    fn try_recv(&mut self) -> Option<Incoming> {
        self.link.next()
    }

    fn outbox(&mut self, outbox: Arc<Outbox>) {
        // Set once: one driver shows one outbox.
        let _ = self.link.outbox.set(outbox);
    }

    async fn close(&mut self, _: &HostSink, reason: &CloseReason) {
        self.link.finish(reason.clone());
    }
}

impl Drop for HostTransport {
    fn drop(&mut self) {
        // The runtime ended under the driver: nobody else would tell the host.
        if !self.link.is_closed() {
            self.link.finish(CloseReason::SERVICE_RESTART);
        }
    }
}

/// Weak, since the outbox holds its sink, and the link the outbox.
struct HostSink {
    link: Weak<Link>,
}

impl FrameSink for HostSink {
    fn framing(&self) -> Framing {
        Framing::Whole
    }

    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn refused(&self) {
        if let Some(link) = self.link.upgrade() {
            (link.wake)();
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody will take what is left.
        let Some(link) = self.link.upgrade() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        link.writer.register(cx.waker());
        let drained = link.outbox.get().is_none_or(|outbox| !outbox.is_blocked());
        let ended = link.lock().ended.is_some();
        match (drained, ended) {
            (true, _) => Poll::Ready(Ok(())),
            (false, true) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            (false, false) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use yrs::updates::decoder::Decode;
    use yrs::{Doc, GetString, ReadTxn, Text, Transact, Update};

    use super::*;
    use crate::config::Config;
    use crate::id::DocumentName;
    use crate::protocol::frame::{self, Prefix};
    use crate::protocol::message::{Inbound, Message, parse_y_websocket};

    /// Sync step 1 of an empty document.
    const STEP1: &[u8] = &[0, 0, 1, 0];

    struct Host {
        connection: HostConnection,
        wakes: Arc<AtomicUsize>,
    }

    impl Host {
        fn open(hub: &Hub) -> Self {
            let wakes = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&wakes);
            let path_document = DocumentName::parse("notes").ok();
            let handshake = Handshake { path_document, ..Handshake::default() };
            let wake: Wake = Arc::new(move || {
                counter.fetch_add(1, Ordering::AcqRel);
            });
            let connection = hub.connect(Arc::new(handshake), wake);
            connection.receive(Bytes::from_static(STEP1)).unwrap();
            Self { connection, wakes }
        }

        /// Polls only when woken, as the contract says.
        async fn frames(&self, seen: &mut usize) -> Vec<Bytes> {
            for _ in 0..500 {
                let wakes = self.wakes.load(Ordering::Acquire);
                if wakes != *seen {
                    *seen = wakes;
                    return std::iter::from_fn(|| self.connection.poll_frame()).collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("not woken within 2.5 s");
        }

        /// Takes frames until the document's text is this.
        async fn reads(&self, doc: &Doc, seen: &mut usize, text: &str) {
            loop {
                for frame in self.frames(seen).await {
                    if let Ok(Message::Room(Inbound::Update(update) | Inbound::SyncStep2(update))) =
                        parse_y_websocket(&frame)
                    {
                        doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
                    }
                }
                if doc.get_or_insert_text("t").get_string(&doc.transact()) == text {
                    return;
                }
            }
        }

        async fn closed(&self) -> CloseReason {
            for _ in 0..1000 {
                if let Some(reason) = self.connection.close_reason() {
                    return reason.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("not closed within 5 s");
        }
    }

    fn typed(doc: &Doc, text: &str) -> Bytes {
        let target = doc.get_or_insert_text("t");
        let before = doc.transact().state_vector();
        target.insert(&mut doc.transact_mut(), 0, text);
        let update = doc.transact().encode_diff_v1(&before);
        frame::update(&Prefix::none(), &update)
    }

    #[tokio::test]
    async fn frames_reach_the_other_host_and_every_batch_wakes_it() {
        let hub = Hub::builder(Config::default()).build();
        let (a, b) = (Host::open(&hub), Host::open(&hub));
        let (author, reader) = (Doc::new(), Doc::new());
        let mut seen = 0;
        b.reads(&reader, &mut seen, "").await;
        for round in 1..=20 {
            a.connection.receive(typed(&author, "x")).unwrap();
            b.reads(&reader, &mut seen, &"x".repeat(round)).await;
        }
        b.connection.close(CloseReason::NORMAL);
        assert_eq!(b.closed().await, CloseReason::NORMAL);
        assert_eq!(b.connection.receive(Bytes::from_static(STEP1)), Err(ReceiveError::Closed));
        let link = Arc::downgrade(&a.connection.link);
        drop(a);
        for _ in 0..200 {
            if hub.metrics().connections_open == 0 && link.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a dropped connection stays open, or its memory stays");
    }

    /// Goal: who never polls costs no more than the bound, and is closed; who polls late gets all.
    #[tokio::test]
    async fn a_host_that_polls_late_is_conflated_and_one_that_never_does_is_closed() {
        let mut config = Config::default();
        config.limits.outbox_bytes_max = 1_000;
        config.limits.stall_max = Duration::from_secs(2);
        let hub = Hub::builder(config).build();
        let (writer, never, late) = (Host::open(&hub), Host::open(&hub), Host::open(&hub));
        let (author, reader) = (Doc::new(), Doc::new());
        let mut seen = 0;
        late.reads(&reader, &mut seen, "").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..40 {
            writer.connection.receive(typed(&author, &"y".repeat(100))).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(hub.metrics().conflations_total >= 2, "{:?}", hub.metrics());
        late.reads(&reader, &mut seen, &"y".repeat(4_000)).await;
        assert_eq!(never.closed().await, CloseReason::SLOW_READER);
        assert!(never.connection.poll_frame().is_none());
        assert_eq!(late.connection.close_reason(), None);
    }

    #[tokio::test]
    async fn what_a_host_hands_in_is_bounded() {
        let mut config = Config::default();
        config.limits.message_bytes_max = 10_000;
        let hub = Hub::builder(config).build();
        // The driver gets no turn in between: this thread is the runtime's only one.
        let flooder = Host::open(&hub);
        let mut taken = 1;
        while flooder.connection.receive(Bytes::from_static(STEP1)).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, RECEIVE_FRAMES_MAX);
        assert_eq!(flooder.connection.receive(Bytes::from_static(STEP1)), Err(ReceiveError::Full));
        flooder.frames(&mut 0).await;
        while flooder.connection.receive(Bytes::from_static(STEP1)).is_err() {
            while flooder.connection.poll_frame().is_some() {}
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let large = Host::open(&hub);
        let result = large.connection.receive(vec![0; 10_001].into());
        assert_eq!(result, Err(ReceiveError::TooLarge));
        assert_eq!(large.closed().await, CloseReason::MESSAGE_TOO_BIG);
        let text = Host::open(&hub);
        text.connection.receive_text().unwrap();
        assert_eq!(text.closed().await, CloseReason::TEXT_FRAME);
    }

    #[test]
    fn a_runtime_that_ends_closes_its_connections() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hub = runtime.block_on(async { Hub::builder(Config::default()).build() });
        let host = Host::open(&hub);
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        drop(runtime);
        assert_eq!(host.connection.close_reason(), Some(&CloseReason::SERVICE_RESTART));
        assert_eq!(host.connection.receive(Bytes::from_static(STEP1)), Err(ReceiveError::Closed));
    }
}
