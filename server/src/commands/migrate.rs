//! `fidibus migrate`: makes the tables that are missing.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use fidibus_core::store::{Migration, MigrationMode};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::archive::{self, Absent, Archive};
use super::{CommandError, output};
use crate::config::{Layers, StorageConfig, StoreChoice};

/// The arguments of `migrate`.
#[derive(Args, Debug)]
#[command(
    after_help = "Tables that exist are adopted: columns and types are read, nothing is altered or dropped. \
    All is done in one transaction, under a lock that all servers of the database share; doing it again \
    changes nothing. Ends with 1 where --check finds something missing."
)]
pub struct MigrateArgs {
    /// Only look; needs no right to write
    #[arg(long)]
    check: bool,
    /// Do it, see whether it works, and undo it
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
}

pub(super) async fn run(args: MigrateArgs, mut layers: Layers) -> Result<ExitCode, CommandError> {
    let storage = StorageConfig::read(&mut layers)?;
    let mode = match args {
        MigrateArgs { check: true, .. } => MigrationMode::Check,
        MigrateArgs { dry_run: true, .. } => MigrationMode::DryRun,
        _ => MigrationMode::Apply,
    };
    match &storage.store {
        StoreChoice::Postgres(url) => {
            let store = archive::postgres(url.reveal(), &storage)?;
            let migration = store.migrate(mode).await?;
            report(&migration, mode, &storage.store.to_string())
        }
        StoreChoice::Sqlite(path) if mode != MigrationMode::Apply => {
            let missing = match path.exists() {
                true => missing_in(path).await?,
                false => vec![path.display().to_string()],
            };
            let migration = Migration { complete: missing.is_empty(), missing, ..Migration::default() };
            report(&migration, mode, &storage.store.to_string())
        }
        store => {
            Archive::open_choice(store, &storage, Absent::Create).await?.close().await;
            output::line(format!("{store}: all tables are there"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn report(migration: &Migration, mode: MigrationMode, place: &str) -> Result<ExitCode, CommandError> {
    let verb = match mode {
        MigrationMode::Check => "is missing",
        MigrationMode::DryRun => "would be created",
        MigrationMode::Apply => "created",
    };
    for table in &migration.missing {
        output::line(format!("{table}: {verb}"))?;
    }
    for table in &migration.adopted {
        output::line(format!("{table}: used as it is"))?;
    }
    for notice in &migration.notices {
        output::line(format!("notice: {notice}"))?;
    }
    let all_there = migration.missing.is_empty() || (mode == MigrationMode::Apply && migration.complete);
    if all_there {
        output::line(format!("{place}: all tables are there"))?;
    } else if mode == MigrationMode::Check {
        output::line(format!("{place}: create what is missing with: fidibus migrate"))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables that an SQLite file lacks, without touching it.
async fn missing_in(path: &Path) -> Result<Vec<String>, CommandError> {
    const TABLES: [&str; 3] = ["yjs_document", "yjs_update_log", "fidibus_migration"];
    let failed = |source| CommandError::Source { place: path.display().to_string(), source };
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await.map_err(failed)?;
    let there: Vec<String> = sqlx::query_scalar("select name from sqlite_master where type = 'table'")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let missing = TABLES.into_iter().filter(|table| !there.iter().any(|name| name == table));
    Ok(missing.map(str::to_owned).collect())
}
