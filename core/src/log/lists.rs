//! Which lists hold characters of two UTF-16 units. No editor writes them into a list, but a peer may; and yrs, which
//! reads a list unit by unit, stands still there for ever (0.28, `BlockIter::slice`).

use std::collections::HashMap;

use super::StructLog;
use super::client::ClientLog;
use super::content::{ANY, BINARY, DOC, JSON, STRING, TYPE};
use super::ranges::Range;
use super::reader::Reader;
use super::structs::{Id, Parent, Struct};
use super::walk::{Place, Walk};

/// The type reference of an array.
const ARRAY: u64 = 0;

/// Where characters of two UTF-16 units are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WideCharacters {
    /// Some are in a nested array, or in a root type beside content that no text has.
    pub in_lists: bool,
    /// The root types that hold some themselves.
    pub roots: Vec<String>,
}

/// What a struct lives in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In the root type of this number.
    Root(usize),
    Array,
    /// In another type, or nowhere.
    Elsewhere,
}

struct Homes<'a> {
    walk: Walk<'a, Home>,
    roots: HashMap<Vec<u8>, usize>,
}

impl StructLog {
    /// Looks for characters of two UTF-16 units where a list may be. Cheap where there are no such characters.
    pub fn wide_characters(&self) -> WideCharacters {
        let wide = |client: &ClientLog, item: &Struct| {
            item.kind() == STRING && client.bytes()[item.content..item.end].iter().any(|byte| *byte >= 0xf0)
        };
        if !self.clients.iter().any(|client| client.iter().any(|item| wide(client, &item))) {
            return WideCharacters::default();
        }
        let mut homes = Homes::new(self);
        let mut found = WideCharacters::default();
        let mut roots = Vec::new();
        for home in homes.of(wide) {
            match home {
                Home::Array => found.in_lists = true,
                Home::Root(root) if !roots.contains(&root) => roots.push(root),
                _ => {}
            }
        }
        if !roots.is_empty() {
            // Of these a text may hold types, but then it does not begin with one.
            let other =
                |_: &ClientLog, item: &Struct| matches!(item.kind(), JSON | BINARY | TYPE | ANY | DOC);
            found.in_lists |=
                homes.of(other).any(|home| matches!(home, Home::Root(root) if roots.contains(&root)));
        }
        let named = homes.roots.into_iter().filter(|(_, root)| roots.contains(root));
        found.roots = named.map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect();
        found
    }
}

impl<'a> Homes<'a> {
    fn new(log: &'a StructLog) -> Self {
        Self { walk: Walk::new(log), roots: HashMap::new() }
    }

    /// The homes of those structs that are not deleted and that `wanted` names.
    fn of(&mut self, wanted: impl Fn(&ClientLog, &Struct) -> bool) -> impl Iterator<Item = Home> {
        let (walk, roots) = (&mut self.walk, &mut self.roots);
        let mut homes = Vec::new();
        for place in walk.places(|client, item| {
            let range = Range { start: item.clock, end: item.end_clock() };
            wanted(client, item) && !client.deletes.covers(range)
        }) {
            homes.push(walk.settle(place, |walk, place| judge(walk, roots, place)));
        }
        homes.into_iter()
    }
}

/// The home of `place`, or the neighbour that it takes it from.
fn judge(walk: &Walk<'_, Home>, roots: &mut HashMap<Vec<u8>, usize>, place: Place) -> Result<Home, Place> {
    let Some((client, item)) = walk.read(place) else { return Ok(Home::Elsewhere) };
    match item.parent {
        Parent::Root => Ok(root(roots, client, &item)),
        Parent::Item(id) => Ok(nested(walk, id)),
        Parent::Copied => match walk.neighbour(&item) {
            None => Ok(Home::Elsewhere),
            Some(neighbour) => walk.known(neighbour).ok_or(neighbour),
        },
    }
}

fn root(roots: &mut HashMap<Vec<u8>, usize>, client: &ClientLog, item: &Struct) -> Home {
    // Its flags and a 1 stand before the name.
    let mut reader = Reader::at(client.bytes(), item.start + 2);
    let Ok(name) = reader.string::<true>() else { return Home::Elsewhere };
    let next = roots.len();
    Home::Root(*roots.entry(name.to_vec()).or_insert(next))
}

fn nested(walk: &Walk<'_, Home>, id: Id) -> Home {
    let made = walk.find(id).and_then(|place| walk.read(place)).filter(|(_, item)| item.kind() == TYPE);
    let kind = made.and_then(|(client, item)| Reader::at(client.bytes(), item.content).varuint().ok());
    if kind == Some(ARRAY) { Home::Array } else { Home::Elsewhere }
}

#[cfg(test)]
mod tests {
    use yrs::updates::decoder::Decode;

    use super::*;
    use crate::log::LogOptions;

    fn wide(updates: &[&[u8]]) -> (bool, Vec<String>) {
        let mut log = StructLog::new(LogOptions { gc: false, ..LogOptions::default() });
        for update in updates {
            log.apply(update).unwrap();
            yrs::Update::decode_v1(update).unwrap();
        }
        let found = log.wide_characters();
        (found.in_lists, found.roots)
    }

    /// Client 7's first struct, in root "r".
    fn first(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[1, 1, 7, 0, kind, 1, 1, b'r'], content, &[0]].concat()
    }

    const SMILE: &[u8] = "\u{4}😀".as_bytes();

    #[test]
    fn texts_may_hold_them_and_lists_may_not() {
        let roots = |name: &str| vec![name.to_owned()];
        assert_eq!(wide(&[&first(STRING, "\u{2}ä".as_bytes())]), (false, vec![]));
        assert_eq!(wide(&[&first(STRING, SMILE)]), (false, roots("r")));
        // A value in front of the smile, which goes where the value is.
        let value = first(ANY, &[1, 0x7e]);
        let beside = [&[1, 1, 8, 0, 0x80 | STRING, 7, 0], SMILE, &[0]].concat();
        assert_eq!(wide(&[&value, &beside]), (true, roots("r")));
        // The smile is deleted.
        let deleted: &[u8] = &[0, 1, 8, 1, 0, 2];
        assert_eq!(wide(&[&value, &beside, deleted]), (false, vec![]));
        // A nested type, 0 an array and 2 a text, with the smile in it.
        let inside = [&[1, 1, 8, 0, STRING, 0, 7, 0], SMILE, &[0]].concat();
        assert_eq!(wide(&[&first(TYPE, &[0]), &inside]), (true, vec![]));
        assert_eq!(wide(&[&first(TYPE, &[2]), &inside]), (false, vec![]));
    }
}
