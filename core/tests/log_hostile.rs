//! Goal: the worst that a peer can write costs little time and memory, whatever its structure.
//!
//! Method: updates built to hit every loop of the struct log in its worst order, 64 KiB each, within a bound per byte.

use fidibus_core::log::{LogOptions, ScanError, StructLog, Verdict};
use std::time::{Duration, Instant};

const BYTES: usize = 64 << 10;

/// What one call may take. Unoptimised code may be twenty times slower.
const CALL_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 50 });

/// Memory that a log may take per byte that it was given: a client of eight bytes has a place and a buffer.
const MEMORY_PER_BYTE: usize = 64;

fn uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An update of so many blocks, each written by `block`.
fn blocks(count: u64, mut block: impl FnMut(&mut Vec<u8>, u64)) -> Vec<u8> {
    let mut out = Vec::new();
    uint(&mut out, count);
    (0..count).for_each(|index| block(&mut out, index));
    out.push(0);
    out
}

/// One struct of one character that follows an id.
fn follow(out: &mut Vec<u8>, client: u64, clock: u64) {
    out.push(0x84);
    uint(out, client);
    uint(out, clock);
    out.extend([1, b'x']);
}

/// The shortest of three runs, since others use the machine as well.
fn timed<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut runs: Vec<_> = (0..3)
        .map(|_| {
            let start = Instant::now();
            let result = run();
            (start.elapsed(), result)
        })
        .collect();
    runs.sort_by_key(|&(time, _)| time);
    runs.swap_remove(0)
}

fn check(name: &str, update: &[u8], expected: Result<Verdict, ScanError>) {
    let options = LogOptions { pending_bytes_max: usize::MAX, ..LogOptions::default() };
    let (time, (log, found)) = timed(|| {
        let mut log = StructLog::new(options);
        let found = log.apply(update).map(|applied| applied.verdict);
        (log, found)
    });
    assert_eq!(found, expected, "{name}");
    assert!(time <= CALL_MAX, "{name}: {time:?} for {} bytes", update.len());
    let memory = log.memory_bytes();
    assert!(memory <= MEMORY_PER_BYTE * update.len() + 4096, "{name}: {memory} bytes for {}", update.len());
    let (time, _) = timed(|| log.verdict(update));
    assert!(time <= CALL_MAX, "{name}: {time:?} to judge it again");
    let (time, parts) = timed(|| log.encode().len() + log.pending().map(|part| part.len()).sum::<usize>());
    assert!(time <= CALL_MAX, "{name}: {time:?} to encode {parts} bytes");
}

#[test]
fn many_clients() {
    let count = BYTES as u64 / 8;
    let block = |out: &mut Vec<u8>, client| {
        uint(out, 1);
        uint(out, 1_000_000 + client);
        out.extend([0, 0, 1]);
    };
    check("ascending", &blocks(count, block), Ok(Verdict::New));
    check("descending", &blocks(count, |out, index| block(out, count - index)), Ok(Verdict::New));
}

#[test]
fn many_that_wait_for_one() {
    let update = blocks(BYTES as u64 / 12, |out, index| {
        uint(out, 1);
        uint(out, 1_000_000 + index);
        out.push(0);
        follow(out, 7, 5);
    });
    check("blocks that miss the same", &update, Ok(Verdict::Pending));
    let mut log = StructLog::new(LogOptions { pending_bytes_max: usize::MAX, ..LogOptions::default() });
    log.apply(&update).unwrap();
    let needed = [1, 1, 7, 0, 4, 1, 1, b't', 6, b'a', b'b', b'c', b'd', b'e', b'f', 0];
    let start = Instant::now();
    assert!(log.apply(&needed).unwrap().unparked);
    assert!(start.elapsed() <= 2 * CALL_MAX, "{:?} to let them go", start.elapsed());
    assert_eq!(log.pending_bytes(), 0);
}

#[test]
fn structs_that_shrink_to_nothing_leave_nothing() {
    let mut log = StructLog::new(LogOptions::default());
    for client in 1..100 {
        let mut out = vec![1];
        uint(&mut out, BYTES as u64 / 2);
        out.extend([client, 0]);
        (0..BYTES / 2).for_each(|_| out.extend([0, 1]));
        out.push(0);
        assert!(log.apply(&out).is_ok_and(|applied| applied.verdict == Verdict::New));
    }
    log.trim_journal(log.cursor());
    assert!(log.memory_bytes() < 2 * BYTES, "{} bytes for a hundred GC structs", log.memory_bytes());
}

#[test]
fn blocks_in_the_worst_order() {
    // Every block follows the next one, and the last one needs nothing: as deep as it goes.
    let count = BYTES as u64 / 14;
    let chain = |complete: bool| {
        blocks(count, |out, index| {
            uint(out, 1);
            uint(out, 1_000_000 + index);
            out.push(0);
            match complete && index == count - 1 {
                true => out.extend([4, 1, 1, b't', 1, b'x']),
                false => follow(out, 1_000_001 + index, 0),
            }
        })
    };
    check("a chain", &chain(true), Ok(Verdict::New));
    check("a chain without end", &chain(false), Ok(Verdict::Pending));
    // Two blocks that follow each other struct by struct.
    let each = BYTES as u64 / 16;
    let mut out = vec![2];
    for (client, other) in [(1, 2), (2, 1)] {
        uint(&mut out, each);
        uint(&mut out, client);
        out.push(0);
        for clock in 0..each {
            match (client, clock) {
                (1, 0) => out.extend([4, 1, 1, b't', 1, b'x']),
                (1, _) => follow(&mut out, other, clock - 1),
                _ => follow(&mut out, other, clock),
            }
        }
    }
    out.push(0);
    check("two by turns", &out, Ok(Verdict::New));
}

#[test]
fn deletes_in_the_worst_order() {
    let count = BYTES as u64 / 5;
    let deletes = |clock: &dyn Fn(u64) -> u64| {
        let mut out = vec![0, 1, 1];
        uint(&mut out, count);
        for index in 0..count {
            uint(&mut out, clock(index));
            out.push(1);
        }
        out
    };
    let scattered = |index: u64| index * 7919 % count * 2;
    for (name, update) in [
        ("ascending", deletes(&|index| index * 2)),
        ("descending", deletes(&|index| (count - index) * 2)),
        ("scattered", deletes(&scattered)),
        ("all the same", deletes(&|_| 1 << 20)),
    ] {
        check(name, &update, Ok(Verdict::Pending));
    }
    // And when they are let go.
    let mut log = StructLog::new(LogOptions { pending_bytes_max: usize::MAX, ..LogOptions::default() });
    log.apply(&deletes(&scattered)).unwrap();
    let mut gc = vec![1, 1, 1, 0, 0];
    uint(&mut gc, 1 << 24);
    gc.push(0);
    let start = Instant::now();
    assert!(log.apply(&gc).is_ok_and(|applied| applied.verdict == Verdict::New));
    assert!(start.elapsed() <= 2 * CALL_MAX, "{:?} to delete", start.elapsed());
    assert_eq!(log.pending_bytes(), 0);
}

#[test]
fn runs_and_holes() {
    let mut alternating = Vec::new();
    uint(&mut alternating, BYTES as u64 / 4 * 2);
    let mut skips = vec![1];
    skips.extend(alternating);
    skips.extend([1, 0]);
    for _ in 0..BYTES / 4 {
        skips.extend([0, 1, 10, 1]);
    }
    skips.push(0);
    check("structs and holes by turns", &skips, Ok(Verdict::Pending));
    // One update, and then one character at a time into the same run and two places by turns.
    let mut log = StructLog::new(LogOptions::default());
    log.apply(&[1, 1, 1, 0, 4, 1, 1, b't', 1, b'x', 0]).unwrap();
    let start = Instant::now();
    for clock in 1..20_000u64 {
        let mut out = vec![1, 1, 1];
        uint(&mut out, clock);
        follow(&mut out, 1, if clock % 5_000 < 2_500 { clock - 1 } else { clock.saturating_sub(2) });
        out.push(0);
        let before = log.cursor();
        log.apply(&out).unwrap();
        log.diff_since(before);
    }
    assert!(start.elapsed() <= 20 * CALL_MAX, "{:?} for 20,000 characters", start.elapsed());
}
