//! A Hocuspocus provider cut down to what tests of durability need: it opens a document, writes letters,
//! and hears whether each was acknowledged.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::{Bytes, Message, WebSocket};

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// `SyncStatus`: stored, or refused.
    Ack(bool),
    /// The document was not opened, for this reason.
    Denied(String),
    /// The session was ended, with this reason.
    Closed(String),
    /// The socket was closed, with this code.
    SocketClosed(u16),
    /// Nothing in time.
    Nothing,
}

/// One session on one socket.
pub struct Peer {
    socket: WebSocket<TcpStream>,
    document: String,
}

impl Peer {
    /// Connects and asks for the document; what comes of it is heard later.
    pub fn connect(address: SocketAddr, document: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let socket = tungstenite::client(format!("ws://{address}/"), stream).unwrap().0;
        let mut peer = Self { socket, document: document.to_owned() };
        // Auth with an empty token, then sync step 1 with an empty state vector.
        peer.send(&[2, 0, 0]);
        peer.send(&[0, 0, 1, 0]);
        peer
    }

    fn send(&mut self, body: &[u8]) {
        let mut frame = vec![u8::try_from(self.document.len()).unwrap()];
        frame.extend_from_slice(self.document.as_bytes());
        frame.extend_from_slice(body);
        // A server that has closed it is heard of by reading.
        let _ = self.socket.send(Message::Binary(Bytes::from(frame)));
    }

    /// Client `author` writes one letter into the root text "t".
    pub fn write(&mut self, author: u8) {
        self.send_update(&letter(author));
    }

    /// Sends any update.
    pub fn send_update(&mut self, update: &[u8]) {
        let mut body = vec![0, 2];
        varint(&mut body, update.len());
        body.extend_from_slice(update);
        self.send(&body);
    }

    /// Writes and waits for the ack.
    pub fn write_acked(&mut self, author: u8) {
        self.write(author);
        assert_eq!(self.hear(Duration::from_secs(20)), Heard::Ack(true), "letter of {author}");
    }

    /// The next ack or end, within `wait`.
    pub fn hear(&mut self, wait: Duration) -> Heard {
        let deadline = Instant::now() + wait;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.socket.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.socket.read() {
                Ok(Message::Binary(frame)) => {
                    let body = frame.get(1 + self.document.len()..).unwrap_or_default();
                    match body {
                        [8, stored] => return Heard::Ack(*stored == 1),
                        [2, 1, _, reason @ ..] => {
                            return Heard::Denied(String::from_utf8_lossy(reason).into_owned());
                        }
                        [7, _, reason @ ..] => {
                            return Heard::Closed(String::from_utf8_lossy(reason).into_owned());
                        }
                        _ => {}
                    }
                }
                Ok(Message::Close(frame)) => {
                    return Heard::SocketClosed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return Heard::SocketClosed(1006),
            }
        }
        Heard::Nothing
    }
}

/// The update with which client `author` writes its first letter into the root text "t".
pub fn letter(author: u8) -> Vec<u8> {
    assert!(author < 128, "one byte of varint");
    vec![1, 1, author, 0, 4, 1, 1, b't', 1, b'a', 0]
}

/// An update of about `bytes` bytes.
pub fn long_text(author: u8, bytes: usize) -> Vec<u8> {
    let mut update = vec![1, 1, author, 0, 4, 1, 1, b't'];
    varint(&mut update, bytes);
    update.resize(update.len() + bytes, b'x');
    update.push(0);
    update
}

fn varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
