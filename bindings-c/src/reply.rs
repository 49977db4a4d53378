//! The answer to a callback: filled in, then given once, now or later, on any thread.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fidibus_core::auth::{Access, Context, Grant};
use fidibus_core::error::{BoxError, CloseReason, StoreError};
use fidibus_core::hooks::{Flow, HookResult, Rejection};
use fidibus_core::id::DocumentName;
use fidibus_core::store::LogId;
use tokio::sync::oneshot;

use crate::border::{quietly, run};
use crate::callback::{Env, fidibus_finalizer};
use crate::context::CContext;
use crate::event::fidibus_access;
use crate::handle::{self, box_handle};
use crate::status::{Failure, fidibus_status};
use crate::text;

/// The answer that a callback has to give. Fill it in with the setters, then end it with one of
/// fidibus_reply_accept, _skip, _reject, _fail or _free: each of them frees it. Any thread may do so, one
/// at a time.
pub struct fidibus_reply {
    _private: [u8; 0],
}

box_handle!(fidibus_reply(Reply));

/// What a reply may hold, by the callback that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A hook that only says yes or no.
    Gate,
    /// on_connect, on_authenticate, on_token_sync, and authenticators.
    Grant,
    /// on_create_document.
    Create,
    /// on_load_document.
    Load,
    /// before_handle_awareness.
    Awareness,
    /// A store's load.
    StoreLoad,
    /// A store's append.
    StoreAppend,
    /// A store's list.
    StoreList,
    /// A store's delete and prune.
    StoreCount,
    /// A store's other operations.
    StoreDone,
}

/// How a reply ended.
#[derive(Debug, Default)]
pub(crate) enum Outcome {
    #[default]
    Abandoned,
    Accepted,
    Skipped,
    Rejected(CloseReason),
    Failed {
        message: String,
        retryable: bool,
    },
}

/// What was answered.
#[derive(Default)]
pub(crate) struct Answer {
    outcome: Outcome,
    access: Option<Access>,
    user: Option<Arc<str>>,
    context: Option<Context>,
    expires: Option<SystemTime>,
    pub(crate) gc: Option<bool>,
    pub(crate) updates: Vec<Bytes>,
    pub(crate) states: Option<Vec<(u64, u64, String)>>,
    pub(crate) snapshot: Option<Bytes>,
    pub(crate) rows: Vec<(LogId, Bytes)>,
    pub(crate) ids: Vec<LogId>,
    pub(crate) names: Vec<DocumentName>,
    pub(crate) count: u64,
}

/// What an answer without a word of its own is logged as.
const ABANDONED: &str = "the callback freed its reply without an answer";

impl Answer {
    /// The reply was freed.
    pub(crate) fn abandoned() -> Self {
        Self::default()
    }

    /// As a hook's result.
    pub(crate) fn flow(&self) -> HookResult {
        let failed = |text: &str| Rejection { reason: None, source: Some(BoxError::from(text)) };
        match &self.outcome {
            Outcome::Accepted => Ok(Flow::Continue),
            Outcome::Skipped => Ok(Flow::Skip),
            Outcome::Rejected(reason) => Err(Rejection::with_reason(reason.clone())),
            Outcome::Failed { message, .. } => Err(failed(message)),
            Outcome::Abandoned => Err(failed(ABANDONED)),
        }
    }

    /// Puts what was granted into the session's grant.
    pub(crate) fn grant(&mut self, grant: &mut Grant) {
        grant.access = self.access.unwrap_or(grant.access);
        grant.user = self.user.take().or(grant.user.take());
        grant.context = self.context.take().or(grant.context.take());
        grant.expires = self.expires.or(grant.expires);
    }

    /// Whether it was accepted; the reason where it was rejected, or the error.
    pub(crate) fn verdict(&self) -> Result<(), Result<CloseReason, BoxError>> {
        match &self.outcome {
            Outcome::Accepted | Outcome::Skipped => Ok(()),
            Outcome::Rejected(reason) => Err(Ok(reason.clone())),
            Outcome::Failed { message, .. } => Err(Err(message.as_str().into())),
            Outcome::Abandoned => Err(Err(ABANDONED.into())),
        }
    }

    /// As a store's result.
    pub(crate) fn stored(self) -> Result<Self, StoreError> {
        match self.outcome {
            Outcome::Accepted | Outcome::Skipped => Ok(self),
            Outcome::Failed { message, retryable: false } => Err(StoreError::permanent("callbacks", message)),
            Outcome::Failed { message, .. } => Err(StoreError::retryable("callbacks", message)),
            Outcome::Rejected(reason) => Err(StoreError::permanent("callbacks", reason.to_string())),
            Outcome::Abandoned => Err(StoreError::retryable("callbacks", ABANDONED)),
        }
    }
}

/// A reply that is still to be given.
pub(crate) struct Reply {
    kind: Kind,
    answer: Answer,
    sender: oneshot::Sender<Answer>,
}

/// Makes a reply and what waits for it.
pub(crate) fn open(kind: Kind) -> (*mut fidibus_reply, oneshot::Receiver<Answer>) {
    let (sender, receiver) = oneshot::channel();
    (handle::give_box(Reply { kind, answer: Answer::default(), sender }), receiver)
}

/// Puts something into a reply of one of these kinds.
fn set(
    reply: *mut fidibus_reply,
    kinds: &[Kind],
    put: impl FnOnce(&mut Answer) -> Result<(), Failure>,
) -> fidibus_status {
    run(|| {
        let reply = handle::box_mut(reply)?;
        if !kinds.contains(&reply.kind) {
            return Err(fidibus_status::NotForThis.into());
        }
        put(&mut reply.answer)
    })
}

/// Ends a reply.
fn give(reply: *mut fidibus_reply, outcome: impl FnOnce() -> Result<Outcome, Failure>) -> fidibus_status {
    run(|| {
        handle::box_ref(reply)?;
        // Read before the reply is taken: a failure takes nothing over.
        let outcome = outcome()?;
        let reply = handle::take_box(reply).ok_or(fidibus_status::NullPointer)?;
        let Reply { answer, sender, .. } = *reply;
        sender.send(Answer { outcome, ..answer }).map_err(|_| fidibus_status::NotWaiting.into())
    })
}

/// Grants this fidibus_access. Hooks can take away, not add to, what was granted before.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_access(reply: *mut fidibus_reply, access: u32) -> fidibus_status {
    set(reply, &[Kind::Grant], |answer| {
        let access = fidibus_access::ALL.iter().find(|(number, _)| *number as u32 == access);
        answer.access = Some(access.ok_or(fidibus_status::InvalidArgument)?.1);
        Ok(())
    })
}

/// Names the session's user, for the log of updates and for events.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_user(reply: *mut fidibus_reply, user: *const c_char) -> fidibus_status {
    set(reply, &[Kind::Grant], |answer| {
        answer.user = Some(text::read(user)?.into());
        Ok(())
    })
}

/// Gives the session a context, which its events then show. The finalizer is called when nothing refers to
/// the session any more.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_context(
    reply: *mut fidibus_reply,
    context: *mut c_void,
    finalizer: fidibus_finalizer,
) -> fidibus_status {
    set(reply, &[Kind::Grant], |answer| {
        answer.context = Some(Arc::new(CContext(Env::new(context, finalizer))));
        Ok(())
    })
}

/// The last millisecond of the year 9999.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

/// When the grant ends by itself, in milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_expires(reply: *mut fidibus_reply, unix_ms: u64) -> fidibus_status {
    set(reply, &[Kind::Grant], |answer| {
        if unix_ms > UNIX_MS_MAX {
            return Err(fidibus_status::OutOfRange.into());
        }
        answer.expires = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms));
        Ok(())
    })
}

/// Whether deleted content of the document is collected (on_create_document).
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_gc(reply: *mut fidibus_reply, gc: bool) -> fidibus_status {
    set(reply, &[Kind::Create], |answer| {
        answer.gc = Some(gc);
        Ok(())
    })
}

/// Adds a Yjs update v1 to the document that is being loaded (on_load_document). The bytes are copied.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_add_update(
    reply: *mut fidibus_reply,
    update: *const u8,
    len: usize,
) -> fidibus_status {
    set(reply, &[Kind::Load], |answer| {
        answer.updates.push(Bytes::copy_from_slice(text::read_bytes(update, len)?));
        Ok(())
    })
}

/// Replaces the states of a before_handle_awareness; JSON as fidibus_event_states gives it.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_states(reply: *mut fidibus_reply, json: *const c_char) -> fidibus_status {
    set(reply, &[Kind::Awareness], |answer| {
        answer.states = Some(crate::awareness::from_json(text::read(json)?)?);
        Ok(())
    })
}

/// The stored snapshot (FIDIBUS_STORE_OPERATION_LOAD). Neither snapshot nor rows: never stored. Copied.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_snapshot(
    reply: *mut fidibus_reply,
    snapshot: *const u8,
    len: usize,
) -> fidibus_status {
    set(reply, &[Kind::StoreLoad], |answer| {
        answer.snapshot = Some(Bytes::copy_from_slice(text::read_bytes(snapshot, len)?));
        Ok(())
    })
}

/// Adds a row of the log that no snapshot holds (FIDIBUS_STORE_OPERATION_LOAD), in order. Copied.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_add_row(
    reply: *mut fidibus_reply,
    id: i64,
    update: *const u8,
    len: usize,
) -> fidibus_status {
    set(reply, &[Kind::StoreLoad], |answer| {
        answer.rows.push((id, Bytes::copy_from_slice(text::read_bytes(update, len)?)));
        Ok(())
    })
}

/// Adds the id of an appended row (FIDIBUS_STORE_OPERATION_APPEND): one for each batch, in their order.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_add_id(reply: *mut fidibus_reply, id: i64) -> fidibus_status {
    set(reply, &[Kind::StoreAppend], |answer| {
        answer.ids.push(id);
        Ok(())
    })
}

/// Adds a document's name (FIDIBUS_STORE_OPERATION_LIST).
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_add_name(reply: *mut fidibus_reply, name: *const c_char) -> fidibus_status {
    set(reply, &[Kind::StoreList], |answer| {
        answer.names.push(text::read_name(name)?);
        Ok(())
    })
}

/// How many were deleted (FIDIBUS_STORE_OPERATION_DELETE: 0 or 1, FIDIBUS_STORE_OPERATION_PRUNE).
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_set_count(reply: *mut fidibus_reply, count: u64) -> fidibus_status {
    set(reply, &[Kind::StoreCount], |answer| {
        answer.count = count;
        Ok(())
    })
}

/// Yes, or done. FIDIBUS_STATUS_NOT_WAITING: the client is gone, or the hub; the reply is freed all the same.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_accept(reply: *mut fidibus_reply) -> fidibus_status {
    give(reply, || Ok(Outcome::Accepted))
}

/// Yes, and no further extension is asked.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_skip(reply: *mut fidibus_reply) -> fidibus_status {
    give(reply, || Ok(Outcome::Skipped))
}

/// No: the client's session is closed with this code (1000 to 1003, 1007 to 1014, 3000 to 4999) and this
/// reason, which may be NULL and is cut after 123 bytes. After FIDIBUS_STATUS_OUT_OF_RANGE and FIDIBUS_STATUS_NOT_UTF8 the reply is
/// still to be answered.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_reject(
    reply: *mut fidibus_reply,
    code: u16,
    reason: *const c_char,
) -> fidibus_status {
    give(reply, || Ok(Outcome::Rejected(close_reason(code, reason)?)))
}

/// It could not be decided or done; the message is for the log (NULL: none). A store that is `retryable` is
/// asked again. After FIDIBUS_STATUS_NOT_UTF8 the reply is still to be answered.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_fail(
    reply: *mut fidibus_reply,
    message: *const c_char,
    retryable: bool,
) -> fidibus_status {
    give(reply, || {
        let message = text::read_optional(message)?.unwrap_or("the callback failed").to_owned();
        Ok(Outcome::Failed { message, retryable })
    })
}

/// Frees a reply without an answer: a hook rejects then, and a store is asked again.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_reply_free(reply: *mut fidibus_reply) {
    quietly((), || drop(handle::take_box(reply)));
}

/// A close code that may be sent, and its reason.
pub(crate) fn close_reason(code: u16, reason: *const c_char) -> Result<CloseReason, Failure> {
    let reason = text::read_optional(reason)?.unwrap_or_default().to_owned();
    // RFC 6455, 7.4: the rest is reserved, or tells what no frame said.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        let message = format!("{code} is no close code that may be sent");
        return Err(Failure::new(fidibus_status::OutOfRange, message));
    }
    Ok(CloseReason::new(code, reason))
}
