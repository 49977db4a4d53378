//! `fidibus documents`: what is stored, one document from close up, and its end.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use fidibus_core::id::DocumentName;
use fidibus_core::room::{MaterializeError, RootKind, json, json_of_all, text};
use fidibus_core::store::{DocumentSummary, StoredDocument};
use serde_json::json;

use super::archive::{Absent, Archive, PAGE};
use super::large_stack::on_large_stack;
use super::{CommandError, output};
use crate::clock::iso8601;
use crate::config::Layers;

/// The arguments of `documents`.
#[derive(Args, Debug)]
pub struct DocumentsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all documents: bytes of the snapshot, rows of the log, when the snapshot was written, the name
    List(ListArgs),
    /// Show one document, with its content as JSON
    Show(ShowArgs),
    /// Delete documents with their logs, for good
    #[command(
        after_help = "A server that has the document open keeps it, and stores it again with the next edit. \
        Close it there first: POST /admin/documents/NAME/disconnect on the health port, or stop the server."
    )]
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only names that begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Its name
    name: String,
    /// Print only this root type, as text
    #[arg(long, value_name = "ROOT", conflicts_with = "json")]
    text: Option<String>,
    /// Print only the content, as JSON; of this root type, where one is named
    #[arg(long, value_name = "ROOT", num_args = 0..=1)]
    json: Option<Option<String>>,
    /// What the root type is read as; the document itself does not tell
    #[arg(long, value_name = "TYPE", default_value = "auto", requires = "json")]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Auto,
    Text,
    Map,
    Array,
    Xml,
}

impl From<Kind> for RootKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Auto => Self::Auto,
            Kind::Text => Self::Text,
            Kind::Map => Self::Map,
            Kind::Array => Self::Array,
            Kind::Xml => Self::Xml,
        }
    }
}

#[derive(Args, Debug)]
struct DeleteArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: DocumentsArgs, layers: Layers) -> Result<ExitCode, CommandError> {
    let archive = Archive::open(layers, Absent::Refuse).await?;
    let code = match args.action {
        Action::List(args) => list(&archive, &args).await,
        Action::Show(args) => show(&archive, args).await,
        Action::Delete(args) => delete(&archive, &args).await,
    };
    archive.close().await;
    code
}

async fn list(archive: &Archive, args: &ListArgs) -> Result<ExitCode, CommandError> {
    let mut after: Option<String> = None;
    loop {
        let page = archive.store.summaries(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(ExitCode::SUCCESS) };
        after = Some(last.name.clone());
        for summary in page.iter().filter(|summary| summary.name.starts_with(&args.prefix)) {
            output::line(if args.json { as_json(summary) } else { as_columns(summary) })?;
        }
    }
}

fn as_columns(summary: &DocumentSummary) -> String {
    format!(
        "{:>12} {:>8} {:<24} {}",
        summary.snapshot_bytes,
        summary.waiting_rows + summary.history_rows,
        updated(summary.updated_at),
        output::shown(&summary.name)
    )
}

fn as_json(summary: &DocumentSummary) -> String {
    json!({
        "name": summary.name,
        "snapshotBytes": summary.snapshot_bytes,
        "waitingRows": summary.waiting_rows,
        "historyRows": summary.history_rows,
        "quarantinedRows": summary.quarantined_rows,
        "updatedAt": summary.updated_at.map(iso8601),
    })
    .to_string()
}

fn updated(time: Option<SystemTime>) -> String {
    time.map_or_else(|| "-".to_owned(), iso8601)
}

fn parse(name: &str) -> Result<DocumentName, CommandError> {
    DocumentName::parse(name)
        .map_err(|error| CommandError::Usage(format!("\"{}\": {error}", output::shown(name))))
}

fn unknown(archive: &Archive, document: &DocumentName) -> CommandError {
    let name = output::shown(document.as_str());
    CommandError::Usage(format!("{} has no document \"{name}\"", archive.place))
}

async fn show(archive: &Archive, args: ShowArgs) -> Result<ExitCode, CommandError> {
    let document = parse(&args.name)?;
    let summary = archive.store.summary(&document).await?;
    let summary = summary.ok_or_else(|| unknown(archive, &document))?;
    let stored = archive.store.load(&document).await?.unwrap_or_default();
    let update = stored.merged()?;
    let only_content = args.text.is_some() || args.json.is_some();
    if !only_content {
        describe(&summary, &stored, &update)?;
    }
    output::line(content(update, args)?)?;
    let complete = stored.quarantined.is_empty();
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(summary: &DocumentSummary, stored: &StoredDocument, update: &Bytes) -> Result<(), CommandError> {
    output::line(format!("name      {}", output::shown(&summary.name)))?;
    output::line(format!(
        "snapshot  {} bytes, written {}",
        summary.snapshot_bytes,
        updated(summary.updated_at)
    ))?;
    output::line(format!(
        "log       {} rows beyond the snapshot, {} as history",
        summary.waiting_rows, summary.history_rows
    ))?;
    output::line(format!("content   {} bytes as one update", update.len()))?;
    for row in &stored.quarantined {
        output::line(format!("row {} cannot be read and is left out: {}", row.id, row.reason))?;
    }
    Ok(())
}

fn content(update: Bytes, args: ShowArgs) -> Result<String, CommandError> {
    let ShowArgs { text: text_root, json: json_root, kind, .. } = args;
    let read = move || -> Result<String, MaterializeError> {
        match (text_root, json_root) {
            (Some(root), _) => text(&update, &root),
            (None, Some(Some(root))) => json(&update, &root, kind.into()),
            (None, _) => json_of_all(&update),
        }
    };
    on_large_stack(read)?.map_err(|error| CommandError::Content(error.to_string()))
}

async fn delete(archive: &Archive, args: &DeleteArgs) -> Result<ExitCode, CommandError> {
    let documents: Vec<_> = args.names.iter().map(|name| parse(name)).collect::<Result<_, _>>()?;
    for document in &documents {
        if archive.store.summary(document).await?.is_none() {
            return Err(unknown(archive, document));
        }
    }
    if !args.yes && !confirmed(&archive.place, documents.len())? {
        output::line("nothing was deleted")?;
        return Ok(ExitCode::FAILURE);
    }
    for document in &documents {
        archive.store.delete(document).await?;
        output::line(format!("deleted {}", output::shown(document.as_str())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn confirmed(place: &str, count: usize) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::Usage("deletes for good; say --yes where nobody can be asked".into()));
    }
    eprint!("Delete {count} documents of {place} for good? [y/N] ");
    // A prompt that is not shown is answered with no.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| CommandError::file("stdin", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
