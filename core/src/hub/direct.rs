//! A document opened by the host itself, without a socket: it stays loaded while this lives.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::aside::on_large_stack;
use super::registry::{Command, Pin, RoomHandle};
use crate::error::HubError;
use crate::log::{ScanError, Verdict};
use crate::protocol::message::Text;
use crate::room::{self, Edit, MaterializeError, Origin, Room, RootKind};

/// Reads and edits one document. Calls are carried out in order, between the messages of sessions.
pub struct DirectConnection {
    pin: Pin,
}

impl DirectConnection {
    /// Waits until the document is loaded.
    pub(super) async fn open(pin: Pin) -> Result<Self, HubError> {
        pin.room().ask(Command::Open).await??;
        Ok(Self { pin })
    }

    /// The whole document as one Yjs update v1.
    ///
    /// # Errors
    /// [`HubError::Unloaded`] when the room failed; open it again.
    pub async fn encode(&self) -> Result<Bytes, HubError> {
        self.with(|room, _| room.log().encode().into()).await
    }

    /// The document's state vector.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn state_vector(&self) -> Result<Bytes, HubError> {
        self.with(|room, _| room.log().state_vector().into()).await
    }

    /// What a peer with this state vector lacks.
    ///
    /// # Errors
    /// As [`Self::encode`], and [`DirectError::Scan`] for a state vector that cannot be read.
    pub async fn diff(&self, state_vector: Bytes) -> Result<Bytes, DirectError> {
        Ok(self.with(move |room, _| room.log().diff(&state_vector)).await??.into())
    }

    /// Applies an update of the host's; sessions get it as any other. It is handed to the store before
    /// this returns, but may not be committed yet.
    ///
    /// # Errors
    /// As [`Self::encode`], and [`DirectError::Scan`] for an update that cannot be read.
    pub async fn apply_update(&self, update: Bytes) -> Result<Verdict, DirectError> {
        let applied = self.with(move |room, now| room.apply_update(&update, Origin::Direct, now)).await??;
        Ok(applied.verdict)
    }

    /// One root `Y.Text` as a string.
    ///
    /// # Errors
    /// As [`Self::encode`], and [`DirectError::Materialize`].
    pub async fn text(&self, root: impl Into<String>) -> Result<String, DirectError> {
        let (update, root) = (self.encode().await?, root.into());
        Ok(on_large_stack(move || room::text(&update, &root)).await??)
    }

    /// One root type as JSON text, `null` where there is none; without a name all of them as one object.
    ///
    /// # Errors
    /// As [`Self::encode`], and [`DirectError::Materialize`].
    pub async fn json(&self, root: Option<String>, kind: RootKind) -> Result<String, DirectError> {
        let update = self.encode().await?;
        let json = move || match root {
            Some(root) => room::json(&update, &root, kind),
            None => room::json_of_all(&update),
        };
        Ok(on_large_stack(json).await??)
    }

    /// All root types as one object of JSON, XML in the form of ProseMirror.
    ///
    /// # Errors
    /// As [`Self::encode`], and [`DirectError::Materialize`].
    pub async fn prosemirror(&self) -> Result<String, DirectError> {
        let update = self.encode().await?;
        Ok(on_large_stack(move || room::prosemirror_of_all(&update)).await??)
    }

    /// Carries out edits as one update; none of them where one cannot be.
    ///
    /// # Errors
    /// As [`Self::apply_update`], and [`DirectError::Materialize`].
    pub async fn transact(&self, edits: Vec<Edit>) -> Result<Verdict, DirectError> {
        let before = self.encode().await?;
        let update = on_large_stack(move || room::edit(&before, &edits)).await??;
        self.apply_update(update).await
    }

    /// Sends a stateless message to all Hocuspocus sessions of the document.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn broadcast_stateless(&self, payload: Text) -> Result<(), HubError> {
        self.with(move |room, now| room.broadcast_stateless(&payload, |_| true, now)).await
    }

    /// Who is there: client ids with their states as JSON text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn awareness(&self) -> Result<Vec<(u64, String)>, HubError> {
        self.with(|room, _| room.awareness().states().map(|(id, state)| (id, state.to_owned())).collect())
            .await
    }

    /// Does something with the room between two messages. It must not block.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn with<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Room, Instant) -> R + Send + 'static,
    ) -> Result<R, HubError> {
        with(self.pin.room(), call).await
    }
}

/// Has a room's task call something.
pub(super) async fn with<R: Send + 'static>(
    room: &Arc<RoomHandle>,
    call: impl FnOnce(&mut Room, Instant) -> R + Send + 'static,
) -> Result<R, HubError> {
    let command = |reply: oneshot::Sender<R>| {
        Command::With(Box::new(move |room, now| drop(reply.send(call(room, now)))))
    };
    room.ask(command).await
}

/// Why a direct call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DirectError {
    /// The hub could not do it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// What was given cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The document cannot be read as text or JSON, or edited.
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::BoxFuture;
    use crate::config::Config;
    use crate::error::CloseReason;
    use crate::hooks::{Extension, HookResult, HookSet, LoadDocumentEvent, Rejection};
    use crate::hub::Hub;
    use crate::id::DocumentName;

    struct Refusing;

    impl Extension for Refusing {
        fn name(&self) -> &str {
            "refusing"
        }
        fn hooks(&self) -> HookSet {
            HookSet::ON_LOAD_DOCUMENT
        }
        fn on_load_document<'a>(&'a self, _: &'a mut LoadDocumentEvent) -> BoxFuture<'a, HookResult> {
            Box::pin(async { Err(Rejection::with_reason(CloseReason::FORBIDDEN)) })
        }
    }

    /// Goal: who comes to a room just after its load failed is told why, as who waited in it is.
    #[tokio::test]
    async fn who_comes_after_the_load_failed_is_told_why() {
        let hub = Hub::builder(Config::default()).extension(Arc::new(Refusing)).build();
        let pin = hub.0.open_room(&DocumentName::parse("notes").unwrap(), None).unwrap();
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(pin.room().inbox().is_closed(), "the load failed");
        let late = DirectConnection::open(pin).await.err();
        assert!(matches!(late, Some(HubError::Rejected(_))), "{late:?}");
    }
}
