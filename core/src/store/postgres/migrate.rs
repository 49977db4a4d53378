//! Making the tables that are missing: in one transaction, under a lock that all servers share.

use sqlx::{Connection, PgConnection};

use super::catalogue::Catalogue;
use super::failure::Failure;

/// The same for every Fidibus on a database; the letters "fidibus" as a number.
const LOCK: i64 = 0x0066_6964_6962_7573;
const MIGRATIONS: [(i32, &str); 1] =
    [(1, include_str!("../../../../migrations/postgres/0001_documents.sql"))];
/// What a database of the newest version has.
const TABLES: [&str; 7] = [
    "yjs_document",
    "yjs_update_log",
    "collab.snapshot",
    "collab.folded",
    "collab.quarantine",
    "collab.log_key",
    "collab.migration",
];

/// What to do about tables that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationMode {
    /// Only look. Needs no right to write.
    Check,
    /// Make them, look whether they fit, and undo it all.
    DryRun,
    /// Make them.
    Apply,
}

/// What a migration did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// Tables that were missing before.
    pub missing: Vec<String>,
    /// Tables of other programs that are used as they are.
    pub adopted: Vec<String>,
    /// What somebody should know: an index that is missing on an adopted table, for one.
    pub notices: Vec<String>,
    /// Whether the database is now as it should be.
    pub complete: bool,
}

pub(super) async fn run(connection: &mut PgConnection, mode: MigrationMode) -> Result<Migration, Failure> {
    let mut tx = connection.begin().await?;
    if mode != MigrationMode::Check {
        sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    }
    let mut migration = look(&mut tx).await?;
    Catalogue::check_existing(&mut tx).await??;
    let pending = pending(&mut tx, &migration).await?;
    if mode == MigrationMode::Check || pending.is_empty() {
        migration.complete = pending.is_empty();
    } else {
        for sql in pending {
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
        Catalogue::read(&mut tx).await??;
        migration.complete = mode == MigrationMode::Apply;
    }
    migration.notices = notices(&mut tx).await?;
    match mode {
        MigrationMode::Apply => tx.commit().await?,
        MigrationMode::Check | MigrationMode::DryRun => tx.rollback().await?,
    }
    Ok(migration)
}

async fn look(connection: &mut PgConnection) -> Result<Migration, Failure> {
    let missing: Vec<String> =
        sqlx::query_scalar("select t from unnest($1::text[]) with ordinality as u (t, n) where to_regclass(t) is null order by n")
            .bind(&TABLES[..])
            .fetch_all(connection)
            .await?;
    let ours = !missing.iter().any(|table| table == "collab.migration");
    let there = TABLES[..2].iter().filter(|table| !missing.iter().any(|name| name == *table));
    let adopted = if ours { Vec::new() } else { there.map(|table| (*table).to_owned()).collect() };
    Ok(Migration { missing, adopted, ..Migration::default() })
}

async fn pending(connection: &mut PgConnection, found: &Migration) -> Result<Vec<&'static str>, Failure> {
    if !found.missing.is_empty() {
        // Each of them makes what is missing only.
        return Ok(MIGRATIONS.iter().map(|(_, sql)| *sql).collect());
    }
    let applied: Vec<i32> =
        sqlx::query_scalar("select version from collab.migration").fetch_all(connection).await?;
    Ok(MIGRATIONS.iter().filter(|(version, _)| !applied.contains(version)).map(|(_, sql)| *sql).collect())
}

async fn notices(connection: &mut PgConnection) -> Result<Vec<String>, Failure> {
    let mut notices = Vec::new();
    let unindexed: bool = sqlx::query_scalar(
        "select to_regclass('yjs_update_log') is not null and not exists (
             select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
             where i.indrelid = to_regclass('yjs_update_log') and a.attname = 'document_id')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if unindexed {
        notices.push(
            "yjs_update_log has no index that begins with document_id, which makes loading slow; remedy: \
             create index concurrently yjs_update_log_document_id_idx on yjs_update_log (document_id)"
                .into(),
        );
    }
    let others: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c where c.relkind in ('r', 'p') and c.relname like 'yjs\\_%'
         and c.relname not in ('yjs_document', 'yjs_update_log') and pg_table_is_visible(c.oid) order by 1",
    )
    .fetch_all(connection)
    .await?;
    notices.extend(others.iter().map(|table| format!("table {table} is not used by Fidibus")));
    Ok(notices)
}
