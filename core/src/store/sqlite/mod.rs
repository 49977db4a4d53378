//! Documents and their update log in one SQLite file. One connection writes, so that what it appends is
//! in order and nobody waits in a busy loop; a few others read. The tables are those of PostgreSQL.

mod file;
mod folds;
mod inspect;
mod log;
mod saves;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Row, SqliteConnection};

pub(super) use file::create as create_private;

use super::blob::blob;
use super::merge::assemble;
use super::snapshot::{self, Seal, Snapshot};
use super::{DocumentStore, LogBatch, LogId, QuarantinedRow, StoredDocument, UpdateLog};
use crate::auth::BoxFuture;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::id::DocumentName;
use folds::{FOLD_DELAY, Folds};
use saves::Saves;
use writer::Writer;

const NAME: &str = "sqlite";

/// A transaction that reads first and writes later could be refused in the middle if it took its lock late.
const BEGIN: &str = "begin immediate";

/// What can be chosen about an SQLite store.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {
    /// Keeps folded rows of the log as history, instead of deleting them.
    pub keep_log: bool,
}

/// A store in one SQLite file (WAL, every commit synced). Clones share it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: Box<Path>,
    keep_log: bool,
    writer: Writer,
    saves: Saves,
    folds: Folds,
    clock: Arc<Clock>,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, or makes it (readable by its owner only) together with the directories above it.
    ///
    /// # Errors
    /// Names the file and says what is wrong: it is no database, belongs to Hocuspocus, is read-only,
    /// locked or unreadable.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let (writer, readers) = file::open(path.as_ref()).await?;
        let inner = Inner {
            path: path.as_ref().into(),
            keep_log: options.keep_log,
            writer,
            saves: Saves::default(),
            folds: Folds::default(),
            clock: Clock::shared(),
            readers,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        file::failed(&self.inner.path, error)
    }

    async fn load_document(&self, document: &DocumentName) -> Result<Option<StoredDocument>, StoreError> {
        let folded = self.inner.folds.of(document);
        // One transaction, so that a row that is folded meanwhile is seen either in the log or in the
        // snapshot.
        let mut tx = self.inner.readers.begin().await.map_err(|error| self.failed(error))?;
        let Some((update, seal)) =
            read(&mut tx, document.as_str()).await.map_err(|error| self.failed(error))?
        else {
            return Ok(None);
        };
        let rows = log::unfolded(&mut tx, document).await.map_err(|error| self.failed(error))?;
        tx.commit().await.map_err(|error| self.failed(error))?;
        let snapshot = snapshot::open(document.as_str(), update, seal).await;
        let snapshot = snapshot.map_err(|error| StoreError::permanent(NAME, error))?;
        let mut assembled = assemble(Some(snapshot), rows);
        // Not what cannot be read: no snapshot holds it, whatever the caller said.
        assembled.updates.retain(|(id, _)| folded.binary_search(id).is_err());
        if !assembled.quarantined.is_empty() {
            self.quarantine(&assembled.quarantined).await.map_err(|error| self.failed(error))?;
        }
        Ok(Some(assembled))
    }

    async fn store_snapshot(
        &self,
        document: &DocumentName,
        update: Bytes,
        folded: &[LogId],
    ) -> Result<(), StoreError> {
        // Before the file is locked: the larger part of the work.
        let snapshot = Snapshot::read(document.as_str(), update).await;
        let snapshot = snapshot.map_err(|error| StoreError::permanent(NAME, error))?;
        let left = self.inner.saves.store(&self.inner.writer, snapshot).await;
        if let Some(snapshot) = left.map_err(|error| self.failed(error))? {
            self.store_alone(snapshot).await?;
        }
        if !folded.is_empty() && self.inner.folds.add(document, folded) {
            self.fold_later();
        }
        Ok(())
    }

    /// In a transaction of its own, merged into what is stored.
    async fn store_alone(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        let document = snapshot.document().to_owned();
        let mut writer = self.inner.writer.turn().await.map_err(|error| self.failed(error))?;
        let mut tx = writer.begin_with(BEGIN).await.map_err(|error| self.failed(error))?;
        let stored = saves::seals(&mut tx, &[&document]).await.map_err(|error| self.failed(error))?;
        let stored = stored.into_iter().next().flatten();
        let sealed = match &stored {
            Some(seal) if !snapshot.covers(seal) => {
                let read = read(&mut tx, &document).await.map_err(|error| self.failed(error))?;
                let (update, seal) = read.unwrap_or_default();
                snapshot.merge(update, seal).await.map_err(|error| StoreError::permanent(NAME, error))?
            }
            _ => snapshot.into_sealed(),
        };
        if !stored.is_some_and(|seal| sealed.is(&seal)) {
            saves::write(&mut tx, &[(&document, &sealed)]).await.map_err(|error| self.failed(error))?;
        }
        tx.commit().await.map_err(|error| self.failed(error))
    }

    /// Takes rows out of the log, together with those of other documents, for as long as there are some.
    fn fold_later(&self) {
        let (inner, clock) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.clock));
        tokio::spawn(async move {
            loop {
                clock.sleep(FOLD_DELAY).await;
                let Some(inner) = inner.upgrade() else { return };
                match inner.fold_all().await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        let error = file::failed(&inner.path, error);
                        tracing::warn!(%error, "Rows that snapshots hold could not be taken out of the log; they are tried again after the next snapshot");
                        return;
                    }
                }
            }
        });
    }

    async fn delete_document(&self, document: &DocumentName) -> Result<bool, sqlx::Error> {
        let deleted = sqlx::query("delete from yjs_document where id = ?")
            .bind(document.as_str())
            .execute(&mut *self.inner.writer.turn().await?)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn names(
        &self,
        after: Option<&DocumentName>,
        limit: usize,
    ) -> Result<Vec<DocumentName>, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "select id from yjs_document where ?1 is null or id > ?1 order by id limit ?2",
        )
        .bind(after.map(DocumentName::as_str))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.inner.readers)
        .await?;
        // A name that we would refuse (another program wrote it) can be opened by nobody.
        Ok(names.iter().filter_map(|name| DocumentName::parse(name).ok()).collect())
    }

    async fn quarantine(&self, rows: &[QuarantinedRow]) -> Result<(), sqlx::Error> {
        let mut writer = self.inner.writer.turn().await?;
        let mut tx = writer.begin_with(BEGIN).await?;
        log::quarantine(&mut tx, rows).await?;
        tx.commit().await
    }

    async fn append_batches(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, sqlx::Error> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        log::append(&mut *self.inner.writer.turn().await?, batches).await
    }

    async fn prune_history(&self, age: Duration) -> Result<u64, sqlx::Error> {
        let mut writer = self.inner.writer.turn().await?;
        let mut tx = writer.begin_with(BEGIN).await?;
        let rows = log::prune(&mut tx, age).await?;
        tx.commit().await?;
        Ok(rows)
    }
}

impl Inner {
    /// Takes out all rows that snapshots hold; whether more came meanwhile.
    async fn fold_all(&self) -> Result<bool, sqlx::Error> {
        let _turn = self.folds.turn.lock().await;
        for piece in self.folds.leave() {
            if let Err(error) = self.fold(&piece).await {
                self.folds.stayed();
                return Err(error);
            }
        }
        Ok(self.folds.left())
    }

    async fn fold(&self, rows: &str) -> Result<(), sqlx::Error> {
        log::fold(&mut *self.writer.turn().await?, rows, self.keep_log).await
    }
}

/// The snapshot of a document with its seal.
async fn read(
    connection: &mut SqliteConnection,
    document: &str,
) -> Result<Option<(Bytes, Seal)>, sqlx::Error> {
    let row = sqlx::query(
        "select d.data, s.sha256 from yjs_document d
         left join fidibus_snapshot s on s.document_id = d.id and s.written_at = d.updated_at
         where d.id = ?",
    )
    .bind(document)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let seal = Seal { sha256: row.try_get(1)?, coverage: None };
        Ok((blob(row, 0)?, seal))
    })
    .transpose()
}

impl DocumentStore for SqliteStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(self.load_document(document))
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.store_snapshot(document, snapshot, folded))
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { self.delete_document(document).await.map_err(|error| self.failed(error)) })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        Box::pin(async move { self.names(after, limit).await.map_err(|error| self.failed(error)) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let answer =
                sqlx::query("select 1 from yjs_document limit 1").fetch_optional(&self.inner.readers);
            answer.await.map(drop).map_err(|error| self.failed(error))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.inner.fold_all().await {
                let error = self.failed(error);
                tracing::warn!(%error, "Rows that snapshots hold stay in the log; the next load finds them in both");
            }
            self.inner.readers.close().await;
            // Last, since closing it moves the write-ahead log into the file.
            self.inner.writer.close().await;
        })
    }

    fn identity(&self) -> Option<String> {
        let path = self.inner.path.canonicalize().or_else(|_| std::path::absolute(&self.inner.path)).ok()?;
        Some(format!("sqlite:{}", path.display()))
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl UpdateLog for SqliteStore {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(async { self.append_batches(batches).await.map_err(|error| self.failed(error)) })
    }

    fn prune(&self, age: Duration) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.prune_history(age).await.map_err(|error| self.failed(error)) })
    }
}
