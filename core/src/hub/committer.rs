//! Group commit: one task appends the rows of all rooms. While one commit is in flight the next batch
//! gathers, so latency is one commit and throughput is not bounded by it. A commit that fails is tried
//! again for ever, with its rows in order; no ack is given meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::registry::{Command, RoomHandle};
use crate::error::StoreError;
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

/// Hands rows to the committer.
#[derive(Clone)]
pub(super) struct Committer(mpsc::UnboundedSender<Request>);

impl Committer {
    /// Starts the task; it ends when the last handle is gone and all is committed.
    pub(super) fn start(log: Arc<dyn UpdateLog>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(log, metrics, receiver));
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

async fn run(log: Arc<dyn UpdateLog>, metrics: Arc<Metrics>, mut queue: mpsc::UnboundedReceiver<Request>) {
    let mut requests = Vec::new();
    let mut busy = false;
    while let Some(first) = queue.recv().await {
        requests.push(first);
        if busy {
            tokio::time::sleep(GATHER).await;
        }
        gather(&mut queue, &mut requests);
        let bytes: usize = requests.iter().map(|request| request.bytes).sum();
        metrics.uncommitted_bytes.add(bytes as u64);
        let batches: Vec<LogBatch> =
            requests.iter_mut().flat_map(|r| std::mem::take(&mut r.persist.batches)).collect();
        let ids = append(&*log, &metrics, &batches).await;
        metrics.uncommitted_bytes.sub(bytes as u64);
        busy = requests.len() > 1;
        answer(&mut requests, &ids);
    }
}

fn gather(queue: &mut mpsc::UnboundedReceiver<Request>, requests: &mut Vec<Request>) {
    let mut rows = requests[0].rows;
    let mut bytes = requests[0].bytes;
    while rows < ROWS_MAX
        && bytes < BYTES_MAX
        && let Ok(request) = queue.try_recv()
    {
        rows += request.rows;
        bytes += request.bytes;
        requests.push(request);
    }
}

async fn append(log: &dyn UpdateLog, metrics: &Metrics, batches: &[LogBatch]) -> Vec<LogId> {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = Instant::now();
        match log.append(batches).await {
            Ok(ids) if ids.len() == batches.len() => {
                metrics.log_commits_total.add(1);
                metrics.log_rows_total.add(batches.len() as u64);
                metrics.log_microseconds_total.add(started.elapsed().as_micros() as u64);
                return ids;
            }
            Ok(ids) => {
                report(&StoreError::permanent("log", format!("{} ids for {} rows", ids.len(), batches.len())))
            }
            Err(error) => report(&error),
        }
        metrics.log_failures_total.add(1);
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn report(error: &StoreError) {
    tracing::error!(error = %error, "Updates could not be committed; they are kept and tried again, and not acknowledged");
}

fn answer(requests: &mut Vec<Request>, ids: &[LogId]) {
    let mut ids = ids.iter().copied();
    for Request { room, persist, bytes, rows } in requests.drain(..) {
        let rows = ids.by_ref().take(rows).collect();
        room.send(Command::Committed { sequence: persist.sequence, bytes, rows, parked: persist.parked });
    }
}
