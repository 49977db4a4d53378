//! Reads what clients send. Parsing is zero-copy: bodies are slices that share the frame's memory.
//!
//! Bytes after the end of a message are left alone, as Hocuspocus does: a later version may add fields
//! there, as 4.x did with the provider's version. Types that this version does not know come back as
//! [`ProtocolError::UnknownMessage`], which an open session ignores.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::varint::Reader;
use super::{Dialect, auth, sync, types};
use crate::error::ProtocolError;

/// UTF-8 text that shares the frame's memory.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Text without memory behind it.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes `text`, which must lie within `frame`, without copying it.
    fn within(frame: &Bytes, text: &str) -> Self {
        Self(frame.slice_ref(text.as_bytes()))
    }

    /// The text. Costs one look over the bytes: without `unsafe` the proof of UTF-8 cannot be kept.
    pub fn as_str(&self) -> &str {
        // Invariant: every constructor takes a str, so the default is never used.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// A message for an open session's room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A state vector: send what I am missing.
    SyncStep1(Bytes),
    /// The answer to our step 1: an update with everything that we are missing.
    SyncStep2(Bytes),
    /// A change.
    Update(Bytes),
    /// States of clients; see [`super::awareness::scan`].
    Awareness(Bytes),
    /// Send all awareness states that you have.
    QueryAwareness,
    /// Whatever the application sends.
    Stateless(Text),
}

impl Inbound {
    /// Bytes of its payload.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::SyncStep1(payload)
            | Self::SyncStep2(payload)
            | Self::Update(payload)
            | Self::Awareness(payload) => payload.len(),
            Self::QueryAwareness => 0,
            Self::Stateless(payload) => payload.len(),
        }
    }
}

/// What a client's frame says.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// For the session's room.
    Room(Inbound),
    /// Let me in; on an open session: here is my fresh token.
    Auth {
        /// May be empty: the handshake's credentials count then.
        token: Text,
        /// `@hocuspocus/provider` ≥ 4 tells its version.
        provider_version: Option<Text>,
    },
    /// End the session; the socket stays.
    Close,
    /// Is the server there? Has no address.
    Ping,
    /// The client is there. Has no address.
    Pong,
}

impl fmt::Debug for Message {
    // Tokens stay out of logs and of failing tests' output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(inbound) => f.debug_tuple("Room").field(inbound).finish(),
            Self::Auth { token, provider_version } => f
                .debug_struct("Auth")
                .field("token_bytes", &token.len())
                .field("provider_version", provider_version)
                .finish(),
            Self::Close => f.write_str("Close"),
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
        }
    }
}

/// Splits a Hocuspocus frame into its address and its message, which may be bad although the address is good.
///
/// [`Message::Ping`] and [`Message::Pong`] are frames of a single byte without an address; theirs
/// comes back empty. (Read as an address, that byte would announce more text than follows.)
///
/// # Errors
/// The address cannot be read.
pub fn split_hocuspocus(frame: &Bytes) -> Result<(&str, Result<Message, ProtocolError>), ProtocolError> {
    match frame[..] {
        [byte] if u64::from(byte) == types::PING => return Ok(("", Ok(Message::Ping))),
        [byte] if u64::from(byte) == types::PONG => return Ok(("", Ok(Message::Pong))),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let address = reader.var_string()?;
    Ok((address, hocuspocus_message(frame, &mut reader)))
}

/// As [`split_hocuspocus`], for frames of which all must be good.
///
/// # Errors
/// Any [`ProtocolError`] of a frame that ends early, has an unknown type or one that only servers send.
pub fn parse_hocuspocus(frame: &Bytes) -> Result<(Text, Message), ProtocolError> {
    let (address, message) = split_hocuspocus(frame)?;
    Ok((Text::within(frame, address), message?))
}

/// Reads a y-websocket frame. Its Auth type (2) only goes from server to client, so it is unknown here.
///
/// # Errors
/// Any [`ProtocolError`] of a frame that ends early or has an unknown type.
pub fn parse_y_websocket(frame: &Bytes) -> Result<Message, ProtocolError> {
    let mut reader = Reader::new(frame);
    let inbound = match reader.var_uint()? {
        types::SYNC => sync_message(frame, &mut reader)?,
        types::AWARENESS => Inbound::Awareness(body(frame, &mut reader)?),
        types::QUERY_AWARENESS => Inbound::QueryAwareness,
        kind => return Err(ProtocolError::UnknownMessage(kind)),
    };
    Ok(Message::Room(inbound))
}

/// Tells from a socket's first frame how its client speaks.
///
/// | first bytes | client |
/// |---|---|
/// | `00 00 <len> <state vector>`, exactly consumed | y-websocket: 2.x and 3.x open with sync step 1 |
/// | `<n ≥ 1> <name> 02 …` | Hocuspocus; 2.x with a token, 3.x and 4.x always |
/// | `<n ≥ 1> <name> 00 00 …` | Hocuspocus 2.x without a token |
/// | `00 02 00 …`, `00 00 00 01 00` | Hocuspocus with an empty name, which is refused |
///
/// Whatever else arrives is taken for Hocuspocus, whose answer to it (4401) is then the answer.
pub fn detect(first: &[u8]) -> Dialect {
    let mut reader = Reader::new(first);
    let opens_with_step1 = reader.var_uint() == Ok(types::SYNC)
        && reader.var_uint() == Ok(sync::STEP1)
        && reader.var_bytes().is_ok()
        && reader.is_empty();
    if opens_with_step1 { Dialect::YWebsocket } else { Dialect::Hocuspocus }
}

fn hocuspocus_message(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Message, ProtocolError> {
    match reader.var_uint()? {
        types::SYNC | types::SYNC_REPLY => Ok(Message::Room(sync_message(frame, reader)?)),
        types::AWARENESS => Ok(Message::Room(Inbound::Awareness(body(frame, reader)?))),
        types::AUTH => auth_message(frame, reader),
        types::QUERY_AWARENESS => Ok(Message::Room(Inbound::QueryAwareness)),
        types::STATELESS => Ok(Message::Room(Inbound::Stateless(Text::within(frame, reader.var_string()?)))),
        kind @ types::BROADCAST_STATELESS => Err(ProtocolError::ServerOnly(kind)),
        types::CLOSE => Ok(Message::Close),
        kind => Err(ProtocolError::UnknownMessage(kind)),
    }
}

fn sync_message(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Inbound, ProtocolError> {
    match reader.var_uint()? {
        sync::STEP1 => Ok(Inbound::SyncStep1(body(frame, reader)?)),
        sync::STEP2 => Ok(Inbound::SyncStep2(body(frame, reader)?)),
        sync::UPDATE => Ok(Inbound::Update(body(frame, reader)?)),
        kind => Err(ProtocolError::UnknownSyncMessage(kind)),
    }
}

fn auth_message(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Message, ProtocolError> {
    if reader.var_uint()? != auth::TOKEN {
        // The other kinds go from server to client. Hocuspocus logs and ignores them from clients.
        return Err(ProtocolError::UnknownMessage(types::AUTH));
    }
    let token = Text::within(frame, reader.var_string()?);
    let provider_version = match reader.is_empty() {
        true => None,
        false => Some(Text::within(frame, reader.var_string()?)),
    };
    Ok(Message::Auth { token, provider_version })
}

fn body(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Bytes, ProtocolError> {
    Ok(frame.slice_ref(reader.var_bytes()?))
}
