//! Which application is told and asked by webhook, and of what.

use std::time::Duration;

use super::access::url;
use super::layers::{ConfigError, Layers};
use super::{MS_MAX, millis};
use crate::client::{Endpoint, Secret};

/// What an application can be told and asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    /// Asked when a session wants in, after its authentication.
    Connect,
    /// Asked for a document that is being loaded.
    Load,
    /// Told of changes, some time after the first.
    Change,
    /// Told that a document was stored, with its content.
    Store,
    /// Told that a session ended.
    Disconnect,
}

/// The form in which changed documents are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentForm {
    /// JSON by the content of the document's types.
    Json,
    /// The same, but XML as ProseMirror's JSON.
    ProseMirror,
}

/// The settings of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where, and signed with what.
    pub endpoint: Endpoint,
    /// What it is told and asked.
    pub events: Vec<WebhookEvent>,
    /// Whether changes are told with the document.
    pub document: Option<DocumentForm>,
    /// How long a question may take.
    pub deadline: Duration,
    /// Changes are told after this much quiet.
    pub debounce: Duration,
    /// … but at the latest this long after the first.
    pub debounce_max: Duration,
}

/// Reads the settings; `None`: there are no webhooks.
pub(super) fn read(layers: &mut Layers) -> Result<Option<WebhookConfig>, ConfigError> {
    let Some(target) = url(layers, "WS_WEBHOOK_URL")? else { return Ok(None) };
    let secret = layers.text("WS_WEBHOOK_SECRET").map(Secret::new);
    if secret.is_none() {
        layers.warn(
            "WS_WEBHOOK_SECRET is not set: the application cannot tell our calls from anybody's".to_owned(),
        );
    }
    let debounce = millis(layers.number("WS_WEBHOOK_DEBOUNCE_MS", 2000, 0..=MS_MAX)?);
    let debounce_max = millis(layers.number("WS_WEBHOOK_MAX_DEBOUNCE_MS", 10_000, 0..=MS_MAX)?);
    let forms =
        [("off", None), ("json", Some(DocumentForm::Json)), ("prosemirror", Some(DocumentForm::ProseMirror))];
    Ok(Some(WebhookConfig {
        endpoint: Endpoint { url: target, secret },
        events: events(layers)?,
        document: layers.choice("WS_WEBHOOK_DOCUMENT", "off", &forms)?,
        deadline: millis(layers.number("WS_WEBHOOK_DEADLINE_MS", 5000, 100..=60_000)?),
        debounce,
        debounce_max: debounce_max.max(debounce),
    }))
}

fn events(layers: &mut Layers) -> Result<Vec<WebhookEvent>, ConfigError> {
    let words = layers.list("WS_WEBHOOK_EVENTS", "change");
    let events = words.iter().map(|word| match &**word {
        "connect" => Ok(WebhookEvent::Connect),
        "load" | "create" => Ok(WebhookEvent::Load),
        "change" => Ok(WebhookEvent::Change),
        "store" => Ok(WebhookEvent::Store),
        "disconnect" => Ok(WebhookEvent::Disconnect),
        _ => Err(ConfigError::bad(
            "WS_WEBHOOK_EVENTS",
            word,
            "must list some of connect, load, change, store, disconnect",
        )),
    });
    events.collect()
}
