//! One document on one connection: its state, and what waits for it.
//!
//! Theory of operation: a session is made by the first message to an address. Until it is let in, its
//! messages wait under the limits for unauthenticated peers; then under that for authenticated ones,
//! while the room is joined or a hook looks at a message. The queue holds raw frames, so that what is
//! queued passes through the same code as what is not, in the order it came. The machine (`machine.rs`)
//! carries out what this table says:
//!
//! | state | message for the room | Auth | CLOSE | completion |
//! |---|---|---|---|---|
//! | – (no session) | → Waiting, queue (`token_optional`: → Authenticating, request, queue) | → Authenticating, request | ignored | ignored |
//! | Waiting | queue | → Authenticating, request | → – | – |
//! | Authenticating | queue | queue | queue | Granted: send Authenticated, → Joining, request · Denied: send PermissionDenied, → – |
//! | Joining | queue | queue | queue | Joined: → Open, handle the queue · Denied: Leave, send PermissionDenied, → – |
//! | Open | deliver (`admit`: request, → Admitting) | request TokenSync | Leave, send Close, → – | TokenSync Rejected: Leave, send Close, → – |
//! | Admitting | queue | queue | queue | Admitted: deliver, → Open, handle the queue · Dropped: → Open, handle the queue · Rejected: Leave, send Close, → – |
//!
//! `token_optional` holds for a peer that never sent a token and was never refused: a provider with a wrong
//! token sends its first messages in the same breath, and is to be asked about once.
//!
//! A denial that may pass (1012, 1013) closes the socket instead of sending PermissionDenied, where it is the
//! only session: providers come back from the one and not from the other.
//!
//! In every state: a message that cannot be read closes the socket before Joining and the session
//! after; an unknown type is ignored. What is queued behind a CLOSE is taken as if it had come after it, so a
//! provider can detach and attach again before its first join is through. A y-websocket peer has one
//! session, is never sent Authenticated or Close, and loses the socket with the session.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::Ticket;
use crate::auth::Access;
use crate::id::{ADDRESS_SEPARATOR, Address, DocumentName};
use crate::protocol::message::Text;

/// See the table above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Waiting,
    Authenticating,
    Joining,
    Open,
    Admitting,
}

impl State {
    /// Whether the session has been let in. Its queue counts to another limit then.
    pub(super) fn is_authenticated(self) -> bool {
        !matches!(self, Self::Waiting | Self::Authenticating)
    }
}

/// The onTokenSync of a session.
#[derive(Debug)]
enum TokenSync {
    Idle,
    /// One is out; the latest token that came meanwhile.
    Running {
        request: u32,
        next: Option<Box<Text>>,
    },
}

/// One session. Small, as idle connections have one each.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: Address,
    pub(super) number: u32,
    /// How many requests it has made; the number of the latest.
    requests: u32,
    /// The request that [`State`] waits for.
    gate: u32,
    pub(super) access: Access,
    pub(super) state: State,
    token_sync: TokenSync,
    /// Frames that wait; only [`super::sessions`] adds and takes, as it counts them. There while some do: an
    /// open session has none.
    #[expect(
        clippy::box_collection,
        reason = "24 bytes less for each of the many sessions that queue nothing"
    )]
    pub(super) queue: Option<Box<VecDeque<Bytes>>>,
}

impl Session {
    pub(super) fn new(address: Address, number: u32) -> Self {
        Self {
            address,
            number,
            requests: 0,
            gate: 0,
            access: Access::ReadOnly,
            state: State::Waiting,
            token_sync: TokenSync::Idle,
            queue: None,
        }
    }

    /// The order of sessions in their connection: by address as it is written.
    pub(super) fn sort_key(&self) -> (&str, Option<&str>) {
        (self.address.document().as_str(), self.address.session_id())
    }

    /// Moves into a state that waits for the answer to the ticket returned.
    pub(super) fn wait_in(&mut self, state: State) -> Ticket {
        self.state = state;
        self.requests = self.requests.wrapping_add(1);
        self.gate = self.requests;
        ticket(self.number, self.requests)
    }

    /// Whether messages of a client that was let in still wait for a hook or a load.
    pub(super) fn has_undelivered(&self) -> bool {
        match self.state {
            State::Waiting | State::Authenticating => false,
            State::Joining | State::Open => self.queue.is_some(),
            State::Admitting => true,
        }
    }

    /// Whether `ticket` is the one that the state waits for.
    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        self.state != State::Waiting && self.state != State::Open && request_of(ticket) == self.gate
    }

    /// Takes a fresh token: the ticket to ask with, or `None` while an earlier one is out.
    pub(super) fn sync_token(&mut self, token: Text) -> Option<(Ticket, Text)> {
        if let TokenSync::Running { next, .. } = &mut self.token_sync {
            *next = Some(Box::new(token));
            return None;
        }
        self.requests = self.requests.wrapping_add(1);
        self.token_sync = TokenSync::Running { request: self.requests, next: None };
        Some((ticket(self.number, self.requests), token))
    }

    /// Whether `ticket` is that of the token sync that is out.
    pub(super) fn syncs_token_with(&self, ticket: Ticket) -> bool {
        matches!(self.token_sync, TokenSync::Running { request, .. } if request == request_of(ticket))
    }

    /// The token sync is done; the token to go on with.
    pub(super) fn token_synced(&mut self) -> Option<Text> {
        match mem::replace(&mut self.token_sync, TokenSync::Idle) {
            TokenSync::Running { next, .. } => next.map(|token| *token),
            TokenSync::Idle => None,
        }
    }
}

/// The longest address that is answered when it is refused.
pub(super) const ADDRESS_BYTES_MAX: usize = DocumentName::BYTES_MAX + 1 + Address::SESSION_ID_BYTES_MAX;

/// Splits an address as it came into what [`Session::sort_key`] compares.
pub(super) fn split_address(address: &str) -> (&str, Option<&str>) {
    match address.split_once(ADDRESS_SEPARATOR) {
        Some((document, session_id)) if !session_id.is_empty() => (document, Some(session_id)),
        Some((document, _)) => (document, None),
        None => (address, None),
    }
}

/// The session that a ticket belongs to. Numbers are never used twice, so a late answer finds nobody.
pub(super) fn session_of(ticket: Ticket) -> u32 {
    (ticket.0 >> 32) as u32
}

fn request_of(ticket: Ticket) -> u32 {
    ticket.0 as u32
}

fn ticket(session: u32, request: u32) -> Ticket {
    Ticket(u64::from(session) << 32 | u64::from(request))
}
