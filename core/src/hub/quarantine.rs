//! The unreadable rows that were met so far, each counted once however often its document is loaded.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashSet;

use crate::id::DocumentName;
use crate::metrics::Metrics;
use crate::store::{LogId, QuarantinedRow};

/// Rows that are told apart. Beyond, they are logged but no longer counted: the database counts them too.
const ROWS_MAX: usize = 100_000;

/// The ids of rows that were met.
#[derive(Debug, Default)]
pub(super) struct Quarantine(Mutex<HashSet<LogId>>);

impl Quarantine {
    /// Logs and counts the rows that a load has set aside.
    pub(super) fn note(&self, document: &DocumentName, rows: &[QuarantinedRow], metrics: &Metrics) {
        if rows.is_empty() {
            return;
        }
        // The set is whole between any two statements.
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            tracing::error!(document = %document, row = row.id, reason = row.reason, "A row of the update log cannot be read; it is kept, and the document is opened without it");
            if met.len() < ROWS_MAX && met.insert(row.id) {
                metrics.quarantined_rows.add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_once() {
        let (quarantine, metrics) = (Quarantine::default(), Metrics::default());
        let document = DocumentName::parse("a").unwrap();
        let rows = |ids: &[LogId]| -> Vec<_> {
            ids.iter().map(|id| QuarantinedRow { id: *id, reason: "x".into() }).collect()
        };
        for (ids, count) in [(&[][..], 0), (&[1, 2], 2), (&[2, 1], 2), (&[3], 3)] {
            quarantine.note(&document, &rows(ids), &metrics);
            assert_eq!(metrics.quarantined_rows.value(), count);
        }
    }
}
