//! The threads of the engine. All engines of a process share them, and they end with it.

use std::future::pending;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the engine at the most.
const THREADS_MAX: usize = 4;

/// Where tasks of the engine run.
pub fn runtime() -> &'static Handle {
    static SHARED: OnceLock<Handle> = OnceLock::new();
    SHARED.get_or_init(|| match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => one_thread(),
        cores => several_threads(cores.min(THREADS_MAX)),
    })
}

/// On one core, the scheduler that shares nothing, as in the server: it is cheaper, and reads all sockets that have
/// something before the rooms take their turns.
fn one_thread() -> Handle {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives descriptors at start");
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("fidibus".to_owned())
        .spawn(move || runtime.block_on(pending::<()>()))
        .expect("the operating system gives a thread at start");
    handle
}

fn several_threads(threads: usize) -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || {
        Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("fidibus")
            .enable_all()
            .build()
            .expect("the operating system gives threads at start")
    };
    RUNTIME.get_or_init(make).handle().clone()
}
