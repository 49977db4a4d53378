//! Goal: the rules of a room that convergence alone does not show: who is sent what, who is acknowledged and when,
//! and in how many rows a turn is stored. When it is sent stands in room_timing.rs.
//!
//! Method: a room with outboxes in memory, yrs documents as clients, time given.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "room/queue.rs"]
mod queue;
#[path = "room/scene.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod scene;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::config::FlushDelay;
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::awareness::{Entry, encode};
use fidibus_core::protocol::frame;
use fidibus_core::protocol::message::Inbound;
use fidibus_core::room::{Note, RoomOutput};
use scene::{Scene, typed};
use yrs::{Doc, Text, Transact};

#[test]
fn what_arrives_together_goes_out_as_one_frame_and_is_stored_as_one_row() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (writer, reader) = (scene.writer(), scene.writer());
    typed().iter().for_each(|update| scene.update(&writer, update));
    assert!(reader.is_silent(), "not before the turn ends");
    assert_eq!(scene.end_turn().len(), 1);
    assert_eq!(reader.frames().len(), 1);
    // The author needs none of it, but every update has its ack.
    let ack = frame::sync_status(&writer.prefix, true);
    assert_eq!(writer.frames(), [ack.clone(), ack.clone(), ack]);
}

#[test]
fn a_single_update_is_relayed_as_its_own_bytes() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (writer, reader) = (scene.writer(), scene.writer());
    let [first, ..] = typed();
    scene.update(&writer, &first);
    let rows = scene.end_turn();
    assert_eq!(rows[0].update, first);
    assert_eq!(reader.frames(), [frame::update(&reader.prefix, &first)]);
}

#[test]
fn rows_are_of_one_user_each() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let ada = scene.writer();
    let bob = scene.join(Dialect::Hocuspocus, Access::ReadWrite, "bob");
    let [first, second, third] = typed();
    scene.update(&ada, &first);
    scene.update(&bob, &second);
    scene.update(&ada, &third);
    let users: Vec<_> = scene.end_turn().into_iter().map(|row| row.user.unwrap().to_string()).collect();
    assert_eq!(users, ["ada", "bob", "ada"]);
}

/// The author of what made others' waiting updates applicable has not seen these.
#[test]
fn whoever_brings_the_missing_part_is_sent_what_waited_for_it() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (early, late) = (scene.writer(), scene.writer());
    let [first, second, _] = typed();
    scene.update(&early, &second);
    scene.end_turn();
    assert!(late.is_silent(), "what nobody can apply is not broadcast");
    early.frames();
    scene.update(&late, &first);
    scene.end_turn();
    let ack = frame::sync_status(&late.prefix, true);
    let frames = late.frames();
    assert!(frames.len() == 2 && frames.contains(&ack), "{frames:?}");
    assert_eq!(early.frames().len(), 1);
}

#[test]
fn a_joiner_is_offered_what_waits() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let writer = scene.writer();
    let [_, second, _] = typed();
    scene.update(&writer, &second);
    scene.end_turn();
    let joiner = scene.writer();
    scene.room.handle(joiner.key, Inbound::SyncStep1(Bytes::from_static(&[0])), scene.now);
    assert!(joiner.frames().contains(&frame::update(&joiner.prefix, &second)));
}

/// Whoever asks and asks without reading gets one answer, to the last question, once it has read what it
/// was sent before.
#[test]
fn questions_of_a_slow_reader_cost_its_bound_and_one_answer() {
    for dialect in [Dialect::Hocuspocus, Dialect::YWebsocket] {
        let mut scene = Scene::new(FlushDelay::Turn);
        let writer = scene.writer();
        let doc = Doc::with_client_id(7);
        let field = doc.get_or_insert_text("t");
        let mut transaction = doc.transact_mut();
        field.insert(&mut transaction, 0, &"x".repeat(600_000));
        scene.update(&writer, &transaction.encode_update_v1().into());
        let awareness = encode([Entry { client: 7, clock: 1, state: "{}" }].into_iter());
        scene.room.handle(writer.key, Inbound::Awareness(awareness.clone().into()), scene.now);
        scene.end_turn();
        let reader = scene.join(dialect, Access::ReadWrite, "bob");
        for _ in 0..100 {
            // Of no use: the reader knows another client's nothing.
            let state_vector = Bytes::from_static(&[1, 5, 0]);
            scene.room.handle(reader.key, Inbound::SyncStep1(state_vector), scene.now);
            scene.room.handle(reader.key, Inbound::QueryAwareness, scene.now);
        }
        let bytes = reader.outbox.bytes();
        assert!(bytes < 2 << 20, "{bytes} bytes wait");
        let lagging = Note::Lagging(reader.key);
        assert_eq!(reader.outbox.take_notes(), [lagging]);
        field.insert(&mut transaction, 600_000, "missed");
        scene.update(&writer, &transaction.encode_update_v1().into());
        scene.end_turn();
        reader.frames();
        scene.room.catch_up(reader.key, scene.now);
        let frames = reader.frames();
        let body = |frame: &Bytes| frame.slice(reader.prefix.len()..);
        let answers: Vec<_> = frames.iter().filter(|frame| body(frame).starts_with(&[0, 1])).collect();
        assert!(answers.len() == 1 && answers[0].windows(6).any(|text| text == b"missed"));
        let awareness = frame::awareness(&reader.prefix, &awareness);
        assert!(frames.contains(&awareness), "and who is there");
        let garbage = Bytes::from_static(&[1]);
        scene.room.handle(reader.key, Inbound::SyncStep1(garbage), scene.now);
        assert!(matches!(reader.outbox.take_notes()[..], [Note::CloseConnection(_)]));
    }
}

#[test]
fn readers_may_only_bring_what_is_known() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let writer = scene.writer();
    let reader = scene.join(Dialect::Hocuspocus, Access::ReadOnly, "eve");
    let [first, second, _] = typed();
    scene.update(&writer, &first);
    scene.end_turn();
    assert_eq!((writer.frames().len(), reader.frames().len()), (1, 1));
    scene.update(&reader, &first);
    scene.update(&reader, &second);
    assert!(scene.end_turn().is_empty());
    let statuses = [true, false].map(|stored| frame::sync_status(&reader.prefix, stored));
    assert_eq!(reader.frames(), statuses);
    assert!(writer.is_silent());

    // Access can change live.
    scene.room.set_access(reader.key, Access::ReadWrite);
    scene.update(&reader, &second);
    assert_eq!(scene.end_turn().len(), 1);
}

#[test]
fn a_y_websocket_peer_is_sent_its_own_four_types_only() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let peer = scene.join(Dialect::YWebsocket, Access::ReadWrite, "ada");
    let other = scene.writer();
    let [first, ..] = typed();
    scene.update(&peer, &first);
    scene.room.broadcast_stateless(&"hello".into(), |_| true, scene.now);
    scene.room.close_sessions(&fidibus_core::error::CloseReason::RESET_CONNECTION);
    scene.room.handle(peer.key, Inbound::SyncStep1(Bytes::from_static(&[0])), scene.now);
    scene.end_turn();
    assert!(peer.frames().iter().all(|frame| frame[0] <= 3));
    assert_eq!(other.frames().len(), 2, "the stateless message and the update");
}

#[test]
fn acks_wait_for_their_commit_in_order() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let writer = scene.writer();
    let [first, second, _] = typed();
    let mut persists = Vec::new();
    // Known is not stored yet either.
    for update in [&first, &second, &first] {
        scene.update(&writer, update);
        scene.room.end_turn(scene.now);
        while let Some(RoomOutput::Persist(persist)) = scene.room.poll_output() {
            persists.push(persist);
        }
    }
    let rows: Vec<usize> = persists.iter().map(|persist| persist.batches.len()).collect();
    assert_eq!((rows, scene.room.uncommitted()), (vec![1, 1, 0], 3));
    assert!(writer.is_silent());
    for persist in persists {
        scene.room.committed(persist.acks, scene.now);
        assert_eq!(writer.frames().len(), 1);
    }
    scene.update(&writer, &first);
    scene.room.end_turn(scene.now);
    assert!(scene.room.poll_output().is_none(), "what is known is stored now");
    assert_eq!(writer.frames().len(), 1);
}

/// Goal: nobody gets an ack for what a session before it wrote. Method: acks are sent without their room, before
/// and after a session of the same socket has left one.
#[test]
fn acks_of_a_session_that_left_go_to_nobody() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (stays, leaves) = (scene.writer(), scene.writer());
    let mut acks = Vec::new();
    for (writer, update) in [&stays, &leaves, &leaves].into_iter().zip(&typed()) {
        scene.update(writer, update);
        scene.room.end_turn(scene.now);
        let Some(RoomOutput::Persist(persist)) = scene.room.poll_output() else { panic!("nothing to store") };
        acks.push(persist.acks);
    }
    drop((stays.frames(), leaves.frames()));
    let [of_stayer, of_leaver, of_gone] = &mut acks[..] else { panic!("three updates") };
    assert_eq!((of_leaver.send(scene.now), of_leaver.len(), leaves.frames().len()), (1, 0, 1));
    scene.room.leave(leaves.key, scene.now);
    assert_eq!((of_gone.send(scene.now), of_gone.len()), (0, 1), "its room is to be asked");
    assert_eq!((of_stayer.send(scene.now), of_stayer.len()), (1, 0));
    for acks in acks {
        scene.room.committed(acks, scene.now);
    }
    assert!(leaves.is_silent());
    assert_eq!(stays.frames().len(), 1);
}

/// Goal: a client that has gone holds no socket for as long as a database is away.
#[test]
fn an_ack_that_waits_keeps_no_socket() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let writer = scene.writer();
    scene.update(&writer, &typed()[0]);
    scene.room.end_turn(scene.now);
    let Some(RoomOutput::Persist(mut persist)) = scene.room.poll_output() else { panic!("nothing to store") };
    let outbox = Arc::downgrade(&writer.outbox);
    scene.room.leave(writer.key, scene.now);
    drop(writer);
    assert!(outbox.upgrade().is_none());
    assert_eq!((persist.acks.send(scene.now), persist.acks.len()), (0, 0));
}

#[test]
fn awareness_reaches_everybody_also_its_sender_and_goes_with_its_session() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (ada, bob) = (scene.writer(), scene.join(Dialect::YWebsocket, Access::ReadWrite, "bob"));
    let state = encode([Entry { client: 5, clock: 1, state: "{\"name\":\"ada\"}" }].into_iter());
    scene.room.handle(ada.key, Inbound::Awareness(state.clone().into()), scene.now);
    scene.end_turn();
    assert_eq!(ada.frames(), [frame::awareness(&ada.prefix, &state)]);
    assert_eq!(bob.frames(), [frame::awareness(&bob.prefix, &state)]);
    let joiner = scene.writer();
    assert_eq!(joiner.frames(), [frame::awareness(&joiner.prefix, &state)], "at once");
    scene.room.leave(ada.key, scene.now);
    scene.end_turn();
    let gone = encode([Entry { client: 5, clock: 1, state: "null" }].into_iter());
    assert_eq!(bob.frames(), [frame::awareness(&bob.prefix, &gone)]);
    // Changes of one turn become the latest state of each.
    let again = encode([Entry { client: 6, clock: 1, state: "{}" }].into_iter());
    scene.room.handle(joiner.key, Inbound::Awareness(again.into()), scene.now);
    scene.room.leave(joiner.key, scene.now);
    scene.end_turn();
    assert_eq!(bob.frames().len(), 1);
}

/// Goal: what is kept for joiners is never older than the last change. Method: a joiner after each kind of change.
#[test]
fn joiners_get_the_latest_states() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let state = |clock, state| encode([Entry { client: 5, clock, state }].into_iter());
    let ada = scene.writer();
    for clock in 1..=3 {
        scene.room.handle(ada.key, Inbound::Awareness(state(clock, "{}").into()), scene.now);
        for _ in 0..2 {
            let joiner = scene.writer();
            assert_eq!(joiner.frames(), [frame::awareness(&joiner.prefix, &state(clock, "{}"))]);
        }
    }
    scene.now += Duration::from_secs(40);
    scene.room.handle_timeout(scene.now);
    assert!(scene.writer().frames().is_empty(), "the state expired");
    scene.room.handle(ada.key, Inbound::Awareness(state(5, "{}").into()), scene.now);
    assert_eq!(scene.writer().frames().len(), 1);
    scene.room.leave(ada.key, scene.now);
    assert!(scene.writer().frames().is_empty(), "its session left");
}

/// Goal: who moves its cursor all the time is not sent it back each time, but often enough to know that
/// its socket lives, also where it alone moves.
#[test]
fn a_sender_hears_its_own_awareness_every_five_seconds() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (ada, bob) = (scene.writer(), scene.writer());
    let (mut own, mut others) = (0, 0);
    for clock in 0..30 {
        let state = encode([Entry { client: 5, clock, state: "{}" }].into_iter());
        scene.room.handle(ada.key, Inbound::Awareness(state.into()), scene.now);
        scene.end_turn();
        (own, others) = (own + ada.frames().len(), others + bob.frames().len());
        scene.now += Duration::from_millis(500);
    }
    assert_eq!((own, others), (3, 30));
    // What others change in the same turn it lacks.
    for (seat, client) in [(&ada, 6), (&bob, 7)] {
        let state = encode([Entry { client, clock: 1, state: "{}" }].into_iter());
        scene.room.handle(seat.key, Inbound::Awareness(state.into()), scene.now);
    }
    scene.now += Duration::from_millis(1);
    scene.end_turn();
    assert_eq!((ada.frames().len(), bob.frames().len()), (1, 1));
}

#[test]
fn what_cannot_be_read_ends_its_connection_and_changes_nothing() {
    let mut scene = Scene::new(FlushDelay::Turn);
    let (bad, good) = (scene.writer(), scene.writer());
    let garbage: [Inbound; 4] = [
        Inbound::Update(Bytes::from_static(&[1, 2, 3])),
        Inbound::SyncStep1(Bytes::from_static(&[255])),
        Inbound::SyncStep2(Bytes::new()),
        Inbound::Awareness(Bytes::from_static(&[9, 9])),
    ];
    for message in garbage {
        scene.room.handle(bad.key, message, scene.now);
        assert!(matches!(bad.outbox.take_notes()[..], [Note::CloseConnection(_)]));
    }
    assert!(scene.end_turn().is_empty() && good.is_silent() && scene.room.version() == 0);
    // A message that was under way when its session was thrown out is nobody's.
    scene.room.leave(bad.key, scene.now);
    scene.update(&bad, &typed()[0]);
    assert_eq!(scene.room.version(), 0);
}
