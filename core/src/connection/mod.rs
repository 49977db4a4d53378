//! One socket as a state machine without IO, clock or tasks: it takes inputs and the time, and yields
//! outputs. Drain [`Connection::poll_output`] after every input, then wait for the next input or for
//! [`Connection::poll_timeout`].
//!
//! It finds out which dialect the peer speaks, multiplexes sessions (one document each), holds
//! the limits before authentication, and keeps the messages of a session in order. What needs
//! somebody else (authentication, hooks, a loaded document) leaves as a [`Request`] with a ticket and
//! comes back as a [`Completion`]. The transition table is in `session.rs`.

mod machine;
mod session;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use machine::Connection;

use crate::auth::Access;
use crate::config::Limits;
use crate::error::CloseReason;
use crate::id::{Address, DocumentName, SessionKey};
use crate::protocol::Dialect;
use crate::protocol::message::{Inbound, Text};

/// What a connection has to know beforehand.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The bounds, shared by all connections of a hub.
    pub limits: Arc<Limits>,
    /// How long an authenticated connection may say nothing, and the absolute deadline before that.
    pub timeout: Duration,
    /// Before-hooks exist: every message goes out as [`Request::Admit`] first.
    pub admit: bool,
    /// A Hocuspocus session may open without an Auth message, as 2.x providers without a token do; its
    /// first message then authenticates with no token, once, and only on a socket that has sent no Auth message
    /// yet. `false`: such messages wait for an Auth message until the deadline, as Hocuspocus ≥ 3 has it.
    pub token_optional: bool,
    /// How the peer speaks; `None`: its first frame tells.
    pub dialect: Option<Dialect>,
    /// The document that the URL names, for y-websocket peers.
    pub path_document: Option<DocumentName>,
}

/// Names one open [`Request`] of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// What happened to the connection.
#[derive(Debug)]
pub enum Input {
    /// A binary frame arrived.
    Frame(Bytes),
    /// A text frame arrived: closed with 1003.
    TextFrame,
    /// The time of [`Connection::poll_timeout`] has come.
    Timeout,
    /// A request was answered.
    Completed(Ticket, Completion),
    /// An open session's access was changed live (revalidation, a hook that sets `readOnly`).
    AccessChanged(SessionKey, Access),
    /// The server ends one session (its room failed, `closeConnections`, revocation); the socket stays.
    CloseSession(SessionKey, CloseReason),
    /// The socket is gone, but what it had sent shall still arrive: sessions whose messages wait for a hook
    /// or a load leave after the last of them, the others at once. Nothing is sent any more. Goes on until
    /// [`Connection::is_over`], or until [`Input::Closed`] cuts it short.
    Ended,
    /// The socket is gone: every session leaves at once.
    Closed,
}

/// What the connection wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes as one binary frame.
    Send(Bytes),
    /// Give a message to the session's room.
    Deliver(SessionKey, Inbound),
    /// Have something decided, and answer with [`Input::Completed`].
    Request(Ticket, Request),
    /// The session is over (or its authentication or join is abandoned): leave the room, forget its grant.
    /// Comes once for every session whose Authenticate was not answered with Denied.
    Leave(SessionKey, CloseReason),
    /// Close the socket; nothing follows.
    Close(CloseReason),
}

/// What the connection needs decided.
#[derive(Debug)]
pub enum Request {
    /// May this session open this document? Hocuspocus: onConnect, then onAuthenticate.
    Authenticate {
        /// The session-to-be.
        session: SessionKey,
        /// What it asks for.
        address: Address,
        /// The Auth message's token; `None`: a y-websocket peer, or a 2.x provider without a token.
        token: Option<Text>,
        /// `@hocuspocus/provider` ≥ 4 tells its version.
        provider_version: Option<Text>,
        /// How the peer speaks.
        dialect: Dialect,
    },
    /// Load the document and enter its room. Follows a granted [`Request::Authenticate`] of the session.
    Join {
        /// The session.
        session: SessionKey,
        /// Its address.
        address: Address,
        /// What it may do.
        access: Access,
        /// How the peer speaks.
        dialect: Dialect,
    },
    /// Run the before-hooks on a message; only with [`ConnectionOptions::admit`].
    Admit {
        /// The session.
        session: SessionKey,
        /// The parsed message.
        message: Inbound,
        /// The whole frame, as hooks get it.
        frame: Bytes,
    },
    /// The client answered a token request on an open session (onTokenSync). Stands in order among the
    /// session's messages but holds none of them up. One is out at a time; of tokens that come meanwhile the
    /// last follows.
    TokenSync {
        /// The session.
        session: SessionKey,
        /// The fresh token.
        token: Text,
    },
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Completion {
    /// Authenticate: granted.
    Granted(Access),
    /// Authenticate or Join: refused. Hocuspocus peers get PermissionDenied with the reason and may try
    /// again on the same socket; y-websocket peers are closed with `close`.
    Denied {
        /// What the client is told.
        reason: Text,
        /// The code for peers that are closed.
        close: CloseReason,
    },
    /// Join: the session is in the room.
    Joined,
    /// Admit: deliver this message (a hook may have rewritten it).
    Admitted(Inbound),
    /// Admit: a hook swallowed the message; go on with the next.
    Dropped,
    /// Admit or TokenSync: a hook threw; the session is closed.
    Rejected(CloseReason),
    /// TokenSync: fine.
    Synced,
}
