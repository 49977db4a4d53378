//! The database, its tables, every document in it, and the spool in front of it.

use std::time::{Duration, SystemTime};

use fidibus_core::store::{DocumentStore, Inspect, MigrationMode, PostgresStore};

use super::{DoctorArgs, Findings};
use crate::commands::archive::{self, PAGE};
use crate::commands::{CommandError, output};
use crate::config::{StorageConfig, StoreChoice};
use crate::logging::chain;
use crate::stores;

/// Clocks that differ by more make times in the log misleading.
const SKEW_WARNING: Duration = Duration::from_secs(2);
/// Clocks that differ by more end sessions early or late.
const SKEW_PROBLEM: Duration = Duration::from_secs(30);

pub(super) async fn examine(
    storage: &StorageConfig,
    args: &DoctorArgs,
    findings: &mut Findings,
) -> Result<(), CommandError> {
    match &storage.store {
        StoreChoice::Memory => findings.warning(
            "DATABASE_URL is memory: all documents are gone when the server ends",
            "name a database in DATABASE_URL",
        ),
        StoreChoice::Sqlite(path) if !path.exists() => {
            findings.fine(format!("{}: not there yet, the server makes it", storage.store))
        }
        StoreChoice::Sqlite(path) => match stores::sqlite(path, storage).await {
            Ok(store) => examine_store(&store, storage, args, findings).await,
            Err(error) => findings.problem(
                format!("DATABASE_URL: {}", chain(&error)),
                "name a file that this user can read and write, and that Fidibus or nobody has made",
            ),
        },
        StoreChoice::Postgres(url) => {
            let store = match stores::postgres(url.reveal(), storage) {
                Ok(store) => store,
                Err(error) => {
                    return findings.problem(
                        format!("DATABASE_URL: {}", chain(&error)),
                        "write it as postgres://user:password@host:5432/database, with %XX for special characters",
                    );
                }
            };
            if examine_tables(&store, storage, findings).await? {
                examine_store(&store, storage, args, findings).await?;
            }
            store.close().await;
            Ok(())
        }
    }
}

/// The tables of PostgreSQL; whether documents can be read from them.
async fn examine_tables(
    store: &PostgresStore,
    storage: &StorageConfig,
    findings: &mut Findings,
) -> Result<bool, CommandError> {
    let migration = match store.migrate(MigrationMode::Check).await {
        Ok(migration) => migration,
        Err(error) => {
            let remedy = match error.to_string().contains("Fidibus does not") {
                true => {
                    "change the table by hand, or give Fidibus a database or schema of its own (options=-csearch_path%3D…)"
                }
                false => {
                    "see that PostgreSQL runs, and that host, user, password and pg_hba.conf fit: psql \"$DATABASE_URL\""
                }
            };
            findings.problem(format!("DATABASE_URL: {}", chain(&error)), remedy)?;
            return Ok(false);
        }
    };
    for table in &migration.adopted {
        findings.fine(format!("table {table} is used as it is"))?;
    }
    for notice in &migration.notices {
        match notice.split_once("; remedy: ") {
            Some((what, remedy)) => findings.warning(what, remedy)?,
            None => findings.fine(notice)?,
        }
    }
    if migration.complete {
        findings.fine(format!("{}: tables and columns fit", storage.store))?;
        return Ok(true);
    }
    let missing = format!("tables are missing: {}", migration.missing.join(", "));
    match storage.migrate {
        true => findings.warning(missing, "start the server, which makes them, or run: fidibus migrate")?,
        false => findings.problem(missing, "run: fidibus migrate")?,
    }
    Ok(false)
}

async fn examine_store(
    store: &dyn Inspect,
    storage: &StorageConfig,
    args: &DoctorArgs,
    findings: &mut Findings,
) -> Result<(), CommandError> {
    let asked = SystemTime::now();
    let state = match store.database().await {
        Ok(state) => state,
        Err(error) => {
            return findings.problem(chain(&error), "see the log of the database");
        }
    };
    findings.fine(format!("{} answers: {}", storage.store, state.version))?;
    for problem in &state.problems {
        let (what, remedy) = problem.split_once("; remedy: ").unwrap_or((problem, ""));
        findings.problem(what, remedy)?;
    }
    examine_clock(state.time, asked, findings)?;
    if args.skip_documents {
        return findings.fine("documents were not read (--skip-documents)");
    }
    examine_documents(store, findings).await
}

fn examine_clock(theirs: SystemTime, asked: SystemTime, findings: &mut Findings) -> Result<(), CommandError> {
    const REMEDY: &str = "have both machines keep time: timedatectl set-ntp true";
    // Somewhere between question and answer the database has looked.
    let answered = SystemTime::now();
    let ahead = theirs.duration_since(answered).unwrap_or_default();
    let behind = asked.duration_since(theirs).unwrap_or_default();
    let skew = ahead.max(behind);
    let what = format!("the clock of the database differs by {:.1} s", skew.as_secs_f64());
    match skew {
        skew if skew > SKEW_PROBLEM => findings.problem(what, REMEDY),
        skew if skew > SKEW_WARNING => findings.warning(what, REMEDY),
        _ => findings.fine("the clocks agree"),
    }
}

async fn examine_documents(store: &dyn Inspect, findings: &mut Findings) -> Result<(), CommandError> {
    let bar = output::progress(None);
    let (mut documents, mut after) = (0_u64, None);
    loop {
        let names = match store.list(after.as_ref(), PAGE).await {
            Ok(names) => names,
            Err(error) => return findings.problem(chain(&error), "see the log of the database"),
        };
        let Some(last) = names.last() else { break };
        after = Some(last.clone());
        for document in &names {
            documents += 1;
            bar.inc(1);
            let name = output::shown(document.as_str());
            match store.load(document).await {
                Ok(stored) => {
                    for row in stored.iter().flat_map(|stored| &stored.quarantined) {
                        let what =
                            format!("document \"{name}\": row {} cannot be read: {}", row.id, row.reason);
                        bar.suspend(|| {
                            findings.problem(
                                what,
                                "restore this row from a backup, or delete it: it is kept, and loaded never",
                            )
                        })?;
                    }
                }
                Err(error) => {
                    let what = format!("document \"{name}\" cannot be opened: {}", chain(&error));
                    bar.suspend(|| {
                        findings.problem(what, "restore its row in yjs_document from a backup; clients that still have it merge into that")
                    })?;
                }
            }
        }
    }
    bar.finish_and_clear();
    findings.fine(format!("{documents} documents were read"))
}

pub(super) async fn examine_spool(
    storage: &StorageConfig,
    findings: &mut Findings,
) -> Result<(), CommandError> {
    if !matches!(storage.store, StoreChoice::Postgres(_)) {
        return Ok(());
    }
    let figures = match archive::spool(storage).await {
        Ok(figures) => figures.unwrap_or_default(),
        Err(error) => {
            return findings.problem(
                format!("the spool cannot be read: {}", chain(&error)),
                "run this as the user of the server, and see that WS_STATE_DIR is on a disk that works",
            );
        }
    };
    if figures.unreadable > 0 {
        findings.warning(
            format!("{} rows of the spool cannot be read", figures.unreadable),
            "they are kept in the table `unreadable` of spool.db, with the reason",
        )?;
    }
    let waiting = format!("{} updates ({} bytes) wait in the spool", figures.rows, figures.bytes);
    match (figures.rows, storage.spool_bytes_max) {
        (0, Some(_)) => findings.fine("the spool is empty"),
        (0, None) => findings.warning(
            "WS_SPOOL is off: while the database is away nothing is acknowledged",
            "set WS_SPOOL=on",
        ),
        (_, None) => findings.problem(
            waiting,
            "start the server with WS_SPOOL=on once, so that it moves them to the database",
        ),
        (_, Some(max)) if figures.bytes >= max => findings.problem(
            waiting,
            "bring the database back, or raise WS_SPOOL_MAX_BYTES: nothing more is acknowledged",
        ),
        (_, Some(_)) => {
            findings.warning(waiting, "a running server moves them to the database as soon as that answers")
        }
    }
}
