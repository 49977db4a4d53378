//! Scripts for the connection machine: what goes in, what must come out, under virtual time.
//!
//! One line is one step. `>` a frame of the client, `=` an answer to a request, `!` another input, `@` time
//! that passes (with the time-out delivered when it is due), `<` an output that must follow, in order and
//! nothing else, `#` a comment. Addresses are written `name` or `name+session`, `-` is the empty name and `~`
//! a y-websocket frame, which has none. Requests are numbered `#1`, `#2`, … as they appear. Bodies are text.

mod client;

use std::time::{Duration, Instant};

use bytes::Bytes;
pub use client::{frame, options};
use fidibus_core::auth::Access;
use fidibus_core::connection::{Completion, Connection, ConnectionOptions, Input, Output, Request, Ticket};
use fidibus_core::error::CloseReason;
use fidibus_core::id::{ConnectionId, SessionKey};
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::message::{Inbound, Text};
use fidibus_core::protocol::varint::Reader;

/// Runs a script against a connection with [`options`].
#[track_caller]
pub fn check(script: &str) {
    check_with(options(), script);
}

/// Runs a script.
#[track_caller]
pub fn check_with(options: ConnectionOptions, script: &str) {
    let now = Instant::now();
    let mut run =
        Run { connection: Connection::new(ConnectionId(7), options, now), now, tickets: Vec::new() };
    let lines: Vec<_> =
        script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let mut transcript = String::new();
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        transcript += &format!("  {line}\n");
        run.step(line);
        let mut expected = Vec::new();
        while let Some(output) = lines.next_if(|line| line.starts_with('<')) {
            expected.push(output[1..].trim().to_owned());
        }
        let seen = run.outputs();
        assert!(seen == expected, "after\n{transcript}expected {expected:#?}\nbut saw {seen:#?}");
        transcript.extend(seen.iter().map(|output| format!("  < {output}\n")));
    }
}

struct Run {
    connection: Connection,
    now: Instant,
    tickets: Vec<Ticket>,
}

impl Run {
    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let input = match words[..] {
            [">", "text"] => Input::TextFrame,
            [">", ref words @ ..] => Input::Frame(frame(words)),
            ["=", ticket, ref answer @ ..] => {
                let index: usize = ticket[1..].parse().unwrap();
                Input::Completed(self.tickets[index - 1], completion(answer))
            }
            ["!", "access", session, access] => Input::AccessChanged(key(session), parse_access(access)),
            ["!", "end", session, ref reason @ ..] => Input::CloseSession(key(session), close_reason(reason)),
            ["!", "timeout"] => Input::Timeout,
            ["!", "ended"] => Input::Ended,
            ["!", "closed"] => Input::Closed,
            ["!", "unread"] => return self.connection.forgive_silence(self.now),
            ["@", seconds] => {
                self.now += Duration::from_millis((seconds.parse::<f64>().unwrap() * 1000.0) as u64);
                match self.connection.poll_timeout() {
                    Some(deadline) if deadline <= self.now => Input::Timeout,
                    _ => return,
                }
            }
            _ => panic!("what is {line:?}?"),
        };
        self.connection.handle_input(input, self.now);
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(output) = self.connection.poll_output() {
            seen.push(self.describe(output).trim_end().to_owned());
        }
        seen
    }

    fn describe(&mut self, output: Output) -> String {
        match output {
            Output::Send(bytes) => format!("send {}", describe_frame(&bytes, self.connection.dialect())),
            Output::Deliver(session, message) => format!("deliver {} {}", session.number, describe(&message)),
            Output::Leave(session, reason) => format!("leave {} {reason}", session.number),
            Output::Close(reason) => format!("close {reason}"),
            Output::Request(ticket, request) => {
                assert!(!self.tickets.contains(&ticket), "{ticket:?} was used before");
                self.tickets.push(ticket);
                format!("#{} {}", self.tickets.len(), describe_request(request))
            }
        }
    }
}

fn describe_request(request: Request) -> String {
    match request {
        Request::Authenticate { session, address, token, provider_version, dialect } => {
            assert_eq!(session.connection, ConnectionId(7));
            let token = token.map_or("none".into(), |token| format!("{token:?}"));
            let version = provider_version.map_or(String::new(), |version| format!(" version {version}"));
            let dialect = if dialect == Dialect::YWebsocket { " y-websocket" } else { "" };
            let address = show(&address.to_wire());
            format!("authenticate {} {address} token {token}{version}{dialect}", session.number)
        }
        Request::Join { session, address, access, .. } => {
            format!("join {} {} {access:?}", session.number, show(&address.to_wire()))
        }
        Request::Admit { session, message, .. } => {
            format!("admit {} {}", session.number, describe(&message))
        }
        Request::TokenSync { session, token } => format!("token {} {token:?}", session.number),
    }
}

fn describe(message: &Inbound) -> String {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    match message {
        Inbound::SyncStep1(body) => format!("step1 {}", text(body)),
        Inbound::SyncStep2(body) => format!("step2 {}", text(body)),
        Inbound::Update(body) => format!("update {}", text(body)),
        Inbound::Awareness(body) => format!("awareness {}", text(body)),
        Inbound::QueryAwareness => "query".into(),
        Inbound::Stateless(payload) => format!("stateless {payload}"),
    }
}

/// What a server's frame says: auth and close messages only, as the machine sends no others.
fn describe_frame(bytes: &[u8], dialect: Option<Dialect>) -> String {
    if bytes == [10] {
        return "pong".into();
    }
    let mut reader = Reader::new(bytes);
    let address = match dialect {
        Some(Dialect::YWebsocket) => "~".into(),
        _ => show(reader.var_string().unwrap()),
    };
    let kind = (reader.var_uint().unwrap(), address.as_str());
    let what = match kind {
        (7, _) => "close",
        (2, "~") if reader.var_uint() == Ok(0) => "denied",
        (2, _) => match reader.var_uint().unwrap() {
            1 => "denied",
            2 => "authenticated",
            other => panic!("auth message {other}"),
        },
        other => panic!("message {other:?}"),
    };
    let text = reader.var_string().unwrap();
    assert!(reader.is_empty());
    format!("{address} {what} {text}")
}

fn completion(words: &[&str]) -> Completion {
    match *words {
        ["granted", access] => Completion::Granted(parse_access(access)),
        ["denied", reason, code] => Completion::Denied {
            reason: Text::from(reason),
            close: CloseReason::new(code.parse().unwrap(), reason.to_owned()),
        },
        ["joined"] => Completion::Joined,
        ["admitted", "update", text] => Completion::Admitted(Inbound::Update(text.to_owned().into())),
        ["dropped"] => Completion::Dropped,
        ["rejected", ref reason @ ..] => Completion::Rejected(close_reason(reason)),
        ["synced"] => Completion::Synced,
        _ => panic!("what is {words:?}?"),
    }
}

fn close_reason(words: &[&str]) -> CloseReason {
    CloseReason::new(words[0].parse().unwrap(), words[1..].join(" "))
}

fn parse_access(access: &str) -> Access {
    match access {
        "rw" => Access::ReadWrite,
        "ro" => Access::ReadOnly,
        other => panic!("what is {other:?}?"),
    }
}

fn key(number: &str) -> SessionKey {
    SessionKey { connection: ConnectionId(7), number: number.parse().unwrap() }
}

fn show(address: &str) -> String {
    if address.is_empty() { "-".into() } else { address.replace('\0', "+") }
}
