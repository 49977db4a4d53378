//! Judges requests before they are answered, for clients and proxies that read HTTP statuses: what
//! `WS_AUTH_REJECT=http` asks for, and the hooks of a host that embeds the server. A page learns nothing from
//! these; it can read close codes only.

use std::time::Duration;

use fidibus_core::auth::credential::explicit_credential;
use fidibus_core::auth::{AuthRequest, Handshake, SECURITY};
use fidibus_core::error::{AuthError, CloseReason};
use fidibus_core::hub::{Hub, RequestKind};
use fidibus_core::id::DocumentName;
use http::{StatusCode, header};

use crate::http::{Answer, json};

/// How long hooks may think about a request.
const HOOKS_MAX: Duration = Duration::from_secs(30);

/// The no of an `on_upgrade` or `on_request` hook, by its close code; `None`: the request may go on.
pub async fn ask_hooks(hub: &Hub, kind: RequestKind, handshake: &Handshake) -> Option<Answer> {
    let code = match tokio::time::timeout(HOOKS_MAX, hub.ask_about(kind, handshake)).await {
        Ok(Ok(())) => return None,
        Ok(Err(rejection)) => rejection.reason.map_or(CloseReason::FORBIDDEN.code, |reason| reason.code),
        Err(_) => CloseReason::TRY_AGAIN_LATER.code,
    };
    Some(answer(match code {
        code if code == CloseReason::UNAUTHORIZED.code => StatusCode::UNAUTHORIZED,
        code if code == CloseReason::TRY_AGAIN_LATER.code => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }))
}

/// The refusal of a handshake; `None`: it may go on. Where the URL names a document, its credential is judged
/// for that; else it must have one, to be judged when the document is known.
pub async fn refuse(hub: &Hub, handshake: &Handshake) -> Option<Answer> {
    let Some(document) = &handshake.path_document else {
        return (!has_credential(handshake)).then(|| answer(StatusCode::UNAUTHORIZED));
    };
    let request = AuthRequest { document, token: None, handshake };
    let status = match hub.authenticator().authenticate(&request).await {
        Ok(_) => return None,
        Err(AuthError::Denied { close, .. }) if close.code == CloseReason::FORBIDDEN.code => {
            StatusCode::FORBIDDEN
        }
        Err(AuthError::Denied { close, .. }) if close.code == CloseReason::UNAUTHORIZED.code => {
            StatusCode::UNAUTHORIZED
        }
        Err(AuthError::Denied { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    tracing::warn!(target: SECURITY, documentName = %document, clientIp = handshake.client_ip.map(tracing::field::display), status = status.as_u16(), "WebSocket authentication failed");
    Some(answer(status))
}

fn has_credential(handshake: &Handshake) -> bool {
    // The name is of no matter: only the handshake is looked at.
    let Ok(document) = DocumentName::parse("-") else { return false };
    let request = AuthRequest { document: &document, token: None, handshake };
    handshake.headers.contains_key(header::COOKIE) || explicit_credential(&request).is_some()
}

fn answer(status: StatusCode) -> Answer {
    let error = status.canonical_reason().unwrap_or("refused").to_ascii_lowercase().replace(' ', "_");
    let mut answer = json(status, format!("{{\"error\":\"{error}\"}}"));
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    answer
}
