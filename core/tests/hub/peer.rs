//! A socket in memory with a Hocuspocus provider's side of the conversation, and stores that fail or
//! wait on demand. Shared by the tests of the hub.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::BoxFuture;
use fidibus_core::error::{BoxError, CloseReason, StoreError};
use fidibus_core::hub::{FrameSink, Hub, Incoming, Transport};
use fidibus_core::id::{Address, DocumentName};
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::frame::{self, Prefix};
use fidibus_core::room::Framing;
use fidibus_core::store::{DocumentStore, LogBatch, LogId, MemoryStore, StoredDocument, UpdateLog};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

/// The sending half of the socket; `space` is what it takes before it blocks.
pub struct MemorySink {
    frames: Mutex<VecDeque<Bytes>>,
    space: AtomicUsize,
    /// Bytes of the next write that are taken; nothing is afterwards.
    torn: AtomicUsize,
    closes: Arc<AtomicUsize>,
    writable: Mutex<Option<Waker>>,
    arrived: Notify,
}

impl FrameSink for SharedSink {
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let torn = self.0.torn.swap(0, Ordering::AcqRel).min(bytes.len());
        if torn > 0 {
            self.0.space.store(0, Ordering::Release);
            return Ok(torn);
        }
        if self.0.space.load(Ordering::Acquire) < bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.space.fetch_sub(bytes.len(), Ordering::AcqRel);
        self.0.frames.lock().unwrap().extend(split(&bytes));
        self.0.arrived.notify_one();
        Ok(bytes.len())
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.space.load(Ordering::Acquire) > 1 << 20 {
            return Poll::Ready(Ok(()));
        }
        *self.0.writable.lock().unwrap() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Takes WebSocket frames apart.
fn split(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], 0x82, "binary frames only");
        let (len, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
            len => (usize::from(len), 2),
        };
        frames.push(Bytes::copy_from_slice(&bytes[header..header + len]));
        bytes = &bytes[header + len..];
    }
    frames
}

struct MemoryTransport {
    incoming: mpsc::UnboundedReceiver<Bytes>,
}

/// The hub's hold on what the test looks at as well.
struct SharedSink(Arc<MemorySink>);

impl Transport for MemoryTransport {
    type Sink = SharedSink;

    fn poll_recv(
        &mut self,
        _: &SharedSink,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Incoming>, BoxError>> {
        self.incoming.poll_recv(context).map(|frame| Ok(frame.map(Incoming::Binary)))
    }

    fn try_recv(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok().map(Incoming::Binary)
    }

    async fn close(&mut self, sink: &SharedSink, _: &CloseReason) {
        sink.0.closes.fetch_add(1, Ordering::AcqRel);
    }
}

/// A provider with one document.
pub struct Peer {
    pub doc: Doc,
    prefix: Prefix,
    outgoing: Option<mpsc::UnboundedSender<Bytes>>,
    sink: Arc<MemorySink>,
    task: JoinHandle<CloseReason>,
}

impl Peer {
    /// Opens a socket; says nothing yet.
    pub fn connect(hub: &Hub, document: &str, client: u64) -> Self {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let sink = Arc::new(MemorySink {
            frames: Mutex::default(),
            space: AtomicUsize::new(usize::MAX / 2),
            torn: AtomicUsize::new(0),
            closes: Arc::default(),
            writable: Mutex::default(),
            arrived: Notify::new(),
        });
        let shared = SharedSink(Arc::clone(&sink));
        let task = tokio::spawn(hub.serve(MemoryTransport { incoming }, shared, Arc::default()));
        let prefix = Prefix::new(&Address::parse(document).unwrap(), Dialect::Hocuspocus);
        Self { doc: Doc::with_client_id(client), prefix, outgoing: Some(outgoing), sink, task }
    }

    /// Opens a socket and a session, and syncs.
    pub async fn open(hub: &Hub, document: &str, client: u64) -> Self {
        let mut peer = Self::connect(hub, document, client);
        peer.authenticate();
        assert_eq!(peer.next().await, peer.expect_authenticated());
        peer.sync().await;
        peer
    }

    pub fn send(&self, frame: Bytes) {
        self.outgoing.as_ref().unwrap().send(frame).unwrap();
    }

    pub fn authenticate(&self) {
        // Auth (2), token (0), an empty token.
        let mut frame = frame::query_awareness(&self.prefix).to_vec();
        frame.pop();
        frame.extend([2, 0, 0]);
        self.send(frame.into());
    }

    fn expect_authenticated(&self) -> Bytes {
        frame::authenticated(&self.prefix, fidibus_core::auth::Access::ReadWrite)
    }

    /// Asks for what is missing and takes the answer.
    pub async fn sync(&mut self) {
        let state_vector = encode_state_vector(&self.doc);
        self.send(frame::sync_step1(&self.prefix, &state_vector));
        while !self.take_update(&self.next().await, 1) {}
        while !self.is(&self.next().await, &[0, 0]) {}
    }

    /// Types at the end of the text and sends the update.
    pub fn type_text(&self, text: &str) {
        let field = self.doc.get_or_insert_text("text");
        let mut transaction = self.doc.transact_mut();
        let end = field.len(&transaction);
        field.insert(&mut transaction, end, text);
        let update = transaction.encode_update_v1();
        self.send(frame::update(&self.prefix, &update));
    }

    /// Sends an update, known or not.
    pub fn send_update(&self, update: &[u8]) {
        self.send(frame::update(&self.prefix, update));
    }

    /// Replaces all of the text and sends the update.
    pub fn replace_text(&self, text: &str) {
        let field = self.doc.get_or_insert_text("text");
        let mut transaction = self.doc.transact_mut();
        let end = field.len(&transaction);
        field.remove_range(&mut transaction, 0, end);
        field.insert(&mut transaction, 0, text);
        let update = transaction.encode_update_v1();
        self.send(frame::update(&self.prefix, &update));
    }

    pub fn text(&self) -> String {
        let field = self.doc.get_or_insert_text("text");
        field.get_string(&self.doc.transact())
    }

    /// Takes frames until the text is this.
    pub async fn wait_for(&self, text: &str) {
        while self.text() != text {
            let frame = self.next().await;
            self.take_update(&frame, 2);
        }
    }

    /// Takes frames until an ack comes; whether it says "stored".
    pub async fn ack(&self) -> bool {
        loop {
            let frame = self.next().await;
            if frame == frame::sync_status(&self.prefix, true) {
                return true;
            }
            if frame == frame::sync_status(&self.prefix, false) {
                return false;
            }
            self.take_update(&frame, 2);
        }
    }

    /// Whether nothing arrives for a while.
    pub async fn is_silent(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.next()).await.is_err()
    }

    /// The next frame.
    pub async fn next(&self) -> Bytes {
        let next = async {
            loop {
                let arrived = self.sink.arrived.notified();
                if let Some(frame) = self.sink.frames.lock().unwrap().pop_front() {
                    return frame;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a frame within ten seconds")
    }

    /// The body of a frame with these type numbers.
    fn is(&self, frame: &Bytes, numbers: &[u8]) -> bool {
        frame[self.prefix.len()..].starts_with(numbers)
    }

    fn take_update(&self, frame: &Bytes, kind: u8) -> bool {
        if !self.is(frame, &[0, kind]) {
            return false;
        }
        let body = &frame[self.prefix.len() + 2..];
        let header = body.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        self.doc.transact_mut().apply_update(Update::decode_v1(&body[header..]).unwrap()).unwrap();
        true
    }

    /// The reason of the Close message that comes.
    pub async fn close_message(&self) -> String {
        loop {
            let frame = self.next().await;
            if self.is(&frame, &[7]) {
                return String::from_utf8(frame[self.prefix.len() + 2..].to_vec()).unwrap();
            }
        }
    }

    /// The reason of the permission-denied message that comes.
    pub async fn denied(&self) -> String {
        let frame = self.next().await;
        assert!(self.is(&frame, &[2, 1]), "permission denied, not {frame:?}");
        String::from_utf8(frame[self.prefix.len() + 3..].to_vec()).unwrap()
    }

    /// The socket takes nothing more.
    pub fn stall(&self) {
        self.sink.space.store(0, Ordering::Release);
    }

    /// The socket takes this much of the next write, and nothing more.
    pub fn tear(&self, bytes: usize) {
        self.sink.torn.store(bytes, Ordering::Release);
    }

    /// How often the socket was told goodbye.
    pub fn closes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.sink.closes)
    }

    /// Drops the socket's task.
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// The socket takes everything again.
    pub fn resume(&self) {
        self.sink.space.store(usize::MAX / 2, Ordering::Release);
        if let Some(waker) = self.sink.writable.lock().unwrap().take() {
            waker.wake();
        }
    }

    /// Frames that arrived and were not looked at.
    pub fn frames(&self) -> Vec<Bytes> {
        self.sink.frames.lock().unwrap().iter().cloned().collect()
    }

    /// Closes the socket, and waits until the hub has let it go.
    pub async fn leave(mut self) -> CloseReason {
        self.outgoing = None;
        self.task.await.unwrap()
    }

    /// Waits until the hub closes the socket.
    pub async fn closed(self) -> CloseReason {
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("closed").unwrap()
    }
}

fn encode_state_vector(doc: &Doc) -> Vec<u8> {
    use yrs::updates::encoder::Encode;
    doc.transact().state_vector().encode_v1()
}

/// The text that an update holds.
pub fn text_of(update: &[u8]) -> String {
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    let field = doc.get_or_insert_text("text");
    field.get_string(&doc.transact())
}

/// An update that writes this text.
pub fn update_with(client: u64, text: &str) -> Bytes {
    let doc = Doc::with_client_id(client);
    let field = doc.get_or_insert_text("text");
    field.insert(&mut doc.transact_mut(), 0, text);
    doc.transact().encode_state_as_update_v1(&StateVector::default()).into()
}

/// A memory store with a log, whose parts fail or wait on demand.
pub struct TestStore {
    inner: MemoryStore,
    pub loads: AtomicUsize,
    pub load_fails: AtomicBool,
    pub store_fails: AtomicBool,
    pub append_fails: AtomicBool,
    /// The next call panics.
    pub load_panics: AtomicBool,
    pub store_panics: AtomicBool,
    pub append_panics: AtomicBool,
    /// Rows of this document are refused, and all that come with them.
    pub poisoned: Mutex<Option<DocumentName>>,
    /// It refuses them as if that could pass.
    pub poison_is_retryable: AtomicBool,
    /// Appends wait until this is notified.
    pub hold_appends: AtomicBool,
    pub release: Notify,
}

impl TestStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::with_log(),
            loads: AtomicUsize::new(0),
            load_fails: AtomicBool::new(false),
            store_fails: AtomicBool::new(false),
            append_fails: AtomicBool::new(false),
            load_panics: AtomicBool::new(false),
            store_panics: AtomicBool::new(false),
            append_panics: AtomicBool::new(false),
            poisoned: Mutex::default(),
            poison_is_retryable: AtomicBool::new(false),
            hold_appends: AtomicBool::new(false),
            release: Notify::new(),
        })
    }
}

/// Newtype, since the log is handed out as an `Arc` of its own.
pub struct Shared(pub Arc<TestStore>);

fn failure() -> StoreError {
    StoreError::retryable("test", "told to fail")
}

impl DocumentStore for Shared {
    fn name(&self) -> &'static str {
        "test"
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(async move {
            self.0.loads.fetch_add(1, Ordering::AcqRel);
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!self.0.load_panics.swap(false, Ordering::AcqRel), "told to panic");
            if self.0.load_fails.load(Ordering::Acquire) {
                return Err(failure());
            }
            self.0.inner.load(document).await
        })
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.0.store_fails.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(failure())));
        }
        Box::pin(async move {
            assert!(!self.0.store_panics.swap(false, Ordering::AcqRel), "told to panic");
            self.0.inner.store(document, snapshot, folded).await
        })
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0.inner.delete(document)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        self.0.inner.list(after, limit)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.inner.ping()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.inner.close()
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl UpdateLog for Shared {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(async move {
            if self.0.hold_appends.load(Ordering::Acquire) {
                self.0.release.notified().await;
            }
            assert!(!self.0.append_panics.swap(false, Ordering::AcqRel), "told to panic");
            if self.0.append_fails.load(Ordering::Acquire) {
                return Err(failure());
            }
            let poisoned = self.0.poisoned.lock().unwrap().clone();
            if batches.iter().any(|batch| Some(&batch.document) == poisoned.as_ref()) {
                let retryable = self.0.poison_is_retryable.load(Ordering::Acquire);
                return Err(StoreError {
                    retryable,
                    ..StoreError::permanent("test", "told to refuse the row")
                });
            }
            self.0.inner.update_log().unwrap().append(batches).await
        })
    }
}
