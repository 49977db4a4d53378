//! A room from its load to its end, whatever ends it: who waits for it then is told, and the next who comes
//! has the document loaded anew.

use std::sync::Arc;
use std::time::Instant;

use super::loading::load;
use super::panics::contain;
use super::registry::{Command, RoomHandle};
use super::room_task::RoomTask;
use super::{Shared, error_chain};
use crate::error::{HubError, StoreError};
use crate::hooks::SessionScope;

/// Loads a document and runs its room to the end. Its entry stands in the registry already.
pub(super) async fn run(shared: Arc<Shared>, handle: Arc<RoomHandle>, opener: Option<Box<SessionScope>>) {
    let ending = Ending { shared: Arc::clone(&shared), handle: Arc::clone(&handle) };
    // Boxed, as all that happens once or seldom: ten thousand idle rooms would each keep space for it.
    let loaded = Box::pin(contain(load(&shared, handle.name(), opener.as_deref()))).await;
    let panicked = |panic| Err(HubError::Load(Arc::new(StoreError::permanent(shared.store.name(), panic))));
    let loaded = loaded.unwrap_or_else(panicked);
    drop(opener);
    match loaded {
        Ok(loaded) => {
            let saver = loaded.saver(&shared.config, Instant::now());
            let mut task = Box::new(RoomTask::new(shared, handle, loaded.room, saver));
            task.serve().await;
            drop(task);
            refuse_all(&ending.handle, &HubError::Unloaded);
        }
        Err(error) => {
            shared.metrics.load_failures_total.add(1);
            tracing::error!(document = %handle.name(), error = %error_chain(&error), "Document could not be loaded; its clients are refused");
            handle.fail(&error);
            shared.registry.remove(&handle);
            if let Some(follower) = &shared.follower {
                follower.load_failed(handle.name());
            }
            refuse_all(&handle, &error);
        }
    }
}

/// Ends the inbox, and tells those who wait in it.
fn refuse_all(handle: &RoomHandle, error: &HubError) {
    for command in handle.inbox().close() {
        match command {
            // Whoever waits may be gone.
            Command::Join(join) => drop(join.reply.send(Err(error.clone()))),
            Command::Open(reply) => drop(reply.send(Err(error.clone()))),
            _ => {}
        }
    }
}

/// Ends the inbox also where the task panics in a hook or is dropped with its runtime: nobody is to wait for
/// an answer then, and the next who comes has the document loaded anew.
struct Ending {
    shared: Arc<Shared>,
    handle: Arc<RoomHandle>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.registry.remove(&self.handle);
        drop(self.handle.inbox().close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an async function keeps while it waits, in bytes.
    fn future_bytes<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_room_is_small() {
        let (task, future) = (size_of::<RoomTask>(), future_bytes(run));
        assert!(task <= 1_400 && future <= 700, "{task} and {future} bytes");
    }
}
