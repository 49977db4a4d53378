//! An authenticator as a callback.

use fidibus_core::auth::{Access, AuthRequest, Authenticator, BoxFuture, Grant};
use fidibus_core::error::AuthError;

use crate::callback::{self, Env, Function};
use crate::event::Event;
use crate::extension::fidibus_hook;
use crate::reply::Kind;

/// The callback with its env.
pub(crate) struct CAuthenticator {
    pub(crate) function: Function,
    pub(crate) env: Env,
}

impl Authenticator for CAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>> {
        let event = Event {
            handshake: Some(request.handshake),
            token: Some(request.token),
            ..Event::of_document(fidibus_hook::OnAuthenticate as u32, request.document)
        };
        let asked = callback::ask(self.function, &self.env, &event, Kind::Grant);
        Box::pin(async move {
            let mut answer = asked.await;
            match answer.verdict() {
                Ok(()) => {
                    let mut grant = Grant::anonymous(Access::ReadWrite);
                    answer.grant(&mut grant);
                    Ok(grant)
                }
                Err(Ok(close)) => Err(AuthError::Denied { reason: close.reason.clone(), close }),
                Err(Err(error)) => Err(AuthError::Unavailable(error)),
            }
        })
    }
}
