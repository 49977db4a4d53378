//! The conformance suite on the memory store, with and without its log.
#![cfg(feature = "test-util")]

use fidibus_core::auth::BoxFuture;
use fidibus_core::store::conformance::{self, Subject};
use fidibus_core::store::{DocumentStore, MemoryStore};

struct Memory(fn() -> MemoryStore);

impl Subject for Memory {
    fn empty(&self) -> BoxFuture<'_, Box<dyn DocumentStore>> {
        Box::pin(async { Box::new(self.0()) as Box<dyn DocumentStore> })
    }

    fn reopen(&self) -> BoxFuture<'_, Option<Box<dyn DocumentStore>>> {
        Box::pin(async { None })
    }
}

#[tokio::test]
async fn memory_without_a_log() {
    conformance::run(&Memory(MemoryStore::new)).await;
}

#[tokio::test]
async fn memory_with_a_log() {
    conformance::run(&Memory(MemoryStore::with_log)).await;
}
