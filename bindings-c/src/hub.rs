//! The hub: makes it of its configuration, owns the threads that it runs on, and ends both.

use std::ffi::c_char;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fidibus_core::config::AckMode;
use fidibus_core::error::{CloseReason, StoreError};
use fidibus_core::hub::Hub;
use fidibus_core::id::DocumentName;
use fidibus_core::store::{DocumentStore, MemoryStore, SqliteOptions, SqliteStore};
use fidibus_core::store::{MigrationMode, PostgresOptions, PostgresStore};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

use crate::border::{quietly, run};
use crate::callback;
use crate::config::{Config, fidibus_config};
use crate::document::Document;
use crate::handle::{self, arc_handle, output};
use crate::metrics::{self, fidibus_metrics};
use crate::names::fidibus_names;
use crate::status::{Failure, fidibus_status};
use crate::text::{self, fidibus_buffer};

/// A sync server without a listener, with threads of its own. Any thread may use it at any time.
pub struct fidibus_hub {
    _private: [u8; 0],
}

arc_handle!(fidibus_hub(Engine));

/// A hub with its runtime.
pub(crate) struct Engine {
    hub: Hub,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    /// Open documents keep rooms loaded, which a shutdown must not wait for.
    documents: Mutex<Vec<Weak<Document>>>,
    ended: AtomicBool,
    shutdown_deadline: Duration,
}

/// How long threads may take to end after all is saved.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

impl Engine {
    fn start(config: &Config) -> Result<Arc<Self>, Failure> {
        if callback::is_inside() {
            return Err(fidibus_status::InCallback.into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.values.worker_threads as usize)
            .thread_name("fidibus")
            .enable_all()
            .build()
            .map_err(|error| Failure::of(fidibus_status::Resources, &error))?;
        let hub = runtime.block_on(build(config))?;
        Ok(Arc::new(Self {
            hub,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            documents: Mutex::default(),
            ended: AtomicBool::new(false),
            shutdown_deadline: config.values.shutdown_deadline,
        }))
    }

    /// The hub, while it is not shut down.
    pub(crate) fn hub(&self) -> Result<&Hub, Failure> {
        if self.ended.load(Ordering::Acquire) {
            return Err(fidibus_status::ShuttingDown.into());
        }
        Ok(&self.hub)
    }

    /// Where the hub's tasks run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Waits for something of the hub's.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        callback::block_on(&self.handle, future)
    }

    /// Closes this document when the hub shuts down.
    pub(crate) fn remember(&self, document: &Arc<Document>) {
        let mut documents = lock(&self.documents);
        documents.retain(|known| known.strong_count() > 0);
        documents.push(Arc::downgrade(document));
    }

    /// Takes nothing on any more, and lets documents go, since a shutdown would wait for them. `false`: it
    /// was so before.
    pub(crate) fn retire(&self) -> bool {
        if self.ended.swap(true, Ordering::AcqRel) {
            return false;
        }
        for document in std::mem::take(&mut *lock(&self.documents)) {
            if let Some(document) = document.upgrade() {
                document.close();
            }
        }
        true
    }

    fn shutdown(&self, deadline: Duration, spread: Duration) -> Result<Vec<DocumentName>, Failure> {
        if callback::is_inside() {
            return Err(fidibus_status::InCallback.into());
        }
        if !self.retire() {
            return Err(fidibus_status::ShuttingDown.into());
        }
        let report = self.block_on(self.hub.shutdown(deadline, spread, CloseReason::SERVICE_RESTART))?;
        Ok(report.unsaved)
    }

    /// Ends everything; what could not be saved is in the log by now.
    fn end(&self) {
        // Shut down before: then there is nothing to do for it.
        let _ = self.shutdown(self.shutdown_deadline, Duration::ZERO);
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_timeout(RUNTIME_GRACE);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn build(config: &Config) -> Result<Hub, Failure> {
    let store: Arc<dyn DocumentStore> = match &config.store {
        Some(store) => Arc::new(store.clone()),
        None => open_store(&config.values.store).await?,
    };
    let mut builder = Hub::builder(config.values.engine.clone()).store(store);
    if let Some(authenticator) = &config.authenticator {
        builder = builder.authenticator(Arc::clone(authenticator));
    }
    let extensions = config.extensions.iter().cloned();
    Ok(extensions.fold(builder, |builder, extension| builder.extension(Arc::new(extension))).build())
}

async fn open_store(url: &str) -> Result<Arc<dyn DocumentStore>, Failure> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::new()));
    }
    if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(SqliteStore::open(path, SqliteOptions::default()).await?));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        let invalid = |error: StoreError| Failure::of(fidibus_status::InvalidUrl, &error);
        let store = PostgresStore::new(url, PostgresOptions::default()).map_err(invalid)?;
        store.migrate(MigrationMode::Apply).await?;
        return Ok(Arc::new(store));
    }
    let expected = "a store is memory:, sqlite:<path> or postgres://<user>:<password>@<host>/<database>";
    Err(Failure::new(fidibus_status::InvalidUrl, expected))
}

/// Makes a hub and starts its threads. Blocks while the store is opened. Free it with fidibus_hub_free.
///
/// FIDIBUS_STATUS_INVALID_URL, FIDIBUS_STATUS_STORE: the store; FIDIBUS_STATUS_RESOURCES: threads or descriptors.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_new(
    config: *const fidibus_config,
    hub: *mut *mut fidibus_hub,
) -> fidibus_status {
    run(|| {
        let (config, out) = (handle::box_ref(config)?, output(hub)?);
        *out = handle::give_arc(Engine::start(config)?);
        Ok(())
    })
}

/// Ends the hub and frees it: closes its connections and documents, saves what is to be saved, for at most
/// shutdown_deadline_ms, and ends its threads; after fidibus_hub_shutdown only the latter. Blocks; inside of a
/// callback all of it happens on a thread of its own instead. Handles of its connections and documents
/// stay valid until they are freed, and say FIDIBUS_STATUS_CLOSED; a thread that keeps the time ends with the last of them.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_free(hub: *mut fidibus_hub) {
    quietly((), || {
        let Some(engine) = handle::take_arc(hub) else { return };
        if callback::is_inside() {
            std::thread::spawn(move || engine.end());
        } else {
            engine.end();
        }
    });
}

/// Ends all connections (1012), spread over `spread_ms` so that not all clients come back at once, closes all
/// documents, saves what is to be saved, closes the store. Blocks for at most `deadline_ms`, about.
/// `unsaved` (NULL: not wanted) gets the documents with changes that are in no store. A second time:
/// FIDIBUS_STATUS_SHUTTING_DOWN.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_shutdown(
    hub: *const fidibus_hub,
    deadline_ms: u64,
    spread_ms: u64,
    unsaved: *mut *mut fidibus_names,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let names = engine.shutdown(milliseconds(deadline_ms), milliseconds(spread_ms))?;
        if !unsaved.is_null() {
            *output(unsaved)? = handle::give_box(names);
        }
        Ok(())
    })
}

/// A year at most, so that no sum of times overflows.
fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number.min(365 * 24 * 60 * 60 * 1000))
}

/// Reads the hub's figures. `size` is sizeof(fidibus_metrics) as the caller was compiled with; a shorter one of
/// an older header gets the fields that it has.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_metrics(
    hub: *const fidibus_hub,
    metrics: *mut fidibus_metrics,
    size: usize,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let figures = fidibus_metrics::from(engine.hub.metrics());
        text::write_prefix(metrics, &figures, size)
    })
}

/// The same as JSON: one object with the fields of fidibus_metrics.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_metrics_json(
    hub: *const fidibus_hub,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (engine, out) = (handle::share_arc(hub)?, output(json)?);
        *out = serde_json::Value::from(metrics::to_json(&engine.hub.metrics())).to_string().into();
        Ok(())
    })
}

/// Whether the hub is well, as JSON: {"status":"ok","version":"0.1.0","store":"sqlite","store_reachable":true,
/// "store_microseconds":40,"ack":"commit","connections":1,"documents":1,"documents_failing":0}. status is "ok",
/// "degraded" (the store is away, or documents cannot be stored) or "shutting-down". Blocks for 2 s at most.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_health_json(
    hub: *const fidibus_hub,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (engine, out) = (handle::share_arc(hub)?, output(json)?);
        let ended = engine.hub().is_err();
        let ping = if ended { None } else { engine.block_on(engine.hub.ping_store(PING_TIMEOUT))?.ok() };
        let figures = engine.hub.metrics();
        let status = match (ended, ping) {
            (true, _) => "shutting-down",
            (false, Some(_)) if figures.documents_failing == 0 => "ok",
            _ => "degraded",
        };
        let health = json!({
            "status": status,
            "version": env!("CARGO_PKG_VERSION"),
            "store": engine.hub.store().name(),
            "store_reachable": ping.is_some(),
            "store_microseconds": ping.map(|time| time.as_micros() as u64),
            "ack": match engine.hub.ack_mode() {
                AckMode::Commit => "commit",
                AckMode::Memory => "memory",
            },
            "connections": figures.connections_open,
            "documents": figures.documents_loaded,
            "documents_failing": figures.documents_failing,
        });
        *out = health.to_string().into();
        Ok(())
    })
}

/// The names of the documents that are loaded.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_documents(
    hub: *const fidibus_hub,
    names: *mut *mut fidibus_names,
) -> fidibus_status {
    run(|| {
        let (engine, out) = (handle::share_arc(hub)?, output(names)?);
        *out = handle::give_box(engine.hub.documents());
        Ok(())
    })
}

/// Ends the sessions of one document, or of all (NULL), with 4205. Their providers come back.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_close_connections(
    hub: *const fidibus_hub,
    document: *const c_char,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let document = if document.is_null() { None } else { Some(text::read_name(document)?) };
        engine.hub()?.close_connections(document.as_ref());
        Ok(())
    })
}

/// Sends a stateless message, UTF-8, to all Hocuspocus sessions of a document. Blocks while hooks are asked.
/// FIDIBUS_STATUS_EMPTY: the document is not loaded, so nobody is there.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_broadcast_stateless(
    hub: *const fidibus_hub,
    document: *const c_char,
    payload: *const u8,
    len: usize,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let (document, payload) = (text::read_name(document)?, text::read_text(payload, len)?);
        let sent = engine.hub()?.broadcast_stateless(&document, payload.into());
        if engine.block_on(sent)?? { Ok(()) } else { Err(fidibus_status::Empty.into()) }
    })
}
