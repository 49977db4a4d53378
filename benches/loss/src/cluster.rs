//! A PostgreSQL of our own that can be stopped, started and frozen.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::process::Command;

const START_MAX: Duration = Duration::from_secs(30);

/// A cluster in a folder. Call [`Cluster::stop`] at the end.
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub async fn create(folder: &Path) -> anyhow::Result<Self> {
        let programs = programs().context("no initdb here: install PostgreSQL")?;
        tokio::fs::create_dir_all(folder).await?;
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(folder)).await?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let cluster = Self { programs, folder: folder.to_owned(), port };
        run(cluster
            .command("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(cluster.data()))
        .await?;
        cluster.start().await?;
        Ok(cluster)
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        let options = format!("-p {} -k {} -c listen_addresses=127.0.0.1", self.port, self.folder.display());
        run(self
            .command("pg_ctl")
            .args(["-w", "-D"])
            .arg(self.data())
            .args(["-l"])
            .arg(self.folder.join("log"))
            .args(["-o", &options, "start"]))
        .await?;
        let deadline = Instant::now() + START_MAX;
        while run(Command::new("psql").args([&self.url(), "--no-psqlrc", "-qc", "select 1"])).await.is_err() {
            ensure!(Instant::now() < deadline, "PostgreSQL answers no query");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Stops it as a crash would: connections are cut, nothing is written any more.
    pub async fn stop(&self) -> anyhow::Result<()> {
        run(self.command("pg_ctl").args(["-w", "-D"]).arg(self.data()).args(["-m", "immediate", "stop"]))
            .await
    }

    /// Stops all its processes in their tracks: connections stay, nothing answers.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal("-STOP").await
    }

    /// Lets them go on.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        self.signal("-CONT").await
    }

    async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = tokio::fs::read_to_string(self.data().join("postmaster.pid")).await?;
        let pid = pid.lines().next().context("postmaster.pid is empty")?.trim().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().await?;
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        for child in children.split_whitespace() {
            // A backend may end by itself meanwhile.
            run(Command::new("kill").arg(signal).arg(child)).await.ok();
        }
        run(Command::new("kill").arg(signal).arg(&pid)).await
    }

    fn data(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command;
        // PostgreSQL refuses to run as root.
        if is_root() {
            command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
        } else {
            command = Command::new(program);
        }
        command.current_dir("/");
        command
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    // pg_ctl leaves its server behind, which would keep pipes open.
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "{:?} ended with {status}", command.as_std());
    Ok(())
}

fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin"));
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&in_path).chain(debian).find(|folder| folder.join("initdb").exists())
}
