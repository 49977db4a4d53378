//! The whole server in one call, for hosts that want the listener too.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::fidibus_server::config::dotenv::Dotenv;
use ::fidibus_server::config::{Layers, ServerConfig};
use ::fidibus_server::{Listeners, run as serve, stores};
use fidibus_core::hub::ShutdownReport;
use serde_json::{Map, Value};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use crate::border::{quietly, run};
use crate::callback;
use crate::handle::{self, arc_handle, output};
use crate::hub::{Engine, fidibus_hub};
use crate::names::fidibus_names;
use crate::status::{Failure, fidibus_status};
use crate::text;

/// A server that listens. Any thread may use it at any time.
pub struct fidibus_server {
    _private: [u8; 0],
}

arc_handle!(fidibus_server(Server));

/// A running server.
pub(crate) struct Server {
    port: u16,
    /// The host's hub, where it brought one.
    engine: Option<Arc<Engine>>,
    handle: Handle,
    /// Our own threads, where it brought none.
    runtime: Mutex<Option<Runtime>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    report: oneshot::Receiver<ShutdownReport>,
}

const RUNTIME_GRACE: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens and serves: WebSockets of both dialects, health and metrics. `hub` is the host's own, with its hooks
/// and stores, and shut down with the server; NULL: the server makes one of its settings, as the program
/// `fidibus` does. `address` is an IP address, `port` 0 any free one. `settings` is a JSON object of the program's
/// variables ({"WS_PING_INTERVAL_MS":10000}), or NULL; the environment is not read. Blocks while the store is
/// opened. Free it with fidibus_server_free.
///
/// FIDIBUS_STATUS_INVALID_JSON, FIDIBUS_STATUS_INVALID_ARGUMENT: the settings; FIDIBUS_STATUS_LISTEN: the address;
/// FIDIBUS_STATUS_STORE: the store, or what else the settings name.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_server_start(
    hub: *const fidibus_hub,
    address: *const c_char,
    port: u16,
    settings: *const c_char,
    server: *mut *mut fidibus_server,
) -> fidibus_status {
    run(|| {
        let engine = if hub.is_null() { None } else { Some(handle::share_arc(hub)?) };
        let (address, settings, out) =
            (text::read(address)?, text::read_optional(settings)?, output(server)?);
        let mut variables = variables(settings)?;
        variables.insert("WS_HOST".to_owned(), address.to_owned());
        variables.insert("WS_PORT".to_owned(), port.to_string());
        *out = handle::give_arc(Arc::new(start(engine, variables)?));
        Ok(())
    })
}

fn variables(settings: Option<&str>) -> Result<HashMap<String, String>, Failure> {
    let object: Map<String, Value> = serde_json::from_str(settings.unwrap_or("{}"))
        .map_err(|error| Failure::of(fidibus_status::InvalidJson, &error))?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(name, value)| (name, text(value))).collect())
}

fn start(engine: Option<Arc<Engine>>, variables: HashMap<String, String>) -> Result<Server, Failure> {
    if callback::is_inside() {
        return Err(fidibus_status::InCallback.into());
    }
    let loaded = ServerConfig::load(Layers::new(HashMap::new(), variables, Dotenv::default()))
        .map_err(|error| Failure::of(fidibus_status::InvalidArgument, &error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match engine {
        Some(_) => None,
        None => Some(Runtime::new().map_err(|error| Failure::of(fidibus_status::Resources, &error))?),
    };
    let handle = match (&engine, &runtime) {
        (Some(engine), _) => engine.runtime().clone(),
        (None, Some(runtime)) => runtime.handle().clone(),
        (None, None) => return Err(fidibus_status::Resources.into()),
    };
    let hub = engine.as_ref().map(|engine| engine.hub().cloned()).transpose()?;
    let config = loaded.config;
    let (port, running) = handle.block_on(async {
        let listeners = Listeners::bind(&config).await;
        let listeners = listeners.map_err(|error| Failure::of(fidibus_status::Listen, &error))?;
        let port = listeners.main.port().unwrap_or(0);
        let engine = match hub {
            Some(hub) => hub.into(),
            None => {
                stores::engine(&config).await.map_err(|error| Failure::of(fidibus_status::Store, &error))?
            }
        };
        let (stop, stopped) = oneshot::channel();
        let (done, report) = oneshot::channel();
        tokio::spawn(async move {
            // A server that is dropped without a word stops as well.
            let stopped = async { drop(stopped.await) };
            let report = serve(listeners, engine, &config, stopped).await;
            drop(done.send(report));
        });
        Ok::<_, Failure>((port, Running { stop, report }))
    })?;
    Ok(Server { port, engine, handle, runtime: Mutex::new(runtime), running: Mutex::new(Some(running)) })
}

/// The port that it listens on.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_server_port(server: *const fidibus_server, port: *mut u16) -> fidibus_status {
    run(|| {
        let (server, out) = (handle::share_arc(server)?, output(port)?);
        *out = server.port;
        Ok(())
    })
}

/// Stops it: no more connections, those that are open are closed (1012), documents are saved, for at most the
/// setting WS_SHUTDOWN_DEADLINE_MS. Blocks. `unsaved` (NULL: not wanted) gets the documents with changes that are
/// in no store. A second time: FIDIBUS_STATUS_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_server_stop(
    server: *const fidibus_server,
    unsaved: *mut *mut fidibus_names,
) -> fidibus_status {
    run(|| {
        let report = handle::share_arc(server)?.stop()?;
        if !unsaved.is_null() {
            *output(unsaved)? = handle::give_box(report.unsaved);
        }
        Ok(())
    })
}

/// Stops it where it runs, and frees it. Blocks; inside of a callback it happens on a thread of its own instead.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_server_free(server: *mut fidibus_server) {
    quietly((), || {
        let Some(server) = handle::take_arc(server) else { return };
        if callback::is_inside() {
            std::thread::spawn(move || server.end());
        } else {
            server.end();
        }
    });
}

impl Server {
    fn stop(&self) -> Result<ShutdownReport, Failure> {
        if callback::is_inside() {
            return Err(fidibus_status::InCallback.into());
        }
        let running = lock(&self.running).take().ok_or(fidibus_status::Closed)?;
        if let Some(engine) = &self.engine {
            engine.retire();
        }
        // Fails where it has stopped by itself.
        let _ = running.stop.send(());
        let report = callback::block_on(&self.handle, running.report)?;
        report.map_err(|_| Failure::new(fidibus_status::Closed, "the server ended by itself"))
    }

    fn end(&self) {
        // Stopped before: then there is nothing to do for it.
        let _ = self.stop();
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_timeout(RUNTIME_GRACE);
        }
    }
}
