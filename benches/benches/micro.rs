//! Micro benchmarks of the hot path: the scanner, the struct log on typing traces, joins, flushes, and the fan-out of a
//! room to outboxes whose sockets cost nothing. Beside them what yrs needs for the same.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use fidibus_bench::trace::{CLIENT_ID_START, Trace, seed};
use fidibus_core::auth::Access;
use fidibus_core::config::Config;
use fidibus_core::id::{Address, ConnectionId, DocumentName, SessionKey};
use fidibus_core::log::{LogOptions, StructLog, scan_update};
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::frame::Prefix;
use fidibus_core::protocol::message::Inbound;
use fidibus_core::room::{Framing, Outbox, Room, RoomOptions, Sink, Subscriber};
use yrs::updates::decoder::Decode;
use yrs::{Transact, Update};

/// Keystrokes of a trace.
const KEYSTROKES: usize = 10_000;
/// An empty state vector.
const NOTHING: &[u8] = &[0];

fn main() {
    divan::main();
}

/// The keystrokes of several writers in turn.
fn keystrokes(writers: u64) -> Vec<Bytes> {
    let per_writer = KEYSTROKES / writers as usize;
    let trace = Trace::typing(per_writer, 1);
    let one = |index: usize, writer: u64| {
        let mut update = Vec::new();
        trace.put(index, CLIENT_ID_START + writer, &mut update);
        Bytes::from(update)
    };
    (0..per_writer)
        .flat_map(|index| (0..writers).map(move |writer| (index, writer)))
        .map(|(i, w)| one(i, w))
        .collect()
}

fn log_of(updates: &[Bytes]) -> StructLog {
    let mut log = StructLog::new(LogOptions::default());
    for update in updates {
        log.apply(update).expect("a valid update");
    }
    log
}

mod scan {
    use super::*;

    #[divan::bench]
    fn keystroke(bencher: Bencher) {
        let update = keystrokes(1).swap_remove(5000);
        bencher.counter(ItemsCount::new(1u32)).bench(|| scan_update(divan::black_box(&update)));
    }

    #[divan::bench]
    fn merged_64(bencher: Bencher) {
        let merged = yrs::merge_updates_v1(&keystrokes(64)[..64]).expect("mergeable updates");
        bencher.counter(ItemsCount::new(64u32)).bench(|| scan_update(divan::black_box(&merged)));
    }

    #[divan::bench]
    fn document_1mb(bencher: Bencher) {
        let update = seed(1_000_000, 1);
        bencher.counter(BytesCount::new(update.len())).bench(|| scan_update(divan::black_box(&update)));
    }
}

mod apply {
    use super::*;

    #[divan::bench(args = [1, 4, 100])]
    fn log(bencher: Bencher, writers: u64) {
        let updates = keystrokes(writers);
        bencher.counter(ItemsCount::new(updates.len())).bench(|| log_of(divan::black_box(&updates)));
    }

    /// What a server does for each keystroke that keeps a live document: decode, integrate, no observer.
    #[divan::bench(args = [1, 4, 100], sample_count = 10)]
    fn yrs(bencher: Bencher, writers: u64) {
        let updates = keystrokes(writers);
        bencher.counter(ItemsCount::new(updates.len())).bench(|| {
            let document = fidibus_bench::trace::document(1);
            document.get_or_insert_text("content");
            for update in divan::black_box(&updates) {
                let update = Update::decode_v1(update).expect("a valid update");
                document.transact_mut().apply_update(update).expect("an applicable update");
            }
            document
        });
    }
}

mod join {
    use super::*;

    #[divan::bench]
    fn load_1mb(bencher: Bencher) {
        let update = seed(1_000_000, 1);
        bencher
            .counter(BytesCount::new(update.len()))
            .bench(|| StructLog::load(LogOptions::default(), divan::black_box(&update)));
    }

    #[divan::bench]
    fn encode_1mb(bencher: Bencher) {
        let update = seed(1_000_000, 1);
        let log = StructLog::load(LogOptions::default(), &update).expect("a valid state");
        bencher.counter(BytesCount::new(update.len())).bench(|| divan::black_box(&log).encode());
    }

    #[divan::bench]
    fn diff_1mb_of_a_newcomer(bencher: Bencher) {
        let update = seed(1_000_000, 1);
        let log = StructLog::load(LogOptions::default(), &update).expect("a valid state");
        bencher.counter(BytesCount::new(update.len())).bench(|| divan::black_box(&log).diff(NOTHING));
    }

    #[divan::bench]
    fn diff_1mb_of_a_reconnect(bencher: Bencher) {
        let log = StructLog::load(LogOptions::default(), &seed(1_000_000, 1)).expect("a valid state");
        let known = log.state_vector();
        bencher.bench(|| divan::black_box(&log).diff(divan::black_box(&known)));
    }
}

mod flush {
    use super::*;

    /// The difference that a window of so many keystrokes makes, in a document of 10,000.
    #[divan::bench(args = [1, 16, 256])]
    fn diff_since(bencher: Bencher, window: usize) {
        let updates = keystrokes(100);
        let (before, after) = updates.split_at(updates.len() - window);
        let mut log = log_of(before);
        let cursor = log.cursor();
        for update in after {
            log.apply(update).expect("a valid update");
        }
        bencher.counter(ItemsCount::new(window)).bench(|| divan::black_box(&log).diff_since(cursor));
    }
}

mod fan_out {
    use super::*;

    /// A socket that takes everything and costs nothing: what remains is ours.
    struct Void;

    impl Sink for Void {
        fn framing(&self) -> Framing {
            Framing::WebSocket
        }

        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }

        fn wake(&self) {}
    }

    fn session(number: u64) -> SessionKey {
        SessionKey { connection: ConnectionId(number), number: 0 }
    }

    fn room(readers: u64, now: Instant) -> Room {
        let name = DocumentName::parse("bench").expect("a name");
        let options = Arc::new(RoomOptions::new(&Config::default(), false));
        let mut room = Room::new(name.clone(), StructLog::new(LogOptions::default()), options);
        let prefix = Prefix::new(&Address::from(name), Dialect::Hocuspocus);
        for number in 0..readers {
            room.join(
                Subscriber {
                    session: session(number),
                    prefix: prefix.clone(),
                    dialect: Dialect::Hocuspocus,
                    access: Access::ReadWrite,
                    user: None,
                    outbox: Arc::new(Outbox::new(1 << 20, Void)),
                },
                now,
            );
        }
        room
    }

    /// One keystroke to all readers and its ack, as one turn: apply, flush, write.
    #[divan::bench(args = [4, 100, 500], sample_count = 20)]
    fn keystroke(bencher: Bencher, readers: u64) {
        turns(bencher, readers, 1);
    }

    /// Sixteen keystrokes of sixteen writers in one turn.
    #[divan::bench(args = [100, 500], sample_count = 20)]
    fn sixteen_in_a_turn(bencher: Bencher, readers: u64) {
        turns(bencher, readers, 16);
    }

    fn turns(bencher: Bencher, readers: u64, per_turn: u64) {
        let updates = keystrokes(per_turn);
        let now = Instant::now();
        let turns = updates.len() / per_turn as usize;
        bencher
            .counter(ItemsCount::new(turns * readers as usize))
            .with_inputs(|| room(readers, now))
            .bench_values(|mut room| {
                for turn in updates.chunks_exact(per_turn as usize) {
                    for (writer, update) in turn.iter().enumerate() {
                        room.handle(session(writer as u64), Inbound::Update(update.clone()), now);
                    }
                    room.end_turn(now);
                    room.drain_touched(|outbox| drop(outbox.flush(now)));
                }
                room
            });
    }
}
