//! The ceiling: servers that do what a sync server must do with sockets, and nothing else.
//!
//! A relay hands each frame to the others of its room, acks it, and answers a join with the frames it has logged. It
//! keeps no CRDT and no state vector and merges no updates; what it costs is what the kernel and the runtime cost.

mod epoll;
mod handshake;
mod room;
mod tasks;

use std::net::TcpListener;

pub use room::Faults;

/// How the relay is built around its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// One thread on raw epoll; what a connection gets in one turn leaves in one write.
    Epoll,
    /// The usual tokio program: a reader and a writer task per connection, an unbounded channel between them.
    Tokio,
}

/// Serves the listener until the process ends.
pub fn serve(listener: TcpListener, shape: Shape, faults: Faults) -> anyhow::Result<()> {
    match shape {
        Shape::Epoll => epoll::serve(&listener, faults),
        Shape::Tokio => tasks::serve(listener, faults),
    }
}
