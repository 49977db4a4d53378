//! Updates written byte by byte. Shared by the tests of the log.
#![allow(dead_code)]

use super::log::{LogOptions, StructLog, Verdict};

/// A root-level struct: info, parent `t`, content.
pub fn root(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 1, 1, b't'], content].concat()
}

/// Text with its length.
pub fn text(content: &str) -> Vec<u8> {
    [&[content.len() as u8], content.as_bytes()].concat()
}

/// A struct of `kind` with an origin and maybe a right origin.
pub fn after(kind: u8, origin: (u8, u8), right: Option<(u8, u8)>, content: &[u8]) -> Vec<u8> {
    let info = kind | 0x80 | if right.is_some() { 0x40 } else { 0 };
    let mut out = vec![info, origin.0, origin.1];
    out.extend(right.into_iter().flat_map(|(client, clock)| [client, clock]));
    out.extend_from_slice(content);
    out
}

/// An update of one block, with deletes as client, clock and length.
pub fn update(client: u8, clock: u8, structs: &[Vec<u8>], deletes: &[(u8, u8, u8)]) -> Vec<u8> {
    let mut out = match structs {
        [] => vec![0],
        structs => vec![1, structs.len() as u8, client, clock],
    };
    out.extend(structs.concat());
    out.push(deletes.len() as u8);
    deletes.iter().for_each(|&(client, clock, len)| out.extend([client, 1, clock, len]));
    out
}

/// An empty log.
pub fn log() -> StructLog {
    StructLog::new(LogOptions::default())
}

/// What becomes of a sound update.
pub fn apply(log: &mut StructLog, update: &[u8]) -> (Verdict, bool) {
    let applied = log.apply(update).unwrap_or_else(|error| panic!("{update:?}: {error}"));
    (applied.verdict, applied.unparked)
}

/// The content ref of text.
pub const STRING: u8 = 4;
