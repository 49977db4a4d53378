//! Goal: what misses something waits, within its bound, is let go when that comes, and is never lost.
//!
//! Method: updates written byte by byte, so that each test shows the encoding that it is about.

use fidibus_core::log::{self, LogOptions, ScanError, StructLog, Verdict, scan_update};

#[path = "yjs/updates.rs"]
mod updates;

use updates::{STRING, after, apply, log as new_log, root, text, update};

#[test]
fn every_kind_of_reference_is_waited_for() {
    let given = update(1, 0, &[root(7, &[2]), root(STRING, &text("a"))], &[]);
    let origin = update(2, 0, &[after(STRING, (1, 1), None, &text("x"))], &[]);
    let right = update(2, 0, &[vec![0x44, 1, 1, 1, b'x']], &[]);
    let parent = update(2, 0, &[vec![STRING, 0, 1, 0, 1, b'x']], &[]);
    for waiting in [origin, right, parent] {
        let mut log = new_log();
        assert_eq!(apply(&mut log, &waiting), (Verdict::Pending, false), "{waiting:?}");
        assert_eq!(log.state_vector(), [0]);
        assert_eq!(apply(&mut log, &given), (Verdict::New, true), "{waiting:?}");
        assert_eq!(log.state_vector(), [2, 2, 1, 1, 2]);
    }
}

#[test]
fn a_waiting_part_goes_on_where_it_stopped() {
    // Each struct of client 2 follows one of client 1, which come one by one.
    let structs: Vec<_> = (0..50).map(|clock| after(STRING, (1, clock), None, &text("x"))).collect();
    let mut log = new_log();
    assert_eq!(apply(&mut log, &update(2, 0, &structs, &[(2, 10, 5), (1, 3, 1)])), (Verdict::Pending, false));
    for clock in 0..50 {
        let one = match clock {
            0 => root(STRING, &text("a")),
            _ => after(STRING, (1, clock - 1), None, &text("a")),
        };
        assert_eq!(apply(&mut log, &update(1, clock, &[one], &[])), (Verdict::New, true));
        assert_eq!(log.state_vector(), [2, 2, clock + 1, 1, clock + 1]);
    }
    assert_eq!((log.pending().count(), log.pending_bytes()), (0, 0));
    assert_eq!(log.diff(&[2, 1, 50, 2, 50]).unwrap(), [0, 2, 2, 1, 10, 5, 1, 1, 3, 1]);
}

#[test]
fn a_store_keeps_what_waits_behind_holes() {
    let mut log = new_log();
    apply(&mut log, &update(1, 0, &[root(STRING, &text("ab"))], &[(1, 1, 1)]));
    assert_eq!(log.encode_with_pending(), log.encode());
    // Clocks 4 to 6 in two overlapping updates, then 8; another client of which only the second clock came; a delete.
    apply(&mut log, &update(1, 4, &[after(STRING, (1, 3), None, &text("ef"))], &[]));
    apply(&mut log, &update(1, 5, &[after(STRING, (1, 4), None, &text("fg"))], &[]));
    apply(&mut log, &update(1, 8, &[after(STRING, (1, 7), None, &text("i"))], &[]));
    apply(&mut log, &update(3, 1, &[after(STRING, (3, 0), None, &text("z"))], &[(1, 6, 1)]));
    let stored = log.encode_with_pending();
    let structs = [
        &[2, 1, 3, 1][..],
        &after(STRING, (3, 0), None, &text("z")),
        &[6, 1, 0],
        &root(STRING, &text("ab")),
        &[10, 2],
        &after(STRING, (1, 3), None, &text("ef")),
        &after(STRING, (1, 5), None, &text("g")),
        &[10, 1],
        &after(STRING, (1, 7), None, &text("i")),
        &[1, 1, 2, 1, 1, 6, 1],
    ];
    assert_eq!(stored, structs.concat());
    let loaded = StructLog::load(LogOptions::default(), &stored).unwrap();
    assert_eq!(loaded.encode(), log.encode());
    assert_eq!(loaded.encode_with_pending(), stored);
    assert_eq!(loaded.pending().count(), 4);
}

#[test]
fn of_two_parts_the_longer_waits() {
    let structs = [after(STRING, (1, 0), None, &text("b")), after(STRING, (1, 1), Some((1, 0)), &text("c"))];
    let (short, long) = (update(1, 1, &structs[..1], &[]), update(1, 1, &structs, &[]));
    for order in [[&short, &long], [&long, &short]] {
        let mut log = new_log();
        for part in order {
            assert_eq!(apply(&mut log, part), (Verdict::Pending, false));
        }
        assert_eq!(log.pending().collect::<Vec<_>>(), [&long]);
    }
}

#[test]
fn updates_wait_for_what_they_refer_to() {
    let first = update(1, 0, &[root(STRING, &text("a"))], &[]);
    let second = update(1, 1, &[after(STRING, (1, 0), None, &text("b"))], &[]);
    let other = update(2, 0, &[after(STRING, (1, 1), None, &text("c"))], &[(1, 0, 2)]);
    let mut log = new_log();
    assert_eq!(apply(&mut log, &other), (Verdict::Pending, false));
    assert_eq!(apply(&mut log, &second), (Verdict::Pending, false));
    assert_eq!(log.encode(), [0, 0]);
    assert!(!log.is_empty());
    assert_eq!(log.pending().count(), 3);
    for part in log.pending() {
        assert!(scan_update(part).is_ok());
    }
    // The same update again takes no more room.
    let waiting = log.pending_bytes();
    assert_eq!(apply(&mut log, &other), (Verdict::Pending, false));
    assert_eq!(log.pending_bytes(), waiting);
    let before = log.cursor();
    assert_eq!(apply(&mut log, &first), (Verdict::New, true));
    assert_eq!((log.pending().count(), log.pending_bytes()), (0, 0));
    assert_eq!(log.state_vector(), [2, 2, 1, 1, 2]);
    assert_eq!(log.diff_since(before), log.encode());
    assert_eq!(log.verdict(&other), Ok(Verdict::Known));
}

#[test]
fn waiting_updates_are_bounded() {
    let mut log = StructLog::new(LogOptions { pending_bytes_max: 2_000, ..LogOptions::default() });
    let gap = |clock: u8| update(1, clock, &[after(STRING, (1, clock - 1), None, &text("x"))], &[]);
    let mut refused = None;
    for clock in 1..100 {
        let before = (log.cursor(), log.pending_bytes());
        if let Err(error) = log.apply(&gap(clock)) {
            assert_eq!(error, ScanError::PendingFull);
            assert_eq!((log.cursor(), log.pending_bytes()), before);
            refused = refused.or(Some(clock));
        }
        assert!(log.pending_bytes() <= 2_000);
    }
    assert!(refused.is_some_and(|clock| clock > 5));
    // What needs no waiting is taken all the same, and lets the others go.
    assert_eq!(apply(&mut log, &update(1, 0, &[root(STRING, &text("a"))], &[])), (Verdict::New, true));
    assert_eq!(log.pending_bytes(), 0);
    assert_eq!(log.state_vector(), [1, 1, refused.unwrap()]);
}

#[test]
fn a_skip_is_a_gap_and_never_comes_out() {
    let skipping =
        update(1, 0, &[root(STRING, &text("a")), vec![10, 2], after(STRING, (1, 2), None, &text("d"))], &[]);
    let mut log = new_log();
    assert_eq!(apply(&mut log, &skipping), (Verdict::Pending, false));
    assert_eq!(log.encode(), update(1, 0, &[root(STRING, &text("a"))], &[]));
    assert_eq!(
        log.pending().collect::<Vec<_>>(),
        [&update(1, 3, &[after(STRING, (1, 2), None, &text("d"))], &[])]
    );
    let middle = update(1, 1, &[after(STRING, (1, 0), None, &text("bc"))], &[]);
    assert_eq!(apply(&mut log, &middle), (Verdict::New, true));
    assert_eq!(log.encode(), update(1, 0, &[root(STRING, &text("abcd"))], &[]));
    assert_eq!(apply(&mut log, &skipping), (Verdict::Known, false));
    // With its hole filled an update can be new at once, but its bytes are not for peers.
    let longer = [
        &skipping[..1],
        &[4],
        &skipping[2..skipping.len() - 1],
        &after(STRING, (1, 3), None, &text("e")),
        &[0],
    ];
    assert_eq!(apply(&mut log, &longer.concat()), (Verdict::New, true));
    assert_eq!(log.encode(), update(1, 0, &[root(STRING, &text("abcde"))], &[]));
}

#[test]
fn blocks_that_need_each_other_are_taken_together() {
    // Client 2 follows 1, which follows 2 again; the blocks come in both orders.
    let one = [root(STRING, &text("a")), after(STRING, (2, 0), None, &text("c"))].concat();
    let two = [after(STRING, (1, 0), None, &text("b")), after(STRING, (1, 1), None, &text("d"))].concat();
    let block = |client: u8, structs: &[u8]| [&[2, client, 0], structs].concat();
    for order in [[block(2, &two), block(1, &one)], [block(1, &one), block(2, &two)]] {
        let both = [&[2][..], &order.concat(), &[0]].concat();
        let mut log = new_log();
        assert_eq!(log.verdict(&both), Ok(Verdict::New));
        assert_eq!(apply(&mut log, &both), (Verdict::New, false));
        assert_eq!(log.state_vector(), [2, 2, 2, 1, 2]);
    }
    // Two that wait for each other wait for ever.
    let first = after(STRING, (2, 0), None, &text("x"));
    let second = after(STRING, (1, 0), None, &text("y"));
    let knot = [&[2, 1, 2, 0][..], &second, &[1, 1, 0], &first, &[0]].concat();
    let mut log = new_log();
    assert_eq!(apply(&mut log, &knot), (Verdict::Pending, false));
    assert_eq!(log.encode(), [0, 0]);
}
