//! Which structs live in a deleted type, seen from the encoded structs alone.
//!
//! Most structs name no parent but take over that of a neighbour, so that the answer is found by following origins,
//! with a state per struct and a stack instead of recursion.

use super::client::ClientLog;
use super::content::{GC, TYPE};
use super::structs::{Id, Parent, Struct};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Alive,
    Dead,
}

/// A struct's place, and what is known about it.
struct Node {
    clock: u32,
    at: u32,
    state: State,
}

/// Where a node is: its client's slot and its ordinal.
type Place = (usize, usize);

/// Tells for every client by ordinal which of its structs live in a deleted type or hang on what does; `None` if
/// no type is deleted.
pub(super) fn dead_structs(
    clients: &[ClientLog],
    slot: impl Fn(u64) -> Option<usize>,
) -> Option<Vec<Vec<bool>>> {
    let deletes_type = |client: &ClientLog| {
        client.deletes.len() > 0
            && client.iter().any(|item| item.kind() == TYPE && client.deletes.contains(item.clock))
    };
    if !clients.iter().any(deletes_type) {
        return None;
    }
    let node = |item: Struct| Node { clock: item.clock, at: item.start as u32, state: State::Unknown };
    let nodes = clients.iter().map(|client| client.iter().map(node).collect()).collect();
    let mut containers = Containers { clients, slot, nodes };
    for slot in 0..clients.len() {
        for ordinal in 0..containers.nodes[slot].len() {
            containers.settle((slot, ordinal));
        }
    }
    let dead = |nodes: Vec<Node>| nodes.into_iter().map(|node| node.state == State::Dead).collect();
    Some(containers.nodes.into_iter().map(dead).collect())
}

struct Containers<'a, F> {
    clients: &'a [ClientLog],
    slot: F,
    nodes: Vec<Vec<Node>>,
}

impl<F: Fn(u64) -> Option<usize>> Containers<'_, F> {
    /// Settles the state of `place` and of all that it depends on.
    fn settle(&mut self, place: Place) {
        let mut stack = vec![place];
        while let Some(&place) = stack.last() {
            match self.judge(place) {
                // A struct only refers to what was there before it, so that this ends.
                Err(unknown) => stack.push(unknown),
                Ok(state) => {
                    self.nodes[place.0][place.1].state = state;
                    stack.pop();
                }
            }
        }
    }

    /// The state of `place`, or what has to be settled first.
    fn judge(&self, place: Place) -> Result<State, Place> {
        let (slot, ordinal) = place;
        let node = &self.nodes[slot][ordinal];
        if node.state != State::Unknown {
            return Ok(node.state);
        }
        let Some(item) = self.clients[slot].read_at(node.at as usize, node.clock) else {
            return Ok(State::Alive);
        };
        // yjs turns an item whose neighbour or parent is a GC struct into one.
        if item.kind() == GC {
            return Ok(State::Dead);
        }
        for neighbour in [item.origin, item.right].into_iter().flatten() {
            if self.state_of(neighbour)? == State::Dead {
                return Ok(State::Dead);
            }
        }
        let Parent::Item(parent) = item.parent else { return Ok(State::Alive) };
        let deleted =
            (self.slot)(parent.client).is_some_and(|slot| self.clients[slot].deletes.contains(parent.clock));
        if deleted { Ok(State::Dead) } else { self.state_of(parent) }
    }

    fn state_of(&self, id: Id) -> Result<State, Place> {
        let Some(place) = self.place(id) else { return Ok(State::Alive) };
        match self.nodes[place.0][place.1].state {
            State::Unknown => Err(place),
            state => Ok(state),
        }
    }

    /// Dependencies were complete when a struct was taken, so that every id is found.
    fn place(&self, id: Id) -> Option<Place> {
        let slot = (self.slot)(id.client)?;
        let after = self.nodes[slot].partition_point(|node| node.clock <= id.clock);
        Some((slot, after.checked_sub(1)?))
    }
}
