//! A PostgreSQL of its own for tests: from the programs that the machine has, in a temporary directory, on
//! a free port, stopped and removed when the test process ends, however it ends.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A running PostgreSQL server with user `fidibus` and no password.
pub struct PostgresServer {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    account: Option<(u32, u32)>,
    databases: AtomicU32,
    // Ends the server when this process is gone and the pipe to it closes.
    watchdog: Mutex<Child>,
}

impl PostgresServer {
    /// The server that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            Self::start().unwrap_or_else(|error| panic!("PostgreSQL does not start: {error}"))
        })
    }

    /// Starts a server of one's own, to be stopped and started again at will.
    ///
    /// # Errors
    /// When there are no programs of PostgreSQL here, or they fail.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// [`PostgresServer::start`] with lines for its `postgresql.conf`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(settings: &str) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("fidibus-postgres-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory)?;
        // PostgreSQL refuses to run as root; tests in a container often do.
        let account = match fs::metadata(&directory)?.uid() {
            0 => Some(unprivileged_account()?),
            _ => None,
        };
        if let Some((user, group)) = account {
            std::os::unix::fs::chown(&directory, Some(user), Some(group))?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let programs = programs()?;
        let watchdog = watch(&programs, &directory, account)?;
        let server = Self {
            programs,
            directory,
            port,
            account,
            databases: AtomicU32::new(0),
            watchdog: Mutex::new(watchdog),
        };
        server.run(
            "initdb",
            &["--auth=trust", "--username=fidibus", "--encoding=UTF8", "--no-locale", "--no-sync"],
        )?;
        let settings = format!(
            "{settings}listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 60\n",
            server.directory.display()
        );
        fs::OpenOptions::new()
            .append(true)
            .open(server.data().join("postgresql.conf"))?
            .write_all(settings.as_bytes())?;
        server.resume()?;
        Ok(server)
    }

    /// Makes an empty database and answers its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = self.url(&name);
        let server = self.url("postgres");
        let created = self.run("psql", &["-qc", &format!("create database {name}"), &server]);
        created.unwrap_or_else(|error| panic!("create database {name}: {error}"));
        url
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://fidibus@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops it the hard way (`immediate`): no checkpoint, as in a crash of the database.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&self) -> io::Result<()> {
        self.run("pg_ctl", &["stop", "-m", "immediate", "-w"])
    }

    /// Starts it again after [`PostgresServer::crash`].
    ///
    /// # Errors
    /// When it runs already, or does not come up.
    pub fn resume(&self) -> io::Result<()> {
        let log = self.directory.join("log");
        self.run("pg_ctl", &["start", "-w", "-l", &log.to_string_lossy()])
    }

    /// Sends a signal (`STOP`, `CONT`, `KILL`) to the server and all its processes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let first = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = first.lines().next().unwrap_or_default();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", pid]).output()?;
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let pids = std::iter::once(pid).chain(children.split_whitespace());
        succeeded("kill", &Command::new("kill").arg(format!("-{signal}")).args(pids).output()?)
    }

    /// Runs a program of PostgreSQL (`psql`, `pg_dump`) and answers what it printed.
    ///
    /// # Errors
    /// With what it printed, when it fails.
    pub fn program(&self, name: &str, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let output = self.command(name).args(arguments).output()?;
        succeeded(name, &output).map(|()| output.stdout)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = as_account(&self.programs.join(name), self.account);
        command.env("PGDATA", self.data()).current_dir(&self.directory);
        command
    }

    // The server inherits what pg_ctl has open, so nothing that is read to its end may be a pipe here.
    fn run(&self, name: &str, arguments: &[&str]) -> io::Result<()> {
        let path = self.directory.join(format!("{name}.out"));
        let out = fs::File::create(&path)?;
        let status = self
            .command(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{name} {status}: {}", fs::read_to_string(path)?))),
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        drop(watchdog.stdin.take());
        watchdog.wait().ok();
    }
}

fn watch(programs: &Path, directory: &Path, account: Option<(u32, u32)>) -> io::Result<Child> {
    const SCRIPT: &str = r#"trap '' INT TERM HUP; read -r _
        kill -CONT $(head -n 1 "$1/data/postmaster.pid") 2>&-
        "$0" stop -D "$1/data" -m immediate -s; rm -rf "$1""#;
    as_account(Path::new("sh"), account)
        .args(["-c", SCRIPT])
        .args([&programs.join("pg_ctl"), directory])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn as_account(program: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

fn unprivileged_account() -> io::Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .ok_or_else(|| io::Error::other("no account postgres or nobody"))
}

fn programs() -> io::Result<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = debian.collect();
    places.sort_by_key(|bin| {
        let version =
            bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    places.extend(std::env::split_paths(&path));
    places.into_iter().find(|bin| bin.join("initdb").exists()).ok_or_else(|| {
        io::Error::other("no initdb in /usr/lib/postgresql/*/bin or PATH; install the package postgresql")
    })
}

fn succeeded(name: &str, output: &std::process::Output) -> io::Result<()> {
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
