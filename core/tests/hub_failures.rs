//! Goal: what fails stays where it failed: panics in stores and hooks, rows that a store refuses, sockets
//! that are torn or dropped; and no wake-up is lost on the way.
//!
//! Method: real hubs with sockets in memory, and stores and hooks that panic, refuse, or dawdle on demand.
//! Where threads race, one of them is held at the worst moment.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "hub/peer.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peer;
#[path = "hub/setting.rs"]
mod setting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fidibus_core::auth::BoxFuture;
use fidibus_core::error::CloseReason;
use fidibus_core::hooks::{ChangeEvent, DocumentEvent, Extension, Flow, HookResult, HookSet, Rejection};
use fidibus_core::hub::Hub;
use fidibus_core::room::Origin;
use peer::{Peer, TestStore, update_with};
use setting::{config, eventually, hub_with, name};

#[tokio::test]
async fn a_socket_whose_task_is_dropped_leaves_nothing_behind() {
    let hub = hub_with(&TestStore::new(), config());
    let one = Peer::open(&hub, "notes", 1).await;
    one.abort().await;
    eventually("unloaded", async || hub.documents().is_empty()).await;
    let metrics = hub.metrics();
    assert_eq!((metrics.connections_open, metrics.sessions_open, metrics.documents_loaded), (0, 0, 0));
    let report = hub.shutdown(Duration::from_secs(30), Duration::ZERO, CloseReason::SERVICE_RESTART);
    tokio::time::timeout(Duration::from_secs(5), report).await.expect("nobody is waited for");
}

/// A host may outlive its hub: what could not be saved is reported, and then nobody goes on trying.
#[tokio::test]
async fn after_a_shutdown_nothing_goes_on() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    store.append_fails.store(true, Ordering::Release);
    store.store_fails.store(true, Ordering::Release);
    one.type_text("lost");
    eventually("tried", async || hub.metrics().log_failures_total > 0).await;
    let report = hub.shutdown(Duration::from_secs(1), Duration::ZERO, CloseReason::SERVICE_RESTART).await;
    assert_eq!(report.unsaved, [name("notes")]);
    eventually("given up", async || hub.documents().is_empty()).await;
    let tries = |hub: &Hub| (hub.metrics().log_failures_total, hub.metrics().store_failures_total);
    let before = tries(&hub);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tries(&hub), before);
}

#[tokio::test]
async fn a_load_that_panics_is_a_load_that_failed() {
    let store = TestStore::new();
    store.load_panics.store(true, Ordering::Release);
    let hub = hub_with(&store, config());
    let mut peer = Peer::connect(&hub, "notes", 1);
    peer.authenticate();
    peer.next().await;
    // No invitation to come back at once: what panicked may well panic again.
    assert_eq!(peer.denied().await, "document-unavailable");
    eventually("forgotten", async || hub.documents().is_empty()).await;
    peer.authenticate();
    peer.next().await;
    peer.sync().await;
}

#[tokio::test]
async fn a_save_that_panics_is_tried_again() {
    let store = TestStore::new();
    store.store_panics.store(true, Ordering::Release);
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    one.type_text("kept");
    assert!(one.ack().await);
    one.leave().await;
    eventually("saved and unloaded", async || hub.documents().is_empty()).await;
    assert_eq!(hub.metrics().stores_total, 1);
}

#[tokio::test]
async fn a_commit_that_panics_is_tried_again() {
    let store = TestStore::new();
    store.append_panics.store(true, Ordering::Release);
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    one.type_text("kept");
    assert!(one.ack().await);
    assert!(hub.metrics().log_failures_total > 0);
}

/// A row that the log refuses for good holds up its own document only; that one gets no ack, for nothing
/// that came after it either, until the row is in.
#[tokio::test]
async fn a_row_that_is_refused_holds_up_its_own_document_only() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let good = Peer::open(&hub, "good", 1).await;
    let bad = Peer::open(&hub, "bad", 2).await;
    *store.poisoned.lock().unwrap() = Some(name("bad"));
    store.hold_appends.store(true, Ordering::Release);
    good.type_text("a");
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Both wait for the commit under way, so they come to the log together.
    bad.type_text("x");
    good.type_text("b");
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.hold_appends.store(false, Ordering::Release);
    store.release.notify_one();
    for _ in 0..2 {
        assert!(good.ack().await);
    }
    good.type_text("c");
    assert!(good.ack().await);
    *store.poisoned.lock().unwrap() = None;
    bad.type_text("y");
    for _ in 0..2 {
        assert!(bad.ack().await);
    }
    bad.leave().await;
    eventually("unloaded", async || hub.documents() == [name("good")]).await;
    let again = Peer::open(&hub, "bad", 3).await;
    assert_eq!(again.text(), "xy");
}

#[tokio::test]
async fn a_document_that_is_refused_for_long_stays_without_acks() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let bad = Peer::open(&hub, "bad", 2).await;
    *store.poisoned.lock().unwrap() = Some(name("bad"));
    bad.type_text("x");
    assert!(bad.is_silent().await);
    bad.type_text("y");
    assert!(bad.is_silent().await);
    assert!(hub.metrics().log_failures_total > 1, "tried again");
    *store.poisoned.lock().unwrap() = None;
    for _ in 0..2 {
        assert!(bad.ack().await);
    }
}

/// What fails again and again while others could be stored is set apart as well, whatever the store says
/// about trying again.
#[tokio::test]
async fn a_row_that_fails_for_ever_holds_up_the_others_for_seconds_only() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let (good, bad) = (Peer::open(&hub, "good", 1).await, Peer::open(&hub, "bad", 2).await);
    *store.poisoned.lock().unwrap() = Some(name("bad"));
    store.poison_is_retryable.store(true, Ordering::Release);
    bad.type_text("x");
    tokio::time::sleep(Duration::from_millis(100)).await;
    good.type_text("a");
    assert!(good.is_silent().await, "it may be the store as a whole");
    assert!(good.ack().await);
    // From now on nobody waits for it.
    good.type_text("b");
    assert!(tokio::time::timeout(Duration::from_secs(1), good.ack()).await.unwrap());
    bad.type_text("y");
    assert!(bad.is_silent().await);
    *store.poisoned.lock().unwrap() = None;
    for _ in 0..2 {
        assert!(bad.ack().await);
    }
    bad.leave().await;
    eventually("unloaded", async || hub.documents() == [name("good")]).await;
    assert_eq!(Peer::open(&hub, "bad", 3).await.text(), "xy");
}

/// A store that takes nothing from anybody is away: all wait together, and are stored together. One of them has
/// only an ack to wait for, which says nothing about the store.
#[tokio::test]
async fn nobody_is_set_apart_while_the_store_is_away() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let mut peers = Vec::new();
    for client in 1..=20 {
        peers.push(Peer::open(&hub, &format!("doc{client}"), client).await);
    }
    let settle = || tokio::time::sleep(Duration::from_millis(100));
    let (known, update) = (&peers[0], update_with(9, "x"));
    store.hold_appends.store(true, Ordering::Release);
    known.send_update(&update);
    settle().await;
    for peer in &peers[1..] {
        peer.type_text("a");
    }
    settle().await;
    known.send_update(&update);
    settle().await;
    store.release.notify_one();
    assert!(known.ack().await, "what was under way is stored");
    store.append_fails.store(true, Ordering::Release);
    store.hold_appends.store(false, Ordering::Release);
    store.release.notify_one();
    tokio::time::sleep(Duration::from_secs(4)).await;
    store.append_fails.store(false, Ordering::Release);
    for peer in &peers {
        assert!(peer.ack().await);
    }
    assert_eq!(hub.metrics().log_commits_total, 2);
    assert_eq!(hub.metrics().uncommitted_bytes, 0);
}

/// What brings nothing new makes no row, but its ack waits as well.
#[tokio::test]
async fn acks_that_wait_for_the_store_pause_their_readers() {
    let store = TestStore::new();
    let mut config = config();
    config.limits.inbox_bytes_max = 20_000;
    let hub = hub_with(&store, config);
    let one = Peer::open(&hub, "notes", 1).await;
    store.hold_appends.store(true, Ordering::Release);
    let update = update_with(9, "x");
    for _ in 0..20_000 {
        one.send_update(&update);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let received = hub.metrics().updates_received_total;
    assert!(received < 1_000, "{received} wait");
    store.hold_appends.store(false, Ordering::Release);
    store.release.notify_one();
    for _ in 0..20_000 {
        assert!(one.ack().await);
    }
}

/// Says no to the first unload, and counts how often it is asked.
struct Reluctant(Arc<AtomicUsize>);

impl Extension for Reluctant {
    fn name(&self) -> &str {
        "reluctant"
    }

    fn hooks(&self) -> HookSet {
        HookSet::BEFORE_UNLOAD_DOCUMENT
    }

    fn before_unload_document<'a>(&'a self, _: &'a mut DocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        let asked = self.0.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            if asked == 0 {
                Err(Rejection::with_reason(CloseReason::RESET_CONNECTION))
            } else {
                Ok(Flow::Continue)
            }
        })
    }
}

#[tokio::test]
async fn a_room_that_is_kept_does_not_spin() {
    let asked = Arc::new(AtomicUsize::new(0));
    let hub = Hub::builder(config()).extension(Arc::new(Reluctant(Arc::clone(&asked)))).build();
    Peer::open(&hub, "notes", 1).await.leave().await;
    eventually("asked", async || asked.load(Ordering::Acquire) == 1).await;
    let direct = hub.open_direct_connection(&name("notes")).await.unwrap();
    // By then the room asks again; but somebody holds it.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    direct.encode().await.unwrap();
    assert_eq!(asked.load(Ordering::Acquire), 1, "nobody is asked about a document that is held");
    drop(direct);
    eventually("unloaded", async || hub.documents().is_empty()).await;
    assert_eq!(asked.load(Ordering::Acquire), 2);
}

/// Panics once.
struct Fragile(AtomicBool);

impl Extension for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn hooks(&self) -> HookSet {
        HookSet::ON_CHANGE
    }

    fn on_change<'a>(&'a self, _: &'a mut ChangeEvent<'_>) -> BoxFuture<'a, HookResult> {
        assert!(!self.0.swap(false, Ordering::AcqRel), "told to panic");
        Box::pin(async { Ok(Flow::Continue) })
    }
}

#[tokio::test]
async fn a_hook_that_panics_does_not_stop_the_readers() {
    let mut config = config();
    config.limits.inbox_bytes_max = 2_000;
    let fragile = Fragile(AtomicBool::new(true));
    let hub = Hub::builder(config).extension(Arc::new(fragile)).build();
    let one = Peer::open(&hub, "notes", 1).await;
    for round in 0..100 {
        one.type_text(&"x".repeat(100));
        tokio::time::timeout(Duration::from_secs(5), one.ack()).await.unwrap_or_else(|_| panic!("{round}"));
    }
    assert_eq!(hub.metrics().hook_errors_total, 1);
}

/// The connection hears that its session was conflated while the frames that fill its outbox are not
/// written yet, and the room then writes all of them by itself: nobody is woken by the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_session_is_caught_up_although_its_socket_was_never_blocked() {
    let mut config = config();
    config.limits.outbox_bytes_max = 10_000;
    let hub = hub_with(&TestStore::new(), config);
    let reader = Peer::open(&hub, "notes", 1).await;
    let direct = hub.open_direct_connection(&name("notes")).await.unwrap();
    let conflated = direct.with(|room, now| {
        room.broadcast_stateless(&"x".repeat(20_000).into(), |_| true, now);
        room.apply_update(&update_with(9, "missed"), Origin::Direct, now).unwrap();
        room.flush(now);
        std::thread::sleep(Duration::from_millis(100));
    });
    conflated.await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), reader.wait_for("missed")).await.expect("caught up");
    assert_eq!(hub.metrics().conflations_total, 1);
    // It is read from as well.
    reader.type_text("!");
    assert!(tokio::time::timeout(Duration::from_secs(5), reader.ack()).await.unwrap());
}

#[tokio::test]
async fn nothing_is_written_into_a_frame_that_was_not_taken_whole() {
    let mut config = config();
    config.limits.stall_max = Duration::from_millis(200);
    let hub = hub_with(&TestStore::new(), config);
    let writer = Peer::open(&hub, "notes", 1).await;
    let torn = Peer::open(&hub, "notes", 2).await;
    let closes = torn.closes();
    torn.tear(3);
    writer.type_text("x");
    assert_eq!(torn.closed().await, CloseReason::SLOW_READER);
    assert_eq!(closes.load(Ordering::Acquire), 0);
    let stalled = Peer::open(&hub, "notes", 3).await;
    let closes = stalled.closes();
    stalled.stall();
    writer.type_text("y");
    assert_eq!(stalled.closed().await, CloseReason::SLOW_READER);
    assert_eq!(closes.load(Ordering::Acquire), 1, "between two frames there is space for a close frame");
}
