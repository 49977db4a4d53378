//! The bytes of stored documents: checking, merging and what they cover. The one place where a store
//! touches the contents of an update.

use bytes::Bytes;

use super::{LogId, QuarantinedRow, StoredDocument};
use crate::log::{LogOptions, ScanError, StructLog, Verdict, scan_update};
use crate::protocol::varint::{Reader, write_var_uint};

/// An update without structs and deletes: what a row holds before its first snapshot.
pub(crate) const EMPTY_UPDATE: &[u8] = &[0, 0];

/// The content ref of a struct that has a length and nothing else (yjs `structs/GC.js`).
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "for stores in databases")
)]
const GC: u8 = 0;

/// Bytes that are no Yjs update v1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Yjs update: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

impl From<ScanError> for Unreadable {
    fn from(error: ScanError) -> Self {
        Self(error.to_string())
    }
}

/// Whether these bytes can be read as an update.
pub(crate) fn check(update: &[u8]) -> Result<(), Unreadable> {
    // What no peer may send, an old state may hold: the second opinion is the milder one.
    scan_update(update).map(drop).or_else(|_| read(update).map(drop))
}

/// Reads an update, whatever it may lack.
pub(crate) fn read(update: &[u8]) -> Result<StructLog, Unreadable> {
    // Stored bytes lose nothing: deleted content is the room's to give up, waiting parts stay.
    let options = LogOptions { gc: false, pending_bytes_max: usize::MAX };
    Ok(StructLog::load(options, update)?)
}

/// Adds stored bytes to a document: what no peer may send, another writer may have stored.
pub(crate) fn apply(log: &mut StructLog, update: &[u8]) -> Result<(), Unreadable> {
    if log.apply(update).is_err() {
        log.apply(&read(update)?.encode_with_pending())?;
    }
    Ok(())
}

/// One update with everything that either holds. `new` itself, where that is all.
pub(crate) fn merge(existing: &[u8], new: &Bytes) -> Result<Bytes, Unreadable> {
    merge_read(existing, new, read(new)?)
}

/// [`merge`], with `new` read already.
pub(crate) fn merge_read(existing: &[u8], new: &Bytes, mut log: StructLog) -> Result<Bytes, Unreadable> {
    if existing == EMPTY_UPDATE {
        return Ok(new.clone());
    }
    match log.apply(existing) {
        Ok(applied) if applied.verdict == Verdict::Known => return Ok(new.clone()),
        Ok(_) => {}
        Err(_) => {
            log = read(existing)?;
            apply(&mut log, new)?;
        }
    }
    if log.pending().next().is_some() {
        // Of two parts that wait under one id the first counts, so what is stored already comes first.
        log = read(existing)?;
        apply(&mut log, new)?;
    }
    // Parts that wait for others are no part of a state, but they are stored, behind holes.
    Ok(log.encode_with_pending().into())
}

/// What a state covers, as an update without content: whoever knows all of it knows all of the state.
/// `None` for a state that lacks something itself.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "for stores in databases")
)]
pub(crate) fn coverage(log: &StructLog) -> Option<Vec<u8>> {
    if log.pending().next().is_some() {
        return None;
    }
    let state_vector = log.state_vector();
    let mut reader = Reader::new(&state_vector);
    let clients = reader.var_uint().ok()?;
    let mut covered = Vec::with_capacity(state_vector.len() * 2);
    write_var_uint(&mut covered, clients);
    for _ in 0..clients {
        let (client, clock) = (reader.var_uint().ok()?, reader.var_uint().ok()?);
        write_var_uint(&mut covered, 1);
        write_var_uint(&mut covered, client);
        write_var_uint(&mut covered, 0);
        covered.push(GC);
        write_var_uint(&mut covered, clock);
    }
    // The difference to one's own clocks: no structs, which is one byte, and all deletes.
    let deletes = log.diff(&state_vector).ok()?;
    covered.extend_from_slice(deletes.get(1..)?);
    Some(covered)
}

/// Whether a state holds all that another one [covers](coverage).
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "for stores in databases")
)]
pub(crate) fn covers(log: &StructLog, coverage: &[u8]) -> bool {
    log.verdict(coverage).is_ok_and(|verdict| verdict == Verdict::Known)
}

/// Makes what `load` answers from the rows of a document: unreadable rows of the log are set aside, an
/// empty snapshot is none.
pub(crate) fn assemble(snapshot: Option<Bytes>, rows: Vec<(LogId, Bytes)>) -> StoredDocument {
    let snapshot = snapshot.filter(|snapshot| snapshot != EMPTY_UPDATE);
    let mut document = StoredDocument { snapshot, ..StoredDocument::default() };
    for (id, update) in rows {
        match check(&update) {
            Ok(()) => document.updates.push((id, update)),
            Err(error) => document.quarantined.push(QuarantinedRow { id, reason: error.to_string() }),
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::updates::decoder::Decode;
    use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

    /// A document that writes and deletes, and the update of each step.
    fn edits(client: u64, steps: u32) -> (Doc, Vec<Bytes>) {
        let doc = Doc::with_client_id(client);
        let text = doc.get_or_insert_text("text");
        let updates = (0..steps).map(|step| {
            let mut txn = doc.transact_mut();
            text.insert(&mut txn, step / 2, "ab");
            if step % 3 == 2 {
                text.remove_range(&mut txn, step / 3, 1);
            }
            Bytes::from(txn.encode_update_v1())
        });
        let updates = updates.collect();
        (doc, updates)
    }

    fn state(doc: &Doc) -> Bytes {
        doc.transact().encode_state_as_update_v1(&StateVector::default()).into()
    }

    fn text_of(updates: &[&[u8]]) -> String {
        let doc = Doc::new();
        let text = doc.get_or_insert_text("text");
        for update in updates {
            doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
        }
        text.get_string(&doc.transact())
    }

    #[test]
    fn garbage_is_refused_by_all() {
        let empty = Bytes::from_static(EMPTY_UPDATE);
        let garbage = Bytes::from_static(b"\x01garbage");
        assert!(check(b"\xff\xff\xff garbage").is_err());
        assert!(merge(EMPTY_UPDATE, &garbage).is_err());
        assert!(merge(&garbage, &empty).is_err());
        assert_eq!(merge(EMPTY_UPDATE, &empty).unwrap(), EMPTY_UPDATE);
    }

    #[test]
    fn a_state_that_holds_the_other_is_taken_byte_by_byte() {
        let (doc, updates) = edits(1, 30);
        let whole = state(&doc);
        for older in &updates {
            assert_eq!(merge(older, &whole).unwrap(), whole);
        }
        // The other way round, what is stored wins: nothing of it is forgotten.
        assert_eq!(text_of(&[&merge(&whole, &updates[0]).unwrap()]), text_of(&[&whole]));
    }

    #[test]
    fn states_of_two_writers_are_joined() {
        let ((one, _), (two, _)) = (edits(1, 30), edits(2, 17));
        let (one, two) = (state(&one), state(&two));
        let merged = merge(&one, &two).unwrap();
        assert_eq!(text_of(&[&merged]), text_of(&[&one, &two]));
        assert_eq!(merge(&merged, &one).unwrap(), merge(&merged, &two).unwrap());
    }

    #[test]
    fn parts_that_wait_are_kept_until_what_they_miss_comes() {
        let (doc, updates) = edits(1, 12);
        let mut stored = updates[11].clone();
        // Backwards: each depends on one that comes later.
        for update in updates[..11].iter().rev() {
            stored = merge(&stored, update).unwrap();
        }
        assert_eq!(text_of(&[&stored]), text_of(&[&state(&doc)]));
        assert_eq!(read(&stored).unwrap().pending().count(), 0);
    }

    /// Goal: what is integrated stays so, whatever a peer parks under the same id. Method: two updates of one client
    /// that disagree about a clock; one of them waits for a client that nobody has heard of.
    #[test]
    fn an_impostor_that_waits_displaces_nothing() {
        let one = StructLog::load(LogOptions::default(), &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0]).unwrap();
        // At clock 1: "b" behind "a", and "x" behind a struct of client 9.
        let honest: &[u8] = &[1, 1, 7, 1, 0x84, 7, 0, 1, b'b', 0];
        let impostor: &[u8] = &[1, 1, 7, 1, 0x84, 9, 0, 1, b'x', 0];
        let state = Bytes::from(one.encode());
        let honest_first = merge(&merge(honest, &Bytes::from_static(impostor)).unwrap(), &state).unwrap();
        let with_state =
            merge(&merge(&state, &Bytes::from_static(honest)).unwrap(), &Bytes::from_static(impostor))
                .unwrap();
        for stored in [honest_first, with_state] {
            let mut log = read(&stored).unwrap();
            assert_eq!(log.apply(honest).unwrap().verdict, Verdict::Known);
            assert_eq!(log.state_vector(), [1, 7, 2]);
        }
    }

    /// What [`check`] lets pass is merged too: another writer left a struct of no length behind "b", which waits.
    #[test]
    fn what_another_writer_left_is_merged() {
        let strange = Bytes::from_static(&[1, 2, 7, 1, 0x84, 7, 0, 1, b'b', 0, 0, 0]);
        let first = Bytes::from_static(&[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0]);
        let (other, _) = edits(1, 3);
        check(&strange).unwrap();
        let stored = merge(&state(&other), &strange).unwrap();
        let stored = merge(&stored, &first).unwrap();
        let (stored, b) = (read(&stored).unwrap(), [1, 1, 7, 1, 0x84, 7, 0, 1, b'b', 0]);
        assert_eq!(stored.pending().count(), 0);
        assert_eq!(stored.verdict(&b).unwrap(), Verdict::Known);
    }

    #[test]
    fn coverage_tells_more_from_less() {
        let (doc, updates) = edits(1, 30);
        let whole = read(&state(&doc)).unwrap();
        let mut part = read(EMPTY_UPDATE).unwrap();
        for update in &updates {
            let covered = coverage(&whole).unwrap();
            assert!(!covers(&part, &covered), "before the last edit");
            part.apply(update).unwrap();
            assert!(covers(&whole, &coverage(&part).unwrap()));
        }
        assert!(covers(&part, &coverage(&whole).unwrap()));
        let (other, _) = edits(2, 3);
        let other = read(&state(&other)).unwrap();
        assert!(!covers(&whole, &coverage(&other).unwrap()) && !covers(&other, &coverage(&whole).unwrap()));
        assert_eq!(coverage(&read(&updates[5]).unwrap()), None, "it lacks what came before");
    }

    #[test]
    fn a_deletion_alone_makes_a_difference() {
        let doc = Doc::with_client_id(7);
        let text = doc.get_or_insert_text("text");
        text.insert(&mut doc.transact_mut(), 0, "abc");
        let before = state(&doc);
        text.remove_range(&mut doc.transact_mut(), 1, 1);
        let after = state(&doc);
        assert!(!covers(&read(&before).unwrap(), &coverage(&read(&after).unwrap()).unwrap()));
        assert!(covers(&read(&after).unwrap(), &coverage(&read(&before).unwrap()).unwrap()));
        assert_eq!(text_of(&[&merge(&after, &before).unwrap()]), "ac");
    }
}
