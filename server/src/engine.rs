//! What a server runs: the hub, and what keeps its store going.

use fidibus_core::hub::Hub;
use fidibus_core::store::{SpoolFigures, SpooledStore};

use crate::state::StateDirectory;
use crate::upkeep::Task;

/// A hub with what belongs to its store; a hub alone becomes one by `into`.
pub struct Engine {
    /// The hub.
    pub hub: Hub,
    /// Where updates wait for a database that is away.
    pub spool: Option<SpooledStore>,
    /// What runs for as long as the server does.
    pub upkeep: Vec<Task>,
    /// Held for as long as the store's files are open.
    pub state: Option<StateDirectory>,
}

impl Engine {
    /// What waits in the spool; `None` where there is none.
    pub fn spool_figures(&self) -> Option<SpoolFigures> {
        self.spool.as_ref().map(SpooledStore::figures)
    }
}

impl From<Hub> for Engine {
    fn from(hub: Hub) -> Self {
        Self { hub, spool: None, upkeep: Vec::new(), state: None }
    }
}
