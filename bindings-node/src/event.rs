//! What JavaScript is told, and how it is written: one byte of kind, then the fields little-endian in the order
//! below, strings and bytes behind their length. `ts/events.ts` reads the same table; both change together.

use bytes::Bytes;
use fidibus_core::hub::Held;
use fidibus_core::id::SessionKey;

/// One event. Tickets are questions: nothing goes on until they are answered.
#[expect(dead_code, reason = "what an event holds of a room is let go when it is dropped, and never read")]
pub enum Event {
    /// 1: may this session in? ticket, session, document, session id?, token?, provider version?
    Authenticate {
        ticket: u64,
        session: SessionKey,
        document: String,
        session_id: Option<String>,
        token: Option<String>,
        provider_version: Option<String>,
    },
    /// 2: a fresh token. ticket, session, token
    TokenSync { ticket: u64, session: SessionKey, token: String },
    /// 3: a document is loaded. ticket, document id, name, session or none, what the store had
    Load { ticket: u64, document: u32, name: String, session: Option<SessionKey>, stored: Bytes },
    /// 4: a load that JavaScript asked for failed. name, message
    LoadFailed { name: String, message: String },
    /// 5: a session is in its room. document id, session
    Entered { document: u32, session: SessionKey },
    /// 6: a session left its room. document id, session
    Left { document: u32, session: SessionKey },
    /// 7: a document changed. document id, session or none, update
    Changed { document: u32, session: Option<SessionKey>, update: Bytes, held: Held },
    /// 8: a document changed, once until it is rearmed. document id
    Touched { document: u32 },
    /// 9: awareness changed. document id, session or none, awareness update
    Awareness { document: u32, session: Option<SessionKey>, update: Bytes, held: Held },
    /// 10: a stateless message. document id, session, payload
    Stateless { document: u32, session: SessionKey, payload: String, held: Held },
    /// 11: a room ended. document id
    Ended { document: u32 },
    /// 12: a message before its room. ticket, session, frame
    BeforeMessage { ticket: u64, session: SessionKey, frame: Bytes },
    /// 13: a sync message before its room. ticket, session, kind, payload
    BeforeSync { ticket: u64, session: SessionKey, kind: u8, payload: Bytes },
    /// 14: an awareness message before its room. ticket, session, count, (client, clock, JSON)…
    BeforeAwareness { ticket: u64, session: SessionKey, states: Vec<(u64, u64, String)> },
    /// 15: a message after its room. ticket, session, frame
    AfterMessage { ticket: u64, session: SessionKey, frame: Bytes },
    /// 16: a socket ended. connection, code, reason
    SocketClosed { connection: u64, code: u16, reason: String },
    /// 17: frames for a socket of the host. connection, count, frames…
    Frames { connection: u64, frames: Vec<Bytes> },
    /// Never written: a socket of the host has something to say, and is asked when this is taken.
    Poll { connection: u64 },
}

impl Event {
    /// Bytes of frames for a socket of the host.
    pub fn frame_bytes(&self) -> usize {
        match self {
            Self::Frames { frames, .. } => frames.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    /// Writes the event behind what is there.
    pub fn write(&self, out: &mut Writer) {
        match self {
            Self::Authenticate { ticket, session, document, session_id, token, provider_version } => {
                out.kind(1).number(*ticket).session(Some(*session)).text(document);
                for text in [session_id, token, provider_version] {
                    out.optional_text(text.as_deref());
                }
            }
            Self::TokenSync { ticket, session, token } => {
                out.kind(2).number(*ticket).session(Some(*session)).text(token);
            }
            Self::Load { ticket, document, name, session, stored } => {
                out.kind(3).number(*ticket).small(*document).text(name).session(*session).bytes(stored);
            }
            Self::LoadFailed { name, message } => drop(out.kind(4).text(name).text(message)),
            Self::Entered { document, session } => {
                out.kind(5).small(*document).session(Some(*session));
            }
            Self::Left { document, session } => {
                out.kind(6).small(*document).session(Some(*session));
            }
            Self::Changed { document, session, update, .. } => {
                out.kind(7).small(*document).session(*session).bytes(update);
            }
            Self::Touched { document } => drop(out.kind(8).small(*document)),
            Self::Awareness { document, session, update, .. } => {
                out.kind(9).small(*document).session(*session).bytes(update);
            }
            Self::Stateless { document, session, payload, .. } => {
                out.kind(10).small(*document).session(Some(*session)).text(payload);
            }
            Self::Ended { document } => drop(out.kind(11).small(*document)),
            _ => self.write_rare(out),
        }
    }

    fn write_rare(&self, out: &mut Writer) {
        match self {
            Self::BeforeMessage { ticket, session, frame } => {
                out.kind(12).number(*ticket).session(Some(*session)).bytes(frame);
            }
            Self::BeforeSync { ticket, session, kind, payload } => {
                let out = out.kind(13).number(*ticket).session(Some(*session));
                out.small(u32::from(*kind)).bytes(payload);
            }
            Self::BeforeAwareness { ticket, session, states } => {
                let out = out.kind(14).number(*ticket).session(Some(*session)).small(states.len() as u32);
                for (client, clock, state) in states {
                    out.number(*client).number(*clock).text(state);
                }
            }
            Self::AfterMessage { ticket, session, frame } => {
                out.kind(15).number(*ticket).session(Some(*session)).bytes(frame);
            }
            Self::SocketClosed { connection, code, reason } => {
                out.kind(16).number(*connection).small(u32::from(*code)).text(reason);
            }
            Self::Frames { connection, frames } => {
                let out = out.kind(17).number(*connection).small(frames.len() as u32);
                for frame in frames {
                    out.bytes(frame);
                }
            }
            _ => debug_assert!(false, "written above"),
        }
    }
}

/// Bytes in the form that JavaScript reads.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn kind(&mut self, kind: u8) -> &mut Self {
        self.0.push(kind);
        self
    }

    fn small(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// As a JavaScript number: exact up to 2^53.
    fn number(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&(value as f64).to_le_bytes());
        self
    }

    /// Connection 0 is nobody: ids begin with 1.
    fn session(&mut self, session: Option<SessionKey>) -> &mut Self {
        let (connection, number) = session.map_or((0, 0), |key| (key.connection.0, key.number));
        self.number(connection).small(number)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.small(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        self.kind(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
        self
    }
}
