//! What the tables of this database look like. They may be older than we are, and another program's:
//! columns and types are read, never assumed, and never altered.

use sqlx::{PgConnection, Row};

/// Why a database cannot be used as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CatalogueError {
    #[error("table {0} does not exist here; create it with: fidibus migrate")]
    NoTable(&'static str),
    #[error("table {table} has no {what}, and Fidibus does not alter tables")]
    Missing { table: &'static str, what: &'static str },
    #[error(
        "column {table}.{column} is not null and has no default, and Fidibus does not know what it is for"
    )]
    UnknownColumn { table: &'static str, column: String },
}

/// The tables of a database, as far as they matter to statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Catalogue {
    /// Schema and name, quoted.
    pub(super) document: String,
    pub(super) updated_at: Time,
    pub(super) log: String,
    pub(super) log_id: LogKey,
    /// The column of the update, quoted by us (it is one of two).
    pub(super) update: &'static str,
    pub(super) user: UserColumn,
    pub(super) created_at: Option<Time>,
}

/// The type of a column of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    WithZone,
    /// Holds UTC.
    WithoutZone,
}

/// The type of the ids of log rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogKey {
    /// Integers that the table gives out.
    Number,
    /// Anything else, with the name of its type: we make the ids, and number them in a table of our own.
    Text(String),
}

/// What a row of the log can say about its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserColumn {
    /// Nothing.
    None,
    /// Any text.
    Free,
    /// The user, where this expression over `i.user_id` finds them.
    References(String),
}

struct Column {
    name: String,
    kind: String,
    required: bool,
    has_default: bool,
    unique: bool,
}

struct Table {
    name: &'static str,
    quoted: String,
    columns: Vec<Column>,
}

impl Catalogue {
    /// Judges the tables that are there, before the others are made.
    pub(super) async fn check_existing(
        connection: &mut PgConnection,
    ) -> Result<Result<(), CatalogueError>, sqlx::Error> {
        let document = Table::read(connection, "yjs_document").await?;
        let log = Table::read(connection, "yjs_update_log").await?;
        let fits = document.as_ref().map_or(Ok(()), |document| judge_document(document).map(drop));
        Ok(fits.and_then(|()| log.as_ref().map_or(Ok(()), |log| judge_log(log).map(drop))))
    }

    pub(super) async fn read(
        connection: &mut PgConnection,
    ) -> Result<Result<Self, CatalogueError>, sqlx::Error> {
        let document = Table::read(connection, "yjs_document").await?;
        let log = Table::read(connection, "yjs_update_log").await?;
        let references = match &log {
            Some(log) => user_reference(connection, &log.quoted).await?,
            None => None,
        };
        let ours: bool = sqlx::query_scalar("select to_regclass('collab.migration') is not null")
            .fetch_one(connection)
            .await?;
        Ok(Self::judge(document, log, references, ours))
    }

    fn judge(
        document: Option<Table>,
        log: Option<Table>,
        references: Option<String>,
        ours: bool,
    ) -> Result<Self, CatalogueError> {
        let document = document.ok_or(CatalogueError::NoTable("yjs_document"))?;
        let updated_at = judge_document(&document)?;
        let log = log.ok_or(CatalogueError::NoTable("yjs_update_log"))?;
        let (log_id, update) = judge_log(&log)?;
        let user = match references {
            Some(lookup) => UserColumn::References(lookup),
            None if log.text("user_id").is_some() => UserColumn::Free,
            None => UserColumn::None,
        };
        if !ours {
            return Err(CatalogueError::NoTable("collab.migration"));
        }
        let created_at = log.time("created_at");
        Ok(Self { document: document.quoted, updated_at, log: log.quoted, log_id, update, user, created_at })
    }
}

fn judge_document(document: &Table) -> Result<Time, CatalogueError> {
    let id = document.text("id").filter(|column| column.unique);
    id.ok_or(document.missing("text column id with a unique index"))?;
    document.column("data", "bytea").ok_or(document.missing("bytea column data"))?;
    document.knows_all(&["id", "data", "updated_at"])?;
    document.time("updated_at").ok_or(document.missing("timestamp column updated_at"))
}

fn judge_log(log: &Table) -> Result<(LogKey, &'static str), CatalogueError> {
    let id = log.columns.iter().find(|column| column.name == "id" && column.unique);
    let id = id.ok_or(log.missing("column id with a unique index"))?;
    let log_id = match &*id.kind {
        "bigint" | "integer" if id.has_default => LogKey::Number,
        "bigint" | "integer" => return Err(log.missing("default for its integer column id")),
        other => LogKey::Text(other.to_owned()),
    };
    log.text("document_id").ok_or(log.missing("text column document_id"))?;
    let update = ["update_data", "update"].into_iter().find(|name| log.column(name, "bytea").is_some());
    let update = update.ok_or(log.missing("bytea column update_data or update"))?;
    log.knows_all(&["id", "document_id", update, "user_id", "created_at"])?;
    Ok((log_id, update))
}

impl Table {
    async fn read(connection: &mut PgConnection, name: &'static str) -> Result<Option<Self>, sqlx::Error> {
        let rows = sqlx::query(
            "select format('%I.%I', n.nspname, c.relname), a.attname::text,
                    format_type(a.atttypid, null), a.attnotnull,
                    a.atthasdef or a.attidentity <> '' or a.attgenerated <> '',
                    exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and i.indnatts = 1
                            and i.indkey[0] = a.attnum and i.indpred is null)
             from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
             where c.oid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum",
        )
        .bind(name)
        .fetch_all(connection)
        .await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let quoted = first.try_get(0)?;
        let columns = rows.iter().map(Column::read).collect::<Result<_, _>>()?;
        Ok(Some(Self { name, quoted, columns }))
    }

    fn column(&self, name: &str, kind: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name && column.kind == kind)
    }

    fn text(&self, name: &str) -> Option<&Column> {
        self.column(name, "text").or_else(|| self.column(name, "character varying"))
    }

    fn time(&self, name: &str) -> Option<Time> {
        let with_zone = self.column(name, "timestamp with time zone").map(|_| Time::WithZone);
        with_zone.or_else(|| self.column(name, "timestamp without time zone").map(|_| Time::WithoutZone))
    }

    fn knows_all(&self, known: &[&str]) -> Result<(), CatalogueError> {
        let unknown = self
            .columns
            .iter()
            .find(|column| column.required && !column.has_default && !known.contains(&&*column.name));
        unknown.map_or(Ok(()), |column| {
            Err(CatalogueError::UnknownColumn { table: self.name, column: column.name.clone() })
        })
    }

    fn missing(&self, what: &'static str) -> CatalogueError {
        CatalogueError::Missing { table: self.name, what }
    }
}

impl Column {
    fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get(1)?,
            kind: row.try_get(2)?,
            required: row.try_get(3)?,
            has_default: row.try_get(4)?,
            unique: row.try_get(5)?,
        })
    }
}

/// The lookup behind a foreign key on the log's user_id. A user whom that table does not know (yet, or
/// any more) becomes null instead of failing the whole commit.
async fn user_reference(connection: &mut PgConnection, log: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('(select u.%I from %I.%I u where u.%1$I%4$s = i.user_id)', a.attname, n.nspname, c.relname,
                       case when a.atttypid in ('text'::regtype, 'varchar'::regtype) then '' else '::text' end)
         from pg_constraint k
         join pg_attribute f on f.attrelid = k.conrelid and f.attnum = k.conkey[1] and f.attname = 'user_id'
         join pg_class c on c.oid = k.confrelid join pg_namespace n on n.oid = c.relnamespace
         join pg_attribute a on a.attrelid = k.confrelid and a.attnum = k.confkey[1]
         where k.conrelid = $1::regclass and k.contype = 'f' and cardinality(k.conkey) = 1",
    )
    .bind(log)
    .fetch_optional(connection)
    .await
}
