//! What is stored, read from the store itself, past any server.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fidibus_core::id::DocumentName;
use fidibus_core::log::{LogOptions, StructLog};
use fidibus_core::store::{
    DocumentStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, StoredDocument,
};
use sqlx::{ConnectOptions, Connection, Row};
use yrs::StateVector;
use yrs::updates::decoder::Decode;

/// Where a server keeps documents.
#[derive(Clone, Debug)]
pub enum Store {
    /// Fidibus' SQLite file.
    Sqlite(PathBuf),
    /// PostgreSQL with the spools of the servers in front of it.
    Postgres { url: String, spools: Vec<PathBuf> },
    /// A folder with a file per document (`extension-database` of Hocuspocus, as `benches/peers` has it).
    Files(PathBuf),
}

/// Up to which clock the edits of each client are stored.
pub type Clocks = HashMap<u64, u32>;

impl Store {
    /// Reads a document's clocks.
    pub async fn clocks(&self, document: &str) -> anyhow::Result<Clocks> {
        let name = DocumentName::parse(document)?;
        match self {
            Self::Sqlite(path) => {
                let store = SqliteStore::open(path, SqliteOptions::default()).await?;
                let stored = store.load(&name).await?.unwrap_or_default();
                store.close().await;
                clocks(&stored)
            }
            Self::Postgres { url, spools } => {
                let mut stored = postgres(url, &name).await?;
                for spool in spools.iter().filter(|spool| spool.exists()) {
                    stored.updates.extend(spooled(spool, document).await?);
                }
                clocks(&stored)
            }
            Self::Files(folder) => {
                let snapshot = match tokio::fs::read(folder.join(document)).await {
                    Ok(snapshot) => Some(snapshot.into()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error.into()),
                };
                clocks(&StoredDocument { snapshot, ..StoredDocument::default() })
            }
        }
    }
}

async fn postgres(url: &str, name: &DocumentName) -> anyhow::Result<StoredDocument> {
    let store = PostgresStore::new(url, PostgresOptions::default())?;
    let stored = store.load(name).await?.unwrap_or_default();
    store.close().await;
    Ok(stored)
}

/// Rows that wait in a spool, read without draining it.
async fn spooled(path: &Path, document: &str) -> anyhow::Result<Vec<(i64, bytes::Bytes)>> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.context("the spool")?;
    let rows = sqlx::query("select id, update_data from spool where document = ? order by id")
        .bind(document)
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<Vec<u8>, _>(1)?.into()))).collect()
}

fn clocks(stored: &StoredDocument) -> anyhow::Result<Clocks> {
    let options = LogOptions::default();
    let mut log = match &stored.snapshot {
        Some(snapshot) => StructLog::load(options, snapshot)?,
        None => StructLog::new(options),
    };
    for (_, update) in &stored.updates {
        log.apply(update)?;
    }
    let state_vector = StateVector::decode_v1(&log.state_vector())?;
    Ok(state_vector.iter().map(|(client, clock)| (client.get(), *clock)).collect())
}
