//! Real Yjs updates, made beforehand with yrs and given to any client id at the moment of sending.
//!
//! The same edits are made by two authors whose ids differ in every encoded byte; where the two encodings differ stand
//! the client ids, and an update for a third author is a copy with those bytes replaced. A test compares such a copy
//! with what yrs encodes for that author.

use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, Text, Transact, Update};

use crate::wire::put_uint;

/// The root that all documents of a measurement write to.
pub const TEXT: &str = "content";

/// A typist writes this much in one place, then goes elsewhere in what they wrote.
const RUN_CHARS: u32 = 60;

/// Client ids from here to [`CLIENT_ID_END`] take four bytes, as the copies need.
pub const CLIENT_ID_START: u64 = 1 << 21;
/// The first client id that takes five bytes.
pub const CLIENT_ID_END: u64 = 1 << 28;

// Four bytes each, and no byte in common.
const AUTHORS: [u64; 2] = [0x0102_0304, 0x0a3f_5f7b];

/// The edits of one author, one update each.
pub struct Trace {
    bytes: Vec<u8>,
    /// Where each update starts, and behind the last one where it ends.
    starts: Vec<usize>,
    /// Offsets of client ids in `bytes`, ascending.
    ids: Vec<usize>,
    /// Where the ids of each update start in `ids`.
    id_starts: Vec<usize>,
    /// How many clocks each update covers.
    pub chars_per_update: u32,
}

/// A small deterministic source of numbers (splitmix64), so that every run offers the same edits.
#[derive(Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// A document of the given author.
pub fn document(client_id: u64) -> Doc {
    Doc::with_options(Options {
        client_id: ClientID::new(client_id),
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    })
}

impl Trace {
    /// Makes `updates` edits of `chars_per_update` characters.
    pub fn typing(updates: usize, chars_per_update: u32) -> Self {
        let mut trace = Self {
            bytes: Vec::new(),
            starts: vec![0],
            ids: Vec::new(),
            id_starts: vec![0],
            chars_per_update,
        };
        let documents = AUTHORS.map(document);
        let texts = [documents[0].get_or_insert_text(TEXT), documents[1].get_or_insert_text(TEXT)];
        let mut numbers = Numbers(7);
        let (mut length, mut at) = (0u32, 0u32);
        for update in 0..updates {
            if (update as u32 * chars_per_update) % RUN_CHARS < chars_per_update && update > 0 {
                at = numbers.below(u64::from(length) + 1) as u32;
            }
            let typed: String =
                (0..chars_per_update).map(|_| char::from(b' ' + numbers.below(95) as u8)).collect();
            let [first, second] = [0, 1].map(|author: usize| {
                let mut transaction = documents[author].transact_mut();
                texts[author].insert(&mut transaction, at, &typed);
                transaction.encode_update_v1()
            });
            at += chars_per_update;
            length += chars_per_update;
            trace.push(&first, &second);
        }
        trace
    }

    fn push(&mut self, first: &[u8], second: &[u8]) {
        assert_eq!(first.len(), second.len(), "client ids of one encoded length");
        let base = self.bytes.len();
        let mut at = 0;
        while at < first.len() {
            if first[at] == second[at] {
                at += 1;
            } else {
                self.ids.push(base + at);
                at += 4;
            }
        }
        self.bytes.extend_from_slice(first);
        self.starts.push(self.bytes.len());
        self.id_starts.push(self.ids.len());
    }

    /// How many updates there are.
    pub fn updates(&self) -> usize {
        self.starts.len() - 1
    }

    /// Appends the update `index` as that of `client_id`.
    #[inline]
    pub fn put(&self, index: usize, client_id: u64, out: &mut Vec<u8>) {
        debug_assert!((CLIENT_ID_START..CLIENT_ID_END).contains(&client_id));
        let (start, end) = (self.starts[index], self.starts[index + 1]);
        let base = out.len();
        out.extend_from_slice(&self.bytes[start..end]);
        for &id in &self.ids[self.id_starts[index]..self.id_starts[index + 1]] {
            let at = base + id - start;
            for (byte, shift) in out[at..at + 4].iter_mut().zip([0, 7, 14, 21]) {
                *byte = (client_id >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 };
            }
        }
    }
}

/// The text that a set of updates gives when merged.
pub fn text_of<'a>(updates: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<String> {
    let document = document(1);
    let text = document.get_or_insert_text(TEXT);
    let mut transaction = document.transact_mut();
    for update in updates {
        transaction.apply_update(Update::decode_v1(update)?)?;
    }
    anyhow::ensure!(
        transaction.store().pending_update().is_none(),
        "updates are missing: some could not be applied"
    );
    Ok(text.get_string(&transaction))
}

/// One update that makes a fragmented document of about `bytes` encoded: runs of 60 characters of eight authors, at random places.
pub fn seed(bytes: usize, salt: u64) -> Vec<u8> {
    let mut numbers = Numbers(salt);
    let author = document(1000 + salt);
    let text = author.get_or_insert_text(TEXT);
    let mut length = 0u32;
    // A run costs its characters and about 17 bytes of ids and clocks.
    let runs = bytes / (RUN_CHARS as usize + 17);
    let mut transaction = author.transact_mut();
    for _ in 0..runs {
        let typed: String = (0..RUN_CHARS).map(|_| char::from(b'a' + numbers.below(26) as u8)).collect();
        let at = numbers.below(u64::from(length) + 1) as u32;
        text.insert(&mut transaction, at, &typed);
        length += RUN_CHARS;
    }
    transaction.encode_state_as_update_v1(&yrs::StateVector::default())
}

/// A state of a cursor as an editor sends it, `clock`-th of its client.
pub fn put_awareness(out: &mut Vec<u8>, client_id: u64, clock: u32, state: &mut String) {
    use std::fmt::Write as _;
    state.clear();
    let at = clock.wrapping_mul(7) % 1000;
    // A write into a String cannot fail.
    let _ = write!(
        state,
        r##"{{"user":{{"name":"Reader {client_id}","color":"#30bced"}},"cursor":{{"anchor":{{"type":null,"tname":"content","item":{{"client":{client_id},"clock":{at}}},"assoc":0}},"head":{{"type":null,"tname":"content","item":{{"client":{client_id},"clock":{at}}},"assoc":0}}}}}}"##
    );
    put_uint(out, 1);
    put_uint(out, client_id);
    put_uint(out, u64::from(clock));
    crate::wire::put_bytes(out, state.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_yrs_encodes_for_that_author() {
        let trace = Trace::typing(500, 1);
        let id = CLIENT_ID_START + 4711;
        let mut numbers = Numbers(7);
        let author = document(id);
        let text = author.get_or_insert_text(TEXT);
        let (mut length, mut at) = (0u32, 0u32);
        for update in 0..500u32 {
            if update % RUN_CHARS == 0 && update > 0 {
                at = numbers.below(u64::from(length) + 1) as u32;
            }
            let typed = char::from(b' ' + numbers.below(95) as u8).to_string();
            let mut transaction = author.transact_mut();
            text.insert(&mut transaction, at, &typed);
            let encoded = transaction.encode_update_v1();
            (at, length) = (at + 1, length + 1);
            let mut copy = Vec::new();
            trace.put(update as usize, id, &mut copy);
            assert_eq!(copy, encoded, "update {update}");
        }
        let copies: Vec<Vec<u8>> = (0..500)
            .map(|update| {
                let mut copy = Vec::new();
                trace.put(update, id, &mut copy);
                copy
            })
            .collect();
        let merged = text_of(copies.iter().map(Vec::as_slice)).expect("applicable updates");
        assert_eq!(merged, text.get_string(&author.transact()));
    }

    #[test]
    fn a_missing_update_does_not_pass_as_a_text() {
        let trace = Trace::typing(10, 1);
        let copies: Vec<Vec<u8>> = (0..10)
            .filter(|&update| update != 4)
            .map(|update| {
                let mut copy = Vec::new();
                trace.put(update, CLIENT_ID_START, &mut copy);
                copy
            })
            .collect();
        assert!(text_of(copies.iter().map(Vec::as_slice)).is_err());
    }
}
