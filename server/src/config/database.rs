//! Which store `DATABASE_URL` names, and the state directory.

use std::path::{Path, PathBuf};

use super::layers::{ConfigError, Layers, Source};

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// Gone when the process ends.
    Memory,
    /// One SQLite file.
    Sqlite(PathBuf),
}

/// The file in the state directory that holds the documents where nothing else is named.
const DEFAULT_FILE: &str = "fidibus.sqlite";

/// Reads `WS_STATE_DIR` and `DATABASE_URL`.
pub(super) fn read(layers: &mut Layers, production: bool) -> Result<(StoreChoice, PathBuf), ConfigError> {
    let state_dir = PathBuf::from(layers.text_or("WS_STATE_DIR", "./fidibus-data"));
    let Some((url, source)) = layers.find("DATABASE_URL") else {
        if production {
            return Err(ConfigError::new("DATABASE_URL", "is required for WebSocket server persistence"));
        }
        let path = state_dir.join(DEFAULT_FILE);
        layers.note("DATABASE_URL", format_args!("sqlite:{}", path.display()), Source::Default);
        return Ok((StoreChoice::Sqlite(path), state_dir));
    };
    let store = parse(&url)?;
    let shown = match &store {
        StoreChoice::Memory => "memory:".to_owned(),
        StoreChoice::Sqlite(path) => format!("sqlite:{}", path.display()),
    };
    layers.note("DATABASE_URL", shown, source);
    Ok((store, state_dir))
}

/// Parses a URL. Errors show its scheme only: what follows may hold a password.
fn parse(url: &str) -> Result<StoreChoice, ConfigError> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match (scheme, rest) {
        ("memory", "" | "//") | ("sqlite", ":memory:") => Ok(StoreChoice::Memory),
        ("sqlite", _) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            // The one option that URLs of sqlx often carry, and what is done anyway.
            let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
            if path.is_empty() || path.contains('?') || path.ends_with('/') {
                return Err(ConfigError::new(
                    "DATABASE_URL",
                    "must name a file, as in sqlite:./documents.db",
                ));
            }
            Ok(StoreChoice::Sqlite(Path::new(path).to_owned()))
        }
        ("postgres" | "postgresql", _) => Err(ConfigError::new(
            "DATABASE_URL",
            "names PostgreSQL, which is not in this version; sqlite:path.db and memory: are",
        )),
        ("", _) => Err(ConfigError::new("DATABASE_URL", "is no URL; sqlite:path.db or memory: is expected")),
        _ => Err(ConfigError::new(
            "DATABASE_URL",
            format_args!(
                "has the scheme \"{}\"; sqlite:path.db or memory: is expected",
                scheme.escape_debug()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_stores() {
        let sqlite = |path: &str| Ok(StoreChoice::Sqlite(path.into()));
        assert_eq!(parse("memory:"), Ok(StoreChoice::Memory));
        assert_eq!(parse("sqlite::memory:"), Ok(StoreChoice::Memory));
        assert_eq!(parse("sqlite:a.db"), sqlite("a.db"));
        assert_eq!(parse("sqlite://a.db?mode=rwc"), sqlite("a.db"));
        assert_eq!(parse("sqlite:///var/a.db"), sqlite("/var/a.db"));
    }

    #[test]
    fn errors_show_no_password() {
        for url in [
            "postgres://me:hunter2@db/x",
            "mysql://me:hunter2@db/x",
            "hunter2",
            "sqlite:",
            "sqlite:a?b=hunter2",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.starts_with("DATABASE_URL ") && !error.contains("hunter2"), "{error}");
        }
    }
}
