//! Goal: the health document is the deployment guide's to the letter, tells the truth about the store, and
//! the other routes answer as promised. Method: the real binary over real sockets; for the failing store
//! the library in this process, with an SQLite store that is closed under it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::config::Config;
use fidibus_core::hub::Hub;
use fidibus_core::store::{DocumentStore, SqliteOptions, SqliteStore};
use fidibus_server::config::{Layers, ServerConfig, dotenv};
use fidibus_server::{Listeners, run};
use program::{Directory, Server, http};
use serde_json::Value;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The keys of an object in the order of the text, one level deep.
fn order(body: &str) -> Vec<String> {
    let (mut depth, mut names, mut rest) = (0, Vec::new(), body);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '"' => {
                let (text, after) = rest.split_once('"').unwrap();
                rest = after;
                if depth == 1 && after.starts_with(':') {
                    names.push(text.to_owned());
                }
            }
            _ => {}
        }
    }
    names
}

#[test]
fn the_seed_document_is_the_guides() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_HEALTH_FORMAT", "seed")]);
    for address in [server.health_address(), server.address()] {
        let answer = http(address, "GET", "/health");
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("\r\ncontent-type: application/json\r\n"), "{}", answer.head);
        assert_eq!(order(&answer.body), ["status", "timestamp", "uptime", "database", "connections"]);
        let health: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(health["status"], "healthy");
        let timestamp = health["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z') && timestamp.as_bytes()[10] == b'T');
        assert!(health["uptime"].is_f64(), "{}", answer.body);
        assert_eq!(keys(&health["database"]), ["connected", "latency"]);
        assert_eq!(health["database"]["connected"], true);
        assert!(health["database"]["latency"].is_u64());
        assert_eq!(health["connections"].to_string(), "{\"active\":0}");
    }
}

#[test]
fn the_full_document_adds_and_changes_nothing() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let body = http(server.health_address(), "GET", "/healthz").body;
    let names = order(&body);
    assert_eq!(names[..5], ["status", "timestamp", "uptime", "database", "connections"]);
    assert_eq!(names[5..], ["uptimeSeconds", "memory", "sockets", "durability"]);
    let health: Value = serde_json::from_str(&body).unwrap();
    assert!(health["uptimeSeconds"].is_u64() && health["database"]["latencyMs"].is_u64());
    assert_eq!(health["connections"]["documents"], 0);
    assert!(health["memory"]["rss"].as_u64().unwrap() > 1_000_000);
    assert!(health["memory"]["heapUsed"].as_u64().unwrap() > 0);
    assert_eq!(health["durability"]["store"], "memory");
}

#[test]
fn routes_answer_as_promised() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_PLAYGROUND", "off")]);
    for target in ["/health", "/health/", "/healthz", "/health?probe=1"] {
        let head = http(server.health_address(), "HEAD", target);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{target}");
        assert!(head.head.contains("content-length: "), "{}", head.head);
    }
    assert_eq!(http(server.address(), "HEAD", "/ws/health").status, 200);
    let missing = http(server.health_address(), "GET", "/else");
    assert_eq!((missing.status, missing.body.as_str()), (404, "{\"error\":\"not_found\"}"));
    assert_eq!(http(server.address(), "GET", "/figures").status, 404);
    assert_eq!(http(server.address(), "GET", "/").body, "Welcome to Fidibus\n");
    assert_eq!(http(server.address(), "GET", "/metrics").status, 404, "metrics are for the health port");
    assert_eq!(http(server.address(), "POST", "/").status, 405);
    let ready = http(server.health_address(), "GET", "/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"ready\":true}"));
    let metrics = http(server.health_address(), "GET", "/metrics");
    assert!(metrics.head.contains("content-type: application/openmetrics-text"), "{}", metrics.head);
    assert!(metrics.body.contains("\nfidibus_store_up 1\n") && metrics.body.ends_with("# EOF\n"));
}

#[test]
fn the_playground_comes_with_its_policy_and_figures() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let page = http(server.address(), "GET", "/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{}", page.head);
    assert!(page.head.contains("\r\ncontent-security-policy: default-src 'none'; script-src 'sha256-"));
    assert!(page.body.contains("</html>"));
    let figures: Value = serde_json::from_str(&http(server.address(), "GET", "/figures").body).unwrap();
    for key in [
        "uptimeSeconds",
        "documents",
        "connections",
        "sessions",
        "updatesTotal",
        "updateBytesTotal",
        "framesSentTotal",
        "memoryBytes",
    ] {
        assert!(figures[key].is_number(), "{key} in {figures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_makes_it_unhealthy() {
    let directory = Directory::new();
    let store = SqliteStore::open(directory.path().join("a.db"), SqliteOptions::default()).await.unwrap();
    let hub = Hub::builder(Config::default()).store(Arc::new(store.clone())).build();
    let environment =
        [("DATABASE_URL", "memory:"), ("WS_HOST", "127.0.0.1"), ("WS_PORT", "0"), ("WS_AUTH", "none")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let layers = Layers::new([].into(), environment, dotenv::Dotenv::default());
    let config = ServerConfig::load(layers).unwrap().config;
    let listeners = Listeners::bind(&config).await.unwrap();
    let address = ([127, 0, 0, 1], listeners.health.as_ref().unwrap().port().unwrap()).into();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(async move {
        run(listeners, hub, &config, async {
            let _ = stopped.await;
        })
        .await
    });
    let ask = |target: &'static str| tokio::task::spawn_blocking(move || http(address, "GET", target));
    assert_eq!(ask("/health").await.unwrap().status, 200);
    store.close().await;
    // The last answer is passed on for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = ask("/health").await.unwrap();
    assert_eq!(answer.status, 503);
    let health: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(health["status"], "unhealthy");
    assert_eq!(health["database"].to_string(), "{\"connected\":false,\"latency\":null,\"latencyMs\":null}");
    let ready = ask("/ready").await.unwrap();
    assert_eq!((ready.status, ready.body.as_str()), (503, "{\"ready\":false,\"reason\":\"database\"}"));
    assert!(ask("/metrics").await.unwrap().body.contains("\nfidibus_store_up 0\n"));
    stop.send(()).unwrap();
    assert_eq!(server.await.unwrap().unsaved, []);
}
