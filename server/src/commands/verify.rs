//! `fidibus verify`: derives every document from the rows of its log and compares that with its snapshot.
//! Where the log was kept from the first edit on, both must be the same; where it was not, no row that
//! was folded may be missing in the snapshot.

use std::process::ExitCode;

use clap::Args;
use fidibus_core::id::DocumentName;
use fidibus_core::log::{LogOptions, StructLog, Verdict};
use fidibus_core::room::json_of_all;
use fidibus_core::store::{Inspect, LogId, LoggedRow};

use super::archive::{Absent, Archive, PAGE};
use super::large_stack::on_large_stack;
use super::{CommandError, output};
use crate::config::Layers;
use crate::logging::chain;

/// Rows that are read at once.
const ROWS: usize = 1000;

/// The arguments of `verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "For each document: its snapshot is what was written (checksum) and can be read; so can every \
    row of its log; no row that counts as folded is missing in the snapshot; and where the log holds the \
    whole history (WS_ENABLE_UPDATE_LOG=on since its first edit), the document derived from it is the \
    same, content compared. Reads only. Ends with 1 where something is wrong. Safe beside a running server: \
    what changes meanwhile is looked at once more."
)]
pub struct VerifyArgs {
    /// Only these documents
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// What became of one document.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Its rows make up the whole document.
    Derived,
    /// All its rows are in it, and it holds more than they do.
    Contained,
    /// There are no rows.
    Alone,
    /// What is wrong.
    Wrong(Vec<String>),
    /// It was deleted meanwhile.
    Gone,
}

#[derive(Default)]
struct Report {
    documents: u64,
    derived: u64,
    contained: u64,
    alone: u64,
    wrong: u64,
}

pub(super) async fn run(args: VerifyArgs, layers: Layers) -> Result<ExitCode, CommandError> {
    let names: Vec<_> = args
        .names
        .iter()
        .map(|name| {
            DocumentName::parse(name)
                .map_err(|error| CommandError::Usage(format!("\"{}\": {error}", output::shown(name))))
        })
        .collect::<Result<_, _>>()?;
    let archive = Archive::open(layers, Absent::Refuse).await?;
    let report = match names.is_empty() {
        true => verify_all(&archive).await,
        false => verify_named(&archive, &names).await,
    };
    archive.close().await;
    let report = report?;
    output::line(format!(
        "{} documents: {} derived from their logs and equal, {} hold their logs and more, {} without rows, {} with something wrong",
        report.documents, report.derived, report.contained, report.alone, report.wrong
    ))?;
    Ok(if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify_named(archive: &Archive, names: &[DocumentName]) -> Result<Report, CommandError> {
    let mut report = Report::default();
    for document in names {
        let outcome = verify(&*archive.store, document).await?;
        if outcome == Outcome::Gone {
            let name = output::shown(document.as_str());
            return Err(CommandError::Usage(format!("{} has no document \"{name}\"", archive.place)));
        }
        report.add(document, outcome)?;
    }
    Ok(report)
}

async fn verify_all(archive: &Archive) -> Result<Report, CommandError> {
    let mut report = Report::default();
    let bar = output::progress(None);
    let mut after = None;
    loop {
        let names = archive.store.list(after.as_ref(), PAGE).await?;
        let Some(last) = names.last() else { break };
        after = Some(last.clone());
        for document in &names {
            let outcome = verify(&*archive.store, document).await?;
            bar.suspend(|| report.add(document, outcome))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

impl Report {
    fn add(&mut self, document: &DocumentName, outcome: Outcome) -> Result<(), CommandError> {
        match outcome {
            Outcome::Gone => return Ok(()),
            Outcome::Derived => self.derived += 1,
            Outcome::Contained => self.contained += 1,
            Outcome::Alone => self.alone += 1,
            Outcome::Wrong(problems) => {
                self.wrong += 1;
                for problem in problems {
                    output::line(format!("{}: {problem}", output::shown(document.as_str())))?;
                }
            }
        }
        self.documents += 1;
        Ok(())
    }
}

/// A server that writes between our two reads makes a row look missing, so what looks wrong is looked at
/// again.
async fn verify(store: &dyn Inspect, document: &DocumentName) -> Result<Outcome, CommandError> {
    match verify_once(store, document).await? {
        Outcome::Wrong(_) => verify_once(store, document).await,
        outcome => Ok(outcome),
    }
}

async fn verify_once(store: &dyn Inspect, document: &DocumentName) -> Result<Outcome, CommandError> {
    let options = LogOptions { gc: false, pending_bytes_max: usize::MAX };
    // The rows first: what is folded meanwhile is then in the snapshot that is read after them.
    let mut derived = StructLog::new(options);
    let mut last = None;
    for_each_row(store, document, LogId::MAX, |row| {
        last = Some(row.id);
        // Those that cannot be read are told of below.
        let _ = derived.apply(&row.update);
    })
    .await?;
    let stored = match store.load(document).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Ok(Outcome::Gone),
        Err(error) if error.retryable => return Err(error.into()),
        Err(error) => return Ok(Outcome::Wrong(vec![chain(&error)])),
    };
    let mut problems: Vec<_> = stored
        .quarantined
        .iter()
        .map(|row| format!("row {} of the log cannot be read: {}", row.id, row.reason))
        .collect();
    let whole = stored.merged()?;
    let document_log = match StructLog::load(options, &whole) {
        Ok(log) => log,
        Err(error) => return Ok(Outcome::Wrong(vec![format!("cannot be read: {error}")])),
    };
    let Some(last) = last else { return Ok(Outcome::with(Outcome::Alone, problems)) };
    for_each_row(store, document, last, |row| {
        if row.folded {
            problems.extend(lack(&document_log, &row));
        }
    })
    .await?;
    let covered = derived.verdict(&whole).is_ok_and(|verdict| verdict == Verdict::Known);
    if !covered || derived.pending().next().is_some() {
        return Ok(Outcome::with(Outcome::Contained, problems));
    }
    problems.extend(difference(&whole, &derived.encode())?);
    Ok(Outcome::with(Outcome::Derived, problems))
}

impl Outcome {
    fn with(good: Self, problems: Vec<String>) -> Self {
        if problems.is_empty() { good } else { Self::Wrong(problems) }
    }
}

async fn for_each_row(
    store: &dyn Inspect,
    document: &DocumentName,
    last: LogId,
    mut work: impl FnMut(LoggedRow),
) -> Result<(), CommandError> {
    let mut after = LogId::MIN;
    loop {
        let rows = store.history(document, after, ROWS).await?;
        let Some(end) = rows.last() else { return Ok(()) };
        after = end.id;
        rows.into_iter().filter(|row| row.id <= last).for_each(&mut work);
    }
}

/// What is wrong with a row that the snapshot is to hold.
fn lack(document: &StructLog, row: &LoggedRow) -> Option<String> {
    match document.verdict(&row.update) {
        Ok(Verdict::Known) => None,
        Ok(_) if document.pending().next().is_some() => None,
        Ok(_) => Some(format!("row {} counts as stored, but the document lacks it", row.id)),
        Err(error) => Some(format!("row {} of the history cannot be read: {error}", row.id)),
    }
}

/// Both know the same edits; that they also say the same is what yrs is asked.
fn difference(stored: &[u8], derived: &[u8]) -> Result<Option<String>, CommandError> {
    let read = |update: &[u8]| {
        let text = json_of_all(update).map_err(|error| error.to_string())?;
        // The order of keys is nobody's promise.
        serde_json::from_str::<serde_json::Value>(&text).map_err(|error| error.to_string())
    };
    Ok(match on_large_stack(|| (read(stored), read(derived)))? {
        (Ok(stored), Ok(derived)) if stored == derived => None,
        (Ok(_), Ok(_)) => Some("the document derived from its log has another content".to_owned()),
        (Err(error), _) | (_, Err(error)) => Some(error),
    })
}
