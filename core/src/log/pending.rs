//! Parts of updates that wait for others: each with the one id that it misses first.

use super::content::SKIP;
use super::reader::{Reader, write_varuint};
use super::resolve::Run;
use super::structs::{Id, Struct};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What one parked part is charged beyond its bytes, for its place in the map.
const PART_BYTES: usize = 64;

/// Bytes of an update per byte that it may be charged: its smallest block takes five bytes and makes a part.
const CHARGE_MAX: usize = 1 + PART_BYTES / 5 + 1;

/// Parked parts by the id that they wait for.
#[derive(Default)]
pub(super) struct Pending {
    /// The last part of the key tells parts apart that wait for the same id.
    parts: BTreeMap<(Id, u64), Bytes>,
    bytes: usize,
    sequence: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The parked bytes, with what keeping them takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `update` fits below `bytes_max` whatever it contains.
    pub(super) fn fits(&self, update: &[u8], bytes_max: usize) -> bool {
        update.len().saturating_mul(CHARGE_MAX).saturating_add(self.bytes) <= bytes_max
    }

    /// The parked parts, each an update of its own.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.values()
    }

    /// Parks `part` until `need` is known, unless it is parked already.
    pub(super) fn park(&mut self, need: Id, part: Vec<u8>) {
        let same_need = self.parts.range((need, 0)..=(need, u64::MAX));
        if same_need.into_iter().any(|(_, parked)| parked[..] == part[..]) {
            return;
        }
        self.bytes += charge(part.len());
        self.parts.insert((need, self.sequence), Bytes::from(part));
        self.sequence += 1;
    }

    /// Takes out a part that waited for a clock of `client` below `clock`.
    pub(super) fn take_ready(&mut self, client: u64, clock: u32) -> Option<Bytes> {
        let first = (Id { client, clock: 0 }, 0);
        let end = (Id { client, clock }, 0);
        let (&key, _) = self.parts.range(first..end).next()?;
        let part = self.parts.remove(&key)?;
        self.bytes -= charge(part.len());
        Some(part)
    }
}

/// What a part of `bytes` bytes is charged.
pub(super) fn charge(bytes: usize) -> usize {
    bytes + PART_BYTES
}

/// Reports what is left of `run` as updates of its own with the id that each waits for: one up to each
/// Skip, since yjs 13 loses what comes with a Skip.
pub(super) fn parts_of_run(update: &[u8], run: &Run, need: Id, mut on_part: impl FnMut(Id, Vec<u8>)) {
    let client = run.client;
    let mut reader = Reader::at(update, run.at);
    let mut first = (run.at, run.clock);
    let (mut clock, mut structs, mut need) = (run.clock, 0, need);
    for _ in 0..run.structs {
        let Ok(item) = Struct::read::<true>(&mut reader, client, clock) else { break };
        clock = item.end_clock();
        if item.kind() != SKIP {
            structs += 1;
            continue;
        }
        if structs > 0 {
            on_part(need, struct_part(client, first.1, structs, &update[first.0..item.start]));
        }
        first = (item.end, clock);
        structs = 0;
        need = Id { client, clock: clock.saturating_sub(1) };
    }
    if structs > 0 {
        on_part(need, struct_part(client, first.1, structs, &update[first.0..reader.position()]));
    }
}

fn struct_part(client: u64, clock: u32, structs: u32, encoded: &[u8]) -> Vec<u8> {
    let mut part = Vec::with_capacity(encoded.len() + 24);
    write_varuint(&mut part, 1);
    write_varuint(&mut part, u64::from(structs));
    write_varuint(&mut part, client);
    write_varuint(&mut part, u64::from(clock));
    part.extend_from_slice(encoded);
    write_varuint(&mut part, 0);
    part
}

/// An update that deletes `ranges` of `client`, given as start and length varints.
pub(super) fn delete_part(client: u64, count: u64, ranges: &[u8]) -> Vec<u8> {
    let mut part = Vec::with_capacity(ranges.len() + 24);
    write_varuint(&mut part, 0);
    write_varuint(&mut part, 1);
    write_varuint(&mut part, client);
    write_varuint(&mut part, count);
    part.extend_from_slice(ranges);
    part
}
