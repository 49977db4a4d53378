//! An upgraded socket as the hub's transport. Reading goes through one buffer per thread, so that one
//! system call takes all that is there and an idle socket holds none; writing is done by the hub, which
//! frames what it sends. Pings, pongs and close frames are made here and travel in the hub's order.

pub mod frame;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::error::{BoxError, CloseReason};
use fidibus_core::hub::{FrameSink, Incoming, Transport};
use fidibus_core::room::Framing;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::stream::{ReadHalf, ServerStream, WriteHalf};
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

/// One WebSocket.
pub struct WebSocket {
    reader: ReadHalf,
    writer: Arc<WriteHalf>,
    frames: FrameReader,
    limits: WebSocketLimits,
    tick: Pin<Box<Sleep>>,
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
    /// Takes over a socket after its handshake; `read_ahead` is what HTTP has read of it already.
    pub fn new(stream: ServerStream, read_ahead: &[u8], limits: WebSocketLimits) -> Self {
        let (reader, writer) = stream.into_split();
        let mut frames = FrameReader::new(limits.message_bytes_max);
        frames.keep(read_ahead);
        let tick = Box::pin(tokio::time::sleep(limits.ping_interval));
        Self {
            reader,
            writer: Arc::new(writer),
            frames,
            limits,
            tick,
            silence: Silence::Heard,
            state: State::Open,
        }
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Incoming>, BoxError>> {
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
            match self.poll_read(context) {
                Poll::Ready(Ok(Some(piece))) => {
                    if let Some(incoming) = self.incoming(piece) {
                        return Poll::Ready(Ok(Some(incoming)));
                    }
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(ReadError::Frame(error))) => {
                    return Poll::Ready(Ok(Some(self.invalid(error))));
                }
                Poll::Ready(Err(ReadError::Io(error))) => {
                    self.state = State::Ended;
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Pending => return self.poll_silence(context),
            }
        }
    }

    /// Reads once. A piece that is whole leaves at once, what follows it waits in `frames`.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Piece>, ReadError>> {
        if self.frames.has_pending() {
            let read = pin!(self.reader.read_buf(self.frames.spare()));
            let count = ready!(read.poll(context)).map_err(ReadError::Io)?;
            self.note_read(count);
            return Poll::Ready(Ok(None));
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ_BYTES, 0);
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.reader).poll_read(context, &mut read)).map_err(ReadError::Io)?;
            let mut input = read.filled();
            self.note_read(input.len());
            let piece = self.frames.take(&mut input).map_err(ReadError::Frame)?;
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

    /// Nothing came: is it time to ask whether anybody is there?
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Incoming>, BoxError>> {
        loop {
            ready!(self.tick.as_mut().poll(context));
            self.tick.as_mut().reset(Instant::now() + self.limits.ping_interval);
            match self.silence {
                Silence::Heard => self.silence = Silence::Silent,
                Silence::Silent => {
                    self.silence = Silence::Pinged;
                    return Poll::Ready(Ok(Some(Incoming::Control(frame::PING))));
                }
                Silence::Pinged => {
                    self.state = State::Ended;
                    let error = io::Error::new(io::ErrorKind::TimedOut, "no answer to a ping");
                    return Poll::Ready(Err(error.into()));
                }
            }
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
    async fn say_goodbye(&mut self, farewell: Bytes) -> io::Result<()> {
        let mut rest = &farewell[..];
        while !rest.is_empty() {
            match self.writer.try_write_vectored(&[IoSlice::new(rest)]) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::future::poll_fn(|context| self.writer.poll_writable(context)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.writer.shutdown()?;
        let mut sink = [0; 1024];
        while self.reader.read(&mut sink).await? > 0 {}
        Ok(())
    }
}

enum ReadError {
    Io(io::Error),
    Frame(FrameError),
}

impl Transport for WebSocket {
    fn recv(&mut self) -> impl Future<Output = Result<Option<Incoming>, BoxError>> + Send {
        std::future::poll_fn(|context| self.poll_recv(context))
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

    fn sink(&self) -> Arc<dyn FrameSink> {
        Arc::<WriteHalf>::clone(&self.writer)
    }

    async fn close(&mut self, reason: &CloseReason) {
        let farewell = match self.state {
            // An endpoint echoes the code that it got (RFC 6455, 5.5.1).
            State::PeerClosed(code) => frame::close(code.unwrap_or(0), ""),
            State::Open | State::Ended => frame::close(reason.code, &reason.reason),
        };
        // Both ways of failing, the peer is gone or too slow, end in the socket being dropped.
        let _ = tokio::time::timeout(CLOSE_MAX, self.say_goodbye(farewell)).await;
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        // A room may hold the writing half for a moment longer; the peer must not wait for that.
        let _ = self.writer.shutdown();
    }
}

impl FrameSink for WriteHalf {
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(slices)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_writable(self, context)
    }
}
