//! The statements on the update log.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::id::DocumentName;
use crate::store::merge::EMPTY_UPDATE;
use crate::store::{LogBatch, LogId, QuarantinedRow};

/// Inserts take as many rows as they can of these counts: few statements for any number of rows, and few
/// enough different ones that all stay prepared.
const ROWS_PER_INSERT: [usize; 4] = [256, 32, 8, 1];

/// Rows that one call of `prune` deletes at most.
const PRUNE_ROWS_MAX: i64 = 10_000;

/// The rows that no snapshot holds yet, in order.
pub(super) async fn unfolded(
    connection: &mut SqliteConnection,
    document: &DocumentName,
) -> Result<Vec<(LogId, Bytes)>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, update_data from yjs_update_log
         where document_id = ? and not exists (select 1 from fidibus_folded where log_id = id) order by id",
    )
    .bind(document.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<Vec<u8>, _>(1)?.into()))).collect()
}

/// Appends the batches, and their documents where there are none yet.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    batches: &[LogBatch],
) -> Result<Vec<LogId>, sqlx::Error> {
    let mut documents: Vec<_> = batches.iter().map(|batch| batch.document.as_str()).collect();
    documents.sort_unstable();
    documents.dedup();
    for documents in pieces(&documents) {
        insert_documents(connection, documents).await?;
    }
    let mut ids = Vec::with_capacity(batches.len());
    for batches in pieces(batches) {
        insert_rows(connection, batches, &mut ids).await?;
    }
    Ok(ids)
}

/// Cuts rows into pieces of the lengths that inserts take.
fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = ROWS_PER_INSERT.into_iter().find(|length| *length <= rows.len())?;
        let (piece, rest) = rows.split_at(length);
        rows = rest;
        Some(piece)
    })
}

async fn insert_documents(connection: &mut SqliteConnection, documents: &[&str]) -> Result<(), sqlx::Error> {
    let values = vec!["(?, ?)"; documents.len()].join(", ");
    let sql = format!("insert into yjs_document (id, data) values {values} on conflict (id) do nothing");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for document in documents {
        query = query.bind(*document).bind(EMPTY_UPDATE);
    }
    query.execute(connection).await?;
    Ok(())
}

async fn insert_rows(
    connection: &mut SqliteConnection,
    batches: &[LogBatch],
    ids: &mut Vec<LogId>,
) -> Result<(), sqlx::Error> {
    let values = vec!["(?, ?, ?)"; batches.len()].join(", ");
    let sql = format!(
        "insert into yjs_update_log (document_id, update_data, user_id) values {values} returning id"
    );
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
    for batch in batches {
        query = query.bind(batch.document.as_str()).bind(&batch.update[..]).bind(batch.user.as_deref());
    }
    let mut inserted: Vec<LogId> = query.fetch_all(connection).await?;
    // Ids count up in the order of the values; SQLite does not promise that `returning` keeps to it.
    inserted.sort_unstable();
    ids.append(&mut inserted);
    Ok(())
}

/// Takes exactly these rows out of what is loaded: deletes them, or keeps them as history.
pub(super) async fn fold(
    connection: &mut SqliteConnection,
    document: &DocumentName,
    folded: &[LogId],
    keep: bool,
) -> Result<(), sqlx::Error> {
    // A quarantined row is in no snapshot, whatever the caller says.
    const THESE: &str = "from yjs_update_log where id in (select value from json_each(?)) and document_id = ?
         and not exists (select 1 from fidibus_quarantine where log_id = id)";
    let sql = match keep {
        true => format!("insert or ignore into fidibus_folded (log_id) select id {THESE}"),
        false => format!("delete {THESE}"),
    };
    let ids = folded.iter().map(LogId::to_string).collect::<Vec<_>>().join(",");
    sqlx::query(AssertSqlSafe(sql))
        .bind(format!("[{ids}]"))
        .bind(document.as_str())
        .execute(connection)
        .await?;
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
