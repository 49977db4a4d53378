//! How a document gets into memory and back into its store.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Shared;
use super::error_chain;
use crate::config::Config;
use crate::error::{HubError, StoreError};
use crate::hooks::{CreateDocumentEvent, HookSet, LoadDocumentEvent, SessionScope, StoreEvent, run_hooks};
use crate::id::DocumentName;
use crate::log::{LogOptions, StructLog};
use crate::room::{Room, RoomOptions, Saver};
use crate::store::merge::{self, Unreadable};
use crate::store::{LogId, StoredDocument};

/// A document that was loaded.
pub(super) struct Loaded {
    pub(super) room: Room,
    rows: Vec<LogId>,
    snapshot_bytes: usize,
    /// Hooks added to it, so that it differs from what is stored.
    changed: bool,
}

impl Loaded {
    /// The saver that knows what of it the store has.
    pub(super) fn saver(&self, config: &Config, now: Instant) -> Saver {
        let mut saver = Saver::new(config.debounce, config.debounce_max);
        let complete = self.room.log().pending_bytes() == 0;
        saver.loaded(self.snapshot_bytes, &self.rows, complete, now);
        if self.changed {
            saver.changed(now);
        }
        saver
    }
}

/// Reads a document from the store and asks the hooks. Any failure fails the load: a document that
/// cannot be read must not be opened empty, since it would then overwrite what is stored.
pub(super) async fn load(
    shared: &Shared,
    document: &DocumentName,
    scope: Option<&SessionScope>,
) -> Result<Box<Loaded>, HubError> {
    let started = Instant::now();
    let options = room_options(shared, document).await?;
    let stored = match shared.keeps_documents {
        true => shared.store.load(document).await.map_err(|error| HubError::Load(Arc::new(error)))?,
        false => None,
    };
    let stored = stored.unwrap_or_default();
    shared.quarantine.note(document, &stored.quarantined, &shared.metrics);
    let rows = stored.updates.iter().map(|(id, _)| *id).collect();
    let snapshot_bytes = stored.snapshot.as_ref().map_or(0, Bytes::len);
    let (log, whole) = read(options.log, &stored)
        .map_err(|error| HubError::Load(Arc::new(StoreError::permanent(shared.store.name(), error))))?;
    let mut room = Room::new(document.clone(), log, options);
    if let Some(snapshot) = stored.snapshot.filter(|_| whole) {
        room.keep_full_state(snapshot);
    }
    let changed = ask_load_hooks(shared, &mut room, scope).await?;
    shared.metrics.loads_total.add(1);
    shared.metrics.load_microseconds_total.add(started.elapsed().as_micros() as u64);
    tracing::debug!(document = %document, bytes = room.log().encoded_bytes(), "Document loaded");
    Ok(Box::new(Loaded { room, rows, snapshot_bytes, changed }))
}

/// The document, and whether its snapshot is all of it as a peer may get it.
fn read(options: LogOptions, stored: &StoredDocument) -> Result<(StructLog, bool), Unreadable> {
    // What was stored was accepted once, whatever the limits are today.
    let unbounded = LogOptions { pending_bytes_max: usize::MAX, ..options };
    let (mut log, whole) = match &stored.snapshot {
        Some(snapshot) => StructLog::load_state(unbounded, snapshot)?,
        None => (StructLog::new(unbounded), false),
    };
    for (_, update) in &stored.updates {
        merge::apply(&mut log, update)?;
    }
    log.trim_journal(log.cursor());
    log.set_pending_bytes_max(options.pending_bytes_max);
    Ok((log, whole && stored.updates.is_empty()))
}

async fn room_options(shared: &Shared, document: &DocumentName) -> Result<Arc<RoomOptions>, HubError> {
    if !shared.hooks.wants(HookSet::ON_CREATE_DOCUMENT) {
        return Ok(Arc::clone(&shared.room_options));
    }
    let mut event = CreateDocumentEvent { document, gc: shared.room_options.log.gc };
    run_hooks!(shared.hooks, ON_CREATE_DOCUMENT, on_create_document, &mut event)
        .map_err(|rejection| HubError::Rejected(Arc::new(rejection)))?;
    let mut options = RoomOptions::clone(&shared.room_options);
    options.log.gc = event.gc;
    Ok(Arc::new(options))
}

async fn ask_load_hooks(
    shared: &Shared,
    room: &mut Room,
    scope: Option<&SessionScope>,
) -> Result<bool, HubError> {
    if !shared.hooks.wants(HookSet::ON_LOAD_DOCUMENT) {
        return Ok(false);
    }
    let document = room.name().clone();
    let mut event =
        LoadDocumentEvent { document: &document, scope, stored: &room.full_state(), updates: Vec::new() };
    run_hooks!(shared.hooks, ON_LOAD_DOCUMENT, on_load_document, &mut event)
        .map_err(|rejection| HubError::Rejected(Arc::new(rejection)))?;
    room.preload(&event.updates)
        .map_err(|error| HubError::Load(Arc::new(StoreError::permanent("onLoadDocument", error))))
}

/// Has a snapshot stored by the hooks and the store; whether it worked.
pub(super) async fn save(
    shared: &Shared,
    document: &DocumentName,
    snapshot: Bytes,
    folded: &[LogId],
) -> bool {
    let started = Instant::now();
    let mut event = StoreEvent { document, snapshot: &snapshot };
    if shared.hooks.wants(HookSet::ON_STORE_DOCUMENT)
        && let Err(rejection) = run_hooks!(shared.hooks, ON_STORE_DOCUMENT, on_store_document, &mut event)
    {
        shared.metrics.hook_errors_total.add(1);
        shared.metrics.store_failures_total.add(1);
        tracing::error!(document = %document, error = %error_chain(&rejection), "onStoreDocument failed; the document stays in memory and is stored again later");
        return false;
    }
    if let Err(error) = shared.store.store(document, snapshot.clone(), folded).await {
        shared.metrics.store_failures_total.add(1);
        tracing::error!(document = %document, error = %error_chain(&error), "Document could not be stored; it stays in memory and is stored again later");
        return false;
    }
    shared.metrics.stores_total.add(1);
    shared.metrics.store_bytes_total.add(snapshot.len() as u64);
    shared.metrics.store_microseconds_total.add(started.elapsed().as_micros() as u64);
    tracing::debug!(document = %document, bytes = snapshot.len(), "Document stored");
    let mut event = StoreEvent { document, snapshot: &snapshot };
    if shared.hooks.wants(HookSet::AFTER_STORE_DOCUMENT)
        && let Err(rejection) =
            run_hooks!(shared.hooks, AFTER_STORE_DOCUMENT, after_store_document, &mut event)
    {
        shared.metrics.hook_errors_total.add(1);
        tracing::error!(document = %document, error = %error_chain(&rejection), "afterStoreDocument failed");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a row that the store calls readable is loaded. Method: an update of another writer, "a" and a struct
    /// of no length, which no peer may send.
    #[test]
    fn a_row_that_no_peer_may_send_opens_as_a_snapshot_of_it_would() {
        let strange = Bytes::from_static(&[1, 2, 7, 0, 4, 1, 1, b't', 1, b'a', 0, 0, 0]);
        let next = Bytes::from_static(&[1, 1, 7, 1, 0x84, 7, 0, 1, b'b', 0]);
        assert!(StructLog::new(LogOptions::default()).apply(&strange).is_err());
        for updates in [[&strange, &next], [&next, &strange]] {
            let rows = updates.into_iter().cloned().zip(1..).map(|(update, id)| (id, update)).collect();
            let stored = StoredDocument { updates: rows, ..StoredDocument::default() };
            let (log, _) = read(LogOptions::default(), &stored).unwrap();
            assert_eq!((log.state_vector(), log.pending_bytes()), (vec![1, 7, 2], 0));
        }
    }

    /// Goal: a joiner gets stored bytes only where they are the document, and a peer may be sent them. Method: "a"
    /// alone; with "b" in a row behind it; with a struct of no length; "b" without "a"; nothing.
    #[test]
    fn only_a_whole_snapshot_is_what_a_joiner_gets() {
        let first = Bytes::from_static(&[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0]);
        let strange = Bytes::from_static(&[1, 2, 7, 0, 4, 1, 1, b't', 1, b'a', 0, 0, 0]);
        let next = Bytes::from_static(&[1, 1, 7, 1, 0x84, 7, 0, 1, b'b', 0]);
        for (snapshot, row, expected) in [
            (Some(&first), None, true),
            (Some(&first), Some(&next), false),
            (Some(&strange), None, false),
            (Some(&next), None, false),
            (None, Some(&first), false),
        ] {
            let updates = row.map(|row| (1, row.clone())).into_iter().collect();
            let stored = StoredDocument { snapshot: snapshot.cloned(), updates, ..StoredDocument::default() };
            let (log, whole) = read(LogOptions::default(), &stored).unwrap();
            assert_eq!(whole, expected, "{snapshot:?} {row:?}");
            assert!(!whole || snapshot.is_some_and(|snapshot| log.encode() == *snapshot));
        }
    }
}
