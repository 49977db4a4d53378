//! How many rows per second the logs take, beside a bare loop over the same rows on the same database: one
//! writer, as the hub has it, with 1, 10 and 100 batches per commit, and the disk waited for.
//!
//! cargo test -p fidibus-core --features sqlite,postgres,test-util --test store_append_rate -- --ignored --nocapture
#![cfg(all(feature = "sqlite", feature = "postgres", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fidibus_core::auth::BoxFuture;
use fidibus_core::store::conformance::edits::{batch, name};
use fidibus_core::store::conformance::postgres_server::PostgresServer;
use fidibus_core::store::{
    DocumentStore, LogBatch, MigrationMode, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore,
    UpdateLog,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tokio::sync::Mutex;

const RUN: Duration = Duration::from_secs(8);
const DOCUMENTS: u32 = 100;
const SIZES: [usize; 3] = [1, 10, 100];

fn batches(rows: usize) -> Vec<LogBatch> {
    (0..rows as u32).map(|row| batch(&name(&format!("document {}", row % DOCUMENTS)), row, "typed")).collect()
}

/// Commits the same rows in turns: ours and a bare insert, so that whatever else the machine does slows both.
async fn compare<'a>(
    what: &str,
    rows: usize,
    mut ours: impl FnMut() -> BoxFuture<'a, ()>,
    mut bare: impl FnMut() -> BoxFuture<'a, ()>,
) {
    let (mut seconds, mut commits) = ([0.0; 2], 0_u32);
    ours().await;
    bare().await;
    let started = Instant::now();
    while started.elapsed() < RUN {
        let began = Instant::now();
        ours().await;
        seconds[0] += began.elapsed().as_secs_f64();
        let began = Instant::now();
        bare().await;
        seconds[1] += began.elapsed().as_secs_f64();
        commits += 1;
    }
    let [ours, bare] = seconds.map(|seconds| f64::from(commits) * rows as f64 / seconds);
    let milliseconds = seconds[0] * 1000.0 / f64::from(commits);
    println!(
        "{what:<9} {rows:>4} rows per commit: {ours:>8.0} rows/s, {milliseconds:>6.2} ms per commit; \
         bare insert {bare:>8.0} rows/s: {:>4.0} %",
        100.0 * ours / bare
    );
}

fn append<'a>(log: &'a Arc<dyn UpdateLog>, batches: &'a [LogBatch]) -> BoxFuture<'a, ()> {
    Box::pin(async { drop(log.append(batches).await.unwrap()) })
}

#[tokio::test]
#[ignore = "a measurement"]
async fn postgres() {
    let server = PostgresServer::start().unwrap();
    let url = server.database();
    let store = PostgresStore::new(&url, PostgresOptions::default()).unwrap();
    store.migrate(MigrationMode::Apply).await.unwrap();
    let log = store.update_log().unwrap();
    let bare = Mutex::new(PgConnection::connect(&url).await.unwrap());
    for rows in SIZES {
        let batches = batches(rows);
        let insert = || Box::pin(insert_into_postgres(&bare, &batches)) as BoxFuture<'_, ()>;
        compare("postgres", rows, || append(&log, &batches), insert).await;
    }
}

async fn insert_into_postgres(connection: &Mutex<PgConnection>, batches: &[LogBatch]) {
    sqlx::query(
        "insert into yjs_update_log (document_id, update_data, user_id)
         select * from unnest($1::text[], $2::bytea[], $3::text[])",
    )
    .bind(batches.iter().map(|batch| batch.document.as_str()).collect::<Vec<_>>())
    .bind(batches.iter().map(|batch| &batch.update[..]).collect::<Vec<_>>())
    .bind(batches.iter().map(|batch| batch.user.as_deref()).collect::<Vec<_>>())
    .execute(&mut *connection.lock().await)
    .await
    .unwrap();
}

#[tokio::test]
#[ignore = "a measurement"]
async fn sqlite() {
    // Beside the build rather than in /tmp, which may be memory.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("append-rate");
    std::fs::remove_dir_all(&directory).ok();
    let path = directory.join("rate.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).await.unwrap();
    let log = store.update_log().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let bare = Mutex::new(options.connect().await.unwrap());
    for rows in SIZES {
        let batches = batches(rows);
        let insert = || Box::pin(insert_into_sqlite(&bare, &batches)) as BoxFuture<'_, ()>;
        compare("sqlite", rows, || append(&log, &batches), insert).await;
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn insert_into_sqlite(connection: &Mutex<SqliteConnection>, batches: &[LogBatch]) {
    let mut connection = connection.lock().await;
    connection.execute("begin immediate").await.unwrap();
    let values = vec!["(?, ?, ?)"; batches.len()].join(", ");
    let sql = format!("insert into yjs_update_log (document_id, update_data, user_id) values {values}");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for batch in batches {
        query = query.bind(batch.document.as_str()).bind(&batch.update[..]).bind(batch.user.as_deref());
    }
    query.execute(&mut *connection).await.unwrap();
    connection.execute("commit").await.unwrap();
}
