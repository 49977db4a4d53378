//! The machine: carries out the table of `session.rs`, keeps the limits and the deadline.
//!
//! Two rules. After [`Output::Close`] nothing follows. A limit that is reached closes the socket; no message
//! is dropped silently from a session that was let in.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::session::{ADDRESS_BYTES_MAX, Session, State, session_of};
use super::sessions::Sessions;
use super::{Completion, ConnectionOptions, Input, Output, Request, Ticket};
use crate::auth::Access;
use crate::error::{CloseReason, ProtocolError};
use crate::id::{Address, ConnectionId, SessionKey};
use crate::protocol::Dialect;
use crate::protocol::frame::{self, Prefix};
use crate::protocol::message::{Inbound, Message, Text, detect, parse_y_websocket, split_hocuspocus};

/// What Hocuspocus tells where an error has no reason of its own (`ClientConnection.ts`, 516).
const PERMISSION_DENIED: &str = "permission-denied";

type Parsed = Result<Message, ProtocolError>;

/// Whether a connection still takes and yields anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Live,
    /// The socket is gone, queues are delivered.
    Ended,
    Closed,
}

/// One socket. See the module's description for how to drive it.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    options: ConnectionOptions,
    phase: Phase,
    dialect: Option<Dialect>,
    /// Some session has been let in. For good: a client that closes all its documents keeps the idle
    /// time-out instead of the deadline (`ClientConnection.ts`, 88–92).
    authenticated: bool,
    /// Construction before authentication, the last frame after.
    quiet_since: Instant,
    sessions: Sessions,
    ignored_frames: u64,
    has_refused_document: bool,
    /// The peer has sent a token, or was refused without: what comes without one waits for one.
    sends_tokens: bool,
    /// The output of nearly every frame: kept out of `outputs`, which then needs no memory.
    deliver: Option<(u32, Inbound)>,
    outputs: VecDeque<Output>,
}

impl Connection {
    /// A connection whose socket was opened at `now`.
    pub fn new(id: ConnectionId, options: ConnectionOptions, now: Instant) -> Self {
        Self {
            id,
            dialect: options.dialect,
            options,
            phase: Phase::Live,
            authenticated: false,
            quiet_since: now,
            sessions: Sessions::default(),
            ignored_frames: 0,
            has_refused_document: false,
            sends_tokens: false,
            deliver: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards; [`Self::poll_timeout`] may have changed.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        match (self.phase, input) {
            (Phase::Closed, _) => {}
            (_, Input::Closed) => {
                self.leave_all(&CloseReason::GONE);
                self.phase = Phase::Closed;
            }
            (_, Input::Completed(ticket, completion)) => self.complete(ticket, completion, now),
            (_, Input::AccessChanged(key, access)) => self.change_access(key, access),
            (_, Input::CloseSession(key, reason)) => {
                if let Some(at) = self.sessions.index_of(key.number) {
                    self.end_session(at, reason);
                }
            }
            (Phase::Ended, _) => {}
            (Phase::Live, Input::Frame(frame)) => self.receive(frame, now),
            (Phase::Live, Input::TextFrame) => self.close(CloseReason::TEXT_FRAME),
            (Phase::Live, Input::Timeout) => {
                if self.poll_timeout().is_some_and(|deadline| deadline <= now) {
                    self.close(self.timeout_reason());
                }
            }
            (Phase::Live, Input::Ended) => self.phase = Phase::Ended,
        }
        if self.phase == Phase::Ended {
            self.leave_finished();
        }
    }

    /// The next thing to do; call it until there is none.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some((number, inbound)) = self.deliver.take() {
            return Some(Output::Deliver(self.key(number), inbound));
        }
        let output = self.outputs.pop_front()?;
        if self.outputs.is_empty() {
            // An idle connection keeps no buffer.
            self.outputs = VecDeque::new();
        }
        Some(output)
    }

    /// When [`Input::Timeout`] is due; changes with every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Live if self.authenticated => self.quiet_since.checked_add(self.options.timeout),
            Phase::Live => {
                let max = self.options.limits.unauthenticated_max.unwrap_or(self.options.timeout);
                self.quiet_since.checked_add(max)
            }
            Phase::Ended | Phase::Closed => None,
        }
    }

    /// Whether nothing more can come out of it (after the outputs that are left).
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How the peer speaks, once known.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// How many sessions there are, in whatever state.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether this session is there, in whatever state.
    pub fn has_session(&self, key: SessionKey) -> bool {
        self.sessions.index_of(key.number).is_some()
    }

    /// How many frames were ignored because their type is not known.
    pub fn ignored_frames(&self) -> u64 {
        self.ignored_frames
    }

    /// Whether the last frame asked for a document that was refused, because as many were open as may be.
    pub fn take_refused_document(&mut self) -> bool {
        std::mem::take(&mut self.has_refused_document)
    }

    /// Whether anybody on this socket was ever let in.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Before-hooks came or went. Holds for messages from now on.
    pub fn set_admit(&mut self, admit: bool) {
        self.options.admit = admit;
    }

    /// Nobody read from the socket until `now` (back-pressure): an authenticated peer's silence counts from here.
    pub fn forgive_silence(&mut self, now: Instant) {
        if self.authenticated {
            self.quiet_since = now;
        }
    }

    fn receive(&mut self, frame: Bytes, now: Instant) {
        if frame.len() > self.options.limits.message_bytes_max {
            return self.close(CloseReason::MESSAGE_TOO_BIG);
        }
        self.forgive_silence(now);
        let is_first = self.dialect.is_none();
        match *self.dialect.get_or_insert_with(|| detect(&frame)) {
            Dialect::Hocuspocus => self.receive_hocuspocus(frame, is_first),
            Dialect::YWebsocket => self.receive_y_websocket(frame),
        }
    }

    fn receive_hocuspocus(&mut self, frame: Bytes, is_first: bool) {
        let (address, parsed) = match split_hocuspocus(&frame) {
            Ok((_, Ok(Message::Ping))) => return self.send(frame::pong()),
            Ok((_, Ok(Message::Pong))) => return,
            Ok(parts) => parts,
            Err(_) => return self.close_malformed(),
        };
        // Not so Auth and CLOSE: a session-aware provider can share its socket with a plain one of the same
        // document, whose session they would hit.
        let may_fall_back = matches!(parsed, Ok(Message::Room(_)) | Err(_));
        match self.sessions.find(address, may_fall_back) {
            Some(at) => self.take(at, frame, parsed),
            None => self.open(address.to_owned(), frame, parsed, is_first),
        }
    }

    fn receive_y_websocket(&mut self, frame: Bytes) {
        let parsed = parse_y_websocket(&frame);
        if !self.sessions.is_empty() {
            return self.take(0, frame, parsed);
        }
        match (parsed, self.options.path_document.clone()) {
            (Err(ProtocolError::UnknownMessage(_)), _) => self.ignored_frames += 1,
            (Err(_), _) => self.close_malformed(),
            (Ok(_), None) => {
                self.send_permission_denied(&Prefix::none(), "the URL names no document");
                self.close(CloseReason::FORBIDDEN);
            }
            (Ok(_), Some(document)) => {
                let at = self.sessions.insert(document.into());
                self.authenticate(at, None, None);
                self.queue(at, frame);
            }
        }
    }

    /// A message to an address without a session.
    fn open(&mut self, raw: String, frame: Bytes, parsed: Parsed, is_first: bool) {
        let message = match parsed {
            Ok(Message::Close | Message::Ping | Message::Pong) => return,
            Err(ProtocolError::UnknownMessage(_)) => return self.ignored_frames += 1,
            Err(_) => return self.close_malformed(),
            Ok(message) => message,
        };
        let limits = &self.options.limits;
        let address = match Address::parse(&raw) {
            Ok(_) if !self.sessions.may_start(limits) => return self.close(CloseReason::RESET_CONNECTION),
            Ok(address) if self.sessions.len() < limits.sessions_per_connection_max => address,
            // Refused like any denial, without asking anybody: stock lets a blank name through its auth hooks
            // and fails in createDocument. What follows an Auth message in the same breath is passed over.
            address => match message {
                Message::Auth { .. } if raw.len() <= ADDRESS_BYTES_MAX => {
                    self.has_refused_document = address.is_ok();
                    return self.send_permission_denied(&Prefix::of_wire_address(&raw), PERMISSION_DENIED);
                }
                _ if is_first => return self.close(CloseReason::FORBIDDEN),
                _ => return,
            },
        };
        let at = self.sessions.insert(address);
        self.take(at, frame, Ok(message));
    }

    /// A message of a session: the columns "message", "Auth" and "CLOSE" of the table.
    fn take(&mut self, at: usize, frame: Bytes, parsed: Parsed) {
        match (self.sessions[at].state, parsed) {
            (State::Joining | State::Admitting, _) => self.queue(at, frame),
            (_, Err(ProtocolError::UnknownMessage(_))) => self.ignored_frames += 1,
            (State::Waiting | State::Authenticating, Err(_)) => self.close_malformed(),
            (State::Waiting, Ok(Message::Auth { token, provider_version })) => {
                self.sends_tokens = true;
                self.authenticate(at, Some(token), provider_version);
            }
            (State::Waiting, Ok(Message::Close)) => {
                self.sessions.remove(at);
            }
            (State::Waiting, Ok(_)) => {
                if self.options.token_optional && !self.sends_tokens {
                    self.authenticate(at, None, None);
                }
                self.queue(at, frame);
            }
            (State::Authenticating, Ok(_)) => self.queue(at, frame),
            (State::Open, Err(error)) => self.end_session(at, error.into()),
            (State::Open, Ok(Message::Room(inbound))) => self.deliver_or_admit(at, inbound, frame),
            (State::Open, Ok(Message::Auth { token, .. })) => {
                if let Some((ticket, token)) = self.sessions[at].sync_token(token) {
                    self.request_token_sync(at, ticket, token);
                }
            }
            (State::Open, Ok(Message::Close)) => self.end_session(at, CloseReason::PROVIDER_INITIATED),
            (State::Open, Ok(Message::Ping | Message::Pong)) => {}
        }
    }

    /// An answer: the last column of the table.
    fn complete(&mut self, ticket: Ticket, completion: Completion, now: Instant) {
        let Some(at) = self.sessions.index_of(session_of(ticket)) else { return };
        let session = &mut self.sessions[at];
        if session.syncs_token_with(ticket) {
            match completion {
                Completion::Rejected(reason) => self.end_session(at, reason),
                _ => self.token_synced(at),
            }
            return;
        }
        if !session.waits_for(ticket) {
            return;
        }
        match (session.state, completion) {
            (State::Authenticating, Completion::Granted(access)) => self.grant(at, access, now),
            (State::Authenticating | State::Joining, Completion::Denied { reason, close }) => {
                self.deny(at, &reason, close);
            }
            (State::Joining, Completion::Joined) => self.resume(at),
            (State::Admitting, Completion::Admitted(inbound)) => {
                self.emit_deliver(at, inbound);
                self.resume(at);
            }
            (State::Admitting, Completion::Dropped) => self.resume(at),
            (State::Admitting, Completion::Rejected(reason)) => self.end_session(at, reason),
            // An answer to another question: whoever asked is still waiting.
            _ => {}
        }
    }

    fn authenticate(&mut self, at: usize, token: Option<Text>, provider_version: Option<Text>) {
        let dialect = self.spoken_dialect();
        let session = &mut self.sessions[at];
        let ticket = session.wait_in(State::Authenticating);
        let (number, address) = (session.number, session.address.clone());
        let session = self.key(number);
        let request = Request::Authenticate { session, address, token, provider_version, dialect };
        self.emit(Output::Request(ticket, request));
    }

    fn grant(&mut self, at: usize, access: Access, now: Instant) {
        self.authenticated = true;
        self.quiet_since = now;
        self.sessions[at].access = access;
        self.send_authenticated(at);
        let ticket = match self.sessions.let_in(at, &self.options.limits) {
            Ok(ticket) => ticket,
            Err(reason) => return self.close(reason),
        };
        let Session { number, address, .. } = &self.sessions[at];
        let (session, address, dialect) = (self.key(*number), address.clone(), self.spoken_dialect());
        self.emit(Output::Request(ticket, Request::Join { session, address, access, dialect }));
    }

    fn deny(&mut self, at: usize, reason: &str, close: CloseReason) {
        // Once is enough: what else the peer has sent without a token is not asked about again.
        self.sends_tokens = true;
        // With the answer to Authenticate nobody holds anything for the session; with that to Join somebody does.
        let asked_to_join = self.sessions[at].state == State::Joining;
        let session =
            if asked_to_join { self.remove_and_leave(at, &close) } else { self.sessions.remove(at) };
        // A provider does not come back from PermissionDenied, but from a closed socket it does; what may pass
        // is worth that where no other session of the socket is hurt.
        let hocuspocus = self.dialect != Some(Dialect::YWebsocket);
        if hocuspocus && close.is_retryable() && self.sessions.is_empty() {
            return self.close(close);
        }
        let prefix = Prefix::new(&session.address, self.spoken_dialect());
        self.send_permission_denied(&prefix, reason);
        if !hocuspocus {
            self.close(close);
        }
    }

    fn deliver_or_admit(&mut self, at: usize, message: Inbound, frame: Bytes) {
        if !self.options.admit {
            return self.emit_deliver(at, message);
        }
        let ticket = self.sessions[at].wait_in(State::Admitting);
        let session = self.key(self.sessions[at].number);
        self.emit(Output::Request(ticket, Request::Admit { session, message, frame }));
    }

    /// Opens a session that waited and handles its queue, until a message has to wait again.
    fn resume(&mut self, at: usize) {
        self.sessions[at].state = State::Open;
        let number = self.sessions[at].number;
        // Whatever takes the session out of Open may also take it, or this index, away.
        while self.sessions.index_of(number) == Some(at) && self.sessions[at].state == State::Open {
            let Some(frame) = self.sessions.pop(at) else { return };
            let parsed = match self.spoken_dialect() {
                Dialect::Hocuspocus => split_hocuspocus(&frame).and_then(|(_, parsed)| parsed),
                Dialect::YWebsocket => parse_y_websocket(&frame),
            };
            if parsed != Ok(Message::Close) {
                self.take(at, frame, parsed);
                continue;
            }
            let behind = self.sessions.take_queue(at);
            self.end_session(at, CloseReason::PROVIDER_INITIATED);
            for frame in behind {
                if self.phase == Phase::Live {
                    self.receive_hocuspocus(frame, false);
                }
            }
        }
    }

    fn request_token_sync(&mut self, at: usize, ticket: Ticket, token: Text) {
        let session = self.key(self.sessions[at].number);
        self.emit(Output::Request(ticket, Request::TokenSync { session, token }));
    }

    fn token_synced(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        if let Some((ticket, token)) = session.token_synced().and_then(|next| session.sync_token(next)) {
            self.request_token_sync(at, ticket, token);
        }
    }

    fn change_access(&mut self, key: SessionKey, access: Access) {
        let Some(at) = self.sessions.index_of(key.number) else { return };
        let session = &mut self.sessions[at];
        if session.state.is_authenticated() && session.access != access {
            session.access = access;
            self.send_authenticated(at);
        }
    }

    /// Adds a frame to a session's queue, or closes the socket where that crosses a limit.
    fn queue(&mut self, at: usize, frame: Bytes) {
        if let Err(reason) = self.sessions.push(at, frame, &self.options.limits) {
            self.close(reason);
        }
    }

    /// Removes a session, and says so where somebody holds a grant or still works on one.
    fn remove_and_leave(&mut self, at: usize, reason: &CloseReason) -> Session {
        let session = self.sessions.remove(at);
        if session.state != State::Waiting {
            self.emit(Output::Leave(self.key(session.number), reason.clone()));
        }
        session
    }

    /// Ends a session that was let in: Hocuspocus peers are told and keep the socket, y-websocket peers lose
    /// it.
    fn end_session(&mut self, at: usize, reason: CloseReason) {
        if self.spoken_dialect() == Dialect::YWebsocket {
            return self.close(reason);
        }
        let session = self.remove_and_leave(at, &reason);
        self.send(frame::close(&Prefix::new(&session.address, Dialect::Hocuspocus), &reason.reason));
    }

    /// Closes the socket for a frame that cannot be read: with 4401 where nobody was let in yet, as
    /// `ClientConnection.ts` (635–638) does, else with 4205, which no provider takes for final.
    fn close_malformed(&mut self) {
        self.close(if self.authenticated {
            CloseReason::RESET_CONNECTION
        } else {
            CloseReason::UNAUTHORIZED
        });
    }

    fn close(&mut self, reason: CloseReason) {
        self.leave_all(&reason);
        self.emit(Output::Close(reason));
        self.phase = Phase::Closed;
    }

    fn leave_all(&mut self, reason: &CloseReason) {
        while let Some(last) = self.sessions.len().checked_sub(1) {
            self.remove_and_leave(last, reason);
        }
    }

    /// After the socket's end: lets go of the sessions that have nothing left to deliver.
    fn leave_finished(&mut self) {
        for at in (0..self.sessions.len()).rev() {
            if !self.sessions[at].has_undelivered() {
                self.remove_and_leave(at, &CloseReason::GONE);
            }
        }
        if self.sessions.is_empty() {
            self.phase = Phase::Closed;
        }
    }

    /// What a time-out closes with: 4408 as Hocuspocus, but 4401 where the peer never showed how it speaks.
    fn timeout_reason(&self) -> CloseReason {
        match self.dialect {
            None => CloseReason::UNAUTHORIZED,
            Some(Dialect::Hocuspocus) => CloseReason::CONNECTION_TIMEOUT,
            // y-websocket 3.1 takes a 44xx code for final; this peer may come back.
            Some(Dialect::YWebsocket) => {
                CloseReason { code: CloseReason::TRY_AGAIN_LATER.code, ..CloseReason::CONNECTION_TIMEOUT }
            }
        }
    }

    fn send_authenticated(&mut self, at: usize) {
        if self.spoken_dialect() == Dialect::Hocuspocus {
            let session = &self.sessions[at];
            let prefix = Prefix::new(&session.address, Dialect::Hocuspocus);
            self.send(frame::authenticated(&prefix, session.access));
        }
    }

    fn send_permission_denied(&mut self, prefix: &Prefix, reason: &str) {
        self.send(frame::permission_denied(prefix, reason, self.spoken_dialect()));
    }

    fn send(&mut self, frame: Bytes) {
        if self.phase == Phase::Live {
            self.emit(Output::Send(frame));
        }
    }

    fn emit_deliver(&mut self, at: usize, message: Inbound) {
        let number = self.sessions[at].number;
        if self.deliver.is_none() && self.outputs.is_empty() {
            self.deliver = Some((number, message));
        } else {
            self.emit(Output::Deliver(self.key(number), message));
        }
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn key(&self, number: u32) -> SessionKey {
        SessionKey { connection: self.id, number }
    }

    /// The dialect, where a session exists: its first frame has decided it.
    fn spoken_dialect(&self) -> Dialect {
        self.dialect.unwrap_or(Dialect::Hocuspocus)
    }
}
