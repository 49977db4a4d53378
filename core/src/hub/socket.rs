//! What lies in an outbox beside what is queued: the socket's writing half, and the bell of the connection's
//! task.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::transport::FrameSink;
use crate::room::{Framing, Sink};

/// The socket's writing half with the bell of its task.
pub(super) struct Socket<S> {
    pub(super) sink: S,
    pub(super) bell: Bell,
}

impl<S: FrameSink> Sink for Socket<S> {
    fn framing(&self) -> Framing {
        self.sink.framing()
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sink.try_write(slices)
    }

    fn wake(&self) {
        self.bell.ring();
    }

    fn refused(&self) {
        self.bell.ring();
        self.sink.refused();
    }
}

/// Wakes the connection's task, and stays rung until it has come.
#[derive(Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        // Registered before the look: a ring in between wakes.
        self.waker.register(cx.waker());
        match self.rung.load(Ordering::Acquire) && self.rung.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
