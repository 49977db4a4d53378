//! Better Auth without Node: its sessions and users read from its own tables, or from the Redis that is its
//! secondary storage, its tokens checked with its own secret. It only reads; expiry, logout and bans are Better Auth's to write.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod by_json;
mod gather;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod secret;
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "redis"))]
mod spelling;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod tables;

pub use gather::GatheredSessions;
#[cfg(feature = "postgres")]
pub use postgres::{ChangeListener, PostgresSessions};
#[cfg(feature = "redis")]
pub use redis::RedisSessions;
pub use secret::{SecretError, Secrets};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSessions;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use tables::{AuthTables, TableNameError};

/// Something that Better Auth changed, as its database tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// A user's row: role, ban, removal.
    User(String),
    /// A session's row: logout, expiry.
    Session(String),
    /// Notifications may have been missed: anything can have changed.
    Unknown,
}

impl AuthChange {
    /// Reads a notification's text; what it does not know may mean anything.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some(("user", id)) if !id.is_empty() => Self::User(id.to_owned()),
            Some(("session", id)) if !id.is_empty() => Self::Session(id.to_owned()),
            _ => Self::Unknown,
        }
    }
}
