//! The sessions in a room, in one list. Few are found by looking through it: whoever sends to them all looks
//! at each anyway, and a hashed look-up would be two more places in memory for every message.

use std::ops::{Index, IndexMut};
use std::time::Instant;

use hashbrown::HashMap;

use super::Subscriber;
use super::broadcast::Lag;
use crate::id::SessionKey;

/// Up to this many are looked through.
const SCANNED_MAX: usize = 16;

/// One session's place.
pub(super) struct Seat {
    pub(super) subscriber: Subscriber,
    /// Boxed: hardly anybody has one.
    pub(super) lag: Option<Box<Lag>>,
    pub(super) touched: bool,
    /// When it was last sent awareness of its own.
    pub(super) echoed_at: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Seats {
    list: Vec<Seat>,
    /// Where each session sits; empty while there are no more than [`SCANNED_MAX`].
    places: HashMap<SessionKey, usize>,
}

impl Seats {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.list.iter()
    }

    /// Where a session sits, until another one leaves.
    pub(super) fn find(&self, session: SessionKey) -> Option<usize> {
        match self.places.is_empty() {
            true => self.list.iter().position(|seat| seat.subscriber.session == session),
            false => self.places.get(&session).copied(),
        }
    }

    /// Adds a session that has no seat yet.
    pub(super) fn push(&mut self, subscriber: Subscriber) {
        let place = self.list.len();
        if place >= SCANNED_MAX {
            if self.places.is_empty() {
                let seated = self.list.iter().enumerate();
                self.places = seated.map(|(place, seat)| (seat.subscriber.session, place)).collect();
            }
            self.places.insert(subscriber.session, place);
        }
        self.list.push(Seat { subscriber, lag: None, touched: false, echoed_at: None });
    }

    /// Removes a session; the last one takes its place.
    pub(super) fn remove(&mut self, place: usize) {
        let left = self.list.swap_remove(place);
        if self.list.len() <= SCANNED_MAX {
            self.places = HashMap::new();
        } else {
            self.places.remove(&left.subscriber.session);
            if let Some(moved) = self.list.get(place) {
                self.places.insert(moved.subscriber.session, place);
            }
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.list.shrink_to_fit();
        self.places.shrink_to_fit();
    }
}

impl Index<usize> for Seats {
    type Output = Seat;

    fn index(&self, place: usize) -> &Seat {
        &self.list[place]
    }
}

impl IndexMut<usize> for Seats {
    fn index_mut(&mut self, place: usize) -> &mut Seat {
        &mut self.list[place]
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};
    use std::sync::Arc;

    use super::*;
    use crate::auth::Access;
    use crate::id::ConnectionId;
    use crate::protocol::Dialect;
    use crate::protocol::frame::Prefix;
    use crate::room::{Framing, Outbox, Sink};

    struct Void;

    impl Sink for Void {
        fn framing(&self) -> Framing {
            Framing::None
        }
        fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn wake(&self) {}
    }

    fn session(number: u32) -> SessionKey {
        SessionKey { connection: ConnectionId(1), number }
    }

    fn subscriber(number: u32) -> Subscriber {
        Subscriber {
            session: session(number),
            prefix: Prefix::none(),
            dialect: Dialect::YWebsocket,
            access: Access::ReadOnly,
            user: None,
            outbox: Arc::new(Outbox::new(1, Void)),
        }
    }

    /// Goal: who is here is found, and nobody else, in crowds on both sides of the bound and across it. Method:
    /// come and go in an order from a fixed seed, beside a plain list.
    #[test]
    fn everybody_is_found_and_nobody_else() {
        let (mut seats, mut here, mut random) = (Seats::default(), Vec::new(), 7_u64);
        let mut sizes = Vec::new();
        for number in 0..2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let leave = (random >> 33) % 100 < if (number / 100) % 2 == 0 { 35 } else { 65 };
            if leave && !here.is_empty() {
                let gone = here.swap_remove((random >> 40) as usize % here.len());
                seats.remove(seats.find(session(gone)).unwrap());
                assert_eq!(seats.find(session(gone)), None);
            } else {
                seats.push(subscriber(number));
                here.push(number);
            }
            assert_eq!(seats.len(), here.len());
            for &number in &here {
                assert_eq!(seats[seats.find(session(number)).unwrap()].subscriber.session, session(number));
            }
            sizes.push(here.len());
        }
        let crossings = sizes.windows(2).filter(|pair| pair[0] == SCANNED_MAX && pair[1] > SCANNED_MAX);
        assert!(crossings.count() > 2, "the bound was crossed");
    }
}
