//! A hold on a hub that does not keep it alive: for extensions, which the hub itself holds.

use std::fmt;
use std::sync::Weak;

use super::{Hub, Shared};

/// See the module's description.
#[derive(Clone)]
pub struct WeakHub(pub(super) Weak<Shared>);

impl WeakHub {
    /// The hub, while somebody holds it.
    pub fn upgrade(&self) -> Option<Hub> {
        self.0.upgrade().map(Hub)
    }
}

impl fmt::Debug for WeakHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakHub")
    }
}
