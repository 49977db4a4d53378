//! The sessions of one connection, in the order of their addresses, with the counters of what they queue.
//!
//! The counters follow from the sessions; every change to a queue or to the side of the authentication that a
//! session is on goes through here, so that they cannot drift.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use bytes::Bytes;
use smallvec::SmallVec;

use super::Ticket;
use super::session::{Session, State, split_address};
use crate::config::Limits;
use crate::error::{CloseReason, ProtocolError};
use crate::id::Address;

/// What one queued frame of an authenticated session counts beyond its bytes: its place in the queue and
/// the allocation that it keeps alive. (The limits for unauthenticated peers count as Hocuspocus does.)
const FRAME_OVERHEAD_BYTES: usize = 64;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// In the order of [`Session::sort_key`]. Most sockets have one, which lies here itself.
    list: SmallVec<[Session; 1]>,
    next_number: u32,
    unauthenticated_sessions: u32,
    unauthenticated_messages: usize,
    unauthenticated_bytes: usize,
    /// Bytes and overhead of the queues of authenticated sessions.
    authenticated_bytes: usize,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Finds a session by an address as it came. With `may_fall_back` one with a session id that nobody has
    /// finds the open session of the plain name, as in `ClientConnection.ts` (603–606).
    pub(super) fn find(&self, address: &str, may_fall_back: bool) -> Option<usize> {
        let (document, session_id) = split_address(address);
        let position = |key| self.list.binary_search_by(|session| session.sort_key().cmp(&key)).ok();
        position((document, session_id)).or_else(|| {
            let is_open = |at: &usize| matches!(self.list[*at].state, State::Open | State::Admitting);
            position((document, None)).filter(|at| may_fall_back && is_open(at))
        })
    }

    /// Finds a session by its number.
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        self.list.iter().position(|session| session.number == number)
    }

    /// Whether another session may start: no more than [`Limits::pending_documents_max`] may wait to be let
    /// in. (Nor may numbers run out, which takes four billion attempts.)
    pub(super) fn may_start(&self, limits: &Limits) -> bool {
        (self.unauthenticated_sessions as usize) < limits.pending_documents_max && self.next_number < u32::MAX
    }

    /// Starts a session for an address that has none.
    pub(super) fn insert(&mut self, address: Address) -> usize {
        let session = Session::new(address, self.next_number);
        self.next_number += 1;
        self.unauthenticated_sessions += 1;
        let at = self.list.partition_point(|other| other.sort_key() < session.sort_key());
        self.list.insert(at, session);
        at
    }

    pub(super) fn remove(&mut self, at: usize) -> Session {
        self.take_queue(at);
        let session = self.list.remove(at);
        if !session.state.is_authenticated() {
            self.unauthenticated_sessions -= 1;
        }
        if self.list.capacity() > 8 && self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to_fit();
        }
        session
    }

    /// Moves a session to the other side of the authentication, together with its queue.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn let_in(&mut self, at: usize, limits: &Limits) -> Result<Ticket, CloseReason> {
        let queue = self.take_queue(at);
        self.unauthenticated_sessions -= 1;
        let ticket = self.list[at].wait_in(State::Joining);
        for frame in queue {
            self.push(at, frame, limits)?;
        }
        Ok(ticket)
    }

    /// Adds a frame to a session's queue.
    ///
    /// # Errors
    /// A limit is crossed; the reason to close the socket with.
    pub(super) fn push(&mut self, at: usize, frame: Bytes, limits: &Limits) -> Result<(), CloseReason> {
        if self.list[at].state.is_authenticated() {
            let bytes = self.authenticated_bytes + frame.len() + FRAME_OVERHEAD_BYTES;
            if bytes > limits.session_queue_bytes_max {
                return Err(ProtocolError::Limit("session_queue_bytes_max").into());
            }
            self.authenticated_bytes = bytes;
        } else {
            let bytes = self.unauthenticated_bytes + frame.len();
            let messages = self.unauthenticated_messages + 1;
            if bytes > limits.unauthenticated_bytes_max || messages > limits.unauthenticated_messages_max {
                return Err(CloseReason::RESET_CONNECTION);
            }
            self.unauthenticated_bytes = bytes;
            self.unauthenticated_messages = messages;
        }
        self.list[at].queue.get_or_insert_default().push_back(frame);
        Ok(())
    }

    /// Takes the oldest frame of a session's queue.
    pub(super) fn pop(&mut self, at: usize) -> Option<Bytes> {
        let queue = self.list[at].queue.as_mut()?;
        let frame = queue.pop_front()?;
        if queue.is_empty() {
            self.list[at].queue = None;
        }
        self.uncount(at, 1, frame.len());
        Some(frame)
    }

    /// Takes a session's whole queue.
    pub(super) fn take_queue(&mut self, at: usize) -> VecDeque<Bytes> {
        let queue = self.list[at].queue.take().map(|queue| *queue).unwrap_or_default();
        self.uncount(at, queue.len(), queue.iter().map(Bytes::len).sum());
        queue
    }

    fn uncount(&mut self, at: usize, messages: usize, bytes: usize) {
        if self.list[at].state.is_authenticated() {
            self.authenticated_bytes -= bytes + messages * FRAME_OVERHEAD_BYTES;
        } else {
            self.unauthenticated_messages -= messages;
            self.unauthenticated_bytes -= bytes;
        }
    }
}

impl Index<usize> for Sessions {
    type Output = Session;

    fn index(&self, at: usize) -> &Session {
        &self.list[at]
    }
}

impl IndexMut<usize> for Sessions {
    fn index_mut(&mut self, at: usize) -> &mut Session {
        &mut self.list[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    #[test]
    fn an_idle_connection_with_one_session_is_small() {
        let bytes = size_of::<Connection>();
        assert!(bytes < 300, "{bytes} bytes");
    }

    #[test]
    fn one_session_needs_no_memory_of_its_own_and_many_are_given_back() {
        let mut sessions = Sessions::default();
        for number in 0..100 {
            sessions.insert(Address::parse(&format!("d{number}")).unwrap());
            assert_eq!(sessions.list.spilled(), number > 0);
        }
        while sessions.len() > 1 {
            sessions.remove(0);
        }
        assert!(sessions.list.capacity() <= 8);
    }
}
