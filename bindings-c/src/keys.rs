//! The one table of configuration keys: type, bounds, meaning, and where each value lives.

use std::time::Duration;

use fidibus_core::config::{AckMode, Config, FlushDelay};
use fidibus_core::protocol::Dialect;

/// All values that keys name.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) engine: Config,
    /// Threads of the engine.
    pub(crate) worker_threads: u64,
    /// How long fidibus_hub_free waits for documents to be saved.
    pub(crate) shutdown_deadline: Duration,
    /// The store's URL.
    pub(crate) store: String,
}

impl Default for Values {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            engine: Config::default(),
            worker_threads: threads as u64,
            shutdown_deadline: Duration::from_secs(10),
            store: "memory:".to_owned(),
        }
    }
}

/// How a key is read and written.
pub(crate) enum Access {
    /// A number within bounds.
    Integer { min: u64, max: u64, read: fn(&Values) -> u64, write: fn(&mut Values, u64) },
    /// A number within bounds, or none: no bound.
    Optional { min: u64, max: u64, read: fn(&Values) -> Option<u64>, write: fn(&mut Values, Option<u64>) },
    /// Yes or no.
    Boolean { read: fn(&Values) -> bool, write: fn(&mut Values, bool) },
    /// Text; `write` says whether it is one of those that are allowed.
    Text { read: fn(&Values) -> String, write: fn(&mut Values, &str) -> bool },
}

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) access: Access,
}

/// A day: the longest time that any key may have.
const MS_MAX: u64 = 24 * 60 * 60 * 1000;
const BYTES_MAX: u64 = 1 << 40;

macro_rules! milliseconds {
    ($name:literal, $min:expr, $($field:ident).+) => {
        Key {
            name: $name,
            access: Access::Integer {
                min: $min,
                max: MS_MAX,
                read: |values| values.$($field).+.as_millis() as u64,
                write: |values, number| values.$($field).+ = Duration::from_millis(number),
            },
        }
    };
}

macro_rules! size {
    ($name:literal, $max:expr, $($field:ident).+) => {
        Key {
            name: $name,
            access: Access::Integer {
                min: 1,
                max: $max,
                read: |values| values.$($field).+ as u64,
                write: |values, number| values.$($field).+ = number as usize,
            },
        }
    };
}

macro_rules! boolean {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            access: Access::Boolean {
                read: |values| values.$($field).+,
                write: |values, yes| values.$($field).+ = yes,
            },
        }
    };
}

/// All keys, as README.md lists them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "name",
        access: Access::Text {
            read: |values| values.engine.name.clone().unwrap_or_default(),
            write: |values, text| {
                values.engine.name = (!text.is_empty()).then(|| text.to_owned());
                true
            },
        },
    },
    Key {
        name: "store",
        access: Access::Text {
            read: |values| values.store.clone(),
            write: |values, text| {
                values.store = text.to_owned();
                true
            },
        },
    },
    Key {
        name: "worker_threads",
        access: Access::Integer {
            min: 1,
            max: 1024,
            read: |values| values.worker_threads,
            write: |values, number| values.worker_threads = number,
        },
    },
    milliseconds!("shutdown_deadline_ms", 1, shutdown_deadline),
    milliseconds!("timeout_ms", 1, engine.timeout),
    milliseconds!("debounce_ms", 0, engine.debounce),
    milliseconds!("debounce_max_ms", 0, engine.debounce_max),
    boolean!("unload_immediately", engine.unload_immediately),
    Key {
        name: "flush_delay_ms",
        access: Access::Integer {
            min: 0,
            max: 60_000,
            read: |values| match values.engine.flush_delay {
                FlushDelay::Off | FlushDelay::Turn => 0,
                FlushDelay::Window(window) => window.as_millis() as u64,
            },
            write: |values, number| {
                values.engine.flush_delay = match number {
                    0 => FlushDelay::Turn,
                    _ => FlushDelay::Window(Duration::from_millis(number)),
                }
            },
        },
    },
    Key {
        name: "flush_every_update",
        access: Access::Boolean {
            read: |values| values.engine.flush_delay == FlushDelay::Off,
            write: |values, yes| match (yes, values.engine.flush_delay) {
                (true, _) => values.engine.flush_delay = FlushDelay::Off,
                (false, FlushDelay::Off) => values.engine.flush_delay = FlushDelay::Turn,
                (false, _) => {}
            },
        },
    },
    milliseconds!("awareness_delay_ms", 0, engine.awareness_delay),
    size!("flush_bytes_max", BYTES_MAX, engine.flush_bytes_max),
    Key {
        name: "ack",
        access: Access::Text {
            read: |values| {
                match values.engine.ack {
                    None => "auto",
                    Some(AckMode::Commit) => "commit",
                    Some(AckMode::Memory) => "memory",
                }
                .to_owned()
            },
            write: |values, text| {
                values.engine.ack = match text {
                    "auto" => None,
                    "commit" => Some(AckMode::Commit),
                    "memory" => Some(AckMode::Memory),
                    _ => return false,
                };
                true
            },
        },
    },
    boolean!("token_optional", engine.token_optional),
    Key {
        name: "dialect",
        access: Access::Text {
            read: |values| {
                match values.engine.dialect {
                    None => "auto",
                    Some(Dialect::Hocuspocus) => "hocuspocus",
                    Some(Dialect::YWebsocket) => "y-websocket",
                }
                .to_owned()
            },
            write: |values, text| {
                values.engine.dialect = match text {
                    "auto" => None,
                    "hocuspocus" => Some(Dialect::Hocuspocus),
                    "y-websocket" => Some(Dialect::YWebsocket),
                    _ => return false,
                };
                true
            },
        },
    },
    boolean!("gc", engine.gc),
    size!("unauthenticated_bytes_max", BYTES_MAX, engine.limits.unauthenticated_bytes_max),
    size!("unauthenticated_messages_max", 1_000_000, engine.limits.unauthenticated_messages_max),
    size!("pending_documents_max", 1_000_000, engine.limits.pending_documents_max),
    size!("sessions_per_connection_max", 1_000_000, engine.limits.sessions_per_connection_max),
    size!("session_queue_bytes_max", BYTES_MAX, engine.limits.session_queue_bytes_max),
    size!("message_bytes_max", BYTES_MAX, engine.limits.message_bytes_max),
    size!("document_bytes_max", BYTES_MAX, engine.limits.document_bytes_max),
    size!("pending_update_bytes_max", BYTES_MAX, engine.limits.pending_update_bytes_max),
    size!("outbox_bytes_max", BYTES_MAX, engine.limits.outbox_bytes_max),
    milliseconds!("stall_max_ms", 1, engine.limits.stall_max),
    size!("awareness_bytes_max", BYTES_MAX, engine.limits.awareness_bytes_max),
    size!("awareness_clients_per_session_max", 1_000_000, engine.limits.awareness_clients_per_session_max),
    size!("inbox_bytes_max", BYTES_MAX, engine.limits.inbox_bytes_max),
    size!("documents_max", 1_000_000_000, engine.limits.documents_max),
    size!("connections_per_user_max", 1_000_000_000, engine.limits.connections_per_user_max),
    Key {
        name: "updates_per_second_max",
        access: Access::Optional {
            min: 1,
            max: 1_000_000_000,
            read: |values| values.engine.limits.updates_per_second_max.map(u64::from),
            write: |values, number| {
                values.engine.limits.updates_per_second_max = number.map(|number| number as u32);
            },
        },
    },
    Key {
        name: "bytes_per_second_max",
        access: Access::Optional {
            min: 1,
            max: BYTES_MAX,
            read: |values| values.engine.limits.bytes_per_second_max.map(|bytes| bytes as u64),
            write: |values, number| {
                values.engine.limits.bytes_per_second_max = number.map(|number| number as usize);
            },
        },
    },
    milliseconds!("push_max_ms", 1, engine.limits.push_max),
    Key {
        name: "unauthenticated_max_ms",
        access: Access::Optional {
            min: 1,
            max: MS_MAX,
            read: |values| values.engine.limits.unauthenticated_max.map(|time| time.as_millis() as u64),
            write: |values, number| {
                values.engine.limits.unauthenticated_max = number.map(Duration::from_millis);
            },
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no key writes into another's place. Method: write a value through each key, one after another,
    /// and read all keys each time.
    #[test]
    fn each_key_has_its_own_place() {
        for key in KEYS {
            let mut values = Values::default();
            let before: Vec<String> = KEYS.iter().map(|key| shown(key, &values)).collect();
            match &key.access {
                Access::Integer { min, write, .. } => write(&mut values, min + 3),
                Access::Optional { min, write, .. } => write(&mut values, Some(min + 3)),
                Access::Boolean { read, write } => {
                    let opposite = !read(&values);
                    write(&mut values, opposite)
                }
                Access::Text { write, .. } => {
                    let allowed = ["memory", "hocuspocus", "sqlite:x"];
                    assert!(allowed.iter().any(|text| write(&mut values, text)), "{}", key.name);
                }
            }
            for (other, before) in KEYS.iter().zip(before) {
                let changed = shown(other, &values) != before;
                assert_eq!(changed, other.name == key.name, "{} writes {}", key.name, other.name);
            }
        }
    }

    #[test]
    fn the_page_lists_every_key() {
        let page = include_str!("../README.md");
        let listed: Vec<_> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        for key in KEYS {
            assert!(listed.contains(&key.name), "README.md does not list {}", key.name);
        }
        assert_eq!(listed.len(), KEYS.len(), "README.md lists keys that there are none of");
    }

    fn shown(key: &Key, values: &Values) -> String {
        match &key.access {
            Access::Integer { read, .. } => read(values).to_string(),
            Access::Optional { read, .. } => format!("{:?}", read(values)),
            Access::Boolean { read, .. } => read(values).to_string(),
            Access::Text { read, .. } => read(values),
        }
    }
}
