//! PM2's channel to the programs that it starts: tells it that the server is ready (`wait_ready`), and
//! hears its wish to shut down (`shutdown_with_message`). Messages are lines of JSON on a socket whose
//! descriptor `NODE_CHANNEL_FD` names.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::FileType;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest message that is read; PM2's own are a word.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// The channel, where there is one.
#[derive(Debug)]
pub struct Supervisor {
    channel: Option<BufReader<UnixStream>>,
}

impl Supervisor {
    /// Takes over the channel of the environment. Call once, at the start of the program.
    pub fn from_environment() -> Self {
        let descriptor = std::env::var("NODE_CHANNEL_FD").ok().and_then(|text| text.parse().ok());
        let channel = descriptor.and_then(take_socket).and_then(|socket| {
            socket.set_nonblocking(true).ok()?;
            UnixStream::from_std(socket).ok()
        });
        Self { channel: channel.map(BufReader::new) }
    }

    /// Says that the server accepts connections.
    pub async fn report_ready(&mut self) {
        if let Some(channel) = &mut self.channel
            && let Err(error) = channel.write_all(b"\"ready\"\n").await
        {
            tracing::warn!(%error, "cannot tell the process manager that the server is ready");
        }
    }

    /// Waits until the process manager asks for a shutdown; for ever where there is none, or it is gone:
    /// the server outlives its manager. Cancel-safe in that a message half read is only lost.
    pub async fn shutdown_requested(&mut self) {
        while let Some(channel) = &mut self.channel {
            let mut line = Vec::new();
            match channel.take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => self.channel = None,
                Ok(_) if line.trim_ascii() == b"\"shutdown\"" => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }
}

#[expect(unsafe_code, reason = "a descriptor that is handed over by number has no other way in")]
fn take_socket(descriptor: RawFd) -> Option<StdUnixStream> {
    // Below are stdin, stdout and stderr, which are never the channel.
    if descriptor <= 2 {
        return None;
    }
    // SAFETY: the borrow ends within this function, and a number that is not open only makes the calls fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(borrowed).ok()?.st_mode);
    if kind != FileType::Socket {
        return None;
    }
    // Children must not inherit it: the manager would take them for us.
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, as fstat has just shown, and ours alone: the parent made it for this process and
    // named it in the environment, and this is called once, before anything else could have opened it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) }.into())
}
