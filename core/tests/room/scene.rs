//! A room with outboxes in memory, in time that the test gives.

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
use fidibus_core::room::{Acks, Beat, Outbox, Persist, Room, RoomOptions, RoomOutput, Subscriber};
use fidibus_core::store::LogBatch;
use yrs::{Doc, Text, Transact};

use crate::queue::Queue;

/// One session and what it was sent.
pub struct Seat {
    pub key: SessionKey,
    pub prefix: Prefix,
    pub outbox: Arc<Outbox>,
}

impl Seat {
    pub fn frames(&self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.outbox.pop(Instant::now())).map(|frame| frame.into_bytes()).collect()
    }

    pub fn is_silent(&self) -> bool {
        self.frames().is_empty()
    }
}

pub struct Scene {
    pub room: Room,
    pub now: Instant,
    sessions: u32,
}

impl Scene {
    pub fn new(flush_delay: FlushDelay) -> Self {
        Self::with_awareness_delay(flush_delay, Duration::ZERO)
    }

    pub fn with_awareness_delay(flush_delay: FlushDelay, delay: Duration) -> Self {
        let config = Config { flush_delay, awareness_delay: delay, ..Config::default() };
        Self::with_config(&config)
    }

    pub fn with_config(config: &Config) -> Self {
        let now = Instant::now();
        let mut options = RoomOptions::new(config, true);
        options.awareness_beat = Beat::new(config.awareness_delay, now);
        let log = StructLog::new(options.log);
        let room = Room::new(DocumentName::parse("room").unwrap(), log, Arc::new(options));
        Self { room, now, sessions: 0 }
    }

    pub fn join(&mut self, dialect: Dialect, access: Access, user: &str) -> Seat {
        self.sessions += 1;
        let key = SessionKey { connection: ConnectionId(u64::from(self.sessions)), number: 1 };
        let prefix = Prefix::new(&Address::parse("room").unwrap(), dialect);
        let outbox: Arc<Outbox> = Arc::new(Outbox::new(1 << 20, Queue));
        let subscriber = Subscriber {
            session: key,
            prefix: prefix.clone(),
            dialect,
            access,
            user: Some(user.into()),
            outbox: Arc::clone(&outbox),
        };
        self.room.join(subscriber, self.now);
        Seat { key, prefix, outbox }
    }

    pub fn writer(&mut self) -> Seat {
        self.join(Dialect::Hocuspocus, Access::ReadWrite, "ada")
    }

    pub fn update(&mut self, seat: &Seat, update: &Bytes) {
        self.room.handle(seat.key, Inbound::Update(update.clone()), self.now);
    }

    /// Ends the turn and has what it wants stored stored; the rows.
    pub fn end_turn(&mut self) -> Vec<LogBatch> {
        self.room.end_turn(self.now);
        let mut rows = Vec::new();
        while let Some(output) = self.room.poll_output() {
            let RoomOutput::Persist(Persist { batches, acks, .. }) = output else { panic!("{output:?}") };
            rows.extend(batches);
            self.room.committed(acks, self.now);
        }
        rows
    }

    /// Ends the turn; the acks that wait for what it wants stored.
    pub fn end_turn_unstored(&mut self) -> Option<Acks> {
        self.room.end_turn(self.now);
        match self.room.poll_output() {
            Some(RoomOutput::Persist(persist)) => Some(persist.acks),
            Some(output) => panic!("{output:?}"),
            None => None,
        }
    }
}

/// Three updates of one client, each building on the one before.
pub fn typed() -> [Bytes; 3] {
    typed_by(7)
}

/// As [`typed`], by this client.
pub fn typed_by(client: u64) -> [Bytes; 3] {
    let doc = Doc::with_client_id(client);
    let text = doc.get_or_insert_text("text");
    [0, 1, 2].map(|at| {
        let mut transaction = doc.transact_mut();
        text.insert(&mut transaction, at, "x");
        transaction.encode_update_v1().into()
    })
}
