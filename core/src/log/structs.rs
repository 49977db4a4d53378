//! One struct of an update: its head (ids, parent) and where its content lies.

use super::content::{self, DELETED, GC, SKIP};
use super::reader::{Reader, write_varuint};
use super::scan::Malformed;

/// The struct has an origin, a right origin, a key in its parent's map.
pub(super) const HAS_ORIGIN: u8 = 0x80;
pub(super) const HAS_RIGHT: u8 = 0x40;
pub(super) const HAS_KEY: u8 = 0x20;
const KIND: u8 = 0x1f;

/// The clock of one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) client: u64,
    pub(super) clock: u32,
}

/// Where a struct says it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parent {
    /// In the parent of its origin or right origin.
    Copied,
    /// In a named type of the document.
    Root,
    /// In the type that this struct made.
    Item(Id),
}

impl Parent {
    /// The struct that made the parent, where one is named.
    pub(super) fn id(self) -> Option<Id> {
        match self {
            Self::Item(id) => Some(id),
            Self::Copied | Self::Root => None,
        }
    }
}

/// A struct as it lies in some bytes; all offsets are into those.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struct {
    pub(super) start: usize,
    pub(super) content: usize,
    pub(super) end: usize,
    pub(super) clock: u32,
    pub(super) len: u32,
    pub(super) info: u8,
    pub(super) origin: Option<Id>,
    pub(super) right: Option<Id>,
    pub(super) parent: Parent,
}

impl Struct {
    /// Reads the struct of `client` that starts at `clock`. Untrusted bytes are checked in full.
    #[inline]
    pub(super) fn read<const TRUSTED: bool>(
        reader: &mut Reader<'_>,
        client: u64,
        clock: u32,
    ) -> Result<Self, Malformed> {
        let start = reader.position();
        let info = reader.byte()?;
        let (mut origin, mut right, mut parent) = (None, None, Parent::Copied);
        match info & KIND {
            GC | SKIP => {
                // yjs' two readers disagree on such bytes, and no writer makes them.
                if info & !KIND != 0 {
                    return Err(Malformed::Flags);
                }
            }
            _ => {
                if info & HAS_ORIGIN != 0 {
                    origin = Some(read_id(reader, client, clock)?);
                }
                if info & HAS_RIGHT != 0 {
                    right = Some(read_id(reader, client, clock)?);
                }
                if info & (HAS_ORIGIN | HAS_RIGHT) == 0 {
                    parent = match reader.varuint()? {
                        1 => reader.string::<TRUSTED>().map(|_| Parent::Root)?,
                        0 => Parent::Item(read_id(reader, client, clock)?),
                        _ => return Err(Malformed::Parent),
                    };
                    if info & HAS_KEY != 0 {
                        reader.string::<TRUSTED>()?;
                    }
                }
            }
        }
        let content = reader.position();
        let len = content::skip::<TRUSTED>(reader, info & KIND)?;
        if clock.checked_add(len).is_none() {
            return Err(Malformed::Clock);
        }
        Ok(Self { start, content, end: reader.position(), clock, len, info, origin, right, parent })
    }

    /// What the struct holds.
    #[inline]
    pub(super) fn kind(&self) -> u8 {
        self.info & KIND
    }

    /// The clock after the struct; reading made sure that it exists.
    #[inline]
    pub(super) fn end_clock(&self) -> u32 {
        self.clock + self.len
    }

    /// Appends clocks `from..to` of the struct, counted from its start, as a struct of its own: just as
    /// yjs splits an item. With `deleted` its content becomes `ContentDeleted`.
    pub(super) fn write_cut(&self, out: &mut Vec<u8>, source: &[u8], client: u64, range: CutRange) {
        let CutRange { from, to, deleted } = range;
        let kind = if deleted && self.kind() != GC { DELETED } else { self.kind() };
        let content = &source[self.content..self.end];
        if from == 0 {
            out.push(self.info & !KIND | kind);
            out.extend_from_slice(&source[self.start + 1..self.content]);
        } else if kind == GC || kind == SKIP {
            out.push(kind);
        } else {
            // With an origin the parent is copied from it, so that neither parent nor key is written.
            out.push(self.info & (HAS_RIGHT | HAS_KEY) | HAS_ORIGIN | kind);
            write_id(out, Id { client, clock: self.clock + from - 1 });
            if let Some(right) = self.right {
                write_id(out, right);
            }
        }
        content::write_cut(out, kind, content, self.len, from, to);
    }
}

/// Which clocks of a struct `Struct::write_cut` writes.
#[derive(Clone, Copy)]
pub(super) struct CutRange {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) deleted: bool,
}

#[inline]
fn read_id(reader: &mut Reader<'_>, client: u64, clock: u32) -> Result<Id, Malformed> {
    let id = Id { client: reader.varuint()?, clock: reader.clock()? };
    // yjs looks up the own client's ids without asking whether they exist, and throws.
    if id.client == client && id.clock >= clock { Err(Malformed::SelfReference) } else { Ok(id) }
}

fn write_id(out: &mut Vec<u8>, id: Id) {
    write_varuint(out, id.client);
    write_varuint(out, u64::from(id.clock));
}
