//! In which order the structs of an update can be taken, and what of it has to wait.
//!
//! The blocks of an update may depend on one another, in both directions. Each is followed as far as its
//! dependencies are known; at a missing one the block that holds it goes first. A block that turns out to wait for
//! itself, or for something that is not here, waits with all that wait for it: yjs parks the same structs.

use super::content::SKIP;
use super::reader::Reader;
use super::scan::{Block, ScanError};
use super::structs::{Id, Struct};
use hashbrown::HashMap;

/// Blocks among which a linear search beats a map.
const LINEAR_BLOCKS_MAX: usize = 8;

/// What structs are offered to, in an order in which all that they refer to is there.
pub(super) trait Sink {
    /// The clock after the last struct of `client`.
    fn clock(&self, client: u64) -> u32;

    /// Takes a struct of which the first `known` clocks are there already.
    fn push(&mut self, found: Found<'_>) -> Result<(), ScanError>;
}

/// A struct that can be taken.
pub(super) struct Found<'a> {
    pub(super) client: u64,
    pub(super) source: &'a [u8],
    pub(super) item: &'a Struct,
    pub(super) known: u32,
    /// Bytes up to the end of its block.
    pub(super) ahead: usize,
}

/// What is left of a block.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) structs: u32,
    pub(super) at: usize,
    end: usize,
    place: Place,
    /// What the rest waits for.
    pub(super) need: Option<Id>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    OnStack,
    Done,
}

impl Run {
    /// `structs` structs from `clock` on, at `bytes` of an update.
    pub(super) fn new(client: u64, clock: u32, structs: u32, bytes: std::ops::Range<usize>) -> Self {
        let (at, end) = (bytes.start, bytes.end);
        Self { client, clock, structs, at, end, place: Place::Open, need: None }
    }
}

impl From<Block> for Run {
    fn from(block: Block) -> Self {
        let Block { client, clock, structs, start, end } = block;
        Self::new(client, clock, structs, start..end)
    }
}

/// Offers everything in `runs` that can be taken; what has to wait stays in its run with its need.
#[inline]
pub(super) fn resolve(update: &[u8], runs: &mut [Run], sink: &mut impl Sink) -> Result<(), ScanError> {
    match runs {
        [] => {}
        [run] => {
            if let Step::Missing(id) = follow(update, run, u32::MAX, sink)? {
                run.need = Some(id);
            }
        }
        runs => resolve_many(update, runs, sink)?,
    }
    Ok(())
}

fn resolve_many(update: &[u8], runs: &mut [Run], sink: &mut impl Sink) -> Result<(), ScanError> {
    let mut by_client = HashMap::new();
    if runs.len() > LINEAR_BLOCKS_MAX {
        by_client.extend(runs.iter().enumerate().map(|(index, run)| (run.client, index)));
    }
    let find = |runs: &[Run], client: u64| match runs.len() {
        0..=LINEAR_BLOCKS_MAX => runs.iter().position(|run| run.client == client),
        _ => by_client.get(&client).copied(),
    };
    // Blocks that wait for the one above them, each with the clock that the one below it waits for.
    let mut stack: Vec<(usize, u32)> = Vec::new();
    for index in 0..runs.len() {
        if runs[index].place == Place::Done {
            continue;
        }
        stack.push((index, u32::MAX));
        while let Some(&(top, goal)) = stack.last() {
            runs[top].place = Place::OnStack;
            match follow(update, &mut runs[top], goal, sink)? {
                Step::Ended => {
                    runs[top].place = Place::Done;
                    stack.pop();
                }
                Step::Reached => {
                    runs[top].place = Place::Open;
                    stack.pop();
                }
                Step::Missing(id) => {
                    runs[top].need = Some(id);
                    match find(runs, id.client).filter(|&found| runs[found].place == Place::Open) {
                        Some(found) => stack.push((found, id.clock.saturating_add(1))),
                        None => stack.drain(..).for_each(|(index, _)| runs[index].place = Place::Done),
                    }
                }
            }
        }
    }
    Ok(())
}

enum Step {
    /// All structs of the block are taken.
    Ended,
    /// The client's clock reached the goal.
    Reached,
    /// The next struct refers to this unknown id.
    Missing(Id),
}

/// Takes structs of one block until its client's clock is `goal`.
#[inline]
fn follow(update: &[u8], run: &mut Run, goal: u32, sink: &mut impl Sink) -> Result<Step, ScanError> {
    let mut state = sink.clock(run.client);
    run.need = None;
    while run.structs > 0 {
        if state >= goal {
            return Ok(Step::Reached);
        }
        let item = Struct::read::<true>(&mut Reader::at(update, run.at), run.client, run.clock)?;
        if item.kind() != SKIP && item.end_clock() > state {
            if item.clock > state {
                return Ok(Step::Missing(Id { client: run.client, clock: item.clock - 1 }));
            }
            if let Some(id) = missing(&item, run.client, sink) {
                return Ok(Step::Missing(id));
            }
            let known = state - item.clock;
            let ahead = run.end - item.start;
            sink.push(Found { client: run.client, source: update, item: &item, known, ahead })?;
            state = item.end_clock();
        }
        run.structs -= 1;
        run.at = item.end;
        run.clock = item.end_clock();
    }
    Ok(Step::Ended)
}

/// The first id that `item` refers to and that is unknown. Its own client's were checked by the scanner.
#[inline]
pub(super) fn missing(item: &Struct, client: u64, sink: &impl Sink) -> Option<Id> {
    let unknown = |id: &Id| id.client != client && id.clock >= sink.clock(id.client);
    item.origin
        .filter(unknown)
        .or_else(|| item.right.filter(unknown))
        .or_else(|| item.parent.id().filter(unknown))
}
