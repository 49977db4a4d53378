//! Makes the authenticator that the configuration names, and has the database tell of changes.

use std::sync::Arc;

use fidibus_core::auth::better_auth::{
    AuthChange, ChangeListener, GatheredSessions, PostgresSessions, RedisSessions, SqliteSessions,
};
use fidibus_core::auth::identity::{DocumentAccess, SessionSource};
use fidibus_core::auth::jwt::{JwtIssuer, JwtVerifier, KeySource};
use fidibus_core::auth::policy::{AccessPolicy, CachedAccess};
use fidibus_core::auth::{
    AllowAll, Authenticator, FAILURE_LIMITS, LoginSessions, StaticTokens, TokenAuthenticator, TokenOptions,
};
use fidibus_core::error::BoxError;
use fidibus_core::hub::{Hub, Selector};
use tokio::sync::mpsc;

use crate::client::{AccessCall, HttpClient, KeyUrl};
use crate::config::{
    AuthChoice, DocumentsConfig, KeysConfig, ListenChoice, SessionsConfig, StoreChoice, TokenConfig,
};
use crate::logging::chain;
use crate::webhook::WebhookAuthenticator;

/// Changes that wait to be looked at; when there are more, everything is looked at.
const CHANGES_MAX: usize = 1000;

/// An authenticator, and what tells that its answers have changed.
pub struct Authentication {
    /// The authenticator.
    pub authenticator: Arc<dyn Authenticator>,
    /// Hears of changes.
    pub changes: Option<Changes>,
}

/// Changes that a database tells of.
pub struct Changes {
    listener: ChangeListener,
    install: bool,
}

/// Where sessions are, in all the forms in which they are needed.
enum Sessions {
    Postgres(PostgresSessions),
    Sqlite(SqliteSessions),
}

impl Sessions {
    fn open(config: &SessionsConfig) -> Result<Self, BoxError> {
        let (connections_max, tables) = (config.connections_max, config.tables.clone());
        match &config.database {
            StoreChoice::Postgres(url) => {
                Ok(Self::Postgres(PostgresSessions::new(url.reveal(), connections_max, tables)?))
            }
            StoreChoice::Sqlite(path) => Ok(Self::Sqlite(SqliteSessions::new(path, connections_max, tables))),
            StoreChoice::Memory => Err("memory holds no sessions".into()),
        }
    }

    fn source(&self) -> Arc<dyn SessionSource> {
        match self {
            Self::Postgres(sessions) => Arc::new(sessions.clone()),
            Self::Sqlite(sessions) => Arc::new(sessions.clone()),
        }
    }

    fn keys(&self) -> Arc<dyn KeySource> {
        match self {
            Self::Postgres(sessions) => Arc::new(sessions.clone()),
            Self::Sqlite(sessions) => Arc::new(sessions.clone()),
        }
    }
}

/// Makes the authenticator. Call it inside a tokio runtime.
///
/// # Errors
/// A database's URL, or the system's cryptography, is of no use.
pub fn open(choice: &AuthChoice) -> Result<Authentication, BoxError> {
    let authenticator: Arc<dyn Authenticator> = match choice {
        AuthChoice::None { .. } => Arc::new(AllowAll),
        AuthChoice::Static(tokens) => Arc::<StaticTokens>::clone(tokens),
        AuthChoice::Tokens(config) => return tokens(config),
        AuthChoice::Webhook(config) => Arc::new(WebhookAuthenticator::new(config.clone())?),
    };
    Ok(Authentication { authenticator, changes: None })
}

fn tokens(config: &TokenConfig) -> Result<Authentication, BoxError> {
    let sessions = config.sessions.as_ref().map(Sessions::open).transpose()?;
    let changes = match (&sessions, config.sessions.as_ref().map(|sessions| sessions.listen)) {
        (
            Some(Sessions::Postgres(sessions)),
            Some(listen @ (ListenChoice::Listen | ListenChoice::Install)),
        ) => {
            let install = listen == ListenChoice::Install;
            Some(Changes { listener: sessions.listener(), install })
        }
        _ => None,
    };
    let documents = documents(config, sessions.as_ref())?.map(|inner| -> Arc<dyn DocumentAccess> {
        Arc::new(CachedAccess::new(inner, config.documents_valid))
    });
    let login = match (&config.sessions, &sessions) {
        (Some(config), Some(sessions)) => Some(LoginSessions {
            source: source(config, sessions)?,
            secrets: Some(config.secrets.clone()),
            cookies: config.cookies.clone(),
            signed_only: config.signed_only,
        }),
        _ => None,
    };
    let authenticator = TokenAuthenticator::new(TokenOptions {
        sessions: login,
        jwt: issuers(config, sessions.as_ref())?,
        policy: AccessPolicy { names: config.names.clone(), roles: Some(config.roles.clone()), documents },
        origins: config.origins.clone(),
        recheck_interval: config.recheck_interval,
        failures: FAILURE_LIMITS,
    });
    Ok(Authentication { authenticator: Arc::new(authenticator), changes })
}

/// Where login sessions are: in the database, or in the secondary storage that stands in front of it.
fn source(config: &SessionsConfig, sessions: &Sessions) -> Result<Arc<dyn SessionSource>, BoxError> {
    let database = sessions.source();
    let source: Arc<dyn SessionSource> = match &config.redis {
        None => database,
        Some(redis) => {
            let sessions = RedisSessions::new(redis.url.reveal(), redis.prefix.clone(), database)
                .map_err(|error| format!("WS_AUTH_REDIS_URL: {error}"))?;
            Arc::new(sessions)
        }
    };
    Ok(Arc::new(GatheredSessions::new(source, config.connections_max)))
}

fn documents(
    config: &TokenConfig,
    sessions: Option<&Sessions>,
) -> Result<Option<Arc<dyn DocumentAccess>>, BoxError> {
    let roles = config.roles.clone();
    Ok(match (&config.documents, sessions) {
        (Some(DocumentsConfig::Query(query)), Some(Sessions::Postgres(sessions))) => {
            Some(Arc::new(sessions.document_access(query, roles)))
        }
        (Some(DocumentsConfig::Query(query)), Some(Sessions::Sqlite(sessions))) => {
            Some(Arc::new(sessions.document_access(query, roles)))
        }
        (Some(DocumentsConfig::Call(endpoint)), _) => {
            Some(Arc::new(AccessCall { client: HttpClient::new()?, endpoint: endpoint.clone(), roles }))
        }
        (Some(DocumentsConfig::Query(_)), None) => return Err("a query without a database".into()),
        (None, _) => None,
    })
}

fn issuers(config: &TokenConfig, sessions: Option<&Sessions>) -> Result<Option<JwtVerifier>, BoxError> {
    let mut issuers = Vec::new();
    for issuer in &config.issuers {
        let keys = match &issuer.keys {
            KeysConfig::Secret(secret) => JwtIssuer::with_secret(secret.reveal()),
            KeysConfig::Url(url) => {
                JwtIssuer::with_keys(Arc::new(KeyUrl { client: HttpClient::new()?, url: url.clone() }))
            }
            KeysConfig::Table => {
                JwtIssuer::with_keys(sessions.map(Sessions::keys).ok_or("a table without a database")?)
            }
        };
        issuers.push(keys.named(issuer.issuer.clone()).for_audiences(issuer.audiences.clone()));
    }
    Ok((!issuers.is_empty()).then(|| JwtVerifier::new(issuers)))
}

impl Changes {
    /// Has open sessions judged again when the database says that something about them has changed; for ever.
    pub async fn follow(self, hub: Hub) {
        if self.install
            && let Err(error) = self.listener.install().await
        {
            tracing::error!(error = chain(&*error), "WS_AUTH_LISTEN=install: the triggers cannot be made");
        }
        let (sender, mut receiver) = mpsc::channel(CHANGES_MAX);
        let listener = self.listener;
        let listening = async move {
            listener
                .listen(|change| {
                    // A full channel holds enough to have everything looked at.
                    let _ = sender.try_send(change);
                })
                .await;
        };
        let looking = async {
            let mut changes = Vec::new();
            while receiver.recv_many(&mut changes, CHANGES_MAX).await > 0 {
                recheck(&hub, &mut changes).await;
            }
        };
        tokio::join!(listening, looking);
    }
}

async fn recheck(hub: &Hub, changes: &mut Vec<AuthChange>) {
    if changes.len() >= CHANGES_MAX || changes.contains(&AuthChange::Unknown) {
        changes.clear();
        hub.recheck(&Selector::All).await;
        return;
    }
    while let Some(change) = changes.pop() {
        // A logout touches many rows of one user.
        changes.retain(|other| *other != change);
        let whom = match change {
            AuthChange::User(id) => Selector::User(id),
            AuthChange::Session(id) => Selector::Login(id),
            AuthChange::Unknown => Selector::All,
        };
        hub.recheck(&whom).await;
    }
}
