//! The codec of awareness updates: who (client, clock) has which state (JSON text, never decoded).
//!
//! `varUint count`, then per client `varUint client, varUint clock, varString state`
//! (`y-protocols/awareness.js`, `encodeAwarenessUpdate`). What the states mean, and who may set them, is
//! the room's.

use std::iter::FusedIterator;

use super::json;
use super::varint::{Reader, write_var_bytes, write_var_uint};
use crate::error::ProtocolError;

/// The highest clock accepted. Other implementations (yrs) keep clocks in 32 bits, and a server that
/// removes a client counts one further, so the last number is left for that.
pub const CLOCK_MAX: u64 = u32::MAX as u64 - 1;

/// One client's number, clock and a state of at least one byte.
const ENTRY_BYTES_MIN: usize = 4;

/// One client's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The client's number, at most 2^53 − 1.
    pub client: u64,
    /// Counts the client's states; at most [`CLOCK_MAX`].
    pub clock: u64,
    /// The state as JSON text; `null`: the client is gone.
    pub state: &'a str,
}

impl Entry<'_> {
    /// Whether the client says that it is gone.
    pub fn is_gone(&self) -> bool {
        self.state.trim_matches([' ', '\t', '\n', '\r']) == "null"
    }
}

/// The entries of an update that [`scan`] has found good.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    left: usize,
}

/// Looks over a whole awareness update and returns its entries.
///
/// # Errors
/// The update is not exactly a list of entries: its count is more than its bytes can hold, a number is
/// out of range, a state is not UTF-8 or not JSON (nested at most 64 deep), or bytes follow.
pub fn scan(update: &[u8]) -> Result<Entries<'_>, ProtocolError> {
    let mut reader = Reader::new(update);
    let count = reader.var_uint()?;
    if count > (reader.remaining() / ENTRY_BYTES_MIN) as u64 {
        return Err(ProtocolError::UnexpectedEnd);
    }
    // Invariant: at most the number of bytes, which is a usize.
    let entries = Entries { reader: reader.clone(), left: count as usize };
    for _ in 0..count {
        let entry = entry(&mut reader)?;
        if entry.clock > CLOCK_MAX {
            return Err(ProtocolError::NumberOutOfRange);
        }
        if !json::is_valid(entry.state) {
            return Err(ProtocolError::Malformed("awareness state"));
        }
    }
    if reader.is_empty() { Ok(entries) } else { Err(ProtocolError::TrailingBytes) }
}

/// Writes an awareness update.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = Entry<'a>>) -> Vec<u8> {
    // Client numbers take five bytes in most cases, clocks one or two; the states dominate.
    let mut out = Vec::with_capacity(1 + entries.len() * 32);
    write_var_uint(&mut out, entries.len() as u64);
    for entry in entries {
        write_var_uint(&mut out, entry.client);
        write_var_uint(&mut out, entry.clock);
        write_var_bytes(&mut out, entry.state.as_bytes());
    }
    out
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, ProtocolError> {
    Ok(Entry { client: reader.var_uint()?, clock: reader.var_uint()?, state: reader.var_string()? })
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Invariant: `scan` has read all of it without an error.
        entry(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}
impl FusedIterator for Entries<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(entries: &[(u64, u64, &str)]) -> Vec<u8> {
        encode(entries.iter().map(|&(client, clock, state)| Entry { client, clock, state }))
    }

    #[test]
    fn updates_round_trip() {
        let entries = [(1, 0, "null"), ((1 << 53) - 1, CLOCK_MAX, r#"{"name":"ü"}"#), (1, 1, "{}")];
        let bytes = update(&entries);
        let scanned = scan(&bytes).unwrap();
        assert_eq!(scanned.len(), 3);
        assert!(scanned.clone().next().unwrap().is_gone());
        let read: Vec<_> = scanned.map(|entry| (entry.client, entry.clock, entry.state)).collect();
        assert_eq!(read, entries);
        assert_eq!(scan(&update(&[])).unwrap().len(), 0);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = update(&[(70_000, 3, r#"{"a":[1]}"#), (5, 1, "null")]);
        for end in 0..bytes.len() {
            assert!(scan(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(scan(&longer).unwrap_err(), ProtocolError::TrailingBytes);
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(scan(&[0xff, 0xff, 3, 1, 1, 1]).unwrap_err(), ProtocolError::UnexpectedEnd);
        assert_eq!(scan(&update(&[(1, CLOCK_MAX + 1, "{}")])).unwrap_err(), ProtocolError::NumberOutOfRange);
        assert_eq!(scan(&update(&[(1, 1, "{")])).unwrap_err(), ProtocolError::Malformed("awareness state"));
        assert_eq!(scan(&[1, 1, 1, 2, 0xc3, 0x28]).unwrap_err(), ProtocolError::NotUtf8);
    }
}
