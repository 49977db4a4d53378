//! lib0 varints and WebSocket framing, on plain byte buffers.
//!
//! Written for one thread that must not be slower than the server under test: nothing is allocated per frame, and
//! incomplete input is an ordinary answer, not an error.

/// The longest frame that either side of a measurement accepts.
pub const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A fixed key: masking has to happen on the wire, but need not be unpredictable towards a server on loopback.
const MASK_KEY: [u8; 4] = [0x1f, 0x2e, 0x3d, 0x4c];

/// Appends a lib0 variable-length unsigned integer.
pub fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes with their length in front, which is also how lib0 writes a string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A position in lib0-encoded bytes; every read answers `None` past the end.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A variable-length unsigned integer of at most 64 bits.
    #[inline]
    pub fn uint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        for (read, byte) in self.rest.iter().enumerate() {
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                self.rest = &self.rest[read + 1..];
                return Some(value);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
        None
    }

    /// Bytes with their length in front.
    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.uint()?).ok()?;
        if length > self.rest.len() {
            return None;
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(taken)
    }
}

/// The WebSocket opcodes that occur here.
pub mod opcode {
    /// A further part of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// A binary message.
    pub const BINARY: u8 = 2;
    /// The peer closes.
    pub const CLOSE: u8 = 8;
    /// The peer wants a sign of life.
    pub const PING: u8 = 9;
    /// A sign of life.
    pub const PONG: u8 = 10;
}

/// The start of a WebSocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub is_final: bool,
    /// See [`opcode`].
    pub opcode: u8,
    /// The masking key, which clients send and servers do not.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub header_bytes: usize,
    /// Bytes of payload behind it.
    pub payload_bytes: usize,
}

impl Header {
    /// Reads a header; `None` when it is not complete yet.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (mut at, payload_bytes) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => {
                (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?).min(usize::MAX as u64) as usize)
            }
            short => (2, usize::from(short)),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            mask = Some(bytes.get(at..at + 4)?.try_into().ok()?);
            at += 4;
        }
        Some(Self {
            is_final: first & 0x80 != 0,
            opcode: first & 0x0f,
            mask,
            header_bytes: at,
            payload_bytes,
        })
    }

    /// Header and payload together.
    pub fn frame_bytes(&self) -> usize {
        self.header_bytes.saturating_add(self.payload_bytes)
    }
}

/// Undoes, or does, the masking of a payload.
#[inline]
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut value = [0; 8];
        value.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(value) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

fn put_header(out: &mut Vec<u8>, opcode: u8, mask_bit: u8, payload_bytes: usize) {
    out.push(0x80 | opcode);
    if payload_bytes < 126 {
        out.push(mask_bit | payload_bytes as u8);
    } else if payload_bytes <= usize::from(u16::MAX) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
}

/// Appends a frame as a client sends it.
pub fn put_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(out, opcode, 0x80, payload.len());
    out.extend_from_slice(&MASK_KEY);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], MASK_KEY);
}

/// Appends a frame as a server sends it.
pub fn put_server_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(out, opcode, 0, payload.len());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_form_round_trip() {
        for length in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut frame = Vec::new();
            put_client_frame(&mut frame, opcode::BINARY, &payload);
            let header = Header::parse(&frame).expect("a complete header");
            assert_eq!(header.frame_bytes(), frame.len());
            let mut body = frame[header.header_bytes..].to_vec();
            let masked: Vec<u8> =
                payload.iter().zip(MASK_KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert_eq!(body, masked);
            mask(&mut body, header.mask.expect("clients mask"));
            assert_eq!(body, payload);

            frame.clear();
            put_server_frame(&mut frame, opcode::BINARY, &payload);
            let header = Header::parse(&frame).expect("a complete header");
            assert_eq!((header.mask, header.frame_bytes()), (None, frame.len()));
        }
    }

    #[test]
    fn an_incomplete_header_or_varint_is_not_read() {
        let mut frame = Vec::new();
        put_client_frame(&mut frame, opcode::BINARY, &[0; 70_000]);
        for length in 0..14 {
            assert_eq!(Header::parse(&frame[..length]), None);
        }
        assert_eq!(Cursor::new(&[0x80]).uint(), None);
        assert_eq!(Cursor::new(&[3, 1, 2]).bytes(), None);
    }
}
