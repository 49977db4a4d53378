//! Which clocks of which clients an update carries: the check on arrival.
//!
//! Only what the updates of a measurement and the servers' encodings of them hold is read; anything else is an error,
//! since a harness that skips what it does not understand cannot say that nothing was lost.

use anyhow::{Context, bail, ensure};

use crate::wire::Cursor;

/// Clocks `start..end` of one client, all of them contained in the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// The client that wrote them.
    pub client: u64,
    /// The first clock.
    pub start: u32,
    /// The clock behind the last.
    pub end: u32,
}

/// Reads an update v1 and reports the clocks it carries, per client in ascending order.
#[inline]
pub fn clocks(update: &[u8], mut report: impl FnMut(Clocks)) -> anyhow::Result<()> {
    let mut cursor = Cursor::new(update);
    let clients = cursor.uint().context("an update without a client count")?;
    for _ in 0..clients {
        let structs = cursor.uint().context("a block without a struct count")?;
        let client = cursor.uint().context("a block without a client")?;
        let mut clock =
            cursor.uint().and_then(|clock| u32::try_from(clock).ok()).context("a block without a clock")?;
        let mut start = clock;
        for _ in 0..structs {
            let (length, is_gap) = one_struct(&mut cursor)?;
            if is_gap && start < clock {
                report(Clocks { client, start, end: clock });
            }
            clock = clock.checked_add(length).context("a clock over 32 bits")?;
            if is_gap {
                start = clock;
            }
        }
        if start < clock {
            report(Clocks { client, start, end: clock });
        }
    }
    Ok(())
}

/// Reads one struct; answers its length in clocks, and whether it stands for nothing (Skip).
#[inline]
fn one_struct(cursor: &mut Cursor<'_>) -> anyhow::Result<(u32, bool)> {
    let header = cursor.byte().context("a struct without a header")?;
    let content = header & 0x1f;
    if content == 0 || content == 10 {
        let length = cursor.uint().context("a gap without a length")?;
        return Ok((u32::try_from(length)?, content == 10));
    }
    for present in [header & 0x80, header & 0x40] {
        if present != 0 {
            cursor.uint().and_then(|_| cursor.uint()).context("an origin that ends early")?;
        }
    }
    if header & 0xc0 == 0 {
        match cursor.uint().context("a struct without a parent")? {
            1 => cursor.bytes().map(|_| ()).context("a root without a name")?,
            _ => cursor.uint().and_then(|_| cursor.uint()).map(|_| ()).context("a parent that ends early")?,
        }
        if header & 0x20 != 0 {
            cursor.bytes().context("a struct without its key")?;
        }
    }
    let length = match content {
        1 => u32::try_from(cursor.uint().context("a deletion without a length")?)?,
        4 => {
            let text = cursor.bytes().context("a text that ends early")?;
            if text.is_ascii() {
                text.len() as u32
            } else {
                std::str::from_utf8(text)?.encode_utf16().count() as u32
            }
        }
        // What a server's hook puts into a document, as ProseMirror has it: marks, elements and texts.
        6 => {
            cursor.bytes().and_then(|_| cursor.bytes()).context("a mark that ends early")?;
            1
        }
        7 => {
            let is_named = matches!(cursor.uint().context("a type without a kind")?, 3 | 5);
            if is_named {
                cursor.bytes().context("an element without a name")?;
            }
            1
        }
        other => bail!("content of kind {other}, which no client of this measurement wrote"),
    };
    ensure!(length > 0, "a struct of no length");
    Ok((length, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{CLIENT_ID_START, Trace, seed};

    fn read(update: &[u8]) -> Vec<Clocks> {
        let mut found = Vec::new();
        clocks(update, |clocks| found.push(clocks)).expect("a readable update");
        found
    }

    #[test]
    fn single_and_merged_updates_are_read() {
        let trace = Trace::typing(200, 3);
        let copies: Vec<Vec<u8>> = (0..200)
            .map(|update| {
                let mut copy = Vec::new();
                trace.put(update, CLIENT_ID_START + 1, &mut copy);
                copy
            })
            .collect();
        for (at, copy) in copies.iter().enumerate() {
            let start = at as u32 * 3;
            assert_eq!(read(copy), [Clocks { client: CLIENT_ID_START + 1, start, end: start + 3 }]);
        }
        let merged = yrs::merge_updates_v1(&copies).expect("mergeable updates");
        assert_eq!(read(&merged), [Clocks { client: CLIENT_ID_START + 1, start: 0, end: 600 }]);
        let gap = yrs::merge_updates_v1([&copies[0], &copies[5]]).expect("mergeable updates");
        let client = CLIENT_ID_START + 1;
        assert_eq!(read(&gap), [Clocks { client, start: 0, end: 3 }, Clocks { client, start: 15, end: 18 }]);
    }

    #[test]
    fn a_seeded_document_is_read_and_rubbish_is_not() {
        let update = seed(50_000, 3);
        let found = read(&update);
        assert_eq!((found.len(), found[0].start), (1, 0));
        assert!(clocks(&update[..update.len() / 2], |_| {}).is_err());
    }
}
