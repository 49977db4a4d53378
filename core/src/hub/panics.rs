//! Panics of what is not ours, stores and hooks, as errors: the task that called them goes on, and knows.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Something panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub(super) struct Panic(String);

impl Panic {
    /// What `catch_unwind` caught.
    pub(super) fn new(payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        Self(message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned())
    }
}

/// Waits for a future that may panic. It is dropped then, so nothing sees what state it was left in.
pub(super) async fn contain<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| Panic::new(&*payload))
}
