//! The standalone server: a listener, HTTP and WebSockets around a [`Hub`]. [`run`] serves until it is told
//! to stop; `main` adds the command line, the log and signals, the C library calls it as it is.
//!
//! The parts: `config` (what the server is told), `logging`, `listener` and `stream` (sockets), `http`
//! (routes and the WebSocket handshake), `websocket` (an upgraded socket as the hub's transport), `health`
//! and `metrics`, `playground`, `supervisor` (PM2), `stores` (the parts of the engine that settings name),
//! `state` (the directory of the server's own files), `upkeep` (what the store needs while it serves).

#![deny(unsafe_code)]

pub mod admin;
pub mod admission;
pub mod authenticators;
pub mod client;
mod clock;
pub mod command_line;
pub mod commands;
pub mod config;
pub mod engine;
pub mod front;
mod gate;
pub mod health;
pub mod http;
pub mod listener;
pub mod logging;
mod metrics;
pub mod origin;
pub mod peer;
mod playground;
pub mod process;
mod state;
pub mod stores;
pub mod supervisor;
mod upkeep;
pub mod webhook;

pub use fidibus_socket::{stream, websocket};

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::config::AckMode;
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{Hub, ShutdownReport};
use tokio::sync::watch;
use tokio::task::JoinSet;

use config::{AuthChoice, ServerConfig};
use engine::Engine;
use front::Front;
use listener::{BindError, Listener};

/// Closes are spread over this long, so that the clients of one office do not all come back at once.
const CLOSE_SPREAD: Duration = Duration::from_millis(500);

/// The bound sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// Where clients connect.
    pub main: Listener,
    /// Where health and metrics are asked for.
    pub health: Option<Listener>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// One that names the setting.
    pub async fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let main = Listener::bind(&config.listen).await?;
        let health =
            config.health.map(|address| listener::bind_tcp("WS_HEALTH_PORT", address)).transpose()?;
        Ok(Self { main, health: health.map(Listener::Tcp) })
    }
}

impl From<Listener> for Listeners {
    fn from(main: Listener) -> Self {
        Self { main, health: None }
    }
}

/// Serves until `shutdown` ends; then closes all sockets with 1012, saves all documents, and says which
/// could not be saved within the deadline of the configuration.
pub async fn run(
    listeners: impl Into<Listeners>,
    engine: impl Into<Engine>,
    config: &ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> ShutdownReport {
    let Listeners { main, health } = listeners.into();
    // The rest of the engine lives until the end of this call: its tasks, and its hold on the state directory.
    let engine = engine.into();
    let hub = engine.hub.clone();
    let front = Arc::new(Front::new(hub.clone(), engine.spool.clone(), config.http.clone()));
    let (stop_main, main_stopped) = watch::channel(false);
    let (stop_health, health_stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    announce(&main, health.as_ref(), &hub, config);
    if let Some(port) = main.port() {
        hub.listening(port).await;
    }
    servers.spawn(http::accept(main, Arc::clone(&front), main_stopped));
    if let Some(health) = health {
        servers.spawn(health::serve(health, Arc::clone(&front), health_stopped));
    }
    shutdown.await;
    front.drain();
    stop_main.send_replace(true);
    let report = hub.shutdown(config.shutdown_deadline, CLOSE_SPREAD, CloseReason::SERVICE_RESTART).await;
    // Health is answered to the end: a monitor that finds nobody would start a second server.
    stop_health.send_replace(true);
    servers.join_all().await;
    drop(engine);
    report
}

/// The lines that the deployment guide looks for, word for word, and what an operator must know.
fn announce(main: &Listener, health: Option<&Listener>, hub: &Hub, config: &ServerConfig) {
    if matches!(config.auth, AuthChoice::None { implied: true }) {
        tracing::warn!(
            "WS_AUTH is not set: everybody may read and write every document. This is for development, so the server listens on loopback only unless WS_HOST says otherwise"
        );
    }
    tracing::info!("Hocuspocus server started");
    match main.port() {
        Some(port) => tracing::info!(port, "WebSocket server listening"),
        None => tracing::info!(host = %config.listen, "WebSocket server listening"),
    }
    if let Some(port) = health.and_then(Listener::port) {
        tracing::info!(port, "Health check server listening");
    }
    tracing::info!(store = hub.store().name(), ack = ack_name(hub.ack_mode()), "Updates are acknowledged");
}

/// How an ack mode is called in the configuration, in `/health` and in the log.
fn ack_name(mode: AckMode) -> &'static str {
    match mode {
        AckMode::Commit => "commit",
        AckMode::Memory => "memory",
    }
}
