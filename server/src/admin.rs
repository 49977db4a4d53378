//! `/admin/` on the health port: who is connected, and disconnecting or judging again a user, a login session or
//! a document. Off without a token of its own.

use std::time::SystemTime;

use fidibus_core::auth::{Access, SECURITY};
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{OpenSession, Selector};
use fidibus_core::id::DocumentName;
use http::{Method, Request, StatusCode, header};
use serde::Serialize;

use crate::clock::iso8601;
use crate::front::Front;
use crate::http::{self as routes, Answer};

/// Where its paths start.
pub const PREFIX: &str = "/admin/";

/// Answers a request to `/admin/…`.
pub async fn answer<B>(request: &Request<B>, front: &Front) -> Answer {
    let Some(token) = &front.config.admin_token else { return routes::not_found() };
    if !is_authorized(request, token.reveal()) {
        tracing::warn!(target: SECURITY, path = request.uri().path(), "Admin call without the token");
        let mut answer = problem(StatusCode::UNAUTHORIZED, "unauthorized");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return answer;
    }
    let Some(call) = Call::parse(request.method(), request.uri().path()) else { return routes::not_found() };
    match call {
        Call::ListDocuments => list_documents(front),
        Call::ListSessions(whom) => list_sessions(front, &whom),
        Call::Disconnect(whom) => {
            let reason = match whom {
                Selector::Document(_) => CloseReason::RESET_CONNECTION,
                _ => CloseReason::UNAUTHORIZED,
            };
            done(front.hub.end_sessions(&whom, reason))
        }
        Call::Revalidate(whom) => done(front.hub.recheck(&whom).await),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Call {
    ListDocuments,
    ListSessions(Selector),
    Disconnect(Selector),
    Revalidate(Selector),
}

impl Call {
    fn parse(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<_> = path.strip_prefix(PREFIX)?.trim_end_matches('/').split('/').collect();
        match (method, &*parts) {
            (&Method::GET, ["documents"]) => Some(Self::ListDocuments),
            (&Method::GET, ["sessions"]) => Some(Self::ListSessions(Selector::All)),
            (&Method::GET, [kind, id, "sessions"]) => selector(kind, id).map(Self::ListSessions),
            (&Method::POST, [kind, id, "disconnect"]) => selector(kind, id).map(Self::Disconnect),
            (&Method::POST, [kind, id, "revalidate"]) => selector(kind, id).map(Self::Revalidate),
            (&Method::POST, ["revalidate"]) => Some(Self::Revalidate(Selector::All)),
            _ => None,
        }
    }
}

fn selector(kind: &str, id: &str) -> Option<Selector> {
    let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
    match kind {
        _ if id.is_empty() => None,
        "users" => Some(Selector::User(id.into_owned())),
        "sessions" => Some(Selector::Login(id.into_owned())),
        "documents" => DocumentName::parse(&id).ok().map(Selector::Document),
        _ => None,
    }
}

/// Compares in full, so that the time taken tells nothing about a near miss.
fn is_authorized<B>(request: &Request<B>, token: &str) -> bool {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, given)) = value.and_then(|value| value.trim().split_once(' ')) else { return false };
    let given = given.trim();
    let difference = given.bytes().zip(token.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
    scheme.eq_ignore_ascii_case("bearer") && given.len() == token.len() && difference == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    connection: u64,
    document_name: &'a str,
    user_id: Option<&'a str>,
    session_id: Option<&'a str>,
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl<'a> From<&'a OpenSession> for Session<'a> {
    fn from(session: &'a OpenSession) -> Self {
        Self {
            connection: session.session.connection.0,
            document_name: session.document.as_str(),
            user_id: session.user.as_deref(),
            session_id: session.login.as_deref(),
            read_only: session.access == Access::ReadOnly,
            expires: session.expires.map(|expires: SystemTime| iso8601(expires)),
        }
    }
}

fn list_sessions(front: &Front, whom: &Selector) -> Answer {
    let sessions = front.hub.sessions(whom);
    let sessions: Vec<_> = sessions.iter().map(Session::from).collect();
    json(&serde_json::json!({ "sessions": sessions }))
}

fn list_documents(front: &Front) -> Answer {
    let documents = front.hub.documents();
    let names: Vec<_> = documents.iter().map(DocumentName::as_str).collect();
    json(&serde_json::json!({ "documents": names }))
}

fn done(sessions: usize) -> Answer {
    json(&serde_json::json!({ "sessions": sessions }))
}

fn json(value: &serde_json::Value) -> Answer {
    routes::json(StatusCode::OK, value.to_string())
}

fn problem(status: StatusCode, error: &str) -> Answer {
    routes::json(status, serde_json::json!({ "error": error }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let user = || Selector::User("u 1".to_owned());
        let document = Selector::Document(DocumentName::parse("a/b").unwrap());
        for (method, path, call) in [
            (Method::GET, "/admin/documents", Some(Call::ListDocuments)),
            (Method::GET, "/admin/sessions/", Some(Call::ListSessions(Selector::All))),
            (Method::GET, "/admin/users/u%201/sessions", Some(Call::ListSessions(user()))),
            (Method::POST, "/admin/users/u%201/disconnect", Some(Call::Disconnect(user()))),
            (Method::POST, "/admin/users/u%201/revalidate", Some(Call::Revalidate(user()))),
            (
                Method::POST,
                "/admin/sessions/s/disconnect",
                Some(Call::Disconnect(Selector::Login("s".to_owned()))),
            ),
            (Method::POST, "/admin/documents/a%2Fb/disconnect", Some(Call::Disconnect(document))),
            (Method::GET, "/admin/users/u/disconnect", None),
            (Method::POST, "/admin/users//disconnect", None),
            (Method::POST, "/admin/users/%ff/disconnect", None),
            (Method::POST, "/admin/rooms/x/disconnect", None),
            (Method::GET, "/admin/", None),
        ] {
            assert_eq!(Call::parse(&method, path), call, "{method} {path}");
        }
    }

    #[test]
    fn only_the_whole_token_counts() {
        let with = |value: &str| {
            let request = Request::builder().header(header::AUTHORIZATION, value).body(()).unwrap();
            is_authorized(&request, "s3cret")
        };
        assert!(with("Bearer s3cret") && with("bearer  s3cret "));
        for bad in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "s3cret", "Basic s3cret", "Bearer S3cret"] {
            assert!(!with(bad), "{bad}");
        }
    }
}
