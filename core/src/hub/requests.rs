//! What the hooks say to HTTP requests, for fronts that own the HTTP server. The hub itself sees no HTTP.

use super::Hub;
use crate::auth::Handshake;
use crate::hooks::{HookSet, Rejection, RequestEvent, run_hooks};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To become a WebSocket (`on_upgrade`).
    Upgrade,
    /// An answer (`on_request`).
    Plain,
}

impl Hub {
    /// Whether any extension wants to be asked about such requests: a front that has nobody to ask makes no
    /// handshake for it.
    pub fn asks_about(&self, kind: RequestKind) -> bool {
        self.0.hooks.wants(match kind {
            RequestKind::Upgrade => HookSet::ON_UPGRADE,
            RequestKind::Plain => HookSet::ON_REQUEST,
        })
    }

    /// Asks the hooks about a request, for as long as they like: the caller bounds it.
    ///
    /// # Errors
    /// The no of one, which the front answers the request with.
    pub async fn ask_about(&self, kind: RequestKind, handshake: &Handshake) -> Result<(), Rejection> {
        let mut event = RequestEvent { handshake };
        match kind {
            RequestKind::Upgrade => run_hooks!(self.0.hooks, ON_UPGRADE, on_upgrade, &mut event),
            RequestKind::Plain => run_hooks!(self.0.hooks, ON_REQUEST, on_request, &mut event),
        }
    }
}
