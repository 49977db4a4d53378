//! Goal: what the struct log accepts, refuses, squashes, cuts and compacts is what its documentation says.
//!
//! Method: updates written byte by byte, so that each test shows the encoding that it is about.

use fidibus_core::log::{
    self, Cursor, LogOptions, Malformed, StructLog, Verdict, scan_state_vector, scan_update,
};

#[path = "yjs/updates.rs"]
mod updates;

use updates::{STRING, after, apply, log as new_log, root, text, update};

#[test]
fn takes_every_kind_of_content_byte_for_byte() {
    let contents: &[(u8, &[u8])] = &[
        (0, &[9]),
        (1, &[3]),
        // The legacy JSON content, with a hole.
        (2, &[2, 9, b'u', b'n', b'd', b'e', b'f', b'i', b'n', b'e', b'd', 3, b'"', b'x', b'"']),
        (3, &[2, 0, 255]),
        (4, &[6, 0xf0, 0x9f, 0x98, 0x80, 0xc3, 0xa9]),
        (5, &[7, b'{', b'"', b'a', b'"', b':', b'1', b'}']),
        (6, &[4, b'b', b'o', b'l', b'd', 4, b't', b'r', b'u', b'e']),
        (7, &[0]),
        (7, &[1]),
        (7, &[2]),
        (7, &[3, 1, b'p']),
        (7, &[4]),
        (7, &[5, 1, b'h']),
        (7, &[6]),
        // All tags of values: undefined, null, integer, float, double, BigInt, booleans, text, object, array, bytes.
        (
            8,
            &[
                7, 127, 126, 125, 0xff, 0x01, 124, 0, 0, 0, 0, 123, 0, 0, 0, 0, 0, 0, 0, 0, 122, 0x7f, 1, 2,
                3, 4, 5, 6, 7, 121,
            ],
        ),
        (8, &[5, 120, 119, 1, b'x', 118, 1, 1, b'k', 126, 117, 2, 126, 126, 116, 1, 7]),
        (9, &[4, b'g', b'u', b'i', b'd', 118, 0]),
    ];
    for &(kind, content) in contents {
        let item = if kind == 0 { [&[0], content].concat() } else { root(kind, content) };
        let sent = update(1, 0, &[item], &[]);
        let mut log = new_log();
        assert_eq!(apply(&mut log, &sent), (Verdict::New, false), "{kind}");
        assert_eq!(apply(&mut log, &sent), (Verdict::Known, false), "{kind}");
        // Deleted content tells the delete set; all else comes back as it was.
        let expected = match kind {
            0 | 1 => [&sent[..sent.len() - 1], &[1, 1, 1, 0, content[0]]].concat(),
            _ => sent,
        };
        assert_eq!(log.encode(), expected, "{kind}");
        assert_eq!(StructLog::load(LogOptions::default(), &expected).unwrap().encode(), expected);
    }
}

#[test]
fn takes_client_ids_up_to_53_bits() {
    let wide = [1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 1, 0];
    let mut log = new_log();
    assert_eq!(apply(&mut log, &wide), (Verdict::New, false));
    assert_eq!(log.state_vector(), [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]);
    let wider = [1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0, 1, 0];
    assert_eq!(scan_update(&wider), Err(Malformed::Integer.into()));
}

#[test]
fn refuses_what_would_harm_a_reader() {
    let item = |kind, content: &[u8]| update(1, 0, &[root(kind, content)], &[]);
    let deep: Vec<u8> = [&[1][..], &[117, 1].repeat(65), &[126]].concat();
    let big_clock = [1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 0];
    let cases: Vec<(Malformed, Vec<u8>)> = vec![
        (Malformed::Truncated, vec![]),
        (Malformed::Truncated, vec![0]),
        (Malformed::Trailing, vec![0, 0, 0]),
        (Malformed::Integer, vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]),
        // 268,435,455 clients, structs, ranges, values and members in a handful of bytes.
        (Malformed::Count, vec![0xff, 0xff, 0xff, 0x7f, 0]),
        (Malformed::Count, vec![1, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0]),
        (Malformed::Count, vec![0, 0xff, 0xff, 0xff, 0x7f]),
        (Malformed::Count, vec![0, 1, 1, 0xff, 0xff, 0xff, 0x7f]),
        (Malformed::Count, item(8, &[0xff, 0xff, 0xff, 0x7f])),
        (Malformed::Count, item(8, &[1, 118, 0xff, 0xff, 0xff, 0x7f])),
        (Malformed::Count, item(2, &[0xff, 0xff, 0xff, 0x7f])),
        (Malformed::Clock, big_clock.to_vec()),
        (Malformed::Clock, update(1, 1, &[vec![0, 0xff, 0xff, 0xff, 0xff, 0x0f]], &[])),
        (Malformed::Clock, vec![0, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        (Malformed::Utf8, item(STRING, &[1, 0xff])),
        (Malformed::Utf8, item(STRING, &[3, 0xed, 0xa0, 0x80])),
        (Malformed::Utf8, update(1, 0, &[vec![STRING, 1, 1, 0xff, 1, b'x']], &[])),
        (Malformed::Json, item(5, &[1, b'{'])),
        (Malformed::Json, item(6, &[1, b'b', 0])),
        (Malformed::Json, item(5, &text("undefined"))),
        (Malformed::Nesting, item(8, &deep)),
        (Malformed::ContentRef, item(11, &[1])),
        (Malformed::ContentRef, item(31, &[1])),
        (Malformed::TypeRef, item(7, &[7])),
        (Malformed::AnyTag, item(8, &[1, 115])),
        (Malformed::AnyTag, item(8, &[1, 128])),
        (Malformed::Flags, update(1, 0, &[vec![0x80, 1]], &[])),
        (Malformed::Flags, update(1, 0, &[vec![0x4a, 1]], &[])),
        (Malformed::Parent, update(1, 0, &[vec![STRING, 2, 1, b't', 1, b'x']], &[])),
        (Malformed::Empty, item(STRING, &[0])),
        (Malformed::Empty, update(1, 0, &[vec![0, 0]], &[])),
        (Malformed::Empty, update(1, 0, &[], &[(9, 103, 0)])),
        (Malformed::SelfReference, update(1, 1, &[after(STRING, (1, 1), None, &text("x"))], &[])),
        (Malformed::SelfReference, update(1, 1, &[after(STRING, (1, 0), Some((1, 9)), &text("x"))], &[])),
        (Malformed::DuplicateClient, vec![2, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0]),
        (Malformed::DuplicateClient, vec![3, 1, 1, 0, 0, 1, 1, 2, 0, 0, 1, 1, 1, 1, 0, 1, 0]),
        (Malformed::SubdocumentOptions, item(9, &[1, b'g', 126])),
        (Malformed::SubdocumentOptions, item(9, &[1, b'g', 127])),
    ];
    for (expected, bytes) in cases {
        assert_eq!(scan_update(&bytes), Err(expected.into()), "{bytes:?}");
        let mut log = new_log();
        assert_eq!(log.apply(&bytes), Err(expected.into()), "{bytes:?}");
        assert_eq!(log.verdict(&bytes), Err(expected.into()), "{bytes:?}");
        assert!(log.is_empty() && log.cursor() == Cursor::default(), "{bytes:?}");
    }
    assert_eq!(scan_state_vector(&[0xff, 0xff, 0xff, 0x7f]), Err(Malformed::Count.into()));
    assert_eq!(scan_state_vector(&[1, 1, 0, 0]), Err(Malformed::Trailing.into()));
    assert_eq!(scan_state_vector(&[2, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(2));
}

#[test]
fn an_old_snapshot_with_an_empty_struct_loads() {
    let empty = update(1, 0, &[root(STRING, &[0]), root(STRING, &text("x"))], &[(1, 0, 0)]);
    assert_eq!(scan_update(&empty), Err(Malformed::Empty.into()));
    let log = StructLog::load(LogOptions::default(), &empty).unwrap();
    assert_eq!(log.encode(), update(1, 0, &[root(STRING, &text("x"))], &[]));
}

#[test]
fn typed_characters_become_one_run_until_it_is_long() {
    let mut log = new_log();
    apply(&mut log, &update(1, 0, &[root(STRING, &text("a"))], &[]));
    for clock in 1..100 {
        apply(&mut log, &update(1, clock, &[after(STRING, (1, clock - 1), None, &text("b"))], &[]));
    }
    assert_eq!(scan_update(&log.encode()).unwrap().structs, 1);
    // Another right origin is another place.
    apply(&mut log, &update(1, 100, &[after(STRING, (1, 99), Some((1, 0)), &text("c"))], &[]));
    assert_eq!(scan_update(&log.encode()).unwrap().structs, 2);
}

#[test]
fn values_of_a_key_do_not_become_a_run() {
    let set = |clock: u8, value: u8| match clock {
        0 => update(1, 0, &[vec![0x28, 1, 1, b'm', 1, b'k', 1, 125, value]], &[]),
        _ => update(1, clock, &[after(0x28, (1, clock - 1), None, &[1, 125, value])], &[(1, clock - 1, 1)]),
    };
    let push = |clock: u8| {
        update(
            2,
            clock,
            &[match clock {
                0 => root(8, &[1, 126]),
                _ => after(8, (2, clock - 1), None, &[1, 126]),
            }],
            &[],
        )
    };
    let mut log = new_log();
    for clock in 0..5 {
        apply(&mut log, &set(clock, 7));
        apply(&mut log, &push(clock));
    }
    // Five values of the key, and one run of the values pushed to the array.
    assert_eq!(scan_update(&log.encode()).unwrap().structs, 6);
}

#[test]
fn a_run_is_cut_at_the_clock_of_the_peer() {
    let mut log = new_log();
    let emoji = update(1, 0, &[root(STRING, &text("h\u{e9}\u{1f600}o"))], &[]);
    apply(&mut log, &emoji);
    let lacking = |clock: u8| log.diff(&[1, 1, clock]).unwrap();
    assert_eq!(lacking(0), emoji);
    assert_eq!(lacking(1), update(1, 1, &[after(STRING, (1, 0), None, &text("\u{e9}\u{1f600}o"))], &[]));
    assert_eq!(lacking(2), update(1, 2, &[after(STRING, (1, 1), None, &text("\u{1f600}o"))], &[]));
    // In the middle of a surrogate pair yjs puts a replacement character.
    assert_eq!(lacking(3), update(1, 3, &[after(STRING, (1, 2), None, &text("\u{fffd}o"))], &[]));
    assert_eq!(lacking(4), update(1, 4, &[after(STRING, (1, 3), None, &text("o"))], &[]));
    assert_eq!(lacking(5), [0, 0]);
    assert_eq!(lacking(9), [0, 0]);
}

#[test]
fn only_the_unknown_part_of_an_update_is_taken() {
    let known = |kind: u8, content: &[u8]| update(1, 0, &[root(kind, content)], &[]);
    for (kind, short, long) in [
        (STRING, &[2, b'a', b'b'][..], &[4, b'a', b'b', b'c', b'd'][..]),
        (8, &[1, 126], &[3, 126, 125, 7, 119, 1, b'x']),
        (2, &[1, 1, b'1'], &[3, 1, b'1', 1, b'2', 1, b'3']),
        (1, &[2], &[5]),
    ] {
        let mut log = new_log();
        apply(&mut log, &known(kind, short));
        assert_eq!(log.verdict(&known(kind, long)), Ok(Verdict::New));
        assert_eq!(apply(&mut log, &known(kind, long)), (Verdict::New, false));
        let mut whole = StructLog::new(LogOptions::default());
        apply(&mut whole, &known(kind, long));
        // The legacy JSON content is not squashed, which readers do not see.
        assert_eq!(log.state_vector(), whole.state_vector());
        if kind != 2 {
            assert_eq!(log.encode(), whole.encode());
        }
        assert_eq!(apply(&mut log, &known(kind, long)), (Verdict::Known, false));
    }
}

#[test]
fn deletes_are_new_once_and_known_then() {
    let mut log = new_log();
    apply(&mut log, &update(1, 0, &[root(STRING, &text("abcdef"))], &[]));
    let before = log.cursor();
    assert_eq!(apply(&mut log, &update(1, 0, &[], &[(1, 1, 2)])), (Verdict::New, false));
    assert_eq!(apply(&mut log, &update(1, 0, &[], &[(1, 1, 1)])), (Verdict::Known, false));
    assert_eq!(apply(&mut log, &update(1, 0, &[], &[(1, 2, 3)])), (Verdict::New, false));
    assert_eq!(log.diff_since(before), update(1, 0, &[], &[(1, 1, 4)]));
    // Beyond the known clocks a delete waits.
    assert_eq!(apply(&mut log, &update(1, 0, &[], &[(1, 5, 3)])), (Verdict::Pending, false));
    assert_eq!(log.pending().collect::<Vec<_>>(), [&update(1, 0, &[], &[(1, 6, 2)])]);
    let more = update(1, 6, &[after(STRING, (1, 5), None, &text("gh"))], &[]);
    assert_eq!(apply(&mut log, &more), (Verdict::New, true));
    assert_eq!(log.diff(&[1, 1, 8]).unwrap(), update(1, 0, &[], &[(1, 1, 7)]));
}

#[test]
fn compaction_leaves_what_the_collector_of_yjs_leaves() {
    let nested = [
        root(7, &[0]),
        vec![8, 0, 1, 0, 1, 119, 5, b'f', b'i', b'r', b's', b't'],
        after(7, (1, 1), None, &[2]),
        vec![STRING, 0, 1, 2, 6, b's', b'e', b'c', b'o', b'n', b'd'],
    ];
    let all = update(1, 0, &nested, &[(1, 0, 9)]);
    let mut kept = StructLog::new(LogOptions { gc: false, ..LogOptions::default() });
    apply(&mut kept, &all);
    kept.compact();
    assert_eq!(kept.encode(), all);
    let mut log = new_log();
    apply(&mut log, &all);
    let (cursor, estimate) = (log.cursor(), log.encoded_bytes());
    log.compact();
    // The type itself keeps its place, all in it becomes one GC struct.
    assert_eq!(log.encode(), update(1, 0, &[root(1, &[1]), vec![0, 8]], &[(1, 0, 9)]));
    assert_eq!(log.verdict(&all), Ok(Verdict::Known));
    assert!(log.cursor() == cursor && log.encoded_bytes() < estimate);

    // An embed is one clock long, its content may be any size.
    let mut log = new_log();
    let embeds = [root(5, &text("{\"much\":\"of it\"}")), root(5, &text("{\"kept\":\"this\"}"))];
    apply(&mut log, &update(1, 0, &embeds, &[(1, 0, 1)]));
    log.compact();
    assert_eq!(log.encode(), update(1, 0, &[root(1, &[1]), embeds[1].clone()], &[(1, 0, 1)]));

    // Of a run only the deleted middle goes, and only when the heads cost less than it.
    let long = "x".repeat(90);
    let mut log = new_log();
    apply(&mut log, &update(1, 0, &[root(STRING, &text(&long))], &[(1, 10, 2)]));
    log.compact();
    assert_eq!(log.encode(), update(1, 0, &[root(STRING, &text(&long))], &[(1, 10, 2)]));
    apply(&mut log, &update(1, 0, &[], &[(1, 12, 48)]));
    log.compact();
    let parts = [
        root(STRING, &text(&long[..10])),
        after(1, (1, 9), None, &[50]),
        after(STRING, (1, 59), None, &text(&long[..30])),
    ];
    assert_eq!(log.encode(), update(1, 0, &parts, &[(1, 10, 50)]));
}

#[test]
fn a_cursor_behind_the_journal_gets_the_full_state() {
    let mut log = new_log();
    apply(&mut log, &update(1, 0, &[root(STRING, &text("a"))], &[]));
    let old = log.cursor();
    apply(&mut log, &update(1, 1, &[after(STRING, (1, 0), None, &text("b"))], &[]));
    let new = log.cursor();
    apply(&mut log, &update(2, 0, &[root(STRING, &text("c"))], &[]));
    assert_eq!(log.diff_since(log.cursor()), [0, 0]);
    let third = update(2, 0, &[root(STRING, &text("c"))], &[]);
    assert_eq!(log.diff_since(new), third);
    log.trim_journal(new);
    assert_eq!(log.diff_since(new), third);
    assert_eq!(log.diff_since(old), log.encode());
}

#[test]
fn memory_stays_near_the_encoded_size() {
    let mut log = new_log();
    let empty = log.memory_bytes();
    assert!(empty <= 400, "an empty log takes {empty} bytes");
    apply(&mut log, &update(1, 0, &[root(STRING, &text("a"))], &[]));
    // Typing in two places by turns: runs of one character, the worst case.
    for clock in 1..40_000_u32 {
        let mut out = vec![1, 1, 1];
        let uint = |out: &mut Vec<u8>, mut value: u32| {
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
        };
        uint(&mut out, clock);
        out.extend([0xc4, 1]);
        uint(&mut out, clock.saturating_sub(2));
        out.extend([1, 0, 1, b'x', 0]);
        assert_eq!(apply(&mut log, &out).0, Verdict::New);
        log.trim_journal(log.cursor());
    }
    let (memory, encoded) = (log.memory_bytes(), log.encode().len());
    assert!(memory <= encoded + encoded / 2, "{memory} bytes for {encoded}");
    let loaded = StructLog::load(LogOptions::default(), &log.encode()).unwrap();
    let memory = loaded.memory_bytes();
    assert!(memory <= encoded + encoded / 10, "{memory} bytes for {encoded} after loading");
}

/// A length may be written with more bytes than it needs; what is squashed to it is written with as many as it does.
#[test]
fn a_squash_may_shorten_what_a_peer_wrote() {
    let mut log = new_log();
    // Two structs of garbage, 123 and 1 long, the first with a length of two bytes.
    let sent = [1, 2, 10, 0, 0, 0xfb, 0, 0, 1, 0];
    assert_eq!(apply(&mut log, &sent), (Verdict::New, false));
    assert_eq!(log.state_vector(), [1, 10, 124]);
    assert_eq!(log.encode(), [1, 1, 10, 0, 0, 124, 1, 10, 1, 0, 124]);
    assert_eq!(
        log.encoded_bytes(),
        StructLog::load(LogOptions::default(), &log.encode()).unwrap().encoded_bytes()
    );
}
