//! The program `fidibus`: command line, log, signals and exit codes around `fidibus_server::run`. It ends
//! with 0 after a clean shutdown, 1 when something went wrong while it ran or could not be saved, 2 when
//! the configuration is of no use.

mod allocator;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use fidibus_core::hub::ShutdownReport;
use fidibus_server::command_line::{Invocation, Wish, command};
use fidibus_server::commands::{self, CommandError};
use fidibus_server::config::{ConfigError, Effective, Layers, Loaded, ServerConfig, Source, dotenv};
use fidibus_server::listener::BindError;
use fidibus_server::stores::SetUpError;
use fidibus_server::supervisor::Supervisor;
use fidibus_server::{Listeners, logging, process, run, stores};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that come together are one wish: PM2 signals every process of the tree, and a wrapper passes its
/// own on as well.
const DUPLICATES: Duration = Duration::from_secs(1);

/// Why the program ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(".env cannot be read")]
    Dotenv(#[source] std::io::Error),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Dotenv(_) => ExitCode::from(2),
            Self::Command(error) => error.exit_code(),
            Self::SetUp(_) | Self::Bind(_) | Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let invocation = match Invocation::from_matches(&command().get_matches()) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    };
    match start(invocation) {
        Ok(code) => code,
        Err(failure @ Failure::Command(CommandError::Closed)) => failure.exit_code(),
        Err(failure) => {
            eprintln!("fidibus: {}", logging::chain(&failure));
            failure.exit_code()
        }
    }
}

fn start(invocation: Invocation) -> Result<ExitCode, Failure> {
    let dotenv = dotenv::read(Path::new(".env")).map_err(Failure::Dotenv)?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let layers = Layers::new(invocation.flags, environment, dotenv);
    let runtime = || runtime().map_err(Failure::Runtime);
    if let Wish::Operate(operation) = invocation.wish {
        return Ok(runtime()?.block_on(commands::run(operation, layers))?);
    }
    let loaded = ServerConfig::load(layers)?;
    if matches!(invocation.wish, Wish::CheckConfig) {
        print_effective(&loaded);
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = runtime()?;
    let code = runtime.block_on(serve(loaded))?;
    // A hook or a store that hangs must not keep the process.
    runtime.shutdown_background();
    Ok(code)
}

fn print_effective(loaded: &Loaded) {
    let mut text = String::new();
    for value in &loaded.effective {
        let assignment = format!("{}={}", value.variable, value.shown);
        text.push_str(&format!("{assignment:<60} # {}\n", value.source));
    }
    print!("{text}");
    for warning in &loaded.warnings {
        eprintln!("fidibus: warning: {warning}");
    }
}

async fn serve(mut loaded: Loaded) -> Result<ExitCode, Failure> {
    let mut supervisor = Supervisor::from_environment();
    logging::install(loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    fit_into_descriptors(&mut loaded);
    let config = &loaded.config;
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    // Bound before the store is opened: a second server of the same place must not touch its files.
    let listeners = Listeners::bind(config).await?;
    let engine = stores::engine(config).await?;
    supervisor.report_ready().await;
    let shutdown = async {
        let wish = tokio::select! {
            name = signals.next() => name,
            () = supervisor.shutdown_requested() => "shutdown message",
        };
        tracing::info!(signal = wish, "Shutting down WebSocket server");
        tokio::spawn(exit_on_second_signal(signals));
    };
    let report = run(listeners, engine, config, shutdown).await;
    Ok(farewell(&report))
}

/// Serves no more sockets than the process may have descriptors for.
fn fit_into_descriptors(loaded: &mut Loaded) {
    let wanted = loaded.config.http.connections_max;
    let Some(room) = process::reserve_descriptors(wanted) else { return };
    let asked_for =
        |value: &Effective| value.variable == "WS_MAX_CONNECTIONS" && value.source != Source::Default;
    if loaded.effective.iter().any(asked_for) {
        tracing::warn!(
            wanted,
            room,
            "The limit on open files leaves room for fewer sockets than WS_MAX_CONNECTIONS"
        );
    }
    loaded.config.http.connections_max = room;
}

fn farewell(report: &ShutdownReport) -> ExitCode {
    if report.unsaved.is_empty() {
        tracing::info!("WebSocket shutdown complete");
        return ExitCode::SUCCESS;
    }
    let names: Vec<_> = report.unsaved.iter().map(|name| name.as_str()).collect();
    tracing::error!(documents = ?names, "WebSocket shutdown incomplete: these documents were not saved");
    ExitCode::FAILURE
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

async fn exit_on_second_signal(mut signals: Signals) {
    let first = tokio::time::Instant::now();
    loop {
        let name = signals.next().await;
        if first.elapsed() >= DUPLICATES {
            tracing::error!(signal = name, "Second signal: exiting at once, without saving");
            std::process::exit(1);
        }
    }
}

/// On one core, the scheduler that shares nothing: it is cheaper, and runs tasks in the order they were
/// woken, so that all sockets that have something are read before the rooms take their turns.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}
