//! Work that needs a large stack, beside the runtime: one thread for each call, a few at a time.

use tokio::sync::{Semaphore, oneshot};

use crate::error::HubError;

/// Only what is touched of it becomes memory.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// Calls at the same time; more wait.
const CALLS_MAX: usize = 4;

static CALLS: Semaphore = Semaphore::const_new(CALLS_MAX);

/// Runs `work` on a thread with a large stack and waits for it.
pub(super) async fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HubError> {
    // Never closed, so this is no failure.
    let permit = CALLS.acquire().await.map_err(|_| HubError::ShuttingDown)?;
    let (reply, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("fidibus-materialize".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Held by the thread: who waits may be gone before the work is.
            let _permit = permit;
            // Nobody waits any more: then nobody misses it.
            let _ = reply.send(work());
        })
        .map_err(|_| HubError::Limit("threads"))?;
    done.await.map_err(|_| HubError::Unloaded)
}
