//! Calls to other servers: fetching keys, asking and telling applications. Everything is bounded: the time of a
//! call, the size of an answer.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::auth::BoxFuture;
use fidibus_core::auth::identity::{DocumentAccess, Identity};
use fidibus_core::auth::jwt::KeySource;
use fidibus_core::auth::policy::parse_access;
use fidibus_core::auth::role::RoleMap;
use fidibus_core::error::BoxError;
use fidibus_core::id::DocumentName;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use sha2::Sha256;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 50 * 1024 * 1024;
/// The largest set of keys.
const KEYS_BYTES_MAX: usize = 256 * 1024;
/// Unused connections that are kept for one server.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// For as long as this.
const IDLE_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A question that a client waits for.
pub const QUESTION_MAX: Duration = Duration::from_secs(5);
/// The header that Hocuspocus' webhooks are signed in (`extension-webhook`, `createSignature`).
const SIGNATURE: &str = "x-hocuspocus-signature-256";

/// A secret that shows itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// It.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The signature of a body, as the header has it.
    pub fn sign(&self, body: &[u8]) -> String {
        let mut text = "sha256=".to_owned();
        // Invariant: HMAC takes keys of any length.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) {
            mac.update(body);
            for byte in mac.finalize().into_bytes() {
                text.push_str(&format!("{byte:02x}"));
            }
        }
        text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where an application is asked or told, and what the calls are signed with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its URL.
    pub url: Uri,
    /// The secret shared with it; `None`: calls are not signed.
    pub secret: Option<Secret>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Whether it says that it is JSON.
    pub is_json: bool,
    /// Its body.
    pub body: Bytes,
}

/// A client for HTTP and HTTPS. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient {
    /// A client; certificates are checked against Mozilla's list, which is built in.
    ///
    /// # Errors
    /// The cryptography that TLS needs is not there.
    pub fn new() -> Result<Self, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        tcp.set_nodelay(true);
        let provider = rustls::crypto::ring::default_provider();
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(https);
        Ok(Self(client))
    }

    /// Posts JSON, signed where the endpoint has a secret.
    ///
    /// # Errors
    /// There was no answer within `deadline`, or one that is too large.
    pub async fn post(&self, to: &Endpoint, body: Vec<u8>, deadline: Duration) -> Result<Reply, BoxError> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.url.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = &to.secret {
            headers.insert(SIGNATURE, HeaderValue::from_str(&secret.sign(&body))?);
        }
        *request.body_mut() = Full::new(body.into());
        self.call(request, ANSWER_BYTES_MAX, deadline).await
    }

    async fn call(
        &self,
        mut request: Request<Full<Bytes>>,
        bytes_max: usize,
        deadline: Duration,
    ) -> Result<Reply, BoxError> {
        let agent = HeaderValue::from_static(concat!("fidibus/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        let answered = async {
            let answer = self.0.request(request).await?;
            let status = answer.status();
            let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
            let body = Limited::new(answer.into_body(), bytes_max).collect().await?.to_bytes();
            Ok(Reply { status, is_json, body })
        };
        tokio::time::timeout(deadline, answered).await?
    }
}

/// Public keys behind a URL.
pub struct KeyUrl {
    /// Who fetches them.
    pub client: HttpClient,
    /// Where they are.
    pub url: Uri,
}

impl KeySource for KeyUrl {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(async move {
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = self.url.clone();
            let reply = self.client.call(request, KEYS_BYTES_MAX, QUESTION_MAX).await?;
            if reply.status != StatusCode::OK {
                return Err(format!("{} answers {}", self.url, reply.status).into());
            }
            Ok(String::from_utf8(reply.body.into())?)
        })
    }
}

/// An application that is asked about users and documents.
pub struct AccessCall {
    /// Who asks.
    pub client: HttpClient,
    /// Where.
    pub endpoint: Endpoint,
    /// What roles mean that it answers with.
    pub roles: RoleMap,
}

#[derive(Deserialize)]
struct AccessAnswer {
    access: String,
}

impl DocumentAccess for AccessCall {
    fn access<'a>(
        &'a self,
        identity: &'a Identity,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<Access>, BoxError>> {
        Box::pin(async move {
            let question = serde_json::json!({
                "event": "access",
                "payload": {
                    "documentName": document.as_str(),
                    "user": &*identity.user,
                    "role": identity.role,
                    "sessionId": identity.session.as_deref(),
                },
            });
            let reply =
                self.client.post(&self.endpoint, serde_json::to_vec(&question)?, QUESTION_MAX).await?;
            match reply.status {
                StatusCode::OK => {
                    let answer: AccessAnswer = serde_json::from_slice(&reply.body)?;
                    let by_role = || self.roles.access(Some(&answer.access));
                    Ok(parse_access(&answer.access).unwrap_or_else(by_role))
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(None),
                status => Err(format!("the application answers {status}").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_hocuspocus_does() {
        // printf '{"event":"change"}' | openssl dgst -sha256 -hmac 459824aaffa928e05f5b1caec411ae5f
        let secret = Secret::new("459824aaffa928e05f5b1caec411ae5f".to_owned());
        let expected = "sha256=7b7e1bc592e0154f833882cb5b9296e13f09e3f19a20ec3f30d07eae76c7370d";
        assert_eq!(secret.sign(br#"{"event":"change"}"#), expected);
        assert_eq!(format!("{secret:?}"), "(secret)");
    }
}
