//! States and differences as updates of format 1, copied from the structs.

use super::client::ClientLog;
use super::journal::Cursor;
use super::pending::{self, Part};
use super::ranges::{Range, RangeSet};
use super::reader::write_varuint;
use super::scan::{self, ScanError};
use super::{HEAD_BYTES, StructLog};
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl StructLog {
    /// The state vector: every client with its clock.
    pub fn state_vector(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.clients.len() * HEAD_BYTES + 2);
        write_varuint(&mut out, self.clients.len() as u64);
        for client in self.ordered() {
            write_varuint(&mut out, client.id);
            write_varuint(&mut out, u64::from(client.clock()));
        }
        out
    }

    /// The full state, without what waits.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_from(&|_| 0)
    }

    /// The full state with what waits behind holes, which are Skips: for a store, which loses nothing by it, and `load`.
    /// Not for peers: yjs 13 reads past a Skip in its own way.
    pub fn encode_with_pending(&self) -> Vec<u8> {
        if self.pending.is_empty() {
            return self.encode();
        }
        let mut runs: BTreeMap<Reverse<u64>, Vec<&Part>> = BTreeMap::new();
        self.clients.iter().for_each(|client| drop(runs.insert(Reverse(client.id), Vec::new())));
        for part in self.pending.parts() {
            runs.entry(Reverse(part.run.client)).or_default().push(part);
        }
        let mut out = Vec::with_capacity(self.encoded_bytes() + self.pending.bytes());
        write_varuint(&mut out, runs.len() as u64);
        for (Reverse(client), parts) in &mut runs {
            parts.sort_by_key(|part| part.run.clock);
            let known = self.slot(*client).map(|slot| &self.clients[slot]);
            pending::write_block_with_parts(&mut out, *client, known, parts);
        }
        let mut deletes: BTreeMap<Reverse<u64>, RangeSet> = BTreeMap::new();
        let known = self.clients.iter().map(|client| (client.id, &client.deletes));
        for (client, ranges) in known.chain(self.pending.deletes()).filter(|(_, ranges)| ranges.len() > 0) {
            let all = deletes.entry(Reverse(client)).or_default();
            ranges.iter().for_each(|range| all.insert(range, |_| {}));
        }
        write_varuint(&mut out, deletes.len() as u64);
        deletes.iter().for_each(|(Reverse(client), ranges)| ranges.write(&mut out, *client));
        out
    }

    /// What a peer with this state vector lacks, with the whole delete set.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, ScanError> {
        let mut clocks = vec![0; self.clients.len()];
        scan::walk_state_vector(state_vector, |client, clock| {
            if let Some(slot) = self.slot(client) {
                clocks[slot] = clock;
            }
        })?;
        Ok(self.encode_from(&|slot| clocks[slot as usize]))
    }

    /// Everything that came after `cursor` as one update; the full state when the journal no longer tells.
    pub fn diff_since(&self, cursor: Cursor) -> Vec<u8> {
        let Some(changes) = self.journal.since(cursor) else { return self.encode() };
        let (mut added, mut deleted) = (Vec::new(), Vec::new());
        for change in changes {
            if change.deleted {
                deleted.push((change.slot, change.range));
            } else {
                added.push((change.slot, change.range.start));
            }
        }
        let id = |slot: u32| Reverse(self.clients[slot as usize].id);
        // A client's structs go from its first new clock to its end, so that its first change tells all.
        added.sort_unstable_by_key(|&(slot, clock)| (id(slot), clock));
        added.dedup_by_key(|&mut (slot, _)| slot);
        deleted.sort_unstable_by_key(|&(slot, range)| (id(slot), range.start));
        let mut out = Vec::new();
        write_varuint(&mut out, added.len() as u64);
        for (slot, clock) in added {
            self.clients[slot as usize].write_block(&mut out, clock);
        }
        self.write_ranges(&mut out, &mut deleted);
        out
    }

    /// Writes sorted ranges as a delete set, joining those that touch.
    fn write_ranges(&self, out: &mut Vec<u8>, deleted: &mut Vec<(u32, Range)>) {
        deleted.dedup_by(|next, last| {
            let joins = next.0 == last.0 && next.1.start <= last.1.end;
            if joins {
                last.1.end = last.1.end.max(next.1.end);
            }
            joins
        });
        let by_client = || deleted.chunk_by(|left, right| left.0 == right.0);
        write_varuint(out, by_client().count() as u64);
        for ranges in by_client() {
            write_varuint(out, self.clients[ranges[0].0 as usize].id);
            write_varuint(out, ranges.len() as u64);
            for (_, range) in ranges {
                write_varuint(out, u64::from(range.start));
                write_varuint(out, u64::from(range.end - range.start));
            }
        }
    }

    fn ordered(&self) -> impl Iterator<Item = &ClientLog> {
        self.order.iter().map(|&slot| &self.clients[slot as usize])
    }

    /// The state from the given clocks on.
    fn encode_from(&self, clock: &impl Fn(u32) -> u32) -> Vec<u8> {
        let lacking = || {
            let slots = self.order.iter().map(|&slot| (&self.clients[slot as usize], clock(slot)));
            slots.filter(|(client, clock)| *clock < client.clock())
        };
        let whole: usize = lacking().filter(|&(_, clock)| clock == 0).map(|(it, _)| it.block_bytes()).sum();
        let mut out = Vec::with_capacity(whole + self.delete_ranges * super::RANGE_BYTES + 16);
        write_varuint(&mut out, lacking().count() as u64);
        for (client, clock) in lacking() {
            client.write_block(&mut out, clock);
        }
        let deleting = || self.ordered().filter(|client| client.deletes.len() > 0);
        write_varuint(&mut out, deleting().count() as u64);
        deleting().for_each(|client| client.write_deletes(&mut out));
        out
    }
}
