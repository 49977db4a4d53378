//! A client that types: what a provider does, as small as it can be. It remembers up to which of its own
//! edits it was told "stored", and that is what a server must never lose.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Between two keystrokes.
const KEYSTROKE: Duration = Duration::from_millis(4);
const RETRY: Duration = Duration::from_millis(50);

/// One client with a document of its own.
pub struct Writer {
    /// Its client id.
    pub client: u64,
    document: String,
    /// What one edit inserts.
    stroke: String,
    doc: Mutex<Doc>,
    /// Characters inserted: the clock behind the last one.
    sent: AtomicU32,
    /// The clock up to which it was told that all is stored.
    acked: AtomicU32,
    types: AtomicBool,
    synced: AtomicBool,
}

impl Writer {
    /// A client that has nothing yet, and inserts so many characters at once.
    pub fn new(client: u64, document: &str, stroke_chars: usize) -> Self {
        Self {
            client,
            document: document.to_owned(),
            stroke: "x".repeat(stroke_chars),
            doc: Mutex::new(Doc::with_client_id(client)),
            sent: AtomicU32::new(0),
            acked: AtomicU32::new(0),
            types: AtomicBool::new(true),
            synced: AtomicBool::new(false),
        }
    }

    /// Characters inserted.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Acquire)
    }

    /// Characters that are stored, as it was told.
    pub fn acked(&self) -> u32 {
        self.acked.load(Ordering::Acquire)
    }

    /// Whether it types while it is connected.
    pub fn set_typing(&self, types: bool) {
        self.types.store(types, Ordering::Release);
    }

    /// Whether its first sync on the present socket is through.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// What it has.
    pub fn text(&self) -> String {
        let doc = self.lock();
        let text = doc.get_or_insert_text("text");
        text.get_string(&doc.transact())
    }

    /// Connects, syncs and types, again and again, until the task is aborted.
    pub async fn run(&self, url: &str) {
        loop {
            // A document may be larger than what the library takes by default.
            let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
            let connected = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await;
            if let Ok((socket, _)) = connected {
                // However it ends: the next round begins with a sync, as a provider's does.
                let _ = self.converse(socket).await;
            }
            self.synced.store(false, Ordering::Release);
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn converse(&self, mut socket: Socket) -> anyhow::Result<()> {
        // The clocks that the acks on their way stand for, in order.
        let mut waiting = VecDeque::new();
        socket.send(self.frame(&[2, 0, 0])).await?;
        let state_vector = self.lock().transact().state_vector().encode_v1();
        socket.send(self.message(&[0, 0], &state_vector)).await?;
        let mut keystroke = tokio::time::interval(KEYSTROKE);
        loop {
            tokio::select! {
                frame = socket.next() => {
                    let Some(frame) = frame else { return Ok(()) };
                    if let Message::Binary(frame) = frame?
                        && let Some(answer) = self.receive(&frame, &mut waiting)?
                    {
                        socket.send(answer).await?;
                    }
                }
                _ = keystroke.tick(), if self.types.load(Ordering::Acquire) && self.is_synced() => {
                    let (update, clock) = self.type_character();
                    waiting.push_back(clock);
                    socket.send(self.message(&[0, 2], &update)).await?;
                }
            }
        }
    }

    fn type_character(&self) -> (Vec<u8>, u32) {
        let doc = self.lock();
        let text = doc.get_or_insert_text("text");
        let mut transaction = doc.transact_mut();
        let end = text.len(&transaction);
        text.insert(&mut transaction, end, &self.stroke);
        let update = transaction.encode_update_v1();
        let chars = self.stroke.len() as u32;
        let clock = self.sent.fetch_add(chars, Ordering::AcqRel) + chars;
        (update, clock)
    }

    fn receive(&self, frame: &[u8], waiting: &mut VecDeque<u32>) -> anyhow::Result<Option<Message>> {
        let rest = &frame[1 + self.document.len()..];
        match rest {
            // Sync step 1: the server asks for what it lacks.
            [0, 0, body @ ..] => {
                let state_vector = StateVector::decode_v1(bytes(body))?;
                let missing = self.lock().transact().encode_state_as_update_v1(&state_vector);
                waiting.push_back(self.sent());
                return Ok(Some(self.message(&[0, 1], &missing)));
            }
            [0, kind @ (1 | 2), body @ ..] => {
                self.lock().transact_mut().apply_update(Update::decode_v1(bytes(body))?)?;
                if *kind == 1 {
                    self.synced.store(true, Ordering::Release);
                }
            }
            // SyncStatus: stored.
            [8, 1] => {
                if let Some(clock) = waiting.pop_front() {
                    self.acked.fetch_max(clock, Ordering::AcqRel);
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn frame(&self, body: &[u8]) -> Message {
        let mut frame = vec![self.document.len() as u8];
        frame.extend_from_slice(self.document.as_bytes());
        frame.extend_from_slice(body);
        Message::Binary(frame.into())
    }

    fn message(&self, kind: &[u8], payload: &[u8]) -> Message {
        let mut body = kind.to_vec();
        let mut len = payload.len();
        while len >= 0x80 {
            body.push(len as u8 | 0x80);
            len >>= 7;
        }
        body.push(len as u8);
        body.extend_from_slice(payload);
        self.frame(&body)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Doc> {
        self.doc.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The byte array behind its length.
fn bytes(body: &[u8]) -> &[u8] {
    let header = body.iter().position(|byte| byte & 0x80 == 0).map_or(body.len(), |at| at + 1);
    &body[header..]
}
