//! Who decides on access, and by what: `WS_AUTH` and the settings that belong to each of its choices.

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::auth::StaticTokens;
use fidibus_core::auth::better_auth::{AuthTables, Secrets};
use fidibus_core::auth::credential::CookieNames;
use fidibus_core::auth::origin::OriginRule;
use fidibus_core::auth::policy::DOCUMENT_PATTERN;
use fidibus_core::auth::role::{PermissionNames, RoleMap};
use http::Uri;
use regex_lite::Regex;

use super::database::StoreChoice;
use super::layers::{ConfigError, Layers};
use super::webhook::{self, WebhookConfig};
use super::{MS_MAX, millis};
use crate::client::{Endpoint, Secret};

/// The authenticator.
#[derive(Clone, Debug)]
pub enum AuthChoice {
    /// Nobody is asked for anything. `implied`: it was not asked for, so this is a development server.
    None {
        /// Whether it is so by default only.
        implied: bool,
    },
    /// A list of tokens.
    Static(Arc<StaticTokens>),
    /// Login sessions of Better Auth, JWTs, or both.
    Tokens(Box<TokenConfig>),
    /// The application is asked for every session.
    Webhook(WebhookConfig),
}

/// What tokens are judged by.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Better Auth's sessions.
    pub sessions: Option<SessionsConfig>,
    /// Whose JWTs count.
    pub issuers: Vec<IssuerConfig>,
    /// Names that may be opened; `None`: all.
    pub names: Option<Regex>,
    /// What roles may do.
    pub roles: RoleMap,
    /// What is asked per document.
    pub documents: Option<DocumentsConfig>,
    /// How long such an answer is remembered.
    pub documents_valid: Duration,
    /// From where cookies count.
    pub origins: OriginRule,
    /// How often open sessions are judged again.
    pub recheck_interval: Duration,
}

/// Better Auth's sessions.
#[derive(Clone, Debug)]
pub struct SessionsConfig {
    /// Its database.
    pub database: StoreChoice,
    /// Its secondary storage; `None`: sessions are in the database.
    pub redis: Option<RedisConfig>,
    /// Connections to it.
    pub connections_max: u32,
    /// Its tables.
    pub tables: AuthTables,
    /// Its secrets.
    pub secrets: Secrets,
    /// Its cookies.
    pub cookies: CookieNames,
    /// Whether raw tokens are refused.
    pub signed_only: bool,
    /// Whether the database tells of changes.
    pub listen: ListenChoice,
}

/// Better Auth's secondary storage.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is; may hold a password.
    pub url: Secret,
    /// What its keys begin with.
    pub prefix: String,
}

/// Whether the database tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenChoice {
    /// It is asked now and then.
    Off,
    /// Triggers are there already.
    Listen,
    /// Triggers are made at the start.
    Install,
}

/// An issuer of JWTs.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Its keys.
    pub keys: KeysConfig,
    /// What it calls itself; `None`: anything.
    pub issuer: Option<String>,
    /// For whom its tokens are made; empty: for anybody.
    pub audiences: Vec<String>,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub enum KeysConfig {
    /// A secret shared with it.
    Secret(Secret),
    /// Published there.
    Url(Uri),
    /// In Better Auth's table.
    Table,
}

/// What is asked per document.
#[derive(Clone, Debug)]
pub enum DocumentsConfig {
    /// The database of the sessions, with this query.
    Query(String),
    /// The application.
    Call(Endpoint),
}

/// Reads `WS_AUTH` and what belongs to it.
pub(super) fn read(layers: &mut Layers) -> Result<AuthChoice, ConfigError> {
    let implied = layers.find("WS_AUTH").is_none();
    let secrets = ["BETTER_AUTH_SECRETS", "BETTER_AUTH_SECRET"];
    let has_secret = secrets.iter().any(|name| layers.find(name).is_some());
    let default = if has_secret { "better-auth" } else { "none" };
    let words = ["none", "static", "better-auth", "jwt", "webhook"].map(|word| (word, word));
    match layers.choice("WS_AUTH", default, &words)? {
        "none" => Ok(AuthChoice::None { implied }),
        "static" => match layers.text("WS_STATIC_TOKENS") {
            Some(tokens) => StaticTokens::parse(&tokens)
                .map(|tokens| AuthChoice::Static(Arc::new(tokens)))
                .map_err(|error| ConfigError::bad("WS_STATIC_TOKENS", &tokens, error)),
            None => Err(ConfigError::new("WS_STATIC_TOKENS", "is required with WS_AUTH=static")),
        },
        "webhook" => match webhook::read(layers)? {
            Some(config) => Ok(AuthChoice::Webhook(config)),
            None => Err(ConfigError::new("WS_WEBHOOK_URL", "is required with WS_AUTH=webhook")),
        },
        "jwt" => tokens(layers, None),
        _ => {
            let sessions = sessions(layers)?;
            tokens(layers, Some(sessions))
        }
    }
}

fn tokens(layers: &mut Layers, sessions: Option<SessionsConfig>) -> Result<AuthChoice, ConfigError> {
    let issuers = issuers(layers, sessions.is_some())?;
    if sessions.is_none() && issuers.is_empty() {
        let problem = "or WS_JWKS_URL is required with WS_AUTH=jwt";
        return Err(ConfigError::new("WS_JWT_SECRET", problem));
    }
    let recheck = layers.number("WS_AUTH_RECHECK_MS", 60_000, 1000..=MS_MAX)?;
    let documents = documents(layers, sessions.is_some())?;
    let valid = layers.number("WS_ACCESS_CACHE_MS", 10_000, 0..=MS_MAX)?;
    Ok(AuthChoice::Tokens(Box::new(TokenConfig {
        issuers,
        names: names(layers)?,
        roles: roles(layers)?,
        documents,
        documents_valid: millis(valid),
        origins: origins(layers),
        recheck_interval: millis(recheck),
        sessions,
    })))
}

fn sessions(layers: &mut Layers) -> Result<SessionsConfig, ConfigError> {
    let database = database(layers)?;
    let listen =
        [("off", ListenChoice::Off), ("on", ListenChoice::Listen), ("install", ListenChoice::Install)];
    let listen = layers.choice("WS_AUTH_LISTEN", "off", &listen)?;
    if listen != ListenChoice::Off && !matches!(database, StoreChoice::Postgres(_)) {
        return Err(ConfigError::new("WS_AUTH_LISTEN", "works with PostgreSQL only"));
    }
    let redis = redis(layers)?;
    if redis.is_some() && listen != ListenChoice::Off {
        layers.warn(
            "WS_AUTH_LISTEN hears nothing of sessions in WS_AUTH_REDIS_URL: what changes there shows at the next check, after WS_AUTH_RECHECK_MS"
                .to_owned(),
        );
    }
    let prefix = layers.text_or("WS_AUTH_COOKIE_PREFIX", "better-auth");
    let cookie = layers.text("WS_AUTH_COOKIE");
    let connections_max = layers.number("WS_AUTH_MAX_CONNECTIONS", 4, 1..=1000)?;
    Ok(SessionsConfig {
        database,
        redis,
        connections_max: u32::try_from(connections_max).unwrap_or(u32::MAX),
        tables: tables(layers)?,
        secrets: secrets(layers)?,
        cookies: cookie.map_or_else(|| CookieNames::with_prefix(&prefix), |name| CookieNames::named(&name)),
        signed_only: layers.switch("WS_REQUIRE_SIGNED_TOKEN", false)?,
        listen,
    })
}

fn database(layers: &mut Layers) -> Result<StoreChoice, ConfigError> {
    let named = layers.find("WS_AUTH_DATABASE_URL").map(|found| ("WS_AUTH_DATABASE_URL", found));
    let found = named.or_else(|| layers.find("DATABASE_URL").map(|found| ("DATABASE_URL", found)));
    let Some((variable, (url, source))) = found else {
        let problem = "or DATABASE_URL must name the database of Better Auth";
        return Err(ConfigError::new("WS_AUTH_DATABASE_URL", problem));
    };
    let database = StoreChoice::parse(&url).map_err(|problem| ConfigError::new(variable, problem))?;
    if variable == "WS_AUTH_DATABASE_URL" {
        layers.note(variable, &database, source);
    }
    match database {
        StoreChoice::Memory => Err(ConfigError::new(variable, "holds no sessions of Better Auth")),
        database => Ok(database),
    }
}

fn redis(layers: &mut Layers) -> Result<Option<RedisConfig>, ConfigError> {
    const VARIABLE: &str = "WS_AUTH_REDIS_URL";
    let Some(url) = layers.text(VARIABLE) else { return Ok(None) };
    if !["redis://", "rediss://", "redis+unix:///"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(ConfigError::bad(VARIABLE, &url, "must begin with redis:// or rediss://"));
    }
    let prefix = layers.text_or("WS_AUTH_REDIS_PREFIX", "better-auth:");
    // An empty value counts as not set, so there is a word for it.
    let prefix = if prefix.eq_ignore_ascii_case("none") { String::new() } else { prefix };
    Ok(Some(RedisConfig { url: Secret::new(url), prefix }))
}

fn tables(layers: &mut Layers) -> Result<AuthTables, ConfigError> {
    let mut tables = AuthTables::default();
    for (variable, default) in
        [("WS_AUTH_SESSION_TABLE", "session"), ("WS_AUTH_USER_TABLE", "user"), ("WS_AUTH_JWKS_TABLE", "jwks")]
    {
        let name = layers.text_or(variable, default);
        let named = match variable {
            "WS_AUTH_SESSION_TABLE" => tables.with_session(&name),
            "WS_AUTH_USER_TABLE" => tables.with_user(&name),
            _ => tables.with_jwks(&name),
        };
        tables = named.map_err(|error| ConfigError::bad(variable, &name, error))?;
    }
    Ok(tables)
}

fn secrets(layers: &mut Layers) -> Result<Secrets, ConfigError> {
    let single = ["BETTER_AUTH_SECRET", "AUTH_SECRET"].into_iter().find(|name| layers.find(name).is_some());
    let single = single.and_then(|variable| Some((variable, layers.text(variable)?)));
    let single = single.map(|(variable, secret)| {
        Secrets::single(&secret).map_err(|error| ConfigError::new(variable, error))
    });
    let list = layers
        .text("BETTER_AUTH_SECRETS")
        .map(|list| Secrets::list(&list).map_err(|error| ConfigError::new("BETTER_AUTH_SECRETS", error)));
    match (list.transpose()?, single.transpose()?) {
        (Some(list), Some(single)) => Ok(list.or(single)),
        (Some(secrets), None) | (None, Some(secrets)) => Ok(secrets),
        (None, None) => Err(ConfigError::new("BETTER_AUTH_SECRET", "is required with WS_AUTH=better-auth")),
    }
}

fn issuers(layers: &mut Layers, better_auth: bool) -> Result<Vec<IssuerConfig>, ConfigError> {
    let issuer = layers.text("WS_JWT_ISSUER");
    let audiences = layers.list("WS_JWT_AUDIENCE", "");
    let mut keys = Vec::new();
    if let Some(secret) = layers.text("WS_JWT_SECRET") {
        if secret.len() < 32 {
            return Err(ConfigError::bad("WS_JWT_SECRET", &secret, "must have at least 32 characters"));
        }
        keys.push(KeysConfig::Secret(Secret::new(secret)));
    }
    match url(layers, "WS_JWKS_URL")? {
        Some(url) => keys.push(KeysConfig::Url(url)),
        None if better_auth => keys.push(KeysConfig::Table),
        None => {}
    }
    let issuers = keys.into_iter();
    Ok(issuers
        .map(|keys| IssuerConfig { keys, issuer: issuer.clone(), audiences: audiences.clone() })
        .collect())
}

fn documents(layers: &mut Layers, sessions: bool) -> Result<Option<DocumentsConfig>, ConfigError> {
    let query = layers.text("WS_ACCESS_QUERY");
    let call = url(layers, "WS_ACCESS_URL")?;
    let secret = layers.text("WS_ACCESS_SECRET").map(Secret::new);
    match (query, call) {
        (Some(_), Some(_)) => {
            Err(ConfigError::new("WS_ACCESS_QUERY", "and WS_ACCESS_URL exclude each other"))
        }
        (Some(_), None) if !sessions => {
            Err(ConfigError::new("WS_ACCESS_QUERY", "needs the database of WS_AUTH=better-auth"))
        }
        (Some(query), None) => Ok(Some(DocumentsConfig::Query(query))),
        (None, Some(url)) => Ok(Some(DocumentsConfig::Call(Endpoint { url, secret }))),
        (None, None) => Ok(None),
    }
}

fn names(layers: &mut Layers) -> Result<Option<Regex>, ConfigError> {
    let pattern = layers.text_or("WS_DOCUMENT_PATTERN", DOCUMENT_PATTERN);
    if pattern == "*" {
        return Ok(None);
    }
    let regex = Regex::new(&pattern);
    regex.map(Some).map_err(|error| ConfigError::bad("WS_DOCUMENT_PATTERN", &pattern, error))
}

fn roles(layers: &mut Layers) -> Result<RoleMap, ConfigError> {
    let roles = match layers.text("WS_ROLES") {
        None => RoleMap::default(),
        Some(text) => RoleMap::parse(&text)
            .map_err(|entry| ConfigError::bad("WS_ROLES", &entry, "must be role=permission,…;role=…"))?,
    };
    let names = PermissionNames::default();
    let names = PermissionNames {
        view: layers.text_or("WS_PERMISSION_VIEW", &names.view),
        edit: layers.text_or("WS_PERMISSION_EDIT", &names.edit),
    };
    Ok(roles.with_permissions(names).with_unknown(layers.text("WS_DEFAULT_ROLE")))
}

fn origins(layers: &mut Layers) -> OriginRule {
    let own = ["BETTER_AUTH_URL", "NEXT_PUBLIC_BETTER_AUTH_URL"].map(|name| layers.text(name));
    let trusted = layers.list("BETTER_AUTH_TRUSTED_ORIGINS", "");
    // Read and noted elsewhere; `*` there means explicit tokens, never cookies.
    let allowed = layers.find("WS_ALLOWED_ORIGINS").map(|(list, _)| list).unwrap_or_default();
    let allowed = allowed.split(',').map(str::trim).filter(|origin| *origin != "*");
    let all =
        own.iter().flatten().map(String::as_str).chain(trusted.iter().map(String::as_str)).chain(allowed);
    OriginRule::new(all)
}

/// Reads a URL of HTTP or HTTPS.
pub(super) fn url(layers: &mut Layers, variable: &'static str) -> Result<Option<Uri>, ConfigError> {
    let Some((text, source)) = layers.find(variable) else { return Ok(None) };
    let url: Option<Uri> = text.parse().ok();
    let legal = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    let url = legal.ok_or_else(|| ConfigError::new(variable, "must be a URL of http or https"))?;
    // What stands behind the path may be a key.
    let shown = format!(
        "{}://{}{}",
        url.scheme_str().unwrap_or_default(),
        url.host().unwrap_or_default(),
        url.path()
    );
    layers.note(variable, shown, source);
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::dotenv::Dotenv;
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> Result<AuthChoice, String> {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut layers = Layers::new(HashMap::new(), environment, Dotenv::default());
        read(&mut layers).map_err(|error| error.to_string())
    }

    fn tokens_of(pairs: &[(&str, &str)]) -> TokenConfig {
        match read_all(pairs) {
            Ok(AuthChoice::Tokens(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    const SECRET: (&str, &str) = ("BETTER_AUTH_SECRET", "0123456789abcdef0123456789abcdef");
    const DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://me:hunter2@db/canvas");

    #[test]
    fn the_secret_selects_better_auth() {
        let config = tokens_of(&[SECRET, DATABASE]);
        let sessions = config.sessions.unwrap();
        assert!(matches!(sessions.database, StoreChoice::Postgres(_)) && !sessions.signed_only);
        assert!(matches!(&config.issuers[..], [IssuerConfig { keys: KeysConfig::Table, .. }]));
        assert!(matches!(read_all(&[SECRET, ("WS_AUTH", "none")]), Ok(AuthChoice::None { implied: false })));
        assert!(matches!(read_all(&[]), Ok(AuthChoice::None { implied: true })));
        assert!(!format!("{:?}", tokens_of(&[SECRET, DATABASE])).contains("hunter2"));
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        let public = ("BETTER_AUTH_SECRET", "better-auth-secret-12345678901234567890");
        for (pairs, variable) in [
            (vec![SECRET], "WS_AUTH_DATABASE_URL"),
            (vec![SECRET, ("DATABASE_URL", "memory:")], "DATABASE_URL"),
            (vec![public, DATABASE], "BETTER_AUTH_SECRET"),
            (vec![("WS_AUTH", "better-auth"), DATABASE], "BETTER_AUTH_SECRET"),
            (vec![("WS_AUTH", "jwt")], "WS_JWT_SECRET"),
            (vec![("WS_AUTH", "jwt"), ("WS_JWT_SECRET", "short")], "WS_JWT_SECRET"),
            (vec![("WS_AUTH", "jwt"), ("WS_JWKS_URL", "ftp://x")], "WS_JWKS_URL"),
            (vec![("WS_AUTH", "webhook")], "WS_WEBHOOK_URL"),
            (vec![SECRET, DATABASE, ("WS_ROLES", "admin")], "WS_ROLES"),
            (vec![SECRET, DATABASE, ("WS_DOCUMENT_PATTERN", "(")], "WS_DOCUMENT_PATTERN"),
            (vec![SECRET, DATABASE, ("WS_AUTH_USER_TABLE", "a.b.c")], "WS_AUTH_USER_TABLE"),
            (vec![SECRET, ("DATABASE_URL", "sqlite:a.db"), ("WS_AUTH_LISTEN", "on")], "WS_AUTH_LISTEN"),
            (vec![SECRET, DATABASE, ("WS_AUTH_REDIS_URL", "me:hunter2@cache")], "WS_AUTH_REDIS_URL"),
        ] {
            let error = read_all(&pairs).unwrap_err();
            assert!(error.starts_with(&format!("{variable} ")), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("short"), "{error}");
        }
    }

    #[test]
    fn a_secondary_storage_has_a_prefix() {
        let url = ("WS_AUTH_REDIS_URL", "redis://me:hunter2@cache:6379/1");
        let redis_of = |more: &[(&str, &str)]| {
            let config = tokens_of(&[&[SECRET, DATABASE, url][..], more].concat());
            assert!(!format!("{config:?}").contains("hunter2"));
            config.sessions.unwrap().redis.unwrap()
        };
        assert_eq!(redis_of(&[]).prefix, "better-auth:");
        assert_eq!(redis_of(&[("WS_AUTH_REDIS_PREFIX", "none")]).prefix, "");
        assert_eq!(redis_of(&[]).url.reveal(), url.1);
        assert!(tokens_of(&[SECRET, DATABASE]).sessions.unwrap().redis.is_none());
    }

    #[test]
    fn jwts_stand_alone() {
        let secret = "0123456789abcdef0123456789abcdef";
        let config = tokens_of(&[
            ("WS_AUTH", "jwt"),
            ("WS_JWT_SECRET", secret),
            ("WS_JWKS_URL", "https://id.example/jwks?key=1"),
            ("WS_JWT_AUDIENCE", "a, b"),
        ]);
        assert!(config.sessions.is_none() && config.issuers.len() == 2);
        assert_eq!(config.issuers[0].audiences, ["a", "b"]);
    }
}
