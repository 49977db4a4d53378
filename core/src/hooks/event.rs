//! What hooks are given: one struct per kind of hook, borrowing all it can.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Context, Grant, Handshake};
use crate::config::Config;
use crate::id::{Address, DocumentName, SessionKey};
use crate::protocol::message::{Inbound, Text};
use crate::room::{AwarenessChange, Origin};

/// A session, as every hook about one sees it.
#[derive(Clone, Debug)]
pub struct SessionScope {
    /// Which one.
    pub session: SessionKey,
    /// Its document, and session id where it has one.
    pub address: Address,
    /// The socket's HTTP request.
    pub handshake: Arc<Handshake>,
    /// What it was granted.
    pub grant: Grant,
}

impl SessionScope {
    /// The document.
    pub fn document(&self) -> &DocumentName {
        self.address.document()
    }

    /// The front's own value.
    pub fn context(&self) -> Option<&Context> {
        self.grant.context.as_ref()
    }
}

/// `on_configure`.
#[derive(Debug)]
pub struct ConfigureEvent<'a> {
    /// The hub's configuration.
    pub config: &'a Config,
}

/// `on_listen`.
#[derive(Debug)]
pub struct ListenEvent {
    /// The TCP port; 0 for a Unix socket.
    pub port: u16,
}

/// `on_connect` and `on_authenticate`.
#[derive(Debug)]
pub struct AuthenticateEvent<'a> {
    /// The session-to-be. Hooks may narrow `grant.access`, and set user and context.
    pub scope: &'a mut SessionScope,
    /// The token of the Auth message.
    pub token: Option<&'a str>,
    /// The provider's version, from 4.0 on.
    pub provider_version: Option<&'a str>,
}

/// `on_token_sync`.
#[derive(Debug)]
pub struct TokenSyncEvent<'a> {
    /// The session; its grant may be changed.
    pub scope: &'a mut SessionScope,
    /// The fresh token.
    pub token: &'a str,
}

/// `connected` and `on_disconnect`.
#[derive(Debug)]
pub struct SessionEvent<'a> {
    /// The session.
    pub scope: &'a SessionScope,
}

/// `on_create_document`.
#[derive(Debug)]
pub struct CreateDocumentEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// Whether deleted content is collected; preset from the configuration.
    pub gc: bool,
}

/// `on_load_document`.
#[derive(Debug)]
pub struct LoadDocumentEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// The session that opens it, where it is one.
    pub scope: Option<&'a SessionScope>,
    /// What the store had, as one Yjs update v1.
    pub stored: &'a Bytes,
    /// Yjs updates v1 that hooks add to the document.
    pub updates: Vec<Bytes>,
}

/// `after_load_document`, `before_unload_document` and `after_unload_document`.
#[derive(Debug)]
pub struct DocumentEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
}

/// `before_handle_message` and `after_handle_message`.
#[derive(Debug)]
pub struct MessageEvent<'a> {
    /// The session.
    pub scope: &'a SessionScope,
    /// The message.
    pub message: &'a Inbound,
    /// The frame that it came in.
    pub frame: &'a Bytes,
}

/// `before_sync`.
#[derive(Debug)]
pub struct SyncEvent<'a> {
    /// The session.
    pub scope: &'a SessionScope,
    /// 0: step 1, 1: step 2, 2: update.
    pub kind: u8,
    /// The state vector or update.
    pub payload: &'a Bytes,
}

/// `before_handle_awareness`.
#[derive(Debug)]
pub struct BeforeAwarenessEvent<'a> {
    /// The session.
    pub scope: &'a SessionScope,
    /// Client, clock and state as JSON text (`null`: gone). What the hook leaves here is applied.
    pub states: &'a mut Vec<(u64, u64, String)>,
}

/// `on_awareness_update`.
#[derive(Debug)]
pub struct AwarenessEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// Who came, changed, and went.
    pub change: &'a AwarenessChange,
    /// Who caused it; `None`: time did, or a session's end.
    pub origin: Option<Origin>,
}

/// `before_broadcast_stateless`.
#[derive(Debug)]
pub struct BroadcastStatelessEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// The message.
    pub payload: &'a Text,
}

/// `on_stateless`.
#[derive(Debug)]
pub struct StatelessEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// The sender.
    pub session: SessionKey,
    /// The message.
    pub payload: &'a Text,
}

/// `on_change`.
#[derive(Debug)]
pub struct ChangeEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// The update, as it arrived.
    pub update: &'a Bytes,
    /// Who made it.
    pub origin: Origin,
}

/// `on_store_document` and `after_store_document`.
#[derive(Debug)]
pub struct StoreEvent<'a> {
    /// The document.
    pub document: &'a DocumentName,
    /// The whole document as one Yjs update v1.
    pub snapshot: &'a Bytes,
}

/// `on_destroy`.
#[derive(Debug, Default)]
pub struct DestroyEvent {}

/// `on_upgrade` and `on_request`.
#[derive(Debug)]
pub struct RequestEvent<'a> {
    /// The request.
    pub handshake: &'a Handshake,
}
