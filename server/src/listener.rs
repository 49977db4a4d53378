//! The socket that clients connect to, TCP or Unix, and how it is accepted from when the machine runs out
//! of something.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::config::Listen;
use crate::peer::Peer;
use crate::stream::ServerStream;

/// Connections that the kernel completes while the server is busy.
const BACKLOG: u32 = 1024;
/// The longest pause after a failed accept.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// How long a socket file's owner has to answer before it counts as dead.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// Where the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{variable}: {place} is in use by another process")]
    InUse {
        /// The setting that names the place.
        variable: &'static str,
        /// The place.
        place: String,
    },
    /// Anything else.
    #[error("{variable}: cannot listen on {place}")]
    Failed {
        /// The setting that names the place.
        variable: &'static str,
        /// The place.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(variable: &'static str, place: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { variable, place },
            _ => Self::Failed { variable, place, source },
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; its file goes with it.
    Unix(UnixListener, SocketFile),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// One that names the setting.
    pub async fn bind(listen: &Listen) -> Result<Self, BindError> {
        match listen {
            Listen::Tcp(address) => bind_tcp("WS_PORT", *address).map(Self::Tcp),
            Listen::Unix { path, mode } => {
                let bound = bind_unix(path, *mode).await;
                bound.map_err(|error| BindError::new("WS_HOST", format!("unix:{}", path.display()), error))
            }
        }
    }

    /// The port, for TCP.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(..) => None,
        }
    }

    /// Waits for the next socket. Failures of the machine (no descriptors, no memory) are waited out
    /// with growing pauses; those of one client are skipped.
    pub async fn accept(&self) -> (ServerStream, Peer) {
        let mut pause = BACKOFF_MIN;
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, peer)| (ServerStream::Tcp(stream), Peer::Ip(peer.ip()))),
                Self::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (ServerStream::Unix(stream), Peer::Unix))
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let ServerStream::Tcp(tcp) = &stream {
                        // Frames are small and somebody waits for each: no delay for fuller packets. A
                        // failure means that the client is gone, which the first read will tell.
                        let _ = tcp.set_nodelay(true);
                    }
                    return (stream, peer);
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::error!(%error, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

/// Listens on a TCP address.
///
/// # Errors
/// One that names `variable`.
pub fn bind_tcp(variable: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the sockets of the last run to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            BindError::InUse { variable, place: format!("port {} ({})", address.port(), address.ip()) }
        }
        _ => BindError::new(variable, address.to_string(), error),
    })
}

async fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
        }
        Ok(_) => {
            // A file without an owner is left by a process that was killed; one that answers is not ours.
            match tokio::time::timeout(PROBE_MAX, UnixStream::connect(path)).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
            }
        }
    }
    // Bound under a name of its own and renamed when its permissions are right: at no moment can
    // somebody connect whom they would keep out.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let listener = UnixListener::bind(&draft)?;
    let placed = fs::set_permissions(&draft, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| fs::symlink_metadata(path));
    match placed {
        Ok(metadata) => {
            Ok(Listener::Unix(listener, SocketFile { path: path.to_owned(), inode: metadata.ino() }))
        }
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

/// The file of a Unix socket, removed with its listener.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own socket there already.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
