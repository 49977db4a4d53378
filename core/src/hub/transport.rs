//! What a front has to bring for each socket.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

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

/// The reading half of a socket. Statically dispatched: the loop around it is compiled for each front.
///
/// The other half, its [`Self::Sink`], is kept by the hub together with what is queued for it, so that a
/// send touches one place in memory; who reads is lent it.
pub trait Transport: Send + 'static {
    /// The half that is written to.
    type Sink: FrameSink;

    /// The next thing that arrives; `None`: the peer closed.
    fn poll_recv(
        &mut self,
        sink: &Self::Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Incoming>, BoxError>>;

    /// What has arrived already, without waiting. `None`: nothing (also at the end: `poll_recv` tells).
    fn try_recv(&mut self) -> Option<Incoming>;

    /// When [`Self::handle_timeout`] wants to be called.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what the time demands; what the socket's own protocol has to send then. Whoever is not listened
    /// to (`listening`) is not to blame for its silence.
    ///
    /// # Errors
    /// The peer is taken for gone.
    fn handle_timeout(&mut self, _now: Instant, _listening: bool) -> Result<Option<Incoming>, BoxError> {
        Ok(None)
    }

    /// Is shown what is to be sent, before anything is: for fronts that take frames instead of bytes.
    fn outbox(&mut self, _outbox: Arc<Outbox>) {}

    /// Sends the close frame behind what is queued, and ends the socket. Bounded by seconds.
    fn close(&mut self, sink: &Self::Sink, reason: &CloseReason) -> impl Future<Output = ()> + Send;
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

    /// The connection is over; rooms may hold the socket for a moment longer.
    fn ended(&self) {}
}
