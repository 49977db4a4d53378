//! The reading half of RFC 6455 for a server, without IO: bytes in, messages and control frames out.
//! An idle socket holds no buffer here: only bytes of a frame that has not arrived whole are kept.

use bytes::{Buf, Bytes, BytesMut};

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A binary message, put together from its fragments.
    Binary(Bytes),
    /// A text message; both dialects are binary, so nobody asks what it says.
    Text,
    /// A ping with its payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// A close frame with its code, where it has one.
    Close(Option<u16>),
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A client must mask what it sends (5.1).
    #[error("frame without a mask")]
    Unmasked,
    /// No extension was agreed on, so these bits are always 0 (5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode without a meaning.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// Control frames are whole and have at most 125 bytes (5.5).
    #[error("fragmented or oversized control frame")]
    BadControl,
    /// Continuation without a start, or a start inside a message (5.4).
    #[error("fragments out of order")]
    BadFragment,
    /// More than the limit.
    #[error("message is too big")]
    TooBig,
}

/// Bytes of one frame that are reserved at once: a peer that claims a long frame and sends nothing
/// costs this much.
const RESERVE_BYTES_MAX: usize = 256 * 1024;
/// Messages below this are copied out of the buffer that they arrived in, so that a small message,
/// which a document may keep for long, does not hold a large buffer.
const COPY_BYTES_MAX: usize = 8 * 1024;

const OPCODE_CONTINUATION: u8 = 0;
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;
const CONTROL_BYTES_MAX: usize = 125;

/// Takes frames out of a byte stream.
#[derive(Debug)]
pub struct FrameReader {
    message_bytes_max: usize,
    /// What has arrived after the last whole frame.
    pending: BytesMut,
    /// The message whose fragments are arriving.
    fragments: Option<(u8, BytesMut)>,
}

struct Head {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    head_bytes: usize,
    payload_bytes: usize,
}

impl FrameReader {
    /// A reader for a new socket.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, pending: BytesMut::new(), fragments: None }
    }

    /// Whether a part of a frame, or further frames, are held.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the next piece off the front of what was just read. Only while nothing is pending.
    ///
    /// # Errors
    /// The protocol is broken; nothing after it can be read.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Piece>, FrameError> {
        debug_assert!(self.pending.is_empty());
        while let Some(head) = self.head(input)? {
            let Some(payload) = input.get(head.head_bytes..head.head_bytes + head.payload_bytes) else {
                return Ok(None);
            };
            let payload = BytesMut::from(payload);
            *input = &input[head.head_bytes + head.payload_bytes..];
            if let Some(piece) = self.accept(&head, payload)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Keeps what [`Self::take`] left, or what follows a frame whose beginning is pending.
    pub fn keep(&mut self, rest: &[u8]) {
        if self.has_pending() {
            self.reserve();
        }
        self.pending.extend_from_slice(rest);
    }

    /// Takes the next piece off what is pending.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_pending(&mut self) -> Result<Option<Piece>, FrameError> {
        while let Some(head) = self.head(&self.pending)? {
            let frame_bytes = head.head_bytes + head.payload_bytes;
            if self.pending.len() < frame_bytes {
                return Ok(None);
            }
            let mut payload = self.pending.split_to(frame_bytes);
            payload.advance(head.head_bytes);
            if head.payload_bytes < COPY_BYTES_MAX {
                payload = BytesMut::from(&payload[..]);
            }
            if self.pending.is_empty() {
                self.pending = BytesMut::new();
            }
            if let Some(piece) = self.accept(&head, payload)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Makes room for the rest of the frame whose beginning is pending.
    fn reserve(&mut self) {
        let frame_bytes = match self.head(&self.pending) {
            Ok(Some(head)) => head.head_bytes + head.payload_bytes,
            // Not even the head is whole.
            _ => CONTROL_BYTES_MAX,
        };
        let missing_bytes = frame_bytes.saturating_sub(self.pending.len());
        self.pending.reserve(missing_bytes.clamp(1024, RESERVE_BYTES_MAX));
    }

    /// Reads a frame's head (5.2); `None` while it is not whole.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (length_bytes, length) = match second & 0x7f {
            126 => (2, rest.first_chunk().map(|length| u64::from(u16::from_be_bytes(*length)))),
            127 => (8, rest.first_chunk().map(|length| u64::from_be_bytes(*length))),
            short => (0, Some(u64::from(short))),
        };
        if opcode >= OPCODE_CLOSE && (!fin || length_bytes > 0) {
            return Err(FrameError::BadControl);
        }
        let (Some(length), Some(mask)) = (length, rest.get(length_bytes..).and_then(|r| r.first_chunk()))
        else {
            return Ok(None);
        };
        // Judged by the head alone, so that nobody has to send a giant frame to learn that it is one.
        let payload_bytes = usize::try_from(length).map_err(|_| FrameError::TooBig)?;
        if payload_bytes > self.message_bytes_max.max(CONTROL_BYTES_MAX) {
            return Err(FrameError::TooBig);
        }
        Ok(Some(Head { fin, opcode, mask: *mask, head_bytes: 2 + length_bytes + 4, payload_bytes }))
    }

    fn accept(&mut self, head: &Head, mut payload: BytesMut) -> Result<Option<Piece>, FrameError> {
        unmask(&mut payload, head.mask);
        match head.opcode {
            OPCODE_TEXT | OPCODE_BINARY if self.fragments.is_some() => Err(FrameError::BadFragment),
            OPCODE_TEXT | OPCODE_BINARY if head.fin => self.message(head.opcode, payload),
            OPCODE_TEXT | OPCODE_BINARY => {
                self.fragments = Some((head.opcode, payload));
                Ok(None)
            }
            OPCODE_CONTINUATION => {
                let Some((opcode, mut message)) = self.fragments.take() else {
                    return Err(FrameError::BadFragment);
                };
                if message.len() + payload.len() > self.message_bytes_max {
                    return Err(FrameError::TooBig);
                }
                message.extend_from_slice(&payload);
                if head.fin {
                    return self.message(opcode, message);
                }
                self.fragments = Some((opcode, message));
                Ok(None)
            }
            OPCODE_PING => Ok(Some(Piece::Ping(payload.freeze()))),
            OPCODE_PONG => Ok(Some(Piece::Pong)),
            OPCODE_CLOSE => {
                Ok(Some(Piece::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))))
            }
            _ => Err(FrameError::UnknownOpcode),
        }
    }

    fn message(&self, opcode: u8, payload: BytesMut) -> Result<Option<Piece>, FrameError> {
        if payload.len() > self.message_bytes_max {
            return Err(FrameError::TooBig);
        }
        Ok(Some(if opcode == OPCODE_TEXT { Piece::Text } else { Piece::Binary(payload.freeze()) }))
    }
}

/// A pong that answers a ping.
pub fn pong(payload: &[u8]) -> Bytes {
    control(OPCODE_PONG, payload)
}

/// A ping of our own; its pong only has to arrive.
pub const PING: Bytes = Bytes::from_static(&[0x80 | OPCODE_PING, 0]);

/// A close frame. A code that no endpoint may send (RFC 6455, 7.4.1) becomes an empty one.
pub fn close(code: u16, reason: &str) -> Bytes {
    if matches!(code, 0..1000 | 1005 | 1006 | 1015) {
        return control(OPCODE_CLOSE, &[]);
    }
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    control(OPCODE_CLOSE, &payload)
}

fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut frame = Vec::with_capacity(2 + payload.len());
    // The length fits: it was cut to CONTROL_BYTES_MAX.
    frame.extend_from_slice(&[0x80 | opcode, payload.len() as u8]);
    frame.extend_from_slice(payload);
    frame.into()
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::coding::OpCode;
    use tungstenite::protocol::frame::{Frame, FrameHeader};

    use super::*;

    const MAX: usize = 200_000;

    /// A client's frame as tungstenite writes it.
    fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            is_final: fin,
            opcode: OpCode::from(opcode),
            mask: Some([0x12, 0x34, 0x56, 0x78]),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        Frame::from_payload(header, Bytes::copy_from_slice(payload)).format(&mut bytes).unwrap();
        bytes
    }

    /// Reads a stream that arrives in steps of `step` bytes.
    fn read(stream: &[u8], step: usize) -> Result<Vec<Piece>, FrameError> {
        let mut reader = FrameReader::new(MAX);
        let mut pieces = Vec::new();
        for mut chunk in stream.chunks(step) {
            if reader.has_pending() {
                reader.keep(chunk);
            } else {
                while let Some(piece) = reader.take(&mut chunk)? {
                    pieces.push(piece);
                }
                reader.keep(chunk);
            }
            while let Some(piece) = reader.take_pending()? {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    /// Goal: the pieces do not depend on how the stream is cut. Method: every length class, fragments
    /// with a ping between them, through many step sizes.
    #[test]
    fn any_cut_of_the_stream_gives_the_same_pieces() {
        let large: Vec<u8> = (0..70_000_u32).map(|i| i as u8).collect();
        let stream = [
            frame(2, true, b""),
            frame(2, true, &large[..125]),
            frame(2, true, &large[..126]),
            frame(2, true, &large),
            frame(2, false, b"ab"),
            frame(9, true, b"alive?"),
            frame(0, false, b""),
            frame(0, true, &large[..9_000]),
            frame(10, true, b""),
            frame(1, true, b"text"),
            frame(8, true, &[0x03, 0xe8, b'x']),
        ]
        .concat();
        let mut joined = b"ab".to_vec();
        joined.extend_from_slice(&large[..9_000]);
        let binary = |bytes: &[u8]| Piece::Binary(Bytes::copy_from_slice(bytes));
        let expected = [
            binary(b""),
            binary(&large[..125]),
            binary(&large[..126]),
            binary(&large),
            Piece::Ping(Bytes::from_static(b"alive?")),
            binary(&joined),
            Piece::Pong,
            Piece::Text,
            Piece::Close(Some(1000)),
        ];
        for step in [1, 2, 3, 5, 7, 13, 100, 4_096, 65_536, 1_000_000] {
            assert!(read(&stream, step).unwrap() == expected, "step {step}");
        }
    }

    #[test]
    fn broken_frames_are_told_apart() {
        assert_eq!(read(&[0x82, 0x01, 7], 10), Err(FrameError::Unmasked));
        assert_eq!(read(&[0xc2, 0x80, 0, 0, 0, 0], 10), Err(FrameError::ReservedBits));
        assert_eq!(read(&[0x83, 0x80, 0, 0, 0, 0], 10), Err(FrameError::UnknownOpcode));
        assert_eq!(read(&[0x09, 0x80, 0, 0, 0, 0], 10), Err(FrameError::BadControl));
        assert_eq!(read(&[0x89, 0xfe, 0, 126], 10), Err(FrameError::BadControl));
        assert_eq!(read(&frame(0, true, b"x"), 10), Err(FrameError::BadFragment));
        let interrupted = [frame(2, false, b"x"), frame(2, true, b"y")].concat();
        assert_eq!(read(&interrupted, 10), Err(FrameError::BadFragment));
    }

    #[test]
    fn giants_are_refused_by_their_head() {
        assert_eq!(read(&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 20), Err(FrameError::TooBig));
        assert_eq!(
            read(&[0x82, 0xff, 0, 0, 0, 0, 0, 3, 0x0d, 0x41, 0, 0, 0, 0], 20),
            Err(FrameError::TooBig)
        );
        let pieces = [frame(2, false, &vec![0; MAX]), frame(0, true, b"x")].concat();
        assert_eq!(read(&pieces, 100_000), Err(FrameError::TooBig));
        assert_eq!(read(&frame(2, true, &vec![0; MAX]), 100_000).map(|pieces| pieces.len()), Ok(1));
    }

    #[test]
    fn a_claimed_length_reserves_little() {
        let mut reader = FrameReader::new(50 * 1024 * 1024);
        reader.keep(&[0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        reader.reserve();
        assert!(reader.pending.capacity() <= RESERVE_BYTES_MAX + 64);
    }

    #[test]
    fn control_frames_are_those_of_the_rfc() {
        assert_eq!(pong(b"Hello"), Bytes::from_static(b"\x8a\x05Hello"));
        assert_eq!(close(1012, "Service Restart"), Bytes::from_static(b"\x88\x11\x03\xf4Service Restart"));
        assert_eq!(close(1005, "no"), Bytes::from_static(b"\x88\x00"));
        assert_eq!(close(4401, &"ä".repeat(100)).len(), 2 + 2 + 122);
    }
}
