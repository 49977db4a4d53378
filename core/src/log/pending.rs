//! Parts of updates that wait for others: runs of structs by the one id that each misses first, and deletes beyond
//! the known clocks.
//!
//! A part that was let go and has to wait again goes on where it stopped, so that retrying costs what it achieves.

use super::client::ClientLog;
use super::content::SKIP;
use super::ranges::{Range, RangeSet};
use super::reader::{Reader, write_varuint};
use super::resolve::Run;
use super::structs::{CutRange, Id, Struct};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What a parked part is charged beyond its bytes, for its place in the map.
const PART_BYTES: usize = 192;

/// What the waiting deletes of one client and one range of them are charged.
const DELETES_BYTES: usize = 96;
const RANGE_BYTES: usize = 16;

/// Bytes that an update may be charged per byte: its smallest block, of five bytes, makes a part.
const CHARGE_MAX: usize = 1 + PART_BYTES.div_ceil(5);

/// Structs of one client without a Skip, as an update, of which `run` is still to be taken.
pub(super) struct Part {
    pub(super) update: Bytes,
    pub(super) run: Run,
}

/// What a part waits for, and what it begins with: of two that are equal in both the longer has it all.
type PartKey = (Id, Id);

/// Everything that waits.
#[derive(Default)]
pub(super) struct Pending {
    parts: BTreeMap<PartKey, (Part, u32)>,
    deletes: BTreeMap<u64, RangeSet>,
    deletes_encoded: OnceLock<Bytes>,
    bytes: usize,
}

impl Pending {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.deletes.is_empty()
    }

    /// The waiting bytes, with what keeping them takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `update` fits below `bytes_max` whatever it contains.
    #[inline]
    pub(super) fn fits(&self, update: &[u8], bytes_max: usize) -> bool {
        update.len().saturating_mul(CHARGE_MAX).saturating_add(self.bytes) <= bytes_max
    }

    /// What waits as updates: every part, and all deletes in one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        let deletes = (!self.deletes.is_empty())
            .then(|| self.deletes_encoded.get_or_init(|| encode_deletes(&self.deletes).into()));
        self.parts.values().map(|(part, _)| &part.update).chain(deletes)
    }

    /// The waiting runs of structs.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values().map(|(part, _)| part)
    }

    /// The waiting deletes by client.
    pub(super) fn deletes(&self) -> impl Iterator<Item = (u64, &RangeSet)> {
        self.deletes.iter().map(|(&client, ranges)| (client, ranges))
    }

    /// Parks `part`, which ends at clock `end`, until `need` is known.
    pub(super) fn park(&mut self, need: Id, part: Part, end: u32) {
        let start = Id { client: part.run.client, clock: part.run.clock };
        let bytes = charge(part.update.len());
        match self.parts.entry((need, start)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert((part, end));
                self.bytes += bytes;
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) if occupied.get().1 < end => {
                let (shorter, _) = occupied.insert((part, end));
                self.bytes = self.bytes + bytes - charge(shorter.update.len());
            }
            std::collections::btree_map::Entry::Occupied(_) => {}
        }
    }

    /// Takes out a part that waited for a clock of `client` below `clock`, with its end.
    pub(super) fn take_ready(&mut self, client: u64, clock: u32) -> Option<(Part, u32)> {
        let lowest = Id { client: 0, clock: 0 };
        let ready = (Id { client, clock: 0 }, lowest)..(Id { client, clock }, lowest);
        let key = *self.parts.range(ready).next()?.0;
        let (part, end) = self.parts.remove(&key)?;
        self.bytes -= charge(part.update.len());
        Some((part, end))
    }

    /// Parks the deletion of `range` of `client`.
    pub(super) fn park_delete(&mut self, client: u64, range: Range) {
        let Self { deletes, bytes, .. } = self;
        let ranges = deletes.entry(client).or_insert_with(|| {
            *bytes += DELETES_BYTES;
            RangeSet::default()
        });
        let before = ranges.len();
        ranges.insert(range, |_| {});
        self.bytes = self.bytes + ranges.len() * RANGE_BYTES - before * RANGE_BYTES;
        self.deletes_encoded.take();
    }

    /// Takes out the first waiting deletion of `client` below `clock`.
    pub(super) fn take_delete(&mut self, client: u64, clock: u32) -> Option<Range> {
        let ranges = self.deletes.get_mut(&client)?;
        let before = ranges.len();
        let taken = ranges.take_first_below(clock)?;
        self.bytes -= (before - ranges.len()) * RANGE_BYTES;
        if ranges.len() == 0 {
            self.deletes.remove(&client);
            self.bytes -= DELETES_BYTES;
        }
        self.deletes_encoded.take();
        Some(taken)
    }
}

/// What a part of `bytes` bytes is charged.
pub(super) fn charge(bytes: usize) -> usize {
    bytes + PART_BYTES
}

/// At most what parking the deletion of `ranges` ranges of a client is charged.
pub(super) fn charge_deletes(ranges: usize) -> usize {
    DELETES_BYTES + ranges * RANGE_BYTES
}

/// Reports what is left of `run` as updates of its own, with the id that each waits for and its end: one up to each
/// Skip, since yjs 13 loses what comes with a Skip.
pub(super) fn parts_of_run(update: &[u8], run: &Run, need: Id, mut on_part: impl FnMut(Id, Part, u32)) {
    let client = run.client;
    let mut reader = Reader::at(update, run.at);
    let mut first = (run.at, run.clock);
    let (mut clock, mut structs, mut need) = (run.clock, 0, need);
    for _ in 0..run.structs {
        let Ok(item) = Struct::read::<true>(&mut reader, client, clock) else { break };
        if item.kind() == SKIP {
            if structs > 0 {
                on_part(need, part(client, first.1, structs, &update[first.0..item.start]), clock);
            }
            first = (item.end, item.end_clock());
            structs = 0;
            need = Id { client, clock: item.end_clock().saturating_sub(1) };
        } else {
            structs += 1;
        }
        clock = item.end_clock();
    }
    if structs > 0 {
        on_part(need, part(client, first.1, structs, &update[first.0..reader.position()]), clock);
    }
}

fn part(client: u64, clock: u32, structs: u32, encoded: &[u8]) -> Part {
    let mut update = Vec::with_capacity(encoded.len() + 24);
    write_varuint(&mut update, 1);
    write_varuint(&mut update, u64::from(structs));
    write_varuint(&mut update, client);
    write_varuint(&mut update, u64::from(clock));
    let at = update.len();
    update.extend_from_slice(encoded);
    let end = update.len();
    write_varuint(&mut update, 0);
    Part { update: update.into(), run: Run::new(client, clock, structs, at..end) }
}

/// Appends a block of an update: what is known of `client`, and then its waiting `parts`, sorted by their clocks, behind
/// Skips. Parts may overlap.
pub(super) fn write_block_with_parts(
    out: &mut Vec<u8>,
    client: u64,
    known: Option<&ClientLog>,
    parts: &[&Part],
) {
    let first = known.map_or_else(|| parts.first().map_or(0, |part| part.run.clock), |_| 0);
    let (mut body, mut structs, mut clock) = match known {
        Some(known) => (known.bytes().to_vec(), u64::from(known.structs()), known.clock()),
        None => (Vec::new(), 0, first),
    };
    for Part { update, run } in parts {
        if run.clock > clock {
            body.push(SKIP);
            write_varuint(&mut body, u64::from(run.clock - clock));
            structs += 1;
            clock = run.clock;
        }
        let mut reader = Reader::at(update, run.at);
        let mut start = run.clock;
        for _ in 0..run.structs {
            let Ok(item) = Struct::read::<true>(&mut reader, client, start) else { break };
            start = item.end_clock();
            if start > clock {
                let range = CutRange { from: clock - item.clock, to: item.len, deleted: false };
                item.write_cut(&mut body, update, client, range);
                structs += 1;
                clock = start;
            }
        }
    }
    write_varuint(out, structs);
    write_varuint(out, client);
    write_varuint(out, u64::from(first));
    out.extend_from_slice(&body);
}

/// An update that deletes `deletes` and nothing else.
fn encode_deletes(deletes: &BTreeMap<u64, RangeSet>) -> Vec<u8> {
    let mut update = vec![0];
    write_varuint(&mut update, deletes.len() as u64);
    for (&client, ranges) in deletes.iter().rev() {
        ranges.write(&mut update, client);
    }
    update
}
