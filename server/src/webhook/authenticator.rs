//! `WS_AUTH=webhook`: the application decides on every session. Whatever it does not answer with a clear yes is
//! a no.

use std::time::{Duration, SystemTime};

use fidibus_core::auth::{Access, AuthRequest, Authenticator, BoxFuture, Grant};
use fidibus_core::error::{AuthError, BoxError, CloseReason};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Disclosure, message, session_payload};
use crate::client::HttpClient;
use crate::config::WebhookConfig;

/// The longest that a grant may last, in seconds: beyond it times overflow.
const EXPIRES_SECONDS_MAX: f64 = 1e11;

/// Asks the application.
#[derive(Debug)]
pub struct WebhookAuthenticator {
    config: WebhookConfig,
    client: HttpClient,
}

/// Its answer, with status 200.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    user: Option<String>,
    #[serde(default)]
    read_only: bool,
    /// Seconds since 1970.
    expires: Option<f64>,
}

impl WebhookAuthenticator {
    /// Asks by this configuration.
    ///
    /// # Errors
    /// The cryptography that TLS needs is not there.
    pub fn new(config: WebhookConfig) -> Result<Self, BoxError> {
        Ok(Self { config, client: HttpClient::new()? })
    }

    async fn ask(&self, request: &AuthRequest<'_>) -> Result<Grant, AuthError> {
        let mut payload = session_payload(request.document, request.handshake, Disclosure::Everything);
        payload["token"] = json!(request.token);
        payload["clientIp"] = json!(request.handshake.client_ip);
        let body = message("authenticate", payload);
        let reply = self.client.post(&self.config.endpoint, body, self.config.deadline).await;
        let reply = reply.map_err(AuthError::Unavailable)?;
        match reply.status {
            StatusCode::OK => {
                let answer: Answer = serde_json::from_slice(&reply.body)
                    .map_err(|error| AuthError::Unavailable(error.into()))?;
                grant(answer)
            }
            StatusCode::UNAUTHORIZED => Err(AuthError::unauthorized()),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(AuthError::forbidden()),
            StatusCode::TOO_MANY_REQUESTS => Err(AuthError::Denied {
                reason: "too-many-attempts".into(),
                close: CloseReason::TRY_AGAIN_LATER,
            }),
            status => Err(AuthError::Unavailable(format!("the application answers {status}").into())),
        }
    }
}

fn grant(answer: Answer) -> Result<Grant, AuthError> {
    let access = if answer.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let expires = answer.expires.map(|seconds| {
        let legal = (0.0..=EXPIRES_SECONDS_MAX).contains(&seconds);
        let time = legal.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds));
        time.ok_or_else(|| AuthError::Unavailable("the application's expiry is no time".into()))
    });
    let user = answer.user.map(Into::into);
    Ok(Grant { user, expires: expires.transpose()?, ..Grant::anonymous(access) })
}

impl Authenticator for WebhookAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>> {
        Box::pin(self.ask(request))
    }

    fn takes_fresh_tokens(&self) -> bool {
        true
    }
}
