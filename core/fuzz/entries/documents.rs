//! Gives what the log accepts to those who look into it: the merge of a store, and yrs for text, JSON and edits. yrs
//! may refuse and may panic (which ends that call and nothing else); nothing may end the process, and a store may
//! lose nothing.
//!
//! An input is two updates: two bytes with the length of the first, that one, and the other.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fidibus_core::id::DocumentName;
use fidibus_core::log::{LogOptions, StructLog, Verdict};
use fidibus_core::room::{Edit, RootKind, edit, json, json_of_all, text};
use fidibus_core::store::{DocumentStore, MemoryStore};

/// One input.
pub fn run(input: &[u8]) {
    let [low, high, rest @ ..] = input else { return };
    let (one, other) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    let mut log = StructLog::new(LogOptions { gc: true, pending_bytes_max: 1 << 16 });
    let taken: Vec<&[u8]> = [one, other].into_iter().filter(|update| log.apply(update).is_ok()).collect();
    if taken.is_empty() {
        return;
    }
    stored(&taken);
    read(&log.encode());
}

/// What is stored grows: each update is in it afterwards, whether it could be applied or waits.
fn stored(updates: &[&[u8]]) {
    let store = MemoryStore::new();
    let name = DocumentName::parse("d").expect("a name");
    let mut held = Vec::new();
    for update in updates {
        if ready(store.store(&name, Bytes::copy_from_slice(update), &[])).is_ok() {
            held.push(*update);
        }
    }
    let Some(stored) = ready(store.load(&name)).expect("memory is there") else {
        assert!(held.is_empty());
        return;
    };
    let options = LogOptions { gc: false, pending_bytes_max: usize::MAX };
    let Some(snapshot) = stored.snapshot else {
        // Only what holds nothing is stored as nothing.
        let mut log = StructLog::new(options);
        assert!(
            held.iter()
                .all(|update| log.apply(update).is_ok_and(|applied| applied.verdict == Verdict::Known))
        );
        return;
    };
    let mut log = StructLog::load(options, &snapshot).expect("what is stored loads");
    let (vector, waiting) = (log.state_vector(), log.pending_bytes());
    for update in held {
        let applied = log.apply(update).expect("it was stored");
        assert!(applied.verdict != Verdict::New, "a part of it was lost");
    }
    assert_eq!((log.state_vector(), log.pending_bytes() >= waiting), (vector, true));
}

fn read(state: &[u8]) {
    contain_yrs();
    let _ = json_of_all(state);
    for (root, kind) in
        [("t", RootKind::Auto), ("x", RootKind::Xml), ("a", RootKind::Array), ("m", RootKind::Map)]
    {
        let _ = json(state, root, kind);
    }
    let _ = text(state, "t");
    let edits = [
        Edit::TextInsert { root: "t".into(), index: None, text: "ä".into() },
        Edit::TextRemove { root: "t".into(), index: 0, len: 1 },
        Edit::MapSet { root: "m".into(), key: "k".into(), json: "[1]".into() },
    ];
    if let Ok(update) = edit(state, &edits) {
        let mut log = StructLog::load(LogOptions::default(), state).expect("a log's own state");
        let applied = log.apply(&update).expect("yrs writes what yjs reads");
        assert_eq!(applied.verdict, Verdict::New);
    }
}

/// A fuzzer aborts at every panic, also at those that are caught. Those of yrs are meant to be.
fn contain_yrs() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|place| place.file().contains("/yrs-")) {
                before(info);
            }
        }));
    });
}

/// The memory store waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waits"),
    }
}
