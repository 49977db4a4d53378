//! One loaded document with its subscribers: a plain struct that one task owns. It knows no IO, no
//! clock and no task; it never waits for a hook, a store or a socket. Inputs come as method calls with
//! the time, frames leave through the subscribers' outboxes, and everything else as [`RoomOutput`]s.
//!
//! A turn: [`Room::handle`] for every message that is there, then [`Room::end_turn`] once. So what
//! arrived together is stored as one row, and goes out as one frame.

mod acks;
mod awareness;
mod batch;
mod beat;
mod broadcast;
mod frame;
mod materialize;
mod outbox;
mod saver;
mod seats;
mod sync;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

pub use acks::Acks;
pub use awareness::{Awareness, AwarenessChange, AwarenessLimits};
pub use beat::Beat;
pub use frame::{Frame, Framing};
pub use materialize::{Edit, MaterializeError, RootKind, edit, json, json_of_all, prosemirror_of_all, text};
pub use outbox::{Note, Outbox, Sink, Written};
pub use saver::Saver;

use crate::auth::Access;
use crate::config::{AckMode, Config, FlushDelay};
use crate::error::{CloseReason, ProtocolError};
use crate::id::{DocumentName, SessionKey};
use crate::log::{LogOptions, ScanError, StructLog, Verdict};
use crate::protocol::Dialect;
use crate::protocol::frame::Prefix;
use crate::protocol::message::{Inbound, Text};
use crate::store::LogBatch;
use batch::{Author, Unstored, Window};
use seats::Seats;
use sync::{AckFrames, Owed};

/// A session's place in its room.
pub struct Subscriber {
    /// Which session.
    pub session: SessionKey,
    /// What stands in front of its frames.
    pub prefix: Prefix,
    /// How it speaks.
    pub dialect: Dialect,
    /// What it may do.
    pub access: Access,
    /// Who it is, for the log.
    pub user: Option<Arc<str>>,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
}

/// Where a change comes from (`TransactionOrigin` of Hocuspocus).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A session of a provider.
    Session(SessionKey),
    /// Another server.
    Cluster,
    /// The host itself, through a direct connection.
    Direct,
}

/// What the room wants done. Hooks and the cluster get theirs only where the options ask for it.
#[derive(Debug)]
pub enum RoomOutput {
    /// Append these rows; then [`Room::committed`].
    Persist(Persist),
    /// The document changed (onChange).
    Changed {
        /// The update, as it arrived.
        update: Bytes,
        /// Who made it.
        origin: Origin,
    },
    /// Awareness changed (onAwarenessUpdate).
    AwarenessChanged {
        /// Who came, changed, and went.
        change: AwarenessChange,
        /// Who caused it; `None`: time did, or a session's end.
        origin: Option<Origin>,
    },
    /// A stateless message for the hooks (onStateless).
    Stateless {
        /// Its sender.
        session: SessionKey,
        /// The message.
        payload: Text,
    },
    /// For other servers: one update of the window.
    Publish(Bytes),
    /// For other servers: an awareness message.
    PublishAwareness(Bytes),
}

/// Rows for the update log. They are to be committed in order, with those of the same room.
#[derive(Debug)]
pub struct Persist {
    /// None where only acks wait for what went before.
    pub batches: Vec<LogBatch>,
    /// Whoever waits for them.
    pub acks: Acks,
    /// Part of it waits for missing updates, so no snapshot holds it yet.
    pub parked: bool,
}

/// What a room is told once.
#[derive(Clone, Debug)]
pub struct RoomOptions {
    /// See [`FlushDelay`].
    pub flush_delay: FlushDelay,
    /// A window is flushed early at this many bytes.
    pub flush_bytes_max: usize,
    /// When awareness goes out that nothing else takes along; `None`: as updates do.
    pub awareness_beat: Option<Beat>,
    /// When acks go out. `Commit` only where something answers [`RoomOutput::Persist`].
    pub ack: AckMode,
    /// Whether updates go to a log at all.
    pub persist: bool,
    /// The document's size limit in encoded bytes.
    pub document_bytes_max: usize,
    /// Of the document state.
    pub log: LogOptions,
    /// Of awareness.
    pub awareness: AwarenessLimits,
    /// Whether [`RoomOutput::Changed`] is wanted.
    pub report_changes: bool,
    /// Whether [`RoomOutput::AwarenessChanged`] is wanted.
    pub report_awareness: bool,
    /// Whether the outputs for other servers are wanted.
    pub publish: bool,
}

impl RoomOptions {
    /// The options that follow from a hub's configuration. `persist`: the store has an update log.
    pub fn new(config: &Config, persist: bool) -> Self {
        let ack = if persist { config.ack.unwrap_or(AckMode::Commit) } else { AckMode::Memory };
        Self {
            flush_delay: config.flush_delay,
            flush_bytes_max: config.flush_bytes_max,
            awareness_beat: None,
            ack,
            persist,
            document_bytes_max: config.limits.document_bytes_max,
            log: LogOptions { gc: config.gc, pending_bytes_max: config.limits.pending_update_bytes_max },
            awareness: AwarenessLimits {
                state_bytes_max: config.limits.awareness_bytes_max,
                clients_per_session_max: config.limits.awareness_clients_per_session_max,
            },
            report_changes: false,
            report_awareness: false,
            publish: false,
        }
    }
}

/// Figures that the hub adds to its metrics; taken with [`Room::take_counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Updates received that were valid.
    pub updates: u64,
    /// Their bytes.
    pub update_bytes: u64,
    /// Frames queued for sockets.
    pub frames: u64,
    /// Sessions that fell behind and were conflated.
    pub conflations: u64,
    /// Messages that could not be read.
    pub malformed: u64,
}

/// See the module.
pub struct Room {
    name: DocumentName,
    options: Arc<RoomOptions>,
    log: StructLog,
    awareness: Awareness,
    awareness_expires_at: Option<Instant>,
    seats: Seats,
    touched: Vec<usize>,
    /// What is to be broadcast, and when.
    window: Window,
    window_due_at: Option<Instant>,
    /// A broadcast waits until then, unless it is large: the last one took long.
    resting_until: Option<Instant>,
    /// It waits for the acks of those who made it until then, to go out with them.
    acks_due_at: Option<Instant>,
    /// So many turns do not wait for acks: they came too late for one.
    hasty_turns: u8,
    window_awareness: Vec<u64>,
    window_awareness_author: Author,
    /// What is to be stored at the end of the turn.
    unstored: Unstored,
    /// How many [`Persist`]s are not known to be committed.
    uncommitted: usize,
    /// Acks of this turn.
    owed: SmallVec<[Owed; 1]>,
    ack_frames: AckFrames,
    version: u64,
    full_state: Option<(u64, Bytes)>,
    /// The states of all who are there, as joiners get them; dropped with every change.
    full_awareness: Option<Bytes>,
    /// The document's size after its last compaction.
    compacted_bytes: usize,
    outputs: VecDeque<RoomOutput>,
    counts: RoomCounts,
}

impl Room {
    /// A room around a loaded document.
    pub fn new(name: DocumentName, log: StructLog, options: Arc<RoomOptions>) -> Self {
        let cursor = log.cursor();
        let log_bytes = log.encoded_bytes();
        Self {
            name,
            options,
            log,
            awareness: Awareness::default(),
            awareness_expires_at: None,
            seats: Seats::default(),
            touched: Vec::new(),
            window: Window::new(cursor),
            window_due_at: None,
            resting_until: None,
            acks_due_at: None,
            hasty_turns: 0,
            window_awareness: Vec::new(),
            window_awareness_author: Author::Nobody,
            unstored: Unstored::new(cursor),
            uncommitted: 0,
            owed: SmallVec::new(),
            ack_frames: AckFrames::default(),
            version: 0,
            full_state: None,
            full_awareness: None,
            compacted_bytes: log_bytes,
            outputs: VecDeque::new(),
            counts: RoomCounts::default(),
        }
    }

    /// The document's name.
    pub fn name(&self) -> &DocumentName {
        &self.name
    }

    /// How many sessions are here.
    pub fn subscribers(&self) -> usize {
        self.seats.len()
    }

    /// The sessions with their outboxes.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, &Arc<Outbox>)> {
        self.seats.iter().map(|seat| (seat.subscriber.session, &seat.subscriber.outbox))
    }

    /// Counts up with every change of the document; 0: as loaded.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The document's state.
    pub fn log(&self) -> &StructLog {
        &self.log
    }

    /// Who is there.
    pub fn awareness(&self) -> &Awareness {
        &self.awareness
    }

    /// Takes a session in. Hocuspocus providers get the awareness of those who are there right away
    /// (`Connection.ts` `sendCurrentAwareness`), y-websocket peers after their sync step 1.
    pub fn join(&mut self, subscriber: Subscriber, now: Instant) {
        let index = self.seats.len();
        let greet = subscriber.dialect == Dialect::Hocuspocus && !self.awareness.is_empty();
        if self.seats.find(subscriber.session).is_some() {
            debug_assert!(false, "a session joins once");
            return;
        }
        self.seats.push(subscriber);
        if greet {
            self.send_awareness(index, now);
        }
    }

    /// Lets a session go; its awareness goes with it.
    pub fn leave(&mut self, session: SessionKey, now: Instant) {
        let Some(index) = self.seats.find(session) else { return };
        self.seats[index].subscriber.outbox.depart();
        self.touched.clear();
        self.seats.remove(index);
        // Indexes moved, so the list of touched seats is made anew.
        self.touched.extend(self.seats.iter().enumerate().filter(|(_, seat)| seat.touched).map(|(i, _)| i));
        let change = self.awareness.remove_session(session, now);
        self.awareness_changed(change, None, now);
    }

    /// Changes what a session may do from now on.
    pub fn set_access(&mut self, session: SessionKey, access: Access) {
        if let Some(index) = self.seats.find(session) {
            self.seats[index].subscriber.access = access;
        }
    }

    /// Handles one message of a session. A message that breaks the protocol ends its connection, and
    /// leaves the room as it was.
    pub fn handle(&mut self, session: SessionKey, message: Inbound, now: Instant) {
        // A message may be under way when its session is thrown out.
        let Some(index) = self.seats.find(session) else { return };
        let result = match message {
            Inbound::SyncStep1(state_vector) => self.answer_step1(index, &state_vector, now),
            Inbound::SyncStep2(update) | Inbound::Update(update) => self.receive_update(index, update, now),
            Inbound::Awareness(update) => self.receive_awareness(index, &update, now),
            Inbound::QueryAwareness => {
                match self.seats[index].subscriber.outbox.is_full() {
                    true => self.send_awareness_later(index),
                    false => self.send_awareness(index, now),
                }
                Ok(())
            }
            Inbound::Stateless(payload) => {
                self.outputs.push_back(RoomOutput::Stateless { session, payload });
                Ok(())
            }
        };
        if let Err(reason) = result {
            self.counts.malformed += 1;
            self.seats[index].subscriber.outbox.post(Note::CloseConnection(reason));
        }
    }

    fn receive_awareness(&mut self, index: usize, update: &[u8], now: Instant) -> Result<(), CloseReason> {
        let session = self.seats[index].subscriber.session;
        let change = self.awareness.apply(update, Some(session), self.options.awareness, now)?;
        self.awareness_changed(change, Some(Origin::Session(session)), now);
        Ok(())
    }

    /// Applies an awareness message of another server or of the host.
    ///
    /// # Errors
    /// The message cannot be read.
    pub fn apply_awareness(
        &mut self,
        update: &[u8],
        origin: Origin,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let change = self.awareness.apply(update, None, self.options.awareness, now)?;
        self.awareness_changed(change, Some(origin), now);
        Ok(())
    }

    fn awareness_changed(&mut self, change: AwarenessChange, origin: Option<Origin>, now: Instant) {
        if change.is_empty() {
            return;
        }
        self.full_awareness = None;
        self.window_awareness.extend(change.clients());
        let session = match origin {
            Some(Origin::Session(session)) => Some(session),
            _ => None,
        };
        self.window_awareness_author = self.window_awareness_author.and(session);
        self.broadcast_by(self.awareness_due(now));
        if self.awareness_expires_at.is_none() {
            self.awareness_expires_at = self.awareness.next_expiry();
        }
        if self.options.publish && origin != Some(Origin::Cluster) {
            let update = self.awareness.encode(change.clients());
            self.outputs.push_back(RoomOutput::PublishAwareness(update.into()));
        }
        if self.options.report_awareness {
            self.outputs.push_back(RoomOutput::AwarenessChanged { change, origin });
        }
        if self.options.flush_delay == FlushDelay::Off {
            self.flush(now);
        }
    }

    /// Ends a turn: hands over what is to be stored, flushes unless a window is open, and gives back
    /// memory.
    pub fn end_turn(&mut self, now: Instant) {
        // Before the broadcast, so that writers are written to first: they wait, readers do not.
        self.store_turn(now);
        if self.flush_due(now) {
            self.flush(now);
        }
        self.compact_if_grown();
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.flush_at(), self.expires_at()].into_iter().flatten().min()
    }

    /// When the first state of awareness is too old.
    pub fn expires_at(&self) -> Option<Instant> {
        self.awareness_expires_at
    }

    /// Does what the time demands: the end of a window, the expiry of awareness states.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.awareness_expires_at.is_some_and(|at| at <= now) {
            let change = self.awareness.expire(now);
            self.awareness_expires_at = self.awareness.next_expiry();
            self.awareness_changed(change, None, now);
        }
        self.end_turn(now);
    }

    /// What the room wants done, in order; call until it says `None`.
    pub fn poll_output(&mut self) -> Option<RoomOutput> {
        self.outputs.pop_front()
    }

    /// Visits every outbox that got something since the last call: they want to be written.
    pub fn drain_touched(&mut self, mut visit: impl FnMut(&Arc<Outbox>)) {
        for index in self.touched.drain(..) {
            let seat = &mut self.seats[index];
            seat.touched = false;
            visit(&seat.subscriber.outbox);
        }
    }

    /// Counts since the last call.
    pub fn take_counts(&mut self) -> RoomCounts {
        std::mem::take(&mut self.counts)
    }

    /// Drops what only speeds up joins: call when the room has been quiet for a while.
    pub fn shrink(&mut self) {
        self.full_state = None;
        self.full_awareness = None;
        self.window_awareness.shrink_to_fit();
        self.owed.shrink_to_fit();
        self.outputs.shrink_to_fit();
        self.touched = Vec::new();
        self.seats.shrink_to_fit();
    }

    /// The whole document as one update, for a snapshot: compacted, and cached for joiners.
    pub fn snapshot(&mut self) -> Bytes {
        self.compact();
        self.full_state()
    }

    /// Merges what load hooks bring into a document that nobody sees yet; whether that changed it.
    ///
    /// # Errors
    /// An update cannot be read.
    pub fn preload(&mut self, updates: &[Bytes]) -> Result<bool, ScanError> {
        let mut changed = false;
        for update in updates {
            changed |= self.log.apply(update)?.verdict != Verdict::Known;
        }
        let cursor = self.log.cursor();
        self.window = Window::new(cursor);
        self.unstored = Unstored::new(cursor);
        self.version += u64::from(changed);
        Ok(changed)
    }
}

/// The table from what the scanner says to what the peer's socket is closed with.
impl From<ScanError> for CloseReason {
    fn from(error: ScanError) -> Self {
        match error {
            // The peer may come back: a sync from the start brings what is missing.
            ScanError::PendingFull => {
                Self::new(Self::TRY_AGAIN_LATER.code, "Too many updates with missing parts")
            }
            _ => Self::new(Self::RESET_CONNECTION.code, "Malformed update"),
        }
    }
}
