//! The server's configuration: parsed once at start into types, so that nothing later can be wrong with
//! it. `setting` is the table of names, `layers` says where values come from, `address` and `database`
//! parse what has a form of its own.

mod access;
mod address;
mod database;
pub mod dotenv;
mod layers;
mod setting;
mod webhook;

pub use access::{
    AuthChoice, DocumentsConfig, IssuerConfig, KeysConfig, ListenChoice, RedisConfig, SessionsConfig,
    TokenConfig,
};
pub use address::Listen;
pub use database::{DatabaseUrl, PoolConfig, StorageConfig, StoreChoice};
pub use layers::{ConfigError, Effective, Layers, Source};
pub use setting::{SETTINGS, Setting};
pub use webhook::{DocumentForm, WebhookConfig, WebhookEvent};

use std::net::SocketAddr;
use std::time::Duration;

use fidibus_core::auth::throttle::ThrottleLimits;
use fidibus_core::config::{AckMode, Config, FlushDelay, Limits};
use fidibus_core::protocol::Dialect;

use crate::admission::AdmissionLimits;
use crate::client::Secret;
use crate::logging::{LogConfig, LogFormat};
use crate::origin::AllowedOrigins;
use crate::peer::TrustedProxies;

const MIB: u64 = 1024 * 1024;
/// Longest time that any setting in milliseconds may have: a day.
const MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Everything that the server is told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where clients connect.
    pub listen: Listen,
    /// How their HTTP requests and sockets are treated.
    pub http: HttpConfig,
    /// Where health and metrics are served; `None`: only on the main port.
    pub health: Option<SocketAddr>,
    /// Who decides on access.
    pub auth: AuthChoice,
    /// Which application is told and asked beside.
    pub webhook: Option<WebhookConfig>,
    /// Where documents live.
    pub storage: StorageConfig,
    /// What the engine is told.
    pub engine: Config,
    /// What is logged, and how.
    pub log: LogConfig,
    /// How long a shutdown may take.
    pub shutdown_deadline: Duration,
}

/// How HTTP requests and WebSockets are served.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Taken off the front of a path, without a slash at its end; empty for none.
    pub base_path: String,
    /// Sockets served at once.
    pub connections_max: usize,
    /// Size of a request's head.
    pub header_bytes_max: usize,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// Silence after which a WebSocket is pinged.
    pub ping_interval: Duration,
    /// Size of one WebSocket message.
    pub message_bytes_max: usize,
    /// Whose forwarding headers count.
    pub trusted_proxies: TrustedProxies,
    /// Whose pages may connect.
    pub allowed_origins: AllowedOrigins,
    /// Whether the playground is served.
    pub playground: bool,
    /// What the health document holds.
    pub health_format: HealthFormat,
    /// What one address may.
    pub admission: AdmissionLimits,
    /// Whether a client that is not let in is told so by HTTP, instead of by a close code.
    pub rejects_by_http: bool,
    /// The token of the admin calls; `None`: there are none.
    pub admin_token: Option<Secret>,
}

/// The two forms of the health document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthFormat {
    /// The deployment guide's keys first, then the app's and ours.
    Full,
    /// The deployment guide's keys only.
    Seed,
}

/// A configuration, and what there is to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: ServerConfig,
    /// Its values, one by one.
    pub effective: Vec<Effective>,
    /// What should be logged once there is a log.
    pub warnings: Vec<String>,
}

impl ServerConfig {
    /// Reads a configuration from its layers.
    ///
    /// # Errors
    /// The first value that the server cannot start with.
    pub fn load(mut layers: Layers) -> Result<Loaded, ConfigError> {
        let environment = layers.text("NODE_ENV").unwrap_or_default();
        let production = environment == "production";
        let auth = access::read(&mut layers)?;
        let webhook = match &auth {
            AuthChoice::Webhook(config) => Some(config.clone()),
            _ => webhook::read(&mut layers)?,
        };
        let listen = Listen::read(&mut layers, &auth)?;
        let health = address::health(&mut layers, &listen)?;
        let message_bytes_max = size(layers.number("WS_MAX_MESSAGE_BYTES", 50 * MIB, 1024..=1024 * MIB)?);
        let http = http(&mut layers, production, message_bytes_max)?;
        let storage = database::read(&mut layers, production)?;
        let engine = engine(&mut layers, &auth, message_bytes_max, production)?;
        let log = log(&mut layers, &environment)?;
        let shutdown_deadline = millis(layers.number("WS_SHUTDOWN_DEADLINE_MS", 8000, 100..=600_000)?);
        refuse_further_instances(&mut layers)?;
        let config = Self { listen, http, health, auth, webhook, storage, engine, log, shutdown_deadline };
        let (effective, warnings) = layers.finish();
        Ok(Loaded { config, effective, warnings })
    }
}

/// PM2 numbers the instances of a program. Each would load the documents for itself: what is stored stays
/// whole, but users of one document would not see each other.
fn refuse_further_instances(layers: &mut Layers) -> Result<(), ConfigError> {
    match layers.text("NODE_APP_INSTANCE") {
        Some(number) if number != "0" => Err(ConfigError::new(
            "NODE_APP_INSTANCE",
            format_args!(
                "is {}: PM2 starts several instances, and users of one document would not meet; set instances: 1 and exec_mode: \"fork\"",
                number.escape_debug()
            ),
        )),
        _ => Ok(()),
    }
}

/// Reads the token of the admin calls.
fn admin_token(layers: &mut Layers) -> Result<Option<Secret>, ConfigError> {
    match layers.text("WS_ADMIN_TOKEN") {
        Some(token) if token.len() < 16 => {
            Err(ConfigError::bad("WS_ADMIN_TOKEN", &token, "must have at least 16 characters"))
        }
        token => Ok(token.map(Secret::new)),
    }
}

/// What one address may.
fn admission(layers: &mut Layers, connections_max: usize) -> Result<AdmissionLimits, ConfigError> {
    let per_ip = layers.number("WS_MAX_CONNECTIONS_PER_IP", connections_max as u64, 1..=1_000_000)?;
    let ban = millis(layers.number("WS_CONNECT_BAN_MS", 300_000, 1000..=MS_MAX)?);
    let hits_max = optional(layers, "WS_MAX_CONNECTS_PER_MINUTE", None, 1_000_000)?;
    let connects = hits_max.map(|hits_max| ThrottleLimits {
        hits_max: u32::try_from(hits_max).unwrap_or(u32::MAX),
        window: Duration::from_secs(60),
        ban,
        addresses_max: 100_000,
    });
    Ok(AdmissionLimits { connections_per_ip_max: size(per_ip), connects })
}

/// Reads a number or `off`.
fn optional(
    layers: &mut Layers,
    variable: &'static str,
    default: Option<u64>,
    max: u64,
) -> Result<Option<u64>, ConfigError> {
    match layers.find(variable) {
        Some((text, source)) if text.eq_ignore_ascii_case("off") => {
            layers.note(variable, "off", source);
            Ok(None)
        }
        Some(_) => layers.number(variable, 1, 1..=max).map(Some),
        None => {
            let shown = default.map_or("off".to_owned(), |number| number.to_string());
            layers.note(variable, shown, Source::Default);
            Ok(default)
        }
    }
}

fn http(layers: &mut Layers, production: bool, message_bytes_max: usize) -> Result<HttpConfig, ConfigError> {
    let base_path = layers.text_or("WS_BASE_PATH", "/ws");
    if !base_path.starts_with('/') || base_path.contains(['?', '#', ' ']) {
        return Err(ConfigError::bad("WS_BASE_PATH", &base_path, "must be a path that starts with /"));
    }
    let proxies = layers.list("WS_TRUSTED_PROXIES", "127.0.0.0/8,::1,unix");
    let origins = layers.list("WS_ALLOWED_ORIGINS", "");
    let connections_max = size(layers.number("WS_MAX_CONNECTIONS", 20_000, 1..=1_000_000)?);
    Ok(HttpConfig {
        base_path: base_path.trim_end_matches('/').to_owned(),
        connections_max,
        admission: admission(layers, connections_max)?,
        admin_token: admin_token(layers)?,
        rejects_by_http: layers.choice("WS_AUTH_REJECT", "close", &[("close", false), ("http", true)])?,
        // hyper reads heads into a buffer of at least 8 KiB.
        header_bytes_max: size(layers.number("WS_MAX_HEADER_BYTES", 16 * 1024, 8192..=MIB)?),
        header_timeout: millis(layers.number("WS_HEADER_TIMEOUT_MS", 10_000, 100..=600_000)?),
        ping_interval: millis(layers.number("WS_PING_INTERVAL_MS", 25_000, 100..=MS_MAX)?),
        message_bytes_max,
        trusted_proxies: TrustedProxies::parse(&proxies).map_err(|entry| {
            ConfigError::bad("WS_TRUSTED_PROXIES", &entry, "must list addresses, networks or unix")
        })?,
        allowed_origins: AllowedOrigins::parse(&origins).map_err(|entry| {
            ConfigError::bad("WS_ALLOWED_ORIGINS", &entry, "must list origins such as https://draw.example")
        })?,
        playground: layers.switch("WS_PLAYGROUND", !production)?,
        health_format: layers.choice(
            "WS_HEALTH_FORMAT",
            "full",
            &[("full", HealthFormat::Full), ("seed", HealthFormat::Seed)],
        )?,
    })
}

fn engine(
    layers: &mut Layers,
    auth: &AuthChoice,
    message_bytes_max: usize,
    production: bool,
) -> Result<Config, ConfigError> {
    let dialects = [
        ("auto", None),
        ("hocuspocus", Some(Dialect::Hocuspocus)),
        ("y-websocket", Some(Dialect::YWebsocket)),
    ];
    let acks = [("commit", Some(AckMode::Commit)), ("memory", Some(AckMode::Memory)), ("auto", None)];
    let debounce = millis(layers.lenient_number("WS_DEBOUNCE_MS", 1000, 1..=MS_MAX)?);
    let debounce_max = millis(layers.lenient_number("WS_MAX_DEBOUNCE_MS", 5000, 1..=MS_MAX)?);
    let timeout_ms = layers.number("WS_TIMEOUT_MS", 60_000, 100..=MS_MAX)?;
    // Whoever asks for credentials need not wait long for them.
    let open = matches!(auth, AuthChoice::None { .. });
    let unauthenticated_ms = if open { timeout_ms } else { timeout_ms.min(10_000) };
    let unauthenticated_ms = layers.number("WS_AUTH_TIMEOUT_MS", unauthenticated_ms, 100..=MS_MAX)?;
    let document_bytes_max = layers.lenient_number("WS_MAX_DOCUMENT_BYTES", 10 * MIB, 1024..=1024 * MIB)?;
    Ok(Config {
        dialect: layers.choice("WS_PROTOCOL", "auto", &dialects)?,
        // Providers of 2.x that have no token send no Auth message; their handshake may hold a credential all
        // the same. Where only tokens count that a program knows, what they send waits for one, as Hocuspocus
        // has it with an onAuthenticate hook.
        token_optional: !matches!(auth, AuthChoice::Static(_)),
        timeout: millis(timeout_ms),
        debounce,
        // The app lets both be set apart; a maximum below the debounce would never let it run out.
        debounce_max: debounce_max.max(debounce),
        flush_delay: flush_delay(layers)?,
        awareness_delay: millis(layers.number("WS_AWARENESS_DELAY_MS", 16, 0..=1000)?),
        ack: layers.choice("WS_ACK", "auto", &acks)?,
        limits: Limits {
            document_bytes_max: size(document_bytes_max),
            message_bytes_max,
            unauthenticated_max: Some(millis(unauthenticated_ms)),
            ..limits(layers, production)?
        },
        ..Config::default()
    })
}

fn limits(layers: &mut Layers, production: bool) -> Result<Limits, ConfigError> {
    // In development whoever floods the server is its owner.
    let (updates, bytes) = if production { (Some(100), Some(8 * MIB)) } else { (None, None) };
    let updates = optional(layers, "WS_MAX_UPDATES_PER_SECOND", updates, 1_000_000)?;
    let bytes = optional(layers, "WS_MAX_BYTES_PER_SECOND", bytes, 1024 * MIB)?;
    Ok(Limits {
        connections_per_user_max: size(layers.number("WS_MAX_CONNECTIONS_PER_USER", 100, 1..=1_000_000)?),
        sessions_per_connection_max: size(layers.number(
            "WS_MAX_DOCUMENTS_PER_CONNECTION",
            1000,
            1..=1_000_000,
        )?),
        awareness_bytes_max: size(layers.number("WS_MAX_AWARENESS_BYTES", MIB, 1024..=64 * MIB)?),
        updates_per_second_max: updates.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        bytes_per_second_max: bytes.map(size),
        push_max: millis(layers.number("WS_MAX_PUSH_MS", 30_000, 1000..=MS_MAX)?),
        outbox_bytes_max: size(layers.number("WS_MAX_OUTBOX_BYTES", MIB, 64 * 1024..=1024 * MIB)?),
        stall_max: millis(layers.number("WS_STALL_MS", 30_000, 100..=MS_MAX)?),
        ..Limits::default()
    })
}

fn flush_delay(layers: &mut Layers) -> Result<FlushDelay, ConfigError> {
    if let Some((text, source)) = layers.find("WS_FLUSH_DELAY_MS")
        && text.eq_ignore_ascii_case("off")
    {
        layers.note("WS_FLUSH_DELAY_MS", "off", source);
        return Ok(FlushDelay::Off);
    }
    let delay = layers.number("WS_FLUSH_DELAY_MS", 0, 0..=60_000)?;
    Ok(if delay == 0 { FlushDelay::Turn } else { FlushDelay::Window(millis(delay)) })
}

fn log(layers: &mut Layers, environment: &str) -> Result<LogConfig, ConfigError> {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let default = if environment == "development" { "debug" } else { "info" };
    let level = layers.choice("LOG_LEVEL", default, &levels)?;
    let format =
        layers.choice("LOG_FORMAT", "text", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
    let timestamps = layers.switch("LOG_TIMESTAMPS", format == LogFormat::Json)?;
    Ok(LogConfig { level, format, timestamps })
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
