//! What a connection has decided for it: authentication, joining a room, the before-hooks, fresh tokens.
//! Every function answers with a [`Decision`] and owns all that it needs, since the connection goes on.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::directory::{Registration, TooManyConnections};
use super::notices::tell_connected;
use super::registry::{Command, Join, RoomHandle};
use super::{Shared, error_chain};
use crate::auth::{Access, AuthRequest, Grant, Handshake, SECURITY, Standing};
use crate::connection::Completion;
use crate::error::{AuthError, CloseReason, HubError};
use crate::hooks::{
    AuthenticateEvent, BeforeAwarenessEvent, HookSet, MessageEvent, Rejection, SessionScope, SyncEvent,
    TokenSyncEvent, run_hooks,
};
use crate::id::{Address, SessionKey};
use crate::protocol::Dialect;
use crate::protocol::awareness::{self, Entry};
use crate::protocol::frame::Prefix;
use crate::protocol::message::{Inbound, Text};
use crate::room::{Outbox, Subscriber};

/// The answer for the connection, with what its driver has to keep.
pub(super) struct Decision {
    pub(super) completion: Completion,
    /// What the session is granted, where that is new.
    pub(super) scope: Option<Box<SessionScope>>,
    /// Keeps it in the hub's directory.
    pub(super) registration: Option<Registration>,
    /// The room that it is in from now on.
    pub(super) room: Option<Arc<RoomHandle>>,
}

impl From<Completion> for Decision {
    fn from(completion: Completion) -> Self {
        Self { completion, scope: None, registration: None, room: None }
    }
}

/// What a client is told when it is refused without a reason of its own (`ClientConnection.ts` 455).
const DENIED: &str = "permission-denied";

/// The scope of a session that was granted nothing yet.
pub(super) fn applicant(
    session: SessionKey,
    address: Address,
    handshake: Arc<Handshake>,
) -> Box<SessionScope> {
    Box::new(SessionScope { session, address, handshake, grant: Grant::anonymous(Access::ReadWrite) })
}

/// Asks onConnect, the authenticator, and onAuthenticate, in this order.
pub(super) async fn authenticate(
    shared: Arc<Shared>,
    mut scope: Box<SessionScope>,
    token: Option<Text>,
    provider_version: Option<Text>,
) -> Decision {
    if shared.is_shutting_down() {
        return denied("shutting-down", CloseReason::SERVICE_RESTART);
    }
    let token = token.as_deref();
    let version = provider_version.as_deref();
    if shared.hooks.wants(HookSet::ON_CONNECT) {
        let mut event = AuthenticateEvent { scope: &mut scope, token, provider_version: version };
        if let Err(rejection) = run_hooks!(shared.hooks, ON_CONNECT, on_connect, &mut event) {
            return refused_by_hook(&shared, &scope, &rejection);
        }
    }
    let request = AuthRequest { document: scope.address.document(), token, handshake: &scope.handshake };
    let context = scope.grant.context.take();
    match shared.authenticator.authenticate(&request).await {
        Ok(grant) => scope.grant = Grant { context: grant.context.or(context), ..grant },
        Err(error) => return refused_by_authenticator(&shared, &scope, &error),
    }
    let by_authenticator = scope.grant.access;
    if shared.hooks.wants(HookSet::ON_AUTHENTICATE) {
        let mut event = AuthenticateEvent { scope: &mut scope, token, provider_version: version };
        if let Err(rejection) = run_hooks!(shared.hooks, ON_AUTHENTICATE, on_authenticate, &mut event) {
            return refused_by_hook(&shared, &scope, &rejection);
        }
        // Hooks may narrow what the authenticator grants, never widen it.
        if by_authenticator == Access::ReadOnly {
            scope.grant.access = Access::ReadOnly;
        }
    }
    let Ok(registration) = register(&shared, &scope, by_authenticator) else {
        return refused_as_one_too_many(&shared, &scope);
    };
    let access = scope.grant.access;
    tracing::info!(
        documentName = %scope.document(),
        socketId = %scope.session.connection,
        userId = scope.grant.user.as_deref(),
        role = scope.grant.login.as_ref().and_then(|login| login.role.as_deref()),
        readOnly = access == Access::ReadOnly,
        "WebSocket client authenticated"
    );
    Decision { scope: Some(scope), registration, ..Completion::Granted(access).into() }
}

/// Enters a session that was granted `by_authenticator` and then looked at by hooks.
fn register(
    shared: &Shared,
    scope: &SessionScope,
    by_authenticator: Access,
) -> Result<Option<Registration>, TooManyConnections> {
    let standing = Standing { document: scope.document().clone(), grant: scope.grant.clone() };
    let narrowed = by_authenticator != scope.grant.access;
    let connections_max = shared.limits.connections_per_user_max;
    shared.directory.register(scope.session, standing, narrowed, connections_max)
}

fn refused_as_one_too_many(shared: &Shared, scope: &SessionScope) -> Decision {
    shared.metrics.connections_refused_total.add(1);
    tracing::warn!(target: SECURITY, userId = scope.grant.user.as_deref(), documentName = %scope.document(), "A user has too many connections");
    denied("too-many-connections", CloseReason::TRY_AGAIN_LATER)
}

fn refused_by_authenticator(shared: &Shared, scope: &SessionScope, error: &AuthError) -> Decision {
    let document = scope.document();
    match error {
        AuthError::Denied { reason, close } => {
            shared.metrics.auth_denied_total.add(1);
            tracing::warn!(target: SECURITY, documentName = %document, socketId = %scope.session.connection, clientIp = scope.handshake.client_ip.map(tracing::field::display), code = close.code, reason = %reason, "WebSocket authentication failed");
            denied(reason.clone(), close.clone())
        }
        AuthError::Unavailable(_) => {
            shared.metrics.auth_unavailable_total.add(1);
            tracing::error!(documentName = %document, error = %error_chain(error), "WebSocket authentication is unavailable");
            // The client may come back: nobody said that it may not.
            denied(DENIED, CloseReason::TRY_AGAIN_LATER)
        }
    }
}

fn refused_by_hook(shared: &Shared, scope: &SessionScope, rejection: &Rejection) -> Decision {
    shared.metrics.auth_denied_total.add(1);
    tracing::warn!(documentName = %scope.document(), socketId = %scope.session.connection, error = %error_chain(rejection), "WebSocket authentication failed");
    match &rejection.reason {
        Some(close) => denied(close.reason.clone(), close.clone()),
        None => denied(DENIED, CloseReason::FORBIDDEN),
    }
}

fn denied(reason: impl Into<Cow<'static, str>>, close: CloseReason) -> Decision {
    let reason = match reason.into() {
        Cow::Borrowed(text) => Text::from_static(text),
        Cow::Owned(text) => text.into(),
    };
    Completion::Denied { reason, close }.into()
}

/// Enters the session's room; loads the document where it is the first.
pub(super) async fn join(
    shared: Arc<Shared>,
    scope: Box<SessionScope>,
    address: Address,
    dialect: Dialect,
    outbox: Arc<Outbox>,
) -> Decision {
    let subscriber = Subscriber {
        session: scope.session,
        prefix: Prefix::new(&address, dialect),
        dialect,
        access: scope.grant.access,
        user: scope.grant.user.clone(),
        outbox,
    };
    match enter(&shared, &scope, address, subscriber).await {
        Ok(room) => {
            if shared.hooks.wants(HookSet::CONNECTED) {
                tokio::spawn(async move { tell_connected(&shared, &scope).await });
            }
            Decision { room: Some(room), ..Completion::Joined.into() }
        }
        Err(error) => refused_by_hub(&error),
    }
}

async fn enter(
    shared: &Arc<Shared>,
    scope: &SessionScope,
    address: Address,
    subscriber: Subscriber,
) -> Result<Arc<RoomHandle>, HubError> {
    let pin = shared.open_room(address.document(), Some(scope))?;
    let room = Arc::clone(pin.room());
    let mut way_back = WayBack { room: Arc::clone(&room), session: Some(subscriber.session) };
    // A room that ended before it took the session is loaded anew when the client tries again.
    room.ask(|reply| Command::Join(Box::new(Join { subscriber, reply, pin }))).await??;
    way_back.session = None;
    Ok(room)
}

/// Takes a session out of its room where the socket ends between the room's yes and its hearing of it.
struct WayBack {
    room: Arc<RoomHandle>,
    session: Option<SessionKey>,
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            self.room.send(Command::Leave(session));
        }
    }
}

fn refused_by_hub(error: &HubError) -> Decision {
    match error {
        HubError::Rejected(rejection) => match &rejection.reason {
            Some(close) => denied(close.reason.clone(), close.clone()),
            None => denied(DENIED, CloseReason::FORBIDDEN),
        },
        HubError::ShuttingDown => denied("shutting-down", CloseReason::SERVICE_RESTART),
        HubError::Protocol(_) => denied(DENIED, CloseReason::FORBIDDEN),
        // What cannot be read stays so until somebody mends it: coming back at once helps nobody.
        HubError::Load(error) if !error.retryable => {
            denied("document-unavailable", CloseReason::RESET_CONNECTION)
        }
        // All of these may pass, so the codes invite to come back.
        HubError::Load(_) => denied("document-unavailable", CloseReason::TRY_AGAIN_LATER),
        HubError::Limit(_) | HubError::Unloaded => denied("try-again-later", CloseReason::TRY_AGAIN_LATER),
    }
}

/// Asks the hooks that see a message before its room. Where others see it after, it is given to the room from here,
/// and the next one waits until they are through.
pub(super) async fn admit(
    shared: Arc<Shared>,
    scope: Box<SessionScope>,
    message: Inbound,
    frame: Bytes,
    room: Option<Arc<RoomHandle>>,
) -> Decision {
    match ask_admission(&shared, &scope, message, &frame).await {
        Ok(message) => match room.filter(|_| shared.hooks.wants(HookSet::AFTER_HANDLE_MESSAGE)) {
            Some(room) => {
                room.deliver(scope.session, message.clone());
                tell_handled(&shared, &room, &scope, &message, &frame).await;
                Completion::Dropped.into()
            }
            None => Completion::Admitted(message).into(),
        },
        Err(rejection) => {
            shared.metrics.hook_errors_total.add(1);
            let error = error_chain(&rejection);
            tracing::warn!(document = %scope.document(), %error, "A hook rejected a message; its session is closed");
            Completion::Rejected(rejection.reason.unwrap_or(CloseReason::RESET_CONNECTION)).into()
        }
    }
}

async fn ask_admission(
    shared: &Shared,
    scope: &SessionScope,
    message: Inbound,
    frame: &Bytes,
) -> Result<Inbound, Rejection> {
    if shared.hooks.wants(HookSet::BEFORE_HANDLE_MESSAGE) {
        let mut event = MessageEvent { scope, message: &message, frame };
        run_hooks!(shared.hooks, BEFORE_HANDLE_MESSAGE, before_handle_message, &mut event)?;
    }
    let (kind, payload) = match &message {
        Inbound::SyncStep1(payload) => (0, payload),
        Inbound::SyncStep2(payload) => (1, payload),
        Inbound::Update(payload) => (2, payload),
        Inbound::Awareness(update) if shared.hooks.wants(HookSet::BEFORE_HANDLE_AWARENESS) => {
            return ask_awareness(shared, scope, update).await.map(Inbound::Awareness);
        }
        Inbound::Awareness(_) | Inbound::QueryAwareness | Inbound::Stateless(_) => return Ok(message),
    };
    if shared.hooks.wants(HookSet::BEFORE_SYNC) {
        let mut event = SyncEvent { scope, kind, payload };
        run_hooks!(shared.hooks, BEFORE_SYNC, before_sync, &mut event)?;
    }
    Ok(message)
}

async fn ask_awareness(shared: &Shared, scope: &SessionScope, update: &Bytes) -> Result<Bytes, Rejection> {
    // What cannot be read goes on to the room, which has one answer to it.
    let Ok(entries) = awareness::scan(update) else { return Ok(update.clone()) };
    let mut states = entries.map(|entry| (entry.client, entry.clock, entry.state.to_owned())).collect();
    let mut event = BeforeAwarenessEvent { scope, states: &mut states };
    run_hooks!(shared.hooks, BEFORE_HANDLE_AWARENESS, before_handle_awareness, &mut event)?;
    let entries = states.iter().map(|(client, clock, state)| Entry { client: *client, clock: *clock, state });
    Ok(awareness::encode(entries).into())
}

/// Has a fresh token looked at: by the authenticator, where that judges by tokens, then by the hooks.
pub(super) async fn token_sync(shared: Arc<Shared>, mut scope: Box<SessionScope>, token: Text) -> Decision {
    let (refreshes, hooked) =
        (shared.authenticator.takes_fresh_tokens(), shared.hooks.wants(HookSet::ON_TOKEN_SYNC));
    if !refreshes && !hooked {
        return Completion::Synced.into();
    }
    let login = scope.grant.login.clone();
    if refreshes && let Err(reason) = refresh(&shared, &mut scope, &token).await {
        tracing::warn!(target: SECURITY, documentName = %scope.document(), userId = scope.grant.user.as_deref(), code = reason.code, "A fresh token was refused; the session is closed");
        return Completion::Rejected(reason).into();
    }
    if hooked {
        let mut event = TokenSyncEvent { scope: &mut scope, token: &token };
        if let Err(rejection) = run_hooks!(shared.hooks, ON_TOKEN_SYNC, on_token_sync, &mut event) {
            let error = error_chain(&rejection);
            tracing::warn!(document = %scope.document(), %error, "onTokenSync refused a token; the session is closed");
            return Completion::Rejected(rejection.reason.unwrap_or(CloseReason::UNAUTHORIZED)).into();
        }
    }
    shared.directory.replace(scope.session, login.as_ref(), scope.grant.clone());
    Decision { scope: Some(scope), ..Completion::Synced.into() }
}

/// Grants a session anew by a fresh token of the same user.
async fn refresh(shared: &Shared, scope: &mut SessionScope, token: &str) -> Result<(), CloseReason> {
    let handshake = &scope.handshake;
    let request = AuthRequest { document: scope.address.document(), token: Some(token), handshake };
    match shared.authenticator.authenticate(&request).await {
        Ok(grant) if grant.user != scope.grant.user => Err(CloseReason::FORBIDDEN),
        Ok(grant) => {
            let context = grant.context.or(scope.grant.context.take());
            let narrowed = shared.directory.is_narrowed(scope.session);
            let access = if narrowed { Access::ReadOnly } else { grant.access };
            scope.grant = Grant { access, context, ..grant };
            Ok(())
        }
        Err(AuthError::Denied { close, .. }) => Err(close),
        // The session goes on with what it has, until that ends.
        Err(AuthError::Unavailable(_)) => Ok(()),
    }
}

/// Tells `after_handle_message` once the room is through with what was sent to it before.
async fn tell_handled(
    shared: &Shared,
    room: &RoomHandle,
    scope: &SessionScope,
    message: &Inbound,
    frame: &Bytes,
) {
    let (reply, handled) = oneshot::channel();
    room.send(Command::Open(reply));
    // Fires as well when handling failed, as Hocuspocus' does.
    let _ = handled.await;
    let mut event = MessageEvent { scope, message, frame };
    if run_hooks!(shared.hooks, AFTER_HANDLE_MESSAGE, after_handle_message, &mut event).is_err() {
        shared.metrics.hook_errors_total.add(1);
    }
}
