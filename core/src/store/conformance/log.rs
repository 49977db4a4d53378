//! The checks on the update log. They need a store that has one.

use std::pin::Pin;
use std::sync::Arc;

use super::document::together;
use super::edits::{authors, authors_stored, batch, edit, expected, garbage, name, snapshot};
use crate::id::DocumentName;
use crate::store::{DocumentStore, LogBatch, LogId, UpdateLog};

fn log_of(store: &dyn DocumentStore) -> Arc<dyn UpdateLog> {
    store.update_log().expect("a store with an update log")
}

async fn ids_loaded(store: &dyn DocumentStore, document: &DocumentName) -> Vec<LogId> {
    let stored = store.load(document).await.expect("load");
    stored.map_or_else(Vec::new, |stored| stored.updates.iter().map(|(id, _)| *id).collect())
}

/// Rows come back byte for byte and in order, with and without a snapshot.
pub async fn rows_are_loaded_in_order(store: &dyn DocumentStore) {
    let (document, log) = (name("rows"), log_of(store));
    let mut ids =
        log.append(&[batch(&document, 1, "one"), batch(&document, 2, "two")]).await.expect("append");
    let loaded = store.load(&document).await.expect("load").expect("a document");
    assert_eq!(loaded.snapshot, None, "no snapshot was written");
    store.store(&document, edit(3, "three"), &[]).await.expect("store");
    ids.extend(log.append(&[batch(&document, 4, "four")]).await.expect("append"));
    let loaded = store.load(&document).await.expect("load").expect("a document");
    let updates = [edit(1, "one"), edit(2, "two"), edit(4, "four")];
    assert_eq!(loaded.updates, ids.into_iter().zip(updates).collect::<Vec<_>>());
    assert_eq!(authors(&loaded), expected([(1, "one"), (2, "two"), (3, "three"), (4, "four")]));
    assert!(log.append(&[]).await.expect("append nothing").is_empty());
}

/// One append of many documents: each id is that of its batch, and ids grow.
pub async fn ids_are_those_of_the_batches(store: &dyn DocumentStore) {
    let (documents, log) = ([name("x"), name("y"), name("z")], log_of(store));
    let mut last = 0;
    for round in 0..3_u32 {
        let batches: Vec<_> =
            (0..700).map(|at| batch(&documents[(at * 7 % 3) as usize], round * 1000 + at, "many")).collect();
        let ids = log.append(&batches).await.expect("append");
        assert_eq!(ids.len(), batches.len());
        assert!(ids[0] > last && ids.is_sorted_by(|a, b| a < b), "ids grow");
        last = ids[ids.len() - 1];
        for document in &documents {
            let stored = store.load(document).await.expect("load").expect("a document");
            let wrote = ids.iter().zip(&batches).filter(|(_, batch)| batch.document == *document);
            let wrote: Vec<_> = wrote.map(|(id, batch)| (*id, batch.update.clone())).collect();
            assert!(stored.updates.ends_with(&wrote), "{document}: rows and ids belong together");
        }
    }
}

/// Folding takes the rows named, and no other: not those before, between or after, nor another document's.
pub async fn exactly_the_named_rows_are_folded(store: &dyn DocumentStore) {
    let (document, other, log) = (name("folds"), name("other"), log_of(store));
    let batches: Vec<_> = (1..=6).map(|author| batch(&document, author, "row")).collect();
    let ids = log.append(&batches).await.expect("append");
    let others = log.append(&[batch(&other, 1, "other")]).await.expect("append");
    let folded = [ids[1], ids[4], others[0], i64::MAX, -1];
    store.store(&document, edit(2, "row"), &folded).await.expect("store");
    assert_eq!(ids_loaded(store, &document).await, [ids[0], ids[2], ids[3], ids[5]]);
    assert_eq!(ids_loaded(store, &other).await, others, "a row of another document is passed over");
    store.store(&document, edit(2, "row"), &folded).await.expect("the same once more");
    assert_eq!(ids_loaded(store, &document).await, [ids[0], ids[2], ids[3], ids[5]]);
    // Refused as a whole: the snapshot that would hold the rows was not stored.
    let refused = store.store(&document, garbage()[1].clone(), &ids).await;
    assert!(refused.is_err_and(|error| !error.retryable));
    assert_eq!(ids_loaded(store, &document).await, [ids[0], ids[2], ids[3], ids[5]]);
}

/// Appends of many callers at once are all there.
pub async fn concurrent_appends_lose_nothing(store: &dyn DocumentStore) {
    let (documents, log) = ([name("left"), name("right")], log_of(store));
    let calls = (0..16_u32).map(|author| {
        let (log, documents) = (&log, &documents);
        async move {
            // In both orders, so that two appends want the same new documents the other way round.
            let mut batches = documents.each_ref().map(|document| batch(document, author, "at once"));
            if author % 2 == 1 {
                batches.reverse();
            }
            while let Err(error) = log.append(&batches).await {
                assert!(error.retryable, "{error}");
            }
        }
    });
    together(calls).await;
    for document in &documents {
        let authors = authors_stored(store, document).await;
        assert_eq!(authors, expected((0..16).map(|author| (author, "at once"))));
    }
}

/// A room that compacts while others append: whatever is acknowledged is in the snapshot or in the log.
pub async fn folding_beside_appends_loses_nothing(store: &dyn DocumentStore) {
    const APPENDS: u32 = 40;
    let (document, log) = (name("busy"), log_of(store));
    let appends = async {
        for author in 1..=APPENDS {
            log.append(&[batch(&document, author, "acked")]).await.expect("append");
            let seen = authors_stored(store, &document).await;
            assert!(seen.contains_key(&author), "{author} was acknowledged");
        }
    };
    let compactor = || async {
        for _ in 0..APPENDS {
            let Some(stored) = store.load(&document).await.expect("load") else { continue };
            let folded: Vec<_> = stored.updates.iter().map(|(id, _)| *id).collect();
            store.store(&document, snapshot(&stored), &folded).await.expect("store");
        }
    };
    // Two of them, as two servers would, each with what it has seen.
    let calls: [Pin<Box<dyn Future<Output = ()> + Send>>; 3] =
        [Box::pin(appends), Box::pin(compactor()), Box::pin(compactor())];
    together(calls).await;
    assert_eq!(
        authors_stored(store, &document).await,
        expected((1..=APPENDS).map(|author| (author, "acked")))
    );
}

/// The log of a document goes with it, and of no other.
pub async fn deleting_takes_the_log_along(store: &dyn DocumentStore) {
    let (gone, stays, log) = (name("gone"), name("stays"), log_of(store));
    log.append(&[batch(&gone, 1, "gone"), batch(&stays, 2, "stays")]).await.expect("append");
    assert!(store.delete(&gone).await.expect("delete"));
    assert_eq!(store.load(&gone).await.expect("load"), None);
    assert_eq!(authors_stored(store, &stays).await, expected([(2, "stays")]));
    log.append(&[batch(&gone, 3, "anew")]).await.expect("append");
    assert_eq!(authors_stored(store, &gone).await, expected([(3, "anew")]));
}

/// A row that cannot be read harms nobody else, is reported by every load, and is never folded away.
pub async fn unreadable_rows_are_set_aside(store: &dyn DocumentStore) {
    let (document, log) = (name("harmed"), log_of(store));
    for (author, garbage) in (1..).zip(garbage()) {
        let bad = LogBatch { document: document.clone(), update: garbage, user: None };
        let ids = log.append(&[bad, batch(&document, author, "good")]).await.expect("append");
        let stored = store.load(&document).await.expect("the document opens").expect("a document");
        let quarantined: Vec<_> = stored.quarantined.iter().map(|row| row.id).collect();
        assert!(quarantined.contains(&ids[0]) && !quarantined.contains(&ids[1]), "{quarantined:?}");
        assert_eq!(quarantined.len(), author as usize);
        assert_eq!(authors(&stored), expected((1..=author).map(|author| (author, "good"))));
        store.store(&document, snapshot(&stored), &ids).await.expect("store");
        let after = store.load(&document).await.expect("load").expect("a document");
        assert_eq!(after.quarantined, stored.quarantined, "it is still there after the fold");
        assert_eq!(authors(&after), authors(&stored));
    }
}

/// Users of no kind, of an odd kind and of a kind that no database can hold.
pub async fn users_of_any_kind_are_accepted(store: &dyn DocumentStore) {
    let (document, log) = (name("users"), log_of(store));
    let users =
        [None, Some(""), Some("o'neill"), Some("ü 文 📝"), Some("nul\0inside"), Some("nobody-knows-me")];
    let batches: Vec<_> = (1..)
        .zip(users)
        .map(|(author, user)| LogBatch { user: user.map(Arc::from), ..batch(&document, author, "row") })
        .collect();
    log.append(&batches).await.expect("append");
    assert_eq!(authors_stored(store, &document).await.len(), users.len());
}

/// A row of several megabytes beside small ones.
pub async fn large_batches_come_back(store: &dyn DocumentStore) {
    let (document, log) = (name("large rows"), log_of(store));
    let text = "row ".repeat(1_000_000);
    let batches = [batch(&document, 1, &text), batch(&document, 2, "small"), batch(&document, 3, &text)];
    log.append(&batches).await.expect("append");
    let stored = store.load(&document).await.expect("load").expect("a document");
    let loaded: Vec<_> = stored.updates.into_iter().map(|(_, update)| update).collect();
    assert!(loaded == batches.map(|batch| batch.update), "rows come back as they were written");
}
