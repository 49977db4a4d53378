//! Where imported documents come from: files, a table of another program, another Fidibus. A reader runs
//! ahead of the import by a few documents and no more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fidibus_core::store::DocumentStore;
use futures_util::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Database, Decode, Executor, IntoArguments, Type};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::archive::{Absent, Archive, PAGE, must_exist};
use super::{CommandError, file_name};
use crate::config::{StorageConfig, StoreChoice};

/// Documents that are read ahead.
const AHEAD_MAX: usize = 16;
/// The largest file that is read: no document is as large.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A document to be imported.
pub(super) struct Entry {
    /// Its name.
    pub(super) name: String,
    /// Its content, or why it cannot be read.
    pub(super) update: Result<Bytes, CommandError>,
}

/// What there is to import.
pub(super) struct Source {
    /// How many documents, where that is known.
    pub(super) total: Option<u64>,
    /// They; a source that fails ends with an error.
    pub(super) entries: Receiver<Result<Entry, CommandError>>,
    /// What was passed over, and why.
    pub(super) skipped: Vec<String>,
}

/// A table of another program.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) table: String,
    pub(super) name_column: String,
    pub(super) data_column: String,
}

impl Table {
    /// Identifiers are quoted: what they name is found or not, and does nothing else. A dot parts schema and
    /// table.
    fn table_clause(&self) -> String {
        self.table.split('.').map(quoted).collect::<Vec<_>>().join(".")
    }

    fn rows(&self) -> String {
        let (name, data) = (quoted(&self.name_column), quoted(&self.data_column));
        // By a qualified name: SQLite takes a plain one that it does not know for a text.
        format!("select cast(t.{name} as text), t.{data} from {} t", self.table_clause())
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Files, and directories with files in them.
pub(super) fn files(paths: &[PathBuf], name: Option<&str>) -> Result<Source, CommandError> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        let metadata = path.metadata().map_err(|error| CommandError::file(path, error))?;
        match (metadata.is_dir(), name) {
            (true, Some(_)) => {
                return Err(CommandError::Usage("--name goes with one file, not with a directory".into()));
            }
            (true, None) => walk(path, path, &mut found, &mut skipped)?,
            (false, Some(name)) => found.push((name.to_owned(), path.clone())),
            (false, None) => {
                let file = path.file_name().map(Path::new).unwrap_or(path);
                let name = file_name::name(file).ok_or_else(|| {
                    CommandError::Usage(format!("{} does not name a document; say --name", path.display()))
                })?;
                found.push((name, path.clone()));
            }
        }
    }
    if name.is_some() && found.len() != 1 {
        return Err(CommandError::Usage("--name goes with one file".into()));
    }
    let (sender, entries) = channel(AHEAD_MAX);
    let total = Some(found.len() as u64);
    tokio::task::spawn_blocking(move || {
        for (name, path) in found {
            let update = read(&path).map_err(|error| CommandError::file(path, error));
            if sender.blocking_send(Ok(Entry { name, update })).is_err() {
                return;
            }
        }
    });
    Ok(Source { total, entries, skipped })
}

fn read(path: &Path) -> io::Result<Bytes> {
    if path.metadata()?.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 GiB"));
    }
    fs::read(path).map(Bytes::from)
}

fn walk(
    root: &Path,
    directory: &Path,
    found: &mut Vec<(String, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<(), CommandError> {
    let failed = |error| CommandError::file(directory, error);
    let mut paths: Vec<_> = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() && file_name::continues(&path) {
            walk(root, &path, found, skipped)?;
            continue;
        }
        let name = path.strip_prefix(root).ok().and_then(file_name::name);
        match name {
            Some(name) if path.is_file() && [file_name::EXTENSION, "bin"].contains(&extension) => {
                found.push((name, path));
            }
            _ => skipped.push(format!("{} is no exported document (*.yjs, *.bin)", path.display())),
        }
    }
    Ok(())
}

/// Another database: the table named; without one a Fidibus store, else the table that Hocuspocus makes.
pub(super) async fn database(
    choice: &StoreChoice,
    storage: &StorageConfig,
    table: Option<Table>,
) -> Result<Source, CommandError> {
    let place = choice.to_string();
    let failed = |source| CommandError::Source { place: place.clone(), source };
    let hocuspocus = || Table {
        table: "documents".to_owned(),
        name_column: "name".to_owned(),
        data_column: "data".to_owned(),
    };
    match choice {
        StoreChoice::Memory => Err(CommandError::Usage("--from memory: holds nothing".into())),
        StoreChoice::Sqlite(path) => {
            must_exist(path)?;
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut connection = options.connect().await.map_err(failed)?;
            let ours: bool = sqlx::query_scalar(
                "select exists (select 1 from sqlite_master where type = 'table' and name = 'yjs_document')",
            )
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
            match table {
                None if ours => store(choice, storage).await,
                table => rows(connection, place, table.unwrap_or_else(hocuspocus)).await,
            }
        }
        StoreChoice::Postgres(url) => {
            let options: PgConnectOptions = url.reveal().parse().map_err(failed)?;
            let mut connection = options.connect().await.map_err(failed)?;
            let ours: bool = sqlx::query_scalar("select to_regclass('yjs_document') is not null")
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
            match table {
                None if ours => store(choice, storage).await,
                table => rows(connection, place, table.unwrap_or_else(hocuspocus)).await,
            }
        }
    }
}

/// The rows of a table, each a document.
async fn rows<C>(mut connection: C, place: String, table: Table) -> Result<Source, CommandError>
where
    C: sqlx::Connection + 'static,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    <C::Database as Database>::Arguments: IntoArguments<C::Database>,
    i64: for<'r> Decode<'r, C::Database> + Type<C::Database>,
    Option<String>: for<'r> Decode<'r, C::Database> + Type<C::Database>,
    Option<Vec<u8>>: for<'r> Decode<'r, C::Database> + Type<C::Database>,
    usize: sqlx::ColumnIndex<<C::Database as Database>::Row>,
{
    let failed = |source| CommandError::Source { place: place.clone(), source };
    let count = format!("select count(*) from {}", table.table_clause());
    let total: i64 =
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut connection).await.map_err(failed)?;
    let (sender, entries) = channel(AHEAD_MAX);
    tokio::spawn(async move {
        let sql = table.rows();
        if let Err(source) = send_rows(&mut connection, sql, &sender).await {
            // Nobody listens any more: then nobody misses it.
            let _ = sender.send(Err(CommandError::Source { place, source })).await;
        }
    });
    Ok(Source { total: Some(total.unsigned_abs()), entries, skipped: Vec::new() })
}

async fn send_rows<C>(
    connection: &mut C,
    sql: String,
    sender: &Sender<Result<Entry, CommandError>>,
) -> Result<(), sqlx::Error>
where
    C: sqlx::Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    <C::Database as Database>::Arguments: IntoArguments<C::Database>,
    Option<String>: for<'r> Decode<'r, C::Database> + Type<C::Database>,
    Option<Vec<u8>>: for<'r> Decode<'r, C::Database> + Type<C::Database>,
    usize: sqlx::ColumnIndex<<C::Database as Database>::Row>,
{
    use sqlx::Row;
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let name: Option<String> = row.try_get(0)?;
        let data: Option<Vec<u8>> = row.try_get(1)?;
        let update = data.filter(|data| !data.is_empty()).map(Bytes::from);
        let update = update.ok_or_else(|| CommandError::Content("holds no data".into()));
        if sender.send(Ok(Entry { name: name.unwrap_or_default(), update })).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Another Fidibus store, with what its log holds beyond the snapshots.
async fn store(choice: &StoreChoice, storage: &StorageConfig) -> Result<Source, CommandError> {
    let archive = Archive::open_choice(choice, storage, Absent::Refuse).await?;
    let (sender, entries) = channel(AHEAD_MAX);
    tokio::spawn(async move {
        if let Err(error) = send_documents(&*archive.store, &sender).await {
            // As above.
            let _ = sender.send(Err(error)).await;
        }
        archive.close().await;
    });
    Ok(Source { total: None, entries, skipped: Vec::new() })
}

async fn send_documents(
    store: &dyn DocumentStore,
    sender: &Sender<Result<Entry, CommandError>>,
) -> Result<(), CommandError> {
    let mut after = None;
    loop {
        let names = store.list(after.as_ref(), PAGE).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = Some(last.clone());
        for document in names {
            let update = match store.load(&document).await {
                Ok(None) => continue,
                Ok(Some(stored)) if stored.quarantined.is_empty() => stored.merged(),
                Ok(Some(stored)) => {
                    let name = document.as_str().to_owned();
                    let problem = format!("{} rows of its log cannot be read", stored.quarantined.len());
                    let update = Err(CommandError::Content(problem));
                    if sender.send(Ok(Entry { name, update })).await.is_err() {
                        return Ok(());
                    }
                    stored.merged()
                }
                Err(error) => Err(error),
            };
            let update = update.map_err(CommandError::from);
            if sender.send(Ok(Entry { name: document.as_str().to_owned(), update })).await.is_err() {
                return Ok(());
            }
        }
    }
}
