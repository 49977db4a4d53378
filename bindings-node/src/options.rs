//! What JavaScript configures, and what it becomes.

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::config::{Config, FlushDelay};
use fidibus_core::store::{
    DocumentStore, MigrationMode, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore,
};
use napi_derive::napi;

/// A store in the engine.
#[napi(object)]
pub struct StoreOptions {
    /// `sqlite` or `postgres`.
    pub kind: String,
    /// The file, or the URL.
    pub place: String,
    /// Keeps folded rows of the log as history.
    pub keep_log: bool,
}

/// Configuration of an engine; times in milliseconds, sizes in bytes.
#[napi(object)]
pub struct EngineOptions {
    /// Idle time-out of a connection, and its deadline before authentication.
    pub timeout_ms: f64,
    /// `onStoreDocument` of the engine's own store.
    pub debounce_ms: f64,
    /// Its longest delay.
    pub max_debounce_ms: f64,
    /// Below zero: broadcasts are not batched.
    pub flush_delay_ms: f64,
    /// Awareness waits at most this long for more.
    pub awareness_delay_ms: f64,
    /// A batch is sent early at this size.
    pub flush_bytes_max: f64,
    /// Before authentication, for each connection.
    pub unauthenticated_bytes_max: f64,
    /// Before authentication, for each connection.
    pub unauthenticated_messages_max: f64,
    /// Documents of a connection that wait for authentication.
    pub pending_documents_max: f64,
    /// One message.
    pub message_bytes_max: f64,
    /// Whether deleted content is collected.
    pub gc: bool,
    /// 2.x providers without a token may open documents.
    pub token_optional: bool,
    /// `None`: the user's hooks are the persistence.
    pub store: Option<StoreOptions>,
}

/// The first migration may take this long before the server starts without it and goes on trying.
const MIGRATE_MAX: Duration = Duration::from_secs(10);
const MIGRATE_RETRY: Duration = Duration::from_secs(2);

/// From a JavaScript number, which may be infinite or not a number.
fn millis(value: f64) -> Duration {
    Duration::from_millis(value.clamp(0.0, 1e12) as u64)
}

fn size(value: f64) -> usize {
    value.clamp(1.0, 9e15) as usize
}

impl EngineOptions {
    /// The engine's configuration.
    pub fn config(&self) -> Config {
        let mut config = Config {
            timeout: millis(self.timeout_ms),
            debounce: millis(self.debounce_ms),
            debounce_max: millis(self.max_debounce_ms),
            flush_delay: match self.flush_delay_ms {
                delay if delay < 0.0 => FlushDelay::Off,
                0.0 => FlushDelay::Turn,
                delay => FlushDelay::Window(millis(delay)),
            },
            awareness_delay: millis(self.awareness_delay_ms),
            flush_bytes_max: size(self.flush_bytes_max),
            gc: self.gc,
            token_optional: self.token_optional,
            ..Config::default()
        };
        config.limits.unauthenticated_bytes_max = size(self.unauthenticated_bytes_max);
        config.limits.unauthenticated_messages_max = size(self.unauthenticated_messages_max);
        config.limits.pending_documents_max = size(self.pending_documents_max);
        config.limits.message_bytes_max = size(self.message_bytes_max);
        config
    }
}

impl StoreOptions {
    /// Opens the store. Call it inside the runtime.
    ///
    /// # Errors
    /// What a user can act on.
    pub async fn open(&self) -> Result<Arc<dyn DocumentStore>, String> {
        let told = |error: &dyn std::error::Error| {
            format!(
                "{} store: {error}{}",
                self.kind,
                error.source().map_or(String::new(), |e| format!(": {e}"))
            )
        };
        match self.kind.as_str() {
            "sqlite" => {
                let options = SqliteOptions { keep_log: self.keep_log };
                let store = SqliteStore::open(&self.place, options).await.map_err(|error| told(&error))?;
                Ok(Arc::new(store))
            }
            "postgres" => {
                let options = PostgresOptions { keep_log: self.keep_log, ..PostgresOptions::default() };
                let store = PostgresStore::new(&self.place, options).map_err(|error| told(&error))?;
                let migrating = tokio::spawn(migrate(store.clone()));
                // Not finished: documents are refused until it is.
                let _ = tokio::time::timeout(MIGRATE_MAX, migrating).await;
                Ok(Arc::new(store))
            }
            other => Err(format!("unknown kind of store: {other}")),
        }
    }
}

/// Brings the tables up to date, however long the database is away.
async fn migrate(store: PostgresStore) {
    while let Err(error) = store.migrate(MigrationMode::Apply).await {
        tracing::error!(%error, "The database cannot be migrated yet; trying again");
        if !error.retryable {
            return;
        }
        tokio::time::sleep(MIGRATE_RETRY).await;
    }
}
