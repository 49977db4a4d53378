//! Points where an embedder can step in: all hooks of Hocuspocus under their names in snake_case. An
//! extension declares once which hooks it has; a hook that nobody has costs one branch, no payload and
//! no future.
//!
//! Gates (`on_connect`, `on_authenticate`, `before_*`, `on_load_document`, …) hold up only the session
//! or document that they are about. Notifications (`on_change`, `on_awareness_update`, `on_stateless`,
//! `connected`, `on_disconnect`, `after_*`) run in order per document, beside the traffic.

mod chain;
mod event;

use std::future::ready;

pub use chain::HookChain;
pub(crate) use chain::run_hooks;
pub use event::*;

use crate::auth::BoxFuture;
use crate::error::{BoxError, CloseReason};

bitflags::bitflags! {
    /// Which hooks an extension has.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HookSet: u32 {
        /// `onConfigure`
        const ON_CONFIGURE = 1 << 0;
        /// `onListen`
        const ON_LISTEN = 1 << 1;
        /// `onConnect`
        const ON_CONNECT = 1 << 2;
        /// `onAuthenticate`
        const ON_AUTHENTICATE = 1 << 3;
        /// `onTokenSync`
        const ON_TOKEN_SYNC = 1 << 4;
        /// `connected`
        const CONNECTED = 1 << 5;
        /// `onCreateDocument`
        const ON_CREATE_DOCUMENT = 1 << 6;
        /// `onLoadDocument`
        const ON_LOAD_DOCUMENT = 1 << 7;
        /// `afterLoadDocument`
        const AFTER_LOAD_DOCUMENT = 1 << 8;
        /// `beforeHandleMessage`
        const BEFORE_HANDLE_MESSAGE = 1 << 9;
        /// `afterHandleMessage`
        const AFTER_HANDLE_MESSAGE = 1 << 10;
        /// `beforeSync`
        const BEFORE_SYNC = 1 << 11;
        /// `beforeHandleAwareness`
        const BEFORE_HANDLE_AWARENESS = 1 << 12;
        /// `onAwarenessUpdate`
        const ON_AWARENESS_UPDATE = 1 << 13;
        /// `beforeBroadcastStateless`
        const BEFORE_BROADCAST_STATELESS = 1 << 14;
        /// `onStateless`
        const ON_STATELESS = 1 << 15;
        /// `onChange`
        const ON_CHANGE = 1 << 16;
        /// `onStoreDocument`
        const ON_STORE_DOCUMENT = 1 << 17;
        /// `afterStoreDocument`
        const AFTER_STORE_DOCUMENT = 1 << 18;
        /// `onDisconnect`
        const ON_DISCONNECT = 1 << 19;
        /// `beforeUnloadDocument`
        const BEFORE_UNLOAD_DOCUMENT = 1 << 20;
        /// `afterUnloadDocument`
        const AFTER_UNLOAD_DOCUMENT = 1 << 21;
        /// `onDestroy`
        const ON_DESTROY = 1 << 22;
        /// `onUpgrade`: a front that owns the HTTP server calls it.
        const ON_UPGRADE = 1 << 23;
        /// `onRequest`: a front that owns the HTTP server calls it.
        const ON_REQUEST = 1 << 24;
    }
}

impl HookSet {
    /// Hooks that see a message before the room does, so that it has to wait for them.
    pub const ADMISSION: Self = Self::BEFORE_HANDLE_MESSAGE
        .union(Self::BEFORE_SYNC)
        .union(Self::BEFORE_HANDLE_AWARENESS)
        .union(Self::AFTER_HANDLE_MESSAGE);
}

/// Whether the chain goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The next extension is asked.
    Continue,
    /// No further extension is asked (`SkipFurtherHooksError`).
    Skip,
}

/// A hook's no.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct Rejection {
    /// What the client is told; without one the hook's default (4205, 4403, "permission-denied").
    pub reason: Option<CloseReason>,
    /// What went wrong, for the log.
    #[source]
    pub source: Option<BoxError>,
}

impl Rejection {
    /// A refusal with code and reason.
    pub fn with_reason(reason: CloseReason) -> Self {
        Self { reason: Some(reason), source: None }
    }

    fn text(&self) -> String {
        match (&self.reason, &self.source) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(source)) => source.to_string(),
            (None, None) => "rejected".to_owned(),
        }
    }
}

/// What a hook answers.
pub type HookResult = Result<Flow, Rejection>;

fn go_on<'a>() -> BoxFuture<'a, HookResult> {
    Box::pin(ready(Ok(Flow::Continue)))
}

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident($event:ty);)*) => {
        /// An object with hooks. Only the hooks that [`Extension::hooks`] names are ever called.
        pub trait Extension: Send + Sync + 'static {
            /// What it is called in logs.
            fn name(&self) -> &str;

            /// Which hooks it has; asked at every dispatch, so it has to be cheap.
            fn hooks(&self) -> HookSet;

            /// Higher comes first, equal ones in the order they were added (default 100, as Hocuspocus).
            fn priority(&self) -> i32 {
                100
            }

            $($(#[$doc])*
            fn $name<'a>(&'a self, event: &'a mut $event) -> BoxFuture<'a, HookResult> {
                let _ = event;
                go_on()
            })*
        }
    };
}

hooks! {
    /// The hub was built.
    on_configure(ConfigureEvent<'_>);
    /// A front listens.
    on_listen(ListenEvent);
    /// A session asks to be let in, before its token is looked at. An error refuses it.
    on_connect(AuthenticateEvent<'_>);
    /// A session's token is to be checked. An error refuses it; the grant may be narrowed and given a context.
    on_authenticate(AuthenticateEvent<'_>);
    /// A client sent a fresh token on an open session. An error closes the session.
    on_token_sync(TokenSyncEvent<'_>);
    /// A session is open.
    connected(SessionEvent<'_>);
    /// A document is about to be loaded; its options may be set.
    on_create_document(CreateDocumentEvent<'_>);
    /// A document is loaded; what the hook gives is merged into what the store had. An error refuses the session.
    on_load_document(LoadDocumentEvent<'_>);
    /// A document was loaded.
    after_load_document(DocumentEvent<'_>);
    /// A message arrived on an open session. An error closes the session.
    before_handle_message(MessageEvent<'_>);
    /// A message was handed to its room.
    after_handle_message(MessageEvent<'_>);
    /// A sync message arrived. An error closes the session.
    before_sync(SyncEvent<'_>);
    /// An awareness message arrived; its states may be changed. An error closes the session.
    before_handle_awareness(BeforeAwarenessEvent<'_>);
    /// Awareness changed.
    on_awareness_update(AwarenessEvent<'_>);
    /// A stateless message is about to be broadcast. An error stops it.
    before_broadcast_stateless(BroadcastStatelessEvent<'_>);
    /// A client sent a stateless message.
    on_stateless(StatelessEvent<'_>);
    /// The document changed.
    on_change(ChangeEvent<'_>);
    /// A snapshot is to be stored. An error means not stored: it is tried again.
    on_store_document(StoreEvent<'_>);
    /// A snapshot was stored.
    after_store_document(StoreEvent<'_>);
    /// A session ended.
    on_disconnect(SessionEvent<'_>);
    /// A document is about to be unloaded. An error keeps it.
    before_unload_document(DocumentEvent<'_>);
    /// A document was unloaded.
    after_unload_document(DocumentEvent<'_>);
    /// The hub was shut down.
    on_destroy(DestroyEvent);
    /// An HTTP request asks for an upgrade.
    on_upgrade(RequestEvent<'_>);
    /// An HTTP request that is no upgrade.
    on_request(RequestEvent<'_>);
}
