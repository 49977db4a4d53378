//! The library's log, handed to a callback. One for the process, since it is about all hubs.

use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::border::run;
use crate::callback::{self, Env, fidibus_finalizer};
use crate::status::fidibus_status;

/// How much a line matters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_log_level {
    /// A human must act.
    Error = 1,
    /// Something is worse than it should be.
    Warn = 2,
    /// Connections come and go; the default.
    Info = 3,
    /// What a developer wants to see.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// A line of the log: a fidibus_log_level, where it comes from, and its text; both texts end with a NUL and are
/// valid during the call. Called on any thread; it must not block.
pub type fidibus_log_callback =
    Option<unsafe extern "C" fn(env: *mut c_void, level: u32, target: *const c_char, message: *const c_char)>;

struct LogCallback {
    function: unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char),
    env: Env,
}

static CALLBACK: Mutex<Option<Arc<LogCallback>>> = Mutex::new(None);
static LEVEL: AtomicU32 = AtomicU32::new(fidibus_log_level::Info as u32);
static INSTALL: Once = Once::new();

/// Sets who gets the log of the whole process, in place of who got it before; NULL: nobody. Without this call
/// the library says nothing.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_log_set(
    callback: fidibus_log_callback,
    env: *mut c_void,
    finalizer: fidibus_finalizer,
) -> fidibus_status {
    run(|| {
        let env = Env::new(env, finalizer);
        let callback = callback.map(|function| Arc::new(LogCallback { function, env }));
        let before =
            std::mem::replace(&mut *CALLBACK.lock().unwrap_or_else(PoisonError::into_inner), callback);
        // Its finalizer runs here, under no lock.
        drop(before);
        INSTALL.call_once(|| {
            // Fails where the process has a subscriber of its own, which then gets it all.
            let _ = tracing::subscriber::set_global_default(ToCallback);
        });
        Ok(())
    })
}

/// Sets how much is told: this fidibus_log_level and what matters more.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_log_set_level(level: u32) -> fidibus_status {
    run(|| {
        if !(1..=5).contains(&level) {
            return Err(fidibus_status::InvalidArgument.into());
        }
        LEVEL.store(level, Ordering::Release);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    })
}

struct ToCallback;

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => fidibus_log_level::Error as u32,
        Level::WARN => fidibus_log_level::Warn as u32,
        Level::INFO => fidibus_log_level::Info as u32,
        Level::DEBUG => fidibus_log_level::Debug as u32,
        Level::TRACE => fidibus_log_level::Trace as u32,
    }
}

impl Subscriber for ToCallback {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Of the libraries below us only what is wrong is told.
        let level = number(*metadata.level());
        let ours = metadata.target().starts_with("fidibus");
        level <= LEVEL.load(Ordering::Acquire) && (ours || level <= 2)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Acquire) {
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    // Spans carry nothing that events do not.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let callback = CALLBACK.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(callback) = callback else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let target = text(event.metadata().target().to_owned());
        let message = text(line.message + &line.fields);
        let level = number(*event.metadata().level());
        // SAFETY: by C's promise it may be called with its env; the texts live until it returns.
        callback::inside(|| unsafe {
            (callback.function)(callback.env.pointer(), level, target.as_ptr(), message.as_ptr());
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, and the other fields behind it as ` name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
