//! The bare relay as a program: the ceiling that servers are measured against.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use clap::Parser;
use fidibus_bench::relay::{Faults, Shape, serve};

/// Relays the frames of Hocuspocus clients between the members of a document, without a CRDT.
#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 0)]
    port: u16,
    /// How the relay is built around its sockets.
    #[arg(long, value_enum, default_value_t = Shape::Tokio)]
    shape: Shape,
    /// Leaves out every n-th delivery, to show that the harness notices.
    #[arg(long)]
    drop_delivery_every: Option<u64>,
    /// Leaves out every n-th ack, to show that the harness notices.
    #[arg(long)]
    drop_ack_every: Option<u64>,
    /// Leaves out every n-th logged update at a join, to show that the harness notices.
    #[arg(long)]
    drop_logged_every: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))?;
    // std listens with a backlog of 128 only; a storm of joins needs the room that the servers under test have.
    rustix::net::listen(&listener, 4096)?;
    println!("listening {}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    serve(
        listener,
        arguments.shape,
        Faults {
            drop_delivery_every: arguments.drop_delivery_every,
            drop_ack_every: arguments.drop_ack_every,
            drop_logged_every: arguments.drop_logged_every,
        },
    )
}
