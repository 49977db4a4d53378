//! What an operator asks: statements that serving does not need, spelled out anew for each call.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::PostgresStore;
use super::catalogue::{Catalogue, LogKey, UserColumn};
use super::failure::Failure;
use super::pool::Lease;
use super::statements::microseconds;
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;
use crate::store::LogId;
use crate::store::inspect::{DatabaseState, DocumentSummary, Inspect, LoggedRow, time};

/// The oldest release that is tested.
const OLDEST: i32 = 140_000;

/// The log with a number for each row; those that have none yet have null.
struct Log {
    id: &'static str,
    from: String,
    folded: String,
}

impl Log {
    fn new(tables: &Catalogue) -> Self {
        let log = &tables.log;
        let (id, from) = match tables.log_id {
            LogKey::Number => ("l.id::bigint", format!("{log} l")),
            LogKey::Text(_) => {
                ("k.log_id", format!("{log} l left join collab.log_key k on k.row_id = l.id::text"))
            }
        };
        let created = tables.created_at.map_or_else(|| "0".into(), |_| microseconds("l.created_at"));
        let folded = format!(
            "exists (select from collab.folded f where f.log_id = {id} and f.created_at = {created})"
        );
        Self { id, from, folded }
    }
}

fn summaries(tables: &Catalogue, which: &str) -> String {
    let Log { id, from, folded } = Log::new(tables);
    let rows = |condition: String| {
        format!("(select count(*) from {from} where l.document_id = d.id and {condition})")
    };
    format!(
        "select d.id::text, octet_length(d.data)::bigint, {}, {}, {}, {} from {} d where {which}",
        microseconds("d.updated_at"),
        rows(format!("not {folded}")),
        rows(folded.clone()),
        rows(format!("exists (select from collab.quarantine q where q.log_id = {id})")),
        tables.document,
    )
}

fn history(tables: &Catalogue) -> String {
    let Log { id, from, folded } = Log::new(tables);
    let user = match tables.user {
        UserColumn::None => "null::text",
        UserColumn::Free | UserColumn::References(_) => "l.user_id::text",
    };
    let created = tables.created_at.map_or_else(|| "null::bigint".into(), |_| microseconds("l.created_at"));
    format!(
        "select {id}, l.{}, {user}, {created}, {folded} from {from}
         where l.document_id = $1 and {id} > $2 order by 1 limit $3",
        tables.update
    )
}

fn summary(row: &PgRow) -> Result<DocumentSummary, sqlx::Error> {
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

fn logged(row: &PgRow) -> Result<LoggedRow, sqlx::Error> {
    Ok(LoggedRow {
        id: row.try_get(0)?,
        update: row.try_get::<Vec<u8>, _>(1)?.into(),
        user: row.try_get(2)?,
        created_at: row.try_get::<Option<i64>, _>(3)?.map(time),
        folded: row.try_get(4)?,
    })
}

async fn state(connection: &mut PgConnection) -> Result<DatabaseState, Failure> {
    let row = sqlx::query(
        "select current_setting('server_version'), current_setting('server_version_num')::integer,
                (extract(epoch from clock_timestamp()) * 1000000)::bigint, pg_is_in_recovery(),
                current_setting('fsync') = 'off', current_setting('default_transaction_read_only') = 'on'",
    )
    .fetch_one(connection)
    .await?;
    let version: String = row.try_get(0)?;
    let mut problems = Vec::new();
    if row.try_get::<i32, _>(1)? < OLDEST {
        problems.push(format!(
            "PostgreSQL {version} is older than 14, which nobody has tested; remedy: upgrade it"
        ));
    }
    if row.try_get(3)? {
        problems.push(
            "the database is a standby and takes no writes; remedy: name the primary in DATABASE_URL".into(),
        );
    }
    if row.try_get(4)? {
        problems.push(
            "fsync is off: a crash of the machine loses what was acknowledged; remedy: fsync = on in postgresql.conf"
                .into(),
        );
    }
    if row.try_get(5)? {
        problems.push(
            "default_transaction_read_only is on: nothing can be stored; remedy: alter database … set default_transaction_read_only = off"
                .into(),
        );
    }
    let version = format!("PostgreSQL {version}");
    Ok(DatabaseState { version, time: time(row.try_get(2)?), problems })
}

impl PostgresStore {
    async fn catalogue(&self) -> Result<(Lease, Catalogue), Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let catalogue = Catalogue::read(&mut lease).await??;
        Ok((lease, catalogue))
    }
}

impl Inspect for PostgresStore {
    fn summaries<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentSummary>, StoreError>> {
        Box::pin(self.call(async move {
            let (mut lease, tables) = self.catalogue().await?;
            let sql = summaries(&tables, "d.id > $1 order by d.id limit $2");
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(after.unwrap_or_default())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut **lease)
                .await?;
            lease.finish();
            Ok(rows.iter().map(summary).collect::<Result<_, _>>()?)
        }))
    }

    fn summary<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<DocumentSummary>, StoreError>> {
        Box::pin(self.call(async move {
            let (mut lease, tables) = self.catalogue().await?;
            let sql = summaries(&tables, "d.id = $1");
            let row =
                sqlx::query(AssertSqlSafe(sql)).bind(document.as_str()).fetch_optional(&mut **lease).await?;
            lease.finish();
            Ok(row.as_ref().map(summary).transpose()?)
        }))
    }

    fn history<'a>(
        &'a self,
        document: &'a DocumentName,
        after: LogId,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LoggedRow>, StoreError>> {
        Box::pin(self.call(async move {
            let (mut lease, tables) = self.catalogue().await?;
            let sql = self.statements(&mut lease).await?;
            if let Some(number_rows) = &sql.number_rows {
                sqlx::query(super::text(number_rows)).bind(document.as_str()).execute(&mut **lease).await?;
            }
            let rows = sqlx::query(AssertSqlSafe(history(&tables)))
                .bind(document.as_str())
                .bind(after)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut **lease)
                .await?;
            lease.finish();
            Ok(rows.iter().map(logged).collect::<Result<_, _>>()?)
        }))
    }

    fn database(&self) -> BoxFuture<'_, Result<DatabaseState, StoreError>> {
        Box::pin(self.call(async move {
            let mut lease = self.inner.pool.lease().await?;
            let state = state(&mut lease).await?;
            lease.finish();
            Ok(state)
        }))
    }
}
