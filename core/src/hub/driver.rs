//! The loop around one [`Connection`]: the only place where a socket, its machine and its rooms meet. It
//! feeds what arrives into the machine and carries out what comes out; decisions that take time run
//! beside it, so that one session's slow authentication holds up nobody else.

mod ending;
mod seats;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::Shared;
use super::decisions::{self, Decision};
use super::pace::Pace;
use super::registry::{Command, RoomHandle};
use super::socket::{Bell, Socket};
use super::transport::{FrameSink, Incoming, Transport};
use crate::auth::{BoxFuture, Handshake, SECURITY};
use crate::connection::{Connection, ConnectionOptions, Input, Output, Request, Ticket};
use crate::error::{BoxError, CloseReason};
use crate::hooks::HookSet;
use crate::id::{ConnectionId, SessionKey};
use crate::protocol::message::Inbound;
use crate::room::{Frame, Note, Outbox};
use seats::Seat;

/// Frames taken from a socket in one go before others get their turn.
const FRAMES_PER_TURN_MAX: usize = 64;

/// What a connection's task waits for.
enum Event {
    Rung,
    Decided(Option<(Ticket, SessionKey, Decision)>),
    Writable(io::Result<()>),
    /// A room that was full takes messages again.
    Opened,
    Received(Result<Option<Incoming>, BoxError>),
    Timeout,
}

type Pending = FuturesUnordered<BoxFuture<'static, (Ticket, SessionKey, Decision)>>;

struct Driver<T: Transport> {
    shared: Arc<Shared>,
    machine: Connection,
    transport: T,
    handshake: Arc<Handshake>,
    outbox: Arc<Outbox<Socket<T::Sink>>>,
    /// Most sockets have one session, which lies here itself.
    seats: SmallVec<[Seat; 1]>,
    /// Sessions that were conflated and wait for the outbox to drain.
    lagging: Vec<SessionKey>,
    /// Decisions under way; boxed, since an idle connection has none.
    pending: Option<Box<Pending>>,
    /// How fast the peer sends, where that is limited.
    pace: Option<Box<Pace>>,
}

/// Runs one socket to its end; why it ended. The future holds all that the loop keeps, in one piece and once:
/// who spawns it as it is has one place in memory per socket.
pub(super) fn drive<T: Transport>(
    shared: Arc<Shared>,
    id: ConnectionId,
    transport: T,
    sink: T::Sink,
    handshake: Arc<Handshake>,
) -> impl Future<Output = CloseReason> + Send {
    let mut driver = Driver::new(shared, id, transport, sink, handshake);
    async move {
        let outbox: Arc<Outbox> = Arc::<Outbox<Socket<T::Sink>>>::clone(&driver.outbox);
        let presence = driver.shared.connection_opened(id, &outbox);
        driver.transport.outbox(outbox);
        tracing::info!(connection = %id, activeConnections = driver.shared.metrics.connections_open.value(), "WebSocket client connected");
        let reason = match driver.serve().await {
            Some(reason) => reason,
            None => Box::pin(driver.drain_to_end()).await,
        };
        Box::pin(driver.end(&reason)).await;
        drop(presence);
        tracing::info!(connection = %id, code = reason.code, reason = %reason.reason, activeConnections = driver.shared.metrics.connections_open.value(), "WebSocket client disconnected");
        reason
    }
}

impl<T: Transport> Driver<T> {
    fn new(
        shared: Arc<Shared>,
        id: ConnectionId,
        transport: T,
        sink: T::Sink,
        handshake: Arc<Handshake>,
    ) -> Self {
        let socket = Socket { sink, bell: Bell::default() };
        let outbox = Arc::new(Outbox::new(shared.limits.outbox_bytes_max, socket));
        let options = ConnectionOptions {
            limits: Arc::clone(&shared.limits),
            timeout: shared.config.timeout,
            admit: shared.hooks.wants(HookSet::ADMISSION),
            token_optional: shared.config.token_optional,
            dialect: shared.config.dialect,
            path_document: handshake.path_document.clone(),
        };
        let now = Instant::now();
        let machine = Connection::new(id, options, now);
        let pace = Pace::new(&shared.limits, now);
        Self {
            shared,
            machine,
            transport,
            handshake,
            outbox,
            seats: SmallVec::new(),
            lagging: Vec::new(),
            pending: None,
            pace,
        }
    }

    /// Serves until the connection is to be closed, or (`None`) the peer is gone.
    async fn serve(&mut self) -> Option<CloseReason> {
        let mut timer = pin!(self.shared.clock.timer(self.deadline()));
        loop {
            let full_room = self.full_room();
            // A room may be about to write all of a full outbox by itself.
            let full_outbox = self.outbox.is_full() && self.outbox.wake_when_drained();
            let reading = full_room.is_none() && !full_outbox && self.paused_until().is_none();
            if !reading {
                // Whoever is not listened to is not to blame for its silence.
                self.machine.forgive_silence(Instant::now());
            }
            let mut opened = full_room.map(opened);
            let event = poll_fn(|cx| self.poll_event(cx, reading, &mut opened, timer.as_mut())).await;
            let now = Instant::now();
            let close = match event {
                Event::Rung => self.read_notes(now),
                Event::Decided(decided) => self.complete(decided, now),
                Event::Writable(Ok(())) if self.outbox.flush(now).is_ok() => {
                    self.tell_drained();
                    None
                }
                Event::Received(Ok(Some(incoming))) => self.receive_turn(incoming, now),
                Event::Received(Err(error)) => return failed(&*error),
                Event::Writable(_) | Event::Received(Ok(None)) => return None,
                Event::Opened | Event::Timeout => None,
            };
            if close.is_some() {
                return close;
            }
            // Also where something else is always ready first.
            if timer.deadline().into_std() <= now {
                match self.handle_timeout(now, reading) {
                    Ok(None) => {}
                    Ok(Some(reason)) => return Some(reason),
                    Err(error) => return failed(&*error),
                }
                self.shared.clock.set(timer.as_mut(), self.deadline().max(now + Duration::from_millis(1)));
            } else if (self.outbox.is_blocked() || self.pace.is_some())
                && self.deadline() < timer.deadline().into_std()
            {
                // Deadlines move away with every frame; the timer is moved only when one comes closer.
                self.shared.clock.set(timer.as_mut(), self.deadline());
            }
        }
    }

    /// What is there, in this order: what ends a wait comes before what may always be there.
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        reading: bool,
        opened: &mut Option<BoxFuture<'static, ()>>,
        timer: Pin<&mut Sleep>,
    ) -> Poll<Event> {
        let socket = self.outbox.sink();
        if socket.bell.poll_rung(cx).is_ready() {
            return Poll::Ready(Event::Rung);
        }
        if let Some(pending) = &mut self.pending
            && let Poll::Ready(decided) = pending.poll_next_unpin(cx)
        {
            return Poll::Ready(Event::Decided(decided));
        }
        if self.outbox.is_blocked()
            && let Poll::Ready(result) = socket.sink.poll_writable(cx)
        {
            return Poll::Ready(Event::Writable(result));
        }
        if let Some(opened) = opened
            && opened.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Event::Opened);
        }
        if reading && let Poll::Ready(received) = self.transport.poll_recv(&socket.sink, cx) {
            return Poll::Ready(Event::Received(received));
        }
        timer.poll(cx).map(|()| Event::Timeout)
    }

    /// What the time demands; a reason when that is to close.
    ///
    /// # Errors
    /// The socket is taken for dead.
    fn handle_timeout(&mut self, now: Instant, listening: bool) -> Result<Option<CloseReason>, BoxError> {
        if self.is_stalled(now) {
            self.shared.metrics.slow_closes_total.add(1);
            return Ok(Some(CloseReason::SLOW_READER));
        }
        if let Some(incoming) = self.transport.handle_timeout(now, listening)?
            && let Some(reason) = self.receive(incoming, now)
        {
            return Ok(Some(reason));
        }
        self.machine.handle_input(Input::Timeout, now);
        if !self.machine.is_authenticated() && self.machine.poll_timeout().is_none() {
            self.shared.metrics.auth_timeouts_total.add(1);
        }
        Ok(self.carry_out(now))
    }

    /// Takes what arrived, and what else is there already, so that it becomes one turn of the room.
    fn receive_turn(&mut self, first: Incoming, now: Instant) -> Option<CloseReason> {
        let mut incoming = first;
        for left in (0..FRAMES_PER_TURN_MAX).rev() {
            if let Some(reason) = self.receive(incoming, now) {
                return Some(reason);
            }
            if self.pace.as_ref().is_some_and(|pace| pace.is_excessive(now)) {
                self.shared.metrics.rate_closes_total.add(1);
                tracing::warn!(target: SECURITY, clientIp = self.handshake.client_ip.map(tracing::field::display), "A connection sends too fast and is closed");
                return Some(CloseReason::TOO_FAST);
            }
            // What is taken from the transport has to be handled, so nothing is taken for a pass that
            // does not come.
            let paused = self.paused_until().is_some();
            if left == 0 || paused || self.outbox.is_full() || self.full_room().is_some() {
                return None;
            }
            incoming = self.transport.try_recv()?;
        }
        None
    }

    fn receive(&mut self, incoming: Incoming, now: Instant) -> Option<CloseReason> {
        match incoming {
            Incoming::Binary(frame) => {
                self.spend(0, frame.len(), now);
                self.machine.handle_input(Input::Frame(frame), now);
                if self.machine.take_refused_document() {
                    self.shared.metrics.documents_refused_total.add(1);
                }
            }
            Incoming::Text => self.machine.handle_input(Input::TextFrame, now),
            Incoming::Control(bytes) => {
                self.outbox.push(Frame::framed(bytes), now);
                self.outbox.write(now);
            }
            Incoming::Invalid(reason) => return Some(reason),
        }
        self.carry_out(now)
    }

    /// Does what the machine wants; a reason when that is to close.
    fn carry_out(&mut self, now: Instant) -> Option<CloseReason> {
        let mut sent = false;
        let mut close = None;
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(frame) => {
                    self.outbox.push(frame.into(), now);
                    sent = true;
                }
                Output::Deliver(session, message) => self.deliver(session, message, now),
                Output::Request(ticket, request) => self.decide(ticket, request),
                Output::Leave(session, reason) => self.leave(session, &reason),
                Output::Close(reason) => close = Some(reason),
            }
        }
        if sent && close.is_none() {
            self.outbox.write(now);
        }
        close
    }

    fn deliver(&mut self, session: SessionKey, message: Inbound, now: Instant) {
        if matches!(message, Inbound::Update(_) | Inbound::SyncStep2(_)) {
            self.spend(1, 0, now);
        }
        let seat = self.seats.iter().find(|seat| seat.session == session);
        if let Some(room) = seat.and_then(|seat| seat.room.as_ref()) {
            room.deliver(session, message);
        }
    }

    fn decide(&mut self, ticket: Ticket, request: Request) {
        let shared = Arc::clone(&self.shared);
        let (session, decision): (SessionKey, BoxFuture<'static, Decision>) = match request {
            Request::Authenticate { session, address, token, provider_version, .. } => {
                let handshake = Arc::clone(&self.handshake);
                let scope = decisions::applicant(session, address, handshake);
                (session, Box::pin(decisions::authenticate(shared, scope, token, provider_version)))
            }
            Request::Join { session, address, dialect, .. } => {
                let Some(seat) = self.seats.iter().find(|seat| seat.session == session) else { return };
                let outbox = Arc::<Outbox<Socket<T::Sink>>>::clone(&self.outbox);
                (session, Box::pin(decisions::join(shared, seat.scope.clone(), address, dialect, outbox)))
            }
            Request::Admit { session, message, frame } => {
                let Some(seat) = self.seats.iter().find(|seat| seat.session == session) else { return };
                let (scope, room) = (seat.scope.clone(), seat.room.clone());
                (session, Box::pin(decisions::admit(shared, scope, message, frame, room)))
            }
            Request::TokenSync { session, token } => {
                let Some(scope) = self.scope(session) else { return };
                (session, Box::pin(decisions::token_sync(shared, scope, token)))
            }
        };
        let pending = self.pending.get_or_insert_default();
        pending.push(Box::pin(async move { (ticket, session, decision.await) }));
    }

    /// Passes an answer on, and carries out what follows from it; a reason when that is to close.
    fn complete(
        &mut self,
        decided: Option<(Ticket, SessionKey, Decision)>,
        now: Instant,
    ) -> Option<CloseReason> {
        let Some((ticket, session, decision)) = decided else {
            self.pending = None;
            return None;
        };
        let Decision { completion, scope, registration, room } = decision;
        match (scope, room) {
            (Some(scope), None) if self.machine.has_session(session) => {
                self.keep_scope(session, scope, registration);
            }
            (_, Some(room)) => self.enter(session, room),
            (_, None) => {}
        }
        self.machine.handle_input(Input::Completed(ticket, completion), now);
        self.carry_out(now)
    }

    fn read_notes(&mut self, now: Instant) -> Option<CloseReason> {
        for note in self.outbox.take_notes() {
            match note {
                Note::CloseConnection(reason) => return Some(reason),
                Note::CloseSession(session, reason) => {
                    self.machine.handle_input(Input::CloseSession(session, reason), now);
                }
                Note::AccessChanged(session, access) => {
                    if let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == session) {
                        seat.scope.grant.access = access;
                        self.change_access(session, access);
                    }
                }
                Note::Lagging(session) => self.lagging.push(session),
            }
        }
        // Fronts without a socket of their own take frames when the bell rings.
        self.tell_drained();
        self.carry_out(now)
    }

    /// Tells the rooms of conflated sessions that there is space again.
    fn tell_drained(&mut self) {
        if self.lagging.is_empty() || self.outbox.wake_when_drained() {
            return;
        }
        for session in std::mem::take(&mut self.lagging) {
            let seat = self.seats.iter().find(|seat| seat.session == session);
            if let Some(room) = seat.and_then(|seat| seat.room.as_ref()) {
                room.send(Command::Drained(session));
            }
        }
    }

    fn full_room(&self) -> Option<Arc<RoomHandle>> {
        self.seats.iter().filter_map(|seat| seat.room.as_ref()).find(|room| room.is_full()).cloned()
    }

    fn deadline(&self) -> Instant {
        let idle = self.machine.poll_timeout();
        let stall = self.outbox.is_blocked().then(|| self.outbox.stalled_since()).flatten();
        let stall = stall.map(|since| since + self.shared.limits.stall_max);
        let far = || Instant::now() + Duration::from_secs(3600);
        // What keeps a quiet socket alive may come a little later, with that of others.
        let tick = self.transport.poll_timeout().map(|at| self.shared.clock.step_after(at));
        let deadlines = [idle, stall, self.paused_until(), tick];
        deadlines.into_iter().flatten().min().unwrap_or_else(far)
    }

    /// Counts what the peer sent, where that is limited.
    fn spend(&mut self, updates: u32, bytes: usize, now: Instant) {
        let Some(pace) = &mut self.pace else { return };
        let paused = pace.resumes(now).is_some();
        pace.spend(updates, bytes, now);
        if !paused && pace.resumes(now).is_some() {
            self.shared.metrics.rate_pauses_total.add(1);
        }
    }

    /// Until when the peer is not read from because it was too fast.
    fn paused_until(&self) -> Option<Instant> {
        self.pace.as_ref()?.resumes(Instant::now())
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let since = self.outbox.stalled_since();
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.shared.limits.stall_max)
    }
}

fn failed(error: &(dyn std::error::Error + Send + Sync)) -> Option<CloseReason> {
    tracing::debug!(error = %super::error_chain(error), "Socket failed");
    None
}

/// Waits until a room takes messages again. Boxed: hardly any room is ever full.
fn opened(room: Arc<RoomHandle>) -> BoxFuture<'static, ()> {
    Box::pin(async move { room.opened().await })
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::room::Framing;

    /// A transport without any size of its own.
    struct Nothing;

    impl Transport for Nothing {
        type Sink = Self;

        fn poll_recv(&mut self, _: &Self, _: &mut Context<'_>) -> Poll<Result<Option<Incoming>, BoxError>> {
            Poll::Ready(Ok(None))
        }
        fn try_recv(&mut self) -> Option<Incoming> {
            None
        }
        async fn close(&mut self, _: &Self, _: &CloseReason) {}
    }

    impl FrameSink for Nothing {
        fn framing(&self) -> Framing {
            Framing::None
        }
        fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn future_bytes<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_socket_is_small() {
        let (future, outbox) = (future_bytes(drive::<Nothing>), size_of::<Outbox<Socket<Nothing>>>());
        assert!(future <= 800 && outbox <= 200, "{future} and {outbox} bytes");
    }
}
