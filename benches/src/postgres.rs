//! A PostgreSQL cluster for the time of the measurements, durable as a fresh installation is.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

const START_WAIT_MAX: Duration = Duration::from_secs(30);

/// A running cluster; ends with this value.
pub struct Cluster {
    child: Child,
    /// Where it is reached.
    pub url: String,
}

impl Cluster {
    /// Makes a cluster in the folder and starts it.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let programs = programs().context("no initdb here: install PostgreSQL, or give --postgres-url")?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // PostgreSQL refuses to run as root.
        let is_root = rustix::process::geteuid().is_root();
        let as_owner = |program: &Path| {
            let mut command;
            if is_root {
                command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
            } else {
                command = Command::new(program);
            }
            command.current_dir("/").stdin(Stdio::null());
            command
        };
        if is_root {
            let status = Command::new("chown").arg("postgres:").arg(folder).status()?;
            ensure!(status.success(), "cannot give the cluster's folder to the user postgres");
        }
        let cluster = folder.join("cluster");
        let made = as_owner(&programs.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(&cluster)
            .output()
            .context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let output = File::create(folder.join("postgres.log"))?;
        let child = as_owner(&programs.join("postgres"))
            .arg("-D")
            .arg(&cluster)
            .arg("-k")
            .arg(folder)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start postgres")?;
        let started = Self { child, url: format!("postgres://postgres@127.0.0.1:{port}/postgres") };
        let deadline = Instant::now() + START_WAIT_MAX;
        while query(&started.url, "select 1").is_err() {
            ensure!(Instant::now() < deadline, "PostgreSQL answers no query after {START_WAIT_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // runuser hands the signal on. No client is connected any more, so the shutdown is quick; what fails here has
        // ended already.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Removes everything from the public schema of a database.
pub fn empty(url: &str) -> anyhow::Result<()> {
    query(url, "drop schema public cascade; create schema public")
}

/// Runs statements in a database, all or none.
pub fn query(url: &str, sql: &str) -> anyhow::Result<()> {
    let output = Command::new("psql")
        .args([url, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "-c", sql])
        .output()
        .context("cannot run psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn programs() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH")?;
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    std::env::split_paths(&in_path).chain(debian).find(|folder| folder.join("initdb").exists())
}
