//! What an operator asks of a store, beside what serving needs: sizes, times, the log with its history, and
//! the state of the database itself.

use std::time::SystemTime;

use bytes::Bytes;

use super::{DocumentStore, LogId};
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;

/// A stored document from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSummary {
    /// Its name as it is stored, which may be one that nobody can open.
    pub name: String,
    /// Bytes of its snapshot.
    pub snapshot_bytes: u64,
    /// When the snapshot was written.
    pub updated_at: Option<SystemTime>,
    /// Rows of its log that no snapshot holds yet.
    pub waiting_rows: u64,
    /// Rows that its snapshot holds and that are kept as history.
    pub history_rows: u64,
    /// Of the rows that wait, those that were found unreadable.
    pub quarantined_rows: u64,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRow {
    /// Its position in the log.
    pub id: LogId,
    /// The update, as it is stored.
    pub update: Bytes,
    /// Who made it.
    pub user: Option<String>,
    /// When it was appended.
    pub created_at: Option<SystemTime>,
    /// Whether the snapshot holds it.
    pub folded: bool,
}

/// The database behind a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseState {
    /// What it calls itself: "PostgreSQL 15.8", "SQLite 3.46.0".
    pub version: String,
    /// What time it has.
    pub time: SystemTime,
    /// What keeps it from doing what is promised, each with its remedy.
    pub problems: Vec<String>,
}

/// A store that tells more of itself.
pub trait Inspect: DocumentStore {
    /// The documents after `after`, at most `limit` of them, in the order of [`DocumentStore::list`].
    fn summaries<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentSummary>, StoreError>>;

    /// One document; `None` where there is none.
    fn summary<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<DocumentSummary>, StoreError>>;

    /// The rows of one document's log after `after`, at most `limit` of them, in order, folded ones too.
    fn history<'a>(
        &'a self,
        document: &'a DocumentName,
        after: LogId,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LoggedRow>, StoreError>>;

    /// Looks at the database itself. Works where tables are missing.
    fn database(&self) -> BoxFuture<'_, Result<DatabaseState, StoreError>>;
}

/// A time that databases give as microseconds since 1970.
pub(super) fn time(microseconds: i64) -> SystemTime {
    let distance = std::time::Duration::from_micros(microseconds.unsigned_abs());
    match microseconds < 0 {
        true => SystemTime::UNIX_EPOCH - distance,
        false => SystemTime::UNIX_EPOCH + distance,
    }
}
