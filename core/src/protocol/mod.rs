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
