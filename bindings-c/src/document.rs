//! A document that the host itself reads, edits and observes.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fidibus_core::hub::{DirectConnection, DirectError, Observed, Observer};
use fidibus_core::id::DocumentName;
use fidibus_core::log::Verdict;
use fidibus_core::room::RootKind;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::border::{quietly, run};
use crate::callback::{self, Env, Function, fidibus_callback, fidibus_finalizer};
use crate::event::{Event, fidibus_message};
use crate::handle::{self, arc_handle, box_handle, output};
use crate::hub::{Engine, fidibus_hub};
use crate::status::{Failure, fidibus_status};
use crate::text::{self, fidibus_buffer};

/// A document that the host has opened: it stays loaded until it is freed. Any thread may use it at any
/// time; calls are carried out in turn with what clients send.
pub struct fidibus_document {
    _private: [u8; 0],
}

arc_handle!(fidibus_document(Document));

/// An observer of a document.
pub struct fidibus_observer {
    _private: [u8; 0],
}

box_handle!(fidibus_observer(AbortHandle));

/// What a root type is read as.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_root {
    /// By its content: text, a list, or else a map.
    Auto = 0,
    /// Y.Text: a string.
    Text = 1,
    /// Y.Map: an object.
    Map = 2,
    /// Y.Array: an array.
    Array = 3,
    /// Y.XmlFragment: a string of XML.
    Xml = 4,
}

impl fidibus_root {
    const KINDS: [(Self, RootKind); 5] = [
        (Self::Auto, RootKind::Auto),
        (Self::Text, RootKind::Text),
        (Self::Map, RootKind::Map),
        (Self::Array, RootKind::Array),
        (Self::Xml, RootKind::Xml),
    ];
}

/// What an update or a transaction did.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_verdict {
    /// It changed the document.
    New = 0,
    /// All of it was known.
    Known = 1,
    /// Some of it builds on what is missing, and waits for it.
    Pending = 2,
}

impl From<Verdict> for fidibus_verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::New => Self::New,
            Verdict::Known => Self::Known,
            Verdict::Pending => Self::Pending,
        }
    }
}

/// An open document.
pub(crate) struct Document {
    engine: Arc<Engine>,
    name: DocumentName,
    direct: Mutex<Option<Arc<DirectConnection>>>,
    observers: Mutex<Vec<AbortHandle>>,
}

impl Document {
    /// Lets the document go; calls fail from now on.
    pub(crate) fn close(&self) {
        for observer in std::mem::take(&mut *lock(&self.observers)) {
            observer.abort();
        }
        // Dropped when no call uses it any more.
        drop(lock(&self.direct).take());
    }

    /// Waits for something that is done with the document.
    pub(crate) fn call<T, E: Into<Failure>>(
        &self,
        call: impl AsyncFnOnce(&DirectConnection) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let direct = lock(&self.direct).clone().ok_or(fidibus_status::Closed)?;
        self.engine.block_on(call(&direct))?.map_err(Into::into)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a document, and loads it where it is not. Blocks. Free it with fidibus_document_free.
///
/// FIDIBUS_STATUS_INVALID_NAME; FIDIBUS_STATUS_LOAD: the store cannot; FIDIBUS_STATUS_REJECTED: a hook does not want;
/// FIDIBUS_STATUS_LIMIT: as many documents are loaded as may be.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_open(
    hub: *const fidibus_hub,
    name: *const c_char,
    document: *mut *mut fidibus_document,
) -> fidibus_status {
    run(|| {
        let (engine, name, out) = (handle::share_arc(hub)?, text::read_name(name)?, output(document)?);
        let direct = engine.block_on(engine.hub()?.open_direct_connection(&name))??;
        let direct = Mutex::new(Some(Arc::new(direct)));
        let document =
            Arc::new(Document { engine: Arc::clone(&engine), name, direct, observers: Mutex::default() });
        engine.remember(&document);
        *out = handle::give_arc(document);
        Ok(())
    })
}

/// Closes a document and frees it; its observers end. It is stored and unloaded when nobody else uses it.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_free(document: *mut fidibus_document) {
    quietly((), || {
        if let Some(document) = handle::take_arc(document) {
            document.close();
        }
    });
}

/// Reads the whole document as one Yjs update v1. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_update(
    document: *const fidibus_document,
    update: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(update)?);
        *out = document.call(async |direct| direct.encode().await)?.into();
        Ok(())
    })
}

/// Reads what a peer with this state vector lacks, as one Yjs update v1. Blocks. FIDIBUS_STATUS_MALFORMED.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_diff(
    document: *const fidibus_document,
    state_vector: *const u8,
    len: usize,
    update: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(update)?);
        let state_vector = Bytes::copy_from_slice(text::read_bytes(state_vector, len)?);
        *out = document.call(async |direct| direct.diff(state_vector).await)?.into();
        Ok(())
    })
}

/// Reads the document's state vector. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_state_vector(
    document: *const fidibus_document,
    state_vector: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(state_vector)?);
        *out = document.call(async |direct| direct.state_vector().await)?.into();
        Ok(())
    })
}

/// Reads a root Y.Text as UTF-8, "" where there is none. Blocks. Costs time and memory by the size of the
/// whole document, as the next one does: it is made for the call only.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_text(
    document: *const fidibus_document,
    root: *const c_char,
    text: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, root, out) = (handle::share_arc(document)?, text::read(root)?, output(text)?);
        *out = document.call(async |direct| direct.text(root).await)?.into();
        Ok(())
    })
}

/// Reads a root type as JSON, as the fidibus_root that it is taken for, null where there is none; without a
/// `root` (NULL) all root types as one object, each by its content. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_json(
    document: *const fidibus_document,
    root: *const c_char,
    kind: u32,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(json)?);
        let root = text::read_optional(root)?.map(str::to_owned);
        let kind = fidibus_root::KINDS.iter().find(|(number, _)| *number as u32 == kind);
        let kind = kind.ok_or(fidibus_status::InvalidArgument)?.1;
        *out = document.call(async |direct| direct.json(root, kind).await)?.into();
        Ok(())
    })
}

/// Who is there, as JSON: [{"client":1,"state":{}}]. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_awareness(
    document: *const fidibus_document,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(json)?);
        let states = document.call(async |direct| direct.awareness().await)?;
        let states = states.into_iter().map(|(client, state)| {
            let state: Value = serde_json::from_str(&state).unwrap_or(Value::Null);
            json!({ "client": client, "state": state })
        });
        *out = Value::from_iter(states).to_string().into();
        Ok(())
    })
}

/// Applies a Yjs update v1. Clients get it, and it is stored, as if one of them had sent it. `verdict` (NULL: not
/// wanted) gets a fidibus_verdict. Blocks. FIDIBUS_STATUS_MALFORMED: nothing changed.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_apply_update(
    document: *const fidibus_document,
    update: *const u8,
    len: usize,
    verdict: *mut u32,
) -> fidibus_status {
    run(|| {
        let document = handle::share_arc(document)?;
        let update = Bytes::copy_from_slice(text::read_bytes(update, len)?);
        let applied = document.call(async |direct| direct.apply_update(update).await)?;
        tell(verdict, applied)
    })
}

/// Writes a verdict where it is wanted.
pub(crate) fn tell(out: *mut u32, verdict: Verdict) -> Result<(), Failure> {
    if !out.is_null() {
        *output(out)? = fidibus_verdict::from(verdict) as u32;
    }
    Ok(())
}

/// Has a callback told of every change from now on: its event has the document, a payload, and as its
/// fidibus_message either UPDATE or AWARENESS; its reply is NULL. Changes that come together, or faster than
/// they are taken, are one. The finalizer tells that the observer has ended: it was freed, or the document
/// was, or the hub ended. Blocks until it observes. Free it with fidibus_observer_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_document_observe(
    document: *const fidibus_document,
    callback: fidibus_callback,
    env: *mut c_void,
    finalizer: fidibus_finalizer,
    observer: *mut *mut fidibus_observer,
) -> fidibus_status {
    run(|| {
        let (document, out) = (handle::share_arc(document)?, output(observer)?);
        let function = callback.ok_or(fidibus_status::NullPointer)?;
        // Closed documents are not opened anew by this.
        document.call(async |_| Ok::<_, DirectError>(()))?;
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        let hub = document.engine.hub()?;
        let observing = hub.observe(&document.name, Arc::new(move || ring.notify_one()));
        let follower = document.engine.block_on(observing)??;
        let env = Env::new(env, finalizer);
        let name = document.name.clone();
        let task = document.engine.runtime().spawn(follow(follower, bell, name, function, env));
        lock(&document.observers).push(task.abort_handle());
        *out = handle::give_box(task.abort_handle());
        Ok(())
    })
}

async fn follow(observer: Observer, bell: Arc<Notify>, name: DocumentName, function: Function, env: Env) {
    loop {
        bell.notified().await;
        while let Some(observed) = observer.poll() {
            let (message, payload) = match &observed {
                Observed::Update(update) => (fidibus_message::Update, update),
                Observed::Awareness(update) => (fidibus_message::Awareness, update),
                Observed::Closed(_) => return,
            };
            let event = Event {
                message: Some(message),
                payload: Some(payload),
                ..Event::of_document(crate::extension::fidibus_hook::OnChange as u32, &name)
            };
            callback::tell(function, &env, &event);
        }
    }
}

/// Ends an observer and frees it. A call that is under way on another thread may still end after this returns.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_observer_free(observer: *mut fidibus_observer) {
    quietly((), || {
        if let Some(task) = handle::take_box(observer) {
            task.abort();
        }
    });
}
