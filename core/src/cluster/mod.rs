//! Other servers with the same documents: the trait, and the server that is alone.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::DocumentName;

/// What servers tell each other about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterMessage {
    /// A Yjs update v1.
    Update(Bytes),
    /// An awareness message.
    Awareness(Bytes),
    /// A stateless message for all clients.
    Stateless(String),
}

/// Takes what other servers say. Called from any thread, must not block.
pub type ClusterSink = Arc<dyn Fn(ClusterMessage) + Send + Sync>;

/// Ends a subscription when dropped.
pub trait Subscription: Send + Sync {}

/// Carries messages between servers. Delivery may lose, repeat and reorder: updates are idempotent, and
/// implementations exchange state vectors now and then, so that a loss heals.
pub trait Cluster: Send + Sync + 'static {
    /// Hears what others say of a document from now on, until the subscription is dropped.
    fn subscribe(&self, document: &DocumentName, sink: ClusterSink) -> Box<dyn Subscription>;

    /// Tells the others. Must not block; a bounded queue may drop.
    fn publish(&self, document: &DocumentName, message: ClusterMessage);
}
