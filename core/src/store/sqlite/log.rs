//! The statements on the update log.

use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use super::BEGIN;
use crate::id::DocumentName;
use crate::store::merge::EMPTY_UPDATE;
use crate::store::{LogBatch, LogId, QuarantinedRow};

/// An insert takes this many rows at the most; more are several statements.
const ROWS_PER_INSERT_MAX: usize = 512;
/// Inserts of more rows than this differ by so many: an empty place costs little, but not nothing.
const ROWS_STEP: usize = 16;

/// Rows that one call of `prune` deletes at most.
const PRUNE_ROWS_MAX: i64 = 10_000;

/// The rows that no snapshot holds yet, in order. The index is by spans of ids, then by document.
pub(super) async fn unfolded(
    connection: &mut SqliteConnection,
    document: &DocumentName,
) -> Result<Vec<(LogId, Bytes)>, sqlx::Error> {
    let rows = sqlx::query(
        "with recursive span (number) as (
             select min(id) / 512 from yjs_update_log
             union all
             select number + 1 from span where number < (select max(id) / 512 from yjs_update_log)
         )
         select id, update_data from span cross join yjs_update_log on id / 512 = number and document_id = ?
         where not exists (select 1 from fidibus_folded where log_id = id) order by id",
    )
    .bind(document.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<Vec<u8>, _>(1)?.into()))).collect()
}

/// Appends the batches, and their documents where there are none yet: one statement, which is a
/// transaction by itself, unless there are many rows or a document is new.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    batches: &[LogBatch],
) -> Result<Vec<LogId>, sqlx::Error> {
    if batches.len() <= ROWS_PER_INSERT_MAX {
        match insert_rows(connection, batches).await {
            Err(error) if is_without_document(&error) => {}
            outcome => return outcome.map(Iterator::collect),
        }
    }
    let mut tx = connection.begin_with(BEGIN).await?;
    let mut documents: Vec<_> = batches.iter().map(|batch| batch.document.as_str()).collect();
    documents.sort_unstable();
    documents.dedup();
    for documents in documents.chunks(ROWS_PER_INSERT_MAX) {
        insert_documents(&mut tx, documents).await?;
    }
    let mut ids = Vec::with_capacity(batches.len());
    for batches in batches.chunks(ROWS_PER_INSERT_MAX) {
        ids.extend(insert_rows(&mut tx, batches).await?);
    }
    tx.commit().await?;
    Ok(ids)
}

fn is_without_document(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_foreign_key_violation)
}

async fn insert_documents(connection: &mut SqliteConnection, documents: &[&str]) -> Result<(), sqlx::Error> {
    let values = vec!["(?, ?)"; documents.len()].join(", ");
    let sql = format!("insert into yjs_document (id, data) values {values} on conflict (id) do nothing");
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for document in documents {
        query = query.bind(*document).bind(EMPTY_UPDATE);
    }
    query.execute(connection).await?;
    Ok(())
}

/// At least one row, at most [`ROWS_PER_INSERT_MAX`]; their ids, in order.
async fn insert_rows(
    connection: &mut SqliteConnection,
    batches: &[LogBatch],
) -> Result<RangeInclusive<LogId>, sqlx::Error> {
    let places = places(batches.len());
    let mut query = sqlx::query(INSERT_ROWS[places - 1].get_or_init(|| insert(places)).as_str());
    for batch in batches {
        query = query.bind(batch.document.as_str()).bind(&batch.update[..]).bind(batch.user.as_deref());
    }
    for _ in batches.len()..places {
        query = query.bind(None::<&str>).bind(None::<&[u8]>).bind(None::<&str>);
    }
    let last = query.execute(connection).await?.last_insert_rowid();
    // Nobody else writes within a statement, and an id that was given is never given again (`autoincrement`).
    Ok(last - (batches.len() as LogId - 1)..=last)
}

/// How many rows the insert for so many has places for: few enough different statements that all stay prepared.
fn places(rows: usize) -> usize {
    if rows <= ROWS_STEP { rows } else { rows.next_multiple_of(ROWS_STEP) }
}

/// The insert with so many places, of which empty ones count nothing.
fn insert(places: usize) -> String {
    let values = vec!["(?, ?, ?)"; places].join(", ");
    format!(
        "insert into yjs_update_log (document_id, update_data, user_id)
         select column1, column2, column3 from (values {values}) where column1 is not null"
    )
}

/// By number of places.
static INSERT_ROWS: [OnceLock<String>; ROWS_PER_INSERT_MAX] =
    [const { OnceLock::new() }; ROWS_PER_INSERT_MAX];

/// Takes exactly these rows out of what is loaded: deletes them, or keeps them as history. `rows`: `[[id, document], …]`
/// as JSON.
pub(super) async fn fold(
    connection: &mut SqliteConnection,
    rows: &str,
    keep: bool,
) -> Result<(), sqlx::Error> {
    // In the order of the ids, so that each page is read and written once. A quarantined row is in no snapshot,
    // whatever the caller says.
    const THESE: &str =
        "select id from (select value ->> 0 as row, value ->> 1 as document from json_each(?))
         cross join yjs_update_log on id = row
         where document_id = document and not exists (select 1 from fidibus_quarantine where log_id = id)";
    let sql = match keep {
        true => format!("insert or ignore into fidibus_folded (log_id) {THESE}"),
        false => format!("delete from yjs_update_log where id in ({THESE})"),
    };
    sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(connection).await?;
    Ok(())
}

/// Flags rows that cannot be read, for those who look at the database.
pub(super) async fn quarantine(
    connection: &mut SqliteConnection,
    rows: &[QuarantinedRow],
) -> Result<(), sqlx::Error> {
    for row in rows {
        // The row may be gone by now, with its document.
        sqlx::query(
            "insert into fidibus_quarantine (log_id, reason) select id, ? from yjs_update_log where id = ?
             on conflict (log_id) do nothing",
        )
        .bind(&row.reason)
        .bind(row.id)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Deletes history that is older than this; what is not folded stays. Its marks go with it.
pub(super) async fn prune(connection: &mut SqliteConnection, age: Duration) -> Result<u64, sqlx::Error> {
    let pruned = sqlx::query(
        "delete from yjs_update_log where id in (
             select l.id from (select log_id from fidibus_folded order by log_id limit ?2) f
             join yjs_update_log l on l.id = f.log_id
             where julianday(l.created_at) < julianday('now') - ?1 / 86400.0)",
    )
    .bind(age.as_secs_f64())
    .bind(PRUNE_ROWS_MAX)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
