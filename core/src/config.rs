//! What an embedder can set: plain values with Hocuspocus' defaults. No parsing here; every front has
//! its own input type and converts.

use std::time::Duration;

use crate::protocol::Dialect;

/// When broadcasts of a room go out (`flushDelay` of Hocuspocus 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushDelay {
    /// Every update at once, as a frame of its own (`false`).
    Off,
    /// What arrived together goes out together (`0`, the default).
    Turn,
    /// What arrives within this window goes out together.
    Window(Duration),
}

/// When a provider is told that its update is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// After the store's update log has committed it.
    Commit,
    /// As soon as it is in the room, as Hocuspocus does.
    Memory,
}

/// Configuration of a hub. `Default` is Hocuspocus' where it has the key.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the instance, shown in hooks and logs. Default: none.
    pub name: Option<String>,
    /// Idle time-out of an authenticated connection, and the absolute deadline before. Default 60 s.
    pub timeout: Duration,
    /// A store waits for this much quiet after a change. Default 2 s.
    pub debounce: Duration,
    /// … but never longer than this after the first change. Default 10 s.
    pub debounce_max: Duration,
    /// Unload a document when its last connection leaves, instead of when its debounced store ran. Default true.
    pub unload_immediately: bool,
    /// See [`FlushDelay`]. Default [`FlushDelay::Turn`].
    pub flush_delay: FlushDelay,
    /// A window is flushed early at this many bytes of updates. Default 1 MiB.
    pub flush_bytes_max: usize,
    /// Awareness (a cursor that moved) waits at most this long, for more of it and for an update that takes it along:
    /// all rooms send what waits at the same moments, half of this apart. Zero, or another `flush_delay` than
    /// `Turn`: it goes out as updates do. At most one second. Default 16 ms, one picture of a screen.
    pub awareness_delay: Duration,
    /// When acks are sent; `None`: [`AckMode::Commit`] where the store has an update log, else `Memory`.
    pub ack: Option<AckMode>,
    /// Providers of 2.x without a token open a document without an Auth message, as Hocuspocus 2 allowed.
    /// Default false, as Hocuspocus since 3.
    pub token_optional: bool,
    /// How sockets speak; `None`: the first frame of each tells. Default `None`.
    pub dialect: Option<Dialect>,
    /// Garbage-collect deleted content (`yDocOptions.gc`). Default true.
    pub gc: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            timeout: Duration::from_secs(60),
            debounce: Duration::from_secs(2),
            debounce_max: Duration::from_secs(10),
            unload_immediately: true,
            flush_delay: FlushDelay::Turn,
            flush_bytes_max: 1024 * 1024,
            awareness_delay: Duration::from_millis(16),
            ack: None,
            token_optional: false,
            dialect: None,
            gc: true,
            limits: Limits::default(),
        }
    }
}

/// Every bound of the engine. Zero never means "unlimited".
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes queued on one connection before authentication (`maxUnauthenticatedQueueSize`). Default 5 MiB.
    pub unauthenticated_bytes_max: usize,
    /// Messages queued on one connection before authentication. Default 1,000.
    pub unauthenticated_messages_max: usize,
    /// Documents on one connection that wait for authentication. Default 100.
    pub pending_documents_max: usize,
    /// Open sessions on one connection. Default 1,000.
    pub sessions_per_connection_max: usize,
    /// Bytes that wait on one connection for hooks or a load of an authenticated session. Default 64 MiB.
    pub session_queue_bytes_max: usize,
    /// One message, in bytes. Default 50 MiB.
    pub message_bytes_max: usize,
    /// One document, encoded, in bytes; an update that crosses it is refused. Default 1 GiB.
    pub document_bytes_max: usize,
    /// Updates of one document parked because what they build on is missing, in bytes. Default 4 MiB.
    pub pending_update_bytes_max: usize,
    /// Queued for one socket before it is conflated to differences, in bytes. Default 1 MiB.
    pub outbox_bytes_max: usize,
    /// A socket with something to send that takes nothing for this long is closed. Default 30 s.
    pub stall_max: Duration,
    /// One client's awareness state, in bytes. Default 1 MiB.
    pub awareness_bytes_max: usize,
    /// Awareness clients of one session. Default 1,000.
    pub awareness_clients_per_session_max: usize,
    /// Bytes of messages in one room's inbox before its readers wait; each counts at least 128. Default 64 MiB.
    pub inbox_bytes_max: usize,
    /// Loaded documents. Default 1,000,000.
    pub documents_max: usize,
    /// Sockets of one user. Default 1,000,000.
    pub connections_per_user_max: usize,
    /// Updates that one socket may send in a second, on average; who is faster is read from more slowly. `None`,
    /// the default: as fast as it goes.
    pub updates_per_second_max: Option<u32>,
    /// Bytes that one socket may send in a second, on average. Default `None`.
    pub bytes_per_second_max: Option<usize>,
    /// Who keeps sending faster than that for this long is closed. Default 30 s.
    pub push_max: Duration,
    /// Time for a client to be let in; `None`, the default: [`Config::timeout`].
    pub unauthenticated_max: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated_bytes_max: 5 * 1024 * 1024,
            unauthenticated_messages_max: 1_000,
            pending_documents_max: 100,
            sessions_per_connection_max: 1_000,
            session_queue_bytes_max: 64 * 1024 * 1024,
            message_bytes_max: 50 * 1024 * 1024,
            document_bytes_max: 1024 * 1024 * 1024,
            pending_update_bytes_max: 4 * 1024 * 1024,
            outbox_bytes_max: 1024 * 1024,
            stall_max: Duration::from_secs(30),
            awareness_bytes_max: 1024 * 1024,
            awareness_clients_per_session_max: 1_000,
            inbox_bytes_max: 64 * 1024 * 1024,
            documents_max: 1_000_000,
            connections_per_user_max: 1_000_000,
            updates_per_second_max: None,
            bytes_per_second_max: None,
            push_max: Duration::from_secs(30),
            unauthenticated_max: None,
        }
    }
}
