//! Gives a struct log whatever the fuzzer invents: a sequence of updates, state vectors and compactions.
//!
//! An input is a chain of steps: a byte that says what to do, two bytes of length, and so many bytes. Seeds from real
//! clients are in `seeds/log` (`node ../tests/yjs/seeds.mjs` writes them).

use fidibus_core::log::{Cursor, LogOptions, StructLog, Verdict, scan_state_vector, scan_update};

/// One input.
pub fn run(input: &[u8]) {
    let options = LogOptions { gc: true, pending_bytes_max: 1 << 16 };
    let mut log = StructLog::new(options);
    let mut told = Cursor::default();
    let mut replica = StructLog::new(options);
    let mut rest = input;
    while let [step, low, high, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (bytes, after) = tail.split_at(len);
        rest = after;
        match step % 4 {
            0 | 1 => apply(&mut log, bytes),
            2 => assert_eq!(scan_state_vector(bytes).is_ok(), log.diff(bytes).is_ok()),
            _ => log.compact(),
        }
        // A replica that is told of every change has the same clocks.
        replica.apply(&log.diff_since(told)).expect("what a log emits is sound");
        told = log.cursor();
        if step & 4 == 4 {
            log.trim_journal(told);
        }
    }
    assert_eq!(replica.state_vector(), log.state_vector());
    check(&mut log, options);
}

fn apply(log: &mut StructLog, update: &[u8]) {
    let (foreseen, before) = (log.verdict(update), log.cursor());
    match log.apply(update) {
        Ok(applied) => {
            assert_eq!(foreseen, Ok(applied.verdict));
            assert!(scan_update(update).is_ok());
            assert!(applied.verdict != Verdict::Known || applied.unparked || before == log.cursor());
            if applied.verdict == Verdict::New {
                assert_eq!(log.verdict(update), Ok(Verdict::Known));
            }
        }
        Err(_) => assert_eq!(log.cursor(), before),
    }
}

/// What a log encodes is sound, complete, and survives loading and compaction.
fn check(log: &mut StructLog, options: LogOptions) {
    let state = log.encode();
    assert_eq!(scan_update(&state).map(|summary| summary.skips), Ok(0));
    assert_eq!(log.verdict(&state), Ok(Verdict::Known));
    assert_eq!(log.diff(&[0]).as_ref(), Ok(&state));
    assert!(log.pending().all(|part| scan_update(part).is_ok_and(|summary| summary.skips == 0)));
    // It may know more: a struct of which a part is known, though not what it refers to, is stored without that.
    let stored = StructLog::load(options, &log.encode_with_pending()).expect("what a log stores loads");
    assert_eq!(stored.verdict(&state), Ok(Verdict::Known));
    let mut loaded = StructLog::load(options, &state).expect("what a log encodes loads");
    assert_eq!(loaded.pending_bytes(), 0);
    loaded.compact();
    log.compact();
    for log in [&loaded, log] {
        assert_eq!(log.verdict(&state), Ok(Verdict::Known));
        assert!(scan_update(&log.encode()).is_ok());
    }
    assert_eq!(loaded.state_vector(), log.state_vector());
}
