//! A set of clocks as sorted, disjoint, non-touching ranges: one client's part of the delete set.
//!
//! Ranges lie in chunks of bounded size, so that an insertion in the middle of a large document moves
//! some kilobytes at most.

use super::reader::write_varuint;

/// Ranges in one chunk: 4 KiB.
const CHUNK_RANGES_MAX: usize = 512;

/// Clocks `start..end`, not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Sorted ranges; no chunk is ever empty.
#[derive(Default)]
pub(super) struct RangeSet {
    chunks: Vec<Vec<Range>>,
    len: usize,
}

impl RangeSet {
    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes in use.
    pub(super) fn memory_bytes(&self) -> usize {
        let ranges: usize = self.chunks.iter().map(Vec::capacity).sum();
        ranges * size_of::<Range>() + self.chunks.capacity() * size_of::<Vec<Range>>()
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range> + Clone {
        self.chunks.iter().flatten().copied()
    }

    /// The first range that ends after `clock`, and those behind it.
    pub(super) fn iter_from(&self, clock: u32) -> impl Iterator<Item = Range> {
        let (chunk, at) = self.position(clock.saturating_add(1));
        let first = self.chunks.get(chunk).map(|ranges| &ranges[at..]).unwrap_or_default();
        let rest = self.chunks.get(chunk + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten()).copied()
    }

    /// Whether all of `range` is in the set.
    pub(super) fn covers(&self, range: Range) -> bool {
        let (chunk, at) = self.position(range.start);
        // A range that only touches the start is not the one that may cover it.
        let found = self.chunks.get(chunk).map(|ranges| ranges[at]);
        match found {
            Some(found) if found.end == range.start => self
                .iter_from(range.start)
                .next()
                .is_some_and(|next| next.start <= range.start && next.end >= range.end),
            Some(found) => found.start <= range.start && found.end >= range.end,
            None => false,
        }
    }

    /// Whether `clock` is in the set.
    pub(super) fn contains(&self, clock: u32) -> bool {
        self.iter_from(clock).next().is_some_and(|range| range.start <= clock)
    }

    /// Adds `range` and reports the parts of it that were not in the set.
    pub(super) fn insert(&mut self, range: Range, mut on_new: impl FnMut(Range)) {
        let Range { start, end } = range;
        match self.chunks.last_mut().and_then(|chunk| chunk.last_mut()) {
            Some(last) if last.end == start => {
                last.end = end;
                on_new(range);
                return;
            }
            Some(last) if last.end > start => {}
            _ => {
                self.push(range);
                on_new(range);
                return;
            }
        }
        let (chunk, at) = self.position(start);
        if self.chunks[chunk][at].start > end {
            self.insert_at(chunk, at, range);
            on_new(range);
        } else {
            self.absorb(chunk, at, range, on_new);
        }
    }

    /// Takes out the first range, or what of it lies below `clock`, if any does.
    pub(super) fn take_first_below(&mut self, clock: u32) -> Option<Range> {
        let first = self.chunks.first_mut()?.first_mut()?;
        let Range { start, end } = *first;
        if start >= clock {
            return None;
        }
        if end > clock {
            first.start = clock;
            return Some(Range { start, end: clock });
        }
        self.remove(0, 0, 1);
        if self.chunks[0].is_empty() {
            self.chunks.remove(0);
        }
        self.len -= 1;
        Some(Range { start, end })
    }

    /// Appends the ranges as those of `client` in a delete set.
    pub(super) fn write(&self, out: &mut Vec<u8>, client: u64) {
        write_varuint(out, client);
        write_varuint(out, self.len as u64);
        for range in self.iter() {
            write_varuint(out, u64::from(range.start));
            write_varuint(out, u64::from(range.end - range.start));
        }
    }

    /// Adds all of `other`, the larger part of both: ranges of this set go into it.
    pub(super) fn absorb_all(&mut self, other: Self) {
        let few = std::mem::replace(self, other);
        few.iter().for_each(|range| self.insert(range, |_| {}));
    }

    /// The first range whose end is `start` or later.
    fn position(&self, start: u32) -> (usize, usize) {
        let before = |range: &Range| range.end < start;
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(before));
        let at = self.chunks.get(chunk).map_or(0, |ranges| ranges.partition_point(before));
        (chunk, at)
    }

    fn push(&mut self, range: Range) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_RANGES_MAX => {
                grow(chunk);
                chunk.push(range);
            }
            _ => self.chunks.push(vec![range]),
        }
        self.len += 1;
    }

    fn insert_at(&mut self, chunk: usize, at: usize, range: Range) {
        let ranges = &mut self.chunks[chunk];
        grow(ranges);
        ranges.insert(at, range);
        if ranges.len() > CHUNK_RANGES_MAX {
            let tail = ranges.split_off(CHUNK_RANGES_MAX / 2);
            ranges.shrink_to_fit();
            self.chunks.insert(chunk + 1, tail);
        }
        self.len += 1;
    }

    /// Merges `range` with all ranges that it touches, the first of which is at `chunk`, `at`.
    fn absorb(&mut self, chunk: usize, at: usize, range: Range, mut on_new: impl FnMut(Range)) {
        let mut merged = range;
        let mut covered = range.start;
        let mut absorbed = 0;
        for found in self.chunks[chunk][at..].iter().chain(self.chunks[chunk + 1..].iter().flatten()) {
            if found.start > range.end {
                break;
            }
            if found.start > covered {
                on_new(Range { start: covered, end: found.start });
            }
            covered = covered.max(found.end);
            merged = Range { start: merged.start.min(found.start), end: merged.end.max(found.end) };
            absorbed += 1;
        }
        if covered < range.end {
            on_new(Range { start: covered, end: range.end });
        }
        self.chunks[chunk][at] = merged;
        self.len -= absorbed - 1;
        self.remove(chunk, at + 1, absorbed - 1);
    }

    /// Removes `count` ranges from `chunk`, `at` on, over chunk borders.
    fn remove(&mut self, chunk: usize, at: usize, mut count: usize) {
        let here = count.min(self.chunks[chunk].len() - at);
        self.chunks[chunk].drain(at..at + here);
        count -= here;
        let mut emptied = 0;
        for ranges in &mut self.chunks[chunk + 1..] {
            if count < ranges.len() {
                ranges.drain(..count);
                break;
            }
            count -= ranges.len();
            emptied += 1;
        }
        self.chunks.drain(chunk + 1..chunk + 1 + emptied);
    }
}

/// Grows a full chunk by a little: doubling would leave half of it empty for long.
fn grow(chunk: &mut Vec<Range>) {
    if chunk.len() == chunk.capacity() {
        chunk.reserve_exact(chunk.len().clamp(1, 32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain bitmap, with enough ranges for several chunks.
    #[test]
    fn agrees_with_a_bitmap() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u32| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 33) as u32 % below
        };
        for round in 0..6 {
            const CLOCKS: usize = 6_000;
            let mut set = RangeSet::default();
            let mut bits = vec![false; CLOCKS + 64];
            let longest = [1, 2, 3, 8, 40, 2][round];
            for step in 0..1_500 {
                let start = random(CLOCKS as u32);
                let longest = if step % 500 == 499 { 2_000 } else { longest };
                let end = (start + 1 + random(longest)).min(CLOCKS as u32);
                let range = Range { start, end };
                let before = bits.clone();
                assert_eq!(set.covers(range), bits[start as usize..end as usize].iter().all(|bit| *bit));
                assert_eq!(set.contains(start), bits[start as usize]);
                set.insert(range, |new| bits[new.start as usize..new.end as usize].fill(true));
                for clock in 0..CLOCKS {
                    let inside = (start as usize..end as usize).contains(&clock);
                    assert_eq!(bits[clock], before[clock] || inside);
                }
            }
            let mut clocks = vec![false; CLOCKS + 64];
            let mut previous = None;
            for range in set.iter() {
                assert!(previous.is_none_or(|end| end < range.start), "ranges touch");
                clocks[range.start as usize..range.end as usize].fill(true);
                previous = Some(range.end);
            }
            assert_eq!(clocks, bits);
            assert_eq!(set.len(), set.iter().count());
            let from: Vec<_> = set.iter().filter(|range| range.end > 3_000).collect();
            assert_eq!(set.iter_from(3_000).collect::<Vec<_>>(), from);
            let all: Vec<_> = set.iter().collect();
            let mut taken: Vec<_> = std::iter::from_fn(|| set.take_first_below(3_001)).collect();
            assert!(taken.iter().all(|range| range.end <= 3_001));
            taken.extend(std::iter::from_fn(|| set.take_first_below(u32::MAX)));
            taken.dedup_by(|next, last| {
                next.start == last.end && {
                    last.end = next.end;
                    true
                }
            });
            assert_eq!((taken, set.len(), set.chunks.len()), (all, 0, 0));
        }
    }
}
