//! The sync protocol: steps 1 and 2, updates, and when they are acknowledged.

use std::time::Instant;

use bytes::Bytes;

use super::batch::User;
use super::broadcast::SharedFrame;
use super::{Acks, Origin, Persist, Room, RoomOutput};
use crate::auth::Access;
use crate::config::AckMode;
use crate::error::CloseReason;
use crate::id::SessionKey;
use crate::log::{Applied, ScanError, StructLog, Verdict, scan_state_vector};
use crate::protocol::Dialect;
use crate::protocol::frame::{self, Body};
use crate::store::LogBatch;

/// An ack that a session gets for an update of this turn.
pub(super) struct Owed {
    session: SessionKey,
    stored: bool,
}

/// A document that grew by less than this is not worth a compaction by itself.
const COMPACT_BYTES_MIN: usize = 256 * 1024;

/// The state vector of an empty document.
const EMPTY_STATE_VECTOR: &[u8] = &[0];

impl Room {
    /// Answers step 1 with what the peer lacks, then asks for what we lack (`readSyncMessage` of
    /// Hocuspocus, `setupWSConnection` of y-websocket).
    pub(super) fn answer_step1(
        &mut self,
        index: usize,
        state_vector: &Bytes,
        now: Instant,
    ) -> Result<(), CloseReason> {
        if self.seats[index].subscriber.outbox.is_full() {
            scan_state_vector(state_vector)?;
            self.answer_step1_later(index, state_vector);
            return Ok(());
        }
        let difference = if state_vector == EMPTY_STATE_VECTOR {
            self.full_state()
        } else {
            self.log.diff(state_vector)?.into()
        };
        let prefix = self.seats[index].subscriber.prefix.clone();
        self.push(index, SharedFrame::new(Body::SyncStep2, &difference).with(&prefix), now);
        // What waits for missing updates may be all that the missing ones' author still has.
        let parked: Vec<Bytes> = self.log.pending().cloned().collect();
        for update in parked {
            self.push(index, SharedFrame::new(Body::Update, &update).with(&prefix), now);
        }
        let state_vector = self.log.state_vector();
        self.push(index, frame::sync_step1(&prefix, &state_vector).into(), now);
        if self.seats[index].subscriber.dialect == Dialect::YWebsocket && !self.awareness.is_empty() {
            self.send_awareness(index, now);
        }
        Ok(())
    }

    /// The document as one update; encoded once for all who join at the same version.
    pub fn full_state(&mut self) -> Bytes {
        match &self.full_state {
            Some((version, state)) if *version == self.version => state.clone(),
            _ => {
                let state = Bytes::from(self.log.encode());
                self.full_state = Some((self.version, state.clone()));
                state
            }
        }
    }

    /// These bytes are the document, as it is now: who joins before it changes gets them, unencoded.
    pub fn keep_full_state(&mut self, state: Bytes) {
        self.full_state = Some((self.version, state));
    }

    pub(super) fn receive_update(
        &mut self,
        index: usize,
        update: Bytes,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let subscriber = &self.seats[index].subscriber;
        let session = subscriber.session;
        let user = subscriber.user.clone();
        if subscriber.access == Access::ReadOnly {
            // Hocuspocus: what brings nothing new counts as stored (`MessageReceiver.ts` 213–228).
            let known = self.log.verdict(&update)? == Verdict::Known;
            self.acknowledge(session, known);
            return Ok(());
        }
        if !self.has_space_for(&update) && self.log.verdict(&update)? != Verdict::Known {
            self.acknowledge(session, false);
            return Err(CloseReason::DOCUMENT_TOO_LARGE);
        }
        self.take_update(&update, Origin::Session(session), user, now)?;
        self.acknowledge(session, true);
        Ok(())
    }

    /// Applies an update of the host or of another server.
    ///
    /// # Errors
    /// The update cannot be read, or is one too many that waits for missing ones.
    pub fn apply_update(
        &mut self,
        update: &Bytes,
        origin: Origin,
        now: Instant,
    ) -> Result<Applied, ScanError> {
        self.take_update(update, origin, None, now)
    }

    fn take_update(
        &mut self,
        update: &Bytes,
        origin: Origin,
        user: User,
        now: Instant,
    ) -> Result<Applied, ScanError> {
        let applied = self.log.apply(update)?;
        self.counts.updates += 1;
        self.counts.update_bytes += update.len() as u64;
        if applied.verdict == Verdict::Known {
            return Ok(applied);
        }
        self.version += 1;
        let whole = applied.verdict == Verdict::New && !applied.unparked;
        let author = match origin {
            Origin::Session(session) => Some(session),
            Origin::Cluster | Origin::Direct => None,
        };
        self.window.add(update, whole, author);
        // What another server made, that server stores.
        if self.options.persist && origin != Origin::Cluster {
            self.unstored.add(update, whole, user, applied.verdict == Verdict::Pending);
        }
        if self.options.report_changes {
            self.outputs.push_back(RoomOutput::Changed { update: update.clone(), origin });
        }
        self.open_window(now);
        Ok(applied)
    }

    /// Whether the document stays within its limit with this update. What is deleted does not count, so
    /// where it would not, deleted content is given up first.
    fn has_space_for(&mut self, update: &[u8]) -> bool {
        let bytes = |log: &StructLog| log.encoded_bytes() + log.pending_bytes() + update.len();
        if bytes(&self.log) > self.options.document_bytes_max
            && self.log.encoded_bytes() != self.compacted_bytes
        {
            self.compact();
        }
        bytes(&self.log) <= self.options.document_bytes_max
    }

    pub(super) fn compact(&mut self) {
        self.log.compact();
        self.full_state = None;
        self.compacted_bytes = self.log.encoded_bytes();
    }

    /// Gives up deleted content when the document has doubled since it last did: applications that
    /// replace all of a text with every change would otherwise keep all versions of it in memory.
    pub(super) fn compact_if_grown(&mut self) {
        if self.log.encoded_bytes() > 2 * self.compacted_bytes + COMPACT_BYTES_MIN {
            self.compact();
        }
    }

    fn acknowledge(&mut self, session: SessionKey, stored: bool) {
        self.owed.push(Owed { session, stored });
    }

    /// Hands the turn's updates over to be stored, with the acks that wait for it. The others go out.
    pub(super) fn store_turn(&mut self, now: Instant) {
        let brings = !self.unstored.is_empty();
        // Also an update that brought nothing new waits: it may be known, but not stored yet.
        let waits = self.options.ack == AckMode::Commit && (brings || self.uncommitted > 0);
        let mut acks = Acks::default();
        for Owed { session, stored } in std::mem::take(&mut self.owed) {
            let Some(index) = self.seats.find(session) else { continue };
            let subscriber = &self.seats[index].subscriber;
            // y-websocket has no acks: it prints an error for types it does not know.
            if subscriber.dialect == Dialect::Hocuspocus {
                let frame = self.ack_frames.with(&subscriber.prefix, stored);
                match waits {
                    true => acks.push(session, &subscriber.outbox, frame),
                    false => self.push(index, frame.into(), now),
                }
            }
        }
        if !brings && acks.is_empty() {
            return;
        }
        self.wait_for_acks(&acks, now);
        let (rows, parked) = self.unstored.take(&self.log);
        let batches = rows
            .into_iter()
            .map(|(update, user)| LogBatch { document: self.name.clone(), update, user })
            .collect();
        self.uncommitted += 1;
        self.outputs.push_back(RoomOutput::Persist(Persist { batches, acks, parked }));
    }

    /// One more [`Persist`] is stored, and all before it; those of its acks that nobody has sent go out, and with
    /// them what has waited for any.
    pub fn committed(&mut self, acks: Acks, now: Instant) {
        self.uncommitted -= 1;
        self.acks_due_at = None;
        for (session, frame) in acks.into_frames() {
            if let Some(index) = self.seats.find(session) {
                self.push(index, frame.into(), now);
            }
        }
    }

    /// How many [`Persist`]s are not known to be committed.
    pub fn uncommitted(&self) -> usize {
        self.uncommitted
    }
}

/// The last two ack frames made, since most sessions of a room share their prefix.
#[derive(Default)]
pub(super) struct AckFrames {
    last: [Option<(frame::Prefix, Bytes)>; 2],
}

impl AckFrames {
    fn with(&mut self, prefix: &frame::Prefix, stored: bool) -> Bytes {
        let last = &mut self.last[usize::from(stored)];
        match last {
            Some((known, frame)) if known == prefix => frame.clone(),
            _ => {
                let frame = frame::sync_status(prefix, stored);
                *last = Some((prefix.clone(), frame.clone()));
                frame
            }
        }
    }
}
