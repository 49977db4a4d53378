//! The SQLite store: the conformance suite on files of its own, and what only files can get wrong.
#![cfg(all(feature = "sqlite", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fidibus_core::auth::BoxFuture;
use fidibus_core::store::conformance::edits::{
    authors, authors_stored, batch, edit, expected, name, snapshot,
};
use fidibus_core::store::conformance::{self, Subject};
use fidibus_core::store::{DocumentStore, SqliteOptions, SqliteStore};
use futures_util::future::{join_all, poll_immediate};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};

/// A directory of this test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fidibus-sqlite-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

struct Files {
    directory: Directory,
    options: SqliteOptions,
    last: Mutex<PathBuf>,
    made: AtomicU32,
}

impl Files {
    fn new(options: SqliteOptions) -> Self {
        Self { directory: Directory::new(), options, last: Mutex::default(), made: AtomicU32::new(0) }
    }
}

impl Subject for Files {
    fn empty(&self) -> BoxFuture<'_, Box<dyn DocumentStore>> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.file(&format!("{number}.db"));
        self.last.lock().unwrap().clone_from(&path);
        Box::pin(async { Box::new(SqliteStore::open(path, self.options.clone()).await.unwrap()) as Box<_> })
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Box<dyn DocumentStore>>> {
        let path = self.last.lock().unwrap().clone();
        Box::pin(async {
            Some(Box::new(SqliteStore::open(path, self.options.clone()).await.unwrap()) as Box<_>)
        })
    }
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).await.unwrap()
}

/// The file as another program sees it.
async fn outside(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(true).connect().await.unwrap()
}

async fn refused(path: &Path) -> String {
    let error = SqliteStore::open(path, SqliteOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error} names the file");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_without_history() {
    conformance::run(&Files::new(SqliteOptions { keep_log: false })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_with_history() {
    conformance::run(&Files::new(SqliteOptions { keep_log: true })).await;
}

#[tokio::test]
async fn the_file_is_private_and_its_tables_are_the_known_ones() {
    let directory = Directory::new();
    let path = directory.file("deep/down/fidibus.db");
    let store = open(&path).await;
    store.store(&name("a"), edit(1, "a"), &[]).await.unwrap();
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let mut outside = outside(&path).await;
    let tables: Vec<String> =
        sqlx::query_scalar("select name from sqlite_master where type = 'table' order by name")
            .fetch_all(&mut outside)
            .await
            .unwrap();
    let (ours, shared): (Vec<_>, Vec<_>) = tables
        .iter()
        .filter(|table| *table != "sqlite_sequence")
        .partition(|table| table.starts_with("fidibus_"));
    assert_eq!(shared, ["yjs_document", "yjs_update_log"]);
    assert!(!ours.is_empty());
    let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut outside).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn folded_rows_are_deleted_or_kept_as_history() {
    for (keep_log, left) in [(false, 1), (true, 3)] {
        let directory = Directory::new();
        let path = directory.file("a.db");
        let store = SqliteStore::open(&path, SqliteOptions { keep_log }).await.unwrap();
        let document = name("a");
        let batches = [1, 2, 3].map(|author| batch(&document, author, "row"));
        let ids = store.update_log().unwrap().append(&batches).await.unwrap();
        store.store(&document, edit(1, "row"), &ids[..2]).await.unwrap();
        assert_eq!(store.load(&document).await.unwrap().unwrap().updates.len(), 1, "at once for who loads");
        // In the file a few seconds later, or when it is closed.
        let mut outside = outside(&path).await;
        if keep_log {
            store.close().await;
        } else {
            let count = "select count(*) from yjs_update_log";
            let started = std::time::Instant::now();
            while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut outside).await.unwrap() > 1 {
                assert!(started.elapsed() < Duration::from_secs(30), "the rows are taken out");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let store = SqliteStore::open(&path, SqliteOptions { keep_log }).await.unwrap();
        let rows: i64 = sqlx::query_scalar("select count(*) from yjs_update_log where user_id = 'user-1'")
            .fetch_one(&mut outside)
            .await
            .unwrap();
        assert_eq!(rows, left, "keep_log {keep_log}");
        assert_eq!(store.load(&document).await.unwrap().unwrap().updates.len(), 1);
        let log = store.update_log().unwrap();
        assert_eq!(log.prune(Duration::from_secs(3600)).await.unwrap(), 0, "too young");
        let age = "update yjs_update_log set created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 hours')";
        outside.execute(age).await.unwrap();
        assert_eq!(log.prune(Duration::from_secs(3600)).await.unwrap(), left as u64 - 1);
        assert_eq!(authors_stored(&store, &document).await, expected([(1, "row"), (3, "row")]));
        let marks: i64 =
            sqlx::query_scalar("select count(*) from fidibus_folded").fetch_one(&mut outside).await.unwrap();
        assert_eq!(marks, 0, "marks go with their rows");
    }
}

/// Goal: a document's rows are found wherever among those of others they lie, and the ids are theirs.
/// Method: commits of 1 to 1,500 rows of three documents in turn, one of which is new in the middle.
#[tokio::test]
async fn rows_of_one_document_are_found_among_many_others() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let log = store.update_log().unwrap();
    let documents = ["a", "b", "c"].map(name);
    let mut expected: [Vec<i64>; 3] = Default::default();
    for (round, rows) in [1, 3, 511, 512, 513, 2, 1_500, 7].into_iter().enumerate() {
        let of = |row: usize| if round < 3 { row % 2 } else { row % 3 };
        let batches: Vec<_> = (0..rows).map(|row| batch(&documents[of(row)], 1, "row")).collect();
        let ids = log.append(&batches).await.unwrap();
        for (row, id) in ids.into_iter().enumerate() {
            expected[of(row)].push(id);
        }
    }
    let mut outside = outside(&path).await;
    for (document, expected) in documents.iter().zip(&expected) {
        let loaded = store.load(document).await.unwrap().unwrap();
        let ids: Vec<i64> = loaded.updates.iter().map(|(id, _)| *id).collect();
        assert!(ids == *expected, "{document}: {} rows, not {}", ids.len(), expected.len());
        let stored: Vec<i64> =
            sqlx::query_scalar("select id from yjs_update_log where document_id = ? order by id")
                .bind(document.as_str())
                .fetch_all(&mut outside)
                .await
                .unwrap();
        assert!(stored == *expected, "{document}: the ids are those of the rows");
    }
}

/// Goal: a file of the first version is taken on with all that is in it.
#[tokio::test]
async fn a_file_of_version_1_is_migrated() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let mut old =
        SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    let tables = include_str!("../../migrations/sqlite/0001_documents.sql");
    sqlx::raw_sql(tables).execute(&mut old).await.unwrap();
    old.execute("insert into fidibus_migration (version) values (1)").await.unwrap();
    old.execute("insert into yjs_document (id, data) values ('a', x'0000')").await.unwrap();
    sqlx::query("insert into yjs_update_log (document_id, update_data) values ('a', ?)")
        .bind(edit(1, "row").to_vec())
        .execute(&mut old)
        .await
        .unwrap();
    old.close().await.unwrap();
    let store = open(&path).await;
    assert_eq!(authors_stored(&store, &name("a")).await, expected([(1, "row")]));
    store.close().await;
    let again = open(&path).await;
    assert_eq!(authors_stored(&again, &name("a")).await, expected([(1, "row")]));
}

#[tokio::test]
async fn a_changed_snapshot_is_refused_and_kept() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let document = name("a");
    store.store(&document, edit(1, "written"), &[]).await.unwrap();
    let mut outside = outside(&path).await;
    // Still an update, but not the one that was written: only the checksum can tell.
    let rotten = edit(1, "writtem");
    sqlx::query("update yjs_document set data = ?").bind(&rotten[..]).execute(&mut outside).await.unwrap();
    let load = store.load(&document).await.unwrap_err();
    let write = store.store(&document, edit(2, "more"), &[]).await.unwrap_err();
    for error in [load, write] {
        assert!(!error.retryable && error.to_string().contains("\"a\""), "{error}");
    }
    let kept: Vec<u8> =
        sqlx::query_scalar("select data from yjs_document").fetch_one(&mut outside).await.unwrap();
    assert_eq!(kept, rotten);
    // Other documents are not concerned.
    store.store(&name("b"), edit(1, "b"), &[]).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_holds_all_replaces_the_old_one_unread() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let document = name("a");
    store.store(&document, edit(1, "one"), &[]).await.unwrap();
    store.store(&document, edit(2, "two"), &[]).await.unwrap();
    let mut whole = store.load(&document).await.unwrap().unwrap();
    whole.updates.push((1, edit(3, "three")));
    // Nobody who read this would go on.
    outside(&path).await.execute("update yjs_document set data = x'ffff'").await.unwrap();
    store.store(&document, edit(3, "three"), &[]).await.unwrap_err();
    store.store(&document, snapshot(&whole), &[]).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await.len(), 3);
}

#[tokio::test]
async fn a_snapshot_of_another_program_is_taken_as_it_is() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let document = name("a");
    store.store(&document, edit(1, "ours"), &[]).await.unwrap();
    let mut outside = outside(&path).await;
    let write = "update yjs_document set data = ?, updated_at = '2026-01-02 03:04:05'";
    sqlx::query(write).bind(&edit(2, "theirs")[..]).execute(&mut outside).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, expected([(2, "theirs")]));
    store.store(&document, edit(1, "ours"), &[]).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, expected([(1, "ours"), (2, "theirs")]));
    sqlx::query(write).bind(&b"garbage"[..]).execute(&mut outside).await.unwrap();
    assert!(!store.load(&document).await.unwrap_err().retryable);
    assert!(!store.store(&document, edit(3, "x"), &[]).await.unwrap_err().retryable);
    let kept: Vec<u8> =
        sqlx::query_scalar("select data from yjs_document").fetch_one(&mut outside).await.unwrap();
    assert_eq!(kept, b"garbage");
}

#[tokio::test]
async fn quarantined_rows_are_flagged_in_the_file() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let document = name("a");
    let ids =
        store.update_log().unwrap().append(&[batch(&document, 1, "good"), batch(&document, 2, "bad")]).await;
    let bad = ids.unwrap()[1];
    let mut outside = outside(&path).await;
    sqlx::query("update yjs_update_log set update_data = x'ff00ff' where id = ?")
        .bind(bad)
        .execute(&mut outside)
        .await
        .unwrap();
    let stored = store.load(&document).await.unwrap().unwrap();
    assert_eq!(authors(&stored), expected([(1, "good")]));
    store.load(&document).await.unwrap();
    let flagged: Vec<(i64, String)> = sqlx::query_as("select log_id, reason from fidibus_quarantine")
        .fetch_all(&mut outside)
        .await
        .unwrap();
    assert_eq!(flagged, [(bad, stored.quarantined[0].reason.clone())]);
}

#[tokio::test]
async fn files_that_are_not_ours_are_named_and_left_alone() {
    let directory = Directory::new();
    let hocuspocus = directory.file("hocuspocus.db");
    let mut connection =
        SqliteConnectOptions::new().filename(&hocuspocus).create_if_missing(true).connect().await.unwrap();
    connection
        .execute("create table documents (name varchar(255) not null, data blob not null)")
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert!(refused(&hocuspocus).await.contains("fidibus import"));
    let text = directory.file("notes.txt");
    fs::write(&text, "no database, but long enough to have a header ".repeat(50)).unwrap();
    let before = fs::read(&text).unwrap();
    assert!(refused(&text).await.contains("not an SQLite database"));
    assert_eq!(fs::read(&text).unwrap(), before);
    refused(&directory.file(".")).await;
    let newer = directory.file("newer.db");
    open(&newer).await.close().await;
    outside(&newer).await.execute("insert into fidibus_migration (version) values (9999)").await.unwrap();
    assert!(refused(&newer).await.contains("newer Fidibus"));
}

#[tokio::test]
async fn a_locked_file_is_worth_another_try() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let mut outside = outside(&path).await;
    outside.execute("begin exclusive").await.unwrap();
    let document = name("a");
    let error = store.store(&document, edit(1, "a"), &[]).await.unwrap_err();
    assert!(error.retryable && error.to_string().contains("locked"), "{error}");
    outside.execute("rollback").await.unwrap();
    store.store(&document, edit(1, "a"), &[]).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, expected([(1, "a")]));
}

/// The transactions in the write-ahead log of a file: pages that end one carry the size of the database
/// (sqlite.org/fileformat2.html#walformat).
fn transactions(path: &Path) -> usize {
    let log = fs::read(path.with_extension("db-wal")).unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let (header, pages) = log.split_at(32);
    let page = 24 + number(&header[8..12]) as usize;
    pages.chunks(page).filter(|page| page[8..16] == header[16..24] && number(&page[4..8]) != 0).count()
}

/// Goal: rooms that become due together cost few transactions, and each document gets its own. Method: 100 documents
/// with a row each, old and new ones, and one of them twice; then all of them once more with one more edit.
#[tokio::test]
async fn many_saves_at_once_are_few_transactions() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let documents: Vec<_> = (0..100).map(|number| name(&format!("{number} 'ü\"\\"))).collect();
    let rows: Vec<_> = documents.iter().skip(50).map(|document| batch(document, 1, "row")).collect();
    let ids = store.update_log().unwrap().append(&rows).await.unwrap();
    let text = |number: usize| format!("text {number}");
    let before = transactions(&path);
    let folded = |number: usize| number.checked_sub(50).map(|row| &ids[row..=row]).unwrap_or_default();
    let saves = documents
        .iter()
        .enumerate()
        .map(|(number, document)| store.store(document, edit(1, &text(number)), folded(number)));
    let again = store.store(&documents[7], edit(2, "again"), &[]);
    for outcome in join_all(saves.chain([again])).await {
        outcome.unwrap();
    }
    let saved = transactions(&path) - before;
    assert!(saved <= 4, "{saved} transactions for 101 saves");
    assert_eq!(authors_stored(&store, &documents[7]).await, expected([(1, "text 7"), (2, "again")]));
    let mut wholes = Vec::new();
    for document in &documents {
        let mut stored = store.load(document).await.unwrap().unwrap();
        assert_eq!(stored.updates, [], "the row of {document} is folded");
        stored.updates.push((1, edit(3, "more")));
        wholes.push(snapshot(&stored));
    }
    let saves = documents.iter().zip(wholes).map(|(document, whole)| store.store(document, whole, &[]));
    for outcome in join_all(saves).await {
        outcome.unwrap();
    }
    let saved = transactions(&path) - before - saved;
    assert!(saved <= 3, "{saved} transactions for 100 saves");
    for (number, document) in documents.iter().enumerate().filter(|(number, _)| *number != 7) {
        assert_eq!(authors_stored(&store, document).await, expected([(1, &*text(number)), (3, "more")]));
    }
}

/// Goal: a snapshot that cannot be stored fails for its caller only. Method: among 20 that can, one document whose
/// stored snapshot rotted, and one that SQLite refuses, with which the whole transaction fails.
#[tokio::test]
async fn a_bad_one_among_many_fails_alone() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    let (rotten, refused) = (name("rotten"), name("refused"));
    store.store(&rotten, edit(1, "written"), &[]).await.unwrap();
    let mut outside = outside(&path).await;
    outside.execute("update yjs_document set data = x'ffff'").await.unwrap();
    for refuses in [false, true] {
        if refuses {
            let trigger = "create trigger refuse before insert on yjs_document when new.id = 'refused'
                           begin select raise(abort, 'not this one'); end";
            outside.execute(trigger).await.unwrap();
        }
        let mut documents: Vec<_> = (0..20).map(|number| name(&format!("{refuses} {number}"))).collect();
        documents.insert(5, rotten.clone());
        documents.insert(9, if refuses { refused.clone() } else { name("accepted") });
        let saves = documents.iter().map(|document| store.store(document, edit(2, "more"), &[]));
        for (document, outcome) in documents.iter().zip(join_all(saves).await) {
            if *document == rotten {
                let error = outcome.unwrap_err();
                assert!(!error.retryable && error.to_string().contains("rotten"), "{error}");
            } else if *document == refused {
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains("not this one"), "{error}");
            } else {
                outcome.unwrap();
                assert_eq!(authors_stored(&store, document).await, expected([(2, "more")]), "{document}");
            }
        }
    }
    assert_eq!(store.load(&refused).await.unwrap(), None);
    let kept: Vec<u8> = sqlx::query_scalar("select data from yjs_document where id = 'rotten'")
        .fetch_one(&mut outside)
        .await
        .unwrap();
    assert_eq!(kept, [0xff, 0xff]);
}

/// Goal: whoever gives up in the middle of storing for others leaves nobody waiting, and nothing half done. Method:
/// drop the first of five after so many steps of its own; how far each takes it is for SQLite's thread to say.
#[tokio::test]
async fn a_dropped_save_leaves_the_others_stored() {
    let directory = Directory::new();
    let path = directory.file("a.db");
    let store = open(&path).await;
    for round in 0..60 {
        let documents: Vec<_> = (0..5).map(|number| name(&format!("{round} {number}"))).collect();
        let mut calls: Vec<_> =
            documents.iter().map(|document| store.store(document, edit(1, "text"), &[])).collect();
        for call in &mut calls {
            assert!(poll_immediate(call).await.is_none(), "the first has the turn");
        }
        let mut over = false;
        for _ in 0..round % 6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            over = over || poll_immediate(&mut calls[0]).await.is_some();
        }
        drop(calls.remove(0));
        let rest = tokio::time::timeout(Duration::from_secs(10), join_all(calls)).await;
        for (document, outcome) in documents[1..].iter().zip(rest.expect("they do not hang")) {
            outcome.unwrap();
            assert_eq!(authors_stored(&store, document).await, expected([(1, "text")]), "round {round}");
        }
    }
}
