//! The changes since some point, to be handed on as one update: for the broadcast window and for the
//! rows of the update log.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::SessionKey;
use crate::log::{Cursor, StructLog};

/// Who made an update, for the log.
pub type User = Option<Arc<str>>;

/// What came since a point of the log. One update alone stays the bytes it arrived as; several become
/// the difference of the log between then and now, however many they were.
struct Batch {
    since: Cursor,
    single: Option<Bytes>,
    updates: usize,
    bytes: usize,
}

impl Batch {
    fn new(since: Cursor) -> Self {
        Self { since, single: None, updates: 0, bytes: 0 }
    }

    /// `whole`: all of the update was new and nothing else became applicable through it, so its own
    /// bytes say it all.
    fn add(&mut self, update: &Bytes, whole: bool) {
        self.single = (self.updates == 0 && whole).then(|| update.clone());
        self.updates += 1;
        self.bytes += update.len();
    }

    fn encode(&self, log: &StructLog) -> Bytes {
        self.single.clone().unwrap_or_else(|| log.diff_since(self.since).into())
    }
}

/// What is to be broadcast.
pub struct Window {
    batch: Batch,
    author: Author,
}

/// Who made what is to be broadcast.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Author {
    /// Nothing was made yet.
    #[default]
    Nobody,
    /// One session made all of it, and so needs none of it.
    Sole(SessionKey),
    /// Several sessions did, or none.
    Several,
}

impl Author {
    /// Who made it together with what `session` makes (`None`: no session does).
    pub fn and(self, session: Option<SessionKey>) -> Self {
        match (self, session) {
            (Self::Nobody, Some(session)) => Self::Sole(session),
            (Self::Sole(before), Some(session)) if before == session => self,
            _ => Self::Several,
        }
    }

    /// The session, where it is one alone.
    pub fn sole(self) -> Option<SessionKey> {
        match self {
            Self::Sole(session) => Some(session),
            Self::Nobody | Self::Several => None,
        }
    }
}

impl Window {
    /// An empty window that begins here.
    pub fn new(since: Cursor) -> Self {
        Self { batch: Batch::new(since), author: Author::Nobody }
    }

    /// Adds an update that the log has taken; see [`Batch::add`] for `whole`.
    pub fn add(&mut self, update: &Bytes, whole: bool, author: Option<SessionKey>) {
        // What became applicable only now may be somebody else's.
        self.author = if whole { self.author.and(author) } else { Author::Several };
        self.batch.add(update, whole);
    }

    /// Bytes added.
    pub fn bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.batch.updates == 0
    }

    /// Where it begins.
    pub fn since(&self) -> Cursor {
        self.batch.since
    }

    /// The session that made all of it, and so needs none of it.
    pub fn sole_author(&self) -> Option<SessionKey> {
        self.author.sole()
    }

    /// The window as one update.
    pub fn encode(&self, log: &StructLog) -> Bytes {
        self.batch.encode(log)
    }
}

/// What is to be stored at the end of the turn.
pub struct Unstored {
    batch: Batch,
    rows: Vec<(Bytes, User)>,
    parked: bool,
}

impl Unstored {
    /// Nothing, beginning here.
    pub fn new(since: Cursor) -> Self {
        Self { batch: Batch::new(since), rows: Vec::new(), parked: false }
    }

    /// Adds an update of a user. `parked`: part of it waits for missing updates.
    pub fn add(&mut self, update: &Bytes, whole: bool, user: User, parked: bool) {
        self.batch.add(update, whole);
        self.rows.push((update.clone(), user));
        self.parked |= parked;
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Where it begins.
    pub fn since(&self) -> Cursor {
        self.batch.since
    }

    /// Takes the rows, and whether part of them waits for missing updates. One row where all is of one
    /// user; each update by itself where not, or where the log does not hold all of it yet.
    pub fn take(&mut self, log: &StructLog) -> (Vec<(Bytes, User)>, bool) {
        let mut rows = std::mem::take(&mut self.rows);
        let same_user = rows.windows(2).all(|pair| pair[0].1 == pair[1].1);
        if rows.len() > 1 && same_user && !self.parked {
            rows.truncate(1);
            rows[0].0 = self.batch.encode(log);
        }
        let parked = std::mem::take(&mut self.parked);
        self.batch = Batch::new(log.cursor());
        (rows, parked)
    }
}

/// An update without structs and deletes: nothing to tell anybody.
pub fn is_void(update: &[u8]) -> bool {
    update == [0, 0]
}
