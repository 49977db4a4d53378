//! Where documents are kept: `DATABASE_URL`, the state directory, and what belongs to them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::{ConfigError, Layers, Source};
use super::{MIB, MS_MAX, millis};

/// How documents are kept.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// In which store.
    pub store: StoreChoice,
    /// The directory for the server's own files.
    pub state_dir: PathBuf,
    /// How long folded rows of the update log are kept as history; `None`: they are deleted.
    pub history_age_max: Option<Duration>,
    /// Whether tables that are missing are made at the start.
    pub migrate: bool,
    /// Bytes of updates that are kept in the state directory while the database is away; `None`: none,
    /// nothing is acknowledged then. Only a database on a server of its own can be away.
    pub spool_bytes_max: Option<u64>,
    /// Whether updates that wait there for another database are taken over.
    pub spool_adopt: bool,
    /// Connections to a database on a server of its own.
    pub pool: PoolConfig,
}

/// Connections to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// So many at most.
    pub connections_max: u32,
    /// How long a call waits for one.
    pub connect_timeout: Duration,
    /// How long an unused one is kept.
    pub idle_timeout: Duration,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// Gone when the process ends.
    Memory,
    /// One SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(DatabaseUrl),
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// A URL that may hold a password: it shows itself without.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// All of it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands behind the last @ and before the options holds no password, however badly it is
        // escaped.
        let place = self.0.split('?').next().unwrap_or_default();
        let place = place.split_once("://").map_or("", |(_, place)| place);
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "postgres://{place}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The file in the state directory that holds the documents where nothing else is named.
const DEFAULT_FILE: &str = "fidibus.sqlite";

impl StorageConfig {
    /// Reads the settings of storage alone: what operators' commands need.
    ///
    /// # Errors
    /// The first value that is of no use.
    pub fn read(layers: &mut Layers) -> Result<Self, ConfigError> {
        let production = layers.text("NODE_ENV").is_some_and(|environment| environment == "production");
        read(layers, production)
    }
}

/// Reads the settings of storage.
pub(super) fn read(layers: &mut Layers, production: bool) -> Result<StorageConfig, ConfigError> {
    let state_dir = PathBuf::from(layers.text_or("WS_STATE_DIR", "./fidibus-data"));
    let store = store(layers, production, &state_dir)?;
    let spool = layers.switch("WS_SPOOL", true)?;
    let spool_bytes_max = layers.number("WS_SPOOL_MAX_BYTES", 4096 * MIB, MIB..=1024 * 1024 * MIB)?;
    Ok(StorageConfig {
        history_age_max: history(layers)?,
        migrate: layers.switch("WS_MIGRATE", true)?,
        spool_bytes_max: spool.then_some(spool_bytes_max),
        spool_adopt: layers.switch("WS_SPOOL_ADOPT", false)?,
        pool: PoolConfig {
            connections_max: layers
                .number("WS_DATABASE_MAX_CONNECTIONS", 10, 2..=1000)?
                .try_into()
                .unwrap_or(u32::MAX),
            connect_timeout: millis(layers.number("WS_DATABASE_CONNECT_MS", 5000, 100..=MS_MAX)?),
            idle_timeout: millis(layers.number("WS_DATABASE_IDLE_MS", 30_000, 100..=MS_MAX)?),
        },
        store,
        state_dir,
    })
}

fn store(layers: &mut Layers, production: bool, state_dir: &Path) -> Result<StoreChoice, ConfigError> {
    let Some((url, source)) = layers.find("DATABASE_URL") else {
        if production {
            return Err(ConfigError::new("DATABASE_URL", "is required for WebSocket server persistence"));
        }
        let store = StoreChoice::Sqlite(state_dir.join(DEFAULT_FILE));
        layers.note("DATABASE_URL", &store, Source::Default);
        return Ok(store);
    };
    let store = StoreChoice::parse(&url).map_err(|problem| ConfigError::new("DATABASE_URL", problem))?;
    layers.note("DATABASE_URL", &store, source);
    Ok(store)
}

fn history(layers: &mut Layers) -> Result<Option<Duration>, ConfigError> {
    /// A hundred years.
    const DAYS_MAX: u64 = 36_500;
    // The app takes whatever it does not know for off.
    let enabled = layers.switch("WS_ENABLE_UPDATE_LOG", false).unwrap_or(false);
    let days = layers.number("WS_UPDATE_LOG_RETENTION_DAYS", 90, 1..=DAYS_MAX)?;
    Ok(enabled.then_some(Duration::from_secs(days * 24 * 60 * 60)))
}

impl StoreChoice {
    /// Parses a URL.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence that names it. Of the URL it shows the scheme only:
    /// what follows may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        const EXPECTED: &str = "postgres://user@host/database, sqlite:path.db or memory: is expected";
        let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
        match (scheme, rest) {
            ("memory", "" | "//") | ("sqlite", ":memory:") => Ok(Self::Memory),
            ("sqlite", _) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                // The one option that URLs of sqlx often carry, and what is done anyway.
                let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
                if path.is_empty() || path.contains('?') || path.ends_with('/') {
                    return Err("must name a file, as in sqlite:./documents.db".to_owned());
                }
                Ok(Self::Sqlite(path.into()))
            }
            ("postgres" | "postgresql", _) if rest.starts_with("//") => {
                Ok(Self::Postgres(DatabaseUrl(url.to_owned())))
            }
            ("" | "postgres" | "postgresql", _) => Err(format!("is no URL; {EXPECTED}")),
            _ => Err(format!("has the scheme \"{}\"; {EXPECTED}", scheme.escape_debug())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_stores() {
        let sqlite = |path: &str| Ok(StoreChoice::Sqlite(path.into()));
        assert_eq!(StoreChoice::parse("memory:"), Ok(StoreChoice::Memory));
        assert_eq!(StoreChoice::parse("sqlite::memory:"), Ok(StoreChoice::Memory));
        assert_eq!(StoreChoice::parse("sqlite:a.db"), sqlite("a.db"));
        assert_eq!(StoreChoice::parse("sqlite://a.db?mode=rwc"), sqlite("a.db"));
        assert_eq!(StoreChoice::parse("sqlite:///var/a.db"), sqlite("/var/a.db"));
        let url = "postgresql://me:hunter2@db:5432/canvas?sslmode=require";
        let Ok(StoreChoice::Postgres(parsed)) = StoreChoice::parse(url) else { panic!("{url}") };
        assert_eq!(parsed.reveal(), url);
    }

    #[test]
    fn nothing_shows_a_password() {
        for url in [
            "postgres:me:hunter2@db/x",
            "mysql://me:hunter2@db/x",
            "hunter2",
            "sqlite:",
            "sqlite:a?b=hunter2",
        ] {
            let error = StoreChoice::parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for (url, shown) in [
            ("postgres://me:hunter2@db:5432/canvas", "postgres://db:5432/canvas"),
            ("postgresql://me:hunter2/@hunter2@db/canvas", "postgres://db/canvas"),
            ("postgres://db/canvas?password=hunter2", "postgres://db/canvas"),
            ("postgres://%2Frun%2Fpostgresql/canvas", "postgres://%2Frun%2Fpostgresql/canvas"),
        ] {
            let parsed = StoreChoice::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert!(!format!("{parsed:?}").contains("hunter2"));
        }
    }
}
