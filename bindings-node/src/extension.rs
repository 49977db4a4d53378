//! The user's hooks as one extension of the hub: the questions among them become events with a ticket. What
//! is only told goes another way (`rooms`). One extension stands for all of the user's: JavaScript runs
//! their chain, since it can change at any time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fidibus_core::auth::{Access, BoxFuture};
use fidibus_core::hooks::{
    AuthenticateEvent, BeforeAwarenessEvent, Extension, Flow, HookResult, HookSet, LoadDocumentEvent,
    MessageEvent, SyncEvent, TokenSyncEvent,
};
use fidibus_core::hub::WeakHub;
use fidibus_core::id::SessionKey;

use crate::event::Event;
use crate::rooms::Shared;
use crate::tickets::{Answer, Tickets};

/// See the module.
pub struct JsExtension {
    /// What it shares with the engine.
    pub shared: Arc<Shared>,
    /// The questions that are open.
    pub tickets: Arc<Tickets>,
    /// Set once the hub is built.
    pub hub: Arc<OnceLock<WeakHub>>,
}

/// JavaScript has to hear of these whatever the user has: it keeps connections and documents.
const ALWAYS: HookSet = HookSet::ON_AUTHENTICATE.union(HookSet::ON_LOAD_DOCUMENT);
/// These are asked where the user has them.
const ASKED: HookSet = HookSet::ADMISSION.union(HookSet::ON_TOKEN_SYNC);

impl JsExtension {
    async fn ask(&self, event: impl FnOnce(u64) -> Event) -> Answer {
        let question = self.tickets.open();
        self.shared.queue.push(event(question.ticket));
        question.answered().await
    }

    async fn admit(&self, event: impl FnOnce(u64) -> Event) -> HookResult {
        match self.ask(event).await {
            Answer::Yes => Ok(Flow::Continue),
            no => Err(no.rejection()),
        }
    }

    async fn load(&self, event: &mut LoadDocumentEvent<'_>) -> HookResult {
        // Invariant: a room's entry stands in the registry while it is loaded.
        let Some(hold) = self.hub.get().and_then(WeakHub::upgrade).and_then(|hub| hub.hold(event.document))
        else {
            return Err(Answer::Yes.rejection());
        };
        let name = event.document.to_string();
        let document = self.shared.documents.add(&name, hold).id;
        let session = event.scope.map(|scope| scope.session);
        let stored = event.stored.clone();
        match self.ask(|ticket| Event::Load { ticket, document, name, session, stored }).await {
            Answer::Updates(updates) => {
                event.updates.extend(updates.into_iter().map(Bytes::from));
                Ok(Flow::Continue)
            }
            no => {
                self.shared.documents.remove(document);
                Err(no.rejection())
            }
        }
    }
}

impl Extension for JsExtension {
    fn name(&self) -> &str {
        "javascript"
    }

    fn hooks(&self) -> HookSet {
        let user = HookSet::from_bits_truncate(self.shared.hooks.load(Ordering::Acquire));
        ALWAYS | (user & ASKED)
    }

    fn on_authenticate<'a>(&'a self, event: &'a mut AuthenticateEvent<'_>) -> BoxFuture<'a, HookResult> {
        Box::pin(async move {
            let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
            let (session, address) = (event.scope.session, event.scope.address.clone());
            let answer = self.ask(|ticket| Event::Authenticate {
                ticket,
                session,
                document: address.document().to_string(),
                session_id: owned(address.session_id()),
                token: owned(event.token),
                provider_version: owned(event.provider_version),
            });
            match answer.await {
                Answer::Yes => Ok(Flow::Continue),
                Answer::ReadOnly => {
                    event.scope.grant.access = Access::ReadOnly;
                    Ok(Flow::Continue)
                }
                no => Err(no.rejection()),
            }
        })
    }

    fn on_token_sync<'a>(&'a self, event: &'a mut TokenSyncEvent<'_>) -> BoxFuture<'a, HookResult> {
        let (session, token) = (event.scope.session, event.token.to_owned());
        Box::pin(self.admit(move |ticket| Event::TokenSync { ticket, session, token }))
    }

    fn on_load_document<'a>(&'a self, event: &'a mut LoadDocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        Box::pin(self.load(event))
    }

    fn before_handle_message<'a>(&'a self, event: &'a mut MessageEvent<'_>) -> BoxFuture<'a, HookResult> {
        let (session, frame): (SessionKey, Bytes) = (event.scope.session, event.frame.clone());
        Box::pin(self.admit(move |ticket| Event::BeforeMessage { ticket, session, frame }))
    }

    fn after_handle_message<'a>(&'a self, event: &'a mut MessageEvent<'_>) -> BoxFuture<'a, HookResult> {
        let (session, frame) = (event.scope.session, event.frame.clone());
        Box::pin(self.admit(move |ticket| Event::AfterMessage { ticket, session, frame }))
    }

    fn before_sync<'a>(&'a self, event: &'a mut SyncEvent<'_>) -> BoxFuture<'a, HookResult> {
        let (session, kind, payload) = (event.scope.session, event.kind, event.payload.clone());
        Box::pin(self.admit(move |ticket| Event::BeforeSync { ticket, session, kind, payload }))
    }

    fn before_handle_awareness<'a>(
        &'a self,
        event: &'a mut BeforeAwarenessEvent<'_>,
    ) -> BoxFuture<'a, HookResult> {
        Box::pin(async move {
            let (session, states) = (event.scope.session, event.states.clone());
            let question = |ticket| Event::BeforeAwareness { ticket, session, states };
            match self.ask(question).await {
                Answer::States(states) => {
                    *event.states = states;
                    Ok(Flow::Continue)
                }
                no => Err(no.rejection()),
            }
        })
    }
}
