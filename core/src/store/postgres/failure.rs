//! What goes wrong with a database, and whether it may pass.

use std::time::Duration;

use super::NAME;
use super::catalogue::CatalogueError;
use crate::error::StoreError;
use crate::store::snapshot::SnapshotError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", describe(.0))]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("no connection within {} s", .0.as_secs())]
    Unreachable(Duration),
}

/// A failure and the database it happened on, without its password.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {failure}")]
struct Placed {
    place: Box<str>,
    #[source]
    failure: Failure,
}

impl Failure {
    /// Whether tables may have changed under us, so that they have to be read anew.
    pub(super) fn doubts_catalogue(&self) -> bool {
        // Undefined table, column, schema, function or type; and a plan that no longer fits its result.
        matches!(self.code().as_deref(), Some("42P01" | "42703" | "3F000" | "42883" | "42804" | "0A000"))
    }

    /// Whether the connection ended under the call, so that others may have as well.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Database(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            // The server shuts down, or has crashed.
            _ => matches!(self.code().as_deref(), Some("57P01" | "57P02" | "57P03")),
        }
    }

    pub(super) fn at(self, place: &str) -> StoreError {
        let may_pass = self.may_pass();
        let placed = Placed { place: place.into(), failure: self };
        if may_pass { StoreError::retryable(NAME, placed) } else { StoreError::permanent(NAME, placed) }
    }

    // Whatever somebody can repair while we wait may pass: a wrong password, a full disk, a missing table, a
    // standby that does not take writes yet. What the bytes themselves are to blame for does not.
    fn may_pass(&self) -> bool {
        match self {
            Self::Snapshot(_) => false,
            Self::Catalogue(_) | Self::TimedOut(_) | Self::Unreachable(_) => true,
            Self::Database(sqlx::Error::Database(_)) => match self.code().as_deref() {
                // The document was deleted while rows were appended to it: the next try makes it anew.
                Some("23503") => true,
                Some(code) => !["22", "23", "54"].contains(&code.get(..2).unwrap_or_default()),
                None => true,
            },
            Self::Database(
                sqlx::Error::Encode(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::PoolClosed,
            ) => false,
            Self::Database(_) => true,
        }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code().map(Into::into),
            _ => None,
        }
    }
}

fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} ({code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::PoolClosed => "the store is closed".into(),
        sqlx::Error::Io(error) => format!("connection failed: {error}"),
        other => other.to_string(),
    }
}
