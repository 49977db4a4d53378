//! Rows of the log that a snapshot holds by now and that are still in the file. They are taken out together and in
//! the order of their ids: the rows of one document lie far apart, and taking them out by themselves would write a
//! page for each. Until then loads leave them out. Losing this list loses nothing, since a row that is
//! loaded although its snapshot holds it changes nothing.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::id::DocumentName;
use crate::store::LogId;

/// Rows wait this long for others.
pub(super) const FOLD_DELAY: Duration = Duration::from_secs(5);
/// What one transaction takes out at most: whoever appends meanwhile waits for it.
const ROWS_MAX: usize = 4_096;

type Rows = HashMap<DocumentName, Vec<LogId>>;

#[derive(Debug, Default)]
struct Waiting {
    noted: Rows,
    /// What is being taken out, and may be gone from the file already.
    leaving: Rows,
    /// Somebody will take out what is noted.
    scheduled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Folds {
    waiting: Mutex<Waiting>,
    /// Held by who takes rows out.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Folds {
    /// Notes rows whose snapshot is committed; whether the caller has to see to it that they are taken out.
    pub(super) fn add(&self, document: &DocumentName, ids: &[LogId]) -> bool {
        let mut waiting = self.lock();
        waiting.noted.entry(document.clone()).or_default().extend_from_slice(ids);
        !mem::replace(&mut waiting.scheduled, true)
    }

    /// The rows of a document, sorted. To be asked for before the document is read: what is noted later may be
    /// in no snapshot that was read.
    pub(super) fn of(&self, document: &DocumentName) -> Vec<LogId> {
        let waiting = self.lock();
        let of = |rows: &Rows| rows.get(document).cloned().unwrap_or_default();
        let mut ids = of(&waiting.noted);
        ids.append(&mut of(&waiting.leaving));
        ids.sort_unstable();
        ids
    }

    /// All rows that are noted, in the order of their ids, in pieces for one transaction each, as JSON:
    /// `[[id, document], …]`. [`Self::left`] or [`Self::stayed`] has to follow.
    pub(super) fn leave(&self) -> Vec<String> {
        let mut waiting = self.lock();
        waiting.leaving = mem::take(&mut waiting.noted);
        let mut rows: Vec<(LogId, &str)> = waiting
            .leaving
            .iter()
            .flat_map(|(document, ids)| ids.iter().map(|id| (*id, document.as_str())))
            .collect();
        rows.sort_unstable();
        // Invariant: numbers and texts always have a form in JSON.
        rows.chunks(ROWS_MAX).map(|piece| serde_json::to_string(piece).unwrap_or_default()).collect()
    }

    /// The rows are taken out; whether more were noted meanwhile, which the caller has to see to.
    pub(super) fn left(&self) -> bool {
        let mut waiting = self.lock();
        waiting.leaving = Rows::new();
        waiting.scheduled = !waiting.noted.is_empty();
        waiting.scheduled
    }

    /// Not all rows could be taken out: they wait for whoever notes some next.
    pub(super) fn stayed(&self) {
        let mut waiting = self.lock();
        for (document, mut ids) in mem::take(&mut waiting.leaving) {
            waiting.noted.entry(document).or_default().append(&mut ids);
        }
        waiting.scheduled = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The lists are whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_known_until_they_are_gone_and_leave_in_order() {
        let [a, b] = ["a", "b"].map(|name| DocumentName::parse(name).unwrap());
        let folds = Folds::default();
        assert!(folds.add(&a, &[7, 1]));
        assert!(!folds.add(&b, &[3]), "somebody is at it");
        assert_eq!(folds.leave(), [r#"[[1,"a"],[3,"b"],[7,"a"]]"#]);
        // What is noted meanwhile is neither lost nor part of it, though it is older.
        folds.add(&a, &[2]);
        assert_eq!(folds.of(&a), [1, 2, 7]);
        folds.stayed();
        assert_eq!(folds.of(&a), [1, 2, 7]);
        assert!(folds.add(&b, &[4]), "nobody is at it any more");
        assert_eq!(folds.leave(), [r#"[[1,"a"],[2,"a"],[3,"b"],[4,"b"],[7,"a"]]"#]);
        folds.add(&b, &[5]);
        assert!(folds.left(), "one came meanwhile");
        assert_eq!((folds.of(&a), folds.of(&b)), (vec![], vec![5]));
        assert_eq!(folds.leave().len(), 1);
        assert!(!folds.left());
        let many: Vec<LogId> = (0..10_000).collect();
        folds.add(&a, &many);
        assert_eq!(folds.leave().len(), 3);
    }
}
