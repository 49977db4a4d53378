//! The bytes of stored documents: merging, checking and the sifting of log rows. The one place where a
//! store touches the contents of an update.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use yrs::updates::decoder::Decode;

use super::{LogId, QuarantinedRow, StoredDocument};

/// An update without structs and deletes: what a row holds before its first snapshot.
pub(crate) const EMPTY_UPDATE: &[u8] = &[0, 0];

/// Bytes that are no Yjs update v1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Yjs update: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// Whether these bytes can be read as an update.
pub(crate) fn check(update: &[u8]) -> Result<(), Unreadable> {
    contained(|| yrs::Update::decode_v1(update).map(drop).map_err(|error| Unreadable(error.to_string())))
}

/// One update with everything that either holds.
pub(crate) fn merge(existing: &[u8], new: &[u8]) -> Result<Bytes, Unreadable> {
    if existing == EMPTY_UPDATE {
        check(new)?;
        return Ok(Bytes::copy_from_slice(new));
    }
    contained(|| {
        yrs::merge_updates_v1([existing, new]).map(Bytes::from).map_err(|error| Unreadable(error.to_string()))
    })
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

// A panic while stored bytes are read says the same as an error: they are not what they should be.
fn contained<T>(read: impl FnOnce() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Unreadable("its contents are inconsistent".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused_by_both() {
        assert!(check(b"\xff\xff\xff garbage").is_err());
        assert!(merge(EMPTY_UPDATE, b"\x01garbage").is_err());
        assert!(merge(b"\x01garbage", EMPTY_UPDATE).is_err());
        assert_eq!(merge(EMPTY_UPDATE, EMPTY_UPDATE).unwrap(), EMPTY_UPDATE);
    }
}
