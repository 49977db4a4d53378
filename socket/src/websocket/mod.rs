//! An upgraded socket as the hub's transport. Reading goes through one buffer per thread, so that one
//! system call takes all that is there and an idle socket holds none; writing is done by the hub, which
//! frames what it sends. Pings, pongs and close frames are made here and travel in the hub's order.

pub mod frame;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fidibus_core::error::{BoxError, CloseReason};
use fidibus_core::hub::{FrameSink, Incoming, Transport};
use fidibus_core::room::Framing;

use crate::stream::ServerStream;
use frame::{FrameError, FrameReader, Piece};

/// Bytes taken from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Time for the close frame to be taken and answered.
const CLOSE_MAX: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How WebSockets are treated.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketLimits {
    /// Size of one message.
    pub message_bytes_max: usize,
    /// A socket that was silent for this long is pinged, one that stays silent is dropped.
    pub ping_interval: Duration,
}

/// What reads a WebSocket. The socket itself is the [`ServerStream`] beside it.
pub struct WebSocket {
    frames: FrameReader,
    ping_interval: Duration,
    tick_at: Instant,
    silence: Silence,
    state: State,
}

/// What was heard since the last tick. Ticks are compared with this instead of being moved at each
/// message, which would cost every message a timer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    Heard,
    Silent,
    Pinged,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The peer sent a close frame with this code.
    PeerClosed(Option<u16>),
    /// The stream ended, or what follows in it cannot be read.
    Ended,
}

impl WebSocket {
    /// Begins after the handshake; `read_ahead` is what HTTP has read of the socket already.
    pub fn new(read_ahead: &[u8], limits: WebSocketLimits) -> Self {
        let mut frames = FrameReader::new(limits.message_bytes_max);
        frames.keep(read_ahead);
        Self {
            frames,
            ping_interval: limits.ping_interval,
            tick_at: Instant::now() + limits.ping_interval,
            silence: Silence::Heard,
            state: State::Open,
        }
    }

    /// Reads once. A piece that is whole leaves at once, what follows it waits in `frames`.
    fn poll_read(
        &mut self,
        socket: &ServerStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Piece>, ReadError>> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ_BYTES, 0);
            let count = ready!(socket.poll_read_shared(context, buffer)).map_err(ReadError::Io)?;
            let mut input = &buffer[..count];
            self.note_read(count);
            let mut piece = None;
            if !self.frames.has_pending() {
                piece = self.frames.take(&mut input).map_err(ReadError::Frame)?;
            }
            self.frames.keep(input);
            Poll::Ready(Ok(piece))
        })
    }

    fn note_read(&mut self, count: usize) {
        match count {
            0 => self.state = State::Ended,
            _ => self.silence = Silence::Heard,
        }
    }

    fn incoming(&mut self, piece: Piece) -> Option<Incoming> {
        match piece {
            Piece::Binary(message) => Some(Incoming::Binary(message)),
            Piece::Text => Some(Incoming::Text),
            Piece::Ping(payload) => Some(Incoming::Control(frame::pong(&payload))),
            Piece::Pong => None,
            Piece::Close(code) => {
                self.state = State::PeerClosed(code);
                None
            }
        }
    }

    fn invalid(&mut self, error: FrameError) -> Incoming {
        self.state = State::Ended;
        Incoming::Invalid(match error {
            FrameError::TooBig => CloseReason::MESSAGE_TOO_BIG,
            _ => CloseReason::new(1002, error.to_string()),
        })
    }

    /// Sends a close frame, and reads on until the peer ended as well: a socket that is dropped with
    /// bytes unread is reset, which may overtake the close frame.
    async fn say_goodbye(socket: &ServerStream, farewell: Bytes) -> io::Result<()> {
        let mut rest = &farewell[..];
        while !rest.is_empty() {
            match socket.try_write_shared(&[IoSlice::new(rest)]) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|context| socket.poll_writable(context)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        socket.shutdown_write()?;
        let mut read = [0; 1024];
        while poll_fn(|context| socket.poll_read_shared(context, &mut read)).await? > 0 {}
        Ok(())
    }
}

enum ReadError {
    Io(io::Error),
    Frame(FrameError),
}

impl Transport for WebSocket {
    type Sink = ServerStream;

    fn poll_recv(
        &mut self,
        socket: &ServerStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Incoming>, BoxError>> {
        loop {
            if self.state != State::Open {
                return Poll::Ready(Ok(None));
            }
            match self.frames.take_pending() {
                Ok(None) => {}
                Ok(Some(piece)) => match self.incoming(piece) {
                    Some(incoming) => return Poll::Ready(Ok(Some(incoming))),
                    None => continue,
                },
                Err(error) => return Poll::Ready(Ok(Some(self.invalid(error)))),
            }
            match ready!(self.poll_read(socket, context)) {
                Ok(Some(piece)) => {
                    if let Some(incoming) = self.incoming(piece) {
                        return Poll::Ready(Ok(Some(incoming)));
                    }
                }
                Ok(None) => {}
                Err(ReadError::Frame(error)) => return Poll::Ready(Ok(Some(self.invalid(error)))),
                Err(ReadError::Io(error)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    fn try_recv(&mut self) -> Option<Incoming> {
        while self.state == State::Open {
            match self.frames.take_pending() {
                Ok(piece) => {
                    if let Some(incoming) = self.incoming(piece?) {
                        return Some(incoming);
                    }
                }
                Err(error) => return Some(self.invalid(error)),
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.tick_at)
    }

    /// Was nothing heard since the last tick? Then it is time to ask whether anybody is there.
    fn handle_timeout(&mut self, now: Instant, listening: bool) -> Result<Option<Incoming>, BoxError> {
        if now < self.tick_at {
            return Ok(None);
        }
        self.tick_at = now + self.ping_interval;
        if !listening {
            self.silence = Silence::Heard;
        }
        match self.silence {
            Silence::Heard => {
                self.silence = Silence::Silent;
                Ok(None)
            }
            Silence::Silent => {
                self.silence = Silence::Pinged;
                Ok(Some(Incoming::Control(frame::PING)))
            }
            Silence::Pinged => {
                self.state = State::Ended;
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to a ping").into())
            }
        }
    }

    async fn close(&mut self, socket: &ServerStream, reason: &CloseReason) {
        let farewell = match self.state {
            // An endpoint echoes the code that it got (RFC 6455, 5.5.1).
            State::PeerClosed(code) => frame::close(code.unwrap_or(0), ""),
            State::Open | State::Ended => frame::close(reason.code, &reason.reason),
        };
        // Both ways of failing, the peer is gone or too slow, end in the socket being dropped.
        let _ = tokio::time::timeout(CLOSE_MAX, Self::say_goodbye(socket, farewell)).await;
    }
}

impl FrameSink for ServerStream {
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_shared(slices)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_writable(self, context)
    }

    fn ended(&self) {
        // A room may hold the socket for a moment longer; the peer must not wait for that.
        let _ = self.shutdown_write();
    }
}
