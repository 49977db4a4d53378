//! What an operator asks: statements that serving does not need.

use std::time::SystemTime;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::SqliteStore;
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;
use crate::store::LogId;
use crate::store::inspect::{DatabaseState, DocumentSummary, Inspect, LoggedRow, time};

fn microseconds(column: &str) -> String {
    format!("cast(round((julianday({column}) - 2440587.5) * 86400000.0) as integer) * 1000")
}

/// Counts the log once for all documents asked for: it has no index by document alone.
fn summaries(which: &str) -> String {
    const FOLDED: &str = "exists (select 1 from fidibus_folded where log_id = l.id)";
    const QUARANTINED: &str = "exists (select 1 from fidibus_quarantine where log_id = l.id)";
    format!(
        "with d as materialized (select id, length(data) as bytes, {} as updated_at from yjs_document d where {which}),
         counts as (
             select document_id, count(*) filter (where not {FOLDED}) as waiting,
                    count(*) filter (where {FOLDED}) as history, count(*) filter (where {QUARANTINED}) as quarantined
             from yjs_update_log l where document_id in (select id from d) group by document_id)
         select d.id, bytes, updated_at, coalesce(waiting, 0), coalesce(history, 0), coalesce(quarantined, 0)
         from d left join counts on document_id = d.id order by d.id",
        microseconds("d.updated_at"),
    )
}

fn summary(row: &SqliteRow) -> Result<DocumentSummary, sqlx::Error> {
    let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(DocumentSummary {
        name: row.try_get(0)?,
        snapshot_bytes: count(1)?,
        updated_at: row.try_get::<Option<i64>, _>(2)?.map(time),
        waiting_rows: count(3)?,
        history_rows: count(4)?,
        quarantined_rows: count(5)?,
    })
}

fn logged(row: &SqliteRow) -> Result<LoggedRow, sqlx::Error> {
    Ok(LoggedRow {
        id: row.try_get(0)?,
        update: row.try_get::<Vec<u8>, _>(1)?.into(),
        user: row.try_get(2)?,
        created_at: row.try_get::<Option<i64>, _>(3)?.map(time),
        folded: row.try_get(4)?,
    })
}

impl Inspect for SqliteStore {
    fn summaries<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentSummary>, StoreError>> {
        Box::pin(async move {
            let sql = summaries("?1 is null or d.id > ?1 order by d.id limit ?2");
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(after)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&self.inner.readers)
                .await;
            let summaries = rows.and_then(|rows| rows.iter().map(summary).collect());
            summaries.map_err(|error| self.failed(error))
        })
    }

    fn summary<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<DocumentSummary>, StoreError>> {
        Box::pin(async move {
            let row = sqlx::query(AssertSqlSafe(summaries("d.id = ?")))
                .bind(document.as_str())
                .fetch_optional(&self.inner.readers)
                .await;
            let summary = row.and_then(|row| row.as_ref().map(summary).transpose());
            summary.map_err(|error| self.failed(error))
        })
    }

    fn history<'a>(
        &'a self,
        document: &'a DocumentName,
        after: LogId,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LoggedRow>, StoreError>> {
        Box::pin(async move {
            let sql = format!(
                "select l.id, l.update_data, l.user_id, {},
                        exists (select 1 from fidibus_folded where log_id = l.id)
                 from yjs_update_log l where l.document_id = ? and l.id > ? order by l.id limit ?",
                microseconds("l.created_at")
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(document.as_str())
                .bind(after)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&self.inner.readers)
                .await;
            let logged = rows.and_then(|rows| rows.iter().map(logged).collect());
            logged.map_err(|error| self.failed(error))
        })
    }

    fn database(&self) -> BoxFuture<'_, Result<DatabaseState, StoreError>> {
        Box::pin(async move {
            let version: String = sqlx::query_scalar("select sqlite_version()")
                .fetch_one(&self.inner.readers)
                .await
                .map_err(|error| self.failed(error))?;
            let damage: Vec<String> = sqlx::query_scalar("pragma quick_check(1)")
                .fetch_all(&self.inner.readers)
                .await
                .map_err(|error| self.failed(error))?;
            let damaged = damage.iter().filter(|line| *line != "ok");
            let problems = damaged.map(|line| {
                format!("the file is damaged ({line}); remedy: keep it, restore a backup, and import what is newer from it")
            });
            let version = format!("SQLite {version}");
            Ok(DatabaseState { version, time: SystemTime::now(), problems: problems.collect() })
        })
    }
}
