//! What a host hands in to be called: function, env and finalizer. Nothing is called under a lock of ours,
//! and a thread knows when it is inside of a callback, so that functions that block can refuse.

use std::cell::Cell;
use std::ffi::c_void;
use std::future::Future;

use tokio::runtime::Handle;

use crate::event::{Event, fidibus_event};
use crate::reply::{Answer, Kind, fidibus_reply};
use crate::status::{Failure, fidibus_status};

/// Called once with the env of a callback after its last call; may be NULL.
pub type fidibus_finalizer = Option<unsafe extern "C" fn(env: *mut c_void)>;

/// A hook, an authenticator or an operation of a store. The event is valid during the call only. Where a
/// reply is given (not NULL), it is to be answered exactly once: now or later, on any thread. The call
/// itself must not block: it runs on a thread that serves connections.
pub type fidibus_callback =
    Option<unsafe extern "C" fn(env: *mut c_void, event: *const fidibus_event, reply: *mut fidibus_reply)>;

/// The same, once it is known to be there.
pub(crate) type Function = unsafe extern "C" fn(*mut c_void, *const fidibus_event, *mut fidibus_reply);

/// The host's own pointer with what frees it.
pub(crate) struct Env {
    pointer: *mut c_void,
    finalizer: fidibus_finalizer,
}

// SAFETY: by C's promise an env may be used on any thread; we never look into it.
unsafe impl Send for Env {}
// SAFETY: as above; the host's callbacks have to be ready for several threads at once.
unsafe impl Sync for Env {}

impl Env {
    pub(crate) fn new(pointer: *mut c_void, finalizer: fidibus_finalizer) -> Self {
        Self { pointer, finalizer }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if let Some(finalizer) = self.finalizer {
            // SAFETY: by C's promise it may be called with its env; this is the one time that it is.
            inside(|| unsafe { finalizer(self.pointer) });
        }
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Calls something of the host's.
pub(crate) fn inside<T>(call: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
        }
    }
    let entered = DEPTH.try_with(|depth| depth.set(depth.get() + 1)).is_ok();
    let _leave = entered.then_some(Leave);
    call()
}

/// Whether this thread is inside of a callback, or otherwise the engine's own.
pub(crate) fn is_inside() -> bool {
    DEPTH.try_with(Cell::get).unwrap_or(0) > 0 || Handle::try_current().is_ok()
}

/// Waits for the engine; not inside of a callback, which might be what the engine waits for.
pub(crate) fn block_on<T>(runtime: &Handle, future: impl Future<Output = T>) -> Result<T, Failure> {
    if is_inside() {
        return Err(fidibus_status::InCallback.into());
    }
    Ok(runtime.block_on(future))
}

/// Calls a function that is only told.
pub(crate) fn tell(function: Function, env: &Env, event: &Event<'_>) {
    // SAFETY: the event lives until the call returns, as the contract of `fidibus_callback` says.
    inside(|| unsafe { function(env.pointer, event.as_c(), std::ptr::null_mut()) });
}

/// Calls a function that has to answer; what to wait for.
pub(crate) fn ask(
    function: Function,
    env: &Env,
    event: &Event<'_>,
    kind: Kind,
) -> impl Future<Output = Answer> + Send + use<> {
    let (reply, answer) = crate::reply::open(kind);
    // SAFETY: as in `tell`; the reply is the host's from here on.
    inside(|| unsafe { function(env.pointer, event.as_c(), reply) });
    async move { answer.await.unwrap_or_else(|_| Answer::abandoned()) }
}
