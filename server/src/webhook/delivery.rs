//! What an application is only told: queued, sent by a few at a time, tried again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use fidibus_core::id::DocumentName;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::content::Content;
use super::message;
use crate::client::{Endpoint, HttpClient};

/// Messages that wait to be sent. More are given up: an application that is away for long has missed changes
/// anyway, and must look at the documents when it is back.
const QUEUE_MESSAGES_MAX: usize = 1000;
/// Messages under way at once.
const SENDING_MAX: usize = 4;
/// Attempts for one message, pauses doubling in between.
const ATTEMPTS_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// One attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Bytes of messages that wait.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Sends messages in the background, for as long as somebody holds it.
#[derive(Clone)]
pub(super) struct Delivery {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<Semaphore>,
}

/// A message that waits.
struct Outgoing {
    event: &'static str,
    payload: Value,
    /// The document that it is told with.
    document: Option<DocumentName>,
    /// Its share of the bytes that may wait.
    _bytes: OwnedSemaphorePermit,
}

impl Delivery {
    pub(super) fn start(client: HttpClient, endpoint: Endpoint, content: Arc<Content>) -> Self {
        let (queue, mut receiver) = mpsc::channel::<Outgoing>(QUEUE_MESSAGES_MAX);
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(SENDING_MAX));
            while let Some(outgoing) = receiver.recv().await {
                // Never closed, so there is a place in the end.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (client, endpoint, content) = (client.clone(), endpoint.clone(), Arc::clone(&content));
                tokio::spawn(async move {
                    send(&client, &endpoint, &content, outgoing).await;
                    drop(place);
                });
            }
        });
        Self { queue, bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }
    }

    /// Queues a message with `bytes` of content.
    pub(super) fn push(&self, event: &'static str, payload: Value, bytes: usize) {
        self.push_about(event, payload, bytes, None);
    }

    /// Queues a message that is to be told with a document.
    pub(super) fn push_with(&self, event: &'static str, payload: Value, document: DocumentName) {
        self.push_about(event, payload, 0, Some(document));
    }

    fn push_about(&self, event: &'static str, payload: Value, bytes: usize, document: Option<DocumentName>) {
        let bytes = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok());
        let queued = bytes.is_some_and(|bytes| {
            self.queue.try_send(Outgoing { event, payload, document, _bytes: bytes }).is_ok()
        });
        if !queued {
            tracing::warn!(event, "A webhook is given up: too many wait already");
        }
    }
}

async fn send(client: &HttpClient, endpoint: &Endpoint, content: &Content, outgoing: Outgoing) {
    let Outgoing { event, mut payload, document, _bytes } = outgoing;
    if let Some(document) = &document
        && let Err(error) = content.add_to(&mut payload, document).await
    {
        let error = crate::logging::chain(&*error);
        tracing::warn!(event, documentName = %document, error, "A webhook goes without the document, which cannot be read");
    }
    let body = message(event, payload);
    let (mut pause, mut problem) = (PAUSE_MIN, String::new());
    for attempt in 1..=ATTEMPTS_MAX {
        match client.post(endpoint, body.clone(), ATTEMPT_MAX).await {
            Ok(reply) if reply.status.is_success() => return,
            // It was understood and refused: the same again would be, too.
            Ok(reply) if reply.status.is_client_error() && reply.status.as_u16() != 429 => {
                tracing::warn!(event, status = reply.status.as_u16(), "The application refuses a webhook");
                return;
            }
            Ok(reply) => problem = reply.status.to_string(),
            Err(error) => problem = crate::logging::chain(&*error),
        }
        if attempt < ATTEMPTS_MAX {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    tracing::error!(event, problem, attempts = ATTEMPTS_MAX, "A webhook cannot be delivered and is given up");
}
