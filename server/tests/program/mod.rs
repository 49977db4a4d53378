//! The real binary in a directory of its own, on free ports, with nothing of the developer's environment;
//! and just enough of an HTTP client to talk to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything.
pub const WAIT: Duration = Duration::from_secs(20);

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fidibus-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary, ready to be started.
pub fn command(directory: &Directory, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fidibus"));
    command.env_clear().current_dir(directory.path()).stdin(Stdio::null());
    command.envs(environment.iter().copied());
    command
}

/// Ends by itself: its exit code and what it wrote.
pub fn run_to_end(
    directory: &Directory,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> (i32, String, String) {
    let output = command(directory, environment).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A running server.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    /// What it has written to stdout so far.
    pub seen: Vec<String>,
    /// The main port; 0 for a Unix socket.
    pub port: u16,
    pub health_port: u16,
}

impl Server {
    /// Starts it in memory on free ports, and waits until it listens.
    pub fn start(directory: &Directory, environment: &[(&str, &str)]) -> Self {
        let base =
            [("DATABASE_URL", "memory:"), ("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1"), ("WS_PORT", "0")];
        let mut command = command(directory, &base);
        // A port of 0 counts as unset in the environment, as in the app; as a flag it means any free one.
        command.envs(environment.iter().copied()).args(["--health-port", "0"]);
        Self::spawn(command)
    }

    /// Starts a command that runs it.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        let mut server = Self { child, lines, errors, seen: Vec::new(), port: 0, health_port: 0 };
        let listening = server.wait_for_line("WebSocket server listening");
        server.port = number_after(&listening, "\"port\":").unwrap_or(0);
        let health = server.wait_for_line("Health check server listening");
        server.health_port = number_after(&health, "\"port\":").unwrap();
        server
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn health_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.health_port))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of stdout.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + WAIT;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        let errors: Vec<_> = self.errors.try_iter().collect();
        panic!("no line with {part:?} in {:#?}, stderr {errors:#?}", self.seen);
    }

    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end: how it ended, and what it wrote to stderr.
    pub fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.seen.extend(self.lines.iter());
                return (status, self.errors.iter().collect());
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn number_after(line: &str, key: &str) -> Option<u16> {
    let rest = line.split_once(key)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// All header lines, in lower case.
    pub head: String,
    pub body: String,
}

/// Sends one request and reads all of the answer.
pub fn http(address: SocketAddr, method: &str, target: &str) -> Answer {
    raw_http(
        TcpStream::connect(address).unwrap(),
        &format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

pub fn raw_http(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}")),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
