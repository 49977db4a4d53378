//! The calls on the update log.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};

use super::failure::Failure;
use super::pieces::Pieces;
use super::statements::Statements;
use super::text;
use crate::id::DocumentName;
use crate::store::merge;
use crate::store::{LogBatch, LogId, StoredDocument};

/// Rows that one call of `prune` deletes at most.
const PRUNE_ROWS_MAX: i64 = 10_000;

/// A row of the log as it was read.
pub(super) struct LoggedRow {
    id: LogId,
    update: Bytes,
    flagged: bool,
}

/// The snapshot of a document and its rows that are not folded; `None` where there is neither.
pub(super) async fn load(
    connection: &mut PgConnection,
    sql: &Statements,
    document: &DocumentName,
) -> Result<Option<(Option<Pieces>, Vec<LoggedRow>)>, Failure> {
    if let Some(number_rows) = &sql.number_rows {
        sqlx::query(text(number_rows)).bind(document.as_str()).execute(&mut *connection).await?;
    }
    let (mut found, mut rows) = (None, Vec::new());
    let mut read = sqlx::query(text(&sql.load)).bind(document.as_str()).fetch(connection);
    while let Some(row) = read.try_next().await? {
        match row.try_get::<Option<LogId>, _>(0)? {
            None => {
                let pieces = match &mut found {
                    Some(pieces) => pieces,
                    None => found.insert(Pieces::new(&row)?),
                };
                pieces.push(&row).await?;
            }
            Some(id) => {
                let update = row.try_get::<Vec<u8>, _>(1)?.into();
                rows.push(LoggedRow { id, update, flagged: row.try_get(2)? });
            }
        }
    }
    rows.sort_unstable_by_key(|row| row.id);
    Ok((found.is_some() || !rows.is_empty()).then_some((found, rows)))
}

/// Sets unreadable rows aside, and flags them for those who look at the database.
pub(super) async fn assemble(
    connection: &mut PgConnection,
    sql: &Statements,
    snapshot: Option<Bytes>,
    rows: Vec<LoggedRow>,
) -> Result<StoredDocument, Failure> {
    let flagged: Vec<LogId> = rows.iter().filter(|row| row.flagged).map(|row| row.id).collect();
    let assembled = merge::assemble(snapshot, rows.into_iter().map(|row| (row.id, row.update)).collect());
    let unreadable = &assembled.quarantined;
    if unreadable.iter().any(|row| !flagged.contains(&row.id)) {
        sqlx::query(text(&sql.quarantine))
            .bind(unreadable.iter().map(|row| row.id).collect::<Vec<_>>())
            .bind(unreadable.iter().map(|row| &*row.reason).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    // Readable after all: by a later version of ours, or it is another row by now that bears the number.
    let released: Vec<_> =
        flagged.into_iter().filter(|id| unreadable.iter().all(|row| row.id != *id)).collect();
    if !released.is_empty() {
        sqlx::query(text(&sql.release)).bind(released).execute(connection).await?;
    }
    Ok(assembled)
}

/// Appends all batches in one statement, which is one commit.
pub(super) async fn append(
    connection: &mut PgConnection,
    sql: &Statements,
    batches: &[LogBatch],
) -> Result<Vec<LogId>, Failure> {
    // PostgreSQL holds no NUL in text. No user has one in their id, so this one is nobody it knows.
    let user = |batch: &LogBatch| batch.user.clone().filter(|user| !user.contains('\0'));
    let users: Vec<_> = batches.iter().map(user).collect();
    let mut ids: Vec<LogId> = sqlx::query_scalar(text(&sql.append))
        .bind(batches.iter().map(|batch| batch.document.as_str()).collect::<Vec<_>>())
        .bind(batches.iter().map(|batch| &batch.update[..]).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.as_deref()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    // Ids count up in the order of the batches; nobody promises that `returning` keeps to it.
    ids.sort_unstable();
    Ok(ids)
}

/// Deletes history that is older than this; what is not folded stays.
pub(super) async fn prune(
    connection: &mut PgConnection,
    sql: &Statements,
    age: Duration,
) -> Result<u64, Failure> {
    let rows: i64 = sqlx::query_scalar(text(&sql.prune))
        .bind(age.as_secs_f64())
        .bind(PRUNE_ROWS_MAX)
        .fetch_one(connection)
        .await?;
    Ok(rows.unsigned_abs())
}
