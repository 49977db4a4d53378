//! The application behind the documents, told and asked over HTTP: signed calls in the form of Hocuspocus'
//! `extension-webhook`, `{"event", "payload"}` with `X-Hocuspocus-Signature-256`. Questions have a deadline and
//! fail closed; what is only told is tried again for a while.

mod authenticator;
mod content;
mod delivery;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fidibus_core::auth::{BoxFuture, Handshake};
use fidibus_core::error::{BoxError, CloseReason};
use fidibus_core::hooks::{
    AuthenticateEvent, ChangeEvent, Extension, Flow, HookResult, HookSet, LoadDocumentEvent, Rejection,
    SessionEvent, StoreEvent,
};
use fidibus_core::hub::Hub;
use fidibus_core::id::DocumentName;
use http::StatusCode;
use serde_json::{Map, Value, json};

pub use authenticator::WebhookAuthenticator;
use content::Content;
use delivery::Delivery;

use crate::client::{HttpClient, Reply};
use crate::config::{WebhookConfig, WebhookEvent};

/// Documents whose changes are still to be told of.
const CHANGED_MAX: usize = 100_000;

/// The extension. It tells and asks what the configuration lists.
pub struct Webhook {
    config: WebhookConfig,
    client: HttpClient,
    delivery: Delivery,
    content: Arc<Content>,
    changed: Arc<Mutex<HashMap<DocumentName, Changed>>>,
}

/// Changes of one document that were not told of yet.
#[derive(Clone, Copy)]
struct Changed {
    last: Instant,
    updates: u64,
}

impl Webhook {
    /// Makes the extension. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The cryptography that TLS needs is not there.
    pub fn new(config: WebhookConfig) -> Result<Self, BoxError> {
        let client = HttpClient::new()?;
        let content = Arc::new(Content::new(config.document));
        let delivery = Delivery::start(client.clone(), config.endpoint.clone(), Arc::clone(&content));
        Ok(Self { config, client, delivery, content, changed: Arc::default() })
    }

    /// Names the hub that this extension was given to, where changed documents are read.
    pub fn attach(&self, hub: &Hub) {
        self.content.attach(hub.downgrade());
    }

    async fn ask(&self, event: &str, payload: Value) -> Result<Reply, BoxError> {
        let body = message(event, payload);
        self.client.post(&self.config.endpoint, body, self.config.deadline).await
    }

    async fn ask_connect(&self, event: &AuthenticateEvent<'_>) -> HookResult {
        let payload = session_payload(event.scope.document(), &event.scope.handshake, Disclosure::Everything);
        match self.ask("connect", payload).await {
            Ok(reply) if reply.status.is_success() => Ok(Flow::Continue),
            Ok(reply) if reply.status.is_client_error() => {
                Err(Rejection::with_reason(CloseReason::FORBIDDEN))
            }
            Ok(reply) => Err(unavailable(format!("the application answers {}", reply.status).into())),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn ask_load(&self, event: &mut LoadDocumentEvent<'_>) -> HookResult {
        let empty = Handshake::default();
        let handshake = event.scope.map_or(&empty, |scope| &scope.handshake);
        let payload = session_payload(event.document, handshake, Disclosure::NoCredentials);
        let reply = self.ask("create", payload).await.map_err(unavailable)?;
        match reply.status {
            StatusCode::OK => event.updates.extend(update(&reply).map_err(unavailable)?),
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => {}
            // A document that the application has, but cannot give, must not start out empty.
            status => return Err(unavailable(format!("the application answers {status}").into())),
        }
        Ok(Flow::Continue)
    }

    /// Notes a change; the first one of a document starts the wait.
    fn note_change(&self, document: &DocumentName) {
        let now = Instant::now();
        let mut changed = self.lock();
        if let Some(known) = changed.get_mut(document) {
            (known.last, known.updates) = (now, known.updates + 1);
            return;
        }
        if changed.len() >= CHANGED_MAX {
            tracing::warn!("Too many documents change at once for all webhooks to be sent");
            return;
        }
        changed.insert(document.clone(), Changed { last: now, updates: 1 });
        let (changes, delivery) = (Arc::clone(&self.changed), self.delivery.clone());
        let is_told_with_document = self.content.is_wanted();
        let (document, debounce, end) =
            (document.clone(), self.config.debounce, now + self.config.debounce_max);
        tokio::spawn(async move {
            let mut due = (now + debounce).min(end);
            loop {
                tokio::time::sleep_until(due.into()).await;
                let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(known) = changes.get(&document).copied() else { return };
                due = (known.last + debounce).min(end);
                if due <= Instant::now() {
                    changes.remove(&document);
                    let payload = json!({ "documentName": document.as_str(), "updates": known.updates });
                    return match is_told_with_document {
                        true => delivery.push_with("change", payload, document),
                        false => delivery.push("change", payload, 0),
                    };
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DocumentName, Changed>> {
        // The map is whole between any two statements.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extension for Webhook {
    fn name(&self) -> &str {
        "webhook"
    }

    fn hooks(&self) -> HookSet {
        let hooks = self.config.events.iter().map(|event| match event {
            WebhookEvent::Connect => HookSet::ON_CONNECT,
            WebhookEvent::Load => HookSet::ON_LOAD_DOCUMENT,
            WebhookEvent::Change => HookSet::ON_CHANGE,
            WebhookEvent::Store => HookSet::AFTER_STORE_DOCUMENT,
            WebhookEvent::Disconnect => HookSet::ON_DISCONNECT,
        });
        hooks.fold(HookSet::empty(), HookSet::union)
    }

    fn on_connect<'a>(&'a self, event: &'a mut AuthenticateEvent<'_>) -> BoxFuture<'a, HookResult> {
        Box::pin(self.ask_connect(event))
    }

    fn on_load_document<'a>(&'a self, event: &'a mut LoadDocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        Box::pin(self.ask_load(event))
    }

    fn on_change<'a>(&'a self, event: &'a mut ChangeEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.note_change(event.document);
        Box::pin(std::future::ready(Ok(Flow::Continue)))
    }

    fn after_store_document<'a>(&'a self, event: &'a mut StoreEvent<'_>) -> BoxFuture<'a, HookResult> {
        let snapshot = STANDARD.encode(event.snapshot);
        let bytes = snapshot.len();
        let payload = json!({ "documentName": event.document.as_str(), "snapshot": snapshot });
        self.delivery.push("store", payload, bytes);
        Box::pin(std::future::ready(Ok(Flow::Continue)))
    }

    fn on_disconnect<'a>(&'a self, event: &'a mut SessionEvent<'_>) -> BoxFuture<'a, HookResult> {
        let scope = event.scope;
        let mut payload = session_payload(scope.document(), &scope.handshake, Disclosure::NoCredentials);
        payload["user"] = json!(scope.grant.user.as_deref());
        self.delivery.push("disconnect", payload, 0);
        Box::pin(std::future::ready(Ok(Flow::Continue)))
    }
}

/// The body of a call.
fn message(event: &str, payload: Value) -> Vec<u8> {
    json!({ "event": event, "payload": payload }).to_string().into_bytes()
}

/// What of a handshake is passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disclosure {
    /// To whom decides on it.
    Everything,
    /// To whom is only told.
    NoCredentials,
}

/// Query parameters and headers that hold credentials.
const SECRET_NAMES: [&str; 7] =
    ["token", "access_token", "session_token", "authorization", "cookie", "x-session-token", "x-auth-token"];

/// The part that all events about a session share, as Hocuspocus has it.
fn session_payload(document: &DocumentName, handshake: &Handshake, disclosure: Disclosure) -> Value {
    let shown = |name: &str| disclosure == Disclosure::Everything || !SECRET_NAMES.contains(&name);
    let mut headers = Map::new();
    for (name, value) in handshake.headers.iter().filter(|(name, _)| shown(name.as_str())) {
        headers.insert(name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into());
    }
    let query = handshake.uri.query().unwrap_or_default();
    let parameters = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| shown(name));
    let parameters: Map<String, Value> =
        parameters.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    json!({ "documentName": document.as_str(), "requestHeaders": headers, "requestParameters": parameters })
}

/// A document as an answer gives it: a Yjs update (v1), bare or as base64 in `update`.
fn update(reply: &Reply) -> Result<Option<Bytes>, BoxError> {
    if reply.body.is_empty() {
        return Ok(None);
    }
    if !reply.is_json {
        return Ok(Some(reply.body.clone()));
    }
    let answer: Value = serde_json::from_slice(&reply.body)?;
    match &answer["update"] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(STANDARD.decode(text)?.into())),
        _ => Err("the application's update is not base64".into()),
    }
}

fn unavailable(source: BoxError) -> Rejection {
    Rejection { reason: Some(CloseReason::TRY_AGAIN_LATER), source: Some(source) }
}

#[cfg(test)]
mod tests;
