//! Reading a document's content: yrs recurses as deep as the document is nested, so it gets a thread with
//! room for that.

use std::panic::resume_unwind;
use std::thread;

use super::CommandError;

/// Only what is touched of it becomes memory.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Runs `work` on a thread of its own and waits for it: a command has nothing else to do.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, CommandError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| CommandError::file("thread", error))?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
