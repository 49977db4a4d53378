//! A socket whose frames are taken with `Outbox::pop`.

use std::io::{self, IoSlice};

use fidibus_core::room::{Framing, Sink};

pub struct Queue;

impl Sink for Queue {
    fn framing(&self) -> Framing {
        Framing::None
    }
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn wake(&self) {}
}
