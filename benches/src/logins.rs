//! What authentication costs: logins against a PostgreSQL with Better Auth's tables, and the same connects without any.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::latency::Waits;
use crate::net::{Net, Receiver};
use crate::peer::{GENERATOR_CORE, SERVER_CORE};
use crate::wire::{opcode, put_client_frame};

const START_WAIT_MAX: Duration = Duration::from_secs(20);
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Documents that the connects are spread over, so that rooms are not what is measured.
const DOCUMENTS: usize = 50;
/// The first message of a client of y-websocket that has nothing.
const SYNC_STEP_1: [u8; 4] = [0, 0, 1, 0];

/// Tables as the built-in adapter of Better Auth makes them, with as many users as sessions.
pub fn fill(url: &str, sessions: usize) -> anyhow::Result<()> {
    crate::postgres::query(
        url,
        &format!(
            r#"create table "user" (id text primary key, name text, email text, role text, banned boolean, "banExpires" timestamptz);
            create table session (id text primary key, "expiresAt" timestamptz not null, token text not null unique,
                "userId" text not null references "user"(id), "impersonatedBy" text);
            insert into "user" select 'user-' || n, 'Ann', n || '@example.com', 'editor' from generate_series(0, {sessions} - 1) n;
            insert into session select 'session-' || n, now() + interval '1 day', 'token{sessions}x' || n, 'user-' || n
                from generate_series(0, {sessions} - 1) n;
            analyze"#
        ),
    )
}

/// The token of a session that [`fill`] made.
pub fn token(sessions: usize, number: usize) -> String {
    format!("token{sessions}x{}", number % sessions)
}

/// A server with its documents in memory; ends with this value.
pub struct Server {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts one that asks Better Auth's database at `auth_url`, or nobody.
    pub fn start(program: &Path, scratch: &Path, auth_url: Option<&str>) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let name = if auth_url.is_some() { "guarded" } else { "open" };
        let output = File::create(scratch.join(format!("{name}.log")))?;
        let mut command = Command::new("taskset");
        command.arg("-c").arg(SERVER_CORE.to_string()).arg(program);
        command
            .env("NODE_ENV", "production")
            .env("LOG_LEVEL", "warn")
            .env("WS_PORT", port.to_string())
            .env("WS_HEALTH_PORT", "off")
            .env("WS_HOST", "127.0.0.1")
            .env("DATABASE_URL", "memory:")
            .env("WS_STATE_DIR", scratch.join(name));
        match auth_url {
            None => command.env("WS_AUTH", "none"),
            Some(url) => command
                .env("WS_AUTH", "better-auth")
                .env("BETTER_AUTH_SECRET", "a secret that this benchmark signs nothing with")
                .env("WS_AUTH_DATABASE_URL", url),
        };
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let server = Self { child, port };
        let deadline = Instant::now() + START_WAIT_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(Instant::now() < deadline, "{} accepts no connection", program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When each socket was upgraded and answered, in nanoseconds.
#[derive(Default)]
struct Answers {
    opened: Vec<u64>,
    answered: Vec<u64>,
    count: usize,
    failure: Option<String>,
}

impl Receiver for Answers {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>, now: u64) {
        put_client_frame(out, opcode::BINARY, &SYNC_STEP_1);
        if self.opened.len() <= id {
            self.opened.resize(id + 1, 0);
        }
        self.opened[id] = now;
    }

    fn message(&mut self, id: usize, _: &[u8], _: &mut Vec<u8>, now: u64) {
        if self.answered.len() <= id {
            self.answered.resize(id + 1, 0);
        }
        if self.answered[id] == 0 {
            self.answered[id] = now;
            self.count += 1;
        }
    }

    fn closed(&mut self, _: usize, why: &str) {
        self.failure = Some(why.to_owned());
    }
}

/// Waits from the first message to its answer, of connects one after the other, to both servers in turn: without and
/// with authentication.
pub fn one_by_one(
    open: &Server,
    guarded: &Server,
    sessions: usize,
    rounds: usize,
) -> anyhow::Result<[Waits; 2]> {
    /// Until the pool is warm.
    const WARM_UP_ROUNDS: usize = 20;
    let (mut net, mut answers) = (Net::new()?, Answers::default());
    let mut waits = [Waits::default(), Waits::default()];
    for round in 0..WARM_UP_ROUNDS + rounds {
        for (waits, server) in waits.iter_mut().zip([open, guarded]) {
            let id = net.connect(server.port, &path(sessions, round), None)?;
            await_count(&mut net, &mut answers, id + 1)?;
            if round >= WARM_UP_ROUNDS {
                waits.record(answers.answered[id] - answers.opened[id]);
            }
            net.close(id);
        }
    }
    Ok(waits)
}

/// Waits from the moment that each connect was due, a fixed time after the one before, to its first answer. All stay open.
pub fn crowd(server: &Server, sessions: usize, count: usize, interval: Duration) -> anyhow::Result<Waits> {
    let (mut net, mut answers) = (Net::new()?, Answers::default());
    let interval = interval.as_nanos() as u64;
    let start = net.now();
    let due = |number: usize| start + interval * number as u64;
    let mut begun = 0;
    while begun < count {
        while begun < count && net.now() >= due(begun) {
            net.connect(server.port, &path(sessions, begun), None)?;
            begun += 1;
        }
        net.turn(due(begun.min(count - 1)), &mut answers)?;
    }
    await_count(&mut net, &mut answers, count)?;
    let mut waits = Waits::default();
    for (number, answered) in answers.answered.iter().enumerate() {
        waits.record(answered - due(number));
    }
    Ok(waits)
}

fn path(sessions: usize, number: usize) -> String {
    format!("/document-{}?token={}", number % DOCUMENTS, token(sessions, number))
}

fn await_count(net: &mut Net, answers: &mut Answers, count: usize) -> anyhow::Result<()> {
    let deadline = net.now() + ANSWER_WAIT_MAX.as_nanos() as u64;
    while answers.count < count {
        if let Some(why) = &answers.failure {
            anyhow::bail!("a connection was not let in: {why}");
        }
        ensure!(net.now() < deadline, "{} of {count} were answered", answers.count);
        net.turn(deadline, answers)?;
    }
    Ok(())
}

/// How many connections a server holds to its database of sessions. It keeps unused ones for a minute.
pub fn pool_connections(url: &str) -> anyhow::Result<usize> {
    let sql = "select count(*) from pg_stat_activity where application_name = 'fidibus-auth'";
    let output = Command::new("psql").args([url, "--no-psqlrc", "-At", "-c", sql]).output()?;
    String::from_utf8(output.stdout)?.trim().parse().context("psql answered no number")
}

/// Keeps this process, and what it starts from now on, off the server's core.
pub fn stand_aside() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-apc", &GENERATOR_CORE.to_string(), &pid])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "taskset cannot pin this process");
    Ok(())
}

/// A folder for what a run leaves, empty.
pub fn scratch() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join("fidibus-bench-logins");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
