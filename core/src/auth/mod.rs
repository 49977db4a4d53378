//! Who may do what: the authenticator's trait and what it grants. Knows no dialect and no room.
//!
//! With the feature `better-auth`: [`TokenAuthenticator`] decides by login sessions and JWTs. It finds the
//! `credential`, proves it by `better_auth` or `jwt`, and asks the `policy` (names, `role`s, documents).

#[cfg(feature = "better-auth")]
pub mod better_auth;
#[cfg(feature = "better-auth")]
pub mod credential;
#[cfg(feature = "better-auth")]
pub mod identity;
#[cfg(feature = "better-auth")]
pub mod jwt;
#[cfg(feature = "better-auth")]
pub mod origin;
#[cfg(feature = "better-auth")]
pub mod policy;
#[cfg(feature = "better-auth")]
mod refusals;
#[cfg(feature = "better-auth")]
pub mod role;
mod static_token;
pub mod throttle;
#[cfg(feature = "better-auth")]
mod token_authenticator;

pub use static_token::StaticTokens;
#[cfg(feature = "better-auth")]
pub use token_authenticator::{FAILURE_LIMITS, LoginSessions, TokenAuthenticator, TokenOptions};

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::AuthError;
use crate::id::DocumentName;

/// A boxed future, the shape of every asynchronous trait method here (they must be object-safe).
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a session may do with its document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read; its updates are refused (`SyncStatus(false)`).
    ReadOnly,
}

/// Whatever a front wants to keep with a session: Node a reference to the JS context, C a `void *`.
pub type Context = Arc<dyn Any + Send + Sync>;

/// The log target of what an operator of a fail2ban or a SIEM wants to see: who was denied, throttled, revoked.
pub const SECURITY: &str = "fidibus_security";

/// What a grant was given for, so that it can be judged again.
pub struct Login {
    /// The id of the login session, by which it can be ended from outside.
    pub session: Option<Box<str>>,
    /// The user's role or roles at that time: for the log, nothing is decided by it later.
    pub role: Option<Box<str>>,
    /// The authenticator's own value.
    pub proof: Box<dyn Any + Send + Sync>,
}

/// The answer of an authenticator.
#[derive(Clone)]
pub struct Grant {
    /// What the session may do.
    pub access: Access,
    /// The user's id: goes into the log and the metrics of connections per user.
    pub user: Option<Arc<str>>,
    /// The front's own value.
    pub context: Option<Context>,
    /// When the grant ends by itself.
    pub expires: Option<SystemTime>,
    /// What it was given for; `None`: it is never judged again.
    pub login: Option<Arc<Login>>,
}

impl Grant {
    /// A grant without a user that never ends.
    pub fn anonymous(access: Access) -> Self {
        Self { access, user: None, context: None, expires: None, login: None }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("access", &self.access)
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What is known of a client from its HTTP handshake. Shared by all sessions of the socket.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// Path and query, as sent.
    pub uri: http::Uri,
    /// All request headers.
    pub headers: http::HeaderMap,
    /// The client's address, behind trusted proxies the one that they name.
    pub client_ip: Option<IpAddr>,
    /// The document that the path names, for y-websocket peers.
    pub path_document: Option<DocumentName>,
}

/// One session that wants in. `Debug` shows no token.
pub struct AuthRequest<'a> {
    /// The document asked for.
    pub document: &'a DocumentName,
    /// The token of the Auth message; empty or `None`: look at the handshake.
    pub token: Option<&'a str>,
    /// The HTTP request that opened the socket.
    pub handshake: &'a Handshake,
}

impl AuthRequest<'_> {
    /// A query parameter of the handshake, percent-decoded; the first of the name.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.handshake.uri.query()?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The token of `Authorization: Bearer …` of the handshake.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.handshake.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

impl fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest").field("document", self.document).finish_non_exhaustive()
    }
}

/// Decides who may open which document. Distinct from hooks, so that a server without any front in
/// another language has a way of its own; where both exist, hooks may only narrow the grant.
pub trait Authenticator: Send + Sync + 'static {
    /// Decides on one session. Dropping the future must be safe: the client may go away meanwhile.
    fn authenticate<'a>(&'a self, request: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>>;

    /// How often open sessions are to be judged again; `None`: only when they expire, or somebody asks for it.
    fn recheck_interval(&self) -> Option<Duration> {
        None
    }

    /// Judges open sessions again, all at once: one answer for each, in their order. A denial closes the
    /// session, a grant replaces the one it has; `Unavailable` leaves it as it is, unless it has expired.
    fn recheck<'a>(&'a self, standing: &'a [Standing]) -> BoxFuture<'a, Vec<Result<Grant, AuthError>>> {
        Box::pin(ready(standing.iter().map(|standing| Ok(standing.grant.clone())).collect()))
    }

    /// Whether a token that a client sends on an open session is authenticated and replaces its grant.
    fn takes_fresh_tokens(&self) -> bool {
        false
    }
}

/// An open session that is to be judged again.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its document.
    pub document: DocumentName,
    /// What it was granted.
    pub grant: Grant,
}

/// Lets everybody read and write: for development, and for hosts whose hooks decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate<'a>(&'a self, _: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>> {
        Box::pin(ready(Ok(Grant::anonymous(Access::ReadWrite))))
    }
}
