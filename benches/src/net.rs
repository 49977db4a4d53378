//! The client side of all sockets of a measurement: one thread, one epoll, level-triggered.
//!
//! A socket is read once per event into one shared buffer, so that a frame that arrived whole costs no copy, and what a
//! read gives rise to leaves in one write.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::wire::{FRAME_BYTES_MAX, Header, opcode, put_client_frame};

const EVENTS_PER_TURN_MAX: usize = 1024;
const READ_BYTES: usize = 256 * 1024;
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

/// Who hears what the sockets receive. Frames appended to `out` leave when all that was read has been handled.
pub trait Receiver {
    /// The WebSocket handshake is done.
    fn opened(&mut self, id: usize, out: &mut Vec<u8>, now: u64);
    /// A message arrived.
    fn message(&mut self, id: usize, payload: &[u8], out: &mut Vec<u8>, now: u64);
    /// The connection ended without being asked to.
    fn closed(&mut self, id: usize, why: &str);
}

struct Socket {
    stream: TcpStream,
    upgraded: bool,
    paused: bool,
    wants_write: bool,
    received: Vec<u8>,
    fragments: Vec<u8>,
    out: Vec<u8>,
}

/// All client sockets.
pub struct Net {
    epoll: OwnedFd,
    sockets: Vec<Option<Socket>>,
    scratch: Vec<u8>,
    events: Vec<epoll::Event>,
    epoch: Instant,
    /// Bytes read from all sockets.
    pub received_bytes: u64,
}

impl Net {
    /// No sockets yet; the clock starts at zero.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sockets: Vec::new(),
            scratch: vec![0; READ_BYTES],
            events: Vec::with_capacity(EVENTS_PER_TURN_MAX),
            epoch: Instant::now(),
            received_bytes: 0,
        })
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Starts a connection; its id is the number of connections started before it.
    pub fn connect(
        &mut self,
        port: u16,
        path: &str,
        receive_buffer_bytes: Option<usize>,
    ) -> anyhow::Result<usize> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(bytes) = receive_buffer_bytes {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno).context("cannot connect"),
        }
        let id = self.sockets.len();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        epoll::add(&self.epoll, &socket, EventData::new_u64(id as u64), EventFlags::IN | EventFlags::OUT)?;
        self.sockets.push(Some(Socket {
            stream: TcpStream::from(socket),
            upgraded: false,
            paused: false,
            wants_write: true,
            received: Vec::new(),
            fragments: Vec::new(),
            out: request.into_bytes(),
        }));
        Ok(id)
    }

    /// Ends a connection at once.
    pub fn close(&mut self, id: usize) {
        self.sockets[id] = None;
    }

    /// Stops reading, as a client does whose thread is stuck.
    pub fn pause(&mut self, id: usize) -> anyhow::Result<()> {
        self.set_paused(id, true)
    }

    /// Reads again.
    pub fn resume(&mut self, id: usize) -> anyhow::Result<()> {
        self.set_paused(id, false)
    }

    fn set_paused(&mut self, id: usize, paused: bool) -> anyhow::Result<()> {
        if let Some(socket) = self.sockets[id].as_mut() {
            socket.paused = paused;
            socket.register(&self.epoll, id)?;
        }
        Ok(())
    }

    /// Sends frames.
    pub fn send(&mut self, id: usize, compose: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        let Some(socket) = self.sockets[id].as_mut() else { return Ok(()) };
        compose(&mut socket.out);
        socket.flush(&self.epoll, id)
    }

    /// Waits until `until` at most, and hands over what arrives in one turn.
    pub fn turn(&mut self, until: u64, receiver: &mut impl Receiver) -> anyhow::Result<()> {
        let wait = until.saturating_sub(self.now());
        let timeout =
            Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as i64 };
        let mut events = std::mem::take(&mut self.events);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for sockets"),
        }
        for event in events.drain(..) {
            let id = event.data.u64() as usize;
            if let Err(error) = self.ready(id, event.flags, receiver) {
                self.close(id);
                receiver.closed(id, &format!("{error:#}"));
            }
        }
        self.events = events;
        Ok(())
    }

    fn ready(&mut self, id: usize, flags: EventFlags, receiver: &mut impl Receiver) -> anyhow::Result<()> {
        let now = self.now();
        let Some(socket) = self.sockets[id].as_mut() else { return Ok(()) };
        if flags.contains(EventFlags::OUT) {
            socket.flush(&self.epoll, id)?;
        }
        if socket.paused {
            // epoll reports these to whoever does not read as well, again and again.
            ensure!(!flags.intersects(EventFlags::HUP | EventFlags::ERR), "the server reset the connection");
            return Ok(());
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let read = match socket.stream.read(&mut self.scratch) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error).context("cannot read"),
        };
        self.received_bytes += read as u64;
        if socket.received.is_empty() {
            let used = socket.take(&self.scratch[..read], id, receiver, now)?;
            socket.received.extend_from_slice(&self.scratch[used..read]);
        } else {
            let mut received = std::mem::take(&mut socket.received);
            received.extend_from_slice(&self.scratch[..read]);
            let used = socket.take(&received, id, receiver, now)?;
            received.drain(..used);
            socket.received = received;
        }
        socket.reserve_frame();
        socket.flush(&self.epoll, id)
    }
}

impl Socket {
    fn register(&mut self, epoll: &OwnedFd, id: usize) -> anyhow::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.paused);
        flags.set(EventFlags::OUT, self.wants_write);
        Ok(epoll::modify(epoll, &self.stream, EventData::new_u64(id as u64), flags)?)
    }

    fn flush(&mut self, epoll: &OwnedFd, id: usize) -> anyhow::Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux answers ENOTCONN to a write before the connection stands.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        self.out.drain(..written);
        if self.wants_write == self.out.is_empty() {
            self.wants_write = !self.out.is_empty();
            self.register(epoll, id)?;
        }
        Ok(())
    }

    /// A large frame then arrives into memory that need not be moved again.
    fn reserve_frame(&mut self) {
        if let Some(header) = Header::parse(&self.received)
            && header.payload_bytes <= FRAME_BYTES_MAX
        {
            self.received.reserve(header.frame_bytes().saturating_sub(self.received.len()));
        }
    }

    /// Takes whole frames and answers how many bytes they were.
    fn take(
        &mut self,
        bytes: &[u8],
        id: usize,
        receiver: &mut impl Receiver,
        now: u64,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        if !self.upgraded {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                ensure!(bytes.len() < RESPONSE_BYTES_MAX, "a response over {RESPONSE_BYTES_MAX} bytes");
                return Ok(0);
            };
            let status = String::from_utf8_lossy(&bytes[..end.min(12)]).into_owned();
            ensure!(status == "HTTP/1.1 101", "the server answered {status}");
            self.upgraded = true;
            used = end + 4;
            receiver.opened(id, &mut self.out, now);
        }
        while let Some(header) = Header::parse(&bytes[used..]) {
            ensure!(header.mask.is_none(), "a masked frame from a server");
            ensure!(header.payload_bytes <= FRAME_BYTES_MAX, "a frame over {FRAME_BYTES_MAX} bytes");
            let end = used + header.frame_bytes();
            if end > bytes.len() {
                break;
            }
            let payload = &bytes[used + header.header_bytes..end];
            used = end;
            match header.opcode {
                opcode::BINARY if header.is_final => receiver.message(id, payload, &mut self.out, now),
                opcode::BINARY => self.fragments = payload.to_vec(),
                opcode::CONTINUATION => {
                    ensure!(
                        self.fragments.len() + payload.len() <= FRAME_BYTES_MAX,
                        "a message over {FRAME_BYTES_MAX} bytes"
                    );
                    self.fragments.extend_from_slice(payload);
                    if header.is_final {
                        let message = std::mem::take(&mut self.fragments);
                        receiver.message(id, &message, &mut self.out, now);
                    }
                }
                opcode::PING => put_client_frame(&mut self.out, opcode::PONG, payload),
                opcode::PONG => {}
                opcode::CLOSE => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    bail!("the server closed the connection: {code} {reason}");
                }
                other => bail!("a frame with opcode {other}"),
            }
        }
        Ok(used)
    }
}
