//! The scanner: one pass over an update or a state vector that finds everything which would harm a
//! reader, before anything is applied or relayed.

use super::content::SKIP;
use super::reader::Reader;
use super::structs::Struct;
use hashbrown::HashSet;

/// Why bytes from a peer were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// No yjs peer could read these bytes, or reading them would harm one.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The update has to wait for others, and as many bytes as may wait do so already.
    #[error("too many bytes of updates wait for missing ones")]
    PendingFull,
    /// One client's structs would exceed 4 GiB.
    #[error("the document is larger than 4 GiB")]
    TooLarge,
}

/// What exactly is wrong with malformed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end in the middle of something.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes follow the end.
    #[error("bytes follow the end")]
    Trailing,
    /// An integer takes more than 53 bits.
    #[error("an integer exceeds 53 bits")]
    Integer,
    /// A count exceeds what the bytes that are left can hold.
    #[error("a count exceeds the bytes left")]
    Count,
    /// A clock or length exceeds 32 bits.
    #[error("a clock exceeds 32 bits")]
    Clock,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A JSON value does not parse.
    #[error("a JSON value does not parse")]
    Json,
    /// A value nests deeper than 64 levels.
    #[error("a value nests deeper than 64 levels")]
    Nesting,
    /// The content ref is unknown.
    #[error("unknown content ref")]
    ContentRef,
    /// The type ref is unknown.
    #[error("unknown type ref")]
    TypeRef,
    /// The tag of an `Any` value is unknown.
    #[error("unknown tag of a value")]
    AnyTag,
    /// A GC or Skip struct carries the flags of an item.
    #[error("a GC or Skip struct carries flags")]
    Flags,
    /// A parent is neither a name nor an id.
    #[error("a parent is neither a name nor an id")]
    Parent,
    /// A struct or a delete range is zero clocks long.
    #[error("a struct or delete range is empty")]
    Empty,
    /// A struct refers to itself or to a later one of its client.
    #[error("a struct refers to itself or later")]
    SelfReference,
    /// A client has two blocks of structs, of which yjs would read only one.
    #[error("a client occurs twice")]
    DuplicateClient,
    /// The options of a subdocument are null or undefined.
    #[error("the options of a subdocument are missing")]
    SubdocumentOptions,
}

/// What an update contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateSummary {
    /// Clients with structs.
    pub clients: usize,
    /// Structs, without Skips.
    pub structs: usize,
    /// Skips: holes between structs of one client.
    pub skips: usize,
    /// Clocks that the structs cover.
    pub clocks: u64,
    /// Ranges in the delete set.
    pub delete_ranges: usize,
}

/// Checks one update (format 1) completely, allocating nothing while its clients are in yjs' order.
pub fn scan_update(update: &[u8]) -> Result<UpdateSummary, ScanError> {
    Ok(walk(update, Empties::Refused, |_| {})?.summary)
}

/// Checks a state vector completely and returns how many clients it names.
pub fn scan_state_vector(state_vector: &[u8]) -> Result<usize, ScanError> {
    let mut clients = 0;
    walk_state_vector(state_vector, |_, _| clients += 1)?;
    Ok(clients)
}

/// What to do with structs and delete ranges of no length: they serve nobody, and confuse yjs, so that peers may
/// not send them; but an old snapshot that holds one must load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Empties {
    Refused,
    Dropped,
}

/// The structs of one client in an update.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) structs: u32,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A scanned update.
pub(super) struct Walk {
    pub(super) summary: UpdateSummary,
    /// Where the delete set starts.
    pub(super) deletes: usize,
}

/// Checks `update` and reports every block after it was found to be sound.
#[inline]
pub(super) fn walk(
    update: &[u8],
    empties: Empties,
    mut on_block: impl FnMut(Block),
) -> Result<Walk, Malformed> {
    let mut reader = Reader::at(update, 0);
    let mut summary = UpdateSummary::default();
    // A block takes three bytes at least: its count, client and clock.
    let blocks = reader.count(3)?;
    let mut previous = u64::MAX;
    let mut descending = true;
    for _ in 0..blocks {
        // A struct takes two bytes at least: its info and its length.
        let structs = reader.count(2)?;
        let client = reader.varuint()?;
        let clock = reader.clock()?;
        let start = reader.position();
        descending &= client < previous;
        previous = client;
        let mut block = Block { client, clock, structs, start, end: start };
        walk_block(&mut reader, block, empties, &mut summary)?;
        block.end = reader.position();
        on_block(block);
    }
    summary.clients = blocks as usize;
    let deletes = reader.position();
    summary.delete_ranges = walk_deletes(&mut reader, empties, |_, _, _| {})?;
    if reader.remaining() > 0 {
        return Err(Malformed::Trailing);
    }
    if !descending {
        refuse_duplicates(update, blocks)?;
    }
    Ok(Walk { summary, deletes })
}

/// An update of one struct.
pub(super) struct One {
    pub(super) client: u64,
    pub(super) item: Struct,
    /// Where the delete set starts.
    pub(super) deletes: usize,
    pub(super) delete_ranges: usize,
}

/// Reads what nearly every update is, a sound one of one struct, at the cost of reading it once. `None` says nothing
/// about an update but that `walk` has to judge it.
#[inline]
pub(super) fn walk_one(update: &[u8]) -> Option<One> {
    if !matches!(update, [1, 1, ..]) {
        return None;
    }
    let mut reader = Reader::at(update, 2);
    let client = reader.varuint().ok()?;
    let clock = reader.clock().ok()?;
    let item = Struct::read::<false>(&mut reader, client, clock).ok()?;
    if item.len == 0 || item.kind() == SKIP {
        return None;
    }
    let deletes = reader.position();
    let delete_ranges = walk_deletes(&mut reader, Empties::Refused, |_, _, _| {}).ok()?;
    (reader.remaining() == 0).then_some(One { client, item, deletes, delete_ranges })
}

#[inline]
fn walk_block(
    reader: &mut Reader<'_>,
    block: Block,
    empties: Empties,
    summary: &mut UpdateSummary,
) -> Result<(), Malformed> {
    let mut clock = block.clock;
    for _ in 0..block.structs {
        let item = Struct::read::<false>(reader, block.client, clock)?;
        clock = item.end_clock();
        if item.kind() == SKIP {
            summary.skips += 1;
            continue;
        }
        if item.len == 0 && empties == Empties::Refused {
            return Err(Malformed::Empty);
        }
        summary.structs += 1;
        summary.clocks += u64::from(item.len);
    }
    Ok(())
}

/// Reads a delete set and reports its ranges as client, first clock and end, without empty ones.
#[inline]
pub(super) fn walk_deletes(
    reader: &mut Reader<'_>,
    empties: Empties,
    mut on_range: impl FnMut(u64, u32, u32),
) -> Result<usize, Malformed> {
    let mut ranges = 0;
    for _ in 0..reader.count(2)? {
        let client = reader.varuint()?;
        let count = reader.count(2)?;
        for _ in 0..count {
            let start = reader.clock()?;
            let end = start.checked_add(reader.clock()?).ok_or(Malformed::Clock)?;
            if start < end {
                on_range(client, start, end);
            } else if empties == Empties::Refused {
                return Err(Malformed::Empty);
            }
        }
        ranges += count as usize;
    }
    Ok(ranges)
}

/// Reads a state vector and reports its entries; a clock beyond 32 bits counts as the largest.
pub(super) fn walk_state_vector(
    state_vector: &[u8],
    mut on_entry: impl FnMut(u64, u32),
) -> Result<(), Malformed> {
    let mut reader = Reader::at(state_vector, 0);
    for _ in 0..reader.count(2)? {
        let client = reader.varuint()?;
        let clock = reader.varuint()?;
        on_entry(client, u32::try_from(clock).unwrap_or(u32::MAX));
    }
    if reader.remaining() > 0 { Err(Malformed::Trailing) } else { Ok(()) }
}

/// Looks for a client that occurs twice in an update that was found sound but for that.
#[cold]
fn refuse_duplicates(update: &[u8], blocks: u32) -> Result<(), Malformed> {
    let mut reader = Reader::at(update, 0);
    reader.count(3)?;
    let mut seen = HashSet::with_capacity(blocks as usize);
    for _ in 0..blocks {
        let structs = reader.count(2)?;
        let client = reader.varuint()?;
        let mut clock = reader.clock()?;
        if !seen.insert(client) {
            return Err(Malformed::DuplicateClient);
        }
        for _ in 0..structs {
            clock = Struct::read::<true>(&mut reader, client, clock)?.end_clock();
        }
    }
    Ok(())
}
