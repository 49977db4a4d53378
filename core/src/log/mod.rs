//! The struct log: a Yjs document as the encoded structs of its clients, without a CRDT.
//!
//! It keeps per client the structs in clock order and the deleted ranges, judges every update against them, and
//! encodes states and differences by copying. It never integrates: where an item ends up among its
//! neighbours is the readers' business. It knows no clock, no IO and no yrs; `CONTENT.md` says what it accepts.

mod client;
mod compact;
mod container;
mod content;
mod encode;
mod journal;
mod json;
mod lists;
mod nesting;
mod pending;
mod ranges;
mod reader;
mod resolve;
mod scan;
mod structs;
mod walk;

pub use journal::Cursor;
pub use lists::WideCharacters;
pub use scan::{Malformed, ScanError, UpdateSummary, scan_state_vector, scan_update};

use bytes::Bytes;
use client::ClientLog;
use content::{DELETED, GC};
use hashbrown::HashMap;
use journal::{Change, Journal};
use pending::Pending;
use ranges::Range;
use reader::Reader;
use resolve::{Found, Run, Sink};
use scan::{Empties, One};
use structs::{CutRange, Struct};

/// Bytes of a delete range, about: what `encoded_bytes` counts for one.
const RANGE_BYTES: usize = 6;

/// Bytes of a client's head in a state, about.
const HEAD_BYTES: usize = 12;

/// How a log treats deleted content and updates that have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether `compact` removes deleted content. Default: true.
    pub gc: bool,
    /// How many bytes of updates may wait for missing ones. Default: 4 MiB.
    pub pending_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { gc: true, pending_bytes_max: 4 << 20 }
    }
}

/// What an update is to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of it is known now, and some of it was not before.
    New,
    /// All of it was known before.
    Known,
    /// Some of it refers to what is unknown, and waits. The rest of it was taken.
    Pending,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the update was to the log.
    pub verdict: Verdict,
    /// Whether the bytes of this update are not what peers need, but `diff_since` is: earlier updates that waited
    /// were taken with it, or it has holes (Skips), which no peer may get.
    pub unparked: bool,
}

/// A document as encoded structs.
pub struct StructLog {
    options: LogOptions,
    clients: Vec<ClientLog>,
    slots: HashMap<u64, u32>,
    /// The clients' slots by descending id, the order in which yjs writes them.
    order: Vec<u32>,
    /// The slot that was asked for last.
    last: u32,
    journal: Journal,
    pending: Pending,
    /// Clients whose clock advanced while updates wait.
    advanced: Vec<u32>,
    struct_bytes: usize,
    delete_ranges: usize,
    /// Something was deleted since the last compaction.
    compactable: bool,
}

impl StructLog {
    /// Creates an empty log.
    pub fn new(options: LogOptions) -> Self {
        Self {
            options,
            clients: Vec::new(),
            slots: HashMap::new(),
            order: Vec::new(),
            last: 0,
            journal: Journal::default(),
            pending: Pending::default(),
            advanced: Vec::new(),
            struct_bytes: 0,
            delete_ranges: 0,
            compactable: false,
        }
    }

    /// Loads a stored state. What it holds beyond gaps waits, whatever the limit: it is stored already.
    /// Unlike `apply`, it accepts structs of no length, which some old writer may have left.
    pub fn load(options: LogOptions, update: &[u8]) -> Result<Self, ScanError> {
        Self::load_state(options, update).map(|(log, _)| log)
    }

    /// As [`Self::load`]; also whether a peer that has nothing may be sent these bytes as they are.
    pub fn load_state(options: LogOptions, update: &[u8]) -> Result<(Self, bool), ScanError> {
        let mut log = Self::new(options);
        let strict = log.absorb(update, Empties::Refused);
        let whole = matches!(strict, Ok((Verdict::New, false)));
        if strict.is_err() {
            log = Self::new(options);
            log.absorb(update, Empties::Dropped)?;
        }
        log.retry_parked()?;
        log.list_clients();
        log.clients.iter_mut().for_each(ClientLog::shrink);
        log.journal.trim(log.cursor());
        Ok((log, whole))
    }

    /// Takes one peer's update. Malformed ones change nothing. On `PendingFull` nothing was taken either.
    ///
    /// Only a `New` update without `unparked` may be relayed as its own bytes; after any other, `diff_since`
    /// an earlier cursor says what peers lack.
    pub fn apply(&mut self, update: &[u8]) -> Result<Applied, ScanError> {
        if !self.pending.fits(update, self.options.pending_bytes_max) {
            let trial = self.trial(update)?;
            if trial.parked > 0 && self.pending.bytes() + trial.parked > self.options.pending_bytes_max {
                return Err(ScanError::PendingFull);
            }
        }
        let taken = match self.absorb_one(update) {
            Some(verdict) => verdict.map(|verdict| (verdict, false)),
            None => self.absorb(update, Empties::Refused),
        };
        let unparked = self.retry_parked();
        self.list_clients();
        let (verdict, holes) = taken?;
        Ok(Applied { verdict, unparked: unparked? || holes && verdict == Verdict::New })
    }

    /// Judges an update without taking it, as for a session that may only read.
    pub fn verdict(&self, update: &[u8]) -> Result<Verdict, ScanError> {
        Ok(self.trial(update)?.verdict)
    }

    /// Updates that wait, each complete: a joiner gets them after the state, and may have what they miss.
    pub fn pending(&self) -> impl Iterator<Item = &Bytes> {
        self.pending.iter()
    }

    /// How much of `pending_bytes_max` is taken: the waiting bytes, with some for keeping each.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Changes how many bytes may wait from now on; what waits already stays.
    pub fn set_pending_bytes_max(&mut self, bytes: usize) {
        self.options.pending_bytes_max = bytes;
    }

    /// The position after the last change.
    pub fn cursor(&self) -> Cursor {
        self.journal.cursor()
    }

    /// Forgets the order of what came before `before`; `diff_since` an older cursor gives the full state.
    pub fn trim_journal(&mut self, before: Cursor) {
        self.journal.trim(before);
    }

    /// About as many bytes as `encode` gives.
    pub fn encoded_bytes(&self) -> usize {
        self.struct_bytes + self.delete_ranges * RANGE_BYTES + self.clients.len() * HEAD_BYTES + 2
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        let clients: usize = self.clients.iter().map(ClientLog::memory_bytes).sum();
        size_of::<Self>()
            + clients
            + self.clients.capacity() * size_of::<ClientLog>()
            + self.slots.allocation_size()
            + self.order.capacity() * size_of::<u32>()
            + self.journal.memory_bytes()
            + self.pending.bytes()
    }

    /// Whether nothing was ever taken and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.pending.is_empty()
    }

    /// Takes an update of one struct that nothing is missing for. `None`: the update is another, and untouched.
    #[inline]
    fn absorb_one(&mut self, update: &[u8]) -> Option<Result<Verdict, ScanError>> {
        let One { client, item, deletes, delete_ranges } = scan::walk_one(update)?;
        let slot = self.slot(client);
        let clock = slot.map_or(0, |slot| self.clients[slot].clock());
        let before = self.cursor();
        if item.end_clock() > clock {
            if item.clock > clock || resolve::missing(&item, client, self).is_some() {
                return None;
            }
            let slot = slot.unwrap_or_else(|| self.add_client(client));
            self.last = slot as u32;
            let known = clock - item.clock;
            let found = Found { client, source: update, item: &item, known, ahead: 0 };
            if let Err(error) = self.push(found) {
                return Some(Err(error));
            }
        }
        let parked = match delete_ranges {
            0 => Ok(false),
            _ => self.absorb_deletes(update, deletes),
        };
        Some(parked.map(|parked| self.verdict_since(before, parked)))
    }

    #[inline]
    fn verdict_since(&self, before: Cursor, parked: bool) -> Verdict {
        match parked {
            true => Verdict::Pending,
            false if before == self.cursor() => Verdict::Known,
            false => Verdict::New,
        }
    }

    /// Scans an update and takes all of it that can be; the rest is parked. Also returns whether it has holes.
    fn absorb(&mut self, update: &[u8], empties: Empties) -> Result<(Verdict, bool), ScanError> {
        let mut runs = Runs::default();
        let walk = scan::walk(update, empties, |block| runs.push(block.into()))?;
        let before = self.cursor();
        let mut parked = false;
        if let Some(runs) = runs.as_mut_slice() {
            resolve::resolve(update, runs, self)?;
            for run in runs {
                if let Some(slot) = self.slot(run.client) {
                    self.clients[slot].shrink_spare();
                }
                let Some(need) = run.need else { continue };
                parked = true;
                pending::parts_of_run(update, run, need, |need, part, end| {
                    self.pending.park(need, part, end)
                });
            }
        }
        if walk.summary.delete_ranges > 0 {
            parked |= self.absorb_deletes(update, walk.deletes)?;
        }
        Ok((self.verdict_since(before, parked), walk.summary.skips > 0))
    }

    /// Takes the delete set of a scanned update; returns whether some of it was parked.
    fn absorb_deletes(&mut self, update: &[u8], at: usize) -> Result<bool, ScanError> {
        let mut parked = false;
        scan::walk_deletes(&mut Reader::at(update, at), Empties::Dropped, |client, start, end| {
            let slot = self.slot(client);
            let clock = slot.map_or(0, |slot| self.clients[slot].clock());
            if let Some(slot) = slot.filter(|_| start < clock) {
                self.delete(slot, Range { start, end: end.min(clock) });
            }
            if clock < end {
                parked = true;
                self.pending.park_delete(client, Range { start: start.max(clock), end });
            }
        })?;
        Ok(parked)
    }

    fn delete(&mut self, slot: usize, range: Range) {
        let Self { clients, journal, compactable, .. } = self;
        let deletes = &mut clients[slot].deletes;
        let before = deletes.len();
        deletes.insert(range, |range| {
            journal.record(Change { slot: slot as u32, deleted: true, range });
            *compactable = true;
        });
        self.delete_ranges = self.delete_ranges + deletes.len() - before;
    }

    /// Takes what waited for the clients that advanced, and what that lets go; returns whether any was.
    #[inline]
    fn retry_parked(&mut self) -> Result<bool, ScanError> {
        let before = self.cursor();
        let mut ready = false;
        while let Some(slot) = self.advanced.pop() {
            let (client, clock) = (self.clients[slot as usize].id, self.clients[slot as usize].clock());
            while let Some(range) = self.pending.take_delete(client, clock) {
                ready = true;
                self.delete(slot as usize, range);
            }
            while let Some((mut part, end)) = self.pending.take_ready(client, clock) {
                ready = true;
                resolve::resolve(&part.update, std::slice::from_mut(&mut part.run), self)?;
                if let Some(slot) = self.slot(part.run.client) {
                    self.clients[slot].shrink_spare();
                }
                if let Some(need) = part.run.need {
                    self.pending.park(need, part, end);
                }
            }
        }
        Ok(ready && before != self.cursor())
    }

    /// Where `client` is, if it has structs.
    #[inline]
    fn slot(&self, client: u64) -> Option<usize> {
        match self.clients.get(self.last as usize) {
            Some(last) if last.id == client => Some(self.last as usize),
            _ => self.slots.get(&client).map(|&slot| slot as usize),
        }
    }

    fn add_client(&mut self, client: u64) -> usize {
        let slot = self.clients.len();
        self.clients.push(ClientLog::new(client));
        self.slots.insert(client, slot as u32);
        slot
    }

    /// Lists clients that were added. All at once, since an update may bring very many.
    #[inline]
    fn list_clients(&mut self) {
        let listed = self.order.len();
        if listed < self.clients.len() {
            let clients = &self.clients;
            self.order.extend(listed as u32..clients.len() as u32);
            self.order.sort_by_key(|&slot| std::cmp::Reverse(clients[slot as usize].id));
        }
    }

    /// What `apply` would do.
    fn trial(&self, update: &[u8]) -> Result<Trial, ScanError> {
        let mut runs = Runs::default();
        let walk = scan::walk(update, Empties::Refused, |block| runs.push(block.into()))?;
        let mut trial = TrialSink { log: self, clocks: HashMap::new() };
        let mut parked = 0;
        if let Some(runs) = runs.as_mut_slice() {
            resolve::resolve(update, runs, &mut trial)?;
            for run in runs {
                let Some(need) = run.need else { continue };
                pending::parts_of_run(update, run, need, |_, part, _| {
                    parked += pending::charge(part.update.len())
                });
            }
        }
        let mut new = !trial.clocks.is_empty();
        let mut previous = None;
        scan::walk_deletes(&mut Reader::at(update, walk.deletes), Empties::Dropped, |client, start, end| {
            let clock = trial.clock(client);
            if clock < end {
                // The head counts once per client.
                let again = previous.replace(client) == Some(client);
                parked += pending::charge_deletes(1) - if again { pending::charge_deletes(0) } else { 0 };
            }
            let range = Range { start, end: end.min(clock) };
            let known = |slot: usize| self.clients[slot].deletes.covers(range);
            new |= start < clock && !self.slot(client).is_some_and(known);
        })?;
        let verdict = match parked {
            0 if new => Verdict::New,
            0 => Verdict::Known,
            _ => Verdict::Pending,
        };
        Ok(Trial { verdict, parked })
    }
}

impl Sink for StructLog {
    #[inline]
    fn clock(&self, client: u64) -> u32 {
        self.slot(client).map_or(0, |slot| self.clients[slot].clock())
    }

    #[inline]
    fn push(&mut self, found: Found<'_>) -> Result<(), ScanError> {
        let Found { client, source, item, known, ahead } = found;
        let slot = self.slot(client).unwrap_or_else(|| self.add_client(client));
        self.last = slot as u32;
        let log = &mut self.clients[slot];
        let (start, bytes) = (log.clock(), log.bytes().len());
        if ahead > RESERVE_BYTES_MIN {
            log.reserve(ahead);
        }
        if known == 0 {
            log.push(source, item)?;
        } else {
            let mut cut = Vec::with_capacity(item.end - item.start + 24);
            item.write_cut(&mut cut, source, client, CutRange { from: known, to: item.len, deleted: false });
            let rest = Struct::read::<true>(&mut Reader::at(&cut, 0), client, item.clock + known)?;
            log.push(&cut, &rest)?;
        }
        // A squash writes a length anew, which a peer may have written longer than it has to be.
        self.struct_bytes = self.struct_bytes + log.bytes().len() - bytes;
        let range = Range { start, end: log.clock() };
        if matches!(item.kind(), GC | DELETED) {
            let before = log.deletes.len();
            log.deletes.insert(range, |_| {});
            self.delete_ranges = self.delete_ranges + log.deletes.len() - before;
        }
        self.journal.record(Change { slot: slot as u32, deleted: false, range });
        if !self.pending.is_empty() && self.advanced.last() != Some(&(slot as u32)) {
            self.advanced.push(slot as u32);
        }
        Ok(())
    }
}

/// Bytes of a block worth making room for at once.
const RESERVE_BYTES_MIN: usize = 4096;

struct Trial {
    verdict: Verdict,
    parked: usize,
}

/// A log as it would be after what was pushed.
struct TrialSink<'a> {
    log: &'a StructLog,
    clocks: HashMap<u64, u32>,
}

impl Sink for TrialSink<'_> {
    fn clock(&self, client: u64) -> u32 {
        self.clocks.get(&client).copied().unwrap_or_else(|| self.log.clock(client))
    }

    fn push(&mut self, found: Found<'_>) -> Result<(), ScanError> {
        self.clocks.insert(found.client, found.item.end_clock());
        Ok(())
    }
}

/// The blocks of an update; nearly all have one, which takes no heap.
#[derive(Default)]
struct Runs {
    first: Option<Run>,
    many: Vec<Run>,
}

impl Runs {
    #[inline]
    fn push(&mut self, run: Run) {
        match self.first.take() {
            None if self.many.is_empty() => self.first = Some(run),
            first => {
                self.many.extend(first);
                self.many.push(run);
            }
        }
    }

    #[inline]
    fn as_mut_slice(&mut self) -> Option<&mut [Run]> {
        match self.first.as_mut() {
            Some(first) => Some(std::slice::from_mut(first)),
            None if self.many.is_empty() => None,
            None => Some(&mut self.many),
        }
    }
}
