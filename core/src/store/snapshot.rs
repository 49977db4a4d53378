//! How a snapshot in a database is checked and replaced: the rules that the SQL stores share. No SQL here.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::merge::{EMPTY_UPDATE, Unreadable, check, merge};

/// Work on more bytes than this leaves the thread that serves sockets.
const INLINE_BYTES_MAX: usize = 128 * 1024;

/// Bytes and their SHA-256: the one that `select sha256(data)` answers on PostgreSQL.
pub(crate) struct Sealed {
    pub(crate) update: Bytes,
    pub(crate) sha256: [u8; 32],
}

impl Sealed {
    fn new(update: Bytes) -> Self {
        let sha256 = Sha256::digest(&update).into();
        Self { update, sha256 }
    }
}

/// A snapshot as it stands in its row.
pub(crate) struct Found {
    pub(crate) update: Bytes,
    /// The checksum, where we were the last to write the row.
    pub(crate) sha256: Option<Vec<u8>>,
}

impl Found {
    /// Whether the bytes are those that were written, and an update.
    fn verify(&self) -> Result<(), Unreadable> {
        if let Some(expected) = &self.sha256
            && Sha256::digest(&self.update).as_slice() != expected.as_slice()
        {
            return Err(Unreadable("it is not what was written (checksum)".into()));
        }
        check(&self.update)
    }
}

/// What keeps a snapshot from being loaded or replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// What is stored: its bytes stay as they are.
    #[error("the stored snapshot of {document:?} cannot be read and is kept untouched")]
    Stored {
        document: String,
        #[source]
        source: Unreadable,
    },
    /// What the caller handed in.
    #[error("the new snapshot of {document:?} cannot be read and was not stored")]
    New {
        document: String,
        #[source]
        source: Unreadable,
    },
}

/// Answers the bytes of a row that may be loaded.
pub(crate) async fn open(document: &str, found: Found) -> Result<Bytes, SnapshotError> {
    aside(found.update.len(), move || found.verify().map(|()| found.update))
        .await
        .map_err(|source| SnapshotError::Stored { document: document.to_owned(), source })
}

/// What is to be written: the new snapshot, merged into the one that was found. `None` where that would
/// change nothing.
pub(crate) async fn settle(
    document: &str,
    found: Option<Found>,
    new: Bytes,
) -> Result<Option<Sealed>, SnapshotError> {
    let bytes = new.len() + found.as_ref().map_or(0, |found| found.update.len());
    let outcome = aside(bytes, move || {
        check(&new).map_err(|error| (true, error))?;
        let Some(found) = found else { return Ok(Some(Sealed::new(new))) };
        found.verify().map_err(|error| (false, error))?;
        if found.update == EMPTY_UPDATE {
            return Ok(Some(Sealed::new(new)));
        }
        if found.sha256.is_some() && found.update == new {
            return Ok(None);
        }
        let merged = merge(&found.update, &new).map_err(|error| (true, error))?;
        Ok((found.sha256.is_none() || merged != found.update).then(|| Sealed::new(merged)))
    });
    outcome.await.map_err(|(is_new, source)| {
        let document = document.to_owned();
        if is_new {
            SnapshotError::New { document, source }
        } else {
            SnapshotError::Stored { document, source }
        }
    })
}

async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime ends: nobody waits for this any more, and the transaction around it is rolled back.
        Err(_) => std::future::pending().await,
    }
}
