//! Makes the engine's parts that the configuration names: the store and the authenticator.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use fidibus_core::auth::{AllowAll, Authenticator, StaticTokens};
use fidibus_core::error::StoreError;
use fidibus_core::hub::Hub;
use fidibus_core::store::{DocumentStore, MemoryStore, SqliteOptions, SqliteStore};

use crate::config::{AuthChoice, ServerConfig, StoreChoice};

/// Why the engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The state directory cannot be made.
    #[error("WS_STATE_DIR: cannot make the directory {0}")]
    StateDirectory(String, #[source] std::io::Error),
    /// The store cannot be opened.
    #[error("DATABASE_URL: cannot open the store")]
    Store(#[source] StoreError),
}

/// Makes the hub with its store and its authenticator. Call it inside a tokio runtime.
///
/// # Errors
/// One that names the setting.
pub async fn hub(config: &ServerConfig) -> Result<Hub, SetUpError> {
    let authenticator: Arc<dyn Authenticator> = match &config.auth {
        AuthChoice::None { .. } => Arc::new(AllowAll),
        AuthChoice::Static(tokens) => Arc::<StaticTokens>::clone(tokens),
    };
    let store = store(config).await?;
    Ok(Hub::builder(config.engine.clone()).store(store).authenticator(authenticator).build())
}

async fn store(config: &ServerConfig) -> Result<Arc<dyn DocumentStore>, SetUpError> {
    match &config.store {
        StoreChoice::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreChoice::Sqlite(path) => {
            if path.starts_with(&config.state_dir) {
                make_private_directory(&config.state_dir)?;
            }
            let store = SqliteStore::open(path, SqliteOptions::default()).await.map_err(SetUpError::Store)?;
            Ok(Arc::new(store))
        }
    }
}

/// Documents are nobody else's business, whatever the umask says.
fn make_private_directory(path: &Path) -> Result<(), SetUpError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| SetUpError::StateDirectory(path.display().to_string(), error))
}
