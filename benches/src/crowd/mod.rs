//! The clients of a measurement, driven from one thread: they join, type at a pace or as fast as they are acked, and
//! are checked at the end.

mod check;
mod world;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

pub use check::Verdict;
pub use world::{Client, Counts, Document, Stage, World};

use crate::dialect::Dialect;
use crate::net::Net;
use crate::trace::{Numbers, Trace};

/// How long clients may take to join before the run is given up.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the last updates, or a fresh reader's, may take to arrive unless a test has less patience.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether everything has arrived.
const UNACKED_SEED_WAIT: Duration = Duration::from_secs(1);
const DRAIN_CHECK_PERIOD: Duration = Duration::from_millis(20);

/// Sockets and who sits behind them.
pub struct Crowd {
    /// The sockets.
    pub net: Net,
    /// The clients and documents.
    pub world: World,
    /// How long the last updates, or a fresh reader's, may take to arrive.
    pub patience: Duration,
    port: u16,
}

/// What the members of a pace do when they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Type one update.
    Type,
    /// Move the cursor.
    ShowPresence,
    /// Say something that goes to nobody else.
    KeepAlive,
}

/// An open loop: each client acts once per period, at a phase of its own, whether the server keeps up or not.
pub struct Pace {
    act: Act,
    turns: Vec<(u64, usize)>,
    period: u64,
    cycle_start: u64,
    next: usize,
}

impl Pace {
    /// Each of the clients acts `per_second` times a second.
    pub fn new(act: Act, clients: impl IntoIterator<Item = usize>, per_second: f64, salt: u64) -> Self {
        let period = (1e9 / per_second) as u64;
        let mut numbers = Numbers(salt);
        let mut turns: Vec<(u64, usize)> =
            clients.into_iter().map(|client| (numbers.below(period), client)).collect();
        turns.sort_unstable();
        Self { act, turns, period, cycle_start: 0, next: 0 }
    }

    fn due(&self) -> u64 {
        self.turns.get(self.next).map_or(u64::MAX, |(phase, _)| self.cycle_start + phase)
    }

    fn step(&mut self) -> usize {
        let client = self.turns[self.next].1;
        self.next += 1;
        if self.next == self.turns.len() {
            self.next = 0;
            self.cycle_start += self.period;
        }
        client
    }
}

/// How a client is to join.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// The document.
    pub document: usize,
    /// Its index among the members, or nothing for a reader that only looks.
    pub member: Option<usize>,
    /// A receive buffer smaller than the kernel's default.
    pub receive_buffer_bytes: Option<usize>,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(port: u16, dialect: Dialect, trace: Arc<Trace>) -> anyhow::Result<Self> {
        Ok(Self { net: Net::new()?, world: World::new(dialect, trace), patience: PATIENCE, port })
    }

    /// Starts one connection and answers its id.
    pub fn connect(&mut self, seat: Seat) -> anyhow::Result<usize> {
        let path = self.world.dialect.path(&self.world.documents[seat.document].name);
        let now = self.net.now();
        let id = self.net.connect(self.port, &path, seat.receive_buffer_bytes)?;
        self.world.add_client(seat.document, seat.member, now);
        Ok(id)
    }

    /// Ends a connection as a closed browser tab does.
    pub fn leave(&mut self, id: usize) {
        self.net.close(id);
        self.world.clients[id].stage = Stage::Closed;
    }

    /// Connects all seats, so many at a time, and waits until all have synced; answers the first id.
    pub fn join(&mut self, seats: &[Seat], at_a_time: usize) -> anyhow::Result<usize> {
        let first = self.world.clients.len();
        let already = self.world.synced;
        let faults = self.world.fault_count();
        let deadline = self.net.now() + JOIN_WAIT_MAX.as_nanos() as u64;
        let mut started = 0;
        while self.world.synced - already < seats.len() {
            while started < seats.len() && started - (self.world.synced - already) < at_a_time {
                self.connect(seats[started])?;
                started += 1;
            }
            ensure!(
                self.world.fault_count() == faults,
                "a client could not join: {}",
                self.world.faults_text()
            );
            ensure!(
                self.net.now() < deadline,
                "only {} of {} clients joined within {JOIN_WAIT_MAX:?}",
                self.world.synced - already,
                seats.len()
            );
            self.net.turn(deadline, &mut self.world)?;
        }
        Ok(first)
    }

    /// Lets the paces run for a while.
    pub fn run(&mut self, span: Duration, paces: &mut [Pace]) -> anyhow::Result<()> {
        let until = self.net.now() + span.as_nanos() as u64;
        for pace in &mut *paces {
            if pace.cycle_start == 0 {
                pace.cycle_start = self.net.now();
            }
        }
        loop {
            let now = self.net.now();
            if now >= until {
                return Ok(());
            }
            for pace in &mut *paces {
                while pace.due() <= now {
                    let due = pace.due();
                    let client = pace.step();
                    let world = &mut self.world;
                    self.net.send(client, |out| match pace.act {
                        Act::Type => world.type_next(client, due, out),
                        Act::ShowPresence => world.show_presence(client, due, out),
                        Act::KeepAlive => world.keep_alive(client, out),
                    })?;
                }
            }
            let next = paces.iter().map(Pace::due).min().unwrap_or(until);
            self.net.turn(next.min(until), &mut self.world)?;
        }
    }

    /// Lets the clients type for a while, each as soon as its last update was acked.
    pub fn start_closed_loop(&mut self, clients: &[usize], span: Duration) -> anyhow::Result<()> {
        self.world.closed_loop_until = self.net.now() + span.as_nanos() as u64;
        for &client in clients {
            let now = self.net.now();
            let world = &mut self.world;
            self.net.send(client, |out| world.type_next(client, now, out))?;
        }
        Ok(())
    }

    /// Gives a document its first content and waits until the server has it; answers the connection.
    pub fn seed(&mut self, document: usize, content: &[u8]) -> anyhow::Result<usize> {
        let id = self.join(&[Seat { document, member: None, receive_buffer_bytes: None }], 1)?;
        let world = &mut self.world;
        self.net.send(id, |out| world.send_update(id, content, out))?;
        let deadline = self.net.now() + self.patience.as_nanos() as u64;
        while !self.world.has_acks(id) {
            ensure!(self.net.now() < deadline, "the first content was not acked within {:?}", self.patience);
            ensure!(self.world.clients[id].stage == Stage::Synced, "not taken: {}", self.world.faults_text());
            self.net.turn(deadline, &mut self.world)?;
        }
        if self.world.dialect() == Dialect::YWebsocket {
            // There is no ack to wait for.
            self.run(UNACKED_SEED_WAIT, &mut [])?;
        }
        Ok(id)
    }

    /// Lets a client stop reading; from here on it does not count in latencies.
    pub fn stall(&mut self, id: usize) -> anyhow::Result<()> {
        self.world.clients[id].is_stalled = true;
        self.net.pause(id)
    }

    /// Lets a stalled client read again.
    pub fn wake(&mut self, id: usize) -> anyhow::Result<()> {
        self.net.resume(id)
    }

    /// Starts counting anew.
    pub fn start_recording(&mut self) {
        self.world.counts = Counts::default();
        self.world.recording = true;
    }

    /// Waits until everything that was sent has arrived and was acked, or too long.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        self.world.recording = false;
        let deadline = self.net.now() + self.patience.as_nanos() as u64;
        while self.net.now() < deadline && !self.world.is_complete() {
            self.run(DRAIN_CHECK_PERIOD, &mut [])?;
        }
        Ok(())
    }
}
