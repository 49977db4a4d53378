//! A way through all structs of a log along what they refer to: their parents and neighbours. Whatever is found out
//! about one from another goes on and on, and is found out without recursion.

use super::StructLog;
use super::client::ClientLog;
use super::structs::{Id, Struct};

/// A client's slot and a struct's ordinal.
pub(super) type Place = (usize, usize);

struct Node<T> {
    clock: u32,
    at: u32,
    found: Option<T>,
}

/// Every struct, with what was found out about it so far.
pub(super) struct Walk<'a, T> {
    log: &'a StructLog,
    nodes: Vec<Vec<Node<T>>>,
}

impl<'a, T: Copy> Walk<'a, T> {
    pub(super) fn new(log: &'a StructLog) -> Self {
        let node = |item: Struct| Node { clock: item.clock, at: item.start as u32, found: None };
        let nodes = log.clients.iter().map(|client| client.iter().map(node).collect()).collect();
        Self { log, nodes }
    }

    /// The places of those structs that `wanted` names.
    pub(super) fn places(&self, wanted: impl Fn(&ClientLog, &Struct) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for (slot, client) in self.log.clients.iter().enumerate() {
            let named = client.iter().enumerate().filter(|(_, item)| wanted(client, item));
            places.extend(named.map(|(ordinal, _)| (slot, ordinal)));
        }
        places
    }

    /// The struct at a place.
    pub(super) fn read(&self, (slot, ordinal): Place) -> Option<(&'a ClientLog, Struct)> {
        let (client, node) = (&self.log.clients[slot], &self.nodes[slot][ordinal]);
        Some((client, client.read_at(node.at as usize, node.clock)?))
    }

    /// Where a struct is that another one names.
    pub(super) fn find(&self, id: Id) -> Option<Place> {
        let slot = self.log.slot(id.client)?;
        let after = self.nodes[slot].partition_point(|node| node.clock <= id.clock);
        Some((slot, after.checked_sub(1)?))
    }

    /// The one from which a struct that names no parent has it.
    pub(super) fn neighbour(&self, item: &Struct) -> Option<Place> {
        item.origin.or(item.right).and_then(|id| self.find(id))
    }

    /// What was found out about a place.
    pub(super) fn known(&self, (slot, ordinal): Place) -> Option<T> {
        self.nodes[slot][ordinal].found
    }

    /// Finds it out about `place`: `judge` says it, or whose has to be known first. A struct only refers to what
    /// was there before it, so that this ends.
    pub(super) fn settle(
        &mut self,
        place: Place,
        mut judge: impl FnMut(&Self, Place) -> Result<T, Place>,
    ) -> T {
        let mut waiting = Vec::new();
        let mut at = place;
        loop {
            match self.known(at).map_or_else(|| judge(self, at), Ok) {
                Err(first) => {
                    waiting.push(at);
                    at = first;
                }
                Ok(found) => {
                    self.nodes[at.0][at.1].found = Some(found);
                    match waiting.pop() {
                        None => return found,
                        Some(next) => at = next,
                    }
                }
            }
        }
    }
}
