//! Rows of the log that a snapshot holds by now and that are still in the file. They are taken out together and in
//! the order of their ids: the rows of one document lie far apart, and taking them out by themselves would write a
//! page for each. Until then loads leave them out. Losing this list loses nothing, since a row that is
//! loaded although its snapshot holds it changes nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::id::DocumentName;
use crate::store::LogId;

/// Rows wait this long for others.
pub(super) const FOLD_DELAY: Duration = Duration::from_secs(5);
/// What one transaction takes out at most: whoever appends meanwhile waits for it.
const ROWS_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct Waiting {
    documents: HashMap<DocumentName, Vec<LogId>>,
    /// Somebody will take them out.
    scheduled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Folds(Mutex<Waiting>);

impl Folds {
    /// Notes rows whose snapshot is committed; whether the caller has to see to it that they are taken out.
    pub(super) fn add(&self, document: &DocumentName, ids: &[LogId]) -> bool {
        let mut waiting = self.lock();
        waiting.documents.entry(document.clone()).or_default().extend_from_slice(ids);
        !std::mem::replace(&mut waiting.scheduled, true)
    }

    /// The rows of a document, sorted. To be asked for before the document is read: what is noted later may be
    /// in no snapshot that was read.
    pub(super) fn of(&self, document: &DocumentName) -> Vec<LogId> {
        let mut ids = self.lock().documents.get(document).cloned().unwrap_or_default();
        ids.sort_unstable();
        ids
    }

    /// Some of the rows with their documents, the oldest first, as JSON: `[[id, document], …]`. They stay noted.
    pub(super) fn oldest(&self) -> Option<Piece> {
        let mut waiting = self.lock();
        let mut rows: Vec<(LogId, &DocumentName)> = waiting
            .documents
            .iter()
            .flat_map(|(document, ids)| ids.iter().map(move |id| (*id, document)))
            .collect();
        rows.sort_unstable();
        rows.truncate(ROWS_MAX);
        let Some((last, _)) = rows.last() else {
            waiting.scheduled = false;
            return None;
        };
        let last = *last;
        let rows: Vec<(LogId, &str)> = rows.iter().map(|(id, document)| (*id, document.as_str())).collect();
        // Invariant: numbers and texts always have a form in JSON.
        let json = serde_json::to_string(&rows).unwrap_or_else(|_| "[]".to_owned());
        Some(Piece { json, last })
    }

    /// Forgets the rows of a piece: they are taken out.
    pub(super) fn done(&self, piece: &Piece) {
        self.lock().documents.retain(|_, ids| {
            ids.retain(|id| *id > piece.last);
            !ids.is_empty()
        });
    }

    /// Nobody takes them out any more; the next who adds some has to see to it.
    pub(super) fn give_up(&self) {
        self.lock().scheduled = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The list is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that are taken out in one transaction.
pub(super) struct Piece {
    pub(super) json: String,
    last: LogId,
}
