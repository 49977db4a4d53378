//! What changed in which order: enough to tell everything that came after a cursor.

use super::ranges::Range;
use std::collections::VecDeque;

/// Entries that the journal keeps: 1 MiB. A cursor that falls behind them gets the full state.
const ENTRIES_MAX: usize = 65_536;

/// Capacity that an emptied journal keeps.
const ENTRIES_KEPT: usize = 64;

/// A position in a log's change journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub(super) u64);

/// Clocks of one client that were added or deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The client's place in the log.
    pub(super) slot: u32,
    pub(super) deleted: bool,
    pub(super) range: Range,
}

/// A change without its end: it is as long as the distance to the next entry.
#[derive(Clone, Copy)]
struct Entry {
    position: u64,
    start: u32,
    /// The slot, and in the lowest bit whether clocks were deleted.
    tag: u32,
}

/// Changes in order. The position counts changed clocks, not entries, so that a typed run takes one
/// entry, and a cursor may point into the middle of it.
#[derive(Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    position: u64,
    oldest: u64,
}

impl Journal {
    /// The position after the last change.
    #[inline]
    pub(super) fn cursor(&self) -> Cursor {
        Cursor(self.position)
    }

    /// Heap bytes in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Appends a change.
    #[inline]
    pub(super) fn record(&mut self, change: Change) {
        let Range { start, end } = change.range;
        let tag = change.slot << 1 | u32::from(change.deleted);
        let continues = self.entries.back().is_some_and(|last| {
            last.tag == tag && u64::from(last.start) + (self.position - last.position) == u64::from(start)
        });
        if !continues {
            if self.entries.len() == ENTRIES_MAX {
                self.entries.pop_front();
                self.oldest = self.entries.front().map_or(self.position, |first| first.position);
            }
            self.entries.push_back(Entry { position: self.position, start, tag });
        }
        self.position += u64::from(end - start);
    }

    /// Everything after `cursor`, or `None` when the journal no longer reaches back to it.
    pub(super) fn since(&self, cursor: Cursor) -> Option<impl Iterator<Item = Change>> {
        if cursor.0 < self.oldest {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.position <= cursor.0);
        let first = after.saturating_sub(1);
        Some((first..self.entries.len()).filter_map(move |index| {
            let entry = self.entries[index];
            let end = self.entries.get(index + 1).map_or(self.position, |next| next.position);
            let skipped = cursor.0.saturating_sub(entry.position);
            let len = end - entry.position;
            (skipped < len).then(|| Change {
                slot: entry.tag >> 1,
                deleted: entry.tag & 1 == 1,
                range: Range { start: entry.start + skipped as u32, end: entry.start + len as u32 },
            })
        }))
    }

    /// Forgets what lies wholly before `before`.
    pub(super) fn trim(&mut self, before: Cursor) {
        let before = before.0.min(self.position);
        if before <= self.oldest {
            return;
        }
        while let Some(end) = self
            .entries
            .get(1)
            .map(|next| next.position)
            .or_else(|| (!self.entries.is_empty()).then_some(self.position))
        {
            if end > before {
                break;
            }
            self.entries.pop_front();
        }
        self.oldest = self.oldest.max(before);
        if self.entries.len() < ENTRIES_KEPT && self.entries.capacity() > 4 * ENTRIES_KEPT {
            self.entries.shrink_to(ENTRIES_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(slot: u32, deleted: bool, start: u32, end: u32) -> Change {
        Change { slot, deleted, range: Range { start, end } }
    }

    fn since(journal: &Journal, cursor: u64) -> Option<Vec<(u32, bool, u32, u32)>> {
        let changes = journal.since(Cursor(cursor))?;
        Some(changes.map(|it| (it.slot, it.deleted, it.range.start, it.range.end)).collect())
    }

    #[test]
    fn tells_what_came_after_a_cursor() {
        let mut journal = Journal::default();
        journal.record(change(0, false, 0, 2));
        journal.record(change(0, false, 2, 5));
        journal.record(change(1, false, 0, 1));
        journal.record(change(0, true, 1, 3));
        assert_eq!(journal.entries.len(), 3);
        assert_eq!(journal.cursor(), Cursor(8));
        let all = vec![(0, false, 0, 5), (1, false, 0, 1), (0, true, 1, 3)];
        assert_eq!(since(&journal, 0), Some(all));
        assert_eq!(since(&journal, 4), Some(vec![(0, false, 4, 5), (1, false, 0, 1), (0, true, 1, 3)]));
        assert_eq!(since(&journal, 7), Some(vec![(0, true, 2, 3)]));
        assert_eq!(since(&journal, 8), Some(vec![]));
    }

    #[test]
    fn a_trimmed_position_is_gone_and_the_rest_stays() {
        let mut journal = Journal::default();
        journal.record(change(0, false, 0, 4));
        journal.record(change(1, false, 0, 4));
        journal.trim(Cursor(6));
        assert_eq!(since(&journal, 5), None);
        assert_eq!(since(&journal, 6), Some(vec![(1, false, 2, 4)]));
        journal.trim(Cursor(8));
        assert!(journal.entries.is_empty());
        journal.record(change(1, false, 4, 5));
        assert_eq!(since(&journal, 8), Some(vec![(1, false, 4, 5)]));
        assert_eq!(since(&journal, 7), None);
    }

    #[test]
    fn is_bounded() {
        let mut journal = Journal::default();
        for clock in 0..ENTRIES_MAX as u32 + 10 {
            journal.record(change(clock % 2, false, clock, clock + 1));
        }
        assert_eq!(journal.entries.len(), ENTRIES_MAX);
        assert_eq!(since(&journal, 9), None);
        assert_eq!(since(&journal, 10).map(|changes| changes.len()), Some(ENTRIES_MAX));
    }
}
