//! Hooks as callbacks. An extension declares the hooks that a callback was set for, so the others cost
//! nothing.

use std::ffi::{c_char, c_void};
use std::future::ready;
use std::sync::Arc;

use fidibus_core::auth::BoxFuture;
use fidibus_core::hooks::*;
use fidibus_core::protocol::message::Inbound;
use fidibus_core::room::Origin;

use crate::border::{quietly, run};
use crate::callback::{self, Env, Function, fidibus_callback, fidibus_finalizer};
use crate::event::{Event, fidibus_message};
use crate::handle::{self, box_handle, output};
use crate::reply::Kind;
use crate::status::fidibus_status;
use crate::text;

/// The hooks, named after Hocuspocus'. Those marked "asked" get a reply and hold up what they are about; the
/// others are only told, and their reply is NULL.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fidibus_hook {
    /// The hub was made.
    OnConfigure = 0,
    /// fidibus_server_start listens: port.
    OnListen = 1,
    /// Asked: a session wants in, before its token is looked at. May grant.
    OnConnect = 2,
    /// Asked: a session's token is to be checked. May grant.
    OnAuthenticate = 3,
    /// Asked: an open session sent a fresh token. May grant.
    OnTokenSync = 4,
    /// A session is open.
    Connected = 5,
    /// Asked: a document is about to be loaded. May set gc.
    OnCreateDocument = 6,
    /// Asked: a document is loaded. May add updates.
    OnLoadDocument = 7,
    /// A document was loaded.
    AfterLoadDocument = 8,
    /// Asked: a message arrived: message, payload.
    BeforeHandleMessage = 9,
    /// A message was handled: message, payload.
    AfterHandleMessage = 10,
    /// Asked: a sync message arrived: message, payload.
    BeforeSync = 11,
    /// Asked: an awareness message arrived: states, which may be replaced.
    BeforeHandleAwareness = 12,
    /// Awareness changed: clients, origin.
    OnAwarenessUpdate = 13,
    /// Asked: a stateless message is about to be broadcast: payload.
    BeforeBroadcastStateless = 14,
    /// A client sent a stateless message: payload, session.
    OnStateless = 15,
    /// The document changed: payload (the update), origin, session where it was one.
    OnChange = 16,
    /// Asked: a snapshot is to be stored: payload. A no means not stored: it is tried again.
    OnStoreDocument = 17,
    /// A snapshot was stored: payload.
    AfterStoreDocument = 18,
    /// A session ended.
    OnDisconnect = 19,
    /// Asked: a document is about to be unloaded. A no keeps it.
    BeforeUnloadDocument = 20,
    /// A document was unloaded.
    AfterUnloadDocument = 21,
    /// The hub was shut down.
    OnDestroy = 22,
    /// Asked: an HTTP request to a fidibus_server_start wants to become a WebSocket: uri, headers, client_ip. A
    /// no is answered with HTTP status 401 (code 4401), 503 (1013) or 403. Hosts with a listener of their own
    /// own the HTTP too, and it is not called.
    OnUpgrade = 23,
    /// Asked: an HTTP request to a fidibus_server_start that does not (health, the greeting). A no is answered
    /// as above.
    OnRequest = 24,
}

use fidibus_hook as Hook;

/// One more than the largest hook.
const HOOKS: usize = 25;

/// A set of hooks. Make it, set callbacks, add it to configurations, free it.
pub struct fidibus_extension {
    _private: [u8; 0],
}

box_handle!(fidibus_extension(CExtension));

/// The callbacks of one extension. Clones share the env.
#[derive(Clone)]
pub(crate) struct CExtension {
    name: String,
    priority: i32,
    env: Arc<Env>,
    callbacks: [Option<Function>; HOOKS],
}

/// Makes an extension without hooks. `env` goes to each of its callbacks; the finalizer is called when the
/// extension and all hubs that it was added to are gone. Free it with fidibus_extension_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_extension_new(
    name: *const c_char,
    env: *mut c_void,
    finalizer: fidibus_finalizer,
    extension: *mut *mut fidibus_extension,
) -> fidibus_status {
    run(|| {
        let (name, out) = (text::read(name)?.to_owned(), output(extension)?);
        let env = Arc::new(Env::new(env, finalizer));
        *out = handle::give_box(CExtension { name, priority: 100, env, callbacks: [None; HOOKS] });
        Ok(())
    })
}

/// Frees it; hubs that have it keep their own share.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_extension_free(extension: *mut fidibus_extension) {
    quietly((), || drop(handle::take_box(extension)));
}

/// Higher ones are asked first, equal ones in the order that they were added in. Default 100.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_extension_set_priority(
    extension: *mut fidibus_extension,
    priority: i32,
) -> fidibus_status {
    run(|| {
        handle::box_mut(extension)?.priority = priority;
        Ok(())
    })
}

/// Sets the callback of a fidibus_hook; NULL takes it away. Configurations have what was set when it was added.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_extension_on(
    extension: *mut fidibus_extension,
    hook: u32,
    callback: fidibus_callback,
) -> fidibus_status {
    run(|| {
        let extension = handle::box_mut(extension)?;
        *extension.callbacks.get_mut(hook as usize).ok_or(fidibus_status::InvalidArgument)? = callback;
        Ok(())
    })
}

impl CExtension {
    fn tell<'a>(&self, event: &Event<'_>) -> BoxFuture<'a, HookResult> {
        if let Some(function) = self.callbacks[event.kind as usize] {
            callback::tell(function, &self.env, event);
        }
        Box::pin(ready(Ok(Flow::Continue)))
    }

    fn ask(
        &self,
        event: &Event<'_>,
        kind: Kind,
    ) -> impl Future<Output = crate::reply::Answer> + Send + use<> {
        // Only hooks that were declared are called, and only those with a callback are declared.
        let function = self.callbacks[event.kind as usize];
        let asked = function.map(|function| callback::ask(function, &self.env, event, kind));
        async move {
            match asked {
                Some(asked) => asked.await,
                None => crate::reply::Answer::abandoned(),
            }
        }
    }

    fn gate<'a>(&self, event: &Event<'_>) -> BoxFuture<'a, HookResult> {
        let asked = self.ask(event, Kind::Gate);
        Box::pin(async move { asked.await.flow() })
    }

    fn grant<'a>(&self, kind: Hook, event: &'a mut AuthenticateEvent<'_>) -> BoxFuture<'a, HookResult> {
        let asked = self.ask(
            &Event {
                token: Some(event.token),
                provider_version: Some(event.provider_version),
                ..Event::of_scope(kind as u32, event.scope)
            },
            Kind::Grant,
        );
        let grant = &mut event.scope.grant;
        Box::pin(async move {
            let mut answer = asked.await;
            let flow = answer.flow()?;
            answer.grant(grant);
            Ok(flow)
        })
    }
}

fn message_of(message: &Inbound) -> (fidibus_message, &[u8]) {
    match message {
        Inbound::SyncStep1(payload) => (fidibus_message::SyncStep1, payload),
        Inbound::SyncStep2(payload) => (fidibus_message::SyncStep2, payload),
        Inbound::Update(payload) => (fidibus_message::Update, payload),
        Inbound::Awareness(payload) => (fidibus_message::Awareness, payload),
        Inbound::QueryAwareness => (fidibus_message::QueryAwareness, &[]),
        Inbound::Stateless(text) => (fidibus_message::Stateless, text.as_str().as_bytes()),
    }
}

fn message_event<'a>(kind: Hook, event: &MessageEvent<'a>) -> Event<'a> {
    let (message, payload) = message_of(event.message);
    Event { message: Some(message), payload: Some(payload), ..Event::of_scope(kind as u32, event.scope) }
}

fn session_of(origin: Option<Origin>) -> Option<fidibus_core::id::SessionKey> {
    match origin {
        Some(Origin::Session(session)) => Some(session),
        _ => None,
    }
}

impl Extension for CExtension {
    fn name(&self) -> &str {
        &self.name
    }

    fn hooks(&self) -> HookSet {
        let set = self.callbacks.iter().enumerate().filter(|(_, callback)| callback.is_some());
        set.fold(HookSet::empty(), |all, (number, _)| all | HookSet::from_bits_truncate(1 << number))
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn on_configure<'a>(&'a self, _: &'a mut ConfigureEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event { kind: Hook::OnConfigure as u32, ..Event::default() })
    }

    fn on_listen<'a>(&'a self, event: &'a mut ListenEvent) -> BoxFuture<'a, HookResult> {
        self.tell(&Event { kind: Hook::OnListen as u32, port: Some(event.port), ..Event::default() })
    }

    fn on_connect<'a>(&'a self, event: &'a mut AuthenticateEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.grant(Hook::OnConnect, event)
    }

    fn on_authenticate<'a>(&'a self, event: &'a mut AuthenticateEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.grant(Hook::OnAuthenticate, event)
    }

    fn on_token_sync<'a>(&'a self, event: &'a mut TokenSyncEvent<'_>) -> BoxFuture<'a, HookResult> {
        let asked = self.ask(
            &Event {
                token: Some(Some(event.token)),
                ..Event::of_scope(Hook::OnTokenSync as u32, event.scope)
            },
            Kind::Grant,
        );
        let grant = &mut event.scope.grant;
        Box::pin(async move {
            let mut answer = asked.await;
            let flow = answer.flow()?;
            answer.grant(grant);
            Ok(flow)
        })
    }

    fn connected<'a>(&'a self, event: &'a mut SessionEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event::of_scope(Hook::Connected as u32, event.scope))
    }

    fn on_create_document<'a>(&'a self, event: &'a mut CreateDocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        let kind = Hook::OnCreateDocument as u32;
        let asked = self.ask(&Event::of_document(kind, event.document), Kind::Create);
        let gc = &mut event.gc;
        Box::pin(async move {
            let answer = asked.await;
            let flow = answer.flow()?;
            *gc = answer.gc.unwrap_or(*gc);
            Ok(flow)
        })
    }

    fn on_load_document<'a>(&'a self, event: &'a mut LoadDocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        let kind = Hook::OnLoadDocument as u32;
        let about = match event.scope {
            Some(scope) => Event::of_scope(kind, scope),
            None => Event::of_document(kind, event.document),
        };
        let asked = self.ask(&about, Kind::Load);
        let updates = &mut event.updates;
        Box::pin(async move {
            let mut answer = asked.await;
            let flow = answer.flow()?;
            updates.append(&mut answer.updates);
            Ok(flow)
        })
    }

    fn after_load_document<'a>(&'a self, event: &'a mut DocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event::of_document(Hook::AfterLoadDocument as u32, event.document))
    }

    fn before_handle_message<'a>(&'a self, event: &'a mut MessageEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.gate(&message_event(Hook::BeforeHandleMessage, event))
    }

    fn after_handle_message<'a>(&'a self, event: &'a mut MessageEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&message_event(Hook::AfterHandleMessage, event))
    }

    fn before_sync<'a>(&'a self, event: &'a mut SyncEvent<'_>) -> BoxFuture<'a, HookResult> {
        let message = match event.kind {
            0 => fidibus_message::SyncStep1,
            1 => fidibus_message::SyncStep2,
            _ => fidibus_message::Update,
        };
        self.gate(&Event {
            message: Some(message),
            payload: Some(event.payload),
            ..Event::of_scope(Hook::BeforeSync as u32, event.scope)
        })
    }

    fn before_handle_awareness<'a>(
        &'a self,
        event: &'a mut BeforeAwarenessEvent<'_>,
    ) -> BoxFuture<'a, HookResult> {
        let kind = Hook::BeforeHandleAwareness as u32;
        let asked = self.ask(
            &Event { states: Some(event.states), ..Event::of_scope(kind, event.scope) },
            Kind::Awareness,
        );
        let states = &mut *event.states;
        Box::pin(async move {
            let mut answer = asked.await;
            let flow = answer.flow()?;
            if let Some(replaced) = answer.states.take() {
                *states = replaced;
            }
            Ok(flow)
        })
    }

    fn on_awareness_update<'a>(&'a self, event: &'a mut AwarenessEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event {
            change: Some(event.change),
            origin: Some(event.origin),
            session: session_of(event.origin),
            ..Event::of_document(Hook::OnAwarenessUpdate as u32, event.document)
        })
    }

    fn before_broadcast_stateless<'a>(
        &'a self,
        event: &'a mut BroadcastStatelessEvent<'_>,
    ) -> BoxFuture<'a, HookResult> {
        let kind = Hook::BeforeBroadcastStateless as u32;
        let payload = Some(event.payload.as_str().as_bytes());
        self.gate(&Event { payload, ..Event::of_document(kind, event.document) })
    }

    fn on_stateless<'a>(&'a self, event: &'a mut StatelessEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event {
            session: Some(event.session),
            payload: Some(event.payload.as_str().as_bytes()),
            ..Event::of_document(Hook::OnStateless as u32, event.document)
        })
    }

    fn on_change<'a>(&'a self, event: &'a mut ChangeEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event {
            payload: Some(event.update),
            origin: Some(Some(event.origin)),
            session: session_of(Some(event.origin)),
            ..Event::of_document(Hook::OnChange as u32, event.document)
        })
    }

    fn on_store_document<'a>(&'a self, event: &'a mut StoreEvent<'_>) -> BoxFuture<'a, HookResult> {
        let kind = Hook::OnStoreDocument as u32;
        self.gate(&Event { payload: Some(event.snapshot), ..Event::of_document(kind, event.document) })
    }

    fn after_store_document<'a>(&'a self, event: &'a mut StoreEvent<'_>) -> BoxFuture<'a, HookResult> {
        let kind = Hook::AfterStoreDocument as u32;
        self.tell(&Event { payload: Some(event.snapshot), ..Event::of_document(kind, event.document) })
    }

    fn on_disconnect<'a>(&'a self, event: &'a mut SessionEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event::of_scope(Hook::OnDisconnect as u32, event.scope))
    }

    fn before_unload_document<'a>(&'a self, event: &'a mut DocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.gate(&Event::of_document(Hook::BeforeUnloadDocument as u32, event.document))
    }

    fn after_unload_document<'a>(&'a self, event: &'a mut DocumentEvent<'_>) -> BoxFuture<'a, HookResult> {
        self.tell(&Event::of_document(Hook::AfterUnloadDocument as u32, event.document))
    }

    fn on_destroy<'a>(&'a self, _: &'a mut DestroyEvent) -> BoxFuture<'a, HookResult> {
        self.tell(&Event { kind: Hook::OnDestroy as u32, ..Event::default() })
    }

    fn on_upgrade<'a>(&'a self, event: &'a mut RequestEvent<'_>) -> BoxFuture<'a, HookResult> {
        let handshake = Some(event.handshake);
        self.gate(&Event { kind: Hook::OnUpgrade as u32, handshake, ..Event::default() })
    }

    fn on_request<'a>(&'a self, event: &'a mut RequestEvent<'_>) -> BoxFuture<'a, HookResult> {
        let handshake = Some(event.handshake);
        self.gate(&Event { kind: Hook::OnRequest as u32, handshake, ..Event::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the hooks are the bits of the engine's set: both are fixed for good.
    #[test]
    fn numbers_are_bits() {
        for (hook, bit) in [
            (Hook::OnConfigure, HookSet::ON_CONFIGURE),
            (Hook::OnAuthenticate, HookSet::ON_AUTHENTICATE),
            (Hook::OnLoadDocument, HookSet::ON_LOAD_DOCUMENT),
            (Hook::BeforeHandleAwareness, HookSet::BEFORE_HANDLE_AWARENESS),
            (Hook::OnChange, HookSet::ON_CHANGE),
            (Hook::OnDestroy, HookSet::ON_DESTROY),
            (Hook::OnRequest, HookSet::ON_REQUEST),
        ] {
            assert_eq!(HookSet::from_bits_truncate(1 << hook as u32), bit);
        }
        assert_eq!(HookSet::all().bits().count_ones() as usize, HOOKS);
    }
}
