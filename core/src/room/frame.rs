//! One frame on its way out of a room, and how it becomes bytes on a socket.

use bytes::Bytes;

pub(super) const WEBSOCKET_HEADER_BYTES_MAX: usize = 10;

/// How pieces become a byte stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// One unmasked binary WebSocket frame per piece (RFC 6455, 5.2).
    WebSocket,
    /// The bare bytes; the front keeps frames apart itself.
    None,
    /// Nothing is written: the front takes whole frames with [`super::Outbox::pop`].
    Whole,
}

/// One frame: a head of its own and a body that it may share with the frames of other addresses.
#[derive(Clone, Debug)]
pub struct Frame {
    head: Bytes,
    body: Bytes,
    framed: bool,
}

impl Frame {
    /// A frame whose body is shared.
    pub fn shared(head: Bytes, body: Bytes) -> Self {
        Self { head, body, framed: false }
    }

    /// Bytes that carry their framing already (pong and close of the WebSocket layer).
    pub fn framed(bytes: Bytes) -> Self {
        Self { head: bytes, body: Bytes::new(), framed: true }
    }

    /// Length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether the frame carries nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the bytes carry their framing already.
    pub(super) fn is_framed(&self) -> bool {
        self.framed
    }

    /// Head and body.
    pub(super) fn parts(&self) -> [&Bytes; 2] {
        [&self.head, &self.body]
    }

    /// The payload in one piece; copies only where the frame has two parts.
    pub fn into_bytes(self) -> Bytes {
        if self.body.is_empty() {
            return self.head;
        }
        let mut whole = Vec::with_capacity(self.len());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.into()
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self { head: bytes, body: Bytes::new(), framed: false }
    }
}

/// A server's WebSocket frame header.
#[derive(Clone, Copy, Default)]
pub(super) struct Header {
    bytes: [u8; WEBSOCKET_HEADER_BYTES_MAX],
    len: u8,
}

impl Header {
    /// FIN, opcode 2, unmasked (RFC 6455, 5.2).
    pub(super) fn binary(payload_bytes: usize) -> Self {
        let mut bytes = [0; WEBSOCKET_HEADER_BYTES_MAX];
        bytes[0] = 0x82;
        let len = if payload_bytes < 126 {
            bytes[1] = payload_bytes as u8;
            2
        } else if payload_bytes <= usize::from(u16::MAX) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    pub(super) fn len(self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
