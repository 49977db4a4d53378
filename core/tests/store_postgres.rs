//! The PostgreSQL store: the conformance suite on the tables that we make and on those of other programs,
//! each run in databases of its own, and what only a database server can do to it.
#![cfg(all(feature = "postgres", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use fidibus_core::auth::BoxFuture;
use fidibus_core::store::conformance::edits::{authors, authors_stored, batch, edit, expected, name};
use fidibus_core::store::conformance::postgres_server::PostgresServer;
use fidibus_core::store::conformance::{self, Subject};
use fidibus_core::store::{DocumentStore, LogBatch, MigrationMode, PostgresOptions, PostgresStore};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Tables as they stand in databases that we did not make.
const OLD: [(&str, &str); 4] = [
    (
        "the app's migration",
        r#"create table "user" (id text primary key, name text not null);
        insert into "user" values ('user-1', 'One');
        create table yjs_document (id text primary key, data bytea not null, updated_at timestamptz not null default now());
        create table yjs_update_log (id bigserial primary key, document_id text not null references yjs_document(id) on delete cascade,
            update_data bytea not null, user_id text references "user"(id) on delete set null, created_at timestamptz not null default now());
        create index yjs_update_log_document_id_idx on yjs_update_log (document_id);"#,
    ),
    (
        "the plan's tables",
        "create table yjs_document (id text primary key, data bytea not null, updated_at timestamp not null default now());
        create table yjs_update_log (id text primary key, document_id text not null, update bytea not null, created_at timestamp not null);",
    ),
    (
        "uuids, identities elsewhere, a schema in the path",
        r#"create schema app; alter role current_user set search_path = app, public; set search_path = app, public;
        create table yjs_document (id varchar(2000) primary key, data bytea not null, updated_at timestamp(3) not null, created_at timestamptz default now());
        create table yjs_update_log (id uuid primary key default gen_random_uuid(), document_id varchar(2000) not null references yjs_document(id) on delete cascade,
            update_data bytea not null, user_id text);"#,
    ),
    (
        "integer identity, users with numbers",
        r#"create table "user" (id integer primary key); insert into "user" values (1);
        create table yjs_document (id text primary key, data bytea not null, updated_at timestamptz not null);
        create table yjs_update_log (id integer generated always as identity primary key, document_id text not null references yjs_document(id),
            update bytea not null, user_id integer references "user"(id), created_at timestamptz not null default now());"#,
    ),
];

fn options() -> PostgresOptions {
    PostgresOptions::default()
}

async fn database(tables: &str) -> String {
    let url = PostgresServer::shared().database();
    if !tables.is_empty() {
        // Roles are shared by all databases of the server, so the path is set for this database.
        let name = url.rsplit('/').next().unwrap().to_owned();
        let tables = tables.replace("alter role current_user", &format!("alter database {name}"));
        outside(&url).await.execute(AssertSqlSafe(tables)).await.unwrap();
    }
    url
}

async fn outside(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn migrated(url: &str, options: PostgresOptions) -> PostgresStore {
    let store = PostgresStore::new(url, options).unwrap();
    assert!(store.migrate(MigrationMode::Apply).await.unwrap().complete);
    store
}

async fn count(connection: &mut PgConnection, from: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {from}")))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// One database, emptied for each store: making one takes longer than most checks.
struct Databases {
    tables: &'static str,
    options: PostgresOptions,
    url: tokio::sync::OnceCell<String>,
}

impl Databases {
    fn new(tables: &'static str, options: PostgresOptions) -> Self {
        Self { tables, options, url: tokio::sync::OnceCell::new() }
    }

    async fn open(&self) -> Box<dyn DocumentStore> {
        let url = self.url.get_or_init(|| database(self.tables)).await;
        Box::new(migrated(url, self.options.clone()).await)
    }
}

impl Subject for Databases {
    fn empty(&self) -> BoxFuture<'_, Box<dyn DocumentStore>> {
        Box::pin(async {
            let store = self.open().await;
            let mut outside = outside(self.url.get().unwrap()).await;
            let truncate = "truncate yjs_document, yjs_update_log, collab.snapshot, collab.folded, collab.quarantine, collab.log_key";
            outside.execute(truncate).await.unwrap();
            store
        })
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Box<dyn DocumentStore>>> {
        Box::pin(async { Some(self.open().await) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_without_history() {
    conformance::run(&Databases::new("", options())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_with_history() {
    conformance::run(&Databases::new("", PostgresOptions { keep_log: true, ..options() })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_on_adopted_tables() {
    for ((what, tables), keep_log) in OLD.into_iter().zip([true, false, true, false]) {
        println!("{what}");
        conformance::run(&Databases::new(tables, PostgresOptions { keep_log, ..options() })).await;
    }
}

#[tokio::test]
async fn migration_makes_two_tables_and_a_schema() {
    let url = database("").await;
    let store = PostgresStore::new(&url, options()).unwrap();
    let unready = store.load(&name("a")).await.unwrap_err();
    assert!(unready.retryable && unready.to_string().contains("fidibus migrate"), "{unready}");
    let mut outside = outside(&url).await;
    for mode in [MigrationMode::Check, MigrationMode::DryRun] {
        let migration = store.migrate(mode).await.unwrap();
        assert_eq!((migration.missing.len(), migration.complete), (7, false), "{mode:?}");
        assert_eq!(
            count(&mut outside, "pg_class where relname like 'yjs%'").await,
            0,
            "{mode:?} makes nothing"
        );
    }
    let migration = store.migrate(MigrationMode::Apply).await.unwrap();
    assert!(
        migration.complete && migration.adopted.is_empty() && migration.notices.is_empty(),
        "{migration:?}"
    );
    for mode in [MigrationMode::Apply, MigrationMode::DryRun, MigrationMode::Check] {
        let again = store.migrate(mode).await.unwrap();
        assert!(again.complete && again.missing.is_empty(), "{mode:?}: {again:?}");
    }
    store.ping().await.unwrap();
    let shown = PostgresServer::shared().program("psql", &["-Atc", r"\dt yjs_*", &url]).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let tables: Vec<_> = shown.lines().map(|line| line.split('|').nth(1).unwrap()).collect();
    assert_eq!(tables, ["yjs_document", "yjs_update_log"]);
    let elsewhere =
        "pg_tables where schemaname not in ('public', 'collab', 'pg_catalog', 'information_schema')";
    assert_eq!(count(&mut outside, elsewhere).await, 0);
    assert_eq!(count(&mut outside, "pg_tables where schemaname = 'public'").await, 2);
    assert_eq!(count(&mut outside, "yjs_document").await, 0);
}

#[tokio::test]
async fn the_sql_file_alone_does_the_same() {
    let url = database("").await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/postgres/0001_documents.sql");
    let sql = std::fs::read_to_string(file).unwrap();
    for _ in 0..2 {
        outside(&url).await.execute(AssertSqlSafe(sql.clone())).await.unwrap();
    }
    let store = PostgresStore::new(&url, options()).unwrap();
    assert!(store.migrate(MigrationMode::Check).await.unwrap().complete);
    store.store(&name("a"), edit(1, "a"), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_servers_migrate_at_once() {
    let url = database("").await;
    let servers: Vec<_> = (0..5)
        .map(|_| {
            let store = PostgresStore::new(&url, options()).unwrap();
            tokio::spawn(async move { store.migrate(MigrationMode::Apply).await })
        })
        .collect();
    for server in servers {
        assert!(server.await.unwrap().unwrap().complete);
    }
}

#[tokio::test]
async fn adopted_tables_stay_as_they_are() {
    for (what, tables) in OLD {
        let url = database(tables).await;
        let shape = "select string_agg(concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, atthasdef, attidentity), ', ' order by attrelid, attnum)
            || (select string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ', ' order by conname) from pg_constraint where conrelid::regclass::text like 'yjs%')
            || (select string_agg(indexrelid::regclass::text, ', ' order by 1) from pg_index where indrelid::regclass::text like 'yjs%')
            || (select count(*) from pg_trigger where tgrelid::regclass::text like 'yjs%')
            from pg_attribute where attrelid::regclass::text like 'yjs%' and attnum > 0";
        let mut outside = outside(&url).await;
        let before: String = sqlx::query_scalar(shape).fetch_one(&mut outside).await.unwrap();
        let store = PostgresStore::new(&url, options()).unwrap();
        let migration = store.migrate(MigrationMode::Apply).await.unwrap();
        assert_eq!(migration.adopted, ["yjs_document", "yjs_update_log"], "{what}");
        let indexed = tables.contains("create index");
        assert_eq!(migration.notices.len(), usize::from(!indexed), "{what}: {:?}", migration.notices);
        let after: String = sqlx::query_scalar(shape).fetch_one(&mut outside).await.unwrap();
        assert_eq!(after, before, "{what}");
    }
}

#[tokio::test]
async fn rows_of_another_program_are_loaded_and_folded() {
    for (what, tables) in OLD {
        let url = database(tables).await;
        let mut outside = outside(&url).await;
        let column = if tables.contains("update_data") { "update_data" } else { "update" };
        sqlx::query("insert into yjs_document (id, data, updated_at) values ('a', $1, now())")
            .bind(&edit(1, "theirs")[..])
            .execute(&mut outside)
            .await
            .unwrap();
        for author in [2, 3] {
            let (columns, values) = match what {
                "the plan's tables" => ("id, created_at, ", "gen_random_uuid()::text, now(), "),
                _ => ("", ""),
            };
            let sql = format!(
                "insert into yjs_update_log ({columns}document_id, {column}) values ({values}'a', $1)"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(&edit(author, "log")[..])
                .execute(&mut outside)
                .await
                .unwrap();
        }
        let (store, document) = (migrated(&url, options()).await, name("a"));
        let own = store.update_log().unwrap().append(&[batch(&document, 4, "ours")]).await.unwrap();
        let stored = store.load(&document).await.unwrap().unwrap();
        let all = expected([(1, "theirs"), (2, "log"), (3, "log"), (4, "ours")]);
        assert_eq!(authors(&stored), all, "{what}");
        let folded: Vec<_> = stored.updates.iter().map(|(id, _)| *id).collect();
        assert!(folded.contains(&own[0]) && folded.len() == 3, "{what}: {folded:?}");
        store.store(&document, conformance::edits::snapshot(&stored), &folded[1..]).await.unwrap();
        assert_eq!(count(&mut outside, "yjs_update_log").await, 1, "{what}");
        assert_eq!(authors_stored(&store, &document).await, all, "{what}");
    }
}

#[tokio::test]
async fn tables_that_cannot_be_used_are_refused_with_the_reason() {
    let document =
        "create table yjs_document (id text primary key, data bytea not null, updated_at timestamptz);";
    let cases = [
        ("create table yjs_document (id uuid primary key, data bytea, updated_at timestamptz)".to_owned(), "text column id"),
        ("create table yjs_document (id text, data bytea, updated_at timestamptz)".to_owned(), "unique"),
        ("create table yjs_document (id text primary key, data text, updated_at timestamptz)".to_owned(), "bytea column data"),
        ("create table yjs_document (id text primary key, data bytea, tenant text not null, updated_at timestamptz)".to_owned(), "tenant"),
        (format!("{document} create table yjs_update_log (id bigserial primary key, document_id text, payload bytea)"), "update_data or update"),
        (format!("{document} create table yjs_update_log (id bigint primary key, document_id text, update bytea)"), "default"),
    ];
    for (tables, reason) in cases {
        let url = database(&tables).await;
        let store = PostgresStore::new(&url, options()).unwrap();
        let error = store.migrate(MigrationMode::Apply).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        let mut outside = outside(&url).await;
        assert_eq!(count(&mut outside, "pg_namespace where nspname = 'collab'").await, 0, "nothing was made");
    }
}

#[tokio::test]
async fn users_are_recorded_where_they_exist() {
    let fresh = r#"create table "user" (id text primary key); insert into "user" values ('user-1');"#;
    for (tables, known) in [("", true), (fresh, false), (OLD[0].1, false)] {
        let url = database(tables).await;
        let store = migrated(&url, options()).await;
        let document = name("a");
        let stranger = LogBatch { user: Some("stranger".into()), ..batch(&document, 2, "b") };
        store.update_log().unwrap().append(&[batch(&document, 1, "a"), stranger]).await.unwrap();
        let mut outside = outside(&url).await;
        let users: Vec<Option<String>> = sqlx::query_scalar("select user_id from yjs_update_log order by id")
            .fetch_all(&mut outside)
            .await
            .unwrap();
        assert_eq!(users, [Some("user-1".to_owned()), known.then(|| "stranger".to_owned())]);
        if !tables.is_empty() {
            outside.execute(r#"delete from "user""#).await.unwrap();
            assert_eq!(count(&mut outside, "yjs_update_log where user_id is null").await, 2);
        }
    }
}

#[tokio::test]
async fn times_are_now_whatever_the_zone_and_the_type() {
    for (what, tables) in OLD {
        let url = database(tables).await;
        let name_of = url.rsplit('/').next().unwrap().to_owned();
        let zone = format!("alter database {name_of} set timezone = 'Pacific/Auckland'");
        outside(&url).await.execute(AssertSqlSafe(zone)).await.unwrap();
        let store = migrated(&url, options()).await;
        store.store(&name("a"), edit(1, "a"), &[]).await.unwrap();
        let late = "select abs(extract(epoch from updated_at) - extract(epoch from now()))::float8 from yjs_document";
        let late: f64 = sqlx::query_scalar(late).fetch_one(&mut outside(&url).await).await.unwrap();
        assert!(late < 60.0, "{what}: {late} s off");
    }
}

#[tokio::test]
async fn history_is_kept_and_pruned() {
    for (what, tables) in [("ours", ""), OLD[0], OLD[1]] {
        let url = database(tables).await;
        let store = migrated(&url, PostgresOptions { keep_log: true, ..options() }).await;
        let (document, log) = (name("a"), store.update_log().unwrap());
        let batches = [1, 2, 3].map(|author| batch(&document, author, "row"));
        let ids = log.append(&batches).await.unwrap();
        let stored = store.load(&document).await.unwrap().unwrap();
        store.store(&document, conformance::edits::snapshot(&stored), &ids[..2]).await.unwrap();
        let mut outside = outside(&url).await;
        assert_eq!(count(&mut outside, "yjs_update_log").await, 3, "{what}");
        assert_eq!(store.load(&document).await.unwrap().unwrap().updates.len(), 1, "{what}");
        assert_eq!(log.prune(Duration::from_secs(3600)).await.unwrap(), 0, "{what}: too young");
        outside
            .execute("update yjs_update_log set created_at = created_at - interval '2 hours'")
            .await
            .unwrap();
        // A mark counts for the row that it was made for, not for another one with its number.
        assert_eq!(store.load(&document).await.unwrap().unwrap().updates.len(), 3, "{what}");
        store.store(&document, vec![0, 0].into(), &ids[..2]).await.unwrap();
        assert_eq!(log.prune(Duration::from_secs(3600)).await.unwrap(), 2, "{what}");
        assert_eq!(count(&mut outside, "yjs_update_log").await, 1, "{what}: what is not folded stays");
        assert_eq!(count(&mut outside, "collab.folded").await, 0, "{what}");
        assert_eq!(authors_stored(&store, &document).await.len(), 3, "{what}");
    }
}

#[tokio::test]
async fn a_changed_snapshot_is_refused_and_that_of_another_program_is_taken() {
    let url = database("").await;
    let (store, document) = (migrated(&url, options()).await, name("a"));
    store.store(&document, edit(1, "written"), &[]).await.unwrap();
    let mut outside = outside(&url).await;
    let rotten = edit(1, "writtem");
    sqlx::query("update yjs_document set data = $1").bind(&rotten[..]).execute(&mut outside).await.unwrap();
    let load = store.load(&document).await.unwrap_err();
    let write = store.store(&document, edit(2, "more"), &[]).await.unwrap_err();
    for error in [load, write] {
        assert!(!error.retryable && error.to_string().contains("\"a\""), "{error}");
    }
    let kept: Vec<u8> =
        sqlx::query_scalar("select data from yjs_document").fetch_one(&mut outside).await.unwrap();
    assert_eq!(kept, rotten);
    let theirs = "update yjs_document set data = $1, updated_at = now()";
    sqlx::query(theirs).bind(&rotten[..]).execute(&mut outside).await.unwrap();
    store.store(&document, edit(2, "more"), &[]).await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, expected([(1, "writtem"), (2, "more")]));
    let sums: bool = sqlx::query_scalar("select sha256(data) = sha256 from yjs_document, collab.snapshot")
        .fetch_one(&mut outside)
        .await
        .unwrap();
    assert!(sums, "psql alone can verify");
}

/// Goal: a snapshot that is read in pieces is what was stored, or refused. Method: sizes around one and two pieces,
/// as ours and as another program's; then one byte changed in each piece in turn.
#[tokio::test]
async fn snapshots_of_any_size_are_loaded_whole_or_not_at_all() {
    const PIECE: usize = 64 * 1024;
    let url = database("").await;
    let (store, document) = (migrated(&url, options()).await, name("a"));
    let mut outside = outside(&url).await;
    let head = edit(1, &"x".repeat(PIECE)).len() - PIECE;
    for bytes in [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1] {
        let snapshot = edit(1, &"x".repeat(bytes - head));
        assert_eq!(snapshot.len(), bytes);
        store.delete(&document).await.unwrap();
        store.store(&document, snapshot.clone(), &[]).await.unwrap();
        assert_eq!(store.load(&document).await.unwrap().unwrap().snapshot.as_ref(), Some(&snapshot));
        let unsealed = "update yjs_document set updated_at = updated_at + interval '1 s'";
        outside.execute(unsealed).await.unwrap();
        assert_eq!(store.load(&document).await.unwrap().unwrap().snapshot, Some(snapshot));
        outside.execute("update yjs_document set updated_at = updated_at - interval '1 s'").await.unwrap();
    }
    for at in [PIECE - 1, PIECE, 2 * PIECE - 1, 2 * PIECE] {
        let flip = format!("update yjs_document set data = set_byte(data, {at}, get_byte(data, {at}) # 1)");
        outside.execute(AssertSqlSafe(flip.clone())).await.unwrap();
        let refused = store.load(&document).await.unwrap_err();
        assert!(refused.to_string().contains("checksum"), "{refused}");
        outside.execute(AssertSqlSafe(flip)).await.unwrap();
    }
    assert!(store.load(&document).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_servers_compact_one_document() {
    let url = database("").await;
    let store = migrated(&url, options()).await;
    let document = name("hot");
    let servers: Vec<_> = (0..10_u32)
        .map(|server| {
            let options = PostgresOptions { connections_max: 3, ..options() };
            let (store, document) = (PostgresStore::new(&url, options).unwrap(), document.clone());
            tokio::spawn(async move {
                let log = store.update_log().unwrap();
                for round in 0..8 {
                    log.append(&[batch(&document, server * 100 + round, "acked")]).await.unwrap();
                    let stored = store.load(&document).await.unwrap().unwrap();
                    let folded: Vec<_> = stored.updates.iter().map(|(id, _)| *id).collect();
                    store.store(&document, conformance::edits::snapshot(&stored), &folded).await.unwrap();
                }
                store.close().await;
            })
        })
        .collect();
    for server in servers {
        server.await.unwrap();
    }
    let stored = store.load(&document).await.unwrap().unwrap();
    assert_eq!(authors(&stored).len(), 80);
    assert!(stored.updates.is_empty(), "every row was folded: {}", stored.updates.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_do_not_wait_for_a_snapshot_that_is_being_written() {
    let url = database("").await;
    let (store, document) = (migrated(&url, options()).await, name("a"));
    store.store(&document, edit(1, "a"), &[]).await.unwrap();
    let mut outside = outside(&url).await;
    // As `store` locks it, while it merges.
    outside.execute("begin; update yjs_document set data = data").await.unwrap();
    let log = store.update_log().unwrap();
    tokio::time::timeout(Duration::from_secs(5), log.append(&[batch(&document, 2, "b")]))
        .await
        .unwrap()
        .unwrap();
    outside.execute("rollback").await.unwrap();
}

/// Goal: however many documents are saved at once, acks do not wait for it. Method: a store with four connections
/// saves four documents that somebody else keeps locked, and appends to another one.
#[tokio::test(flavor = "multi_thread")]
async fn saves_leave_connections_to_appends() {
    let url = database("").await;
    let store = migrated(&url, PostgresOptions { connections_max: 4, ..options() }).await;
    let documents = ["a", "b", "c", "d"].map(name);
    for document in &documents {
        store.store(document, edit(1, "a"), &[]).await.unwrap();
    }
    let mut outside = outside(&url).await;
    outside.execute("begin; update yjs_document set data = data").await.unwrap();
    let saves = documents.map(|document| {
        let store = store.clone();
        tokio::spawn(async move { store.store(&document, edit(2, "b"), &[]).await })
    });
    let log = store.update_log().unwrap();
    for _ in 0..20 {
        let rows = [batch(&name("another"), 3, "c")];
        let append = log.append(&rows);
        tokio::time::timeout(Duration::from_secs(3), append).await.expect("not behind the saves").unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(saves.iter().all(|save| !save.is_finished()), "they wait for the locks");
    outside.execute("rollback").await.unwrap();
    for save in saves {
        save.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_fails_calls_but_not_the_store() {
    let server = PostgresServer::start().unwrap();
    let url = server.database();
    let options = PostgresOptions {
        connect_timeout: Duration::from_secs(3),
        call_timeout: Duration::from_secs(4),
        ..options()
    };
    server.crash().unwrap();
    let store = PostgresStore::new(&url, options).unwrap();
    let document = name("a");
    let away = store.ping().await.unwrap_err();
    assert!(away.retryable, "{away}");
    server.resume().unwrap();
    assert!(store.migrate(MigrationMode::Apply).await.unwrap().complete);
    let log = store.update_log().unwrap();
    log.append(&[batch(&document, 1, "before the crash")]).await.unwrap();

    // Several connections, all of them dead after this; the first call that notices takes the others along.
    let pings: Vec<_> =
        (0..8).map(|_| store.clone()).map(|store| tokio::spawn(async move { store.ping().await })).collect();
    for ping in pings {
        ping.await.unwrap().unwrap();
    }
    server.crash().unwrap();
    server.resume().unwrap();
    let away = store.ping().await.unwrap_err();
    assert!(away.retryable && !away.to_string().contains("fidibus@"), "{away}");
    store.ping().await.unwrap();
    assert_eq!(authors_stored(&store, &document).await, expected([(1, "before the crash")]));

    // It stops answering without closing anything: calls end by themselves, and it goes on afterwards.
    server.signal("STOP").unwrap();
    for _ in 0..3 {
        let started = Instant::now();
        let silent = log.append(&[batch(&document, 3, "silence")]).await.unwrap_err();
        assert!(silent.retryable && started.elapsed() < Duration::from_secs(6), "{silent}");
    }
    server.signal("CONT").unwrap();
    until_it_answers(&store).await;
    log.append(&[batch(&document, 4, "after")]).await.unwrap();
    assert!(authors_stored(&store, &document).await.contains_key(&4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_went_silent_is_replaced() {
    let server = PostgresServer::start().unwrap();
    let url = server.database();
    let options = PostgresOptions {
        connections_max: 1,
        call_timeout: Duration::from_secs(8),
        ..PostgresOptions::default()
    };
    let store = migrated(&url, options).await;
    let (document, log) = (name("a"), store.update_log().unwrap());
    log.append(&[batch(&document, 1, "a")]).await.unwrap();
    // As behind a router that forgot the connection: it stays open, and nothing comes back on it any more.
    let pid: i32 = sqlx::query_scalar("select pid from pg_stat_activity where application_name = 'fidibus'")
        .fetch_one(&mut outside(&url).await)
        .await
        .unwrap();
    let signal =
        |name: &str| std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    assert!(log.append(&[batch(&document, 2, "b")]).await.unwrap_err().retryable);
    let mut replaced = log.append(&[batch(&document, 3, "c")]).await;
    for _ in 0..3 {
        // A busy machine may need more than one call's time to connect.
        if replaced.is_ok() {
            break;
        }
        replaced = log.append(&[batch(&document, 3, "c")]).await;
    }
    assert!(signal("-CONT").success());
    replaced.unwrap();
}

async fn until_it_answers(store: &PostgresStore) {
    for _ in 0..20 {
        if store.ping().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    store.ping().await.unwrap();
}

#[tokio::test]
async fn dump_and_restore_are_a_full_backup() {
    let server = PostgresServer::shared();
    let url = database("").await;
    let (store, document) = (migrated(&url, options()).await, name("a"));
    store.store(&document, edit(1, "snapshot"), &[]).await.unwrap();
    store.update_log().unwrap().append(&[batch(&document, 2, "row")]).await.unwrap();
    let dump = String::from_utf8(server.program("pg_dump", &[&url]).unwrap()).unwrap();
    let (restored, file) =
        (server.database(), std::env::temp_dir().join(format!("dump-{}.sql", std::process::id())));
    std::fs::write(&file, dump).unwrap();
    server.program("psql", &["-qv", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap(), &restored]).unwrap();
    std::fs::remove_file(&file).unwrap();
    let again = PostgresStore::new(&restored, options()).unwrap();
    assert_eq!(authors_stored(&again, &document).await, authors_stored(&store, &document).await);
    again.update_log().unwrap().append(&[batch(&document, 3, "later")]).await.unwrap();
    assert_eq!(authors_stored(&again, &document).await.len(), 3);
}

#[tokio::test]
async fn bad_urls_are_refused_without_showing_the_password() {
    for url in [
        "postgres://u:geheim@host:notaport/db",
        "mysql://u:geheim@host/db",
        "postgres://u:geheim@host/db?sslmode=maybe",
    ] {
        let refused = PostgresStore::new(url, options());
        if let Err(error) = refused {
            assert!(!error.retryable && !error.to_string().contains("geheim"), "{error}");
        }
    }
    let wrong = PostgresServer::shared().url("no_such_database");
    let error = PostgresStore::new(&wrong, options()).unwrap().ping().await.unwrap_err();
    assert!(error.retryable && error.to_string().contains("no_such_database"), "{error}");
}
