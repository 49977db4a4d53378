//! Makes the engine's parts that the configuration names: the store, what keeps it going, and the
//! authenticator.

use std::path::Path;
use std::sync::Arc;

use fidibus_core::error::{BoxError, StoreError};
use fidibus_core::hub::Hub;
use fidibus_core::store::{
    DocumentStore, ForeignSpool, MemoryStore, PostgresOptions, PostgresStore, SpoolOptions, SpooledStore,
    SqliteOptions, SqliteStore,
};

use crate::authenticators::{self, Authentication};
use crate::config::{ServerConfig, StorageConfig, StoreChoice};
use crate::engine::Engine;
use crate::state::{StateDirectory, StateError};
use crate::upkeep::{self, Task};
use crate::webhook::Webhook;

/// The spool's file in the state directory.
pub const SPOOL_FILE: &str = "spool.db";

/// Why the engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store cannot be opened.
    #[error("DATABASE_URL: cannot open the store")]
    Store(#[source] StoreError),
    /// The spool cannot be opened.
    #[error("WS_SPOOL: cannot open the spool; repair it, or start with WS_SPOOL=off")]
    Spool(#[source] StoreError),
    /// What waits in the spool is for another database.
    #[error(
        "DATABASE_URL: it has changed, and updates wait for the former database; start with the former until none do, or once with WS_SPOOL_ADOPT=on where it is the same at another address"
    )]
    ForeignSpool(#[source] StoreError),
    /// Who decides on access cannot be asked.
    #[error("WS_AUTH: the authenticator cannot be made")]
    Authenticator(#[source] BoxError),
    /// The application cannot be told.
    #[error("WS_WEBHOOK_URL: webhooks cannot be sent")]
    Webhook(#[source] BoxError),
}

/// Makes the hub with its store and its authenticator. Call it inside a tokio runtime.
///
/// # Errors
/// One that names the setting.
pub async fn engine(config: &ServerConfig) -> Result<Engine, SetUpError> {
    let Authentication { authenticator, changes } =
        authenticators::open(&config.auth).map_err(SetUpError::Authenticator)?;
    let webhook = config.webhook.clone().map(Webhook::new).transpose().map_err(SetUpError::Webhook)?;
    let webhook = webhook.map(Arc::new);
    let Opened { store, spool, mut upkeep, state } = open(&config.storage).await?;
    if let (Some(log), Some(age)) = (store.update_log(), config.storage.history_age_max) {
        upkeep.push(upkeep::prune_history(log, age));
    }
    let mut builder = Hub::builder(config.engine.clone()).store(store).authenticator(authenticator);
    if let Some(webhook) = &webhook {
        builder = builder.extension(Arc::<Webhook>::clone(webhook));
    }
    let hub = builder.build();
    if let Some(webhook) = &webhook {
        webhook.attach(&hub);
    }
    if let Some(changes) = changes {
        upkeep.push(Task::start(changes.follow(hub.clone())));
    }
    Ok(Engine { hub, spool, upkeep, state })
}

/// A store as a server needs it.
struct Opened {
    store: Arc<dyn DocumentStore>,
    spool: Option<SpooledStore>,
    upkeep: Vec<Task>,
    state: Option<StateDirectory>,
}

async fn open(storage: &StorageConfig) -> Result<Opened, SetUpError> {
    match &storage.store {
        StoreChoice::Memory => Ok(Opened::alone(Arc::new(MemoryStore::new()), None)),
        StoreChoice::Sqlite(path) => {
            let state = match path.starts_with(&storage.state_dir) {
                true => Some(StateDirectory::take(&storage.state_dir)?),
                false => None,
            };
            let store = sqlite(path, storage).await.map_err(SetUpError::Store)?;
            Ok(Opened::alone(Arc::new(store), state))
        }
        StoreChoice::Postgres(url) => {
            let store = postgres(url.reveal(), storage).map_err(SetUpError::Store)?;
            let Some(bytes_max) = storage.spool_bytes_max else {
                let tables = upkeep::prepare_tables(store.clone(), storage.migrate).await;
                let opened = Opened::alone(Arc::new(store), None);
                return Ok(Opened { upkeep: vec![tables], ..opened });
            };
            // Before anything is asked of the database, which may be away for as long as it likes.
            let state = StateDirectory::take(&storage.state_dir)?;
            let tables = upkeep::prepare_tables(store.clone(), storage.migrate).await;
            let path = storage.state_dir.join(SPOOL_FILE);
            let options = SpoolOptions { bytes_max, adopt: storage.spool_adopt, ..SpoolOptions::default() };
            let spool = SpooledStore::open(Arc::new(store), &path, options).await;
            let spool = spool.map_err(|error| match error.source.is::<ForeignSpool>() {
                true => SetUpError::ForeignSpool(error),
                false => SetUpError::Spool(error),
            })?;
            Ok(Opened {
                store: Arc::new(spool.clone()),
                spool: Some(spool),
                upkeep: vec![tables],
                state: Some(state),
            })
        }
    }
}

impl Opened {
    fn alone(store: Arc<dyn DocumentStore>, state: Option<StateDirectory>) -> Self {
        Self { store, spool: None, upkeep: Vec::new(), state }
    }
}

/// The SQLite store of a configuration.
///
/// # Errors
/// The file cannot be used.
pub async fn sqlite(path: &Path, storage: &StorageConfig) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, SqliteOptions { keep_log: storage.history_age_max.is_some() }).await
}

/// The PostgreSQL store of a configuration, without its spool. Nothing is connected yet.
///
/// # Errors
/// The URL cannot be read.
pub fn postgres(url: &str, storage: &StorageConfig) -> Result<PostgresStore, StoreError> {
    let pool = &storage.pool;
    let options = PostgresOptions {
        keep_log: storage.history_age_max.is_some(),
        connections_max: pool.connections_max,
        connect_timeout: pool.connect_timeout,
        idle_timeout: pool.idle_timeout,
        ..PostgresOptions::default()
    };
    PostgresStore::new(url, options)
}
