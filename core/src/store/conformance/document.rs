//! The checks on snapshots.

use super::edits::{authors_stored, edit, expected, garbage, name};
use crate::id::DocumentName;
use crate::store::DocumentStore;

/// A store that was just made answers, and knows no document.
pub async fn nothing_is_stored_at_first(store: &dyn DocumentStore) {
    store.ping().await.expect("ping");
    assert_eq!(store.load(&name("nothing")).await.expect("load"), None);
    assert!(!store.delete(&name("nothing")).await.expect("delete"));
    assert!(store.list(None, 10).await.expect("list").is_empty(), "asking made no document");
}

/// What is stored is loaded, of each document its own.
pub async fn round_trip(store: &dyn DocumentStore) {
    let (one, two) = (name("one"), name("two"));
    store.store(&one, edit(1, "first"), &[]).await.expect("store");
    store.store(&two, edit(2, "second"), &[]).await.expect("store");
    let loaded = store.load(&one).await.expect("load").expect("a document");
    assert!(loaded.updates.is_empty() && loaded.quarantined.is_empty(), "{loaded:?}");
    assert_eq!(loaded.snapshot, Some(edit(1, "first")), "the first snapshot is stored as it is");
    assert_eq!(authors_stored(store, &two).await, expected([(2, "second")]));
    // An empty document is a document.
    let empty = name("empty");
    store.store(&empty, vec![0, 0].into(), &[]).await.expect("store");
    assert!(store.load(&empty).await.expect("load").is_some());
    store.store(&empty, edit(3, "no longer"), &[]).await.expect("store");
    assert_eq!(authors_stored(store, &empty).await, expected([(3, "no longer")]));
}

/// A snapshot of somebody who has not seen what is stored is merged into it, again and again.
pub async fn stored_state_only_grows(store: &dyn DocumentStore) {
    let document = name("grows");
    for author in 1..=5 {
        store.store(&document, edit(author, "kept"), &[]).await.expect("store");
    }
    store.store(&document, vec![0, 0].into(), &[]).await.expect("an empty snapshot");
    assert_eq!(authors_stored(store, &document).await, expected((1..=5).map(|author| (author, "kept"))));
}

/// Storing the same once more changes nothing.
pub async fn repeating_is_harmless(store: &dyn DocumentStore) {
    let document = name("again");
    store.store(&document, edit(1, "one"), &[]).await.expect("store");
    store.store(&document, edit(2, "two"), &[]).await.expect("store");
    let once = store.load(&document).await.expect("load");
    for author in [(1, "one"), (2, "two"), (1, "one")] {
        store.store(&document, edit(author.0, author.1), &[]).await.expect("store");
    }
    let again = store.load(&document).await.expect("load");
    assert_eq!(
        again.map(|stored| super::edits::authors(&stored)),
        once.map(|stored| super::edits::authors(&stored))
    );
}

/// Two writers of one document at the same time: both are in it.
pub async fn concurrent_stores_lose_nothing(store: &dyn DocumentStore) {
    const WRITERS: u32 = 8;
    let document = name("contended");
    let writes = (1..=WRITERS).map(|author| {
        let document = document.clone();
        async move { store.store(&document, edit(author, "mine"), &[]).await.expect("store") }
    });
    together(writes).await;
    assert_eq!(
        authors_stored(store, &document).await,
        expected((1..=WRITERS).map(|author| (author, "mine")))
    );
}

/// Names are kept byte by byte: case, spaces, quotes, other scripts, both forms of ü, and length.
pub async fn odd_names_stay_apart(store: &dyn DocumentStore) {
    let long = "x".repeat(DocumentName::BYTES_MAX);
    let wide = "📝".repeat(DocumentName::BYTES_MAX / 4);
    let names = [
        "a",
        "A",
        "a ",
        " a",
        "a%",
        "a_",
        "a\\",
        "a'--",
        "\"a\"",
        "a;drop table yjs_document",
        "../../a",
        "a\nb",
        "\u{fc}",
        "u\u{308}",
        "文書",
        "📝",
        "null",
        "0",
        "$1",
        "?1",
        "{a}",
        "\u{1}",
        "\u{feff}a",
        &long,
        &wide,
    ];
    for (author, text) in (1..).zip(names) {
        store
            .store(&name(text), edit(author, text), &[])
            .await
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
    }
    for (author, text) in (1..).zip(names) {
        assert_eq!(authors_stored(store, &name(text)).await, expected([(author, text)]), "{text:?}");
    }
    let mut listed = store.list(None, 100).await.expect("list");
    listed.sort();
    let mut all: Vec<_> = names.iter().map(|text| name(text)).collect();
    all.sort();
    assert_eq!(listed, all);
}

/// Ten megabytes come back byte for byte, and merge with a small edit.
pub async fn large_documents_come_back(store: &dyn DocumentStore) {
    let document = name("large");
    let text: String = (0..10_000_000_u32)
        .map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    let large = edit(1, &text);
    store.store(&document, large.clone(), &[]).await.expect("store");
    let loaded = store.load(&document).await.expect("load").and_then(|stored| stored.snapshot);
    assert!(loaded.as_ref() == Some(&large), "the snapshot comes back as it was written");
    store.store(&document, edit(2, "small"), &[]).await.expect("store");
    let authors = authors_stored(store, &document).await;
    assert!(authors == expected([(1, &*text), (2, "small")]), "of {} edits", authors.len());
}

/// Bytes that are no update are refused for good, and change nothing.
pub async fn garbage_changes_nothing(store: &dyn DocumentStore) {
    let (document, fresh) = (name("clean"), name("fresh"));
    store.store(&document, edit(1, "kept"), &[]).await.expect("store");
    for garbage in garbage() {
        for document in [&document, &fresh] {
            let refused = store.store(document, garbage.clone(), &[]).await.expect_err("garbage is refused");
            assert!(!refused.retryable, "repeating does not help: {refused}");
        }
    }
    assert_eq!(authors_stored(store, &document).await, expected([(1, "kept")]));
    assert_eq!(store.load(&fresh).await.expect("load"), None);
}

/// Deleting removes that document only, and its name may be used anew.
pub async fn delete_removes_one_document(store: &dyn DocumentStore) {
    let (gone, stays) = (name("gone"), name("stays"));
    store.store(&gone, edit(1, "old"), &[]).await.expect("store");
    store.store(&stays, edit(2, "stays"), &[]).await.expect("store");
    assert!(store.delete(&gone).await.expect("delete"));
    assert!(!store.delete(&gone).await.expect("delete"), "there was none any more");
    assert_eq!(store.load(&gone).await.expect("load"), None);
    assert_eq!(authors_stored(store, &stays).await, expected([(2, "stays")]));
    store.store(&gone, edit(3, "new"), &[]).await.expect("store");
    assert_eq!(authors_stored(store, &gone).await, expected([(3, "new")]));
}

/// Pages of any size show every document once.
pub async fn list_pages_through_all(store: &dyn DocumentStore) {
    let mut all: Vec<_> = (0..17).map(|number| name(&format!("page {number}"))).collect();
    for document in &all {
        store.store(document, edit(1, "page"), &[]).await.expect("store");
    }
    all.sort();
    assert!(store.list(None, 0).await.expect("list").is_empty());
    for size in [1, 4, 17, 100] {
        let mut seen = Vec::new();
        loop {
            let page = store.list(seen.last(), size).await.expect("list");
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        seen.sort();
        assert_eq!(seen, all, "in pages of {size}");
    }
}

/// A caller that gives up leaves the old or the new state, and a store that goes on working.
pub async fn dropped_calls_leave_it_whole(store: &dyn DocumentStore) {
    let document = name("dropped");
    for author in 1..=20_u32 {
        let mut call = store.store(&document, edit(author, "maybe"), &[]);
        // Polled a few times and dropped: in the middle of whatever it does then.
        for _ in 0..author % 5 {
            let over =
                std::future::poll_fn(|task| std::task::Poll::Ready(call.as_mut().poll(task).is_ready()))
                    .await;
            if over {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    store.store(&document, edit(99, "sure"), &[]).await.expect("the store works on");
    let authors = authors_stored(store, &document).await;
    assert!(authors.contains_key(&99), "{authors:?}");
}

/// Drives all of them on this task, so that they overlap wherever one waits.
pub(super) async fn together<F: Future<Output = ()>>(calls: impl IntoIterator<Item = F>) {
    let mut calls: Vec<_> = calls.into_iter().map(|call| Some(Box::pin(call))).collect();
    std::future::poll_fn(|task| {
        for call in &mut calls {
            if call.as_mut().is_some_and(|call| call.as_mut().poll(task).is_ready()) {
                *call = None;
            }
        }
        if calls.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
