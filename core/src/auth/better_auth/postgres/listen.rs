//! The database's own word that a session or a user changed: triggers that notify, and who listens.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Executor, PgPool};

use super::super::AuthChange;
use super::super::tables::AuthTables;
use crate::error::BoxError;

/// The channel of the notifications.
const CHANNEL: &str = "fidibus_auth";
/// Between two attempts to listen.
const RETRY: Duration = Duration::from_secs(5);

/// Hears of changes in Better Auth's tables.
#[derive(Clone, Debug)]
pub struct ChangeListener {
    pool: PgPool,
    tables: Arc<AuthTables>,
}

impl ChangeListener {
    pub(super) fn new(pool: PgPool, tables: Arc<AuthTables>) -> Self {
        Self { pool, tables }
    }

    /// The statements that make the triggers; may be run again at any time. They take the rights of the tables'
    /// owner.
    pub fn install_sql(&self) -> String {
        let AuthTables { session, user, .. } = &*self.tables;
        format!(
            "begin;
select pg_advisory_xact_lock(hashtext('{CHANNEL}'));
create or replace function {CHANNEL}_changed() returns trigger language plpgsql as $body$
begin
  perform pg_notify('{CHANNEL}', tg_argv[0] || ':' || old.id::text);
  return null;
end $body$;
drop trigger if exists {CHANNEL}_session on {session};
create trigger {CHANNEL}_session after delete or update on {session}
  for each row execute function {CHANNEL}_changed('session');
drop trigger if exists {CHANNEL}_user on {user};
create trigger {CHANNEL}_user after delete or update on {user}
  for each row execute function {CHANNEL}_changed('user');
commit;"
        )
    }

    /// Makes the triggers.
    ///
    /// # Errors
    /// The database is away, or does not allow it.
    pub async fn install(&self) -> Result<(), BoxError> {
        let mut connection = self.pool.acquire().await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.install_sql()))).await?;
        Ok(())
    }

    /// Tells of changes until it is dropped. Connects again when the connection breaks, and then tells that
    /// anything may have changed.
    pub async fn listen(&self, mut tell: impl FnMut(AuthChange) + Send) {
        loop {
            if let Err(error) = self.listen_once(&mut tell).await {
                tracing::warn!(%error, "Cannot listen for changes of sessions; they show at the next check");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn listen_once(&self, tell: &mut (impl FnMut(AuthChange) + Send)) -> Result<(), sqlx::Error> {
        // Beside the pool: a connection that only waits must not take one from the lookups.
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        let pool = options.connect_lazy_with((*self.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        tell(AuthChange::Unknown);
        loop {
            match listener.try_recv().await? {
                Some(notification) => tell(AuthChange::parse(notification.payload())),
                // The connection was lost and made anew.
                None => tell(AuthChange::Unknown),
            }
        }
    }
}
