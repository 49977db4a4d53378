//! Goal: what the server is told, it does or refuses by name. Method: layers made by hand go through
//! `ServerConfig::load`; the messages are compared whole, since an operator reads nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::time::Duration;

use fidibus_core::config::{AckMode, FlushDelay};
use fidibus_server::config::{AuthChoice, Layers, Listen, Loaded, ServerConfig, Source, StoreChoice, dotenv};
use fidibus_server::logging::LogFormat;
use tracing::Level;

fn load(environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    ServerConfig::load(Layers::new(HashMap::new(), environment, dotenv::Dotenv::default()))
        .map_err(|error| error.to_string())
}

fn config(environment: &[(&str, &str)]) -> ServerConfig {
    load(environment).unwrap().config
}

fn refusal(environment: &[(&str, &str)]) -> String {
    load(environment).map(|_| ()).unwrap_err()
}

#[test]
fn nothing_set_makes_a_development_server() {
    let config = config(&[]);
    assert_eq!(config.listen, Listen::Tcp("127.0.0.1:3001".parse().unwrap()));
    assert_eq!(config.health, Some("127.0.0.1:3002".parse().unwrap()));
    assert!(matches!(config.auth, AuthChoice::None { implied: true }));
    assert_eq!(config.storage.store, StoreChoice::Sqlite("./fidibus-data/fidibus.sqlite".into()));
    assert_eq!(config.engine.debounce, Duration::from_secs(1));
    assert_eq!(config.engine.debounce_max, Duration::from_secs(5));
    assert_eq!(config.engine.limits.document_bytes_max, 10_485_760);
    assert_eq!(config.engine.limits.message_bytes_max, 52_428_800);
    assert_eq!(config.engine.flush_delay, FlushDelay::Turn);
    assert_eq!(config.engine.awareness_delay, Duration::from_millis(16));
    assert_eq!(config.engine.ack, None);
    assert_eq!((config.log.level, config.log.format), (Level::INFO, LogFormat::Text));
    assert!(config.http.playground && !config.log.timestamps);
    assert_eq!(config.http.base_path, "/ws");
}

#[test]
fn said_outright_no_authentication_listens_for_all() {
    assert_eq!(config(&[("WS_AUTH", "none")]).listen, Listen::Tcp("0.0.0.0:3001".parse().unwrap()));
    let tokens = [("WS_AUTH", "static"), ("WS_STATIC_TOKENS", "t=u:rw")];
    assert_eq!(config(&tokens).listen, Listen::Tcp("0.0.0.0:3001".parse().unwrap()));
    assert_eq!(config(&[("WS_HOST", "::")]).listen, Listen::Tcp("[::]:3001".parse().unwrap()));
}

#[test]
fn ports_follow_each_other() {
    let ports = |environment: &[(&str, &str)]| {
        let config = config(environment);
        let Listen::Tcp(address) = config.listen else { panic!("{}", config.listen) };
        (address.port(), config.health.map(|address| address.port()))
    };
    assert_eq!(ports(&[("PORT", "8080")]), (8080, Some(8081)));
    assert_eq!(ports(&[("PORT", "8080"), ("WS_PORT", "4000")]), (4000, Some(4001)));
    assert_eq!(ports(&[("WS_PORT", "0")]), (0, Some(0)));
    assert_eq!(ports(&[("WS_HEALTH_PORT", "9")]), (3001, Some(9)));
    assert_eq!(ports(&[("WS_HEALTH_PORT", "off")]), (3001, None));
    assert_eq!(ports(&[("WS_HEALTH_PORT", "-1")]), (3001, Some(3002)));
    assert_eq!(ports(&[("WS_PORT", "")]), (3001, Some(3002)));
}

#[test]
fn a_unix_socket_has_a_path_and_a_mode() {
    let config = config(&[("WS_HOST", "unix:/run/f.sock"), ("WS_SOCKET_MODE", "600")]);
    assert_eq!(config.listen, Listen::Unix { path: "/run/f.sock".into(), mode: 0o600 });
    assert_eq!(config.health, Some("127.0.0.1:3002".parse().unwrap()));
}

#[test]
fn node_env_decides_on_defaults() {
    let production = config(&[("NODE_ENV", "production"), ("DATABASE_URL", "sqlite:a.db")]);
    assert!(!production.http.playground);
    assert_eq!(production.storage.store, StoreChoice::Sqlite("a.db".into()));
    let asked = [("NODE_ENV", "production"), ("DATABASE_URL", "memory:"), ("WS_PLAYGROUND", "yes")];
    assert!(config(&asked).http.playground);
    assert_eq!(config(&[("NODE_ENV", "development")]).log.level, Level::DEBUG);
    assert_eq!(config(&[("NODE_ENV", "development"), ("LOG_LEVEL", "WARN")]).log.level, Level::WARN);
}

#[test]
fn words_and_windows_are_read() {
    let config = config(&[
        ("WS_ACK", "memory"),
        ("WS_FLUSH_DELAY_MS", "off"),
        ("WS_AWARENESS_DELAY_MS", "0"),
        ("LOG_FORMAT", "json"),
        ("WS_DEBOUNCE_MS", "9000"),
        ("WS_BASE_PATH", "/"),
    ]);
    assert_eq!((config.engine.ack, config.engine.flush_delay), (Some(AckMode::Memory), FlushDelay::Off));
    assert_eq!(config.engine.awareness_delay, Duration::ZERO);
    assert!(config.log.timestamps);
    assert_eq!(config.engine.debounce_max, Duration::from_secs(9));
    assert_eq!(config.http.base_path, "");
}

#[test]
fn each_bad_value_is_refused_by_name() {
    for (environment, message) in [
        (&[("WS_PORT", "abc")][..], "WS_PORT is \"abc\", but must be a port from 0 to 65535"),
        (&[("PORT", "70000")], "PORT is \"70000\", but must be a port from 0 to 65535"),
        (
            &[("WS_HOST", "example.org")],
            "WS_HOST is \"example.org\", but must be an IP address or unix:/path.sock",
        ),
        (&[("WS_HOST", "unix:")], "WS_HOST is \"unix:\", but a socket's path has 1 to 96 bytes"),
        (
            &[("WS_HOST", "unix:/a"), ("WS_SOCKET_MODE", "888")],
            "WS_SOCKET_MODE is \"888\", but must be permissions in octal such as 660",
        ),
        (&[("WS_HEALTH_PORT", "3001")], "WS_HEALTH_PORT is 3001, which is the port of WS_PORT"),
        (
            &[("WS_HEALTH_PORT", "70000")],
            "WS_HEALTH_PORT is \"70000\", but must be a whole number from 0 to 65535",
        ),
        (&[("WS_PORT", "65535")], "WS_HEALTH_PORT is required: there is no port above WS_PORT=65535"),
        (
            &[("WS_AUTH", "maybe")],
            "WS_AUTH is \"maybe\", but must be one of none, static, better-auth, jwt, webhook",
        ),
        (&[("WS_AUTH", "jwt")], "WS_JWT_SECRET or WS_JWKS_URL is required with WS_AUTH=jwt"),
        (&[("WS_AUTH", "webhook")], "WS_WEBHOOK_URL is required with WS_AUTH=webhook"),
        (&[("WS_AUTH", "static")], "WS_STATIC_TOKENS is required with WS_AUTH=static"),
        (
            &[("BETTER_AUTH_SECRET", "x")],
            "WS_AUTH_DATABASE_URL or DATABASE_URL must name the database of Better Auth",
        ),
        (&[("WS_ADMIN_TOKEN", "short")], "WS_ADMIN_TOKEN is set, but must have at least 16 characters"),
        (&[("NODE_ENV", "production")], "DATABASE_URL is required for WebSocket server persistence"),
        (
            &[("DATABASE_URL", "postgresql:a:secret@b/c")],
            "DATABASE_URL is no URL; postgres://user@host/database, sqlite:path.db or memory: is expected",
        ),
        (
            &[("DATABASE_URL", "mysql://a:secret@b/c")],
            "DATABASE_URL has the scheme \"mysql\"; postgres://user@host/database, sqlite:path.db or memory: is expected",
        ),
        (
            &[("WS_SPOOL_MAX_BYTES", "1")],
            "WS_SPOOL_MAX_BYTES is \"1\", but must be a whole number from 1048576 to 1099511627776",
        ),
        (
            &[("NODE_APP_INSTANCE", "1")],
            "NODE_APP_INSTANCE is 1: PM2 starts several instances, and users of one document would not meet; \
             set instances: 1 and exec_mode: \"fork\"",
        ),
        (&[("WS_BASE_PATH", "ws")], "WS_BASE_PATH is \"ws\", but must be a path that starts with /"),
        (
            &[("WS_TRUSTED_PROXIES", "unix,nginx")],
            "WS_TRUSTED_PROXIES is \"nginx\", but must list addresses, networks or unix",
        ),
        (
            &[("WS_ALLOWED_ORIGINS", "draw.example")],
            "WS_ALLOWED_ORIGINS is \"draw.example\", but must list origins such as https://draw.example",
        ),
        (
            &[("LOG_LEVEL", "loud")],
            "LOG_LEVEL is \"loud\", but must be one of error, warn, info, debug, trace",
        ),
        (&[("LOG_FORMAT", "xml")], "LOG_FORMAT is \"xml\", but must be one of text, json"),
        (&[("WS_PLAYGROUND", "maybe")], "WS_PLAYGROUND is \"maybe\", but must be on or off"),
        (
            &[("WS_FLUSH_DELAY_MS", "-1")],
            "WS_FLUSH_DELAY_MS is \"-1\", but must be a whole number from 0 to 60000",
        ),
        (
            &[("WS_MAX_CONNECTIONS", "0")],
            "WS_MAX_CONNECTIONS is \"0\", but must be a whole number from 1 to 1000000",
        ),
    ] {
        assert_eq!(refusal(environment), message);
    }
}

#[test]
fn the_effective_configuration_tells_sources_and_no_secrets() {
    let dotenv = dotenv::parse("WS_STATIC_TOKENS=hunter2=bob:rw\nWS_AUTH=static");
    let environment = HashMap::from([("WS_DEBOUNCE_MS".to_owned(), "abc".to_owned())]);
    let flags = HashMap::from([("WS_PORT", "4000".to_owned())]);
    let loaded = ServerConfig::load(Layers::new(flags, environment, dotenv)).unwrap();
    let line = |variable: &str| {
        let value = loaded.effective.iter().find(|value| value.variable == variable).unwrap();
        (value.shown.as_str(), value.source)
    };
    assert_eq!(line("WS_PORT"), ("4000", Source::Flag));
    assert_eq!(line("WS_AUTH"), ("static", Source::Dotenv));
    assert_eq!(line("WS_STATIC_TOKENS"), ("(secret)", Source::Dotenv));
    assert_eq!(line("WS_DEBOUNCE_MS"), ("1000", Source::Default));
    assert_eq!(line("WS_HEALTH_PORT"), ("4001", Source::Default));
    assert_eq!(loaded.warnings, ["WS_DEBOUNCE_MS is \"abc\", which is no number above 0; using 1000"]);
    assert!(!format!("{:?}{:?}", loaded.effective, loaded.config).contains("hunter2"));
}
