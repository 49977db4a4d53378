//! All clients and documents of a measurement: what each has sent, what each has seen.
//!
//! The first members of a document are its writers; a member's client id is the document's base plus its index, so that
//! an arriving clock finds its writer without a look-up.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dialect::{self, Dialect, Inbound};
use crate::latency::Waits;
use crate::net::Receiver;
use crate::scan;
use crate::trace::{self, CLIENT_ID_START, Trace};
use crate::wire::{Cursor, opcode, put_client_frame};

/// Client ids that one document has to itself.
const MEMBERS_PER_DOCUMENT_MAX: u64 = 4096;
/// Faults that are kept with their text; the rest are only counted.
const FAULTS_KEPT_MAX: usize = 10;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The handshake, the token or the first sync is under way.
    Joining,
    /// It has what the server had.
    Synced,
    /// It ended, by its own will or not.
    Closed,
}

pub(super) enum Awaited {
    SyncStep2,
    Update { due: u64 },
}

/// One connection.
pub struct Client {
    pub(super) document: usize,
    /// Its index in the document; `None` for a reader that only looks.
    pub(super) member: Option<usize>,
    /// How far it has come.
    pub stage: Stage,
    /// When it was told to connect.
    pub started_at: u64,
    /// When it had the document.
    pub synced_at: u64,
    pub(super) seen: Vec<u32>,
    pub(super) gaps: Vec<(usize, u32, u32)>,
    pub(super) awaited: VecDeque<Awaited>,
    pub(super) presence_seen: Vec<u32>,
    /// The updates it was sent, when somebody wants to look at them.
    pub(super) kept: Option<Vec<Vec<u8>>>,
    /// Its own presence clock.
    pub(super) presence_clock: u32,
    /// A stalled client is not counted in latencies.
    pub(super) is_stalled: bool,
}

/// One document.
pub struct Document {
    /// Its name.
    pub name: String,
    pub(super) prefix: Vec<u8>,
    pub(super) base: u64,
    /// For each writer, when each of its updates was due.
    pub(super) due: Vec<Vec<u64>>,
    /// For each member whose presence is checked, when each of its states was due.
    pub(super) presence_due: Vec<Vec<u64>>,
}

/// What was counted while recording.
#[derive(Default)]
pub struct Counts {
    /// Updates that reached a connection other than their writer's.
    pub deliveries: u64,
    /// Frames that carried them.
    pub frames: u64,
    /// Updates sent.
    pub updates: u64,
    /// Updates acked.
    pub acks: u64,
    /// From due to read.
    pub latency: Waits,
    /// From due to acked.
    pub ack_latency: Waits,
    /// Presence states sent.
    pub presence_updates: u64,
    /// Presence states of checked members that reached another connection.
    pub presence_deliveries: u64,
    /// From due to read.
    pub presence_latency: Waits,
}

/// All of it.
pub struct World {
    pub(super) dialect: Dialect,
    /// The documents.
    pub documents: Vec<Document>,
    /// The clients, by the id of their connection.
    pub clients: Vec<Client>,
    /// See [`Counts`].
    pub counts: Counts,
    /// Whether arrivals are counted now.
    pub recording: bool,
    /// Until when a writer whose update was acked sends the next one.
    pub closed_loop_until: u64,
    /// Clients that have synced, ever.
    pub synced: usize,
    /// Writers that ran out of prepared updates.
    pub exhausted: u64,
    /// Whether a sync step 2 is kept once per distinct content, for comparison.
    pub compares_joins: bool,
    pub(super) distinct_joins: Vec<Vec<u8>>,
    pub(super) trace: Arc<Trace>,
    pub(super) faults: Vec<String>,
    pub(super) fault_count: u64,
    update: Vec<u8>,
    payload: Vec<u8>,
    state: String,
}

impl World {
    /// Nobody yet.
    pub fn new(dialect: Dialect, trace: Arc<Trace>) -> Self {
        Self {
            dialect,
            documents: Vec::new(),
            clients: Vec::new(),
            counts: Counts::default(),
            recording: false,
            closed_loop_until: 0,
            synced: 0,
            exhausted: 0,
            compares_joins: false,
            distinct_joins: Vec::new(),
            trace,
            faults: Vec::new(),
            fault_count: 0,
            update: Vec::new(),
            payload: Vec::new(),
            state: String::new(),
        }
    }

    /// Adds a document with so many writers, and so many members whose presence is checked.
    pub fn add_document(&mut self, name: String, writers: usize, presences: usize) -> usize {
        let index = self.documents.len();
        self.documents.push(Document {
            prefix: self.dialect.prefix(&name),
            name,
            base: CLIENT_ID_START + index as u64 * MEMBERS_PER_DOCUMENT_MAX,
            due: vec![Vec::new(); writers],
            presence_due: vec![Vec::new(); presences],
        });
        index
    }

    pub(super) fn add_client(&mut self, document: usize, member: Option<usize>, now: u64) {
        let of = &self.documents[document];
        self.clients.push(Client {
            document,
            member,
            stage: Stage::Joining,
            started_at: now,
            synced_at: 0,
            seen: vec![0; of.due.len()],
            gaps: Vec::new(),
            awaited: VecDeque::new(),
            presence_seen: vec![0; of.presence_due.len()],
            kept: None,
            presence_clock: 0,
            is_stalled: false,
        });
    }

    pub(super) fn fault(&mut self, text: impl FnOnce() -> String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT_MAX {
            self.faults.push(text());
        }
    }

    /// Lets a writer type its next character, due at the given time.
    pub fn type_next(&mut self, id: usize, due: u64, out: &mut Vec<u8>) {
        let client = &mut self.clients[id];
        let document = &mut self.documents[client.document];
        let Some(member) = client.member.filter(|_| client.stage == Stage::Synced) else { return };
        let sent = document.due[member].len();
        if sent >= self.trace.updates() {
            self.exhausted += 1;
            return;
        }
        document.due[member].push(due);
        self.update.clear();
        self.trace.put(sent, document.base + member as u64, &mut self.update);
        self.payload.clear();
        self.payload.extend_from_slice(&document.prefix);
        dialect::put_update(&mut self.payload, &self.update);
        put_client_frame(out, opcode::BINARY, &self.payload);
        client.awaited.push_back(Awaited::Update { due });
        self.counts.updates += u64::from(self.recording);
    }

    /// Sends an update that is not one of the trace.
    pub(super) fn send_update(&mut self, id: usize, update: &[u8], out: &mut Vec<u8>) {
        self.reply(id, out, |payload| dialect::put_update(payload, update));
        if self.dialect == Dialect::Hocuspocus {
            self.clients[id].awaited.push_back(Awaited::Update { due: 0 });
        }
    }

    /// Whether everything that a client sent was acked.
    pub(super) fn has_acks(&self, id: usize) -> bool {
        self.clients[id].awaited.is_empty()
    }

    /// What the clients speak.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The distinct first syncs that clients were sent.
    pub fn joins(&self) -> &[Vec<u8>] {
        &self.distinct_joins
    }

    /// Lets a member move its cursor, due at the given time.
    pub fn show_presence(&mut self, id: usize, due: u64, out: &mut Vec<u8>) {
        let client = &mut self.clients[id];
        let document = &mut self.documents[client.document];
        let Some(member) = client.member.filter(|_| client.stage == Stage::Synced) else { return };
        client.presence_clock += 1;
        if let Some(times) = document.presence_due.get_mut(member) {
            times.push(due);
        }
        self.update.clear();
        trace::put_awareness(
            &mut self.update,
            document.base + member as u64,
            client.presence_clock,
            &mut self.state,
        );
        self.payload.clear();
        self.payload.extend_from_slice(&document.prefix);
        dialect::put_awareness(&mut self.payload, &self.update);
        put_client_frame(out, opcode::BINARY, &self.payload);
        self.counts.presence_updates += u64::from(self.recording);
    }

    /// Lets a client show that it is there: Hocuspocus closes those from whom it hears nothing for a minute, and the
    /// presence of real providers speaks up more often than that.
    pub fn keep_alive(&mut self, id: usize, out: &mut Vec<u8>) {
        if self.clients[id].stage == Stage::Synced && !self.clients[id].is_stalled {
            self.reply(id, out, dialect::put_query_awareness);
        }
    }

    fn reply(&mut self, id: usize, out: &mut Vec<u8>, compose: impl FnOnce(&mut Vec<u8>)) {
        self.payload.clear();
        self.payload.extend_from_slice(&self.documents[self.clients[id].document].prefix);
        compose(&mut self.payload);
        put_client_frame(out, opcode::BINARY, &self.payload);
    }

    fn take(&mut self, id: usize, payload: &[u8], out: &mut Vec<u8>, now: u64) -> anyhow::Result<()> {
        let document = self.clients[id].document;
        match self.dialect.parse(&self.documents[document].prefix, payload)? {
            Inbound::Authenticated => self.reply(id, out, dialect::put_sync_step_1),
            Inbound::SyncStep1 => {
                self.reply(id, out, dialect::put_empty_sync_step_2);
                if self.dialect == Dialect::Hocuspocus {
                    self.clients[id].awaited.push_back(Awaited::SyncStep2);
                }
            }
            Inbound::SyncStep2(update) => {
                if self.compares_joins && !self.distinct_joins.iter().any(|known| known == update) {
                    self.distinct_joins.push(update.to_vec());
                }
                let client = &mut self.clients[id];
                if client.stage == Stage::Joining {
                    client.stage = Stage::Synced;
                    client.synced_at = now;
                    self.synced += 1;
                }
                self.arrived(id, update, None, out)?;
            }
            Inbound::Update(update) => self.arrived(id, update, Some(now), out)?,
            Inbound::Ack => self.acked(id, now, out)?,
            Inbound::Awareness(states) => self.presence_arrived(id, states, now)?,
            Inbound::Ignored => {}
        }
        Ok(())
    }

    fn acked(&mut self, id: usize, now: u64, out: &mut Vec<u8>) -> anyhow::Result<()> {
        match self.clients[id].awaited.pop_front() {
            Some(Awaited::SyncStep2) => {}
            Some(Awaited::Update { due }) => {
                if self.recording && !self.clients[id].is_stalled {
                    self.counts.acks += 1;
                    self.counts.ack_latency.record(now.saturating_sub(due));
                }
                if now < self.closed_loop_until {
                    self.type_next(id, now, out);
                }
            }
            None => anyhow::bail!("an ack for nothing"),
        }
        Ok(())
    }

    /// Notes the clocks of an update; `live` is the time of arrival unless it was part of the first sync.
    fn arrived(
        &mut self,
        id: usize,
        update: &[u8],
        live: Option<u64>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let client = &mut self.clients[id];
        let document = &self.documents[client.document];
        if let Some(kept) = &mut client.kept {
            kept.push(update.to_vec());
        }
        if document.due.is_empty() {
            return Ok(());
        }
        let per_update = self.trace.chars_per_update;
        // Somebody who only looks may be sent a log of what is long past; it would pass for late deliveries.
        let counted = live.filter(|_| self.recording && !client.is_stalled && client.member.is_some());
        let deliveries_before = self.counts.deliveries;
        let mut own_end = None;
        let mut unsent = None;
        scan::clocks(update, |clocks| {
            let writer = clocks.client.wrapping_sub(document.base) as usize;
            let Some(due) = document.due.get(writer) else { return };
            if clocks.end as usize > due.len() * per_update as usize {
                unsent = Some(clocks);
                return;
            }
            let seen = &mut client.seen[writer];
            if clocks.start > *seen {
                client.gaps.push((writer, *seen, clocks.start));
            } else if clocks.start < *seen && !client.gaps.is_empty() {
                fill(&mut client.gaps, writer, clocks.start, clocks.end);
            }
            let from = clocks.start.max(*seen);
            if clocks.end <= from {
                return;
            }
            *seen = clocks.end;
            if client.member == Some(writer) {
                own_end = Some(clocks.end);
                return;
            }
            if let Some(now) = counted {
                for at in &due[(from / per_update) as usize..clocks.end.div_ceil(per_update) as usize] {
                    self.counts.latency.record(now.saturating_sub(*at));
                    self.counts.deliveries += 1;
                }
            }
        })?;
        self.counts.frames += u64::from(self.counts.deliveries > deliveries_before);
        anyhow::ensure!(unsent.is_none(), "clocks that nobody sent: {unsent:?}");
        if let (Dialect::YWebsocket, Some(end), Some(now)) = (self.dialect, own_end, live) {
            // The echo is the only sign that the server has it.
            for _ in 0..self.clients[id].awaited.len().saturating_sub(
                self.documents[self.clients[id].document].due[self.clients[id].member.unwrap_or(0)].len()
                    - (end / per_update) as usize,
            ) {
                self.acked(id, now, out)?;
            }
        }
        Ok(())
    }

    fn presence_arrived(&mut self, id: usize, states: &[u8], now: u64) -> anyhow::Result<()> {
        let client = &mut self.clients[id];
        let document = &self.documents[client.document];
        if document.presence_due.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::new(states);
        let short = || anyhow::anyhow!("an awareness update that ends early");
        for _ in 0..cursor.uint().ok_or_else(short)? {
            let of = cursor.uint().ok_or_else(short)?;
            let clock = cursor.uint().ok_or_else(short)? as u32;
            cursor.bytes().ok_or_else(short)?;
            let member = of.wrapping_sub(document.base) as usize;
            let Some(due) = document.presence_due.get(member) else { continue };
            if client.member == Some(member) || clock <= client.presence_seen[member] {
                continue;
            }
            client.presence_seen[member] = clock;
            if self.recording
                && !client.is_stalled
                && let Some(at) = due.get(clock as usize - 1)
            {
                self.counts.presence_deliveries += 1;
                self.counts.presence_latency.record(now.saturating_sub(*at));
            }
        }
        Ok(())
    }
}

/// Takes `start..end` out of what a writer's clocks lack.
fn fill(gaps: &mut Vec<(usize, u32, u32)>, writer: usize, start: u32, end: u32) {
    let mut rest = Vec::new();
    gaps.retain(|&(of, from, to)| {
        if of != writer || to <= start || end <= from {
            return true;
        }
        rest.extend([(of, from, start), (of, end, to)].into_iter().filter(|(_, from, to)| from < to));
        false
    });
    gaps.append(&mut rest);
}

impl Receiver for World {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>, _now: u64) {
        match self.dialect {
            Dialect::Hocuspocus => self.reply(id, out, dialect::put_auth),
            Dialect::YWebsocket => self.reply(id, out, dialect::put_sync_step_1),
        }
    }

    fn message(&mut self, id: usize, payload: &[u8], out: &mut Vec<u8>, now: u64) {
        if let Err(error) = self.take(id, payload, out, now) {
            self.fault(|| format!("connection {id}: {error:#}"));
        }
    }

    fn closed(&mut self, id: usize, why: &str) {
        let was = std::mem::replace(&mut self.clients[id].stage, Stage::Closed);
        if !self.clients[id].is_stalled {
            self.fault(|| format!("connection {id} ended while {was:?}: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn a_gap_is_filled_from_either_side_and_in_the_middle() {
        let mut gaps = vec![(0, 10, 20), (1, 10, 20)];
        fill(&mut gaps, 0, 14, 16);
        assert_eq!(gaps, [(1, 10, 20), (0, 10, 14), (0, 16, 20)]);
        fill(&mut gaps, 0, 5, 15);
        fill(&mut gaps, 0, 16, 30);
        assert_eq!(gaps, [(1, 10, 20)]);
    }
}
