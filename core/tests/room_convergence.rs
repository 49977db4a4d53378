//! Goal: whatever sessions do through a room (edit, repeat, reorder, fall behind, go and come back), all
//! replicas converge to what yjs itself makes of the same updates, and so does what the room has had stored,
//! as snapshot and as rows.
//!
//! Method: yjs documents in a Node process are the clients; between them stands a [`Room`] with outboxes in
//! memory. Connections break at random, with what was under way; outboxes are so small that slow readers
//! are conflated. In the end everybody syncs, and the oracle compares all documents and states.
//!
//! `FIDIBUS_ROOM_CASES=20000` makes a long run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "yjs/oracle.rs"]
mod oracle;
#[path = "room/queue.rs"]
mod queue;
#[path = "yjs/random.rs"]
mod random;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::config::{Config, FlushDelay};
use fidibus_core::id::{Address, ConnectionId, DocumentName, SessionKey};
use fidibus_core::log::StructLog;
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::frame::Prefix;
use fidibus_core::protocol::message::Inbound;
use fidibus_core::room::{Note, Outbox, Room, RoomOptions, RoomOutput, Subscriber};
use oracle::{Answer, Oracle, Turn};
use queue::Queue;
use random::Random;

const CASES: u64 = 300;
/// Features of `edits.mjs` without the cleanup of formats (512), in which yjs' replicas differ by themselves.
const FEATURES: u64 = ((1 << 13) - 1) & !512;
const NO_GC: u64 = 1024;
const OUTBOX_BYTES_MAX: usize = 600;

#[derive(Default)]
struct Client {
    session: Option<(SessionKey, Arc<Outbox>)>,
    state_vector: Vec<u8>,
    /// It reads nothing for the moment.
    stalled: bool,
}

struct Scene<'a> {
    oracle: &'a mut Oracle,
    random: Random,
    room: Room,
    clients: Vec<Client>,
    rows: StructLog,
    sessions: u32,
    now: Instant,
    prefix: Prefix,
}

#[test]
fn replicas_converge_to_what_yjs_makes_of_it() {
    let cases = std::env::var("FIDIBUS_ROOM_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let half = std::thread::spawn(move || run_all(1..cases / 2));
    let unclear = run_all(cases / 2..cases) + half.join().expect("the other half passes");
    assert!(unclear * 20 <= cases, "{unclear} of {cases} cases say nothing");
}

fn run_all(seeds: std::ops::Range<u64>) -> u64 {
    let mut oracle = Oracle::start();
    let outcomes = seeds.map(|seed| run(&mut oracle, seed));
    outcomes.filter(|unclear| *unclear).count() as u64
}

/// Runs one case; whether yjs was at odds with itself about it.
fn run(oracle: &mut Oracle, seed: u64) -> bool {
    let mut random = Random::new(seed ^ 0x0da5);
    let features = random.next() & FEATURES;
    let clients = 2 + random.below(5);
    oracle.case(seed, clients, features);
    let flush_delay = match random.below(3) {
        0 => FlushDelay::Off,
        1 => FlushDelay::Turn,
        _ => FlushDelay::Window(Duration::from_millis(50)),
    };
    let config = Config { flush_delay, gc: features & NO_GC == 0, ..Config::default() };
    let options = RoomOptions::new(&config, true);
    let name = DocumentName::parse("room").unwrap();
    let mut scene = Scene {
        oracle,
        random,
        rows: StructLog::new(options.log),
        room: Room::new(name.clone(), StructLog::new(options.log), Arc::new(options)),
        clients: (0..clients).map(|_| Client::default()).collect(),
        sessions: 0,
        now: Instant::now(),
        prefix: Prefix::new(&Address::from(name), Dialect::Hocuspocus),
    };
    let rounds = 2 + scene.random.below(6);
    for _ in 0..rounds {
        scene.come_and_go();
        scene.round(4);
    }
    scene.heal();
    let found = scene.compare();
    assert!(found.is_empty() || found == "yjs disagrees with itself", "seed {seed}: {found}");
    !found.is_empty()
}

impl Scene<'_> {
    fn come_and_go(&mut self) {
        for index in 0..self.clients.len() {
            match self.clients[index].session {
                None if self.random.chance(70) => self.connect(index),
                Some(_) if self.random.chance(25) => self.disconnect(index),
                _ => {}
            }
            self.clients[index].stalled = self.random.chance(20);
        }
    }

    fn connect(&mut self, index: usize) {
        self.sessions += 1;
        let session = SessionKey { connection: ConnectionId(index as u64), number: self.sessions };
        let outbox: Arc<Outbox> = Arc::new(Outbox::new(OUTBOX_BYTES_MAX, Queue));
        let subscriber = Subscriber {
            session,
            prefix: self.prefix.clone(),
            dialect: Dialect::Hocuspocus,
            access: Access::ReadWrite,
            // Rows are of one user each, so batches of several take another way.
            user: Some(Arc::from(format!("user {}", index % 2))),
            outbox: Arc::clone(&outbox),
        };
        self.room.join(subscriber, self.now);
        let client = &mut self.clients[index];
        client.session = Some((session, outbox));
        let known = if client.state_vector.is_empty() { vec![0] } else { client.state_vector.clone() };
        self.room.handle(session, Inbound::SyncStep1(known.into()), self.now);
    }

    /// What is under way is gone with the connection.
    fn disconnect(&mut self, index: usize) {
        if let Some((session, _)) = self.clients[index].session.take() {
            self.room.leave(session, self.now);
        }
    }

    fn round(&mut self, edits: u64) {
        let turns = (0..self.clients.len()).map(|index| self.turn(index, edits)).collect();
        let answers = self.oracle.round(turns);
        for (index, answer) in answers.into_iter().enumerate() {
            self.receive(index, answer);
        }
        self.end_turn();
        self.now += Duration::from_millis(self.random.below(60));
        self.room.handle_timeout(self.now);
        self.persist();
        if self.random.chance(20) {
            self.room.snapshot();
        }
    }

    /// What a client reads and does now.
    fn turn(&mut self, index: usize, edits: u64) -> Turn {
        let mut turn = Turn { edits: self.random.below(edits + 1), ..Turn::default() };
        let client = &self.clients[index];
        let Some((session, outbox)) = client.session.clone() else { return turn };
        if client.stalled {
            return turn;
        }
        while let Some(frame) = outbox.pop(self.now) {
            let frame = frame.into_bytes();
            match frame.get(self.prefix.len()..) {
                Some([0, 0, rest @ ..]) => turn.asked = body(rest),
                Some([0, 1 | 2, rest @ ..]) => turn.receive.push(body(rest)),
                Some([8, status]) => assert_eq!(*status, 1, "every update is taken"),
                other => panic!("unexpected frame {other:?}"),
            }
        }
        for note in outbox.take_notes() {
            match note {
                Note::Lagging(lagging) => assert_eq!(lagging, session),
                other => panic!("unexpected note {other:?}"),
            }
            self.room.catch_up(session, self.now);
        }
        turn
    }

    /// What a client says goes to the room, in part twice or out of order.
    fn receive(&mut self, index: usize, answer: Answer) {
        let client = &mut self.clients[index];
        client.state_vector = answer.state_vector;
        let Some((session, _)) = client.session else { return };
        let mut arriving = answer.updates;
        if self.random.chance(20) {
            let twice: Vec<_> = arriving.iter().filter(|_| self.random.chance(40)).cloned().collect();
            arriving.extend(twice);
        }
        if self.random.chance(20) {
            self.random.shuffle(&mut arriving);
        }
        for update in arriving {
            self.room.handle(session, Inbound::Update(update.into()), self.now);
            if self.random.chance(20) {
                self.end_turn();
            }
        }
        if !answer.lacking.is_empty() {
            self.room.handle(session, Inbound::SyncStep2(answer.lacking.into()), self.now);
        }
    }

    fn end_turn(&mut self) {
        self.room.end_turn(self.now);
        self.room.drain_touched(|outbox| drop(outbox.flush(Instant::now())));
        self.persist();
    }

    /// Stores what the room wants stored, and lets its acks go.
    fn persist(&mut self) {
        while let Some(output) = self.room.poll_output() {
            let RoomOutput::Persist(persist) = output else { panic!("nobody asked for {output:?}") };
            for batch in &persist.batches {
                self.rows.apply(&batch.update).expect("what is stored can be read");
            }
            self.room.committed(persist.acks, self.now);
        }
    }

    /// Everybody connects anew and syncs until everybody has everything.
    fn heal(&mut self) {
        for index in 0..self.clients.len() {
            self.disconnect(index);
            self.connect(index);
        }
        for _ in 0..8 {
            self.clients.iter_mut().for_each(|client| client.stalled = false);
            self.round(0);
            self.now += Duration::from_millis(60);
            self.room.handle_timeout(self.now);
        }
    }

    fn compare(&mut self) -> String {
        assert_eq!(self.room.log().pending_bytes(), 0, "updates wait though everything arrived");
        assert_eq!(self.room.subscribers(), self.clients.len());
        let states = [
            ("the room", self.room.log().encode()),
            ("the snapshot", self.room.snapshot().to_vec()),
            ("the rows of the log", self.rows.encode()),
        ];
        self.oracle.compare(&states)
    }
}

/// The byte array behind its length.
fn body(mut bytes: &[u8]) -> Vec<u8> {
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        bytes = &bytes[1..];
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    assert_eq!(bytes.len(), len, "the frame ends with its body");
    Bytes::copy_from_slice(bytes).to_vec()
}
