//! The wire format of both dialects. The only place that knows message numbers.
//!
//! A Hocuspocus frame is `varString address, varUint type, body`; a y-websocket frame the same without
//! the address. Numbers are lib0's: unsigned LEB128 up to 2^53 − 1, strings and byte arrays with
//! their length in front.
//!
//! | type | number | body | who sends it |
//! |---|---|---|---|
//! | Sync | 0 | sync message | both |
//! | Awareness | 1 | varUint8Array awareness update | both |
//! | Auth | 2 | auth message | both |
//! | QueryAwareness | 3 | – | both |
//! | SyncReply | 4 | sync message that asks for no further step 1 | both |
//! | Stateless | 5 | varString payload | both |
//! | BroadcastStateless | 6 | varString payload | servers among themselves; refused from clients |
//! | CLOSE | 7 | varString reason (clients send none) | both |
//! | SyncStatus | 8 | varInt 1 (stored) or 0 (refused) | server |
//! | Ping | 9 | –, without address | server |
//! | Pong | 10 | –, without address | client |
//!
//! y-websocket knows 0 to 3 only, with 2 = `varUint 0, varString reason` (permission denied).

pub mod awareness;
pub mod frame;
mod json;
pub mod message;
pub mod varint;

/// How a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `@hocuspocus/provider` 2 to 4: every frame names its document.
    Hocuspocus,
    /// `y-websocket`: the URL's path names the one document.
    YWebsocket,
}

/// Message types, the table above.
mod types {
    pub(super) const SYNC: u64 = 0;
    pub(super) const AWARENESS: u64 = 1;
    pub(super) const AUTH: u64 = 2;
    pub(super) const QUERY_AWARENESS: u64 = 3;
    pub(super) const SYNC_REPLY: u64 = 4;
    pub(super) const STATELESS: u64 = 5;
    pub(super) const BROADCAST_STATELESS: u64 = 6;
    pub(super) const CLOSE: u64 = 7;
    pub(super) const SYNC_STATUS: u64 = 8;
    pub(super) const PING: u64 = 9;
    pub(super) const PONG: u64 = 10;
}

/// Kinds of sync messages (`y-protocols/sync.js`).
mod sync {
    pub(super) const STEP1: u64 = 0;
    pub(super) const STEP2: u64 = 1;
    pub(super) const UPDATE: u64 = 2;
}

/// Kinds of auth messages (`@hocuspocus/common` `auth.ts`, `y-protocols/auth.js`).
mod auth {
    /// From clients: a token. From servers, without a body: send me yours.
    pub(super) const TOKEN: u64 = 0;
    pub(super) const PERMISSION_DENIED: u64 = 1;
    pub(super) const AUTHENTICATED: u64 = 2;
    pub(super) const Y_WEBSOCKET_PERMISSION_DENIED: u64 = 0;
}
