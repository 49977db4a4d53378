//! A server around a struct log with clients and followers that are yjs documents, on a bad network. Shared by the
//! tests of the log.

use super::log::{Cursor, LogOptions, StructLog, Verdict, scan_state_vector, scan_update};
use super::oracle::{Oracle, Turn};
use super::random::Random;
use std::fmt;
use std::str::FromStr;

/// Features of a case, shared with `edits.mjs` and `oracle.mjs`.
pub const FEATURES: u64 = (1 << 13) - 1;
const NO_GC: u64 = 1024;

/// Followers of the server, each told of changes in its own way.
const RELAY: u64 = 0;
const FLUSH: u64 = 1;
const SLOW: u64 = 2;
const RECONNECT: u64 = 3;
const JOINERS: u64 = 10;

/// One run, determined by these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub seed: u64,
    pub clients: u64,
    pub rounds: u64,
    pub edits: u64,
    pub features: u64,
}

impl Case {
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let features = random.next() & FEATURES;
        let (clients, rounds, edits) = (2 + random.below(5), 1 + random.below(7), 1 + random.below(6));
        Self { seed, clients, rounds, edits, features }
    }

    /// Smaller cases to try when this one fails.
    pub fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        let mut add = |case: Self| found.push(case);
        (1..self.rounds).rev().take(2).for_each(|rounds| add(Self { rounds, ..*self }));
        (2..self.clients).rev().take(2).for_each(|clients| add(Self { clients, ..*self }));
        (1..self.edits).rev().take(2).for_each(|edits| add(Self { edits, ..*self }));
        for bit in (0..13).filter(|bit| self.features >> bit & 1 == 1) {
            add(Self { features: self.features & !(1 << bit), ..*self });
        }
        found
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, clients, rounds, edits, features } = self;
        write!(formatter, "{seed} {clients} {rounds} {edits} {features}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[seed, clients, rounds, edits, features]) => {
                Ok(Self { seed, clients, rounds, edits, features })
            }
            _ => Err(format!("not a case: {line}")),
        }
    }
}

/// Runs `case` from its first edit to the last comparison.
pub fn run(oracle: &mut Oracle, case: &Case) -> Result<(), String> {
    oracle.case(case.seed, case.clients, case.features);
    let options = LogOptions { gc: case.features & NO_GC == 0, ..LogOptions::default() };
    let mut server = Server {
        oracle,
        log: StructLog::new(options),
        options,
        random: Random::new(case.seed),
        told: [Cursor::default(); 3],
        joiners: Vec::new(),
        clients: (0..case.clients).map(|_| Client::default()).collect(),
    };
    for _ in 0..case.rounds {
        server.round(case.edits)?;
    }
    server.heal()?;
    server.compare()
}

struct Server<'a> {
    oracle: &'a mut Oracle,
    log: StructLog,
    options: LogOptions,
    random: Random,
    /// How far the relay, flush and slow followers were told.
    told: [Cursor; 3],
    joiners: Vec<(u64, Cursor)>,
    clients: Vec<Client>,
}

#[derive(Default)]
struct Client {
    offline: bool,
    /// What was sent but did not arrive yet.
    sent: Vec<Vec<u8>>,
    told: Cursor,
    state_vector: Vec<u8>,
}

impl Server<'_> {
    fn round(&mut self, edits: u64) -> Result<(), String> {
        let clients = self.clients.len() as u64;
        let mut turns = Vec::new();
        for index in 0..self.clients.len() {
            let mut turn = Turn { edits: self.random.below(edits + 1), ..Turn::default() };
            let client = &mut self.clients[index];
            let was_offline = client.offline;
            client.offline = self.random.chance(25);
            if self.random.chance(10) {
                turn.peer = 1 + self.random.below(clients);
            }
            if !client.offline {
                if was_offline && self.random.chance(70) {
                    turn.receive.push(self.log.diff(&client.state_vector).map_err(text)?);
                    turn.receive.extend(self.log.pending().map(|part| part.to_vec()));
                    turn.asked = self.log.state_vector();
                } else {
                    turn.receive.push(self.log.diff_since(client.told));
                }
                client.told = self.log.cursor();
            }
            turns.push(turn);
        }
        let answers = self.oracle.round(turns);
        let mut arriving = Vec::new();
        for (client, answer) in self.clients.iter_mut().zip(answers) {
            client.state_vector = answer.state_vector;
            client.sent.extend(answer.updates);
            if !client.offline {
                arriving.extend(self.random.chance(90).then_some(answer.lacking).filter(|it| !it.is_empty()));
                arriving.extend(uplink(&mut self.random, &mut client.sent));
            }
        }
        if self.random.chance(30) {
            self.random.shuffle(&mut arriving);
        }
        for update in arriving {
            self.receive(&update)?;
        }
        self.tell(false);
        if self.random.chance(25) {
            self.compact()?;
        }
        Ok(())
    }

    /// Applies an update as a room would, and checks that the log keeps its word.
    fn receive(&mut self, update: &[u8]) -> Result<(), String> {
        scan_update(update).map_err(|error| format!("scan of {update:?}: {error}"))?;
        if self.random.chance(20) {
            let cut = self.random.below(update.len() as u64) as usize;
            let before = self.log.cursor();
            if self.log.apply(&update[..cut]).is_ok() || self.log.cursor() != before {
                return Err(format!("took the first {cut} bytes of {update:?}"));
            }
        }
        let (mut before, foreseen) = (self.log.cursor(), self.log.verdict(update).map_err(text)?);
        let applied = self.log.apply(update).map_err(text)?;
        if applied.verdict != foreseen {
            return Err(format!("foresaw {foreseen:?}, was {:?}", applied.verdict));
        }
        if (applied.verdict == Verdict::Known) != (before == self.log.cursor())
            && applied.verdict != Verdict::Pending
        {
            return Err(format!("{:?}, but the cursor says otherwise", applied.verdict));
        }
        let again = self.log.verdict(update).map_err(text)?;
        if again != Verdict::Known && applied.verdict != Verdict::Pending {
            return Err(format!("{:?} at first, then {again:?}", applied.verdict));
        }
        if self.log.pending_bytes() > 0 && self.random.chance(30) {
            self.check_stored(update)?;
            before = Cursor::default();
        }
        if before == self.log.cursor() {
            return Ok(());
        }
        let relayed = match applied.verdict {
            Verdict::New if !applied.unparked && self.told[0] == before => update.to_vec(),
            _ => self.log.diff_since(self.told[0]),
        };
        self.told[0] = self.log.cursor();
        self.oracle.tell(RELAY, relayed);
        if self.random.chance(30) {
            self.tell(false);
        }
        Ok(())
    }

    /// A state stored with what waits is the same log when it is loaded.
    fn check_stored(&mut self, update: &[u8]) -> Result<(), String> {
        let stored = self.log.encode_with_pending();
        let loaded = StructLog::load(self.options, &stored).map_err(text)?;
        if loaded.state_vector() != self.log.state_vector()
            || loaded.verdict(&self.log.encode()) != Ok(Verdict::Known)
        {
            return Err("stored with what waits, another state was loaded".into());
        }
        if loaded.verdict(update) != self.log.verdict(update)
            || loaded.encode_with_pending().len() > stored.len()
        {
            return Err("stored with what waits, other things waited when loaded".into());
        }
        // From here on the loaded log could go on in the place of the other.
        if self.random.chance(30) {
            self.log = loaded;
            self.told.fill(Cursor::default());
            self.joiners.iter_mut().for_each(|(_, told)| *told = Cursor::default());
            self.clients.iter_mut().for_each(|client| client.told = Cursor::default());
        }
        Ok(())
    }

    /// Tells followers of what they do not know yet; `all`: none is left out.
    fn tell(&mut self, all: bool) {
        if all || self.random.chance(70) {
            self.oracle.tell(FLUSH, self.log.diff_since(self.told[1]));
            self.told[1] = self.log.cursor();
        }
        if all || self.random.chance(15) {
            self.oracle.tell(SLOW, self.log.diff_since(self.told[2]));
            self.told[2] = self.log.cursor();
        }
        if self.random.chance(20) {
            self.log.trim_journal(self.told[1]);
        }
        if all || self.random.chance(20) {
            let state_vector = self.oracle.follow(RECONNECT, &[]);
            let lacking = self.log.diff(&state_vector).expect("yjs writes sound state vectors");
            self.oracle.tell(RECONNECT, lacking);
        }
        for (id, told) in &mut self.joiners {
            if all || self.random.chance(50) {
                self.oracle.follow(*id, &[self.log.diff_since(*told)]);
                *told = self.log.cursor();
            }
        }
        if self.joiners.len() < 2 && self.random.chance(15) {
            let id = JOINERS + self.joiners.len() as u64;
            let mut state = vec![self.log.encode()];
            state.extend(self.log.pending().map(|part| part.to_vec()));
            self.oracle.follow(id, &state);
            self.joiners.push((id, self.log.cursor()));
        }
    }

    fn compact(&mut self) -> Result<(), String> {
        let (state, state_vector, cursor) = (self.log.encode(), self.log.state_vector(), self.log.cursor());
        self.log.compact();
        if self.log.state_vector() != state_vector || self.log.cursor() != cursor {
            return Err("compaction changed clocks".into());
        }
        if self.log.verdict(&state).map_err(text)? != Verdict::Known {
            return Err("compaction forgot something".into());
        }
        if self.log.encode().len() > state.len() + state.len() / 8 + 64 {
            return Err(format!("compaction grew {} bytes to {}", state.len(), self.log.encode().len()));
        }
        Ok(())
    }

    /// Everybody reconnects until everybody has everything.
    fn heal(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let mut turns = Vec::new();
            for client in &self.clients {
                let receive = match client.state_vector.is_empty() {
                    true => vec![self.log.encode()],
                    false => vec![self.log.diff(&client.state_vector).map_err(text)?],
                };
                turns.push(Turn { receive, asked: self.log.state_vector(), ..Turn::default() });
            }
            let answers = self.oracle.round(turns);
            for (index, answer) in answers.into_iter().enumerate() {
                self.clients[index].state_vector = answer.state_vector;
                self.receive(&answer.lacking)?;
                for update in answer.updates {
                    self.receive(&update)?;
                }
            }
        }
        self.tell(true);
        Ok(())
    }

    fn compare(&mut self) -> Result<(), String> {
        if self.log.pending_bytes() > 0 || self.log.pending().next().is_some() {
            return Err("updates wait though everything arrived".into());
        }
        let state = self.log.encode();
        let summary = scan_update(&state).map_err(text)?;
        let estimate = self.log.encoded_bytes();
        if estimate < state.len() * 3 / 4 || estimate > state.len() * 3 + 256 {
            return Err(format!("the state takes {} bytes, estimated {estimate}", state.len()));
        }
        if scan_state_vector(&self.log.state_vector()).map_err(text)? != summary.clients {
            return Err("the state vector names other clients than the state".into());
        }
        let loaded = StructLog::load(self.options, &state).map_err(text)?;
        let mut compacted = StructLog::load(self.options, &state).map_err(text)?;
        compacted.compact();
        self.compact()?;
        let states = [
            ("the state", state),
            ("the state loaded and encoded again", loaded.encode()),
            ("the state loaded and compacted", compacted.encode()),
            ("the compacted state", self.log.encode()),
            ("the difference to nothing", self.log.diff(&[0]).map_err(text)?),
            ("the difference since the beginning", self.log.diff_since(Cursor::default())),
        ];
        match self.oracle.compare(&states) {
            _ if self.oracle.waited() => Err("a follower was told of structs that it cannot take".into()),
            found if found.is_empty() => Ok(()),
            found => Err(found),
        }
    }
}

/// What of a client's updates arrives: in order or not, late, twice or never.
fn uplink(random: &mut Random, sent: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let keep = if random.chance(20) { random.below(sent.len() as u64 + 1) as usize } else { 0 };
    let late = sent.split_off(sent.len() - keep);
    let mut arriving = std::mem::replace(sent, late);
    if random.chance(20) {
        arriving.retain(|_| !random.chance(20));
    }
    if random.chance(25) {
        let twice: Vec<_> = arriving.iter().filter(|_| random.chance(30)).cloned().collect();
        arriving.extend(twice);
    }
    if random.chance(30) {
        random.shuffle(&mut arriving);
    }
    arriving
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
