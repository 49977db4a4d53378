//! What a callback is told: one type for all hooks, authenticators and stores, read by accessors. So a new
//! field breaks no host. It borrows everything and copies nothing.

use std::ffi::{c_char, c_void};

use fidibus_core::auth::{Access, Handshake};
use fidibus_core::hooks::SessionScope;
use fidibus_core::id::{DocumentName, SessionKey};
use fidibus_core::room::{AwarenessChange, Origin};
use fidibus_core::store::{LogBatch, LogId};

use crate::border::run;
use crate::context::CContext;
use crate::handle::output;
use crate::status::{Failure, fidibus_status};
use crate::text::{self, fidibus_buffer, fidibus_bytes, fidibus_text};

/// What a callback is told. Valid during the call only; accessors answer FIDIBUS_STATUS_NOT_FOR_THIS for
/// what events of this kind do not have, and FIDIBUS_STATUS_EMPTY for what this one lacks.
pub struct fidibus_event {
    _private: [u8; 0],
}

/// What a session may do.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_access {
    /// Read; its updates are refused.
    ReadOnly = 0,
    /// Read and write.
    ReadWrite = 1,
}

impl fidibus_access {
    pub(crate) const ALL: [(Self, Access); 2] =
        [(Self::ReadOnly, Access::ReadOnly), (Self::ReadWrite, Access::ReadWrite)];
}

/// Who changed something.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_origin {
    /// A client; fidibus_event_session tells which.
    Session = 0,
    /// Another server.
    Cluster = 1,
    /// This host.
    Direct = 2,
    /// Nobody: time passed, or a session ended.
    None = 3,
}

/// What kind of message a client sent.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_message {
    /// A state vector.
    SyncStep1 = 0,
    /// An update: the answer to a state vector.
    SyncStep2 = 1,
    /// An update.
    Update = 2,
    /// An awareness update.
    Awareness = 3,
    /// A question for all awareness states; no payload.
    QueryAwareness = 4,
    /// A stateless message: text.
    Stateless = 5,
}

/// Which awareness clients of an event are meant.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_presence {
    /// They came.
    Added = 0,
    /// Their state changed.
    Updated = 1,
    /// They went.
    Removed = 2,
}

/// The fields; what a kind of event does not have stays `None`.
#[derive(Default)]
pub(crate) struct Event<'a> {
    pub(crate) kind: u32,
    pub(crate) document: Option<&'a DocumentName>,
    pub(crate) scope: Option<&'a SessionScope>,
    pub(crate) session: Option<SessionKey>,
    pub(crate) handshake: Option<&'a Handshake>,
    /// The outer `Option`: whether events of this kind have one.
    pub(crate) token: Option<Option<&'a str>>,
    pub(crate) provider_version: Option<Option<&'a str>>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) message: Option<fidibus_message>,
    pub(crate) origin: Option<Option<Origin>>,
    pub(crate) change: Option<&'a AwarenessChange>,
    pub(crate) states: Option<&'a [(u64, u64, String)]>,
    pub(crate) port: Option<u16>,
    pub(crate) folded: Option<&'a [LogId]>,
    pub(crate) batches: Option<&'a [LogBatch]>,
    pub(crate) after: Option<Option<&'a DocumentName>>,
    pub(crate) limit: Option<u64>,
    pub(crate) age_ms: Option<u64>,
}

impl<'a> Event<'a> {
    /// The event as C sees it.
    pub(crate) fn as_c(&self) -> *const fidibus_event {
        std::ptr::from_ref(self).cast()
    }

    /// An event about a session.
    pub(crate) fn of_scope(kind: u32, scope: &'a SessionScope) -> Self {
        Self {
            kind,
            document: Some(scope.document()),
            scope: Some(scope),
            session: Some(scope.session),
            handshake: Some(&scope.handshake),
            ..Self::default()
        }
    }

    /// An event about a document.
    pub(crate) fn of_document(kind: u32, document: &'a DocumentName) -> Self {
        Self { kind, document: Some(document), ..Self::default() }
    }
}

fn read<'a>(event: *const fidibus_event) -> Result<&'a Event<'a>, Failure> {
    if event.is_null() {
        return Err(Failure::new(fidibus_status::NullPointer, "the event is NULL"));
    }
    // SAFETY: not NULL, so by C's promise it is the event of a callback that has not returned yet.
    Ok(unsafe { &*event.cast::<Event<'a>>() })
}

/// Reads one field of an event into an output.
fn field<T, R>(
    event: *const fidibus_event,
    out: *mut R,
    pick: impl FnOnce(&'static Event<'static>) -> Option<T>,
) -> fidibus_status
where
    R: From<T>,
{
    run(|| {
        let out = output(out)?;
        *out = pick(read(event)?).ok_or(fidibus_status::NotForThis)?.into();
        Ok(())
    })
}

/// The same for what an event of the right kind may still lack.
fn optional<T, R>(
    event: *const fidibus_event,
    out: *mut R,
    pick: impl FnOnce(&'static Event<'static>) -> Option<Option<T>>,
) -> fidibus_status
where
    R: From<T>,
{
    run(|| {
        let out = output(out)?;
        let value = pick(read(event)?).ok_or(fidibus_status::NotForThis)?;
        *out = value.ok_or(fidibus_status::Empty)?.into();
        Ok(())
    })
}

/// What the event is: a fidibus_hook, or a fidibus_store_operation; an authenticator's is
/// FIDIBUS_HOOK_ON_AUTHENTICATE.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_kind(event: *const fidibus_event, kind: *mut u32) -> fidibus_status {
    field(event, kind, |event| Some(event.kind))
}

/// The document that it is about.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_document(
    event: *const fidibus_event,
    name: *mut fidibus_text,
) -> fidibus_status {
    field(event, name, |event| event.document.map(DocumentName::as_str))
}

/// The session that it is about, or comes from: the number of its connection and its number there.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_session(
    event: *const fidibus_event,
    connection: *mut u64,
    number: *mut u32,
) -> fidibus_status {
    run(|| {
        let (connection, number) = (output(connection)?, output(number)?);
        let session = read(event)?.session.ok_or(fidibus_status::NotForThis)?;
        *connection = session.connection.0;
        *number = session.number;
        Ok(())
    })
}

/// The session id of a provider that has one; else FIDIBUS_STATUS_EMPTY.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_session_id(
    event: *const fidibus_event,
    id: *mut fidibus_text,
) -> fidibus_status {
    optional(event, id, |event| event.scope.map(|scope| scope.address.session_id()))
}

/// The session's user; FIDIBUS_STATUS_EMPTY: none is set.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_user(event: *const fidibus_event, user: *mut fidibus_text) -> fidibus_status {
    optional(event, user, |event| event.scope.map(|scope| scope.grant.user.as_deref()))
}

/// What the session may do: a fidibus_access.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_access(event: *const fidibus_event, access: *mut u32) -> fidibus_status {
    field(event, access, |event| {
        let access = event.scope?.grant.access;
        fidibus_access::ALL.iter().find(|(_, known)| *known == access).map(|(number, _)| *number as u32)
    })
}

/// The session's context, as fidibus_reply_set_context set it; FIDIBUS_STATUS_EMPTY: none is set.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_context(
    event: *const fidibus_event,
    context: *mut *mut c_void,
) -> fidibus_status {
    optional(event, context, |event| {
        event.scope.map(|scope| {
            let context = scope.context()?.downcast_ref::<CContext>()?;
            Some(context.pointer())
        })
    })
}

/// The token of the client; FIDIBUS_STATUS_EMPTY: it sent none.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_token(
    event: *const fidibus_event,
    token: *mut fidibus_text,
) -> fidibus_status {
    optional(event, token, |event| event.token)
}

/// The provider's version; FIDIBUS_STATUS_EMPTY before 4.0.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_provider_version(
    event: *const fidibus_event,
    version: *mut fidibus_text,
) -> fidibus_status {
    optional(event, version, |event| event.provider_version)
}

/// A header of the HTTP request that opened the socket, the first of the name; FIDIBUS_STATUS_EMPTY: it has
/// none, or none that is text.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_header(
    event: *const fidibus_event,
    name: *const c_char,
    value: *mut fidibus_text,
) -> fidibus_status {
    run(|| {
        let (name, out) = (text::read(name)?, output(value)?);
        let handshake = read(event)?.handshake.ok_or(fidibus_status::NotForThis)?;
        let value = handshake.headers.get(name).and_then(|value| value.to_str().ok());
        *out = value.ok_or(fidibus_status::Empty)?.into();
        Ok(())
    })
}

/// A query parameter of that request, percent-decoded, the first of the name; FIDIBUS_STATUS_EMPTY: none.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_query(
    event: *const fidibus_event,
    name: *const c_char,
    value: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (name, out) = (text::read(name)?, output(value)?);
        let event = read(event)?;
        let handshake = event.handshake.ok_or(fidibus_status::NotForThis)?;
        *out = crate::handshake::query(handshake, name).ok_or(fidibus_status::Empty)?.into();
        Ok(())
    })
}

/// Path and query of that request.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_uri(event: *const fidibus_event, uri: *mut fidibus_buffer) -> fidibus_status {
    field(event, uri, |event| event.handshake.map(|handshake| handshake.uri.to_string()))
}

/// The client's IP address; FIDIBUS_STATUS_EMPTY: the host set none.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_client_ip(
    event: *const fidibus_event,
    address: *mut fidibus_buffer,
) -> fidibus_status {
    optional(event, address, |event| {
        event.handshake.map(|handshake| handshake.client_ip.map(|address| address.to_string()))
    })
}

/// The bytes that it is about: an update, a state vector, a frame, a snapshot, or the text of a stateless
/// message.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_payload(
    event: *const fidibus_event,
    payload: *mut fidibus_bytes,
) -> fidibus_status {
    field(event, payload, |event| event.payload)
}

/// Which kind of message it is about: a fidibus_message.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_message(event: *const fidibus_event, message: *mut u32) -> fidibus_status {
    field(event, message, |event| event.message.map(|message| message as u32))
}

/// Who made the change: a fidibus_origin.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_origin(event: *const fidibus_event, origin: *mut u32) -> fidibus_status {
    field(event, origin, |event| {
        event.origin.map(|origin| match origin {
            Some(Origin::Session(_)) => fidibus_origin::Session as u32,
            Some(Origin::Cluster) => fidibus_origin::Cluster as u32,
            Some(Origin::Direct) => fidibus_origin::Direct as u32,
            None => fidibus_origin::None as u32,
        })
    })
}

/// The awareness clients of an on_awareness_update, by a fidibus_presence.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_clients(
    event: *const fidibus_event,
    presence: u32,
    clients: *mut *const u64,
    count: *mut usize,
) -> fidibus_status {
    run(|| {
        let (clients, count) = (output(clients)?, output(count)?);
        let change = read(event)?.change.ok_or(fidibus_status::NotForThis)?;
        let lists = [
            (fidibus_presence::Added, &change.added),
            (fidibus_presence::Updated, &change.updated),
            (fidibus_presence::Removed, &change.removed),
        ];
        let chosen = lists.into_iter().find(|(number, _)| *number as u32 == presence);
        let chosen = chosen.ok_or(fidibus_status::InvalidArgument)?.1;
        *clients = chosen.as_ptr();
        *count = chosen.len();
        Ok(())
    })
}

/// The states of a before_handle_awareness as JSON: [{"client":1,"clock":2,"state":{}}], state null where the
/// client goes.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_states(
    event: *const fidibus_event,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    field(event, json, |event| event.states.map(crate::awareness::to_json))
}

/// The TCP port of an on_listen; 0 for a Unix socket.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_port(event: *const fidibus_event, port: *mut u16) -> fidibus_status {
    field(event, port, |event| event.port)
}

/// The rows of the log that a snapshot holds: they are not to be loaded any more once it is stored.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_folded(
    event: *const fidibus_event,
    rows: *mut *const i64,
    count: *mut usize,
) -> fidibus_status {
    run(|| {
        let (rows, count) = (output(rows)?, output(count)?);
        let folded = read(event)?.folded.ok_or(fidibus_status::NotForThis)?;
        *rows = folded.as_ptr();
        *count = folded.len();
        Ok(())
    })
}

/// How many rows are to be appended.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_batch_count(
    event: *const fidibus_event,
    count: *mut usize,
) -> fidibus_status {
    field(event, count, |event| event.batches.map(<[LogBatch]>::len))
}

/// One row that is to be appended: its document, its update, and its user (len 0: none).
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_batch(
    event: *const fidibus_event,
    index: usize,
    document: *mut fidibus_text,
    update: *mut fidibus_bytes,
    user: *mut fidibus_text,
) -> fidibus_status {
    run(|| {
        let (document, update, user) = (output(document)?, output(update)?, output(user)?);
        let batches = read(event)?.batches.ok_or(fidibus_status::NotForThis)?;
        let batch = batches.get(index).ok_or(fidibus_status::OutOfRange)?;
        *document = batch.document.as_str().into();
        *update = (&batch.update[..]).into();
        *user = batch.user.as_deref().unwrap_or_default().into();
        Ok(())
    })
}

/// The name after which a list goes on; FIDIBUS_STATUS_EMPTY: it begins.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_after(
    event: *const fidibus_event,
    name: *mut fidibus_text,
) -> fidibus_status {
    optional(event, name, |event| event.after.map(|after| after.map(DocumentName::as_str)))
}

/// How many names a list may hold.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_limit(event: *const fidibus_event, limit: *mut u64) -> fidibus_status {
    field(event, limit, |event| event.limit)
}

/// How old folded rows have to be to be deleted, in milliseconds.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_event_age_ms(event: *const fidibus_event, age_ms: *mut u64) -> fidibus_status {
    field(event, age_ms, |event| event.age_ms)
}
