//! How deep types lie in types. Editors nest some dozens; a hostile peer may nest as many as its document has space
//! for, and whoever recurses through them overflows its stack, which kills the process.

use super::StructLog;
use super::content::TYPE;
use super::structs::Parent;
use super::walk::{Place, Walk};

impl StructLog {
    /// How many types lie in each other at the deepest place, those that are deleted included.
    pub fn nesting(&self) -> u32 {
        let mut walk = Walk::new(self);
        let types = walk.places(|_, item| item.kind() == TYPE);
        types.into_iter().map(|place| walk.settle(place, judge)).max().unwrap_or(0)
    }
}

/// In how many types the struct at `place` lies, and 1; or whose depth has to be known first.
fn judge(walk: &Walk<'_, u32>, place: Place) -> Result<u32, Place> {
    let Some((_, item)) = walk.read(place) else { return Ok(1) };
    let known = |place| walk.known(place).ok_or(place);
    match item.parent {
        Parent::Root => Ok(1),
        Parent::Item(id) => walk.find(id).map_or(Ok(1), |parent| Ok(known(parent)?.saturating_add(1))),
        Parent::Copied => walk.neighbour(&item).map_or(Ok(1), known),
    }
}

#[cfg(test)]
mod tests {
    use yrs::types::ToJson;
    use yrs::{Array, ArrayPrelim, Doc, Map, MapPrelim, ReadTxn, StateVector, Transact};

    use super::*;
    use crate::log::LogOptions;

    /// Goal: the depth is that of the document's JSON. Method: maps and arrays in each other as yrs writes them, the
    /// deep one not the last, and with neighbours that name no parent.
    #[test]
    fn the_deepest_place_counts() {
        let doc = Doc::with_client_id(7);
        let root = doc.get_or_insert_map("root");
        {
            let mut txn = doc.transact_mut();
            let mut map = root.insert(&mut txn, "first", MapPrelim::default());
            for _ in 0..20 {
                let array = map.insert(&mut txn, "list", ArrayPrelim::default());
                array.push_back(&mut txn, 1);
                map = array.push_back(&mut txn, MapPrelim::default());
            }
            root.insert(&mut txn, "last", MapPrelim::default());
        }
        let txn = doc.transact();
        let json = root.to_json(&txn).to_string();
        let depth = json.bytes().fold((0_i32, 0), |(depth, most), byte| match byte {
            b'{' | b'[' => (depth + 1, most.max(depth + 1)),
            b'}' | b']' => (depth - 1, most),
            _ => (depth, most),
        });
        let update = txn.encode_state_as_update_v1(&StateVector::default());
        let log = StructLog::load(LogOptions::default(), &update).unwrap();
        // The root itself is a brace too.
        assert_eq!(i64::from(log.nesting()), i64::from(depth.1) - 1, "{json}");
        assert_eq!(log.nesting(), 41);
        assert_eq!(StructLog::new(LogOptions::default()).nesting(), 0);
    }
}
