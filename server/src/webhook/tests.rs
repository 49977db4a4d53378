//! Goal: an application is asked and told in the right form, signed, and whatever goes wrong refuses. Method: an
//! HTTP server on loopback that answers by a script and keeps what it was sent.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use fidibus_core::auth::{Access, AuthRequest, Authenticator, Grant};
use fidibus_core::error::AuthError;
use fidibus_core::hooks::SessionScope;
use fidibus_core::id::{Address, ConnectionId, SessionKey};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::client::{Endpoint, Secret};

struct Application {
    config: WebhookConfig,
    calls: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

/// Answers with these in turn, then with the last for ever.
async fn application(answers: Vec<(u16, &'static str)>, events: Vec<WebhookEvent>) -> Application {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, calls) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(answers));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (sender, answers) = (sender.clone(), Arc::clone(&answers));
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (sender, answers) = (sender.clone(), Arc::clone(&answers));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = sender.send((head.headers, body));
                    let mut answers = answers.lock().unwrap();
                    let (status, text) = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
                    let answer =
                        Response::builder().status(status).header("content-type", "application/json");
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(text))).unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let config = WebhookConfig {
        endpoint: Endpoint { url, secret: Some(Secret::new("shared".to_owned())) },
        events,
        document: None,
        deadline: Duration::from_millis(500),
        debounce: Duration::from_millis(50),
        debounce_max: Duration::from_millis(200),
    };
    Application { config, calls }
}

impl Application {
    async fn call(&mut self) -> Value {
        let call = tokio::time::timeout(Duration::from_secs(5), self.calls.recv());
        let (headers, body) = call.await.expect("no call in time").unwrap();
        let signature = Secret::new("shared".to_owned()).sign(&body);
        assert_eq!(headers["x-hocuspocus-signature-256"], *signature);
        assert_eq!(headers["content-type"], "application/json");
        serde_json::from_slice(&body).unwrap()
    }
}

fn handshake() -> Handshake {
    let mut headers = HeaderMap::new();
    headers.insert("cookie", "a=b".parse().unwrap());
    headers.insert("x-app", "1".parse().unwrap());
    Handshake { uri: "/d?token=t&x=y".parse().unwrap(), headers, ..Handshake::default() }
}

fn name() -> DocumentName {
    DocumentName::parse("d").unwrap()
}

fn scope() -> SessionScope {
    SessionScope {
        session: SessionKey { connection: ConnectionId(1), number: 0 },
        address: Address::from(name()),
        handshake: Arc::new(handshake()),
        grant: Grant { user: Some("u".into()), ..Grant::anonymous(Access::ReadWrite) },
    }
}

async fn authenticate(application: &Application) -> Result<Grant, AuthError> {
    let authenticator = WebhookAuthenticator::new(application.config.clone()).unwrap();
    let (document, handshake) = (name(), handshake());
    let request = AuthRequest { document: &document, token: Some("t2"), handshake: &handshake };
    authenticator.authenticate(&request).await
}

#[tokio::test]
async fn the_application_decides_on_sessions() {
    let answer = r#"{"user": "u1", "readOnly": true, "expires": 32503680000}"#;
    let mut application = application(vec![(200, answer)], Vec::new()).await;
    let grant = authenticate(&application).await.unwrap();
    assert_eq!((grant.user.as_deref(), grant.access), (Some("u1"), Access::ReadOnly));
    assert!(grant.expires.unwrap() > SystemTime::now());
    let call = application.call().await;
    assert_eq!(call["event"], "authenticate");
    assert_eq!((&call["payload"]["token"], &call["payload"]["documentName"]), (&json!("t2"), &json!("d")));
    assert_eq!(call["payload"]["requestHeaders"]["cookie"], "a=b");
}

#[tokio::test]
async fn everything_but_a_clear_yes_refuses() {
    for (status, body, code) in [
        (401, "", Some(4401)),
        (403, "", Some(4403)),
        (429, "", Some(1013)),
        (500, "", None),
        (302, "", None),
        (200, "yes", None),
        (200, r#"{"expires": -1}"#, None),
    ] {
        let application = application(vec![(status, body)], Vec::new()).await;
        let refused = match authenticate(&application).await {
            Err(AuthError::Denied { close, .. }) => Some(close.code),
            Err(AuthError::Unavailable(_)) => None,
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(refused, code, "{status} {body}");
    }
    let mut gone = application(vec![(200, "{}")], Vec::new()).await;
    gone.config.endpoint.url = "http://127.0.0.1:1/".parse().unwrap();
    assert!(matches!(authenticate(&gone).await, Err(AuthError::Unavailable(_))));
}

#[tokio::test]
async fn connects_are_asked_for_and_documents_are_given() {
    let events = vec![WebhookEvent::Connect, WebhookEvent::Load];
    let answers =
        vec![(200, "{}"), (403, ""), (500, ""), (200, r#"{"update": "AAA="}"#), (404, ""), (500, "")];
    let mut application = application(answers, events).await;
    let webhook = Webhook::new(application.config.clone()).unwrap();
    assert_eq!(webhook.hooks(), HookSet::ON_CONNECT | HookSet::ON_LOAD_DOCUMENT);
    for code in [None, Some(4403), Some(1013)] {
        let mut scope = scope();
        let mut event = AuthenticateEvent { scope: &mut scope, token: None, provider_version: None };
        let answer = webhook.on_connect(&mut event).await;
        assert_eq!(answer.err().map(|rejection| rejection.reason.unwrap().code), code);
    }
    assert_eq!(application.call().await["event"], "connect");
    let (document, scope, stored) = (name(), scope(), Bytes::new());
    for expected in [Ok(vec![Bytes::from_static(&[0, 0])]), Ok(Vec::new()), Err(())] {
        let mut event = LoadDocumentEvent {
            document: &document,
            scope: Some(&scope),
            stored: &stored,
            updates: Vec::new(),
        };
        let answer = webhook.on_load_document(&mut event).await;
        assert_eq!(answer.map(|_| event.updates).map_err(|_| ()), expected);
    }
}

#[tokio::test]
async fn changes_are_told_once_and_again_when_nobody_listened() {
    let events = vec![WebhookEvent::Change, WebhookEvent::Disconnect];
    let mut application = application(vec![(500, ""), (200, "")], events).await;
    let webhook = Webhook::new(application.config.clone()).unwrap();
    for _ in 0..5 {
        webhook.note_change(&name());
    }
    for _ in 0..2 {
        let call = application.call().await;
        assert_eq!(call, json!({"event": "change", "payload": {"documentName": "d", "updates": 5}}));
    }
    let scope = scope();
    webhook.on_disconnect(&mut SessionEvent { scope: &scope }).await.unwrap();
    let call = application.call().await;
    assert_eq!((&call["event"], &call["payload"]["user"]), (&json!("disconnect"), &json!("u")));
    // Whoever is only told gets no credentials.
    assert_eq!(call["payload"]["requestHeaders"], json!({"x-app": "1"}));
    assert_eq!(call["payload"]["requestParameters"], json!({"x": "y"}));
    assert!(webhook.lock().is_empty());
}
