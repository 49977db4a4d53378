//! The class that JavaScript makes one of for each Hocuspocus instance. All of its methods return at once, but for
//! those that read a document, which wait for its room's turn. Documents, sockets and tickets are numbers here.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::auth::{Access, Handshake};
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{Hub, ReceiveError};
use fidibus_core::id::{ConnectionId, DocumentName, SessionKey};
use fidibus_core::protocol::message::Text;
use fidibus_core::room::Origin;
use fidibus_socket::stream::ServerStream;
use fidibus_socket::websocket::{WebSocket, WebSocketLimits};
use futures_util::FutureExt;
use napi::bindgen_prelude::{Buffer, BufferSlice, Either, Function, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Error, Result, Status};
use napi_derive::napi;

use crate::document::Document;
use crate::event::{Event, Writer};
use crate::extension::JsExtension;
use crate::host_socket::HostSockets;
use crate::options::EngineOptions;
use crate::queue::Batch;
use crate::rooms::{Rooms, Shared};
use crate::runtime::runtime;
use crate::tickets::{Answer, Tickets};

/// A socket that is silent for this long is pinged, as ws' users do by habit; a silent one is dropped.
const PING_INTERVAL: Duration = Duration::from_secs(25);

fn key(connection: f64, number: u32) -> SessionKey {
    SessionKey { connection: ConnectionId(connection as u64), number }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}

/// See the module.
#[napi]
pub struct Engine {
    hub: Hub,
    shared: Arc<Shared>,
    tickets: Arc<Tickets>,
    sockets: Arc<HostSockets>,
    limits: WebSocketLimits,
}

#[napi]
impl Engine {
    /// `wake` is called once whenever there are events; then `take` until it gives none.
    #[napi(constructor)]
    pub fn new(options: EngineOptions, wake: Function<'_, (), ()>) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        // Weak: an engine keeps no process alive; sockets and documents do, and JavaScript sees to that.
        let wake = wake.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        shared.queue.wake_with(Box::new(move || {
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }));
        let tickets = Arc::<Tickets>::default();
        let own_hub = Arc::new(OnceLock::new());
        let extension = JsExtension {
            shared: Arc::clone(&shared),
            tickets: Arc::clone(&tickets),
            hub: Arc::clone(&own_hub),
        };
        let config = options.config();
        let limits = WebSocketLimits {
            message_bytes_max: config.limits.message_bytes_max,
            ping_interval: PING_INTERVAL,
        };
        let hub = runtime().block_on(async {
            let builder = Hub::builder(config)
                .extension(Arc::new(extension))
                .follower(Arc::new(Rooms(Arc::clone(&shared))));
            let builder = match &options.store {
                Some(store) => builder.store(store.open().await.map_err(failed)?),
                None => builder.without_store(),
            };
            Ok::<_, Error>(builder.build())
        })?;
        // Set once, here, before any document is loaded; weak, since the hub holds the extension.
        let _ = own_hub.set(hub.downgrade());
        let sockets = HostSockets::new(Arc::clone(&shared));
        Ok(Self { hub, shared, tickets, sockets, limits })
    }

    /// The events that wait, as `event.rs` writes them: their length where they fit into `into`, and the next event
    /// wakes again; else in a buffer of their own, and there may be more.
    #[napi]
    pub fn take(&self, mut into: BufferSlice<'_>) -> Either<u32, Buffer> {
        let batch = self.shared.queue.take(&mut into, |event, out: &mut Writer| match event {
            Event::Poll { connection } => {
                self.sockets.poll(*connection).iter().for_each(|event| event.write(out));
            }
            event => event.write(out),
        });
        match batch {
            Batch::Copied(length) => Either::A(length as u32),
            Batch::Own(bytes) => Either::B(bytes.into()),
        }
    }

    /// Which hooks the user has.
    #[napi]
    pub fn set_hooks(&self, bits: u32) {
        self.shared.hooks.store(bits, Ordering::Release);
        self.hub.refresh_hooks();
    }

    /// Takes over a TCP socket after its WebSocket handshake: the descriptor is duplicated, the caller closes
    /// its own. The id of the connection.
    #[napi]
    pub fn adopt(&self, fd: i32, head: Uint8Array, ip: String, path_document: Option<String>) -> Result<f64> {
        let fd = crate::descriptor::duplicate(fd).map_err(failed)?;
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true).map_err(failed)?;
        // A peer that is gone already shows when it is read from.
        let _ = stream.set_nodelay(true);
        let _runtime = runtime().enter();
        let stream = ServerStream::Tcp(tokio::net::TcpStream::from_std(stream).map_err(failed)?);
        Ok(self.serve(stream, &head, &ip, path_document))
    }

    /// A pair of sockets, one end served as if it were a client's: the caller pumps bytes through the other, whose
    /// descriptor and connection are returned and which is the caller's own.
    #[napi]
    pub fn pair(&self, head: Uint8Array, ip: String, path_document: Option<String>) -> Result<Vec<f64>> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let _runtime = runtime().enter();
        let stream = ServerStream::Unix(tokio::net::UnixStream::from_std(ours).map_err(failed)?);
        let connection = self.serve(stream, &head, &ip, path_document);
        let fd = std::os::fd::IntoRawFd::into_raw_fd(theirs);
        Ok(vec![f64::from(fd), connection])
    }

    fn serve(&self, stream: ServerStream, head: &[u8], ip: &str, path_document: Option<String>) -> f64 {
        let websocket = WebSocket::new(head, self.limits);
        let shared = Arc::clone(&self.shared);
        let id = self.hub.reserve();
        let handshake = Arc::new(handshake(ip, path_document));
        let served = self.hub.serve_as(id, websocket, stream, handshake);
        runtime().spawn(served.map(move |reason| {
            let (code, reason) = (reason.code, reason.reason.into_owned());
            shared.queue.push(Event::SocketClosed { connection: id.0, code, reason });
        }));
        id.0 as f64
    }

    /// Opens a connection whose socket stays in JavaScript; its id.
    #[napi]
    pub fn connect(&self, ip: String, path_document: Option<String>) -> f64 {
        self.sockets.connect(&self.hub, handshake(&ip, path_document)) as f64
    }

    /// A frame of such a socket. `false`: too much waits, hand it in again after the next event of it.
    #[napi]
    pub fn receive(&self, connection: f64, frame: &[u8]) -> bool {
        let frame = Bytes::copy_from_slice(frame);
        self.sockets.receive(connection as u64, frame) != Err(ReceiveError::Full)
    }

    /// Such a socket is gone.
    #[napi]
    pub fn gone(&self, connection: f64) {
        self.sockets.gone(connection as u64);
    }

    /// Sends a frame to a socket.
    #[napi]
    pub fn send(&self, connection: f64, frame: &[u8]) -> bool {
        self.hub.send(ConnectionId(connection as u64), Bytes::copy_from_slice(frame))
    }

    /// Sends a frame to a socket in the order of what a document sends to it.
    #[napi]
    pub fn send_after(&self, document: u32, connection: f64, frame: &[u8]) {
        let (hub, frame) = (self.hub.clone(), Bytes::copy_from_slice(frame));
        if let Some(document) = self.document(document) {
            document.queue(frame.len(), move |_, _| {
                // A socket that is gone misses nothing.
                let _ = hub.send(ConnectionId(connection as u64), frame);
            });
        }
    }

    /// Closes a socket.
    #[napi]
    pub fn close_socket(&self, connection: f64, code: u16, reason: String) {
        self.hub.close_connection(ConnectionId(connection as u64), CloseReason::new(code, reason));
    }

    /// Ends a session and tells its client.
    #[napi]
    pub fn close_session(&self, connection: f64, number: u32, code: u16, reason: String) {
        self.hub.close_session(key(connection, number), CloseReason { code, reason: reason.into() });
    }

    /// Changes what a session may do.
    #[napi]
    pub fn set_read_only(&self, document: u32, connection: f64, number: u32, read_only: bool) {
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        if let Some(document) = self.document(document) {
            document.set_access(key(connection, number), access);
        }
    }

    /// Answers a question with yes.
    #[napi]
    pub fn yes(&self, ticket: f64, read_only: bool) {
        self.tickets.answer(ticket as u64, if read_only { Answer::ReadOnly } else { Answer::Yes });
    }

    /// Answers the load of a document with what it holds.
    #[napi]
    pub fn loaded(&self, ticket: f64, updates: Vec<Uint8Array>) {
        let updates = updates.iter().map(|update| update.to_vec()).collect();
        self.tickets.answer(ticket as u64, Answer::Updates(updates));
    }

    /// Answers a question about awareness: three arrays of one length.
    #[napi]
    pub fn states(&self, ticket: f64, clients: Vec<f64>, clocks: Vec<f64>, states: Vec<String>) {
        let numbers = clients.into_iter().zip(clocks);
        let states = numbers.zip(states).map(|((client, clock), state)| (client as u64, clock as u64, state));
        self.tickets.answer(ticket as u64, Answer::States(states.collect()));
    }

    /// Answers a question with no. The reason is told whole where it travels in a message, and cut where it
    /// travels in a close frame.
    #[napi]
    pub fn no(&self, ticket: f64, code: u16, reason: String) {
        self.tickets.answer(ticket as u64, Answer::Rejected(CloseReason { code, reason: reason.into() }));
    }

    /// Loads a document: a question follows, or `LoadFailed`.
    #[napi]
    pub fn load(&self, name: String) -> Result<()> {
        let document = DocumentName::parse(&name).map_err(failed)?;
        let (hub, shared) = (self.hub.clone(), Arc::clone(&self.shared));
        runtime().spawn(async move {
            if let Err(error) = hub.load(&document).await {
                let cause =
                    std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
                shared.queue.push(Event::LoadFailed { name, message: format!("{error}{cause}") });
            }
        });
        Ok(())
    }

    /// Lets a document go; `false`: somebody is on the way in, or something is not stored.
    #[napi]
    pub fn retire(&self, document: u32, leaving: u32) -> bool {
        self.shared.documents.retire(document, leaving as usize)
    }

    /// Whether JavaScript wants every update, and every awareness update, of a document.
    #[napi]
    pub fn follow(&self, document: u32, updates: bool, awareness: bool) {
        if let Some(document) = self.document(document) {
            document.eager.store(updates, Ordering::Release);
            document.awareness.store(awareness, Ordering::Release);
        }
    }

    /// From now on the next change is told.
    #[napi]
    pub fn rearm(&self, document: u32) {
        if let Some(document) = self.document(document) {
            document.touched.store(false, Ordering::Release);
        }
    }

    /// Counts up with every change by others than JavaScript.
    #[napi]
    pub fn version(&self, document: u32) -> u32 {
        self.document(document).map_or(0, |document| document.version.load(Ordering::Acquire))
    }

    /// Version, time of the last change in milliseconds of the epoch, and the session that made it.
    #[napi]
    pub fn changes(&self, document: u32) -> Vec<f64> {
        let Some(document) = self.document(document) else { return vec![0.0; 4] };
        let author = *document.last_author.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (connection, number) = author.map_or((0, 0), |key| (key.connection.0, key.number));
        vec![
            f64::from(document.version.load(Ordering::Acquire)),
            document.changed_at_ms.load(Ordering::Acquire) as f64,
            connection as f64,
            f64::from(number),
        ]
    }

    /// The document as an update, or what a state vector lacks of it.
    #[napi]
    pub fn read(&self, document: u32, state_vector: Option<&[u8]>) -> Option<Buffer> {
        let vector = state_vector.map(<[u8]>::to_vec);
        let update = self.document(document)?.ask(move |room| match vector {
            Some(vector) => room.log().diff(&vector).unwrap_or_else(|_| room.full_state().to_vec()),
            None => room.full_state().to_vec(),
        });
        update.map(Into::into)
    }

    /// Who is there, as an awareness update.
    #[napi]
    pub fn awareness(&self, document: u32) -> Option<Buffer> {
        self.document(document)?.ask(|room| room.awareness().encode_all()).map(Into::into)
    }

    /// An edit of JavaScript's.
    #[napi]
    pub fn update(&self, document: u32, update: &[u8]) {
        let update = Bytes::copy_from_slice(update);
        if let Some(document) = self.document(document) {
            document.queue(update.len(), move |room, now| {
                if let Err(error) = room.apply_update(&update, Origin::Direct, now) {
                    tracing::error!(document = %room.name(), %error, "An edit of the host cannot be read");
                }
            });
        }
    }

    /// An awareness change of JavaScript's.
    #[napi]
    pub fn update_awareness(&self, document: u32, update: &[u8]) {
        let update = update.to_vec();
        if let Some(document) = self.document(document) {
            document.queue(update.len(), move |room, now| {
                if let Err(error) = room.apply_awareness(&update, Origin::Direct, now) {
                    tracing::error!(document = %room.name(), %error, "An awareness change of the host cannot be read");
                }
            });
        }
    }

    /// Sends a stateless message to all sessions of a document, or to those given as connection and number in
    /// turn.
    #[napi]
    pub fn broadcast(&self, document: u32, payload: String, sessions: Option<Vec<f64>>) {
        let only: Option<Vec<SessionKey>> = sessions
            .map(|sessions| sessions.chunks_exact(2).map(|pair| key(pair[0], pair[1] as u32)).collect());
        let payload = Text::from(payload);
        if let Some(document) = self.document(document) {
            document.queue(payload.len(), move |room, now| {
                let chosen = |session| only.as_ref().is_none_or(|only| only.contains(&session));
                room.broadcast_stateless(&payload, chosen, now);
            });
        }
    }

    /// Sends what a document has batched.
    #[napi]
    pub fn flush(&self, document: u32) {
        if let Some(document) = self.document(document) {
            document.queue(0, |room, now| room.flush(now));
        }
    }

    /// Closes all sockets and ends. Documents that are not stored yet get this long.
    #[napi]
    pub fn shut_down(&self, deadline_ms: f64, code: u16, reason: String) {
        self.tickets.refuse_all();
        let hub = self.hub.clone();
        let deadline = Duration::from_millis(deadline_ms.clamp(0.0, 600_000.0) as u64);
        runtime().spawn(async move {
            hub.shutdown(deadline, Duration::ZERO, CloseReason::new(code, reason)).await;
        });
    }

    fn document(&self, id: u32) -> Option<Arc<Document>> {
        self.shared.documents.find(id)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The JavaScript environment ends, or nobody can reach the engine any more.
        self.shut_down(0.0, CloseReason::SERVICE_RESTART.code, CloseReason::SERVICE_RESTART.reason.into());
    }
}

fn handshake(ip: &str, path_document: Option<String>) -> Handshake {
    Handshake {
        client_ip: ip.parse::<IpAddr>().ok(),
        path_document: path_document.and_then(|name| DocumentName::parse(&name).ok()),
        ..Handshake::default()
    }
}
