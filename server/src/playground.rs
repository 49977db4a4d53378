//! The page at `/` that shows the newcomer that it works, and the server's figures that it draws. Built
//! from `server/playground`.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::front::Front;
use crate::http::{self as routes, Answer};
use crate::process;

static PAGE: &[u8] = include_bytes!("../playground/dist/index.html");
const POLICY: &str = include_str!("../playground/dist/csp.txt");

/// The page.
pub fn page() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(PAGE)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY.trim_ascii()));
    answer
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    uptime_seconds: f64,
    documents: u64,
    connections: u64,
    sessions: u64,
    updates_total: u64,
    update_bytes_total: u64,
    frames_sent_total: u64,
    memory_bytes: u64,
}

/// The figures, as JSON.
pub fn figures(front: &Front) -> Answer {
    let metrics = front.hub.metrics();
    let figures = Figures {
        uptime_seconds: front.started.elapsed().as_secs_f64(),
        documents: metrics.documents_loaded,
        connections: metrics.connections_open,
        sessions: metrics.sessions_open,
        updates_total: metrics.updates_received_total,
        update_bytes_total: metrics.update_bytes_total,
        frames_sent_total: metrics.frames_sent_total,
        memory_bytes: process::memory().resident_bytes,
    };
    routes::json(StatusCode::OK, serde_json::to_vec(&figures).unwrap_or_default())
}
