//! Group commit: one task appends the rows of all rooms. While one commit is in flight the next batch
//! gathers, so latency is one commit and throughput is not bounded by it. A commit that fails is tried
//! again for ever, with its rows in order; no ack is given meanwhile.
//!
//! While the log is away, that holds up everybody. Rows that it refuses for good are set apart with all
//! that their room sends after them, and are tried again by themselves: the other rooms go on.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::error_chain;
use super::panics::contain;
use super::registry::{Command, RoomHandle};
use crate::error::StoreError;
use crate::id::DocumentName;
use crate::metrics::Metrics;
use crate::room::Persist;
use crate::store::{LogBatch, LogId, UpdateLog};

/// Rows of one commit at the most; more wait for the next.
const ROWS_MAX: usize = 4_096;
/// Bytes of one commit, about, at the most.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Where several rooms write at once, the next commit waits this long for more rows: a commit costs per
/// commit, not per row. A lone writer's ack is not delayed.
const GATHER: Duration = Duration::from_millis(2);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

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
}

/// Hands rows to the committer.
#[derive(Clone)]
pub(super) struct Committer(mpsc::UnboundedSender<Request>);

impl Committer {
    /// Starts the task; it ends when the last handle is gone and all is committed.
    pub(super) fn start(log: Arc<dyn UpdateLog>, metrics: Arc<Metrics>) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        let task = Task { log, metrics, queue, refused: HashMap::new(), busy: false };
        tokio::spawn(task.run());
        Self(sender)
    }

    /// Queues a room's rows. Their bytes count as waiting in the room, so that its readers slow down
    /// when the store does.
    pub(super) fn commit(&self, room: &Arc<RoomHandle>, persist: Persist) {
        let bytes = persist.batches.iter().map(|batch| batch.update.len()).sum();
        room.hold(bytes);
        // The task ends only after the last sender.
        let rows = persist.batches.len();
        let _ = self.0.send(Request { room: Arc::clone(room), persist, rows, bytes });
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
    queue: mpsc::UnboundedReceiver<Request>,
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
            tokio::time::sleep(GATHER).await;
        }
        let mut requests = self.gather(first);
        self.busy = requests.len() > 1;
        if !self.refused.is_empty() {
            requests = self.queue_behind_refused(requests);
        }
        let Err(error) = self.append_all(&mut requests).await else { return };
        let mut rooms = Vec::new();
        while let Some(room) = requests.first().map(Request::room_id) {
            let (of_room, others) = requests.into_iter().partition(|request| request.room_id() == room);
            rooms.push(of_room);
            requests = others;
        }
        if let [requests] = &mut rooms[..] {
            return self.refuse(mem::take(requests), &error);
        }
        for mut requests in rooms {
            if let Err(error) = self.append_all(&mut requests).await {
                self.refuse(requests, &error);
            }
        }
    }

    fn gather(&mut self, first: Request) -> Vec<Request> {
        let (mut rows, mut bytes) = (first.rows, first.bytes);
        let mut requests = vec![first];
        while rows < ROWS_MAX
            && bytes < BYTES_MAX
            && let Ok(request) = self.queue.try_recv()
        {
            rows += request.rows;
            bytes += request.bytes;
            requests.push(request);
        }
        let bytes: usize = requests.iter().map(|request| request.bytes).sum();
        self.metrics.uncommitted_bytes.add(bytes as u64);
        requests
    }

    /// A room's acks are given in order, so nothing of it overtakes what is refused.
    fn queue_behind_refused(&mut self, requests: Vec<Request>) -> Vec<Request> {
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
            if self.append_all(&mut refused.requests).await.is_ok() {
                tracing::info!(
                    document = document.as_ref().map(DocumentName::as_str),
                    "The log takes the updates of a document again"
                );
                continue;
            }
            refused.backoff = (refused.backoff * 2).min(BACKOFF_MAX);
            refused.retry_at = Instant::now() + refused.backoff;
            self.refused.insert(room, refused);
        }
    }

    /// Appends the rows of these requests and answers them; leaves them as they were where the log refuses
    /// one of them for good.
    async fn append_all(&self, requests: &mut Vec<Request>) -> Result<(), StoreError> {
        let mut batches: Vec<LogBatch> =
            requests.iter_mut().flat_map(|request| mem::take(&mut request.persist.batches)).collect();
        if batches.is_empty() {
            return Ok(());
        }
        match self.append(&batches).await {
            Ok(ids) => {
                self.answer(requests, &ids);
                Ok(())
            }
            Err(error) => {
                for request in requests {
                    request.persist.batches = batches.drain(..request.rows).collect();
                }
                Err(error)
            }
        }
    }

    /// Appends rows however long that takes.
    ///
    /// # Errors
    /// The log refuses them for good.
    async fn append(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        let mut backoff = BACKOFF_MIN;
        loop {
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
            if !error.retryable {
                return Err(error);
            }
            tracing::error!(error = %error, "Updates could not be committed; they are kept and tried again, and not acknowledged");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn answer(&self, requests: &mut Vec<Request>, ids: &[LogId]) {
        let mut ids = ids.iter().copied();
        for Request { room, persist, bytes, rows } in requests.drain(..) {
            let rows = ids.by_ref().take(rows).collect();
            self.metrics.uncommitted_bytes.sub(bytes as u64);
            room.send(Command::Committed { sequence: persist.sequence, bytes, rows, parked: persist.parked });
        }
    }
}
