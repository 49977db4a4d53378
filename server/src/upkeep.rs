//! What a server does for its store beside serving: it makes missing tables as soon as the database can be
//! reached, and deletes history that is older than it is to be.

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::clock::Clock;
use fidibus_core::store::{Migration, MigrationMode, PostgresStore, UpdateLog};
use tokio::task::JoinHandle;

use crate::logging::chain;

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long the start waits for the tables. Clients that come before them are refused for the moment.
const START_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two looks for old history.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Between two deletions of one look, so that the log's own writes are not held up.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
/// Deletions of one look: each deletes thousands of rows.
const PRUNES_MAX: usize = 1000;

/// A task that ends with the value.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts it.
    pub fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the tables that are missing, or looks for them. Goes on in the background when the database cannot
/// be reached: a server that waits is better than one that its supervisor gives up.
pub async fn prepare_tables(store: PostgresStore, migrate: bool) -> Task {
    let mode = if migrate { MigrationMode::Apply } else { MigrationMode::Check };
    let mut task = Task::start(prepare(store, mode));
    let _ = tokio::time::timeout(START_WAIT_MAX, &mut task.0).await;
    task
}

async fn prepare(store: PostgresStore, mode: MigrationMode) {
    let (mut pause, mut said) = (RETRY_MIN, String::new());
    loop {
        let problem = match store.migrate(mode).await {
            Ok(migration) => {
                if report(&store, &migration, mode) {
                    return;
                }
                "tables are missing; create them with: fidibus migrate".to_owned()
            }
            Err(error) => chain(&error),
        };
        // What is wrong is said once, not with every try.
        if problem != said {
            tracing::error!(
                database = store.place(),
                problem,
                "The database cannot be used yet; trying again until it can"
            );
            said = problem;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Whether the tables are there.
fn report(store: &PostgresStore, migration: &Migration, mode: MigrationMode) -> bool {
    if !migration.complete {
        return false;
    }
    let (database, created) = (store.place(), &migration.missing);
    if mode == MigrationMode::Apply && !created.is_empty() {
        tracing::info!(database, tables = ?created, adopted = ?migration.adopted, "Tables created");
    }
    for notice in &migration.notices {
        tracing::info!(database, "{notice}");
    }
    true
}

/// Deletes history older than `age`, every now and then.
pub fn prune_history(log: Arc<dyn UpdateLog>, age: Duration) -> Task {
    Task::start(async move {
        let clock = Clock::shared();
        loop {
            prune(&*log, age).await;
            clock.sleep(PRUNE_INTERVAL).await;
        }
    })
}

async fn prune(log: &dyn UpdateLog, age: Duration) {
    let mut deleted = 0;
    for _ in 0..PRUNES_MAX {
        match log.prune(age).await {
            Ok(0) => break,
            Ok(rows) => deleted += rows,
            Err(error) => {
                tracing::warn!(error = chain(&error), "Old history cannot be deleted; trying again later");
                break;
            }
        }
        tokio::time::sleep(PRUNE_PAUSE).await;
    }
    if deleted > 0 {
        tracing::info!(rows = deleted, "Old history deleted");
    }
}
