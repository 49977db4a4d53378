//! The store that a command works on.

use std::path::Path;
use std::sync::Arc;

use fidibus_core::store::{Inspect, MigrationMode, PostgresStore, SpoolFigures, SpooledStore};

use super::CommandError;
use crate::config::{Layers, StorageConfig, StoreChoice};
use crate::stores::{self, SPOOL_FILE};

/// Documents that are listed at once.
pub(super) const PAGE: usize = 500;

/// An open store.
pub(super) struct Archive {
    pub(super) store: Arc<dyn Inspect>,
    /// How it is called, without a password.
    pub(super) place: String,
}

/// What to do where there is no store yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Refuse,
    Create,
}

impl Archive {
    /// Opens the store that the settings name.
    pub(super) async fn open(mut layers: Layers, absent: Absent) -> Result<Self, CommandError> {
        let storage = StorageConfig::read(&mut layers)?;
        let archive = Self::open_choice(&storage.store, &storage, absent).await?;
        warn_of_spool(&storage).await;
        Ok(archive)
    }

    /// Opens any store, with the pool of these settings.
    pub(super) async fn open_choice(
        choice: &StoreChoice,
        storage: &StorageConfig,
        absent: Absent,
    ) -> Result<Self, CommandError> {
        let store: Arc<dyn Inspect> = match choice {
            StoreChoice::Memory => {
                return Err(CommandError::Usage(
                    "memory: keeps nothing from one run to the next; name a database with --database-url or DATABASE_URL"
                        .into(),
                ));
            }
            StoreChoice::Sqlite(path) => {
                if absent == Absent::Refuse {
                    must_exist(path)?;
                }
                Arc::new(stores::sqlite(path, storage).await?)
            }
            StoreChoice::Postgres(url) => {
                let store = stores::postgres(url.reveal(), storage)?;
                if absent == Absent::Create && storage.migrate {
                    store.migrate(MigrationMode::Apply).await?;
                }
                Arc::new(store)
            }
        };
        store.ping().await?;
        Ok(Self { store, place: choice.to_string() })
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

/// SQLite would make the file, and the command would find nothing in it.
pub(super) fn must_exist(path: &Path) -> Result<(), CommandError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(CommandError::Usage(format!("{} is not a file", path.display()))),
        Err(error) => Err(CommandError::file(path, error)),
    }
}

/// The PostgreSQL store that the settings name, connected or not.
pub(super) fn postgres(url: &str, storage: &StorageConfig) -> Result<PostgresStore, CommandError> {
    Ok(stores::postgres(url, storage)?)
}

/// What waits in the spool; `None` where there is no such file.
pub(super) async fn spool(storage: &StorageConfig) -> Result<Option<SpoolFigures>, CommandError> {
    let path = storage.state_dir.join(SPOOL_FILE);
    match path.exists() {
        true => Ok(Some(SpooledStore::peek(&path).await?)),
        false => Ok(None),
    }
}

async fn warn_of_spool(storage: &StorageConfig) {
    if !matches!(storage.store, StoreChoice::Postgres(_)) {
        return;
    }
    match spool(storage).await {
        Ok(Some(figures)) if figures.rows > 0 => eprintln!(
            "fidibus: warning: {} updates wait in {} and are not in the database yet; a running server moves them there",
            figures.rows,
            storage.state_dir.join(SPOOL_FILE).display()
        ),
        Ok(_) => {}
        Err(error) => eprintln!("fidibus: warning: the spool cannot be read: {error}"),
    }
}
