//! Gives the WebSocket frame reader whatever the fuzzer invents, cut into pieces wherever the fuzzer likes: what is
//! read may not depend on how the network cut it.
//!
//! An input is one byte that says how long the pieces are, and the bytes of the socket.

use fidibus_server::websocket::frame::{FrameError, FrameReader, Piece};

const MESSAGE_BYTES_MAX: usize = 4096;

/// One input.
pub fn run(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = read([bytes].into_iter());
    assert_eq!(whole, read(bytes.chunks(usize::from(*cut % 64) + 1)), "in pieces of {}", cut % 64 + 1);
    for piece in &whole.0 {
        match piece {
            Piece::Binary(message) => assert!(message.len() <= MESSAGE_BYTES_MAX),
            Piece::Ping(payload) => assert!(payload.len() <= 125),
            Piece::Text | Piece::Pong | Piece::Close(_) => {}
        }
    }
}

/// Reads as a socket does: what is pending first, then what has just arrived.
fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Piece>, Option<FrameError>) {
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX);
    let mut pieces = Vec::new();
    for mut chunk in chunks {
        if reader.has_pending() {
            reader.keep(chunk);
            chunk = &[];
        }
        loop {
            let next = if reader.has_pending() { reader.take_pending() } else { reader.take(&mut chunk) };
            match next {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(error) => return (pieces, Some(error)),
            }
        }
        if !reader.has_pending() {
            reader.keep(chunk);
        }
    }
    (pieces, None)
}
