//! Fan-out: one frame per address form, shared by all its subscribers; who falls behind is conflated.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::acks::Acks;
use super::batch::{Window, is_void};
use super::frame::Frame;
use super::outbox::Note;
use super::seats::Seat;
use super::{Room, RoomOutput};
use crate::config::FlushDelay;
use crate::error::CloseReason;
use crate::id::SessionKey;
use crate::log::Cursor;
use crate::protocol::Dialect;
use crate::protocol::frame::{self, Body, Prefix};
use crate::protocol::message::Text;

/// What a conflated session has missed: everything since the cursor, and these clients' states.
pub struct Lag {
    cursor: Cursor,
    awareness: Vec<u64>,
    /// The state vector of its last step 1 that is not answered. The answer holds all since the cursor.
    asked: Option<Bytes>,
}

/// A session's own awareness goes back to it this often at the most. Together with the 18 s after which
/// a provider renews its state at the latest, that stays under the 30 s that it waits for a message.
const ECHO_INTERVAL: Duration = Duration::from_secs(5);

/// Up to this length a body is copied behind each address' prefix; beyond, frames share it.
const COPY_BODY_BYTES_MAX: usize = 4 * 1024;

/// A shorter pause is far below what timers tell apart.
const REST_MIN: Duration = Duration::from_micros(500);
/// Readers wait no longer than half of this, however many they are.
const REST_MAX: Duration = Duration::from_millis(20);

/// A window is flushed early at so many changes of awareness.
const WINDOW_AWARENESS_MAX: usize = 10_000;

/// What goes out together with acks waits no longer for them.
const ACKS_WAIT_MAX: Duration = Duration::from_millis(10);
/// So many broadcasts do not wait after one that waited for nothing: the store is slow, or away.
const HASTY_TURNS: u8 = 16;

/// A window's frames wait at most this long for [`FlushDelay::Window`] values beyond reason.
const FLUSH_WINDOW_MAX: Duration = Duration::from_secs(10);

/// The frames of one body, made once per run of equal prefixes.
pub(super) struct SharedFrame<'a> {
    kind: Body,
    body: &'a Bytes,
    last: Option<(Prefix, Frame)>,
}

impl<'a> SharedFrame<'a> {
    pub(super) fn new(kind: Body, body: &'a Bytes) -> Self {
        Self { kind, body, last: None }
    }

    pub(super) fn with(&mut self, prefix: &Prefix) -> Frame {
        if let Some((last, frame)) = &self.last
            && last == prefix
        {
            return frame.clone();
        }
        let frame = if self.body.len() <= COPY_BODY_BYTES_MAX {
            self.kind.frame(prefix, self.body).into()
        } else {
            Frame::shared(self.kind.head(prefix, self.body.len()), self.body.clone())
        };
        self.last = Some((prefix.clone(), frame.clone()));
        frame
    }
}

impl Room {
    /// Broadcasts the window: one update for all that came in it, one awareness message with the latest
    /// state of every client that changed.
    pub fn flush(&mut self, now: Instant) {
        self.window_due_at = None;
        if self.acks_due_at.take().is_some_and(|due_at| due_at <= now) {
            self.hasty_turns = HASTY_TURNS;
        }
        if !self.window.is_empty() {
            let update = self.window.encode(&self.log);
            let since = self.window.since();
            let author = self.window.sole_author();
            self.window = Window::new(self.log.cursor());
            if !is_void(&update) {
                self.broadcast_update(&update, since, author, now);
                if self.options.publish {
                    self.outputs.push_back(RoomOutput::Publish(update));
                }
            }
        }
        if !self.window_awareness.is_empty() {
            self.window_awareness.sort_unstable();
            self.window_awareness.dedup();
            let clients = std::mem::take(&mut self.window_awareness);
            let author = std::mem::take(&mut self.window_awareness_author).sole();
            let update = self.awareness.encode(clients.iter().copied()).into();
            self.broadcast_awareness(&update, &clients, author, now);
        }
        self.trim_journal();
    }

    fn broadcast_update(&mut self, update: &Bytes, since: Cursor, author: Option<SessionKey>, now: Instant) {
        let mut frames = SharedFrame::new(Body::Update, update);
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            // Whoever wrote all of it has it.
            if author == Some(seat.subscriber.session) || seat.lag.is_some() {
                continue;
            }
            if seat.subscriber.outbox.is_full() {
                seat.fall_behind(since, &[]);
                self.counts.conflations += 1;
            } else {
                let frame = frames.with(&seat.subscriber.prefix);
                self.push(index, frame, now);
            }
        }
    }

    /// Now and then also to the session that it came from: a client takes a socket on which nothing
    /// arrives for 30 s for dead, and its own awareness, renewed each 15 s, is what arrives
    /// (requirements.md, finding 8). It has the state, so more of it would only cost a send.
    fn broadcast_awareness(
        &mut self,
        update: &Bytes,
        clients: &[u64],
        author: Option<SessionKey>,
        now: Instant,
    ) {
        let mut frames = SharedFrame::new(Body::Awareness, update);
        let here = self.log.cursor();
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if author == Some(seat.subscriber.session) {
                if seat.echoed_at.is_some_and(|at| now < at + ECHO_INTERVAL) {
                    continue;
                }
                seat.echoed_at = Some(now);
            }
            if let Some(lag) = &mut seat.lag {
                lag.awareness.extend_from_slice(clients);
                lag.awareness.sort_unstable();
                lag.awareness.dedup();
            } else if seat.subscriber.outbox.is_full() {
                seat.fall_behind(here, clients);
                self.counts.conflations += 1;
            } else {
                let frame = frames.with(&seat.subscriber.prefix);
                self.push(index, frame, now);
            }
        }
    }

    /// Brings a conflated session up to date: its outbox has drained.
    pub fn catch_up(&mut self, session: SessionKey, now: Instant) {
        let Some(index) = self.seats.find(session) else { return };
        let Some(lag) = self.seats[index].lag.take() else { return };
        let lag = *lag;
        // The window is not flushed yet and will reach this session again; updates are idempotent.
        let prefix = self.seats[index].subscriber.prefix.clone();
        if let Some(state_vector) = lag.asked {
            // It could be read when it came.
            let _ = self.answer_step1(index, &state_vector, now);
        } else {
            let update = Bytes::from(self.log.diff_since(lag.cursor));
            if !is_void(&update) {
                self.push(index, SharedFrame::new(Body::Update, &update).with(&prefix), now);
            }
        }
        if !lag.awareness.is_empty() {
            let update = self.awareness.encode(lag.awareness.into_iter());
            self.push(index, frame::awareness(&prefix, &update).into(), now);
        }
        self.trim_journal();
    }

    /// Puts off the answer to a session that has not read what it was sent before: a reader could ask for
    /// more than memory holds. Of several questions the last is answered.
    pub(super) fn answer_step1_later(&mut self, index: usize, state_vector: &Bytes) {
        self.lag(index).asked = Some(state_vector.clone());
    }

    /// As [`Self::answer_step1_later`], for the states of all who are there.
    pub(super) fn send_awareness_later(&mut self, index: usize) {
        let clients: Vec<u64> = self.awareness.states().map(|(client, _)| client).collect();
        let known = &mut self.lag(index).awareness;
        known.extend(clients);
        known.sort_unstable();
        known.dedup();
    }

    fn lag(&mut self, index: usize) -> &mut Lag {
        // What is in the window has not been sent to anybody.
        let since = self.window.since();
        let seat = &mut self.seats[index];
        if seat.lag.is_none() {
            self.counts.conflations += 1;
            seat.subscriber.outbox.post(Note::Lagging(seat.subscriber.session));
        }
        seat.lag.get_or_insert_with(|| Box::new(Lag { cursor: since, awareness: Vec::new(), asked: None }))
    }

    /// The journal of changes is kept from the oldest point that somebody may still ask for.
    fn trim_journal(&mut self) {
        let lags = self.seats.iter().filter_map(|seat| seat.lag.as_ref()).map(|lag| lag.cursor);
        let oldest = lags.fold(self.window.since().min(self.unstored.since()), Cursor::min);
        self.log.trim_journal(oldest);
    }

    /// The states of all who are there; encoded once for all who come between two changes.
    pub(super) fn send_awareness(&mut self, index: usize, now: Instant) {
        let update = match &self.full_awareness {
            Some(update) => update.clone(),
            None => {
                let update = Bytes::from(self.awareness.encode_all());
                self.full_awareness.insert(update).clone()
            }
        };
        let frame = SharedFrame::new(Body::Awareness, &update).with(&self.seats[index].subscriber.prefix);
        self.push(index, frame, now);
    }

    /// Sends a stateless message to the Hocuspocus sessions that `filter` accepts (`relayStateless`);
    /// y-websocket has no such message. Not batched: such messages are events, not state. What waits goes first,
    /// since it may be what the message is about.
    pub fn broadcast_stateless(&mut self, payload: &Text, filter: impl Fn(SessionKey) -> bool, now: Instant) {
        if self.options.flush_delay == FlushDelay::Turn && self.window_due_at.is_some() {
            self.flush(now);
        }
        for index in 0..self.seats.len() {
            let subscriber = &self.seats[index].subscriber;
            if subscriber.dialect == Dialect::Hocuspocus && filter(subscriber.session) {
                // Events cannot be conflated; a reader that is that far behind starts over instead.
                if subscriber.outbox.is_full() {
                    subscriber.outbox.post(Note::CloseConnection(CloseReason::SLOW_READER));
                    continue;
                }
                let frame = frame::stateless(&subscriber.prefix, payload);
                self.push(index, frame.into(), now);
            }
        }
    }

    /// Ends all sessions of the room.
    pub fn close_sessions(&mut self, reason: &CloseReason) {
        for seat in self.seats.iter() {
            let note = Note::CloseSession(seat.subscriber.session, reason.clone());
            seat.subscriber.outbox.post(note);
        }
    }

    pub(super) fn push(&mut self, index: usize, frame: Frame, now: Instant) {
        let seat = &mut self.seats[index];
        seat.subscriber.outbox.push(frame, now);
        self.counts.frames += 1;
        if !seat.touched {
            seat.touched = true;
            self.touched.push(index);
        }
    }

    /// An update is in the log: it waits for the flush, or is broadcast at once.
    pub(super) fn open_window(&mut self, now: Instant) {
        self.broadcast_by(self.update_due(now));
        if self.options.flush_delay == FlushDelay::Off {
            self.flush(now);
        }
    }

    fn update_due(&self, now: Instant) -> Instant {
        match self.options.flush_delay {
            FlushDelay::Off | FlushDelay::Turn => now,
            FlushDelay::Window(window) => now + window.min(FLUSH_WINDOW_MAX),
        }
    }

    pub(super) fn awareness_due(&self, now: Instant) -> Instant {
        match (self.options.flush_delay, &self.options.awareness_beat) {
            (FlushDelay::Turn, Some(beat)) => beat.after(now),
            _ => self.update_due(now),
        }
    }

    pub(super) fn broadcast_by(&mut self, due_at: Instant) {
        self.window_due_at = Some(self.window_due_at.map_or(due_at, |known| known.min(due_at)));
    }

    /// When the window is broadcast.
    pub fn flush_at(&self) -> Option<Instant> {
        let due_at = self.window_due_at?;
        Some(due_at).max(self.resting_until).max(self.acks_due_at)
    }

    /// The writers of this turn wait for these acks. Where they are most of those who are here, the broadcast waits a
    /// moment for the acks: a socket that gets both is written to once. Nothing is put off twice.
    pub(super) fn wait_for_acks(&mut self, acks: &Acks, now: Instant) {
        let most = |writers: usize| writers > 1 && 2 * writers >= self.seats.len();
        let opened_now = self.window_due_at == Some(now) && !self.window.is_empty();
        if !opened_now
            || self.options.flush_delay != FlushDelay::Turn
            || !most(acks.len())
            || !most(acks.sessions())
        {
            return;
        }
        match self.hasty_turns.checked_sub(1) {
            Some(left) => self.hasty_turns = left,
            None => self.acks_due_at = Some(now + ACKS_WAIT_MAX),
        }
    }

    /// Whether a broadcast waits for acks.
    pub fn awaits_acks(&self) -> bool {
        self.acks_due_at.is_some()
    }

    /// Says that a turn took so long, until now: it wrote to many readers. The next broadcast waits for half of that, so
    /// that it takes along what comes meanwhile and others get to run. Nothing is put off twice.
    pub fn rest(&mut self, took: Duration, now: Instant) {
        let rest = took.min(REST_MAX) / 2;
        if self.window_due_at.is_none() && rest >= REST_MIN {
            self.resting_until = Some(now + rest);
        }
    }

    pub(super) fn flush_due(&self, now: Instant) -> bool {
        self.window.bytes() >= self.options.flush_bytes_max
            || self.window_awareness.len() >= WINDOW_AWARENESS_MAX
            || self.flush_at().is_some_and(|at| at <= now)
    }
}

impl Seat {
    fn fall_behind(&mut self, cursor: Cursor, awareness: &[u64]) {
        self.lag = Some(Box::new(Lag { cursor, awareness: awareness.to_vec(), asked: None }));
        self.subscriber.outbox.post(Note::Lagging(self.subscriber.session));
    }
}
