//! Group commit: one task appends the rows of all rooms. While one commit is in flight the next batch
//! gathers, so latency is one commit and throughput is not bounded by it. A commit that fails is tried
//! again for ever, with its rows in order; no ack is given meanwhile.
//!
//! While the log is away, that holds up everybody. Rows that it refuses for good, or that fail again and
//! again while those of others are stored, are set apart with all that their room sends after them, and
//! are tried again by themselves: the other rooms go on.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::{mpsc, watch};

use super::error_chain;
use super::gathering::Gathering;
use super::panics::{Panic, contain};
use super::registry::{Command, RoomHandle};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::id::DocumentName;
use crate::metrics::Metrics;
use crate::room::{Acks, Persist};
use crate::store::{LogBatch, LogId, UpdateLog};

/// Rows of one commit at the most; more wait for the next.
const ROWS_MAX: usize = 4_096;
/// Bytes of one commit, about, at the most.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a row counts in its room beside its update while it waits.
const ROW_BYTES: usize = 128;
/// What an ack counts there: an update that brings nothing new waits as an ack alone.
const ACK_BYTES: usize = 96;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Once commits have failed for this long, the rooms are tried one by one: it may be about one of them.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many rooms are tried one by one in a row without any success: the log is away then.
const TRIALS_MAX: usize = 16;
/// What is set apart waits this many times as long as its last trial took, so that the others have most
/// of the log's time however slowly it refuses.
const TRIAL_SHARE: u32 = 10;

/// What one room wants committed.
pub(super) struct Request {
    room: Arc<RoomHandle>,
    persist: Persist,
    rows: usize,
    bytes: usize,
}

impl Request {
    fn room_id(&self) -> usize {
        // Its own address, which the request keeps from being used again.
        Arc::as_ptr(&self.room) as usize
    }

    fn held_bytes(&self) -> usize {
        self.bytes + self.rows * ROW_BYTES + self.persist.acks.len() * ACK_BYTES
    }
}

/// Hands rows to the committer.
#[derive(Clone)]
pub(super) struct Committer {
    requests: mpsc::UnboundedSender<Request>,
    waiting: Arc<AtomicUsize>,
}

impl Committer {
    /// Starts the task; it ends when the last handle is gone and all is committed, or when the hub has `ended` and
    /// its log is closed.
    pub(super) fn start(
        log: Arc<dyn UpdateLog>,
        metrics: Arc<Metrics>,
        clock: Arc<Clock>,
        mut ended: watch::Receiver<bool>,
    ) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let queue = Queue { requests, waiting: Arc::clone(&waiting) };
        let task = Task { log, metrics, clock, queue, refused: HashMap::new(), busy: false };
        tokio::spawn(async move {
            let ended = async {
                // A hub that is dropped without a shutdown has not closed its log.
                if ended.wait_for(|ended| *ended).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = task.run() => {}
                () = ended => {}
            }
        });
        Self { requests: sender, waiting }
    }

    /// Queues a room's rows. Their bytes count as waiting in the room, so that its readers slow down
    /// when the store does.
    pub(super) fn commit(&self, room: &Arc<RoomHandle>, persist: Persist) {
        let bytes = persist.batches.iter().map(|batch| batch.update.len()).sum();
        let request = Request { room: Arc::clone(room), rows: persist.batches.len(), persist, bytes };
        room.hold(request.held_bytes());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The task ends after the last sender, or when nothing can be stored any more.
        let _ = self.requests.send(request);
    }
}

/// What waits to be gathered, in the order in which it came.
struct Queue {
    requests: mpsc::UnboundedReceiver<Request>,
    /// How many they are, for who cannot see them; those that are on their way included.
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// The next; none when all senders are gone.
    async fn recv(&mut self) -> Option<Request> {
        let request = self.requests.recv().await;
        self.waiting.fetch_sub(usize::from(request.is_some()), Ordering::Relaxed);
        request
    }

    /// The next that is here.
    fn try_recv(&mut self) -> Option<Request> {
        let request = self.requests.try_recv().ok();
        self.waiting.fetch_sub(usize::from(request.is_some()), Ordering::Relaxed);
        request
    }
}

/// The requests of one room whose rows the log refuses, in order.
struct Refused {
    requests: Vec<Request>,
    backoff: Duration,
    retry_at: Instant,
}

struct Task {
    log: Arc<dyn UpdateLog>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    queue: Queue,
    /// By [`Request::room_id`]. Bounded as the requests are: by what waits in the rooms.
    refused: HashMap<usize, Refused>,
    /// Several requests were in the last commit.
    busy: bool,
}

impl Task {
    async fn run(mut self) {
        let mut open = true;
        while open || !self.refused.is_empty() {
            let retry_at = self.refused.values().map(|refused| refused.retry_at).min();
            let retry = tokio::time::sleep_until(retry_at.unwrap_or_else(Instant::now).into());
            tokio::select! {
                request = self.queue.recv(), if open => match request {
                    Some(first) => self.commit(first).await,
                    None => open = false,
                },
                () = retry, if retry_at.is_some() => self.retry_refused().await,
            }
        }
    }

    async fn commit(&mut self, first: Request) {
        if self.busy {
            let waiting = Arc::clone(&self.queue.waiting);
            Gathering::all_come(&self.clock, move || 1 + waiting.load(Ordering::Relaxed)).await;
        }
        let gathered = self.gather(first);
        self.busy = gathered.len() > 1;
        let mut requests = self.admit(gathered);
        let mut outage = Outage::default();
        while let Err(error) = self.append_all(&mut requests).await {
            if error.retryable {
                tracing::error!(error = %error_chain(&error), "Updates could not be committed; they are kept and tried again, and not acknowledged");
            }
            let patient = !outage.is_long();
            if !patient {
                // Of all that waits, so that one room's rows cannot be all there is to try.
                let waiting = std::iter::from_fn(|| self.queue.try_recv()).collect();
                requests.append(&mut self.admit(waiting));
            }
            if !(error.retryable && patient) {
                requests = self.commit_by_room(requests, error, patient).await;
            }
            if !requests.is_empty() {
                outage.pass().await;
            }
        }
    }

    /// Finds out whose rows fail, after `error` for all of them. Sets apart what is refused, and unless one
    /// is `patient` also what fails although another room's rows are stored; what is left.
    async fn commit_by_room(
        &mut self,
        requests: Vec<Request>,
        error: StoreError,
        patient: bool,
    ) -> Vec<Request> {
        let mut rooms = by_room(requests);
        if let [room] = &mut rooms[..] {
            let room = mem::take(room);
            if error.retryable {
                return room;
            }
            self.refuse(room, &error);
            return Vec::new();
        }
        let mut failed = Vec::new();
        let mut stores = false;
        // The newest first: what failed before is tried when it is known whether the log stores anything.
        while let Some(mut room) = rooms.pop() {
            let rows = room.iter().any(|request| request.rows > 0);
            match self.append_all(&mut room).await {
                Ok(()) => stores |= rows,
                Err(error) if !error.retryable || (stores && !patient) => self.refuse(room, &error),
                Err(_) => failed.push(room),
            }
            if !stores && failed.len() >= TRIALS_MAX {
                break;
            }
        }
        failed.into_iter().chain(rooms).flatten().collect()
    }

    fn gather(&mut self, first: Request) -> Vec<Request> {
        let (mut rows, mut bytes) = (first.rows, first.bytes);
        let mut requests = vec![first];
        while rows < ROWS_MAX
            && bytes < BYTES_MAX
            && let Some(request) = self.queue.try_recv()
        {
            rows += request.rows;
            bytes += request.bytes;
            requests.push(request);
        }
        requests
    }

    /// Counts what came, and keeps what is to be committed now: a room's acks are given in order, so
    /// nothing of it overtakes what is refused.
    fn admit(&mut self, requests: Vec<Request>) -> Vec<Request> {
        let bytes: usize = requests.iter().map(|request| request.bytes).sum();
        self.metrics.uncommitted_bytes.add(bytes as u64);
        if self.refused.is_empty() {
            return requests;
        }
        let mut free = Vec::with_capacity(requests.len());
        for request in requests {
            match self.refused.get_mut(&request.room_id()) {
                Some(refused) => refused.requests.push(request),
                None => free.push(request),
            }
        }
        free
    }

    /// Sets a room's requests apart.
    fn refuse(&mut self, requests: Vec<Request>, error: &StoreError) {
        let [first, ..] = &requests[..] else { return };
        tracing::error!(document = %first.room.name(), error = %error_chain(error), "The log refuses updates of a document; they are kept and tried again, and not acknowledged");
        let room = first.room_id();
        let retry_at = Instant::now() + BACKOFF_MIN;
        self.refused.insert(room, Refused { requests, backoff: BACKOFF_MIN, retry_at });
    }

    async fn retry_refused(&mut self) {
        let now = Instant::now();
        let due = self.refused.extract_if(|_, refused| refused.retry_at <= now).collect::<Vec<_>>();
        for (room, mut refused) in due {
            let document = refused.requests.first().map(|request| request.room.name().clone());
            let started = Instant::now();
            if self.append_all(&mut refused.requests).await.is_ok() {
                tracing::info!(
                    document = document.as_ref().map(DocumentName::as_str),
                    "The log takes the updates of a document again"
                );
                continue;
            }
            refused.backoff = (refused.backoff * 2).min(BACKOFF_MAX);
            let ended = Instant::now();
            refused.retry_at = ended + refused.backoff.max((ended - started) * TRIAL_SHARE);
            self.refused.insert(room, refused);
        }
    }

    /// Appends the rows of these requests, a commit's worth at a time, and answers them; leaves those that
    /// were not committed as they were.
    async fn append_all(&self, requests: &mut Vec<Request>) -> Result<(), StoreError> {
        while !requests.is_empty() {
            let mut some: Vec<_> = requests.drain(..commit_len(requests)).collect();
            let batches: Vec<LogBatch> =
                some.iter_mut().flat_map(|request| mem::take(&mut request.persist.batches)).collect();
            match self.append(&batches).await {
                Ok(ids) => self.answer(some, &ids).await,
                Err(error) => {
                    let mut batches = batches.into_iter();
                    for request in &mut some {
                        request.persist.batches = batches.by_ref().take(request.rows).collect();
                    }
                    requests.splice(..0, some);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn append(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let appended = contain(self.log.append(batches)).await;
        let error = match appended.map_err(|panic| StoreError::permanent("log", panic)) {
            Ok(Ok(ids)) if ids.len() == batches.len() => {
                self.metrics.log_commits_total.add(1);
                self.metrics.log_rows_total.add(batches.len() as u64);
                self.metrics.log_microseconds_total.add(started.elapsed().as_micros() as u64);
                return Ok(ids);
            }
            Ok(Ok(ids)) => {
                StoreError::permanent("log", format!("{} ids for {} rows", ids.len(), batches.len()))
            }
            Ok(Err(error)) | Err(error) => error,
        };
        self.metrics.log_failures_total.add(1);
        Err(error)
    }

    /// Gives the acks, and tells the rooms. A room whose task is about to run, or waits for them, sends them
    /// itself, together with what else its sessions get; no other is woken for them.
    async fn answer(&self, requests: Vec<Request>, ids: &[LogId]) {
        let mut ids = ids.iter().copied();
        for request in requests {
            let rows = ids.by_ref().take(request.rows).collect();
            self.metrics.uncommitted_bytes.sub(request.bytes as u64);
            let bytes = request.held_bytes();
            let Request { room, persist: Persist { mut acks, parked, .. }, .. } = request;
            if room.inbox().is_patient() {
                self.send(room.name(), &mut acks);
            }
            let left = !acks.is_empty();
            let committed = Command::Committed { rows, parked, acks };
            match left {
                true => drop(room.send(committed)),
                false => room.mention(committed),
            }
            room.release(bytes);
            // Each ack is a write to a socket.
            tokio::task::consume_budget().await;
        }
    }

    /// Writes the acks to the sockets. Of those of a host a panic is contained: all rooms wait for this task.
    fn send(&self, document: &DocumentName, acks: &mut Acks) {
        let sent = catch_unwind(AssertUnwindSafe(|| acks.send(Instant::now())));
        match sent {
            Ok(sent) => self.metrics.frames_sent_total.add(sent as u64),
            Err(panic) => {
                *acks = Acks::default();
                let error = Panic::new(&*panic);
                tracing::error!(document = %document, %error, "A socket failed; the acks that were for it and others are not sent");
            }
        }
    }
}

/// How many of these requests make one commit.
fn commit_len(requests: &[Request]) -> usize {
    let (mut rows, mut bytes) = (0, 0);
    let more = requests.iter().take_while(|request| {
        let space = rows < ROWS_MAX && bytes < BYTES_MAX;
        rows += request.rows;
        bytes += request.bytes;
        space
    });
    more.count()
}

/// The requests of each room, in order.
fn by_room(requests: Vec<Request>) -> Vec<Vec<Request>> {
    let mut rooms = Vec::<Vec<Request>>::new();
    let mut index_of = HashMap::new();
    for request in requests {
        let index = *index_of.entry(request.room_id()).or_insert(rooms.len());
        match rooms.get_mut(index) {
            Some(room) => room.push(request),
            None => rooms.push(vec![request]),
        }
    }
    rooms
}

/// Commits that fail, from the first on.
struct Outage {
    since: Instant,
    backoff: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self { since: Instant::now(), backoff: BACKOFF_MIN }
    }
}

impl Outage {
    /// Waits until the next try.
    async fn pass(&mut self) {
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn is_long(&self) -> bool {
        self.since.elapsed() >= PATIENCE
    }
}
