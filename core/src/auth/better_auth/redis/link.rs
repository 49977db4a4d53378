//! One connection to a Redis, shared by all who ask: made when it is needed, given up when it breaks or says
//! nothing. Every wait has an end.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Mutex;

use crate::error::BoxError;

/// How long one command may take, connecting included.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// Of these for connecting.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// See the module's description.
pub(super) struct Link {
    client: Client,
    connection: Mutex<Option<Arc<MultiplexedConnection>>>,
}

impl Link {
    pub(super) fn new(url: &str) -> Result<Self, BoxError> {
        // What the client says of a URL may quote it, password and all.
        let client = Client::open(url).map_err(|_| "redis://user:password@host:port/database is expected")?;
        Ok(Self { client, connection: Mutex::default() })
    }

    /// The values of these keys, in their order.
    pub(super) async fn get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, BoxError> {
        match tokio::time::timeout(LOOKUP_MAX, self.try_get(keys)).await {
            Ok(answer) => Ok(answer?),
            Err(elapsed) => {
                // A connection whose other end is gone without a word would cost everybody this long. Where somebody
                // holds the lock there is none: it is being made.
                if let Ok(mut connection) = self.connection.try_lock() {
                    *connection = None;
                }
                Err(elapsed.into())
            }
        }
    }

    async fn try_get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, RedisError> {
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let connection = self.connection().await?;
        match command.query_async(&mut (*connection).clone()).await {
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => {
                self.give_up(&connection).await;
                // It may have been broken for long, with a Redis that is back: that shows at the next use only.
                let connection = self.connection().await?;
                command.query_async(&mut (*connection).clone()).await
            }
            answer => answer,
        }
    }

    async fn connection(&self) -> Result<Arc<MultiplexedConnection>, RedisError> {
        // Held while connecting: whoever comes meanwhile wants this connection, not one more.
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(Arc::clone(connection));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(LOOKUP_MAX));
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Arc::clone(connection.insert(Arc::new(made))))
    }

    /// Forgets a connection, unless there is a newer one already.
    async fn give_up(&self, broken: &Arc<MultiplexedConnection>) {
        let mut connection = self.connection.lock().await;
        if connection.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, broken)) {
            *connection = None;
        }
    }
}
