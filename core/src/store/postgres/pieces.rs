//! A snapshot that arrives in pieces: sqlx collects a message of a megabyte in buffers that it doubles, copies and
//! throws away; those of a piece are used again. Each is hashed as it arrives.

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::failure::Failure;
use crate::store::snapshot::{self, Checksum, Seal, SnapshotError};

/// Bytes of a piece.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// Where all of it is here already, nothing else lets others run than a pause after so many.
const PIECES_AT_ONCE: usize = 8;

pub(super) struct Pieces {
    bytes: Vec<u8>,
    bytes_total: usize,
    /// The checksum so far and the one that it has to become, where there is one.
    checksum: Option<(Checksum, Vec<u8>)>,
}

impl Pieces {
    /// Begins with the first piece that `Statements::load` answers.
    pub(super) fn new(first: &PgRow) -> Result<Self, sqlx::Error> {
        let bytes_total = first.try_get::<i32, _>(4)?.unsigned_abs() as usize;
        let expected: Option<Vec<u8>> = first.try_get(5)?;
        let checksum = expected.map(|expected| (Checksum::default(), expected));
        Ok(Self { bytes: Vec::with_capacity(bytes_total), bytes_total, checksum })
    }

    pub(super) async fn push(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let piece: &[u8] = row.try_get(1)?;
        let at = row.try_get::<i32, _>(3)?.unsigned_abs() as usize;
        if at != self.bytes.len() + 1 {
            return Err(sqlx::Error::Protocol("the pieces of a snapshot are out of order".into()));
        }
        self.bytes.extend_from_slice(piece);
        if let Some((checksum, _)) = &mut self.checksum {
            checksum.add(piece);
        }
        if (at / PIECE_BYTES).is_multiple_of(PIECES_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Answers the snapshot, if it may be loaded.
    pub(super) async fn open(self, document: &str) -> Result<Bytes, Failure> {
        let Self { bytes, bytes_total, checksum } = self;
        let refused = |reason| SnapshotError::Stored { document: document.to_owned(), reason };
        if bytes.len() != bytes_total {
            return Err(sqlx::Error::Protocol("the pieces of a snapshot are not all of it".into()).into());
        }
        match checksum {
            // What we wrote, we had read before.
            Some((checksum, expected)) => checksum.verify(&expected).map_err(refused)?,
            None => return Ok(snapshot::open(document, bytes.into(), Seal::default()).await?),
        }
        Ok(bytes.into())
    }
}
