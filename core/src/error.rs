//! Errors of the engine, the close codes, and the one table that maps the former to the latter.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A boxed foreign error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a peer did wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The frame ended inside a value.
    #[error("frame ended early")]
    UnexpectedEnd,
    /// Bytes follow the last value of the message.
    #[error("bytes after the end of the message")]
    TrailingBytes,
    /// A number does not fit the range that the field has.
    #[error("number out of range")]
    NumberOutOfRange,
    /// A string is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A document name is empty or blank.
    #[error("document name must not be empty")]
    BlankName,
    /// A document name or session id is too long.
    #[error("document name is too long")]
    NameTooLong,
    /// A document name holds a NUL.
    #[error("document name holds a NUL")]
    NameWithNul,
    /// A message type that no provider sends to a server.
    #[error("unknown message type {0}")]
    UnknownMessage(u64),
    /// A sync message of an unknown kind.
    #[error("unknown sync message type {0}")]
    UnknownSyncMessage(u64),
    /// A message that only servers may send (BroadcastStateless).
    #[error("message type {0} is not for clients")]
    ServerOnly(u64),
    /// A text frame, where both dialects are binary.
    #[error("text frames are not part of the protocol")]
    TextFrame,
    /// An update, state vector or awareness message that cannot be read.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A limit was reached; names the limit.
    #[error("limit reached: {0}")]
    Limit(&'static str),
}

/// A WebSocket close frame: code and reason (at most 123 bytes on the wire).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The close code.
    pub code: u16,
    /// The reason, which providers show in their `onClose`.
    pub reason: Cow<'static, str>,
}

impl CloseReason {
    /// 1000: both sides are done.
    pub const NORMAL: Self = Self::constant(1000, "");
    /// 1001: the peer went away, nothing was said.
    pub const GONE: Self = Self::constant(1001, "");
    /// 1000 on a session: the provider closed it (`MessageReceiver.ts`, case CLOSE).
    pub const PROVIDER_INITIATED: Self = Self::constant(1000, "provider_initiated");
    /// 1003: text where only binary frames are spoken.
    pub const TEXT_FRAME: Self = Self::constant(1003, "Text frames are not supported");
    /// 1009 as in `CloseEvents.ts`.
    pub const MESSAGE_TOO_BIG: Self = Self::constant(1009, "Message Too Big");
    /// 1012: the server restarts; both kinds of providers come back (requirements.md, 3).
    pub const SERVICE_RESTART: Self = Self::constant(1012, "Service Restart");
    /// 1013: try again later; both kinds of providers come back.
    pub const TRY_AGAIN_LATER: Self = Self::constant(1013, "Try Again Later");
    /// 1013: the peer took nothing for too long.
    pub const SLOW_READER: Self = Self::constant(1013, "Connection too slow");
    /// 1013: the peer sends faster than it may, and does not slow down.
    pub const TOO_FAST: Self = Self::constant(1013, "Sending too fast");
    /// 4413: the document would cross its size limit; coming back changes nothing, so y-websocket ≥ 3.1
    /// is told to stay away (it does for 4400 to 4499).
    pub const DOCUMENT_TOO_LARGE: Self = Self::constant(4413, "Document Too Large");
    /// 4205 as in `CloseEvents.ts`.
    pub const RESET_CONNECTION: Self = Self::constant(4205, "Reset Connection");
    /// 4401 as in `CloseEvents.ts`.
    pub const UNAUTHORIZED: Self = Self::constant(4401, "Unauthorized");
    /// 4403 as in `CloseEvents.ts`.
    pub const FORBIDDEN: Self = Self::constant(4403, "Forbidden");
    /// 4408 as in `CloseEvents.ts`.
    pub const CONNECTION_TIMEOUT: Self = Self::constant(4408, "Connection Timeout");

    /// The longest reason a close frame can carry, in bytes (RFC 6455, 5.5).
    pub const REASON_BYTES_MAX: usize = 123;

    const fn constant(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Whether the same attempt may succeed later, by the code.
    pub fn is_retryable(&self) -> bool {
        [Self::SERVICE_RESTART.code, Self::TRY_AGAIN_LATER.code].contains(&self.code)
    }

    /// Makes a close reason; the text is cut at a character boundary to what a close frame carries.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::REASON_BYTES_MAX {
            let end = reason.floor_char_boundary(Self::REASON_BYTES_MAX);
            reason = Cow::Owned(reason[..end].to_owned());
        }
        Self { code, reason }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

/// The one place that decides what a peer's error closes its socket or session with.
///
/// Frames that cannot be read close with 4401 where nothing is authenticated yet and with 4205 on an
/// open session, as Hocuspocus does (`ClientConnection.ts` 635–638, `Connection.ts` 292–299); this is
/// the latter, the connection machine decides on the former.
impl From<ProtocolError> for CloseReason {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::TextFrame => Self::TEXT_FRAME,
            ProtocolError::BlankName | ProtocolError::NameTooLong | ProtocolError::NameWithNul => {
                Self::FORBIDDEN
            }
            ProtocolError::Limit(_) => Self::new(Self::RESET_CONNECTION.code, error.to_string()),
            _ => Self::RESET_CONNECTION,
        }
    }
}

/// A store failed.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {source}")]
pub struct StoreError {
    /// Which store.
    pub store: &'static str,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What went wrong.
    #[source]
    pub source: BoxError,
}

impl StoreError {
    /// A failure that may pass: the database is away, busy, or its disk is full.
    pub fn retryable(store: &'static str, source: impl Into<BoxError>) -> Self {
        Self { store, retryable: true, source: source.into() }
    }

    /// A failure that stays: stored bytes that cannot be read, a missing table.
    pub fn permanent(store: &'static str, source: impl Into<BoxError>) -> Self {
        Self { store, retryable: false, source: source.into() }
    }
}

/// An authenticator's no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The credentials do not open this document.
    #[error("denied: {reason}")]
    Denied {
        /// What the client is told; generic on purpose.
        reason: Cow<'static, str>,
        /// 4401 (who are you) or 4403 (you may not), for clients that are closed rather than answered.
        close: CloseReason,
    },
    /// The authenticator could not decide. The client is told the same as for a denial.
    #[error("authentication is unavailable")]
    Unavailable(#[source] BoxError),
}

impl AuthError {
    /// No or unknown credentials: 4401.
    pub const fn unauthorized() -> Self {
        Self::Denied { reason: Cow::Borrowed("permission-denied"), close: CloseReason::UNAUTHORIZED }
    }

    /// Known, but not allowed: 4403.
    pub const fn forbidden() -> Self {
        Self::Denied { reason: Cow::Borrowed("permission-denied"), close: CloseReason::FORBIDDEN }
    }
}

/// What a caller of the hub may get to see.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The document could not be loaded; nothing was opened.
    #[error("document could not be loaded")]
    Load(#[source] Arc<StoreError>),
    /// A hook refused it.
    #[error("refused by a hook")]
    Rejected(#[source] Arc<crate::hooks::Rejection>),
    /// The hub is shutting down.
    #[error("shutting down")]
    ShuttingDown,
    /// A limit of the hub is reached; names the limit.
    #[error("limit reached: {0}")]
    Limit(&'static str),
    /// The room ended while the call was under way.
    #[error("the document was unloaded")]
    Unloaded,
    /// What was given cannot be read.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}
