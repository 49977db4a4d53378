//! `/health` and `/ready`, and the small server of the health port. `/health` answers 503 only where a
//! restart may help or an operator must look: a shutdown under way is neither, `/ready` tells of that.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fidibus_core::store::{SpoolFigures, SpooledStore};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::clock::iso8601;
use crate::config::HealthFormat;
use crate::front::Front;
use crate::http::{self as routes, Answer, HttpLimits, serve_http, stopped};
use crate::listener::Listener;
use crate::{admin, metrics, process};

/// How long an answer of the store is passed on.
const PROBE_VALID: Duration = Duration::from_secs(1);
/// How long the store may take; whoever asks usually waits for one second.
const PROBE_MAX: Duration = Duration::from_millis(800);
/// Sockets of the health port.
const CONNECTIONS_MAX: usize = 128;
const LIMITS: HttpLimits = HttpLimits { header_bytes_max: 8192, header_timeout: Duration::from_secs(5) };

/// Asks the store how it is: once at a time, however many want to know.
#[derive(Default)]
pub struct Probe {
    latest: Mutex<Option<(Instant, watch::Receiver<Option<Pong>>)>>,
}

/// The answer of a store.
#[derive(Clone, Copy, Debug)]
pub struct Pong {
    /// How long it took; `None`: it failed, or took too long.
    pub latency: Option<Duration>,
}

impl Probe {
    /// The store's latest answer, at most a second old.
    pub async fn store(&self, front: &Front) -> Pong {
        let mut answer = self.start_or_join(front, Instant::now());
        let pong = answer.wait_for(Option::is_some).await.ok().and_then(|pong| *pong);
        pong.unwrap_or(Pong { latency: None })
    }

    fn start_or_join(&self, front: &Front, now: Instant) -> watch::Receiver<Option<Pong>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((started, answer)) = &*latest
            && now.duration_since(*started) < PROBE_VALID
        {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let hub = front.hub.clone();
        tokio::spawn(async move {
            let latency = match hub.ping_store(PROBE_MAX).await {
                Ok(latency) => Some(latency),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "The store does not answer");
                    None
                }
            };
            sender.send_replace(Some(Pong { latency }));
        });
        *latest = Some((now, answer.clone()));
        answer
    }
}

#[derive(Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Healthy,
    /// It works, but an operator should look: some documents cannot be saved at the moment, updates wait in the
    /// spool, or rows of the log cannot be read.
    Degraded,
    Unhealthy,
}

/// The deployment guide's keys in its order; then the app's, then ours (requirements.md, C5).
#[derive(Serialize)]
struct Health<'a> {
    status: Status,
    timestamp: String,
    uptime: f64,
    database: Database,
    connections: Connections,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    more: Option<More<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Option<u64>>,
}

#[derive(Serialize)]
struct Connections {
    active: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct More<'a> {
    uptime_seconds: u64,
    memory: Memory,
    sockets: u64,
    durability: Durability<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    rss: u64,
    heap_used: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Durability<'a> {
    store: &'a str,
    ack: &'static str,
    failing_documents: u64,
    quarantined_rows: u64,
    spool: Option<Spool>,
}

/// Updates that wait for the database.
#[derive(Serialize)]
struct Spool {
    rows: u64,
    bytes: u64,
    /// Rows that cannot be read; they are kept in the file.
    unreadable: u64,
    /// Neither the database nor the spool takes updates: nothing is acknowledged.
    failing: bool,
}

impl From<SpoolFigures> for Spool {
    fn from(SpoolFigures { rows, bytes, unreadable, failing }: SpoolFigures) -> Self {
        Self { rows, bytes, unreadable, failing }
    }
}

/// Answers `/health`.
pub async fn answer(front: &Front) -> Answer {
    let pong = front.probe.store(front).await;
    let (status, body) = document(front, pong);
    let code = if status == Status::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    routes::json(code, body)
}

fn document(front: &Front, pong: Pong) -> (Status, Vec<u8>) {
    let metrics = front.hub.metrics();
    let spool = front.spool.as_ref().map(SpooledStore::figures).unwrap_or_default();
    let status = match pong.latency {
        None => Status::Unhealthy,
        Some(_) if spool.failing => Status::Unhealthy,
        Some(_) if metrics.documents_failing + metrics.quarantined_rows > 0 => Status::Degraded,
        Some(_) if spool.rows + spool.unreadable > 0 => Status::Degraded,
        Some(_) => Status::Healthy,
    };
    let uptime = front.started.elapsed();
    let latency = pong.latency.map(|latency| latency.as_millis() as u64);
    let full = front.config.health_format == HealthFormat::Full;
    let health = Health {
        status,
        timestamp: iso8601(SystemTime::now()),
        uptime: uptime.as_millis() as f64 / 1000.0,
        database: Database {
            connected: pong.latency.is_some(),
            // The guide leaves it out where there is none, the app says null (requirements.md, R24).
            latency: (full || latency.is_some()).then_some(latency),
            latency_ms: full.then_some(latency),
        },
        connections: Connections {
            active: metrics.sessions_open,
            documents: full.then_some(metrics.documents_loaded),
        },
        more: full.then(|| more(front, uptime.as_secs())),
    };
    (status, serde_json::to_vec(&health).unwrap_or_default())
}

fn more(front: &Front, uptime_seconds: u64) -> More<'_> {
    let (memory, metrics) = (process::memory(), front.hub.metrics());
    More {
        uptime_seconds,
        memory: Memory { rss: memory.resident_bytes, heap_used: memory.anonymous_bytes },
        sockets: metrics.connections_open,
        durability: Durability {
            store: front.hub.store().name(),
            ack: crate::ack_name(front.hub.ack_mode()),
            failing_documents: metrics.documents_failing,
            quarantined_rows: metrics.quarantined_rows,
            spool: front.spool.as_ref().map(|spool| spool.figures().into()),
        },
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Answers `/ready`: whether a load balancer should send new clients here.
pub async fn ready(front: &Front) -> Answer {
    let reason = if front.is_draining() {
        Some("draining")
    } else if front.probe.store(front).await.latency.is_none() {
        Some("database")
    } else {
        None
    };
    let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_vec(&Ready { ready: reason.is_none(), reason });
    routes::json(code, body.unwrap_or_default())
}

/// Serves the health port until `stop` turns true.
pub async fn serve(listener: Listener, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        // Monitors ask again; a crowd here must not cost the documents their memory.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (front, stop) = (Arc::clone(&front), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let front = Arc::clone(&front);
                async move { Ok::<_, Infallible>(route(&request, &front).await) }
            });
            serve_http(stream, service, LIMITS, stop).await;
            drop(place);
        });
    }
}

async fn route(request: &Request<Incoming>, front: &Front) -> Answer {
    if request.uri().path().starts_with(admin::PREFIX) {
        return admin::answer(request, front).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return routes::json(StatusCode::METHOD_NOT_ALLOWED, "{\"error\":\"method_not_allowed\"}");
    }
    match request.uri().path() {
        "/health" | "/healthz" | "/health/" | "/healthz/" => answer(front).await,
        "/ready" | "/ready/" => ready(front).await,
        "/metrics" => metrics::answer(front).await,
        _ => routes::not_found(),
    }
}
