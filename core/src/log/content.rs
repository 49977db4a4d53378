//! The content of a struct: what each kind holds, how long it is in clocks, and how to cut it.
//!
//! `CONTENT.md` beside this file lists every kind with what happens to it.

use super::json;
use super::reader::{Reader, write_varuint};
use super::scan::Malformed;

pub(super) const GC: u8 = 0;
pub(super) const DELETED: u8 = 1;
pub(super) const JSON: u8 = 2;
pub(super) const BINARY: u8 = 3;
pub(super) const STRING: u8 = 4;
pub(super) const EMBED: u8 = 5;
pub(super) const FORMAT: u8 = 6;
pub(super) const TYPE: u8 = 7;
pub(super) const ANY: u8 = 8;
pub(super) const DOC: u8 = 9;
pub(super) const SKIP: u8 = 10;

/// Levels of arrays and objects in one `Any` or JSON value. Readers recurse over them: yjs throws near
/// 5,000 levels and yrs overflows a 2 MB stack, which kills the process. Editors nest a handful.
pub(super) const NESTING_MAX: u32 = 64;

/// Type refs that carry a name: XML elements and hooks.
const XML_ELEMENT: u64 = 3;
const XML_HOOK: u64 = 5;
const TYPE_REF_MAX: u64 = 6;

/// Skips the content of `kind` and returns its length in clocks. Untrusted content is checked in full.
#[inline]
pub(super) fn skip<const TRUSTED: bool>(reader: &mut Reader<'_>, kind: u8) -> Result<u32, Malformed> {
    match kind {
        STRING => match reader.buffer()? {
            // A typed character, and most text besides, is ASCII.
            [0..=0x7f] => Ok(1),
            text if text.is_ascii() => u32::try_from(text.len()).map_err(|_| Malformed::Clock),
            text if TRUSTED || std::str::from_utf8(text).is_ok() => utf16_len(text),
            _ => Err(Malformed::Utf8),
        },
        GC | DELETED | SKIP => reader.clock(),
        _ => skip_rich::<TRUSTED>(reader, kind),
    }
}

fn skip_rich<const TRUSTED: bool>(reader: &mut Reader<'_>, kind: u8) -> Result<u32, Malformed> {
    match kind {
        ANY => {
            let count = reader.count(1)?;
            for _ in 0..count {
                skip_any::<TRUSTED>(reader)?;
            }
            return Ok(count);
        }
        JSON => {
            let count = reader.count(1)?;
            for _ in 0..count {
                let text = reader.string::<TRUSTED>()?;
                // yjs writes a hole of an array as this word.
                if !TRUSTED && text != b"undefined" {
                    json::check(text)?;
                }
            }
            return Ok(count);
        }
        BINARY => {
            reader.buffer()?;
        }
        EMBED => skip_json::<TRUSTED>(reader)?,
        FORMAT => {
            reader.string::<TRUSTED>()?;
            skip_json::<TRUSTED>(reader)?;
        }
        TYPE => match reader.varuint()? {
            XML_ELEMENT | XML_HOOK => {
                reader.string::<TRUSTED>()?;
            }
            0..=TYPE_REF_MAX => {}
            _ => return Err(Malformed::TypeRef),
        },
        DOC => {
            reader.string::<TRUSTED>()?;
            // yjs reads properties of the options, which throws on null and undefined.
            let mut options = *reader;
            if matches!(options.byte()?, 126 | 127) {
                return Err(Malformed::SubdocumentOptions);
            }
            skip_any::<TRUSTED>(reader)?;
        }
        _ => return Err(Malformed::ContentRef),
    }
    Ok(1)
}

fn skip_json<const TRUSTED: bool>(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let text = reader.string::<TRUSTED>()?;
    if TRUSTED { Ok(()) } else { json::check(text) }
}

/// Skips one lib0 `Any`, without recursion.
fn skip_any<const TRUSTED: bool>(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    // Open containers: how many values each still holds, and one bit per level, set for an object.
    let mut open = [0u32; NESTING_MAX as usize];
    let mut objects: u64 = 0;
    let mut depth = 0;
    loop {
        let container = match reader.byte()? {
            127 | 126 | 121 | 120 => None,
            125 => {
                reader.skip_varint()?;
                None
            }
            124 => reader.take(4).map(|_| None)?,
            123 | 122 => reader.take(8).map(|_| None)?,
            119 => reader.string::<TRUSTED>().map(|_| None)?,
            // A member of an object takes two bytes at least: an empty key and a tag.
            118 => Some((reader.count(2)?, true)),
            117 => Some((reader.count(1)?, false)),
            116 => reader.buffer().map(|_| None)?,
            _ => return Err(Malformed::AnyTag),
        };
        if let Some((count, object)) = container {
            if depth == open.len() {
                return Err(Malformed::Nesting);
            }
            open[depth] = count;
            objects = objects << 1 | u64::from(object);
            depth += 1;
        }
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
            objects >>= 1;
        }
        if depth == 0 {
            return Ok(());
        }
        open[depth - 1] -= 1;
        if objects & 1 == 1 {
            reader.string::<TRUSTED>()?;
        }
    }
}

/// Length of UTF-8 `text` in UTF-16 units, as JavaScript counts it.
#[inline]
pub(super) fn utf16_len(text: &[u8]) -> Result<u32, Malformed> {
    let mut units = 0usize;
    for &byte in text {
        // Every sequence counts once, those of four bytes (a surrogate pair) twice.
        units += usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0);
    }
    u32::try_from(units).map_err(|_| Malformed::Clock)
}

/// Where a UTF-16 offset falls in UTF-8 text.
struct Cut {
    byte: usize,
    /// The offset is in the middle of a surrogate pair, whose first byte is at `byte`.
    splits_pair: bool,
}

fn utf16_cut(text: &[u8], units: u32) -> Cut {
    let mut left = units as usize;
    let mut byte = 0;
    // Long runs are mostly ASCII: skip whole blocks of it.
    const BLOCK: usize = 64;
    while left >= BLOCK && text.len() - byte >= BLOCK && text[byte..byte + BLOCK].is_ascii() {
        byte += BLOCK;
        left -= BLOCK;
    }
    while left > 0 && byte < text.len() {
        let (bytes, taken) = match text[byte] {
            0..=0x7f => (1, 1),
            0x80..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            _ => (4, 2),
        };
        if taken > left {
            return Cut { byte, splits_pair: true };
        }
        left -= taken;
        byte += bytes;
        // Blocks of ASCII may follow other characters.
        while left >= BLOCK && text.len() - byte >= BLOCK && text[byte..byte + BLOCK].is_ascii() {
            byte += BLOCK;
            left -= BLOCK;
        }
    }
    Cut { byte, splits_pair: false }
}

/// Where the offset falls that is `units` before the end.
fn utf16_cut_from_end(text: &[u8], units: u32) -> Cut {
    let mut left = units as usize;
    let mut byte = text.len();
    while left > 0 && byte > 0 {
        byte -= 1;
        let taken = usize::from(text[byte] & 0xc0 != 0x80) + usize::from(text[byte] >= 0xf0);
        if taken > left {
            return Cut { byte, splits_pair: true };
        }
        left -= taken;
    }
    Cut { byte, splits_pair: false }
}

/// U+FFFD, which yjs puts on both sides when it has to split a surrogate pair.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Appends clocks `from..to` of content that is `len` clocks long; `content` is its encoding.
pub(super) fn write_cut(out: &mut Vec<u8>, kind: u8, content: &[u8], len: u32, from: u32, to: u32) {
    let mut reader = Reader::at(content, 0);
    match kind {
        GC | DELETED | SKIP => write_varuint(out, u64::from(to - from)),
        STRING => {
            let text = reader.string::<true>().unwrap_or_default();
            write_text_cut(out, text, len, from, to);
        }
        ANY | JSON => {
            let _ = reader.varuint();
            let element = |reader: &mut Reader<'_>| match kind {
                ANY => skip_any::<true>(reader),
                _ => reader.string::<true>().map(|_| ()),
            };
            for _ in 0..from {
                let _ = element(&mut reader);
            }
            let start = reader.position();
            let end = if to == len {
                content.len()
            } else {
                for _ in from..to {
                    let _ = element(&mut reader);
                }
                reader.position()
            };
            write_varuint(out, u64::from(to - from));
            out.extend_from_slice(&content[start..end]);
        }
        // All other kinds are one clock long, so that a cut is the whole.
        _ => out.extend_from_slice(content),
    }
}

fn write_text_cut(out: &mut Vec<u8>, text: &[u8], len: u32, from: u32, to: u32) {
    let start = match from {
        0 => Cut { byte: 0, splits_pair: false },
        // The end of a run is what was typed since some moment: it is found from behind.
        _ if to == len && from > len / 2 => utf16_cut_from_end(text, len - from),
        _ => utf16_cut(text, from),
    };
    let end = if to == len { Cut { byte: text.len(), splits_pair: false } } else { utf16_cut(text, to) };
    // The pair that a cut splits stands before the end, and after the start, as one replacement character.
    let first = if start.splits_pair { start.byte + 4 } else { start.byte };
    let middle = text.get(first..end.byte).unwrap_or_default();
    let replaced = usize::from(start.splits_pair) + usize::from(end.splits_pair);
    write_varuint(out, (middle.len() + replaced * REPLACEMENT.len()) as u64);
    if start.splits_pair {
        out.extend_from_slice(REPLACEMENT);
    }
    out.extend_from_slice(middle);
    if end.splits_pair {
        out.extend_from_slice(REPLACEMENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, from: u32, to: u32) -> String {
        let mut content = Vec::new();
        write_varuint(&mut content, text.len() as u64);
        content.extend_from_slice(text.as_bytes());
        let mut out = Vec::new();
        let len = utf16_len(text.as_bytes()).unwrap();
        write_cut(&mut out, STRING, &content, len, from, to);
        let mut reader = Reader::at(&out, 0);
        let text = reader.string::<false>().unwrap();
        assert_eq!(reader.remaining(), 0);
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn cuts_text_at_utf16_offsets() {
        assert_eq!(cut("h\u{e9}llo", 1, 3), "\u{e9}l");
        assert_eq!(cut("a\u{1f600}b", 1, 3), "\u{1f600}");
        assert_eq!(cut("a\u{1f600}b", 2, 4), "\u{fffd}b");
        assert_eq!(cut("a\u{1f600}b", 0, 2), "a\u{fffd}");
        assert_eq!(cut("\u{1f600}\u{1f600}", 1, 3), "\u{fffd}\u{fffd}");
        assert_eq!(cut("aaa\u{1f600}\u{1f600}", 6, 7), "\u{fffd}");
        assert_eq!(cut("aaa\u{1f600}\u{e9}", 5, 6), "\u{e9}");
        assert_eq!(cut("aaa\u{1f600}\u{1f600}", 5, 7), "\u{1f600}");
        let long = "x".repeat(200) + "\u{20ac}" + &"y".repeat(200);
        assert_eq!(cut(&long, 199, 202), "x\u{20ac}y");
    }

    #[test]
    fn caps_nesting_of_any() {
        let deep = |levels: usize| [[117, 1].repeat(levels), vec![126]].concat();
        let skip = |bytes: &[u8]| skip_any::<false>(&mut Reader::at(bytes, 0));
        assert_eq!(skip(&deep(64)), Ok(()));
        assert_eq!(skip(&deep(65)), Err(Malformed::Nesting));
        assert_eq!(skip(&deep(100_000)), Err(Malformed::Nesting));
        assert_eq!(skip(&[118, 1, 1, b'k', 117, 0]), Ok(()));
        assert_eq!(skip(&[118, 200, 1, 1, b'k', 117, 0]), Err(Malformed::Count));
    }
}
