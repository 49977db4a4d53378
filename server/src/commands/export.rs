//! `fidibus export`: documents into files, one Yjs update v1 each, which any Yjs program reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use fidibus_core::id::DocumentName;
use fidibus_core::store::{DocumentStore, StoredDocument};

use super::archive::{Absent, Archive, PAGE};
use super::{CommandError, file_name, output};
use crate::config::Layers;
use crate::logging::chain;

/// The arguments of `export`.
#[derive(Args, Debug)]
#[command(
    after_help = "Without --document all documents are written into a directory, each into a file of its own. \
    Characters of names that file systems do not like are written as %XX; `fidibus import` reads them back. \
    A document that cannot be read is named on stderr and left out, and the command ends with 1."
)]
pub struct ExportArgs {
    /// The directory to write to, which is made; with --document the file, or - for stdout
    #[arg(value_name = "PATH")]
    target: PathBuf,
    /// Export this document only
    #[arg(long, value_name = "NAME")]
    document: Option<String>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
}

pub(super) async fn run(args: ExportArgs, layers: Layers) -> Result<ExitCode, CommandError> {
    let archive = Archive::open(layers, Absent::Refuse).await?;
    let code = match &args.document {
        Some(name) => export_one(&archive, name, &args).await,
        None => export_all(&archive, &args).await,
    };
    archive.close().await;
    code
}

async fn export_one(archive: &Archive, name: &str, args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let document = DocumentName::parse(name)
        .map_err(|error| CommandError::Usage(format!("--document \"{}\": {error}", output::shown(name))))?;
    let Some(stored) = archive.store.load(&document).await? else {
        return Err(CommandError::Usage(format!(
            "{} has no document \"{}\"",
            archive.place,
            output::shown(name)
        )));
    };
    let complete = complain_of_rows(&document, &stored);
    let update = stored.merged()?;
    match args.target.to_str() {
        Some("-") => output::bytes(&update)?,
        _ => write(&args.target, &update, args.overwrite)?,
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says which rows are not in what is exported; whether all are.
fn complain_of_rows(document: &DocumentName, stored: &StoredDocument) -> bool {
    for row in &stored.quarantined {
        let name = output::shown(document.as_str());
        eprintln!("fidibus: {name}: row {} cannot be read and is left out: {}", row.id, row.reason);
    }
    stored.quarantined.is_empty()
}

async fn export_all(archive: &Archive, args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let directory = &args.target;
    make_directory(directory)?;
    let bar = output::progress(None);
    let (mut documents, mut bytes, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut after = None;
    loop {
        let names = archive.store.list(after.as_ref(), PAGE).await?;
        let Some(last) = names.last() else { break };
        after = Some(last.clone());
        for document in &names {
            match merged(&*archive.store, document).await {
                Ok(None) => continue,
                Ok(Some((update, complete))) => {
                    write(&directory.join(file_name::path(document.as_str())), &update, args.overwrite)?;
                    documents += 1;
                    bytes += update.len() as u64;
                    failed += u64::from(!complete);
                }
                Err(error) => {
                    failed += 1;
                    let name = output::shown(document.as_str());
                    output::complain(&bar, &format!("{name} is left out: {}", chain(&error)));
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    output::line(format!("{documents} documents, {bytes} bytes written to {}", directory.display()))?;
    if failed > 0 {
        output::line(format!("{failed} documents could not be read, or not in whole"))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A document as one update, and whether all of it could be read; `None` where it was deleted meanwhile.
async fn merged(
    store: &dyn DocumentStore,
    document: &DocumentName,
) -> Result<Option<(Bytes, bool)>, CommandError> {
    let Some(stored) = store.load(document).await? else { return Ok(None) };
    let complete = complain_of_rows(document, &stored);
    Ok(Some((stored.merged()?, complete)))
}

fn make_directory(path: &Path) -> Result<(), CommandError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| CommandError::file(path, error))
}

/// Writes a file that is there in whole or not at all, readable by its owner only.
fn write(path: &Path, update: &[u8], overwrite: bool) -> Result<(), CommandError> {
    if !overwrite && path.exists() {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "exists already; --overwrite replaces it");
        return Err(CommandError::file(path, error));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .and_then(|file| fill(file, update))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        // What went wrong is what is told; the rest is only in the way.
        let _ = fs::remove_file(&part);
        CommandError::file(path, error)
    })
}

fn fill(mut file: File, update: &[u8]) -> io::Result<()> {
    file.write_all(update)?;
    file.sync_all()
}
