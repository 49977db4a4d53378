//! `fidibus import`: documents from files, from Hocuspocus, from any table, from another Fidibus.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fidibus_core::id::DocumentName;
use fidibus_core::store::DocumentStore;
use futures_util::StreamExt;
use futures_util::stream;

use super::archive::{Absent, Archive};
use super::source::{self, Entry, Source, Table};
use super::{CommandError, output};
use crate::config::{Layers, StorageConfig, StoreChoice};
use crate::logging::chain;

/// Documents that are stored at the same time.
const PARALLEL_MAX: usize = 8;

/// The arguments of `import`.
#[derive(Args, Debug)]
#[command(
    after_help = "Imported content is merged into what is stored, as if a client had sent it: doing it twice \
    changes nothing, and nothing is overwritten. Documents that a server has open get it when they are loaded \
    the next time.\n\n\
    Examples:\n  \
    fidibus import ./backup                                  a directory that `fidibus export` wrote\n  \
    fidibus import plan.yjs --name team/plan                 one file\n  \
    fidibus import --from sqlite:hocuspocus.sqlite           Hocuspocus' SQLite extension\n  \
    fidibus import --from sqlite:./fidibus-data/fidibus.sqlite\n                                                           \
    from SQLite into the database of DATABASE_URL\n  \
    fidibus import --from postgres://… --table app.docs --name-column slug --data-column state\n\n\
    A document that cannot be read is named on stderr and left out, and the command ends with 1."
)]
pub struct ImportArgs {
    /// Files with one Yjs update v1 each, or directories of them
    #[arg(value_name = "PATH", required_unless_present = "from", conflicts_with = "from")]
    paths: Vec<PathBuf>,
    /// The name of the document, where the file's own does not tell it
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    name: Option<String>,
    /// Read from this database instead: its Fidibus tables, else the table documents that Hocuspocus makes
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Read from this table of it, a row for each document
    #[arg(long, value_name = "TABLE", requires = "from")]
    table: Option<String>,
    /// The column with the name
    #[arg(long, value_name = "COLUMN", default_value = "name", requires = "table")]
    name_column: String,
    /// The column with the Yjs update v1
    #[arg(long, value_name = "COLUMN", default_value = "data", requires = "table")]
    data_column: String,
    /// Read and check everything, store nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: ImportArgs, mut layers: Layers) -> Result<ExitCode, CommandError> {
    let storage = StorageConfig::read(&mut layers)?;
    let from = args.from.as_deref().map(|url| {
        StoreChoice::parse(url).map_err(|problem| CommandError::Usage(format!("--from {problem}")))
    });
    let source = match from.transpose()? {
        Some(from) if from == storage.store && args.table.is_none() => {
            return Err(CommandError::Usage("--from is the database that is written to".into()));
        }
        Some(from) => {
            let table = args.table.map(|table| Table {
                table,
                name_column: args.name_column,
                data_column: args.data_column,
            });
            source::database(&from, &storage, table).await?
        }
        None => source::files(&args.paths, args.name.as_deref())?,
    };
    let archive = Archive::open_choice(&storage.store, &storage, Absent::Create).await?;
    let report = import(&*archive.store, source, args.dry_run).await;
    archive.close().await;
    let Report { documents, bytes, failed } = report?;
    let verb = if args.dry_run { "would be imported" } else { "imported" };
    output::line(format!("{documents} documents, {bytes} bytes {verb}"))?;
    if failed > 0 {
        output::line(format!("{failed} documents could not be imported, or not in whole"))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Report {
    documents: u64,
    bytes: u64,
    failed: u64,
}

async fn import(store: &dyn DocumentStore, source: Source, dry_run: bool) -> Result<Report, CommandError> {
    let bar = output::progress(source.total);
    for skipped in &source.skipped {
        output::complain(&bar, &format!("skipped: {skipped}"));
    }
    let entries = stream::unfold(source.entries, async |mut entries| {
        let entry = entries.recv().await?;
        Some((entry, entries))
    });
    let imports = entries
        .map(|entry| async move {
            let Entry { name, update } = entry?;
            Ok::<_, CommandError>((put(store, &name, update, dry_run).await, name))
        })
        .buffer_unordered(PARALLEL_MAX);
    let mut imports = std::pin::pin!(imports);
    let mut report = Report::default();
    while let Some(outcome) = imports.next().await {
        let (outcome, name) = outcome?;
        match outcome {
            Ok(bytes) => {
                report.documents += 1;
                report.bytes += bytes;
            }
            // The database is away or full: the next documents would fare no better.
            Err(CommandError::Store(error)) if error.retryable => return Err(error.into()),
            Err(error) => {
                report.failed += 1;
                output::complain(&bar, &format!("{}: {}", output::shown(&name), chain(&error)));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Stores one document; how large it was.
async fn put(
    store: &dyn DocumentStore,
    name: &str,
    update: Result<bytes::Bytes, CommandError>,
    dry_run: bool,
) -> Result<u64, CommandError> {
    let update = update?;
    let document = DocumentName::parse(name)
        .map_err(|error| CommandError::Content(format!("cannot be a document's name: {error}")))?;
    let bytes = update.len() as u64;
    if dry_run {
        fidibus_core::log::scan_update(&update)
            .map_err(|error| CommandError::Content(format!("not a Yjs update v1: {error}")))?;
    } else {
        store.store(&document, update, &[]).await.map_err(|error| match error.retryable {
            true => CommandError::Store(error),
            false => CommandError::Content(error.source.to_string()),
        })?;
    }
    Ok(bytes)
}
