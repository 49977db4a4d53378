//! Goal: with a spool in front, a database that goes away costs nobody an acknowledged update: rows are
//! kept in the file, are part of what is loaded, reach the database in order when it is back, also in the
//! next process, and are folded once. A row that cannot be moved holds up no other, and none goes to
//! another database.
//!
//! Method: an SQLite store as the database, behind a switch that makes it fail or hang.
#![cfg(all(feature = "sqlite", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::BoxFuture;
use fidibus_core::error::StoreError;
use fidibus_core::id::DocumentName;
use fidibus_core::store::conformance::edits::{Authors, authors_stored, batch, edit, expected, name};
use fidibus_core::store::conformance::{self, Subject};
use fidibus_core::store::{
    DocumentStore, ForeignSpool, LogBatch, LogId, SpoolOptions, SpooledStore, SqliteOptions, SqliteStore,
    StoredDocument, UpdateLog,
};

const UP: u8 = 0;
const DOWN: u8 = 1;
const HANGS: u8 = 2;
/// A document whose rows the database never takes.
const REFUSED: &str = "refused";
/// A document whose rows fail for ever as if that could pass.
const STUCK: &str = "stuck";

/// A database with a switch.
#[derive(Clone)]
struct Switched {
    inner: SqliteStore,
    state: Arc<AtomicU8>,
}

impl Switched {
    async fn gate(&self) -> Result<(), StoreError> {
        match self.state.load(Ordering::Acquire) {
            UP => Ok(()),
            DOWN => Err(StoreError::retryable("switched", "switched off")),
            _ => std::future::pending().await,
        }
    }
}

impl DocumentStore for Switched {
    fn name(&self) -> &'static str {
        "switched"
    }
    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(async move {
            self.gate().await?;
            self.inner.load(document).await
        })
    }
    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.gate().await?;
            self.inner.store(document, snapshot, folded).await
        })
    }
    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.inner.delete(document)
    }
    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        self.inner.list(after, limit)
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.gate())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
    fn identity(&self) -> Option<String> {
        self.inner.identity()
    }
    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl UpdateLog for Switched {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(async move {
            self.gate().await?;
            if batches.iter().any(|batch| batch.document.as_str() == REFUSED) {
                return Err(StoreError::permanent("switched", "refused"));
            }
            if batches.iter().any(|batch| batch.document.as_str() == STUCK) {
                return Err(StoreError::retryable("switched", "stuck"));
            }
            self.inner.update_log().unwrap().append(batches).await
        })
    }
}

/// A spooled database in a directory of its own, removed at the end.
struct Place {
    directory: PathBuf,
    state: Arc<AtomicU8>,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("fidibus-spool-{}-{number}", std::process::id()));
        Self { directory, state: Arc::default() }
    }

    async fn database(&self) -> SqliteStore {
        SqliteStore::open(self.directory.join("database.db"), SqliteOptions::default()).await.unwrap()
    }

    async fn open(&self) -> SpooledStore {
        self.open_with(SpoolOptions { append_max: Duration::from_secs(1), ..SpoolOptions::default() }).await
    }

    async fn open_with(&self, options: SpoolOptions) -> SpooledStore {
        self.open_before(self.database().await, options).await.unwrap()
    }

    async fn open_before(
        &self,
        inner: SqliteStore,
        options: SpoolOptions,
    ) -> Result<SpooledStore, StoreError> {
        let inner = Switched { inner, state: Arc::clone(&self.state) };
        SpooledStore::open(Arc::new(inner), &self.directory.join("spool.db"), options).await
    }

    /// Another database.
    async fn other(&self) -> SqliteStore {
        SqliteStore::open(self.directory.join("other.db"), SqliteOptions::default()).await.unwrap()
    }

    /// Does something to the file that the spool would not.
    async fn tamper(&self, sql: &'static str) {
        use sqlx::Connection;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.directory.join("spool.db"));
        let mut file = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
    }

    fn switch(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

async fn append(store: &SpooledStore, document: &DocumentName, author: u32) -> LogId {
    let log = store.update_log().unwrap();
    log.append(&[batch(document, author, "text")]).await.unwrap()[0]
}

/// For tests that are not about time: a busy machine is no outage.
fn patient() -> SpoolOptions {
    SpoolOptions { append_max: Duration::from_secs(30), ..SpoolOptions::default() }
}

/// The content that these authors make.
fn of(authors: &[u32]) -> Authors {
    expected(authors.iter().map(|author| (*author, "text")))
}

async fn drained(store: &SpooledStore) {
    for _ in 0..3_000 {
        if store.figures().rows == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not drained within thirty seconds");
}

#[tokio::test]
async fn it_is_a_store_as_any_other() {
    struct Spooled(std::sync::Mutex<Vec<Arc<Place>>>);
    impl Subject for Spooled {
        fn empty(&self) -> BoxFuture<'_, Box<dyn DocumentStore>> {
            let place = Arc::new(Place::new());
            self.0.lock().unwrap().push(Arc::clone(&place));
            Box::pin(async move { Box::new(place.open_with(patient()).await) as Box<dyn DocumentStore> })
        }
        fn reopen(&self) -> BoxFuture<'_, Option<Box<dyn DocumentStore>>> {
            let place = Arc::clone(self.0.lock().unwrap().last().unwrap());
            Box::pin(
                async move { Some(Box::new(place.open_with(patient()).await) as Box<dyn DocumentStore>) },
            )
        }
    }
    conformance::run(&Spooled(Default::default())).await;
}

#[tokio::test]
async fn rows_survive_an_outage_and_reach_the_database_in_order() {
    for outage in [DOWN, HANGS] {
        let place = Place::new();
        let store = place.open().await;
        let document = name("doc");
        assert!(append(&store, &document, 1).await > 0);
        place.switch(outage);
        assert!(append(&store, &document, 2).await < 0, "acknowledged from the file");
        assert!(append(&store, &document, 3).await < 0);
        assert_eq!(store.figures().rows, 2);
        assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1]));
        place.switch(UP);
        drained(&store).await;
        assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1, 2, 3]));
        assert!(append(&store, &document, 4).await > 0, "the database is used again");
        let rows = place.database().await.load(&document).await.unwrap().unwrap().updates;
        assert!(rows.is_sorted_by_key(|(id, _)| *id) && rows.len() == 4);
    }
}

#[tokio::test]
async fn the_next_process_drains_what_the_last_left() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open().await;
    place.switch(DOWN);
    append(&store, &document, 1).await;
    store.close().await;
    place.switch(UP);
    let store = place.open().await;
    drained(&store).await;
    assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1]));
}

#[tokio::test]
async fn what_waits_is_loaded_and_a_load_fails_while_the_database_is_away() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open().await;
    append(&store, &document, 1).await;
    place.switch(DOWN);
    append(&store, &document, 2).await;
    assert!(store.load(&document).await.is_err(), "a part of a document is no document");
    place.switch(UP);
    assert_eq!(authors_stored(&store, &document).await, of(&[1, 2]));
}

#[tokio::test]
async fn rows_are_folded_wherever_they_are_by_then() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open().await;
    place.switch(DOWN);
    let moved = append(&store, &document, 1).await;
    place.switch(UP);
    drained(&store).await;
    store.store(&document, edit(1, "text"), &[moved]).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, of(&[1]));
    // SQLite takes rows out some time later, or when it is closed.
    store.close().await;
    let stored = place.database().await.load(&document).await.unwrap().unwrap();
    assert!(stored.updates.is_empty(), "folded under the id that it has there");
}

#[tokio::test]
async fn a_full_spool_acknowledges_nothing() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open_with(SpoolOptions { bytes_max: 10, ..SpoolOptions::default() }).await;
    place.switch(DOWN);
    let log = store.update_log().unwrap();
    let error = log.append(&[batch(&document, 1, "long enough to be refused")]).await.unwrap_err();
    assert!(error.retryable && store.figures().failing);
    place.switch(UP);
    assert!(append(&store, &document, 1).await > 0);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_holds_up_no_other() {
    let place = Place::new();
    let (document, refused) = (name("doc"), name(REFUSED));
    let store = place.open_with(patient()).await;
    place.switch(DOWN);
    append(&store, &document, 1).await;
    let kept = append(&store, &refused, 1).await;
    append(&store, &document, 2).await;
    place.switch(UP);
    drained(&store).await;
    assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1, 2]));
    assert!(append(&store, &document, 3).await > 0, "the database is used again");
    assert_eq!(authors_stored(&store, &refused).await, of(&[1]), "loaded from the file");
    store.store(&refused, edit(1, "text"), &[kept]).await.unwrap();
    assert_eq!(authors_stored(&place.database().await, &refused).await, of(&[1]));
    let file = place.directory.join("spool.db");
    assert_eq!(SpooledStore::peek(&file).await.unwrap().rows, 0, "the snapshot holds it");
}

/// The first batch holds nothing but rows of the one document, so that none of it shows that the database
/// takes others.
#[tokio::test]
async fn rows_that_fail_for_ever_hold_up_no_other_document() {
    for refused in [REFUSED, STUCK] {
        let place = Place::new();
        let (document, bad) = (name("doc"), name(refused));
        let store = place.open_with(patient()).await;
        place.switch(DOWN);
        let rows: Vec<_> = (1..=300).map(|author| batch(&bad, author, "text")).collect();
        store.update_log().unwrap().append(&rows).await.unwrap();
        append(&store, &document, 1).await;
        place.switch(UP);
        drained(&store).await;
        assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1]), "{refused}");
        assert!(append(&store, &document, 2).await > 0, "the database is used again");
        let authors: Vec<_> = (1..=300).collect();
        assert_eq!(authors_stored(&store, &bad).await, of(&authors), "loaded from the file");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_set_aside_and_the_others_go_on() {
    let place = Place::new();
    let (document, refused) = (name("doc"), name(REFUSED));
    let store = place.open_with(patient()).await;
    place.switch(DOWN);
    append(&store, &document, 1).await;
    append(&store, &document, 2).await;
    append(&store, &document, 3).await;
    append(&store, &document, 4).await;
    store.close().await;
    // A name that is none, text that is none, and a user's name that is none.
    place.tamper("update spool set document = '' where id = 1").await;
    place.tamper("update spool set document = cast(x'646f63ff' as text) where id = 2").await;
    place.tamper("update spool set user_id = cast(x'ff' as text) where id = 3").await;
    let store = place.open_with(patient()).await;
    let garbage = LogBatch { document: refused.clone(), update: Bytes::from_static(b"none"), user: None };
    let kept = store.update_log().unwrap().append(&[garbage, batch(&refused, 1, "text")]).await.unwrap();
    place.switch(UP);
    drained(&store).await;
    assert_eq!(authors_stored(&place.database().await, &document).await, of(&[3, 4]));
    assert_eq!(store.figures().unreadable, 2);
    assert_eq!(store.figures().bytes, 0);
    let loaded = store.load(&refused).await.unwrap().unwrap();
    assert_eq!(loaded.quarantined.iter().map(|row| row.id).collect::<Vec<_>>(), [kept[0]]);
    assert_eq!(loaded.updates.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [kept[1]]);
    // An operator finds them as they were; who repairs the name has the row told of with its document.
    place.tamper("update unreadable set document = 'doc' where document = ''").await;
    let loaded = store.load(&document).await.unwrap().unwrap();
    assert_eq!(loaded.quarantined.iter().map(|row| row.id).collect::<Vec<_>>(), [-1]);
    store.close().await;
    let file = place.directory.join("spool.db");
    assert_eq!(
        SpooledStore::peek(&file).await.unwrap().unreadable,
        2,
        "for the next process to tell as well"
    );
}

#[tokio::test]
async fn what_waits_for_one_database_does_not_go_to_another() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open().await;
    place.switch(DOWN);
    append(&store, &document, 1).await;
    store.close().await;
    place.switch(UP);
    let error = place.open_before(place.other().await, patient()).await.map(drop).unwrap_err();
    let foreign = error.source.downcast_ref::<ForeignSpool>().unwrap();
    assert!(!error.retryable && foreign.rows == 1);
    assert!(foreign.other.ends_with("/database.db") && foreign.store.ends_with("/other.db"), "{error}");
    // The former one still gets them; then any may have the file.
    let store = place.open().await;
    drained(&store).await;
    assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1]));
    store.close().await;
    let store = place.open_before(place.other().await, patient()).await.unwrap();
    place.switch(DOWN);
    append(&store, &document, 2).await;
    store.close().await;
    place.switch(UP);
    assert!(place.open_before(place.database().await, patient()).await.is_err(), "it is the other's now");
    let adopting = SpoolOptions { adopt: true, ..patient() };
    let store = place.open_before(place.database().await, adopting).await.unwrap();
    drained(&store).await;
    assert_eq!(authors_stored(&place.database().await, &document).await, of(&[1, 2]));
}

#[tokio::test]
async fn a_spool_of_an_earlier_version_is_adopted() {
    let place = Place::new();
    let document = name("doc");
    let store = place.open().await;
    place.switch(DOWN);
    append(&store, &document, 1).await;
    store.close().await;
    place.tamper("drop table belongs_to; drop table unreadable").await;
    place.switch(UP);
    let store = place.open_before(place.other().await, patient()).await.unwrap();
    drained(&store).await;
    assert_eq!(authors_stored(&place.other().await, &document).await, of(&[1]));
}
