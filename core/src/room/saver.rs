//! When a document's snapshot is written, and which rows of the log it folds: pure bookkeeping with the
//! time given. Versions are compared, no flag is cleared: an update that lands during a write leaves the
//! document dirty.

use std::time::{Duration, Instant};

use crate::store::LogId;

/// Bytes of snapshot that may be written per second of quiet, so that large documents are written less
/// often and the write amplification stays bounded: 1 MiB/s.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// However large a document, a change is folded into its snapshot after this long.
const STRETCH_MAX: Duration = Duration::from_secs(300);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The saving of one document.
#[derive(Debug)]
pub struct Saver {
    debounce: Duration,
    debounce_max: Duration,
    /// The version that the store has.
    saved: u64,
    /// The version that is being written, with the rows that it folds.
    in_flight: Option<(u64, Vec<LogId>)>,
    /// Rows in the log that no snapshot holds.
    rows: Vec<LogId>,
    /// Rows of which part waits for missing updates: no snapshot can hold them yet.
    parked_rows: Vec<LogId>,
    first_change_at: Option<Instant>,
    last_change_at: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    snapshot_bytes: u64,
}

impl Saver {
    /// The saver of a document at version 0 that the store knows nothing of.
    pub fn new(debounce: Duration, debounce_max: Duration) -> Self {
        Self {
            debounce,
            debounce_max: debounce_max.max(debounce),
            saved: 0,
            in_flight: None,
            rows: Vec::new(),
            parked_rows: Vec::new(),
            first_change_at: None,
            last_change_at: None,
            failures: 0,
            retry_at: None,
            snapshot_bytes: 0,
        }
    }

    /// The document was loaded from a snapshot of this size and these rows. `complete`: nothing in them
    /// waits for missing updates.
    pub fn loaded(&mut self, snapshot_bytes: usize, rows: &[LogId], complete: bool, now: Instant) {
        self.snapshot_bytes = snapshot_bytes as u64;
        if !rows.is_empty() {
            self.committed(rows, !complete, now);
        }
    }

    /// The document changed.
    pub fn changed(&mut self, now: Instant) {
        self.first_change_at.get_or_insert(now);
        self.last_change_at = Some(now);
    }

    /// These rows were committed.
    pub fn committed(&mut self, rows: &[LogId], parked: bool, now: Instant) {
        if parked {
            self.parked_rows.extend_from_slice(rows)
        } else {
            self.rows.extend_from_slice(rows)
        }
        self.first_change_at.get_or_insert(now);
        self.last_change_at.get_or_insert(now);
    }

    /// Whether the store's snapshot lacks something of this version.
    pub fn is_dirty(&self, version: u64) -> bool {
        version != self.saved || !self.rows.is_empty() || self.in_flight.is_some()
    }

    /// Whether a write is under way.
    pub fn is_saving(&self) -> bool {
        self.in_flight.is_some()
    }

    /// How often in a row it failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next write is due; `None`: nothing to write, or one is under way.
    pub fn due_at(&self, version: u64) -> Option<Instant> {
        if self.in_flight.is_some() || (version == self.saved && self.rows.is_empty()) {
            return None;
        }
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        let (first, last) = (self.first_change_at?, self.last_change_at?);
        let stretch =
            Duration::from_millis(self.snapshot_bytes * 1000 / SNAPSHOT_BYTES_PER_SECOND).min(STRETCH_MAX);
        Some((last + self.debounce).min(first + self.debounce_max).max(first + stretch))
    }

    /// Begins a write of this version: the rows that it folds. `complete`: nothing waits for missing
    /// updates, so the snapshot holds the parked rows too.
    pub fn begin(&mut self, version: u64, snapshot_bytes: usize, complete: bool) -> &[LogId] {
        debug_assert!(self.in_flight.is_none(), "one save in flight per document");
        if complete {
            self.rows.append(&mut self.parked_rows);
        }
        self.snapshot_bytes = snapshot_bytes as u64;
        self.first_change_at = None;
        self.last_change_at = None;
        &self.in_flight.insert((version, std::mem::take(&mut self.rows))).1
    }

    /// The write succeeded.
    pub fn succeeded(&mut self) {
        if let Some((version, _)) = self.in_flight.take() {
            self.saved = version;
        }
        self.failures = 0;
        self.retry_at = None;
    }

    /// The write failed: all stays as dirty as it was, and is tried again later, for ever.
    pub fn failed(&mut self, now: Instant) {
        if let Some((_, mut rows)) = self.in_flight.take() {
            rows.append(&mut self.rows);
            self.rows = rows;
        }
        self.first_change_at.get_or_insert(now);
        self.last_change_at.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        let backoff = BACKOFF_MIN.saturating_mul(1 << (self.failures - 1).min(16)).min(BACKOFF_MAX);
        self.retry_at = Some(now + backoff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn saver() -> Saver {
        Saver::new(SECOND, 5 * SECOND)
    }

    #[test]
    fn it_waits_for_quiet_but_not_for_ever() {
        let start = Instant::now();
        let mut saver = saver();
        assert_eq!(saver.due_at(0), None);
        saver.changed(start);
        assert_eq!(saver.due_at(1), Some(start + SECOND));
        for tenth in 1..100 {
            saver.changed(start + tenth * SECOND / 10);
        }
        assert_eq!(saver.due_at(100), Some(start + 5 * SECOND));
    }

    #[test]
    fn a_change_during_the_write_leaves_it_dirty() {
        let now = Instant::now();
        let mut saver = saver();
        saver.changed(now);
        saver.begin(1, 10, true);
        saver.changed(now);
        assert_eq!(saver.due_at(2), None, "one write at a time");
        saver.succeeded();
        assert!(saver.is_dirty(2) && !saver.is_dirty(1));
        assert_eq!(saver.due_at(2), Some(now + SECOND));
    }

    #[test]
    fn failures_back_off_and_keep_their_rows() {
        let now = Instant::now();
        let mut saver = saver();
        saver.changed(now);
        saver.committed(&[1, 2], false, now);
        assert_eq!(saver.begin(1, 10, true), [1, 2]);
        saver.committed(&[3], false, now);
        saver.failed(now);
        assert_eq!(saver.due_at(1), Some(now + BACKOFF_MIN));
        assert_eq!(saver.begin(1, 10, true), [1, 2, 3]);
        saver.failed(now);
        assert_eq!(saver.due_at(1), Some(now + 2 * BACKOFF_MIN));
        for _ in 0..40 {
            saver.begin(1, 10, true);
            saver.failed(now);
        }
        assert_eq!(saver.due_at(1), Some(now + BACKOFF_MAX));
        saver.begin(1, 10, true);
        saver.succeeded();
        assert!(!saver.is_dirty(1) && saver.due_at(1).is_none());
    }

    #[test]
    fn rows_that_wait_for_missing_updates_are_folded_only_when_these_came() {
        let now = Instant::now();
        let mut saver = saver();
        saver.committed(&[7], true, now);
        saver.changed(now);
        assert!(saver.begin(1, 10, false).is_empty());
        saver.succeeded();
        assert!(!saver.is_dirty(1));
        saver.changed(now);
        assert_eq!(saver.begin(2, 10, true), [7]);
    }

    #[test]
    fn large_documents_are_written_less_often() {
        let now = Instant::now();
        let mut saver = saver();
        saver.changed(now);
        saver.begin(1, 20 * 1024 * 1024, true);
        saver.succeeded();
        saver.changed(now);
        assert_eq!(saver.due_at(2), Some(now + 20 * SECOND));
    }

    #[test]
    fn rows_found_at_load_are_folded() {
        let now = Instant::now();
        let mut saver = saver();
        saver.loaded(1, &[4], true, now);
        assert!(saver.is_dirty(0));
        assert_eq!(saver.due_at(0), Some(now + SECOND));
        assert_eq!(saver.begin(0, 1, true), [4]);
        saver.succeeded();
        assert!(!saver.is_dirty(0));
    }
}
