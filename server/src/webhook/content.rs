//! The document that a change is told with, read when its message is about to be sent: what waits in the queue is a
//! name, and what the application gets is the newest.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fidibus_core::error::BoxError;
use fidibus_core::hub::WeakHub;
use fidibus_core::id::DocumentName;
use serde_json::{Value, json};

use crate::config::DocumentForm;

/// Where documents are read, and in which form.
#[derive(Debug, Default)]
pub(super) struct Content {
    form: Option<DocumentForm>,
    hub: OnceLock<WeakHub>,
}

impl Content {
    pub(super) fn new(form: Option<DocumentForm>) -> Self {
        Self { form, hub: OnceLock::new() }
    }

    /// Names the hub, which is made after its extensions.
    pub(super) fn attach(&self, hub: WeakHub) {
        // There is one hub, so a second call changes nothing.
        let _ = self.hub.set(hub);
    }

    /// Whether changes are told with the document.
    pub(super) fn is_wanted(&self) -> bool {
        self.form.is_some()
    }

    /// Adds `document` and `update` to a payload.
    pub(super) async fn add_to(&self, payload: &mut Value, name: &DocumentName) -> Result<(), BoxError> {
        let (Some(form), Some(hub)) = (self.form, self.hub.get().and_then(WeakHub::upgrade)) else {
            return Ok(());
        };
        let document = hub.open_direct_connection(name).await?;
        let text = match form {
            DocumentForm::Json => document.json(None, Default::default()).await?,
            DocumentForm::ProseMirror => document.prosemirror().await?,
        };
        payload["document"] = serde_json::from_str(&text)?;
        payload["update"] = json!(STANDARD.encode(document.encode().await?));
        Ok(())
    }
}
