//! Who is there: the latest awareness state of every client, which session it belongs to, and when it
//! was last renewed. Follows `y-protocols/awareness.js`: higher clocks win, an equal clock wins only
//! when it removes, and a state that nobody renewed for 30 seconds is removed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;

use crate::error::ProtocolError;
use crate::id::SessionKey;
use crate::protocol::awareness::{self, Entry};

/// A client that was not renewed for this long is gone (`outdatedTimeout`).
const OUTDATED: Duration = Duration::from_secs(30);
/// The clock of a removed client is remembered for this long, so that a late echo does not revive it.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Clients remembered at once, present or gone; beyond, a message that adds more is malformed.
const CLIENTS_MAX: usize = 100_000;

struct Client {
    clock: u64,
    /// JSON text; `None`: gone.
    state: Option<Bytes>,
    /// The session that last changed it; the one whose end removes it.
    owner: Option<SessionKey>,
    renewed_at: Instant,
}

/// The awareness of one room.
#[derive(Default)]
pub struct Awareness {
    clients: HashMap<u64, Client>,
    present: usize,
}

/// What one message changed, by client id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwarenessChange {
    /// New clients.
    pub added: Vec<u64>,
    /// Clients with another state, or the same renewed.
    pub updated: Vec<u64>,
    /// Clients that are gone.
    pub removed: Vec<u64>,
}

impl AwarenessChange {
    /// All clients that the change touches.
    pub fn clients(&self) -> impl Iterator<Item = u64> {
        self.added.iter().chain(&self.updated).chain(&self.removed).copied()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.updated.is_empty() && self.removed.is_empty()
    }
}

/// Bounds of what one session may set.
#[derive(Clone, Copy, Debug)]
pub struct AwarenessLimits {
    /// One client's state, in bytes.
    pub state_bytes_max: usize,
    /// Clients that one session may own.
    pub clients_per_session_max: usize,
}

impl Awareness {
    /// Applies a message of a session (`None`: the cluster or the host).
    ///
    /// # Errors
    /// The message cannot be read, or crosses a bound; then nothing is applied.
    pub fn apply(
        &mut self,
        update: &[u8],
        owner: Option<SessionKey>,
        limits: AwarenessLimits,
        now: Instant,
    ) -> Result<AwarenessChange, ProtocolError> {
        let entries = awareness::scan(update)?;
        self.check(entries.clone(), owner, limits)?;
        let mut change = AwarenessChange::default();
        for entry in entries {
            self.apply_entry(entry, owner, now, &mut change);
        }
        Ok(change)
    }

    fn check<'a>(
        &self,
        entries: impl ExactSizeIterator<Item = Entry<'a>>,
        owner: Option<SessionKey>,
        limits: AwarenessLimits,
    ) -> Result<(), ProtocolError> {
        // A message carries all clients that the sender knows (a provider echoes others' states), so
        // the bound is on what the session would own anew, and only counted when it could matter.
        let suspicious =
            entries.len() > limits.clients_per_session_max / 2 || self.clients.len() > CLIENTS_MAX / 2;
        let mut fresh = 0;
        for entry in entries {
            if entry.state.len() > limits.state_bytes_max {
                return Err(ProtocolError::Limit("awareness state bytes"));
            }
            fresh += usize::from(suspicious && !self.clients.contains_key(&entry.client));
        }
        if suspicious {
            let owned = self.clients.values().filter(|client| client.owner == owner).count();
            if fresh > 0
                && (owned + fresh > limits.clients_per_session_max
                    || self.clients.len() + fresh > CLIENTS_MAX)
            {
                return Err(ProtocolError::Limit("awareness clients"));
            }
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        entry: Entry<'_>,
        owner: Option<SessionKey>,
        now: Instant,
        change: &mut AwarenessChange,
    ) {
        let state = (entry.state != "null").then(|| Bytes::copy_from_slice(entry.state.as_bytes()));
        let Some(client) = self.clients.get_mut(&entry.client) else {
            if state.is_some() {
                self.present += 1;
                change.added.push(entry.client);
            }
            self.clients.insert(entry.client, Client { clock: entry.clock, state, owner, renewed_at: now });
            return;
        };
        let removes = client.clock == entry.clock && state.is_none() && client.state.is_some();
        if entry.clock <= client.clock && !removes {
            return;
        }
        match (client.state.is_some(), state.is_some()) {
            (false, true) => {
                self.present += 1;
                change.added.push(entry.client);
            }
            (true, true) => change.updated.push(entry.client),
            (true, false) => {
                self.present -= 1;
                change.removed.push(entry.client);
            }
            (false, false) => {}
        }
        // The newest session that speaks for a client owns it: a client that came back on another
        // socket must not vanish when its old socket is found dead.
        *client = Client { clock: entry.clock, state, owner, renewed_at: now };
    }

    /// Removes what a session owns; the clients that are gone now.
    pub fn remove_session(&mut self, session: SessionKey, now: Instant) -> AwarenessChange {
        self.remove_where(now, |client| client.owner == Some(session))
    }

    /// Removes what was not renewed in time; the clients that are gone now.
    pub fn expire(&mut self, now: Instant) -> AwarenessChange {
        self.clients.retain(|_, client| client.state.is_some() || now - client.renewed_at < REMEMBERED);
        self.remove_where(now, |client| now.saturating_duration_since(client.renewed_at) >= OUTDATED)
    }

    fn remove_where(&mut self, now: Instant, remove: impl Fn(&Client) -> bool) -> AwarenessChange {
        let mut change = AwarenessChange::default();
        for (id, client) in &mut self.clients {
            if client.state.is_some() && remove(client) {
                // The clock stays, as `removeAwarenessStates` has it for clients of others: peers accept a
                // removal at an equal clock, and the client's next state must count as newer.
                client.state = None;
                client.renewed_at = now;
                change.removed.push(*id);
            }
        }
        self.present -= change.removed.len();
        change
    }

    /// When [`Self::expire`] has to run next: not before this, maybe later.
    pub fn next_expiry(&self) -> Option<Instant> {
        let present = self.clients.values().filter(|client| client.state.is_some());
        present.map(|client| client.renewed_at + OUTDATED).min()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// An awareness message of everybody who is there.
    pub fn encode_all(&self) -> Vec<u8> {
        let present = self.clients.iter().filter(|(_, client)| client.state.is_some());
        let entries: Vec<Entry<'_>> = present.map(|(id, client)| client.entry(*id)).collect();
        awareness::encode(entries.into_iter())
    }

    /// An awareness message of these clients, as they are now (gone ones as `null`).
    pub fn encode(&self, clients: impl Iterator<Item = u64>) -> Vec<u8> {
        let known = clients.filter_map(|id| Some(self.clients.get(&id)?.entry(id)));
        let entries: Vec<Entry<'_>> = known.collect();
        awareness::encode(entries.into_iter())
    }

    /// Everybody who is there with the state as JSON text.
    pub fn states(&self) -> impl Iterator<Item = (u64, &str)> {
        self.clients
            .iter()
            .filter(|(_, client)| client.state.is_some())
            .map(|(id, client)| (*id, client.text()))
    }
}

impl Client {
    fn entry(&self, client: u64) -> Entry<'_> {
        Entry { client, clock: self.clock, state: self.text() }
    }

    fn text(&self) -> &str {
        // Invariant: states come from `awareness::scan`, which checked them.
        self.state.as_deref().map_or("null", |state| std::str::from_utf8(state).unwrap_or("null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnectionId;

    const LIMITS: AwarenessLimits = AwarenessLimits { state_bytes_max: 100, clients_per_session_max: 4 };

    fn session(number: u32) -> Option<SessionKey> {
        Some(SessionKey { connection: ConnectionId(1), number })
    }

    fn update(entries: &[(u64, u64, &str)]) -> Vec<u8> {
        awareness::encode(entries.iter().map(|&(client, clock, state)| Entry { client, clock, state }))
    }

    fn change(added: &[u64], updated: &[u64], removed: &[u64]) -> AwarenessChange {
        AwarenessChange { added: added.into(), updated: updated.into(), removed: removed.into() }
    }

    #[test]
    fn clocks_decide() {
        let now = Instant::now();
        let mut room = Awareness::default();
        let mut apply =
            |entries: &[(u64, u64, &str)]| room.apply(&update(entries), session(1), LIMITS, now).unwrap();
        assert_eq!(apply(&[(1, 5, "{}")]), change(&[1], &[], &[]));
        assert_eq!(apply(&[(1, 5, "{\"a\":1}")]), change(&[], &[], &[]));
        assert_eq!(apply(&[(1, 6, "{\"a\":1}"), (2, 0, "{}")]), change(&[2], &[1], &[]));
        assert_eq!(apply(&[(1, 6, "null")]), change(&[], &[], &[1]));
        assert_eq!(apply(&[(1, 6, "{}")]), change(&[], &[], &[]));
        assert_eq!(apply(&[(1, 7, "{}")]), change(&[1], &[], &[]));
    }

    #[test]
    fn a_session_takes_its_clients_with_it_but_not_those_that_moved() {
        let now = Instant::now();
        let mut room = Awareness::default();
        room.apply(&update(&[(1, 1, "{}"), (2, 1, "{}")]), session(1), LIMITS, now).unwrap();
        room.apply(&update(&[(2, 2, "{}")]), session(2), LIMITS, now).unwrap();
        assert_eq!(room.remove_session(session(1).unwrap(), now), change(&[], &[], &[1]));
        assert_eq!(room.states().collect::<Vec<_>>(), [(2, "{}")]);
        let gone = room.encode([1].into_iter());
        assert_eq!(gone, update(&[(1, 1, "null")]));
        // The client that comes back says its next state.
        assert_eq!(
            room.apply(&update(&[(1, 2, "{}")]), session(3), LIMITS, now).unwrap(),
            change(&[1], &[], &[])
        );
    }

    #[test]
    fn states_expire_after_thirty_seconds() {
        let start = Instant::now();
        let mut room = Awareness::default();
        room.apply(&update(&[(1, 1, "{}")]), session(1), LIMITS, start).unwrap();
        assert_eq!(room.next_expiry(), Some(start + OUTDATED));
        assert!(room.expire(start + Duration::from_secs(29)).is_empty());
        room.apply(&update(&[(1, 2, "{}")]), session(1), LIMITS, start + Duration::from_secs(20)).unwrap();
        assert!(room.expire(start + Duration::from_secs(30)).is_empty());
        assert_eq!(room.expire(start + Duration::from_secs(50)), change(&[], &[], &[1]));
        assert!(room.is_empty() && room.next_expiry().is_none());
    }

    #[test]
    fn bounds_hold() {
        let now = Instant::now();
        let mut room = Awareness::default();
        let large = format!("\"{}\"", "a".repeat(100));
        let result = room.apply(&update(&[(1, 1, &large)]), session(1), LIMITS, now);
        assert_eq!(result, Err(ProtocolError::Limit("awareness state bytes")));
        let many: Vec<_> = (0..5).map(|id| (id, 1, "{}")).collect();
        assert_eq!(
            room.apply(&update(&many), session(1), LIMITS, now),
            Err(ProtocolError::Limit("awareness clients"))
        );
        assert!(room.is_empty());
        room.apply(&update(&many[..4]), session(1), LIMITS, now).unwrap();
        // An echo of what is known is not what the bound is about.
        assert!(room.apply(&update(&many[..4]), session(2), LIMITS, now).unwrap().is_empty());
    }
}
