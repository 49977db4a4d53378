//! What the tests of whole hubs begin with.

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::config::Config;
use fidibus_core::hub::Hub;
use fidibus_core::id::DocumentName;

use crate::peer::{Shared, TestStore};

/// Snapshots soon, so that tests need not wait.
pub fn config() -> Config {
    Config {
        debounce: Duration::from_millis(50),
        debounce_max: Duration::from_millis(200),
        ..Config::default()
    }
}

/// A hub on this store, which the test keeps.
pub fn hub_with(store: &Arc<TestStore>, config: Config) -> Hub {
    Hub::builder(config).store(Arc::new(Shared(Arc::clone(store)))).build()
}

/// A document's name.
pub fn name(name: &str) -> DocumentName {
    DocumentName::parse(name).unwrap()
}

/// Waits up to five seconds until it holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}");
}
