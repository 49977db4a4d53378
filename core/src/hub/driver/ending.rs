//! How a connection ends: what the peer sent before it went is still handled, what is queued for it is still sent,
//! and its sessions leave their rooms, whatever happened to its task.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt;

use super::Driver;
use crate::connection::Input;
use crate::error::CloseReason;
use crate::hub::transport::{FrameSink, Transport};
use crate::room::Written;

/// A socket that is being closed may take this long to take what is queued.
const LINGER: Duration = Duration::from_secs(2);

impl<T: Transport> Driver<T> {
    /// The peer is gone, but what it sent is still to be handled: messages may wait for a hook or a load.
    pub(super) async fn drain_to_end(&mut self) -> CloseReason {
        self.machine.handle_input(Input::Ended, Instant::now());
        let deadline = Instant::now() + self.shared.config.timeout;
        loop {
            self.carry_out(Instant::now());
            if self.machine.is_over() || self.machine.sessions() == 0 {
                return CloseReason::GONE;
            }
            let Some(pending) = &mut self.pending else { return CloseReason::GONE };
            match tokio::time::timeout_at(deadline.into(), pending.next()).await {
                Ok(decision) => drop(self.complete(decision, Instant::now())),
                Err(_) => return CloseReason::GONE,
            }
        }
    }

    /// Leaves all rooms, sends what is queued and the close frame.
    pub(super) async fn end(&mut self, reason: &CloseReason) {
        let now = Instant::now();
        self.machine.handle_input(Input::Closed, now);
        self.carry_out(now);
        let linger = Instant::now() + LINGER;
        while self.outbox.bytes() > 0 && *reason != CloseReason::GONE && *reason != CloseReason::SLOW_READER {
            let flushed = self.outbox.flush(Instant::now());
            if !matches!(flushed, Ok(Written::Blocked)) {
                break;
            }
            let writable = poll_fn(|cx| self.outbox.sink().sink.poll_writable(cx));
            if !matches!(tokio::time::timeout_at(linger.into(), writable).await, Ok(Ok(()))) {
                break;
            }
        }
        // Within a frame that was not taken whole, a close frame would be read as a part of it.
        if self.outbox.close() {
            self.transport.close(&self.outbox.sink().sink, reason).await;
        }
    }
}

/// Ends the sessions also where the socket's task is dropped or panics in a hook: their rooms would keep
/// them for ever. Without the machine, which may be what panicked.
impl<T: Transport> Drop for Driver<T> {
    fn drop(&mut self) {
        self.outbox.close();
        self.outbox.sink().sink.ended();
        while let Some(seat) = self.seats.last() {
            let session = seat.session;
            self.leave(session, &CloseReason::GONE);
        }
    }
}
