//! Goal: when a room sends what it has to send: at the end of a turn or of a window, together with what else its
//! sockets get, and nothing later than it says.
//!
//! Method: a room with outboxes in memory, yrs documents as clients, time given.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "room/queue.rs"]
mod queue;
#[path = "room/scene.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod scene;

use std::time::Duration;

use fidibus_core::config::{AckMode, Config, FlushDelay};
use fidibus_core::protocol::awareness::{Entry, encode};
use fidibus_core::protocol::message::Inbound;
use scene::{Scene, Seat, typed, typed_by};

#[test]
fn without_a_window_every_update_is_a_frame() {
    let mut scene = Scene::new(FlushDelay::Off);
    let (writer, reader) = (scene.writer(), scene.writer());
    typed().iter().for_each(|update| scene.update(&writer, update));
    scene.end_turn();
    assert_eq!(reader.frames().len(), 3);
}

#[test]
fn a_window_gathers_until_its_time_or_its_bytes() {
    let window = Duration::from_millis(50);
    let mut scene = Scene::new(FlushDelay::Window(window));
    let (writer, reader) = (scene.writer(), scene.writer());
    let [first, second, third] = typed();
    scene.update(&writer, &first);
    assert_eq!(scene.end_turn().len(), 1, "storing does not wait for the window");
    scene.now += window / 2;
    scene.update(&writer, &second);
    scene.end_turn();
    assert!(reader.is_silent());
    assert_eq!(scene.room.poll_timeout(), Some(scene.now + window / 2));
    scene.now += window / 2;
    scene.room.handle_timeout(scene.now);
    assert_eq!(reader.frames().len(), 1);
    scene.update(&writer, &third);
    scene.end_turn();
    assert!(reader.is_silent(), "the next window is whole again");
}

/// Goal: a cursor waits for others and for an update, not for long, and an update does not wait. Method: two cursors
/// and the end of the delay; a cursor and an update; a window for updates, which has its own time.
#[test]
fn a_cursor_waits_for_company() {
    let milliseconds = Duration::from_millis;
    let cursor =
        |client, clock| Inbound::Awareness(encode([Entry { client, clock, state: "{}" }].into_iter()).into());
    let mut scene = Scene::with_awareness_delay(FlushDelay::Turn, milliseconds(16));
    let (ada, bob, reader) = (scene.writer(), scene.writer(), scene.writer());
    let start = scene.now;
    for (seat, client) in [(&ada, 5), (&bob, 6)] {
        scene.now += milliseconds(3);
        scene.room.handle(seat.key, cursor(client, 1), scene.now);
        scene.end_turn();
        assert!(reader.is_silent());
    }
    assert_eq!(scene.room.poll_timeout(), Some(start + milliseconds(16)));
    scene.room.handle_timeout(start + milliseconds(15));
    assert!(reader.is_silent());
    scene.room.shrink();
    scene.room.handle_timeout(start + milliseconds(16));
    assert_eq!(reader.frames().len(), 1, "both as one message");

    scene.room.handle(ada.key, cursor(5, 2), scene.now);
    scene.end_turn();
    assert!(reader.is_silent());
    scene.update(&ada, &typed()[0]);
    scene.end_turn();
    assert_eq!(reader.frames().len(), 2, "the update takes it along");

    let mut scene = Scene::with_awareness_delay(FlushDelay::Window(milliseconds(50)), milliseconds(16));
    let (ada, reader) = (scene.writer(), scene.writer());
    scene.room.handle(ada.key, cursor(5, 1), scene.now);
    scene.room.handle_timeout(scene.now + milliseconds(49));
    assert!(reader.is_silent());
    scene.room.handle_timeout(scene.now + milliseconds(50));
    assert_eq!(reader.frames().len(), 1);
}

/// Goal: after a broadcast that took long the next one waits, once, and acks do not. Method: a turn of 4 ms, of 50 ms,
/// and of 0.9 ms; two updates, between which another turn takes as long; a stateless message.
#[test]
fn a_room_rests_after_a_long_broadcast() {
    for (took, rest) in [(4_000, 2_000), (50_000, 10_000), (900, 0)] {
        let took = Duration::from_micros(took);
        let mut scene = Scene::new(FlushDelay::Turn);
        let (writer, reader) = (scene.writer(), scene.writer());
        scene.room.rest(took, scene.now);
        let rested = scene.now + Duration::from_micros(rest);
        for update in &typed()[..2] {
            scene.update(&writer, update);
            scene.end_turn();
            scene.room.rest(took, scene.now + took);
        }
        assert_eq!(writer.frames().len(), 2, "acks");
        if rest == 0 {
            assert_eq!(reader.frames().len(), 2);
            continue;
        }
        assert!(reader.is_silent());
        assert_eq!(scene.room.poll_timeout(), Some(rested), "what waits is not put off again");
        scene.room.handle_timeout(rested);
        assert_eq!(reader.frames().len(), 1, "one update of both");

        scene.room.rest(took, rested);
        scene.now = rested;
        scene.update(&writer, &typed()[2]);
        scene.end_turn();
        assert!(reader.is_silent());
        scene.room.broadcast_stateless(&"typed".into(), |_| true, scene.now);
        assert_eq!(reader.frames().len(), 2, "it does not overtake what it may be about");
    }
}

/// Goal: where most who are here wrote in one turn, each of them gets acks and edits at once, and nobody waits long for
/// the store. Method: rooms of four and five, in which two write; their rows are stored before the wait is over, and
/// not; one writes while it lasts; a store that never answers; other ways to flush and to acknowledge.
#[test]
fn edits_of_most_wait_for_their_acks() {
    let wait = Duration::from_millis(10);
    let [first, second, third] = typed();
    for (readers, stored_in_time) in [(2, true), (2, false), (3, true)] {
        let mut scene = Scene::new(FlushDelay::Turn);
        let (ada, bob) = (scene.writer(), scene.writer());
        let others: Vec<Seat> = (0..readers).map(|_| scene.writer()).collect();
        scene.update(&ada, &first);
        scene.update(&bob, &second);
        let acks = scene.end_turn_unstored();
        if readers == 3 {
            assert_eq!([&ada, &others[0]].map(|seat| seat.frames().len()), [1, 1], "most only read");
            continue;
        }
        let due_at = scene.now + wait;
        assert!(scene.room.awaits_acks());
        scene.now += wait / 2;
        scene.update(&ada, &third);
        let later_acks = scene.end_turn_unstored();
        scene.update(&bob, &third);
        assert!(scene.end_turn_unstored().is_some(), "what is known waits for the store as well");
        assert_eq!(scene.room.poll_timeout(), Some(due_at), "what waits is not put off again");
        assert!([&ada, &bob, &others[0]].iter().all(|seat| seat.is_silent()));
        scene.now = due_at;
        if stored_in_time {
            scene.now -= wait / 4;
            scene.room.committed(acks.unwrap(), scene.now);
            scene.end_turn_unstored();
            assert_eq!([&ada, &bob, &others[0]].map(|seat| seat.frames().len()), [2, 2, 1]);
        } else {
            scene.end_turn_unstored();
            assert_eq!([&ada, &bob, &others[0]].map(|seat| seat.frames().len()), [1, 1, 1], "no acks");
            scene.room.committed(acks.unwrap(), scene.now);
            assert_eq!([&ada, &bob].map(|seat| seat.frames().len()), [1, 1]);
        }
        assert!(!scene.room.awaits_acks());
        scene.room.committed(later_acks.unwrap(), scene.now);
        scene.end_turn_unstored();
        assert_eq!([&ada, &bob, &others[0]].map(|seat| seat.frames().len()), [1, 0, 0]);
    }

    // One wait was in vain: the store is slow, and is not waited for again for a while.
    let mut scene = Scene::new(FlushDelay::Turn);
    let (ada, bob) = (scene.writer(), scene.writer());
    let waits: Vec<bool> = (0..18)
        .map(|client| {
            for (writer, client) in [(&ada, client), (&bob, client + 100)] {
                scene.update(writer, &typed_by(client)[0]);
            }
            scene.end_turn_unstored();
            let waits = scene.room.awaits_acks();
            scene.now += wait;
            scene.room.handle_timeout(scene.now);
            waits
        })
        .collect();
    assert!(waits[0] && !waits[1..17].contains(&true) && waits[17], "{waits:?}");

    let memory = Config { ack: Some(AckMode::Memory), ..Config::default() };
    let off = Config { flush_delay: FlushDelay::Off, ..Config::default() };
    for config in [memory, off] {
        let mut scene = Scene::with_config(&config);
        let (ada, bob, reader) = (scene.writer(), scene.writer(), scene.writer());
        scene.update(&ada, &first);
        scene.update(&bob, &second);
        scene.end_turn_unstored();
        assert!(!scene.room.awaits_acks() && !reader.is_silent());
    }
}
