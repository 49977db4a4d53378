//! Figures of one hub as atomics; fronts render the snapshot. No global recorder: two hubs in one process
//! do not mix. No document names.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live figures.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: Figure,)*
        }

        /// The figures at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// Reads all figures.
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.value(),)* }
            }
        }
    };
}

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes from it: for gauges.
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

metrics! {
    /// Gauge: open sockets.
    connections_open,
    /// Counter: sockets accepted.
    connections_total,
    /// Gauge: open sessions (documents on sockets).
    sessions_open,
    /// Gauge: loaded documents.
    documents_loaded,
    /// Gauge: documents whose last store failed.
    documents_failing,
    /// Counter: valid updates received.
    updates_received_total,
    /// Counter: their bytes.
    update_bytes_total,
    /// Counter: frames queued for sockets by rooms.
    frames_sent_total,
    /// Counter: readers that fell behind and were conflated.
    conflations_total,
    /// Counter: sockets closed because they took nothing for too long.
    slow_closes_total,
    /// Counter: sessions refused by authentication.
    auth_denied_total,
    /// Counter: authentications that could not be decided.
    auth_unavailable_total,
    /// Counter: sessions refused because their user has too many sockets.
    connections_refused_total,
    /// Counter: sockets closed because nobody on them was let in in time.
    auth_timeouts_total,
    /// Counter: documents refused because their socket has as many open as it may.
    documents_refused_total,
    /// Counter: open sessions ended because of who they belong to: logout, ban, expiry.
    sessions_revoked_total,
    /// Counter: open sessions that may do something else since they were judged again.
    access_changes_total,
    /// Counter: times that a socket was not read from because it sent too fast.
    rate_pauses_total,
    /// Counter: sockets closed because they did not slow down.
    rate_closes_total,
    /// Counter: messages that broke the protocol.
    protocol_errors_total,
    /// Counter: hooks that failed.
    hook_errors_total,
    /// Counter: documents loaded.
    loads_total,
    /// Counter: loads that failed.
    load_failures_total,
    /// Counter: microseconds spent in loads.
    load_microseconds_total,
    /// Gauge: rows of the log that were found unreadable since the start.
    quarantined_rows,
    /// Counter: snapshots stored.
    stores_total,
    /// Counter: snapshots that could not be stored.
    store_failures_total,
    /// Counter: microseconds spent in stores.
    store_microseconds_total,
    /// Counter: bytes of snapshots stored.
    store_bytes_total,
    /// Counter: rows appended to the update log.
    log_rows_total,
    /// Counter: commits of the update log.
    log_commits_total,
    /// Counter: commits that failed.
    log_failures_total,
    /// Counter: microseconds spent in commits.
    log_microseconds_total,
    /// Gauge: bytes of updates that wait to be committed.
    uncommitted_bytes,
    /// Counter: rooms that panicked.
    room_panics_total,
}
