//! What a front has to bring for each socket.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::error::{BoxError, CloseReason};
use crate::room::{Framing, Outbox};

/// What a socket yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A binary frame.
    Binary(Bytes),
    /// A text frame.
    Text,
    /// Bytes that the socket's own protocol has to send (a pong), framed already: queued in order.
    Control(Bytes),
    /// The peer broke the socket's protocol (a frame too large): the connection is closed with this.
    Invalid(CloseReason),
}

/// One socket. Statically dispatched: the loop around it is compiled for each front.
pub trait Transport: Send + 'static {
    /// Waits for the next thing that arrives; `None`: the peer closed. Must be cancel-safe.
    fn recv(&mut self) -> impl Future<Output = Result<Option<Incoming>, BoxError>> + Send;

    /// What has arrived already, without waiting. `None`: nothing (also at the end: `recv` tells).
    fn try_recv(&mut self) -> Option<Incoming>;

    /// The half that is written to, from any task.
    fn sink(&self) -> Arc<dyn FrameSink>;

    /// Is shown what is to be sent, before anything is: for fronts that take frames instead of bytes.
    fn outbox(&mut self, _outbox: &Arc<Outbox>) {}

    /// Sends the close frame behind what is queued, and ends the socket. Bounded by seconds.
    fn close(&mut self, reason: &CloseReason) -> impl Future<Output = ()> + Send;
}

/// The writing half of a socket.
pub trait FrameSink: Send + Sync + 'static {
    /// How frames become bytes.
    fn framing(&self) -> Framing;

    /// Writes what the socket takes now; see [`crate::room::Sink::try_write`].
    ///
    /// # Errors
    /// `WouldBlock`, or the socket is dead.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Frames wait that were not taken: a front that takes frames wakes its host. Called under no lock.
    fn refused(&self) {}

    /// Ready when the socket takes bytes again. Only the connection's task calls it.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}
