//! The one table of status codes, and how the engine's errors map to them. Numbers are never used twice.

use std::ffi::c_char;

use fidibus_core::error::{HubError, ProtocolError, StoreError};
use fidibus_core::hub::{DirectError, ReceiveError};
use fidibus_core::room::MaterializeError;

/// What a function says. Numbers are never used twice.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_status {
    /// It worked.
    Ok = 0,
    /// A pointer that is needed is NULL.
    NullPointer = 1,
    /// A defect in the library; the call had no effect that can be relied on.
    Panic = 2,
    /// Text is not UTF-8.
    NotUtf8 = 3,
    /// A number is none of its enum, or an argument makes no sense.
    InvalidArgument = 4,
    /// There is no such configuration key.
    UnknownKey = 5,
    /// The configuration key has another type.
    WrongType = 6,
    /// A number lies outside of what is allowed.
    OutOfRange = 7,
    /// Text is not JSON, or not the JSON that is needed.
    InvalidJson = 8,
    /// A document name is blank or longer than 1,024 bytes.
    InvalidName = 9,
    /// A URL cannot be read, or names a store that there is none of.
    InvalidUrl = 10,
    /// A store failed.
    Store = 11,
    /// The document cannot be loaded.
    Load = 12,
    /// A hook refused it.
    Rejected = 13,
    /// The hub is shut down, or about to be.
    ShuttingDown = 14,
    /// A limit of the hub is reached.
    Limit = 15,
    /// The document was unloaded meanwhile; open it again.
    Unloaded = 16,
    /// Bytes are not the update or state vector that they should be.
    Malformed = 17,
    /// More waits to be read than may; try again when woken.
    Full = 18,
    /// A frame is larger than a message may be.
    TooLarge = 19,
    /// The connection or document is closed.
    Closed = 20,
    /// There is nothing: no frame, no such value. No failure.
    Empty = 21,
    /// A function that blocks was called inside of a callback.
    InCallback = 22,
    /// The reply or the event is of a kind that has no such value.
    NotForThis = 23,
    /// The answer came too late: nobody waits for it any more.
    NotWaiting = 24,
    /// Threads or descriptors are short.
    Resources = 25,
    /// An address cannot be listened on.
    Listen = 26,
    /// The document cannot be read as text or JSON, or edited that way.
    Materialize = 27,
    // Last added: 27.
}

use fidibus_status as Status;

impl Status {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [(Self, &'static std::ffi::CStr, &'static std::ffi::CStr); 28] = [
        (Self::Ok, c"OK", c"it worked"),
        (Self::NullPointer, c"NULL_POINTER", c"a pointer that is needed is NULL"),
        (Self::Panic, c"PANIC", c"a defect in the library"),
        (Self::NotUtf8, c"NOT_UTF8", c"text is not UTF-8"),
        (Self::InvalidArgument, c"INVALID_ARGUMENT", c"an argument makes no sense"),
        (Self::UnknownKey, c"UNKNOWN_KEY", c"no such configuration key"),
        (Self::WrongType, c"WRONG_TYPE", c"the configuration key has another type"),
        (Self::OutOfRange, c"OUT_OF_RANGE", c"a number lies outside of what is allowed"),
        (Self::InvalidJson, c"INVALID_JSON", c"text is not the JSON that is needed"),
        (Self::InvalidName, c"INVALID_NAME", c"a document name is blank or too long"),
        (Self::InvalidUrl, c"INVALID_URL", c"a URL cannot be read or names no store"),
        (Self::Store, c"STORE", c"a store failed"),
        (Self::Load, c"LOAD", c"the document cannot be loaded"),
        (Self::Rejected, c"REJECTED", c"a hook refused it"),
        (Self::ShuttingDown, c"SHUTTING_DOWN", c"the hub is shut down"),
        (Self::Limit, c"LIMIT", c"a limit of the hub is reached"),
        (Self::Unloaded, c"UNLOADED", c"the document was unloaded"),
        (Self::Malformed, c"MALFORMED", c"bytes are no update or state vector"),
        (Self::Full, c"FULL", c"more waits to be read than may"),
        (Self::TooLarge, c"TOO_LARGE", c"a frame is larger than a message may be"),
        (Self::Closed, c"CLOSED", c"the connection or document is closed"),
        (Self::Empty, c"EMPTY", c"there is nothing"),
        (Self::InCallback, c"IN_CALLBACK", c"a function that blocks was called inside of a callback"),
        (Self::NotForThis, c"NOT_FOR_THIS", c"this reply or event has no such value"),
        (Self::NotWaiting, c"NOT_WAITING", c"the answer came too late"),
        (Self::Resources, c"RESOURCES", c"threads or descriptors are short"),
        (Self::Listen, c"LISTEN", c"an address cannot be listened on"),
        (Self::Materialize, c"MATERIALIZE", c"the document cannot be read as text or JSON"),
    ];
}

/// The name of a status without its prefix ("NULL_POINTER"), "?" for a number that is none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_status_name(status: u32) -> *const c_char {
    Status::ALL.get(status as usize).map_or(c"?", |(_, name, _)| name).as_ptr()
}

/// What a status means, as a sentence; "?" for a number that is none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_status_text(status: u32) -> *const c_char {
    Status::ALL.get(status as usize).map_or(c"?", |(_, _, text)| text).as_ptr()
}

/// Why a call failed: its status and the whole story.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn of(status: Status, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message = format!("{message}: {error}");
            source = error.source();
        }
        Self { status, message }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = Status::ALL[status as usize].2;
        Self::new(status, text.to_string_lossy())
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let status = match &error {
            HubError::Load(_) => Status::Load,
            HubError::Rejected(_) => Status::Rejected,
            HubError::ShuttingDown => Status::ShuttingDown,
            HubError::Limit(_) => Status::Limit,
            HubError::Unloaded => Status::Unloaded,
            HubError::Protocol(_) => Status::Malformed,
            _ => Status::Limit,
        };
        Self::of(status, &error)
    }
}

impl From<DirectError> for Failure {
    fn from(error: DirectError) -> Self {
        let status = match &error {
            DirectError::Hub(error) => return error.clone().into(),
            DirectError::Scan(_) => Status::Malformed,
            DirectError::Materialize(MaterializeError::OutOfRange { .. }) => Status::OutOfRange,
            DirectError::Materialize(MaterializeError::Json { .. }) => Status::InvalidJson,
            DirectError::Materialize(_) => Status::Materialize,
        };
        Self::of(status, &error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let status = match error {
            ReceiveError::Full => Status::Full,
            ReceiveError::TooLarge => Status::TooLarge,
            ReceiveError::Closed => Status::Closed,
        };
        Self::of(status, &error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of(Status::Store, &error)
    }
}

/// For names, which are all that a host hands in to be parsed.
impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self::of(Status::InvalidName, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine's errors that C tests cannot bring about, and one that they can.
    #[test]
    fn errors_have_their_status() {
        let document = MaterializeError::Document("broken".to_owned());
        let failure = Failure::from(DirectError::Materialize(document));
        assert_eq!(failure.status, Status::Materialize);
        assert!(failure.message.contains("broken"));
        assert_eq!(Failure::from(HubError::Unloaded).status, Status::Unloaded);
        assert_eq!(Failure::from(DirectError::Hub(HubError::Unloaded)).status, Status::Unloaded);
        assert_eq!(Failure::from(HubError::Limit("documents")).status, Status::Limit);
    }

    #[test]
    fn the_table_is_in_the_order_of_its_numbers() {
        for (number, (status, _, _)) in Status::ALL.iter().enumerate() {
            assert_eq!(*status as usize, number);
        }
    }
}
