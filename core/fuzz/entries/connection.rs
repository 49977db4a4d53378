//! Drives the connection machine as whatever peer, hooks and clock the fuzzer invents, and holds it to its promises:
//! nothing follows Close, only open sessions deliver, a session that somebody knows of leaves exactly once.
//!
//! An input is a chain of steps: a byte that says what happens, one with its detail, and for a frame its bytes, whose
//! number is the detail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::config::Limits;
use fidibus_core::connection::{Completion, Connection, ConnectionOptions, Input, Output, Request, Ticket};
use fidibus_core::error::CloseReason;
use fidibus_core::id::{ConnectionId, DocumentName, SessionKey};
use fidibus_core::protocol::message::{Inbound, Text};

const ID: ConnectionId = ConnectionId(7);

/// One input.
pub fn run(input: &[u8]) {
    let Some((options, mut rest)) = input.split_first() else { return };
    let mut driver = Driver::new(*options);
    while let [step, detail, tail @ ..] = rest {
        let len = if step % 8 < 3 { usize::from(*detail).min(tail.len()) } else { 0 };
        let (frame, after) = tail.split_at(len);
        rest = after;
        driver.step(*step, *detail, frame);
    }
    driver.input(Input::Closed);
    assert!(driver.connection.is_over());
}

#[derive(Default)]
struct Known {
    open: bool,
    left: bool,
}

struct Driver {
    connection: Connection,
    now: Instant,
    asked: Vec<(Ticket, Request)>,
    sessions: HashMap<u32, Known>,
    closed: bool,
}

impl Driver {
    fn new(options: u8) -> Self {
        let limits = Limits {
            unauthenticated_bytes_max: 300,
            unauthenticated_messages_max: 5,
            pending_documents_max: 3,
            sessions_per_connection_max: 6,
            session_queue_bytes_max: 400,
            message_bytes_max: 200,
            ..Limits::default()
        };
        let options = ConnectionOptions {
            limits: Arc::new(limits),
            timeout: Duration::from_secs(60),
            admit: options & 1 == 1,
            token_optional: options & 2 == 2,
            dialect: None,
            path_document: (options & 4 == 4).then(|| DocumentName::parse("path").expect("a name")),
        };
        let now = Instant::now();
        let connection = Connection::new(ID, options, now);
        Self { connection, now, asked: Vec::new(), sessions: HashMap::new(), closed: false }
    }

    fn step(&mut self, step: u8, detail: u8, frame: &[u8]) {
        match step % 8 {
            0..3 => self.input(Input::Frame(Bytes::copy_from_slice(frame))),
            3 | 4 if self.asked.is_empty() => {}
            // Mostly what was asked for, or no session would ever open.
            3 | 4 => {
                let (ticket, request) = self.asked.remove(usize::from(detail >> 4) % self.asked.len());
                let answer = self.answer(&request, detail % 16);
                self.input(Input::Completed(ticket, answer));
            }
            5 => {
                self.now += Duration::from_secs(u64::from(detail));
                self.input(Input::Timeout);
            }
            6 => self.input(Input::Completed(Ticket(u64::from(detail >> 4)), Completion::Synced)),
            _ => self.input(match detail % 8 {
                0 => Input::Ended,
                1 => Input::TextFrame,
                2 => Input::Closed,
                3..6 => Input::CloseSession(key(detail >> 4), CloseReason::RESET_CONNECTION),
                6 => Input::AccessChanged(key(detail >> 4), Access::ReadOnly),
                _ => Input::AccessChanged(key(detail >> 4), Access::ReadWrite),
            }),
        }
    }

    fn answer(&mut self, request: &Request, answer: u8) -> Completion {
        match (request, answer) {
            (Request::Authenticate { session, .. }, 15) => {
                // The answer itself ends what is known of it, unless it had left before.
                self.sessions.remove(&session.number);
                denied()
            }
            (Request::Authenticate { .. }, 14) => Completion::Granted(Access::ReadOnly),
            (Request::Authenticate { .. }, _) => Completion::Granted(Access::ReadWrite),
            (Request::Join { .. }, 15) => denied(),
            (Request::Join { session, .. }, _) => {
                if let Some(known) = self.sessions.get_mut(&session.number) {
                    known.open = true;
                }
                Completion::Joined
            }
            (Request::Admit { .. }, 13) => Completion::Admitted(Inbound::QueryAwareness),
            (Request::Admit { .. }, 14) => Completion::Dropped,
            (Request::Admit { .. } | Request::TokenSync { .. }, 15) => {
                Completion::Rejected(CloseReason::FORBIDDEN)
            }
            (Request::Admit { message, .. }, _) => Completion::Admitted(message.clone()),
            (Request::TokenSync { .. }, _) => Completion::Synced,
        }
    }

    fn input(&mut self, input: Input) {
        self.connection.handle_input(input, self.now);
        while let Some(output) = self.connection.poll_output() {
            assert!(!self.closed, "{output:?} after Close");
            match output {
                Output::Send(_) => {}
                Output::Request(ticket, request) => {
                    if let Request::Authenticate { session, .. } = &request {
                        assert!(self.sessions.insert(session.number, Known::default()).is_none());
                    }
                    self.asked.push((ticket, request));
                }
                Output::Deliver(session, message) => {
                    let known = &self.sessions[&session.number];
                    assert!(known.open && !known.left, "{message:?} for a session that is not open");
                }
                Output::Leave(session, _) => {
                    let known = self.sessions.get_mut(&session.number).expect("a known session");
                    assert!(!std::mem::replace(&mut known.left, true), "left twice");
                }
                Output::Close(_) => self.closed = true,
            }
        }
        self.closed |= self.connection.is_over();
        if self.closed {
            assert!(self.connection.is_over() && self.connection.poll_timeout().is_none());
            assert_eq!(self.connection.sessions(), 0);
            assert!(self.sessions.values().all(|known| known.left), "a session never left");
        }
    }
}

fn denied() -> Completion {
    Completion::Denied { reason: Text::from("no"), close: CloseReason::FORBIDDEN }
}

fn key(number: u8) -> SessionKey {
    SessionKey { connection: ID, number: u32::from(number) }
}
