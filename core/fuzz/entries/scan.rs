//! Gives the scanners whatever the fuzzer invents. The first byte of an input says what the rest is: an update, a
//! state vector, or an awareness message.

use fidibus_core::log::{LogOptions, ScanError, StructLog, scan_state_vector, scan_update};
use fidibus_core::protocol::awareness;

/// One input.
pub fn run(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 3 {
        0 => update(bytes),
        1 => state_vector(bytes),
        _ => awareness_message(bytes),
    }
}

/// The scanner and the log agree on what an update is, and on what a cut one is not.
fn update(bytes: &[u8]) {
    let mut log = StructLog::new(LogOptions { gc: true, pending_bytes_max: usize::MAX });
    let scanned = scan_update(bytes);
    assert_eq!(scanned.err(), log.apply(bytes).err());
    if scanned.is_ok() && !bytes.is_empty() {
        assert!(scan_update(&bytes[..bytes.len() - 1]).is_err(), "the last byte is of no matter");
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(scan_update(&longer).is_err(), "bytes that follow are of no matter");
    }
    let mut strict = StructLog::new(LogOptions { gc: true, pending_bytes_max: 0 });
    match strict.apply(bytes) {
        Ok(_) => assert_eq!(strict.pending_bytes(), 0),
        Err(error) => assert!(error == ScanError::PendingFull || scanned == Err(error)),
    }
}

fn state_vector(bytes: &[u8]) {
    let log = StructLog::new(LogOptions::default());
    assert_eq!(scan_state_vector(bytes).is_ok(), log.diff(bytes).is_ok());
}

/// What the scanner accepts is read, written again and accepted again; states are JSON for everybody else, too.
fn awareness_message(bytes: &[u8]) {
    let Ok(entries) = awareness::scan(bytes) else { return };
    let announced = entries.len();
    let entries: Vec<_> = entries.collect();
    assert_eq!(entries.len(), announced);
    for entry in &entries {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(entry.state) {
            // What no float can hold is Infinity to `JSON.parse`.
            assert!(error.to_string().contains("number out of range"), "{error}: {}", entry.state);
        }
    }
    let written = awareness::encode(entries.iter().copied());
    assert!(written.len() <= bytes.len(), "numbers are written in their shortest form");
    assert!(awareness::scan(&written).expect("what was read can be written").eq(entries));
}
