//! The structs of one client: their encodings in clock order, without gaps, in one buffer.

use super::content::{ANY, DELETED, GC, STRING};
use super::ranges::RangeSet;
use super::reader::{Reader, encode_varuint, varuint_bytes, write_varuint};
use super::scan::ScanError;
use super::structs::{CutRange, HAS_KEY, Id, Parent, Struct};

/// Bytes that a run of typed text or pushed values grows to before a new one starts. It bounds what has
/// to be read to find a clock, and costs a head of some 20 bytes per run.
const RUN_BYTES_MAX: usize = 2048;

/// A mark is set when either has passed since the last one, so that a search reads that much.
const MARK_STRUCTS: u32 = 32;
const MARK_BYTES: usize = 4096;

/// Spare bytes that are not worth giving back.
const SPARE_BYTES: usize = 1024;

/// Where a struct starts: an entry of the sparse index.
#[derive(Clone, Copy, Default)]
struct Mark {
    clock: u32,
    at: u32,
    ordinal: u32,
}

/// The last struct, which may still grow.
#[derive(Clone, Copy)]
struct Tail {
    clock: u32,
    start: u32,
    /// Where its content starts, which for all kinds that grow is a count.
    content: u32,
    info: u8,
    right: Option<Id>,
}

/// One client's structs and deleted ranges.
pub(super) struct ClientLog {
    pub(super) id: u64,
    clock: u32,
    structs: u32,
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    tail: Tail,
    pub(super) deletes: RangeSet,
}

impl ClientLog {
    /// A client of which nothing is known yet.
    pub(super) fn new(id: u64) -> Self {
        let tail = Tail { clock: 0, start: 0, content: 0, info: u8::MAX, right: None };
        let (bytes, marks) = (Vec::new(), Vec::new());
        Self { id, clock: 0, structs: 0, bytes, marks, tail, deletes: RangeSet::default() }
    }

    /// The clock after the last struct.
    #[inline]
    pub(super) fn clock(&self) -> u32 {
        self.clock
    }

    /// How many structs there are.
    pub(super) fn structs(&self) -> u32 {
        self.structs
    }

    /// The encoded structs.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Heap bytes in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>() + self.deletes.memory_bytes()
    }

    /// Makes room for `bytes` more at once.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Gives back what was reserved in vain: structs that were squashed take less than they took in their update.
    pub(super) fn shrink_spare(&mut self) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        if capacity - len > (len / 4).max(SPARE_BYTES) {
            self.bytes.shrink_to(len + len / 8);
        }
    }

    /// Gives back what growing ahead has taken.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.marks.shrink_to_fit();
    }

    /// Appends a struct that starts at the clock of this client, into the last one where yjs could
    /// split it off again. `source` is what the struct was read from.
    #[inline]
    pub(super) fn push(&mut self, source: &[u8], item: &Struct) -> Result<(), ScanError> {
        debug_assert_eq!(item.clock, self.clock);
        let encoded = &source[item.start..item.end];
        if self.bytes.len() + encoded.len() >= u32::MAX as usize {
            return Err(ScanError::TooLarge);
        }
        if !self.squash(source, item) {
            let start = self.bytes.len();
            self.mark(start);
            self.grow(encoded.len());
            self.bytes.extend_from_slice(encoded);
            self.structs += 1;
            self.tail = Tail {
                clock: item.clock,
                start: start as u32,
                content: (start + item.content - item.start) as u32,
                info: item.info,
                right: item.right,
            };
        }
        self.clock = item.end_clock();
        Ok(())
    }

    /// Grows by a quarter: doubling would cost a large document its size again.
    #[inline]
    fn grow(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.bytes.len() < bytes {
            self.bytes.reserve_exact(bytes.max(self.bytes.len() / 4).max(24));
        }
    }

    #[inline]
    fn mark(&mut self, at: usize) {
        if self.structs == 0 {
            return;
        }
        let last = self.marks.last().copied().unwrap_or_default();
        if self.structs - last.ordinal >= MARK_STRUCTS || at - last.at as usize >= MARK_BYTES {
            self.marks.push(Mark { clock: self.clock, at: at as u32, ordinal: self.structs });
        }
    }

    /// Appends the content of `item` to the last struct when both are one run: `item` continues its last
    /// clock and has the same right origin, which is how a split leaves two parts.
    #[inline]
    fn squash(&mut self, source: &[u8], item: &Struct) -> bool {
        let kind = item.kind();
        if self.tail.info & 0x1f != kind || self.structs == 0 {
            return false;
        }
        let continues = || {
            item.right == self.tail.right
                && item
                    .origin
                    .is_some_and(|origin| origin.client == self.id && origin.clock + 1 == item.clock)
        };
        match kind {
            GC => {}
            DELETED if continues() => {}
            // A later value of a map's key is not a run: it deletes the earlier one.
            STRING | ANY if (self.tail.info | item.info) & HAS_KEY == 0 && continues() => {}
            _ => return false,
        }
        let content = &source[item.content..item.end];
        let run = self.bytes.len() - self.tail.start as usize;
        if matches!(kind, STRING | ANY) && run + content.len() > RUN_BYTES_MAX {
            return false;
        }
        let mut added = Reader::at(content, 0);
        let mut counted = Reader::at(&self.bytes, self.tail.content as usize);
        let (Ok(more), Ok(count)) = (added.varuint(), counted.varuint()) else { return false };
        let (from, to) = (self.tail.content as usize, counted.position());
        let payload = &content[added.position()..];
        self.grow(payload.len() + 1);
        self.rewrite_count(from, to, count + more);
        self.bytes.extend_from_slice(payload);
        true
    }

    /// Replaces the varint at `from..to`.
    #[inline]
    fn rewrite_count(&mut self, from: usize, to: usize, count: u64) {
        if to - from == 1 && count < 0x80 {
            self.bytes[from] = count as u8;
            return;
        }
        let (encoded, len) = encode_varuint(count);
        if len == to - from {
            self.bytes[from..to].copy_from_slice(&encoded[..len]);
        } else {
            self.bytes.splice(from..to, encoded[..len].iter().copied());
        }
    }

    /// The struct that holds `clock`, which must be below the client's own, and its ordinal.
    fn find(&self, clock: u32) -> Option<(Struct, u32)> {
        if clock >= self.tail.clock {
            return Some((self.last(), self.structs - 1));
        }
        let known = self.marks.partition_point(|mark| mark.clock <= clock);
        let mark = known.checked_sub(1).map(|index| self.marks[index]).unwrap_or_default();
        (mark.ordinal..)
            .zip(self.iter_at(mark.at as usize, mark.clock))
            .find(|(_, item)| clock < item.end_clock())
            .map(|(ordinal, item)| (item, ordinal))
    }

    /// The last struct, known without reading it, so without its origin and parent, which a cut does not need.
    fn last(&self) -> Struct {
        let Tail { clock, start, content, info, right } = self.tail;
        Struct {
            start: start as usize,
            content: content as usize,
            end: self.bytes.len(),
            clock,
            len: self.clock - clock,
            info,
            origin: None,
            right,
            parent: Parent::Copied,
        }
    }

    /// All structs in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Struct> {
        self.iter_at(0, 0)
    }

    /// The struct that starts at byte `at` with `clock`.
    pub(super) fn read_at(&self, at: usize, clock: u32) -> Option<Struct> {
        self.iter_at(at, clock).next()
    }

    fn iter_at(&self, at: usize, mut clock: u32) -> impl Iterator<Item = Struct> {
        let mut reader = Reader::at(&self.bytes, at);
        std::iter::from_fn(move || {
            if reader.remaining() == 0 {
                return None;
            }
            // Invariant: only structs that were read before are in the buffer.
            let item = Struct::read::<true>(&mut reader, self.id, clock).ok()?;
            clock = item.end_clock();
            Some(item)
        })
    }

    /// Appends this client's block of an update: all structs from `clock` on, the first one cut there.
    pub(super) fn write_block(&self, out: &mut Vec<u8>, clock: u32) {
        if clock == 0 {
            self.write_head(out, self.structs, 0);
            out.extend_from_slice(&self.bytes);
            return;
        }
        let Some((first, ordinal)) = self.find(clock) else { return };
        self.write_head(out, self.structs - ordinal, clock);
        let from = clock - first.clock;
        if from == 0 {
            out.extend_from_slice(&self.bytes[first.start..]);
        } else {
            let range = CutRange { from, to: first.len, deleted: false };
            first.write_cut(out, &self.bytes, self.id, range);
            out.extend_from_slice(&self.bytes[first.end..]);
        }
    }

    fn write_head(&self, out: &mut Vec<u8>, structs: u32, clock: u32) {
        write_varuint(out, u64::from(structs));
        write_varuint(out, self.id);
        write_varuint(out, u64::from(clock));
    }

    /// Appends this client's part of a delete set.
    pub(super) fn write_deletes(&self, out: &mut Vec<u8>) {
        self.deletes.write(out, self.id);
    }

    /// Bytes that `write_block` takes from clock 0 on.
    pub(super) fn block_bytes(&self) -> usize {
        self.bytes.len() + varuint_bytes(self.id) + varuint_bytes(u64::from(self.structs)) + 1
    }
}
