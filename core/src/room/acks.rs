//! Acks that wait for the store. They travel with the rows that they are about, so that whoever has stored those
//! can send them: the room, whose memory is cold by then, need not be woken for it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashSet;
use smallvec::SmallVec;

use super::outbox::Outbox;
use crate::id::SessionKey;

/// The ack of one update of one session.
struct Ack {
    session: SessionKey,
    /// Weak: an ack may wait for as long as a database is away, and would keep the socket of a client that has gone.
    outbox: Weak<Outbox>,
    /// [`Outbox::departures`] when the update came.
    departures: u32,
    frame: Bytes,
}

/// The acks of one [`super::Persist`], in order.
#[derive(Default)]
pub struct Acks(SmallVec<[Ack; 1]>);

impl Acks {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many sessions they are for.
    pub(super) fn sessions(&self) -> usize {
        let mut sessions: SmallVec<[SessionKey; 8]> = self.0.iter().map(|ack| ack.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, session: SessionKey, outbox: &Arc<Outbox>, frame: Bytes) {
        let departures = outbox.departures();
        self.0.push(Ack { session, outbox: Arc::downgrade(outbox), departures, frame });
    }

    /// Writes them to the sockets, without the room; how many. Those of sessions that may be gone are left: the
    /// room knows ([`super::Room::committed`]).
    pub fn send(&mut self, now: Instant) -> usize {
        let mut sent: SmallVec<[Arc<Outbox>; 1]> = SmallVec::new();
        let mut left = HashSet::new();
        self.0.retain(|ack| {
            let Some(outbox) = ack.outbox.upgrade() else { return false };
            // A later one does not overtake one that is left.
            let pushed = !left.contains(&ack.session)
                && outbox.push_unless_departed(ack.departures, ack.frame.clone().into(), now);
            match pushed {
                true => sent.push(outbox),
                false => drop(left.insert(ack.session)),
            }
            !pushed
        });
        for outbox in &sent {
            outbox.write(now);
        }
        sent.len()
    }

    pub(super) fn into_frames(self) -> impl Iterator<Item = (SessionKey, Bytes)> {
        self.0.into_iter().map(|ack| (ack.session, ack.frame))
    }
}

impl fmt::Debug for Acks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} acks", self.len())
    }
}
