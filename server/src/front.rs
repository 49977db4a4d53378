//! What all routes share: the hub, the configuration, and whether the server is on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fidibus_core::hub::Hub;
use fidibus_core::store::SpooledStore;

use crate::admission::Admission;
use crate::config::HttpConfig;
use crate::health::Probe;

/// The shared state of a running server.
pub struct Front {
    /// The engine.
    pub hub: Hub,
    /// Where updates wait for a database that is away, where there is such a place.
    pub spool: Option<SpooledStore>,
    /// How HTTP is served.
    pub config: HttpConfig,
    /// Who may open one more connection.
    pub admission: Arc<Admission>,
    /// When the server started.
    pub started: Instant,
    /// Asks the store how it is.
    pub probe: Probe,
    draining: AtomicBool,
}

impl Front {
    /// The state of a server that starts now.
    pub fn new(hub: Hub, spool: Option<SpooledStore>, config: HttpConfig) -> Self {
        let admission = Arc::new(Admission::new(config.admission));
        let (started, draining) = (Instant::now(), AtomicBool::new(false));
        Self { hub, spool, config, admission, started, probe: Probe::default(), draining }
    }

    /// From now on nobody is let in; `/ready` says so.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the server is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
