//! A store as callbacks, one for each operation.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::BoxFuture;
use fidibus_core::error::StoreError;
use fidibus_core::id::DocumentName;
use fidibus_core::store::{DocumentStore, LogBatch, LogId, StoredDocument, UpdateLog};

use crate::border::{quietly, run};
use crate::callback::{self, Env, Function, fidibus_callback, fidibus_finalizer};
use crate::event::Event;
use crate::handle::{self, box_handle, output};
use crate::reply::{Answer, Kind};
use crate::status::{Failure, fidibus_status};

/// What a store is asked for; every operation gets a reply. LOAD and STORE are needed, the others are not.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_store_operation {
    /// Read a document: fidibus_reply_set_snapshot, fidibus_reply_add_row; neither where it was never stored.
    Load = 100,
    /// Merge a snapshot (payload) into what is stored, atomically, and fold exactly the rows named (folded).
    Store = 101,
    /// Remove a document and its rows (fidibus_hub_delete_stored): fidibus_reply_set_count. Without it, nothing can
    /// be removed.
    Delete = 102,
    /// Names after fidibus_event_after, at most fidibus_event_limit (fidibus_hub_stored_documents):
    /// fidibus_reply_add_name. Without it: none.
    List = 103,
    /// Is the store there? Without it: yes.
    Ping = 104,
    /// The hub ends; there is no further call.
    Close = 105,
    /// Append rows (batches) so that all of them survive a crash once it is accepted: fidibus_reply_add_id, one
    /// for each. With it, clients' updates are acknowledged when they are stored; without, at once.
    Append = 106,
    /// Delete folded rows older than fidibus_event_age_ms, a bounded number (fidibus_hub_prune_log):
    /// fidibus_reply_set_count.
    Prune = 107,
}

use fidibus_store_operation as Operation;

/// The first operation's number, and how many there are.
const FIRST: u32 = Operation::Load as u32;
const OPERATIONS: usize = 8;

/// A store made of callbacks. Make it, set callbacks, give it to configurations, free it.
pub struct fidibus_store {
    _private: [u8; 0],
}

box_handle!(fidibus_store(CStore));

/// The callbacks of a store. Clones share the env.
#[derive(Clone)]
pub(crate) struct CStore {
    env: Arc<Env>,
    callbacks: [Option<Function>; OPERATIONS],
}

/// Makes a store without callbacks; else as fidibus_extension_new. Free it with fidibus_store_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_store_new(
    env: *mut c_void,
    finalizer: fidibus_finalizer,
    store: *mut *mut fidibus_store,
) -> fidibus_status {
    run(|| {
        let out = output(store)?;
        let env = Arc::new(Env::new(env, finalizer));
        *out = handle::give_box(CStore { env, callbacks: [None; OPERATIONS] });
        Ok(())
    })
}

/// Frees it; hubs that have it keep their own share.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_store_free(store: *mut fidibus_store) {
    quietly((), || drop(handle::take_box(store)));
}

/// Sets the callback of a fidibus_store_operation; NULL takes it away.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_store_on(
    store: *mut fidibus_store,
    operation: u32,
    callback: fidibus_callback,
) -> fidibus_status {
    run(|| {
        let store = handle::box_mut(store)?;
        let place = operation.checked_sub(FIRST).and_then(|index| store.callbacks.get_mut(index as usize));
        *place.ok_or(fidibus_status::InvalidArgument)? = callback;
        Ok(())
    })
}

impl CStore {
    /// Whether a hub can use it.
    pub(crate) fn complete(&self) -> Result<(), Failure> {
        if self.has(Operation::Load) && self.has(Operation::Store) {
            return Ok(());
        }
        Err(Failure::new(fidibus_status::InvalidArgument, "a store needs callbacks for LOAD and STORE"))
    }

    fn has(&self, operation: Operation) -> bool {
        self.callbacks[(operation as u32 - FIRST) as usize].is_some()
    }

    /// Asks for an operation; `None` where there is no callback.
    fn ask(
        &self,
        event: &Event<'_>,
        kind: Kind,
    ) -> Option<impl Future<Output = Result<Answer, StoreError>> + Send + use<>> {
        let function = self.callbacks[(event.kind - FIRST) as usize]?;
        let asked = callback::ask(function, &self.env, event, kind);
        Some(async move { asked.await.stored() })
    }
}

fn missing() -> StoreError {
    StoreError::permanent("callbacks", "the store has no callback for that")
}

impl DocumentStore for CStore {
    fn name(&self) -> &'static str {
        "callbacks"
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        let asked = self.ask(&Event::of_document(Operation::Load as u32, document), Kind::StoreLoad);
        Box::pin(async move {
            let answer = asked.ok_or_else(missing)?.await?;
            if answer.snapshot.is_none() && answer.rows.is_empty() {
                return Ok(None);
            }
            // Yjs' empty update is what a document is stored as before it has any content.
            let snapshot = answer.snapshot.filter(|snapshot| !matches!(snapshot[..], [] | [0, 0]));
            Ok(Some(StoredDocument { snapshot, updates: answer.rows, ..StoredDocument::default() }))
        })
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let event = Event {
            payload: Some(&snapshot),
            folded: Some(folded),
            ..Event::of_document(Operation::Store as u32, document)
        };
        let asked = self.ask(&event, Kind::StoreDone);
        Box::pin(async move { asked.ok_or_else(missing)?.await.map(drop) })
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        let asked = self.ask(&Event::of_document(Operation::Delete as u32, document), Kind::StoreCount);
        Box::pin(async move { Ok(asked.ok_or_else(missing)?.await?.count > 0) })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        let event = Event {
            kind: Operation::List as u32,
            after: Some(after),
            limit: Some(limit as u64),
            ..Event::default()
        };
        let asked = self.ask(&event, Kind::StoreList);
        Box::pin(async move {
            let Some(asked) = asked else { return Ok(Vec::new()) };
            let mut names = asked.await?.names;
            names.truncate(limit);
            Ok(names)
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let event = Event { kind: Operation::Ping as u32, ..Event::default() };
        let asked = self.ask(&event, Kind::StoreDone);
        Box::pin(async move {
            match asked {
                Some(asked) => asked.await.map(drop),
                None => Ok(()),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let event = Event { kind: Operation::Close as u32, ..Event::default() };
        let asked = self.ask(&event, Kind::StoreDone);
        Box::pin(async move {
            if let Some(asked) = asked
                && let Err(error) = asked.await
            {
                tracing::warn!(%error, "The store could not be closed");
            }
        })
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        self.has(Operation::Append).then(|| Arc::new(self.clone()) as Arc<dyn UpdateLog>)
    }
}

impl UpdateLog for CStore {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        let event = Event { kind: Operation::Append as u32, batches: Some(batches), ..Event::default() };
        let asked = self.ask(&event, Kind::StoreAppend);
        Box::pin(async move { Ok(asked.ok_or_else(missing)?.await?.ids) })
    }

    fn prune(&self, age: Duration) -> BoxFuture<'_, Result<u64, StoreError>> {
        let age_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let event = Event { kind: Operation::Prune as u32, age_ms, ..Event::default() };
        let asked = self.ask(&event, Kind::StoreCount);
        Box::pin(async move {
            match asked {
                Some(asked) => Ok(asked.await?.count),
                None => Ok(0),
            }
        })
    }
}
