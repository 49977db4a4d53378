//! All rooms of a server and the sockets that lead to them: the public face of the engine. Its tasks, of sockets and of
//! rooms, are tokio's.

mod aside;
mod committer;
mod control;
mod decisions;
mod direct;
mod directory;
mod driver;
mod follower;
mod gathering;
mod hold;
mod host;
mod inbox;
mod lifetime;
mod loading;
mod notices;
mod observer;
mod pace;
mod panics;
mod quarantine;
mod recheck;
mod registry;
mod requests;
mod room_task;
mod shutdown;
mod socket;
mod transport;
mod weak;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

pub use control::OpenSession;
pub use direct::{DirectConnection, DirectError};
pub use directory::Selector;
pub use follower::{Follower, Held, RoomFollower};
pub use hold::Hold;
pub use host::{HostConnection, ReceiveError, Wake};
pub use observer::{Observed, Observer};
pub use requests::RequestKind;
pub use shutdown::ShutdownReport;
pub use transport::{FrameSink, Incoming, Transport};
pub use weak::WeakHub;

use crate::auth::{AllowAll, Authenticator, Handshake};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::{AckMode, Config, Limits};
use crate::error::{CloseReason, HubError, StoreError};
use crate::hooks::{
    BroadcastStatelessEvent, ConfigureEvent, Extension, HookChain, HookSet, ListenEvent, SessionScope,
    run_hooks,
};
use crate::id::{ConnectionId, DocumentName};
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::protocol::message::Text;
use crate::room::{Beat, Note, Outbox, RoomOptions};
use crate::store::{DocumentStore, MemoryStore};
use committer::Committer;
use directory::Directory;
use quarantine::Quarantine;
use recheck::Rechecking;
use registry::{Command, Pin, Registry};

/// What all tasks of a hub share.
struct Shared {
    config: Config,
    limits: Arc<Limits>,
    room_options: Arc<RoomOptions>,
    store: Arc<dyn DocumentStore>,
    committer: Option<Committer>,
    authenticator: Arc<dyn Authenticator>,
    hooks: HookChain,
    cluster: Option<Arc<dyn Cluster>>,
    follower: Option<Arc<dyn Follower>>,
    /// `false`: the host's hooks are the persistence, the store is not asked.
    keeps_documents: bool,
    quarantine: Quarantine,
    metrics: Arc<Metrics>,
    registry: Registry,
    directory: Arc<Directory>,
    /// Set once, when the hub is built.
    rechecking: OnceLock<Rechecking>,
    connections: Mutex<HashMap<ConnectionId, Arc<Outbox>>>,
    connections_gone: Notify,
    next_connection: AtomicU64,
    shutting_down: AtomicBool,
    /// The shutdown is over and the store closed.
    ended: watch::Sender<bool>,
    clock: Arc<Clock>,
    /// Where the tasks of connections run that a host feeds from threads of its own.
    runtime: Handle,
}

impl Shared {
    fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a connection for as long as the answer lives.
    fn connection_opened(self: &Arc<Self>, id: ConnectionId, outbox: &Arc<Outbox>) -> Presence {
        self.metrics.connections_total.add(1);
        self.metrics.connections_open.add(1);
        self.lock_connections().insert(id, Arc::clone(outbox));
        if self.is_shutting_down() {
            outbox.post(Note::CloseConnection(CloseReason::SERVICE_RESTART));
        }
        Presence { shared: Arc::clone(self), id }
    }

    fn connection_closed(&self, id: ConnectionId) {
        self.metrics.connections_open.sub(1);
        let mut connections = self.lock_connections();
        connections.remove(&id);
        if connections.is_empty() {
            self.connections_gone.notify_waiters();
        }
    }

    /// Tells a socket's task something; nobody where the socket is gone.
    fn post(&self, connection: ConnectionId, note: Note) {
        let outbox = self.lock_connections().get(&connection).cloned();
        if let Some(outbox) = outbox {
            outbox.post(note);
        }
    }

    fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    /// The room of a document; a new one loads it in a task of its own.
    fn open_room(
        self: &Arc<Self>,
        document: &DocumentName,
        opener: Option<&SessionScope>,
    ) -> Result<Pin, HubError> {
        if self.is_shutting_down() {
            return Err(HubError::ShuttingDown);
        }
        let pin = self.registry.open(document, |handle| {
            let opener =
                opener.filter(|_| self.hooks.wants(HookSet::ON_LOAD_DOCUMENT)).cloned().map(Box::new);
            tokio::spawn(lifetime::run(Arc::clone(self), handle, opener));
        })?;
        if self.is_shutting_down() {
            // A shutdown that began meanwhile may have looked for rooms before this one was there.
            pin.room().send(Command::Shutdown);
        }
        Ok(pin)
    }

    fn lock_connections(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Arc<Outbox>>> {
        // The map is whole between any two statements.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is open; dropped with its task, however that ends.
struct Presence {
    shared: Arc<Shared>,
    id: ConnectionId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.connection_closed(self.id);
    }
}

/// Collects what a hub is made of.
pub struct HubBuilder {
    config: Config,
    store: Option<Arc<dyn DocumentStore>>,
    authenticator: Arc<dyn Authenticator>,
    extensions: Vec<Arc<dyn Extension>>,
    cluster: Option<Arc<dyn Cluster>>,
    follower: Option<Arc<dyn Follower>>,
    keeps_documents: bool,
}

impl HubBuilder {
    /// Where documents live. Default: in memory, until the process ends.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn DocumentStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Who decides about sessions. Default: [`AllowAll`].
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// Adds an extension.
    #[must_use]
    pub fn extension(mut self, extension: Arc<dyn Extension>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// How other servers are reached. Default: there are none.
    #[must_use]
    pub fn cluster(mut self, cluster: Arc<dyn Cluster>) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Has the host follow all rooms.
    #[must_use]
    pub fn follower(mut self, follower: Arc<dyn Follower>) -> Self {
        self.follower = Some(follower);
        self
    }

    /// Keeps no documents: the host's hooks load and store them, and the host unloads them.
    #[must_use]
    pub fn without_store(mut self) -> Self {
        self.keeps_documents = false;
        self
    }

    /// Builds the hub. Call it inside a tokio runtime; the hub's tasks run there.
    pub fn build(self) -> Hub {
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let metrics = Arc::new(Metrics::default());
        let (ended, has_ended) = watch::channel(false);
        let clock = Clock::shared();
        let committer = store
            .update_log()
            .map(|log| Committer::start(log, Arc::clone(&metrics), Arc::clone(&clock), has_ended));
        let hooks = HookChain::new(self.extensions);
        let mut room_options = RoomOptions::new(&self.config, committer.is_some());
        room_options.awareness_beat = Beat::new(self.config.awareness_delay, Instant::now());
        room_options.report_changes = self.follower.is_some() || hooks.wants(HookSet::ON_CHANGE);
        room_options.report_awareness = self.follower.is_some() || hooks.wants(HookSet::ON_AWARENESS_UPDATE);
        room_options.publish = self.cluster.is_some();
        let limits = Arc::new(self.config.limits.clone());
        let shared = Arc::new(Shared {
            registry: Registry::new(limits.documents_max, limits.inbox_bytes_max),
            limits,
            room_options: Arc::new(room_options),
            store,
            committer,
            authenticator: self.authenticator,
            hooks,
            cluster: self.cluster,
            follower: self.follower,
            keeps_documents: self.keeps_documents,
            quarantine: Quarantine::default(),
            metrics,
            directory: Arc::default(),
            rechecking: OnceLock::new(),
            connections: Mutex::default(),
            connections_gone: Notify::new(),
            next_connection: AtomicU64::new(1),
            shutting_down: AtomicBool::new(false),
            ended,
            clock,
            runtime: Handle::current(),
            config: self.config,
        });
        let _ = shared.rechecking.set(recheck::start(&shared));
        if shared.hooks.wants(HookSet::ON_CONFIGURE) {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut event = ConfigureEvent { config: &shared.config };
                if run_hooks!(shared.hooks, ON_CONFIGURE, on_configure, &mut event).is_err() {
                    shared.metrics.hook_errors_total.add(1);
                }
            });
        }
        Hub(shared)
    }
}

/// A sync server without a listener. Cheap to clone; all clones are one hub.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

impl Hub {
    /// Begins a hub.
    pub fn builder(config: Config) -> HubBuilder {
        HubBuilder {
            config,
            store: None,
            authenticator: Arc::new(AllowAll),
            extensions: Vec::new(),
            cluster: None,
            follower: None,
            keeps_documents: true,
        }
    }

    /// A hold that does not keep the hub alive.
    pub fn downgrade(&self) -> WeakHub {
        WeakHub(Arc::downgrade(&self.0))
    }

    /// Serves one socket, given as its two halves, until it ends; why it ended. Dropping the future ends the
    /// socket without a word. Spawn it as it is where there are many: every async function that it is passed
    /// through keeps a place for it.
    pub fn serve<T: Transport>(
        &self,
        transport: T,
        sink: T::Sink,
        handshake: Arc<Handshake>,
    ) -> impl Future<Output = CloseReason> + Send + use<T> {
        self.serve_as(self.reserve(), transport, sink, handshake)
    }

    /// Takes the id of a connection that is to come, for a host that has to know it beforehand.
    pub fn reserve(&self) -> ConnectionId {
        self.0.next_connection_id()
    }

    /// As [`Self::serve`], under an id that was reserved.
    pub fn serve_as<T: Transport>(
        &self,
        id: ConnectionId,
        transport: T,
        sink: T::Sink,
        handshake: Arc<Handshake>,
    ) -> impl Future<Output = CloseReason> + Send + use<T> {
        driver::drive(Arc::clone(&self.0), id, transport, sink, handshake)
    }

    /// Opens a document for the host itself; it stays loaded until the connection is dropped.
    ///
    /// # Errors
    /// The document cannot be loaded, or the hub is shutting down.
    pub async fn open_direct_connection(
        &self,
        document: &DocumentName,
    ) -> Result<DirectConnection, HubError> {
        DirectConnection::open(self.0.open_room(document, None)?).await
    }

    /// Tells the `on_listen` hooks that a front listens on this port.
    pub async fn listening(&self, port: u16) {
        let mut event = ListenEvent { port };
        if self.0.hooks.wants(HookSet::ON_LISTEN)
            && run_hooks!(self.0.hooks, ON_LISTEN, on_listen, &mut event).is_err()
        {
            self.0.metrics.hook_errors_total.add(1);
        }
    }

    /// Ends the sessions of one document, or of all (`closeConnections`).
    pub fn close_connections(&self, document: Option<&DocumentName>) {
        let rooms = match document {
            Some(document) => self.0.registry.find(document).into_iter().collect(),
            None => self.0.registry.rooms(),
        };
        for room in rooms {
            room.send(Command::CloseSessions(CloseReason::RESET_CONNECTION));
        }
    }

    /// Sends a stateless message to all Hocuspocus sessions of a document, unless a hook says no; `false`
    /// when the document is not loaded.
    ///
    /// # Errors
    /// A hook refused it, or the room failed.
    pub async fn broadcast_stateless(
        &self,
        document: &DocumentName,
        payload: Text,
    ) -> Result<bool, HubError> {
        let Some(room) = self.0.registry.find(document) else { return Ok(false) };
        if self.0.hooks.wants(HookSet::BEFORE_BROADCAST_STATELESS) {
            let mut event = BroadcastStatelessEvent { document, payload: &payload };
            run_hooks!(self.0.hooks, BEFORE_BROADCAST_STATELESS, before_broadcast_stateless, &mut event)
                .map_err(|rejection| HubError::Rejected(Arc::new(rejection)))?;
        }
        direct::with(&room, move |room, now| room.broadcast_stateless(&payload, |_| true, now)).await?;
        Ok(true)
    }

    /// The names of loaded documents.
    pub fn documents(&self) -> Vec<DocumentName> {
        self.0.registry.rooms().iter().map(|room| room.name().clone()).collect()
    }

    /// How the server is doing.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.metrics.snapshot()
    }

    /// When acks are given.
    pub fn ack_mode(&self) -> AckMode {
        self.0.room_options.ack
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn DocumentStore> {
        &self.0.store
    }

    /// Asks the store whether it can be reached, and how long that took.
    ///
    /// # Errors
    /// It cannot, or not within `timeout`.
    pub async fn ping_store(&self, timeout: Duration) -> Result<Duration, StoreError> {
        let started = Instant::now();
        match tokio::time::timeout(timeout, self.0.store.ping()).await {
            Ok(answer) => answer.map(|()| started.elapsed()),
            Err(elapsed) => Err(StoreError::retryable(self.0.store.name(), elapsed)),
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("hooks", &self.0.hooks).field("store", &self.0.store.name()).finish()
    }
}

/// An error with its sources, on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        source = error.source();
    }
    text
}
