//! What an application is only told: queued, sent by a few at a time, tried again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

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

/// Sends messages in the background, for as long as somebody holds it.
#[derive(Clone)]
pub(super) struct Delivery(mpsc::Sender<(&'static str, Value)>);

impl Delivery {
    pub(super) fn start(client: HttpClient, endpoint: Endpoint) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(&'static str, Value)>(QUEUE_MESSAGES_MAX);
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(SENDING_MAX));
            while let Some((event, payload)) = receiver.recv().await {
                // Never closed, so there is a place in the end.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (client, endpoint) = (client.clone(), endpoint.clone());
                tokio::spawn(async move {
                    send(&client, &endpoint, event, payload).await;
                    drop(place);
                });
            }
        });
        Self(sender)
    }

    /// Queues a message.
    pub(super) fn push(&self, event: &'static str, payload: Value) {
        if self.0.try_send((event, payload)).is_err() {
            tracing::warn!(event, "A webhook is given up: too many wait already");
        }
    }
}

async fn send(client: &HttpClient, endpoint: &Endpoint, event: &'static str, payload: Value) {
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
