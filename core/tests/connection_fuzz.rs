//! Goal: whatever arrives, in whatever order, the machine neither panics nor breaks its promises.
//! Method: random frames (good, cut, mutated, noise), answers (right, late, to the wrong question), times and
//! ends, with the promises checked after every step: nothing follows Close; a session that somebody knows of
//! leaves exactly once; only open sessions deliver, in the order of arrival.
#![allow(clippy::unwrap_used, reason = "a test's helper may panic")]

#[path = "connection_script/client.rs"]
mod client;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::connection::{Completion, Connection, ConnectionOptions, Input, Output, Request, Ticket};
use fidibus_core::error::{CloseReason, ProtocolError};
use fidibus_core::id::{ConnectionId, SessionKey};
use fidibus_core::protocol::awareness;
use fidibus_core::protocol::message::{self, Inbound, Text};
use fidibus_core::protocol::varint::{SAFE_INTEGER_MAX, write_var_bytes, write_var_uint};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const KINDS: [&str; 11] = [
    "auth",
    "update",
    "update",
    "step1",
    "query",
    "stateless",
    "close",
    "unknown",
    "broadcast",
    "truncated",
    "awareness",
];
const ADDRESSES: [&str; 7] = ["a", "a", "b", "a+x", "a+y", "-", "~"];

#[derive(Clone, Debug)]
enum Step {
    Frame(&'static str, &'static str),
    Mutated(&'static str, &'static str, Vec<(Index, u8)>),
    Cut(&'static str, &'static str, Index),
    Noise(Vec<u8>),
    Answer(Index, u8),
    StaleTicket(Index, u8),
    Wait(u64),
    EndSession(u32),
    Access(u32, bool),
    Ended,
    Closed,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || select(&KINDS[..]);
    let address = || select(&ADDRESSES[..]);
    prop_oneof![
        30 => (kind(), address()).prop_map(|(kind, address)| Step::Frame(kind, address)),
        2 => (kind(), address(), vec((any::<Index>(), any::<u8>()), 1..4))
            .prop_map(|(kind, address, changes)| Step::Mutated(kind, address, changes)),
        1 => (kind(), address(), any::<Index>()).prop_map(|(kind, address, at)| Step::Cut(kind, address, at)),
        1 => vec(any::<u8>(), 0..12).prop_map(Step::Noise),
        // Mostly granted, joined and admitted, so that sessions open.
        40 => (any::<Index>(), prop_oneof![8 => Just(0), 1 => 1u8..8])
            .prop_map(|(ticket, answer)| Step::Answer(ticket, answer)),
        4 => (any::<Index>(), 0u8..8).prop_map(|(ticket, answer)| Step::StaleTicket(ticket, answer)),
        3 => (0u64..40).prop_map(Step::Wait),
        1 => (0u32..4).prop_map(Step::EndSession),
        1 => (0u32..4, any::<bool>()).prop_map(|(session, write)| Step::Access(session, write)),
        1 => Just(Step::Ended),
        1 => Just(Step::Closed),
    ]
}

/// What a driver would know of a session.
#[derive(Default)]
struct Known {
    open: bool,
    left: bool,
    last_update: u64,
}

struct Driver {
    connection: Connection,
    now: Instant,
    updates: u64,
    asked: Vec<(Ticket, Request)>,
    answered: Vec<Ticket>,
    sessions: HashMap<u32, Known>,
    closed: bool,
}

impl Driver {
    fn new(admit: bool, token_optional: bool) -> Self {
        let options = ConnectionOptions { admit, token_optional, ..client::options() };
        let now = Instant::now();
        let connection = Connection::new(ConnectionId(7), options, now);
        Self {
            connection,
            now,
            updates: 0,
            asked: Vec::new(),
            answered: Vec::new(),
            sessions: HashMap::new(),
            closed: false,
        }
    }

    fn step(&mut self, step: Step) {
        let input = match step {
            Step::Frame(kind, address) => Input::Frame(self.frame(kind, address)),
            Step::Mutated(kind, address, changes) => {
                let mut bytes = self.frame(kind, address).to_vec();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                Input::Frame(bytes.into())
            }
            Step::Cut(kind, address, at) => {
                let frame = self.frame(kind, address);
                Input::Frame(frame.slice(..at.index(frame.len())))
            }
            Step::Noise(bytes) => Input::Frame(bytes.into()),
            Step::Answer(_, _) if self.asked.is_empty() => return,
            Step::Answer(at, answer) => {
                let at = at.index(self.asked.len());
                let is_of_another_question = match self.asked[at].1 {
                    Request::Authenticate { .. } | Request::Join { .. } => answer >= 2,
                    Request::Admit { .. } => answer >= 3,
                    Request::TokenSync { .. } => false,
                };
                if is_of_another_question {
                    Input::Completed(self.asked[at].0, Completion::Synced)
                } else {
                    let (ticket, request) = self.asked.swap_remove(at);
                    self.answered.push(ticket);
                    Input::Completed(ticket, self.answer(&request, answer))
                }
            }
            Step::StaleTicket(_, _) if self.answered.is_empty() => return,
            Step::StaleTicket(at, answer) => {
                Input::Completed(self.answered[at.index(self.answered.len())], any_completion(answer))
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                Input::Timeout
            }
            Step::EndSession(number) => Input::CloseSession(key(number), CloseReason::RESET_CONNECTION),
            Step::Access(number, write) => Input::AccessChanged(key(number), access(write)),
            Step::Ended => Input::Ended,
            Step::Closed => Input::Closed,
        };
        self.input(input);
    }

    /// A frame whose body is a number that counts up over the connection.
    fn frame(&mut self, kind: &str, address: &str) -> Bytes {
        self.updates += 1;
        match kind {
            "query" | "close" | "truncated" => client::frame(&[kind, address]),
            _ => client::frame(&[kind, address, &self.updates.to_string()]),
        }
    }

    fn answer(&mut self, request: &Request, answer: u8) -> Completion {
        match (request, answer) {
            (Request::Authenticate { .. }, 0) => Completion::Granted(Access::ReadWrite),
            (Request::Authenticate { session, .. }, 1) => {
                // The answer itself ends what is known of it, unless it had left before.
                self.sessions.remove(&session.number);
                denied()
            }
            (Request::Join { session, .. }, 0) => {
                if let Some(known) = self.sessions.get_mut(&session.number) {
                    known.open = true;
                }
                Completion::Joined
            }
            (Request::Join { .. }, 1) => denied(),
            (Request::Admit { message, .. }, 0) => Completion::Admitted(message.clone()),
            (Request::Admit { .. }, 1) => Completion::Rejected(CloseReason::FORBIDDEN),
            (Request::TokenSync { .. }, 0) => Completion::Synced,
            (Request::Admit { .. }, 2) => Completion::Dropped,
            (_, answer) => any_completion(answer),
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
                    let known = self.sessions.get_mut(&session.number).unwrap();
                    assert!(known.open && !known.left, "{message:?} for a session that is not open");
                    if let Inbound::Update(body) = message
                        && let Some(update) = number(&body)
                    {
                        assert!(known.last_update < update, "{update} after {}", known.last_update);
                        known.last_update = update;
                    }
                }
                Output::Leave(session, _) => {
                    let known = self.sessions.get_mut(&session.number).unwrap();
                    assert!(!known.left, "left twice");
                    known.left = true;
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

/// The number in a body, unless a mutation got at it.
fn number(body: &Bytes) -> Option<u64> {
    std::str::from_utf8(body).ok()?.parse().ok().filter(|&number| number < 1_000_000)
}

fn any_completion(answer: u8) -> Completion {
    match answer {
        0 => Completion::Granted(Access::ReadOnly),
        1 => denied(),
        2 => Completion::Joined,
        3 => Completion::Admitted(Inbound::QueryAwareness),
        4 => Completion::Dropped,
        5 => Completion::Rejected(CloseReason::FORBIDDEN),
        _ => Completion::Synced,
    }
}

fn denied() -> Completion {
    Completion::Denied { reason: Text::from("no"), close: CloseReason::FORBIDDEN }
}

fn key(number: u32) -> SessionKey {
    SessionKey { connection: ConnectionId(7), number }
}

fn access(write: bool) -> Access {
    if write { Access::ReadWrite } else { Access::ReadOnly }
}

/// Text that is nearly JSON.
fn jsonish() -> impl Strategy<Value = String> {
    let piece = select(
        &[
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "\"", "\\", "null", "true", "1", "-0.5", "01",
            " ",
        ][..],
    );
    let json = any::<(bool, i32)>()
        .prop_map(|(truth, number)| format!(r#"{{"a":[{truth},{number},{{}}],"b":[],"c":"\"ü"}}"#));
    prop_oneof![vec(piece, 0..12).prop_map(|pieces| pieces.concat()), json]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold(steps in vec(step(), 1..80), admit: bool, token_optional: bool) {
        let mut driver = Driver::new(admit, token_optional);
        steps.into_iter().for_each(|step| driver.step(step));
        driver.input(Input::Closed);
        prop_assert!(driver.connection.is_over());
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in vec(any::<u8>(), 0..64)) {
        message::detect(&bytes);
        if let Ok(entries) = awareness::scan(&bytes) {
            let len = entries.len();
            prop_assert_eq!(entries.count(), len);
        }
        let frame = Bytes::from(bytes);
        let _ = (message::parse_hocuspocus(&frame), message::parse_y_websocket(&frame), message::split_hocuspocus(&frame));
    }

    #[test]
    fn awareness_updates_survive(
        entries in vec((0..=SAFE_INTEGER_MAX, 0..=awareness::CLOCK_MAX, jsonish()), 0..6),
        cut in any::<Index>(),
    ) {
        let encoded = awareness::encode(
            entries.iter().map(|(client, clock, state)| awareness::Entry { client: *client, clock: *clock, state }),
        );
        // serde_json is the judge of the syntax.
        let is_json = entries.iter().all(|(_, _, state)| serde_json::from_str::<serde_json::Value>(state).is_ok());
        prop_assert_eq!(awareness::scan(&encoded).is_ok(), is_json);
        prop_assert!(awareness::scan(&encoded[..cut.index(encoded.len())]).is_err());
    }

    #[test]
    fn awareness_counts_are_not_believed(count in 1..=SAFE_INTEGER_MAX, rest in vec(any::<u8>(), 0..8)) {
        let mut update = Vec::new();
        write_var_uint(&mut update, count + rest.len() as u64 / 4);
        update.extend(&rest);
        let error = awareness::scan(&update).unwrap_err();
        prop_assert!(matches!(error, ProtocolError::UnexpectedEnd | ProtocolError::NumberOutOfRange));
    }

    #[test]
    fn frames_of_any_size_round_trip(address in "[a-zü]{1,300}", body in vec(any::<u8>(), 0..500)) {
        let mut frame = Vec::new();
        write_var_bytes(&mut frame, address.as_bytes());
        frame.extend([0, 2]);
        write_var_bytes(&mut frame, &body);
        let (read, message) = message::parse_hocuspocus(&frame.into()).unwrap();
        prop_assert_eq!(read.as_str(), address);
        prop_assert_eq!(message, message::Message::Room(Inbound::Update(body.into())));
    }
}
