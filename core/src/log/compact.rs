//! Compaction: deleted content becomes what yjs' own garbage collection leaves of it.
//!
//! A deleted struct keeps its place but loses its content (`ContentDeleted`). What lives in a deleted type loses its
//! place too (`GC`), since nothing visible can ever be there again. Both read the same for every yjs peer.

use super::StructLog;
use super::client::ClientLog;
use super::container;
use super::content::{DELETED, GC};
use super::ranges::Range;
use super::reader::{Reader, write_varuint};
use super::scan::ScanError;
use super::structs::{CutRange, Struct};

impl StructLog {
    /// Removes deleted content where that saves bytes. Without `gc`, or with nothing newly deleted, it does nothing.
    /// Clocks, cursors and verdicts stay as they are.
    pub fn compact(&mut self) {
        if !self.options.gc || !self.compactable {
            return;
        }
        self.compactable = false;
        let dead = container::dead_structs(&self.clients, |client| self.slot(client));
        for (slot, client) in self.clients.iter_mut().enumerate() {
            let dead = dead.as_ref().map(|dead| &dead[slot][..]);
            if dead.is_none() && client.deletes.len() == 0 {
                continue;
            }
            // A client whose structs cannot be written anew keeps them: larger, and just as right.
            let Ok(compacted) = compact_client(client, dead.unwrap_or_default()) else { continue };
            let deletes = std::mem::take(&mut client.deletes);
            *client = compacted;
            client.deletes.absorb_all(deletes);
        }
        self.struct_bytes = self.clients.iter().map(|client| client.bytes().len()).sum();
        self.delete_ranges = self.clients.iter().map(|client| client.deletes.len()).sum();
    }
}

/// Writes the structs of `client` anew; `dead` tells by ordinal which live in a deleted type. The deletes of the
/// result are those that `client` lacks.
fn compact_client(client: &ClientLog, dead: &[bool]) -> Result<ClientLog, ScanError> {
    let mut compacted = ClientLog::new(client.id);
    compacted.reserve(client.bytes().len());
    let mut scratch = Vec::new();
    let mut deletes = client.deletes.iter().peekable();
    for (ordinal, item) in client.iter().enumerate() {
        let (start, end) = (item.clock, item.end_clock());
        while deletes.next_if(|range| range.end <= start).is_some() {}
        if item.kind() != GC && dead.get(ordinal).is_some_and(|dead| *dead) {
            scratch.clear();
            scratch.push(GC);
            write_varuint(&mut scratch, u64::from(item.len));
            push_all(&mut compacted, &scratch, start)?;
            compacted.deletes.insert(Range { start, end }, |_| {});
            continue;
        }
        let deleted = deletes.peek().is_some_and(|range| range.start < end);
        if !deleted || matches!(item.kind(), GC | DELETED) {
            compacted.push(client.bytes(), &item)?;
            continue;
        }
        scratch.clear();
        // The last range may reach into the next struct, so that the iterator stays before it.
        write_pieces(&mut scratch, client, &item, deletes.clone());
        if scratch.len() <= item.end - item.start {
            push_all(&mut compacted, &scratch, start)?;
        } else {
            compacted.push(client.bytes(), &item)?;
        }
    }
    compacted.shrink();
    Ok(compacted)
}

/// Writes `item` split at the borders of `deletes`, with the parts inside of them as `ContentDeleted`.
fn write_pieces(out: &mut Vec<u8>, client: &ClientLog, item: &Struct, deletes: impl Iterator<Item = Range>) {
    let mut from = 0;
    let mut write = |from: u32, to: u32, deleted: bool| {
        if from < to {
            item.write_cut(out, client.bytes(), client.id, CutRange { from, to, deleted });
        }
    };
    for range in deletes.take_while(|range| range.start < item.end_clock()) {
        let start = range.start.max(item.clock) - item.clock;
        let end = range.end.min(item.end_clock()) - item.clock;
        write(from, start, false);
        write(start, end, true);
        from = end;
    }
    write(from, item.len, false);
}

/// Pushes the structs that `encoded` consists of, the first of which starts at `clock`.
fn push_all(client: &mut ClientLog, encoded: &[u8], mut clock: u32) -> Result<(), ScanError> {
    let mut reader = Reader::at(encoded, 0);
    while reader.remaining() > 0 {
        let item = Struct::read::<true>(&mut reader, client.id, clock)?;
        clock = item.end_clock();
        client.push(encoded, &item)?;
    }
    Ok(())
}
