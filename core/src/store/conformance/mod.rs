//! The suite that every store has to pass, for ours and for those of third parties: give [`run`] a
//! [`Subject`], or call the single checks. A check panics with what it found.

pub mod document;
pub mod edits;
pub mod log;
#[cfg(feature = "postgres")]
pub mod postgres_server;

use crate::auth::BoxFuture;
use crate::store::DocumentStore;

/// A kind of store under test.
pub trait Subject: Send + Sync {
    /// Makes an empty store, apart from all that were made before.
    fn empty(&self) -> BoxFuture<'_, Box<dyn DocumentStore>>;

    /// Opens once more the store that was made last, which was dropped without being closed, as in a
    /// crash. `None` where nothing survives that by design.
    fn reopen(&self) -> BoxFuture<'_, Option<Box<dyn DocumentStore>>>;
}

/// Runs the whole suite, each check on an empty store.
pub async fn run(subject: &dyn Subject) {
    document::nothing_is_stored_at_first(&*subject.empty().await).await;
    document::round_trip(&*subject.empty().await).await;
    document::stored_state_only_grows(&*subject.empty().await).await;
    document::repeating_is_harmless(&*subject.empty().await).await;
    document::concurrent_stores_lose_nothing(&*subject.empty().await).await;
    document::odd_names_stay_apart(&*subject.empty().await).await;
    document::large_documents_come_back(&*subject.empty().await).await;
    document::garbage_changes_nothing(&*subject.empty().await).await;
    document::delete_removes_one_document(&*subject.empty().await).await;
    document::list_pages_through_all(&*subject.empty().await).await;
    document::dropped_calls_leave_it_whole(&*subject.empty().await).await;
    if subject.empty().await.update_log().is_some() {
        log::rows_are_loaded_in_order(&*subject.empty().await).await;
        log::ids_are_those_of_the_batches(&*subject.empty().await).await;
        log::exactly_the_named_rows_are_folded(&*subject.empty().await).await;
        log::concurrent_appends_lose_nothing(&*subject.empty().await).await;
        log::folding_beside_appends_loses_nothing(&*subject.empty().await).await;
        log::deleting_takes_the_log_along(&*subject.empty().await).await;
        log::unreadable_rows_are_set_aside(&*subject.empty().await).await;
        log::users_of_any_kind_are_accepted(&*subject.empty().await).await;
        log::large_batches_come_back(&*subject.empty().await).await;
    }
    survives_a_crash(subject).await;
}

/// What was answered with `Ok` is there after the store was dropped without being closed.
pub async fn survives_a_crash(subject: &dyn Subject) {
    let store = subject.empty().await;
    let document = edits::name("crash");
    store.store(&document, edits::edit(1, "snapshot"), &[]).await.expect("store");
    if let Some(log) = store.update_log() {
        log.append(&[edits::batch(&document, 2, "row")]).await.expect("append");
    }
    let before = edits::authors_stored(&*store, &document).await;
    drop(store);
    if let Some(store) = subject.reopen().await {
        assert_eq!(edits::authors_stored(&*store, &document).await, before, "after the crash");
    }
}
