//! How a snapshot in a database is checked and replaced: the rules that the SQL stores share. No SQL here.
//!
//! Beside each snapshot stands its checksum, and what it covers. A new snapshot that holds all of that
//! replaces the old one unread; any other is merged into it.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::merge::{EMPTY_UPDATE, Unreadable, check, coverage, covers, merge_read, read};
use crate::log::StructLog;

/// Work on more bytes than this leaves the thread that serves sockets.
const INLINE_BYTES_MAX: usize = 128 * 1024;

/// Coverage is worth keeping while it is small beside its snapshot: it is read and written with each.
const COVERAGE_BYTES_MAX: usize = 256 * 1024;

/// What we noted beside a snapshot when we wrote it; nothing, where another program was the last to.
#[derive(Debug, Default)]
pub(crate) struct Seal {
    pub(crate) sha256: Option<Vec<u8>>,
    pub(crate) coverage: Option<Vec<u8>>,
}

/// A snapshot to be written, and its seal.
pub(crate) struct Sealed {
    pub(crate) update: Bytes,
    /// The one that `select sha256(data)` answers on PostgreSQL.
    pub(crate) sha256: [u8; 32],
    pub(crate) coverage: Option<Vec<u8>>,
}

/// What keeps a snapshot from being loaded or replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// What is stored: its bytes stay as they are.
    #[error("the stored snapshot of {document:?} cannot be read and is kept untouched: {reason}")]
    Stored { document: String, reason: Unreadable },
    /// What the caller handed in.
    #[error("the new snapshot of {document:?} cannot be read and was not stored: {reason}")]
    New { document: String, reason: Unreadable },
}

/// Answers the bytes of a row that may be loaded.
pub(crate) async fn open(document: &str, update: Bytes, seal: Seal) -> Result<Bytes, SnapshotError> {
    let verified = aside(update.len(), move || {
        verify(&update, &seal)?;
        // What we wrote, we had read before.
        if seal.sha256.is_none() {
            check(&update)?;
        }
        Ok(update)
    });
    verified.await.map_err(|reason| SnapshotError::Stored { document: document.to_owned(), reason })
}

/// The checksum of a snapshot that arrives in pieces.
#[derive(Default)]
pub(crate) struct Checksum(Sha256);

impl Checksum {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(crate) fn verify(self, expected: &[u8]) -> Result<(), Unreadable> {
        match self.0.finalize().as_slice() == expected {
            true => Ok(()),
            false => Err(Unreadable("it is not what was written (checksum)".into())),
        }
    }
}

/// A new snapshot that was read, and is ready to be written as it is: nearly all are, and what has to be computed for
/// it should not hold up others.
pub(crate) struct Snapshot {
    document: String,
    sealed: Sealed,
    log: StructLog,
}

impl Snapshot {
    pub(crate) async fn read(document: &str, update: Bytes) -> Result<Self, SnapshotError> {
        let document = document.to_owned();
        let sealed = aside(update.len(), move || {
            let log = read(&update)?;
            Ok((Sealed::new(update, &log), log))
        });
        match sealed.await {
            Ok((sealed, log)) => Ok(Self { document, sealed, log }),
            Err(reason) => Err(SnapshotError::New { document, reason }),
        }
    }

    /// Whether it holds all that the stored one does, so that it can take its place unread.
    pub(crate) fn covers(&self, seal: &Seal) -> bool {
        seal.sha256.is_some() && seal.coverage.as_ref().is_some_and(|coverage| covers(&self.log, coverage))
    }

    pub(crate) fn document(&self) -> &str {
        &self.document
    }

    /// As it is.
    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// As it is.
    pub(crate) fn into_sealed(self) -> Sealed {
        self.sealed
    }

    /// Merges it into the stored one.
    pub(crate) async fn merge(self, stored: Bytes, seal: Seal) -> Result<Sealed, SnapshotError> {
        let Self { document, sealed, log } = self;
        let merged = aside(sealed.update.len() + stored.len(), move || {
            verify(&stored, &seal)?;
            if stored == EMPTY_UPDATE {
                return Ok(sealed);
            }
            // What is in the way now is what is stored: the new one was read before.
            check(&stored)?;
            let merged = merge_read(&stored, &sealed.update, log)?;
            let log = read(&merged)?;
            Ok(Sealed::new(merged, &log))
        });
        merged.await.map_err(|reason| SnapshotError::Stored { document, reason })
    }
}

impl Sealed {
    fn new(update: Bytes, log: &StructLog) -> Self {
        let sha256 = Sha256::digest(&update).into();
        let coverage = coverage(log).filter(|coverage| coverage.len() <= COVERAGE_BYTES_MAX);
        Self { update, sha256, coverage }
    }

    /// Whether it is what is stored already.
    pub(crate) fn is(&self, seal: &Seal) -> bool {
        seal.sha256.as_deref() == Some(&self.sha256[..])
    }
}

fn verify(update: &[u8], seal: &Seal) -> Result<(), Unreadable> {
    let Some(expected) = &seal.sha256 else { return Ok(()) };
    let mut checksum = Checksum::default();
    checksum.add(update);
    checksum.verify(expected)
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
