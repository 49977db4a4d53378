//! The hub's figures as a C struct and as JSON: one list of names for both.

use fidibus_core::metrics::MetricsSnapshot;
use serde_json::{Map, Value};

macro_rules! metrics {
    ($($name:ident,)*) => {
        impl From<MetricsSnapshot> for fidibus_metrics {
            fn from(snapshot: MetricsSnapshot) -> Self {
                Self { $($name: snapshot.$name,)* }
            }
        }

        /// The figures by name.
        pub(crate) fn to_json(snapshot: &MetricsSnapshot) -> Map<String, Value> {
            Map::from_iter([$((stringify!($name).to_owned(), Value::from(snapshot.$name)),)*])
        }
    };
}

/// How a hub is doing. Names that end in `_total` only grow; the others rise and fall. Later versions add
/// fields at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct fidibus_metrics {
    /// Open connections.
    pub connections_open: u64,
    /// Sockets accepted.
    pub connections_total: u64,
    /// Open sessions (documents on connections).
    pub sessions_open: u64,
    /// Loaded documents.
    pub documents_loaded: u64,
    /// Documents whose last store failed.
    pub documents_failing: u64,
    /// Valid updates received.
    pub updates_received_total: u64,
    /// Their bytes.
    pub update_bytes_total: u64,
    /// Frames queued for connections by rooms.
    pub frames_sent_total: u64,
    /// Readers that fell behind and were conflated.
    pub conflations_total: u64,
    /// Sockets closed because they took nothing for too long.
    pub slow_closes_total: u64,
    /// Sessions refused by authentication.
    pub auth_denied_total: u64,
    /// Authentications that could not be decided.
    pub auth_unavailable_total: u64,
    /// Sessions refused because their user has too many connections.
    pub connections_refused_total: u64,
    /// Open sessions ended because of who they belong to: logout, ban, expiry.
    pub sessions_revoked_total: u64,
    /// Open sessions that may do something else since they were judged again.
    pub access_changes_total: u64,
    /// Times that a connection was not read from because it sent too fast.
    pub rate_pauses_total: u64,
    /// Sockets closed because they did not slow down.
    pub rate_closes_total: u64,
    /// Messages that broke the protocol.
    pub protocol_errors_total: u64,
    /// Hooks that failed.
    pub hook_errors_total: u64,
    /// Documents loaded.
    pub loads_total: u64,
    /// Loads that failed.
    pub load_failures_total: u64,
    /// Microseconds spent in loads.
    pub load_microseconds_total: u64,
    /// Rows of the log that were found unreadable since the start.
    pub quarantined_rows: u64,
    /// Snapshots stored.
    pub stores_total: u64,
    /// Snapshots that could not be stored.
    pub store_failures_total: u64,
    /// Microseconds spent in stores.
    pub store_microseconds_total: u64,
    /// Bytes of snapshots stored.
    pub store_bytes_total: u64,
    /// Rows appended to the update log.
    pub log_rows_total: u64,
    /// Commits of the update log.
    pub log_commits_total: u64,
    /// Commits that failed.
    pub log_failures_total: u64,
    /// Microseconds spent in commits.
    pub log_microseconds_total: u64,
    /// Bytes of updates that wait to be committed.
    pub uncommitted_bytes: u64,
    /// Rooms that panicked.
    pub room_panics_total: u64,
    /// Sockets closed because nobody on them was let in in time.
    pub auth_timeouts_total: u64,
    /// Documents refused because their connection has as many open as it may.
    pub documents_refused_total: u64,
}

metrics! {
    connections_open,
    connections_total,
    sessions_open,
    documents_loaded,
    documents_failing,
    updates_received_total,
    update_bytes_total,
    frames_sent_total,
    conflations_total,
    slow_closes_total,
    auth_denied_total,
    auth_unavailable_total,
    connections_refused_total,
    sessions_revoked_total,
    access_changes_total,
    rate_pauses_total,
    rate_closes_total,
    protocol_errors_total,
    hook_errors_total,
    loads_total,
    load_failures_total,
    load_microseconds_total,
    quarantined_rows,
    stores_total,
    store_failures_total,
    store_microseconds_total,
    store_bytes_total,
    log_rows_total,
    log_commits_total,
    log_failures_total,
    log_microseconds_total,
    uncommitted_bytes,
    room_panics_total,
    auth_timeouts_total,
    documents_refused_total,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when the engine has figures that C does not see.
    #[test]
    fn all_figures_are_there() {
        assert_eq!(size_of::<fidibus_metrics>(), size_of::<MetricsSnapshot>());
    }
}
