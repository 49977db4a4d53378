//! What the checks write, and how they see what is stored: every edit has an author of its own (a Yjs
//! client), so a set of authors says which edits a document holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use yrs::updates::decoder::Decode;
use yrs::{Doc, Map, ReadTxn, StateVector, Transact, Update};

use crate::id::DocumentName;
use crate::store::{DocumentStore, LogBatch, StoredDocument};

/// The edits in a document: author and what they wrote.
pub type Authors = BTreeMap<u32, String>;

/// A document's name.
///
/// # Panics
/// For a name that no document may have.
pub fn name(name: &str) -> DocumentName {
    DocumentName::parse(name).expect("a name that documents may have")
}

/// One edit as an update that depends on no other.
pub fn edit(author: u32, text: &str) -> Bytes {
    let doc = Doc::with_client_id(u64::from(author));
    let edits = doc.get_or_insert_map("edits");
    let mut txn = doc.transact_mut();
    edits.insert(&mut txn, author.to_string(), text);
    txn.encode_update_v1().into()
}

/// One edit as a row for the log.
pub fn batch(document: &DocumentName, author: u32, text: &str) -> LogBatch {
    LogBatch { document: document.clone(), update: edit(author, text), user: Some("user-1".into()) }
}

/// What these edits look like in [`authors`].
pub fn expected<'a>(edits: impl IntoIterator<Item = (u32, &'a str)>) -> Authors {
    edits.into_iter().map(|(author, text)| (author, text.to_owned())).collect()
}

/// The edits that a loaded document holds, as Yjs sees it: snapshot and rows applied to a document.
///
/// # Panics
/// When a part of it cannot be applied.
pub fn authors(stored: &StoredDocument) -> Authors {
    let doc = Doc::new();
    let edits = doc.get_or_insert_map("edits");
    for update in stored.snapshot.iter().chain(stored.updates.iter().map(|(_, update)| update)) {
        let update = Update::decode_v1(update).expect("a loaded update can be decoded");
        doc.transact_mut().apply_update(update).expect("a loaded update can be applied");
    }
    let txn = doc.transact();
    assert!(txn.store().pending_update().is_none(), "nothing that an edit depends on is missing");
    edits
        .iter(&txn)
        .map(|(author, text)| (author.parse().expect("an author"), text.to_string(&txn)))
        .collect()
}

/// Loads a document and answers the edits in it; none when it is not stored.
///
/// # Panics
/// When it cannot be loaded.
pub async fn authors_stored(store: &dyn DocumentStore, document: &DocumentName) -> Authors {
    store.load(document).await.expect("load").map_or_else(Authors::new, |stored| authors(&stored))
}

/// The whole state of a loaded document as one update, as a room would make it.
///
/// # Panics
/// When a part of it cannot be applied.
pub fn snapshot(stored: &StoredDocument) -> Bytes {
    let doc = Doc::new();
    for update in stored.snapshot.iter().chain(stored.updates.iter().map(|(_, update)| update)) {
        let update = Update::decode_v1(update).expect("a loaded update can be decoded");
        doc.transact_mut().apply_update(update).expect("a loaded update can be applied");
    }
    let state = doc.transact().encode_state_as_update_v1(&StateVector::default());
    state.into()
}

/// Bytes that are no update, of several kinds.
pub fn garbage() -> [Bytes; 4] {
    let cut = edit(7, "cut short");
    [
        Bytes::new(),
        Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        Bytes::from_static(b"<html>502 Bad Gateway</html>"),
        cut.slice(..cut.len() / 2),
    ]
}
