//! The task of one room: takes what its inbox holds as one turn, writes to the subscribers' sockets, has
//! changes committed and snapshots saved, and unloads. It waits for its inbox and the time, and for the
//! hooks about loading and unloading; saves and all other hooks run beside it and report back.
//!
//! A panic in the room ends the room and its sessions (4205), nothing else; the next join loads it anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Sleep;

use super::Shared;
use super::follower::{Held, RoomFollower};
use super::loading::save;
use super::notices::{Notice, Notices};
use super::panics::{Panic, contain};
use super::registry::{Command, Join, RoomHandle};
use crate::cluster::{ClusterMessage, Subscription};
use crate::error::CloseReason;
use crate::hooks::{DocumentEvent, HookSet, run_hooks};
use crate::id::SessionKey;
use crate::room::{Note, Origin, Room, RoomOutput, Saver};

/// A room this long without a command gives back what only speeds up joins.
const QUIET: Duration = Duration::from_secs(2);
/// A document that a hook keeps loaded is looked at again after this long.
const UNLOAD_RETRY: Duration = Duration::from_secs(5);

/// Writing to fewer takes no time that is worth a look at the clock.
const MANY_SOCKETS: usize = 100;
/// A turn of more commands than this is one of many on a busy server.
const BUSY_TURN: usize = 8;

pub(super) struct RoomTask {
    shared: Arc<Shared>,
    handle: Arc<RoomHandle>,
    room: Room,
    saver: Saver,
    notices: Option<Notices>,
    follower: Option<Box<dyn RoomFollower>>,
    subscription: Option<Box<dyn Subscription>>,
    /// Of the turn's messages.
    handled_bytes: usize,
    version: u64,
    failing: bool,
    active_at: Instant,
    quiet: bool,
    /// A hook kept the document loaded; it is asked again then.
    kept_until: Option<Instant>,
    several_threads: bool,
    shutdown: bool,
    abandoned: bool,
}

/// Whether the task goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl RoomTask {
    pub(super) fn new(shared: Arc<Shared>, handle: Arc<RoomHandle>, room: Room, saver: Saver) -> Self {
        shared.metrics.documents_loaded.add(1);
        let notices = Notices::start(&shared, &handle);
        let follower = shared.follower.as_ref().and_then(|follower| follower.follow(room.name()));
        let subscription = shared.cluster.as_ref().map(|cluster| {
            let handle = Arc::clone(&handle);
            cluster.subscribe(room.name(), Arc::new(move |message| receive(&handle, message)))
        });
        Self {
            shared,
            handle,
            room,
            saver,
            notices,
            follower,
            subscription,
            handled_bytes: 0,
            version: 0,
            failing: false,
            active_at: Instant::now(),
            quiet: true,
            kept_until: None,
            several_threads: Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread,
            shutdown: false,
            abandoned: false,
        }
    }

    pub(super) async fn serve(&mut self) {
        let handle = Arc::clone(&self.handle);
        if self.shared.hooks.wants(HookSet::AFTER_LOAD_DOCUMENT) {
            Box::pin(self.after_load()).await;
        }
        let mut commands = Vec::new();
        // What is due within milliseconds does not take the way over another thread.
        let mut near = pin!(tokio::time::sleep(QUIET));
        let mut far = pin!(self.shared.clock.timer(Instant::now() + QUIET));
        loop {
            // A timer is moved only where it would end too late: most turns move a deadline away.
            let (broadcast, deadline) = (self.room.flush_at(), self.next_deadline());
            if let Some(at) = broadcast.filter(|at| is_late(&near, *at)) {
                near.as_mut().reset(at.into());
            }
            if let Some(at) = deadline.filter(|at| is_late(&far, *at)) {
                self.shared.clock.set(far.as_mut(), at);
            }
            tokio::select! {
                biased;
                () = handle.inbox().recv(&mut commands) => self.let_others_read(&mut commands).await,
                () = &mut near, if broadcast.is_some() => handle.inbox().take(&mut commands),
                () = &mut far, if deadline.is_some() => handle.inbox().take(&mut commands),
            }
            let is_due = || broadcast.into_iter().chain(deadline).any(|at| at <= Instant::now());
            if commands.is_empty() && !is_due() {
                continue;
            }
            if self.guarded_turn(&mut commands) == Next::End {
                return;
            }
            if self.may_unload() && Box::pin(self.unload()).await == Next::End {
                return;
            }
            if self.quiet {
                commands = Vec::new();
                handle.inbox().shrink();
            }
        }
    }

    /// A scheduler of several threads runs the task that a socket's task woke right after it, so every
    /// message would become a turn of its own. Standing back once lets all sockets that have something
    /// be read first, as `flushDelay: 0` does with `setImmediate`. One thread has read those that had something
    /// when it last asked; where these were many, more have by now.
    async fn let_others_read(&self, commands: &mut Vec<Command>) {
        if (self.several_threads || commands.len() > BUSY_TURN) && self.room.subscribers() > 1 {
            tokio::task::yield_now().await;
            self.handle.inbox().take(commands);
        }
    }

    async fn after_load(&mut self) {
        let document = self.room.name().clone();
        let mut event = DocumentEvent { document: &document };
        if run_hooks!(self.shared.hooks, AFTER_LOAD_DOCUMENT, after_load_document, &mut event).is_err() {
            self.shared.metrics.hook_errors_total.add(1);
        }
    }

    /// One turn, with what a panic in it may break fenced off.
    fn guarded_turn(&mut self, commands: &mut Vec<Command>) -> Next {
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(commands)));
        match turn {
            Ok(()) if self.abandoned => Next::End,
            Ok(()) => Next::GoOn,
            Err(panic) => {
                let error = Panic::new(&*panic);
                tracing::error!(document = %self.room.name(), %error, "Room failed; its sessions are closed, it is loaded anew by the next");
                self.shared.metrics.room_panics_total.add(1);
                self.shared.registry.remove(&self.handle);
                Next::End
            }
        }
    }

    fn turn(&mut self, commands: &mut Vec<Command>) {
        let now = Instant::now();
        // A moment that has passed would wake the task again and again.
        self.kept_until = self.kept_until.filter(|until| *until > now);
        if commands.is_empty() {
            self.quiet_down(now);
        } else {
            self.active_at = now;
            self.quiet = false;
        }
        for command in commands.drain(..) {
            self.handle_command(command, now);
        }
        self.room.handle_timeout(now);
        self.take_outputs();
        // Not before what is to be stored counts as waiting.
        self.handle.release(std::mem::take(&mut self.handled_bytes));
        if self.room.version() != self.version {
            self.version = self.room.version();
            if self.shared.keeps_documents {
                self.saver.changed(now);
            }
        }
        self.write(now);
        self.count();
        self.save_if_due(now);
        let unsettled = self.saver.is_dirty(self.version) || self.room.uncommitted() > 0;
        self.handle.unsettled.store(unsettled, Ordering::Release);
        // Until it is quiet a turn comes; who waits for the end of the room waits for all that it waits for.
        let patient =
            !self.quiet && self.room.subscribers() > 0 && !self.shutdown && !self.room.awaits_acks();
        self.handle.inbox().set_patient(patient);
    }

    fn write(&mut self, now: Instant) {
        let mut sockets = 0;
        self.room.drain_touched(|outbox| {
            outbox.write(now);
            sockets += 1;
        });
        if sockets >= MANY_SOCKETS {
            let written = Instant::now();
            self.room.rest(written - now, written);
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Message(session, message) => {
                self.handled_bytes += message.payload_len();
                self.room.handle(session, message, now);
            }
            Command::Join(join) => self.join(*join, now),
            // Whoever waits may be gone.
            Command::Open(reply) => drop(reply.send(Ok(()))),
            Command::Leave(session) => self.leave(session, now),
            Command::Drained(session) => self.room.catch_up(session, now),
            Command::Access(session, access) => self.room.set_access(session, access),
            Command::Committed { rows, parked, acks } => {
                self.saver.committed(&rows, parked, now);
                self.room.committed(acks, now);
            }
            Command::Saved(saved) => self.saved(saved, now),
            Command::With(call) => call(&mut self.room, now),
            Command::CloseSessions(reason) => self.room.close_sessions(&reason),
            Command::Shutdown => self.shutdown = true,
            Command::Abandon => self.abandoned = true,
            Command::Reconsider => {}
        }
    }

    fn join(&mut self, join: Join, now: Instant) {
        let Join { subscriber, reply, pin } = join;
        let session = subscriber.session;
        self.room.join(subscriber, now);
        self.kept_until = None;
        self.handle.sessions.store(self.room.subscribers(), Ordering::Release);
        if let Some(follower) = &mut self.follower {
            follower.entered(session);
        }
        // The connection may have ended while its session waited here.
        if reply.send(Ok(())).is_err() {
            self.leave(session, now);
        }
        drop(pin);
    }

    fn leave(&mut self, session: SessionKey, now: Instant) {
        self.room.leave(session, now);
        self.handle.sessions.store(self.room.subscribers(), Ordering::Release);
        if self.follower.is_some() {
            // What the session did before is told before its end.
            self.take_outputs();
        }
        if let Some(follower) = &mut self.follower {
            follower.left(session);
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.room.poll_output() {
            match output {
                RoomOutput::Persist(persist) => {
                    if let Some(committer) = &self.shared.committer {
                        committer.commit(&self.handle, persist);
                    }
                }
                RoomOutput::Changed { update, origin } => {
                    if let Some(follower) = &mut self.follower {
                        follower.changed(&update, origin, Held::new(&self.handle, update.len()));
                    }
                    self.tell(Notice::Changed { update, origin });
                }
                RoomOutput::AwarenessChanged { change, origin } => {
                    if let Some(follower) = &mut self.follower {
                        let update = Bytes::from(self.room.awareness().encode(change.clients()));
                        let held = Held::new(&self.handle, update.len());
                        follower.awareness_changed(&change, update, origin, held);
                    }
                    self.tell(Notice::AwarenessChanged { change, origin });
                }
                RoomOutput::Stateless { session, payload } => {
                    if let Some(follower) = &mut self.follower {
                        follower.stateless(session, &payload, Held::new(&self.handle, payload.len()));
                    }
                    self.tell(Notice::Stateless { session, payload })
                }
                RoomOutput::Publish(update) => self.publish(ClusterMessage::Update(update)),
                RoomOutput::PublishAwareness(update) => self.publish(ClusterMessage::Awareness(update)),
            }
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(notices) = &self.notices {
            notices.tell(&self.handle, notice);
        }
    }

    fn publish(&self, message: ClusterMessage) {
        if let Some(cluster) = &self.shared.cluster {
            cluster.publish(self.room.name(), message);
        }
    }

    fn count(&mut self) {
        let counts = self.room.take_counts();
        let metrics = &self.shared.metrics;
        metrics.updates_received_total.add(counts.updates);
        metrics.update_bytes_total.add(counts.update_bytes);
        metrics.frames_sent_total.add(counts.frames);
        metrics.conflations_total.add(counts.conflations);
        metrics.protocol_errors_total.add(counts.malformed);
    }

    fn save_if_due(&mut self, now: Instant) {
        if !self.shared.keeps_documents {
            return;
        }
        let due = self.saver.due_at(self.version).is_some_and(|due| due <= now);
        // Without sessions nobody is disturbed by a save, and memory waits for it.
        let hurry = (self.shutdown || self.is_abandoned())
            && self.saver.due_at(self.version).is_some()
            && (self.saver.failures() == 0 || due);
        if !due && !hurry {
            return;
        }
        let snapshot = self.room.snapshot();
        let complete = self.room.log().pending_bytes() == 0;
        let folded = self.saver.begin(self.version, snapshot.len(), complete).to_vec();
        let (shared, handle) = (Arc::clone(&self.shared), Arc::clone(&self.handle));
        tokio::spawn(async move {
            let saved = contain(save(&shared, handle.name(), snapshot, &folded)).await;
            let saved = saved.unwrap_or_else(|panic| {
                shared.metrics.store_failures_total.add(1);
                tracing::error!(document = %handle.name(), error = %panic, "Document could not be stored; it stays in memory and is stored again later");
                false
            });
            handle.send(Command::Saved(saved));
        });
    }

    fn saved(&mut self, saved: bool, now: Instant) {
        if saved {
            self.saver.succeeded()
        } else {
            self.saver.failed(now)
        }
        if self.failing == saved {
            self.failing = !saved;
            let failing = &self.shared.metrics.documents_failing;
            if saved { failing.sub(1) } else { failing.add(1) }
        }
    }

    /// Nobody is here, and nobody waits a debounce for coming back.
    fn is_abandoned(&self) -> bool {
        self.room.subscribers() == 0 && self.shared.config.unload_immediately
    }

    fn quiet_down(&mut self, now: Instant) {
        if !self.quiet && now >= self.active_at + QUIET {
            self.quiet = true;
            if !self.shared.keeps_documents {
                // No save compacts it.
                self.room.snapshot();
            }
            self.room.shrink();
        }
    }

    /// Apart from broadcasts.
    fn next_deadline(&self) -> Option<Instant> {
        let quiet = (!self.quiet).then(|| self.active_at + QUIET);
        let save = self.shared.keeps_documents.then(|| self.saver.due_at(self.version)).flatten();
        [self.room.expires_at(), save, quiet, self.kept_until].into_iter().flatten().min()
    }

    /// Whether nobody is here and all is saved.
    fn may_unload(&self) -> bool {
        let kept = self.shared.keeps_documents;
        let dirty = kept && (self.saver.is_dirty(self.version) || self.room.uncommitted() > 0);
        // What is in the log is not lost, though no snapshot holds it.
        let logged = self.shared.committer.is_some() && self.room.uncommitted() == 0;
        if self.shutdown {
            self.handle.unsaved.store(dirty && !logged, Ordering::Release);
        }
        // A shutdown does not wait for a database that is away when nothing would be lost.
        let given_up = self.shutdown && logged && self.saver.failures() > 0;
        self.room.subscribers() == 0 && !self.handle.is_pinned() && (!dirty || given_up)
    }

    /// Unloads the document, unless hooks keep it or somebody is on the way to it.
    async fn unload(&mut self) -> Next {
        let now = Instant::now();
        if !self.shutdown && (self.kept_until.is_some() || !self.hooks_let_go().await) {
            self.kept_until.get_or_insert(now + UNLOAD_RETRY);
            return Next::GoOn;
        }
        if !self.shared.registry.remove_unpinned(&self.handle) {
            return Next::GoOn;
        }
        // Nobody is here to be told what waits, but other servers are.
        self.room.flush(now);
        self.take_outputs();
        self.subscription = None;
        tracing::debug!(document = %self.room.name(), "Document unloaded");
        self.after_unload().await;
        Next::End
    }

    async fn hooks_let_go(&self) -> bool {
        if !self.shared.hooks.wants(HookSet::BEFORE_UNLOAD_DOCUMENT) {
            return true;
        }
        let mut event = DocumentEvent { document: self.room.name() };
        run_hooks!(self.shared.hooks, BEFORE_UNLOAD_DOCUMENT, before_unload_document, &mut event).is_ok()
    }

    async fn after_unload(&self) {
        if self.shared.hooks.wants(HookSet::AFTER_UNLOAD_DOCUMENT) {
            let mut event = DocumentEvent { document: self.room.name() };
            if run_hooks!(self.shared.hooks, AFTER_UNLOAD_DOCUMENT, after_unload_document, &mut event)
                .is_err()
            {
                self.shared.metrics.hook_errors_total.add(1);
            }
        }
    }
}

/// Whether a timer has ended, or would end after the deadline.
fn is_late(timer: &Sleep, deadline: Instant) -> bool {
    deadline < timer.deadline().into_std() || timer.is_elapsed()
}

impl Drop for RoomTask {
    fn drop(&mut self) {
        self.shared.metrics.documents_loaded.sub(1);
        // Only where the room failed, or its task was dropped.
        for (session, outbox) in self.room.sessions() {
            outbox.depart();
            outbox.post(Note::CloseSession(session, CloseReason::RESET_CONNECTION));
        }
        if let Some(follower) = &mut self.follower {
            follower.ended();
        }
        if self.failing {
            self.shared.metrics.documents_failing.sub(1);
        }
    }
}

/// Takes what another server says into the room's turn.
fn receive(handle: &RoomHandle, message: ClusterMessage) {
    handle.send(Command::With(Box::new(move |room, now| match message {
        ClusterMessage::Update(update) => {
            if let Err(error) = room.apply_update(&update, Origin::Cluster, now) {
                tracing::warn!(document = %room.name(), %error, "Another server sent an update that cannot be read");
            }
        }
        ClusterMessage::Awareness(update) => {
            if let Err(error) = room.apply_awareness(&update, Origin::Cluster, now) {
                tracing::warn!(document = %room.name(), %error, "Another server sent an awareness message that cannot be read");
            }
        }
        ClusterMessage::Stateless(payload) => room.broadcast_stateless(&payload.into(), |_| true, now),
    })));
}
