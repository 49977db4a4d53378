//! Goal: the hub keeps its promises over the life of documents and sockets: one load for any number of
//! first clients, no empty document after a failed load, acks only for what is stored, nothing lost on
//! unload, failures that stay where they happen, slow readers that cost no more than their bound.
//!
//! Method: real hubs with sockets in memory, yrs documents as clients, and a store that fails or waits on
//! demand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "hub/peer.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peer;
#[path = "hub/setting.rs"]
mod setting;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fidibus_core::config::{AckMode, Config};
use fidibus_core::error::{CloseReason, HubError};
use fidibus_core::hub::Hub;
use fidibus_core::store::DocumentStore;
use peer::{Peer, Shared, TestStore, text_of, update_with};
use setting::{config, eventually, hub_with, name};

async fn stored_text(store: &Arc<TestStore>, document: &str) -> Option<String> {
    let stored = Shared(Arc::clone(store)).load(&name(document)).await.unwrap()?;
    stored.snapshot.map(|snapshot| text_of(&snapshot))
}

#[tokio::test]
async fn two_clients_edit_one_document() {
    let hub = hub_with(&TestStore::new(), config());
    let one = Peer::open(&hub, "notes", 1).await;
    let two = Peer::open(&hub, "notes", 2).await;
    one.type_text("Hello");
    assert!(one.ack().await);
    two.wait_for("Hello").await;
    two.type_text(" world");
    one.wait_for("Hello world").await;
    let metrics = hub.metrics();
    assert_eq!((metrics.connections_open, metrics.sessions_open, metrics.documents_loaded), (2, 2, 1));
}

#[tokio::test]
async fn many_first_clients_load_once() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let mut peers = Vec::new();
    for client in 1..=20 {
        let hub = hub.clone();
        peers.push(tokio::spawn(async move { Peer::open(&hub, "notes", client).await }));
    }
    let mut open = Vec::new();
    for peer in peers {
        open.push(peer.await.unwrap());
    }
    assert_eq!(store.loads.load(Ordering::Acquire), 1);
    open[0].type_text("x");
    for peer in &open {
        peer.wait_for("x").await;
    }
}

#[tokio::test]
async fn a_failed_load_refuses_and_leaves_nothing_behind() {
    let store = TestStore::new();
    store.load_fails.store(true, Ordering::Release);
    let hub = hub_with(&store, config());
    // A provider does not come back from a denial, but from a closed socket it does.
    let peer = Peer::connect(&hub, "notes", 1);
    peer.authenticate();
    assert_eq!(peer.closed().await, CloseReason::TRY_AGAIN_LATER);
    assert!(hub.documents().is_empty());
    let error = hub.open_direct_connection(&name("notes")).await.err().unwrap();
    assert!(matches!(error, HubError::Load(_)));

    store.load_fails.store(false, Ordering::Release);
    let _peer = Peer::open(&hub, "notes", 1).await;
    assert_eq!(hub.metrics().documents_loaded, 1);
}

#[tokio::test]
async fn an_ack_waits_for_the_commit_but_the_broadcast_does_not() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    assert_eq!(hub.ack_mode(), AckMode::Commit);
    let one = Peer::open(&hub, "notes", 1).await;
    let two = Peer::open(&hub, "notes", 2).await;
    store.hold_appends.store(true, Ordering::Release);
    one.type_text("a");
    two.wait_for("a").await;
    assert!(one.is_silent().await, "no ack before the commit");
    // All who are here write at once: it goes out with their acks, but not only then.
    one.type_text("b");
    two.type_text("c");
    one.wait_for("abc").await;
    two.wait_for("abc").await;
    assert!(one.is_silent().await, "no ack before the commit");
    store.hold_appends.store(false, Ordering::Release);
    store.release.notify_one();
    assert!(one.ack().await && one.ack().await && two.ack().await);
}

#[tokio::test]
async fn a_commit_that_fails_is_tried_again_and_acked_then() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    store.append_fails.store(true, Ordering::Release);
    one.type_text("a");
    assert!(one.is_silent().await);
    assert!(hub.metrics().log_failures_total > 0);
    store.append_fails.store(false, Ordering::Release);
    assert!(one.ack().await);
}

#[tokio::test]
async fn memory_mode_acks_at_once() {
    let store = TestStore::new();
    store.hold_appends.store(true, Ordering::Release);
    let hub = hub_with(&store, Config { ack: Some(AckMode::Memory), ..config() });
    let one = Peer::open(&hub, "notes", 1).await;
    one.type_text("a");
    assert!(one.ack().await);
}

#[tokio::test]
async fn the_last_to_leave_saves_and_the_next_finds_it() {
    let store = TestStore::new();
    let hub = hub_with(&store, Config { debounce: Duration::from_secs(60), ..config() });
    let one = Peer::open(&hub, "notes", 1).await;
    one.type_text("kept");
    assert!(one.ack().await);
    one.leave().await;
    eventually("unloaded", async || hub.documents().is_empty()).await;
    assert_eq!(stored_text(&store, "notes").await.as_deref(), Some("kept"));
    let two = Peer::open(&hub, "notes", 2).await;
    assert_eq!(two.text(), "kept");
    assert_eq!(hub.metrics().documents_loaded, 1);
}

#[tokio::test]
async fn a_document_stays_while_its_store_fails() {
    let store = TestStore::new();
    store.store_fails.store(true, Ordering::Release);
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    one.type_text("kept");
    one.ack().await;
    one.leave().await;
    eventually("failed", async || hub.metrics().store_failures_total > 1).await;
    assert_eq!(hub.documents(), [name("notes")]);
    assert_eq!(hub.metrics().documents_failing, 1);
    store.store_fails.store(false, Ordering::Release);
    eventually("saved and unloaded", async || hub.documents().is_empty()).await;
    assert_eq!(stored_text(&store, "notes").await.as_deref(), Some("kept"));
    assert_eq!(hub.metrics().documents_failing, 0);
}

#[tokio::test]
async fn a_room_that_panics_hurts_nobody_else() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let one = Peer::open(&hub, "notes", 1).await;
    let other = Peer::open(&hub, "other", 2).await;
    one.type_text("kept");
    assert!(one.ack().await);
    let direct = hub.open_direct_connection(&name("notes")).await.unwrap();
    let result = direct.with(|_, _| panic!("on purpose")).await;
    assert!(matches!(result, Err(HubError::Unloaded)));
    assert_eq!(one.close_message().await, "Reset Connection");
    other.type_text("fine");
    assert!(other.ack().await);

    // The same socket opens the document again, as it was stored.
    let mut one = one;
    one.authenticate();
    one.next().await;
    one.sync().await;
    assert_eq!(one.text(), "kept");
    assert_eq!(hub.metrics().room_panics_total, 1);
    assert_eq!(hub.metrics().documents_loaded, 2);
}

#[tokio::test]
async fn a_slow_reader_costs_its_bound_and_converges() {
    let mut config = config();
    config.limits.outbox_bytes_max = 2_000;
    let hub = hub_with(&TestStore::new(), config);
    let writer = Peer::open(&hub, "notes", 1).await;
    let slow = Peer::open(&hub, "notes", 2).await;
    slow.stall();
    let mut expected = String::new();
    for round in 0..500 {
        let text = format!("line {round} ");
        writer.type_text(&text);
        expected.push_str(&text);
        writer.ack().await;
    }
    assert_eq!(hub.metrics().conflations_total, 1);
    slow.resume();
    slow.wait_for(&expected).await;
    let frames = slow.frames();
    assert!(frames.len() < 5, "one difference, not {} frames", frames.len());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed() {
    let mut config = config();
    config.limits.stall_max = Duration::from_millis(200);
    let hub = hub_with(&TestStore::new(), config);
    let writer = Peer::open(&hub, "notes", 1).await;
    let dead = Peer::open(&hub, "notes", 2).await;
    dead.stall();
    writer.type_text("x");
    assert_eq!(dead.closed().await, CloseReason::SLOW_READER);
    assert_eq!(hub.metrics().slow_closes_total, 1);
    writer.type_text("y");
    assert!(writer.ack().await);
}

#[tokio::test]
async fn the_host_edits_through_a_direct_connection() {
    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let direct = hub.open_direct_connection(&name("notes")).await.unwrap();
    direct.apply_update(update_with(9, "from the host")).await.unwrap();
    let peer = Peer::open(&hub, "notes", 1).await;
    assert_eq!(peer.text(), "from the host");
    peer.leave().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(hub.documents(), [name("notes")], "stays loaded while it is open");
    drop(direct);
    eventually("unloaded", async || hub.documents().is_empty()).await;
    assert_eq!(stored_text(&store, "notes").await.as_deref(), Some("from the host"));
    assert!(direct_garbage(&hub).await);
}

async fn direct_garbage(hub: &Hub) -> bool {
    let direct = hub.open_direct_connection(&name("notes")).await.unwrap();
    direct.apply_update(vec![1, 2, 3].into()).await.is_err()
}

#[tokio::test]
async fn shutdown_saves_all_and_reports_what_it_could_not() {
    let store = TestStore::new();
    let hub = hub_with(&store, Config { debounce: Duration::from_secs(60), ..config() });
    let one = Peer::open(&hub, "one", 1).await;
    one.type_text("saved");
    one.ack().await;
    let report = hub.shutdown(Duration::from_secs(5), Duration::ZERO, CloseReason::SERVICE_RESTART).await;
    assert!(report.unsaved.is_empty());
    assert_eq!(one.closed().await, CloseReason::SERVICE_RESTART);
    assert_eq!(stored_text(&store, "one").await.as_deref(), Some("saved"));

    let store = TestStore::new();
    let hub = hub_with(&store, config());
    let two = Peer::open(&hub, "two", 2).await;
    store.append_fails.store(true, Ordering::Release);
    store.store_fails.store(true, Ordering::Release);
    two.type_text("lost");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = hub.shutdown(Duration::from_secs(1), Duration::ZERO, CloseReason::SERVICE_RESTART).await;
    assert_eq!(report.unsaved, [name("two")]);
}

#[tokio::test]
async fn garbage_closes_its_own_socket_only() {
    let hub = hub_with(&TestStore::new(), config());
    let good = Peer::open(&hub, "notes", 1).await;
    let bad = Peer::open(&hub, "notes", 2).await;
    let mut frame = b"\x05notes".to_vec();
    frame.extend([0, 2, 3, 9, 9, 9]);
    bad.send(frame.into());
    assert_eq!(bad.closed().await.code, CloseReason::RESET_CONNECTION.code);
    good.type_text("fine");
    assert!(good.ack().await);
    assert!(hub.metrics().protocol_errors_total > 0);
}

/// What arrives in one go is handled in full, however much it is (a turn takes 64 frames).
#[tokio::test]
async fn a_burst_of_frames_loses_none() {
    let hub = hub_with(&TestStore::new(), config());
    let one = Peer::open(&hub, "notes", 1).await;
    for number in 0..300 {
        one.type_text(&format!("{number},"));
    }
    for _ in 0..300 {
        assert!(one.ack().await);
    }
    let two = Peer::open(&hub, "notes", 2).await;
    assert_eq!(two.text(), one.text());
}

/// An application that replaces its whole text with every change must not run into the size limit by
/// what it deleted.
#[tokio::test]
async fn deleted_content_does_not_count() {
    let mut config = config();
    config.limits.document_bytes_max = 100_000;
    let hub = hub_with(&TestStore::new(), config);
    let one = Peer::open(&hub, "notes", 1).await;
    for round in 0..40 {
        one.replace_text(&format!("{round}").repeat(10_000));
        assert!(one.ack().await, "round {round}");
    }
    let two = Peer::open(&hub, "notes", 2).await;
    assert_eq!(two.text(), "39".repeat(10_000));
    one.type_text(&"x".repeat(90_000));
    assert!(!one.ack().await, "what is there counts");
    assert_eq!(one.closed().await, CloseReason::DOCUMENT_TOO_LARGE);
}
