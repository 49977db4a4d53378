//! Writes what servers send, each frame in one allocation of its exact size.
//!
//! Every function takes the [`Prefix`] of the session, so that one form serves both dialects. Which
//! types a y-websocket peer must not get is the caller's affair, but for [`permission_denied`], which the
//! two dialects write differently.

use bytes::Bytes;

use super::varint::{var_bytes_len, var_uint_len, write_var_bytes, write_var_uint};
use super::{Dialect, auth, sync, types};
use crate::auth::Access;
use crate::id::Address;

/// What stands in front of every frame of an address: its var-string for Hocuspocus, nothing for
/// y-websocket. Frames of sessions with equal prefixes are equal, so they can be shared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix(Bytes);

impl Prefix {
    /// The prefix of a session.
    pub fn new(address: &Address, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Hocuspocus => Self::of_wire_address(&address.to_wire()),
            Dialect::YWebsocket => Self::none(),
        }
    }

    /// The prefix of y-websocket.
    pub const fn none() -> Self {
        Self(Bytes::new())
    }

    /// The prefix for an address as it came, also one that names no document: to refuse it.
    pub fn of_wire_address(address: &str) -> Self {
        let mut out = Vec::with_capacity(var_bytes_len(address.len()));
        write_var_bytes(&mut out, address.as_bytes());
        Self(out.into())
    }

    /// Whether it is y-websocket's.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a frame carries that goes to many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// Of [`sync_step2`].
    SyncStep2,
    /// Of [`update`].
    Update,
    /// Of [`awareness`].
    Awareness,
}

impl Body {
    fn numbers(self) -> &'static [u64] {
        match self {
            Self::SyncStep2 => &[types::SYNC, sync::STEP2],
            Self::Update => &[types::SYNC, sync::UPDATE],
            Self::Awareness => &[types::AWARENESS],
        }
    }

    /// The whole frame.
    pub fn frame(self, prefix: &Prefix, body: &[u8]) -> Bytes {
        frame(prefix, self.numbers(), Some(body))
    }

    /// All of the frame that stands in front of a body of this length, so that sessions with different
    /// addresses can share a large body.
    pub fn head(self, prefix: &Prefix, body_bytes: usize) -> Bytes {
        let mut out =
            Vec::with_capacity(prefix.len() + self.numbers().len() + var_uint_len(body_bytes as u64));
        out.extend_from_slice(&prefix.0);
        for &number in self.numbers() {
            write_var_uint(&mut out, number);
        }
        write_var_uint(&mut out, body_bytes as u64);
        out.into()
    }
}

/// Sync step 1: the state vector of what we have.
pub fn sync_step1(prefix: &Prefix, state_vector: &[u8]) -> Bytes {
    frame(prefix, &[types::SYNC, sync::STEP1], Some(state_vector))
}

/// Sync step 2: what the peer's state vector lacks.
pub fn sync_step2(prefix: &Prefix, update: &[u8]) -> Bytes {
    frame(prefix, &[types::SYNC, sync::STEP2], Some(update))
}

/// A change.
pub fn update(prefix: &Prefix, update: &[u8]) -> Bytes {
    frame(prefix, &[types::SYNC, sync::UPDATE], Some(update))
}

/// States of awareness clients, as [`super::awareness::encode`] writes them.
pub fn awareness(prefix: &Prefix, update: &[u8]) -> Bytes {
    frame(prefix, &[types::AWARENESS], Some(update))
}

/// Asks the peer for its awareness.
pub fn query_awareness(prefix: &Prefix) -> Bytes {
    frame(prefix, &[types::QUERY_AWARENESS], None)
}

/// The ack of an update: it is stored, or it was refused. (The provider reads a varInt; both forms are
/// one byte and equal for 0 and 1.)
pub fn sync_status(prefix: &Prefix, stored: bool) -> Bytes {
    frame(prefix, &[types::SYNC_STATUS, u64::from(stored)], None)
}

/// A message of the application.
pub fn stateless(prefix: &Prefix, payload: &str) -> Bytes {
    frame(prefix, &[types::STATELESS], Some(payload.as_bytes()))
}

/// A stateless message for all clients of another server; never sent to clients.
pub fn broadcast_stateless(prefix: &Prefix, payload: &str) -> Bytes {
    frame(prefix, &[types::BROADCAST_STATELESS], Some(payload.as_bytes()))
}

/// The session is over; the socket stays.
pub fn close(prefix: &Prefix, reason: &str) -> Bytes {
    frame(prefix, &[types::CLOSE], Some(reason.as_bytes()))
}

/// The session was not let in. y-websocket numbers it 0 (`y-protocols/auth.js`), Hocuspocus 1.
pub fn permission_denied(prefix: &Prefix, reason: &str, dialect: Dialect) -> Bytes {
    let kind = match dialect {
        Dialect::Hocuspocus => auth::PERMISSION_DENIED,
        Dialect::YWebsocket => auth::Y_WEBSOCKET_PERMISSION_DENIED,
    };
    frame(prefix, &[types::AUTH, kind], Some(reason.as_bytes()))
}

/// The session was let in, with this scope.
pub fn authenticated(prefix: &Prefix, access: Access) -> Bytes {
    let scope = match access {
        Access::ReadWrite => "read-write",
        Access::ReadOnly => "readonly",
    };
    frame(prefix, &[types::AUTH, auth::AUTHENTICATED], Some(scope.as_bytes()))
}

/// Asks the provider for its current token.
pub fn token_request(prefix: &Prefix) -> Bytes {
    frame(prefix, &[types::AUTH, auth::TOKEN], None)
}

/// The answer to a ping; has no address.
pub const fn pong() -> Bytes {
    Bytes::from_static(&[types::PONG as u8])
}

fn frame(prefix: &Prefix, numbers: &[u64], body: Option<&[u8]>) -> Bytes {
    let numbers_len: usize = numbers.iter().map(|&number| var_uint_len(number)).sum();
    let body_len = body.map_or(0, |body| var_bytes_len(body.len()));
    let mut out = Vec::with_capacity(prefix.len() + numbers_len + body_len);
    out.extend_from_slice(&prefix.0);
    for &number in numbers {
        write_var_uint(&mut out, number);
    }
    if let Some(body) = body {
        write_var_bytes(&mut out, body);
    }
    debug_assert_eq!(out.len(), out.capacity(), "one allocation of the exact size");
    out.into()
}
