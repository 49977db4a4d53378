//! `WS_AUTH_REJECT=http`: judges a handshake before it is answered, for clients and proxies that read HTTP
//! statuses. A page learns nothing from these; it can read close codes only.

use fidibus_core::auth::credential::explicit_credential;
use fidibus_core::auth::{AuthRequest, Handshake, SECURITY};
use fidibus_core::error::{AuthError, CloseReason};
use fidibus_core::hub::Hub;
use fidibus_core::id::DocumentName;
use http::{StatusCode, header};

use crate::http::{Answer, json};

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
