//! Snapshots on their way into the file. Rooms become due together, and a transaction costs a sync of the disk and
//! several ways to the thread of SQLite and back: whoever gets the writer's turn takes along what waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, mem};

use sqlx::{Connection, Row, Sqlite, SqliteConnection, Transaction};
use tokio::sync::oneshot;

use super::BEGIN;
use super::writer::Writer;
use crate::store::merge::EMPTY_UPDATE;
use crate::store::snapshot::{Seal, Sealed, Snapshot};

/// What one transaction stores at most: whoever appends meanwhile waits for it, and acks wait for that. A larger
/// snapshot goes alone.
const BYTES_MAX: usize = 1024 * 1024;
const SAVES_MAX: usize = 1 << (PLACES - 1);
/// How many writes there are, by number of places: 1, 2, 4 and so on. All of them stay prepared.
const PLACES: usize = 7;

/// See the module.
#[derive(Default)]
pub(super) struct Saves(Mutex<VecDeque<Save>>);

struct Save {
    snapshot: Snapshot,
    /// Gets nothing when it is stored.
    done: oneshot::Sender<Option<Snapshot>>,
}

impl Saves {
    /// Stores a snapshot, together with others that wait. Answers it where it has to be stored alone: something is to
    /// be merged, or the others failed with it.
    ///
    /// # Errors
    /// It cannot be the writer's turn: it is closed, or somebody else writes for too long.
    pub(super) async fn store(
        &self,
        writer: &Writer,
        snapshot: Snapshot,
    ) -> Result<Option<Snapshot>, sqlx::Error> {
        let (done, answer) = oneshot::channel();
        self.lock().push_back(Save { snapshot, done });
        let mut caller = Caller { saves: self, answer };
        loop {
            let mut writer = tokio::select! {
                biased;
                answer = &mut caller.answer => return answer.map_err(|_| sqlx::Error::WorkerCrashed),
                turn = writer.turn() => turn?,
            };
            // Fails for the caller alone: it has nothing to do with what waits.
            let tx = writer.begin_with(BEGIN).await?;
            if let Err(error) = store_together(tx, self.take()).await {
                tracing::debug!(%error, "Snapshots could not be stored together; each is tried alone");
            }
        }
    }

    /// What goes into the next transaction.
    fn take(&self) -> Batch {
        let mut waiting = self.lock();
        let (mut taken, mut bytes) = (Vec::<Save>::new(), 0);
        while let Some(Save { snapshot, .. }) = waiting.front() {
            bytes += snapshot.sealed().update.len();
            // The second of one document has to see the first.
            let again = taken.iter().any(|save| save.snapshot.document() == snapshot.document());
            if !taken.is_empty() && (taken.len() == SAVES_MAX || bytes > BYTES_MAX || again) {
                break;
            }
            taken.extend(waiting.pop_front());
        }
        Batch(taken)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Save>> {
        // The queue is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Saves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saves").field("waiting", &self.lock().len()).finish()
    }
}

/// Waits for an answer. What nobody waits for any more leaves the queue.
struct Caller<'a> {
    saves: &'a Saves,
    answer: oneshot::Receiver<Option<Snapshot>>,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.answer.close();
            self.saves.lock().retain(|save| !save.done.is_closed());
        }
    }
}

/// Saves that were taken. Whatever becomes of who took them, they are stored or go back to their callers.
struct Batch(Vec<Save>);

impl Batch {
    fn stored(mut self) {
        for save in mem::take(&mut self.0) {
            save.done.send(None).ok();
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for save in mem::take(&mut self.0) {
            save.done.send(Some(save.snapshot)).ok();
        }
    }
}

/// Stores those that can take the place of what is stored unread; gives back the others.
async fn store_together(mut tx: Transaction<'_, Sqlite>, mut batch: Batch) -> Result<(), sqlx::Error> {
    let documents: Vec<_> = batch.0.iter().map(|save| save.snapshot.document()).collect();
    let stored = seals(&mut tx, &documents).await?;
    // While they are still in the batch: a panic about one sends the others back.
    let fits =
        |(save, seal): (&Save, &Option<Seal>)| seal.as_ref().is_none_or(|seal| save.snapshot.covers(seal));
    let fit: Vec<bool> = batch.0.iter().zip(&stored).map(fits).collect();
    let mut fit = fit.into_iter();
    let saves = mem::take(&mut batch.0).into_iter().zip(stored);
    let (fitting, others): (Vec<_>, Vec<_>) = saves.partition(|_| fit.next().unwrap_or(false));
    drop(Batch(others.into_iter().map(|(save, _)| save).collect()));
    let (fitting, stored): (Vec<_>, Vec<_>) = fitting.into_iter().unzip();
    let batch = Batch(fitting);
    let snapshots = batch.0.iter().map(|save| (save.snapshot.document(), save.snapshot.sealed())).zip(stored);
    let changed: Vec<_> = snapshots
        .filter(|((_, sealed), seal)| !seal.as_ref().is_some_and(|seal| sealed.is(seal)))
        .map(|(snapshot, _)| snapshot)
        .collect();
    write(&mut tx, &changed).await?;
    tx.commit().await?;
    batch.stored();
    Ok(())
}

/// The seals of what is stored, in the order of the documents: none where nothing is, an empty one where another
/// program wrote it.
pub(super) async fn seals(
    connection: &mut SqliteConnection,
    documents: &[&str],
) -> Result<Vec<Option<Seal>>, sqlx::Error> {
    // Documents that were only appended to are empty. Asking for their length reads none of the others.
    let rows = sqlx::query(
        "select key, s.sha256, s.coverage from json_each(?)
         cross join yjs_document d on d.id = value
         left join fidibus_snapshot s on s.document_id = d.id and s.written_at = d.updated_at
         where s.sha256 is not null or length(d.data) > 2 or d.data <> ?",
    )
    // Invariant: texts always have a form in JSON.
    .bind(serde_json::to_string(documents).unwrap_or_default())
    .bind(EMPTY_UPDATE)
    .fetch_all(connection)
    .await?;
    let mut seals: Vec<_> = documents.iter().map(|_| None).collect();
    for row in rows {
        seals[row.try_get::<u32, _>(0)? as usize] =
            Some(Seal { sha256: row.try_get(1)?, coverage: row.try_get(2)? });
    }
    Ok(seals)
}

/// Writes snapshots of different documents, at most [`SAVES_MAX`], and their seals.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    snapshots: &[(&str, &Sealed)],
) -> Result<(), sqlx::Error> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let places = snapshots.len().next_power_of_two();
    let text = WRITES[places.trailing_zeros() as usize].get_or_init(|| writes(places));
    let mut query = sqlx::query(text.as_str());
    for (document, sealed) in snapshots {
        query = query.bind(*document).bind(&sealed.update[..]);
    }
    for _ in snapshots.len()..places {
        query = query.bind(None::<&str>).bind(None::<&[u8]>);
    }
    for (document, sealed) in snapshots {
        query = query.bind(*document).bind(&sealed.sha256[..]).bind(sealed.coverage.as_deref());
    }
    query.execute(connection).await?;
    Ok(())
}

/// The write with so many places, of which empty ones count nothing: two statements, on one way to SQLite.
fn writes(places: usize) -> String {
    let snapshots = vec!["(?, ?)"; places].join(", ");
    let seals = vec!["(?, ?, ?)"; places].join(", ");
    format!(
        "insert into yjs_document (id, data, updated_at)
         select column1, column2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') from (values {snapshots})
         where column1 is not null
         on conflict (id) do update set data = excluded.data, updated_at = excluded.updated_at;
         insert into fidibus_snapshot (document_id, sha256, coverage, written_at)
         select column1, column2, column3, updated_at from (values {seals})
         cross join yjs_document on id = column1 where true
         on conflict (document_id) do update
         set sha256 = excluded.sha256, coverage = excluded.coverage, written_at = excluded.written_at"
    )
}

static WRITES: [OnceLock<String>; PLACES] = [const { OnceLock::new() }; PLACES];

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::protocol::varint::write_var_uint;

    async fn snapshot(document: &str, bytes: usize) -> Snapshot {
        let mut update = vec![1, 1, 7, 0, 4, 1, 1, b't'];
        write_var_uint(&mut update, bytes as u64);
        update.resize(update.len() + bytes, b'a');
        update.push(0);
        Snapshot::read(document, update.into()).await.unwrap()
    }

    /// Goal: what one transaction stores is bounded, in the order of the queue, and no document is in it twice. Method:
    /// snapshots of these sizes, and how many of them each transaction takes.
    #[tokio::test]
    async fn a_transaction_takes_so_much_and_no_document_twice() {
        const LARGE: usize = BYTES_MAX / 2;
        for (waiting, taken) in [
            (vec![("a", 1), ("b", 1), ("c", 1)], vec![3]),
            (vec![("a", 1), ("b", LARGE), ("c", LARGE), ("d", 1)], vec![2, 2]),
            (vec![("a", 3 * LARGE), ("b", 3 * LARGE), ("c", 1)], vec![1, 1, 1]),
            (vec![("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3)], vec![2, 2, 1]),
            ((0..150).map(|number| (&*format!("{number}").leak(), 1)).collect(), vec![64, 64, 22]),
        ] {
            let saves = Saves::default();
            for &(document, bytes) in &waiting {
                let (snapshot, done) = (snapshot(document, bytes).await, oneshot::channel().0);
                saves.lock().push_back(Save { snapshot, done });
            }
            let batches: Vec<_> =
                std::iter::from_fn(|| Some(saves.take()).filter(|batch| !batch.0.is_empty())).collect();
            assert_eq!(batches.iter().map(|batch| batch.0.len()).collect::<Vec<_>>(), taken);
            let order: Vec<_> =
                batches.iter().flat_map(|batch| &batch.0).map(|save| save.snapshot.document()).collect();
            assert_eq!(order, waiting.iter().map(|(document, _)| *document).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_leaves_the_queue() {
        let writer = Writer::connect(&SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        let turn = writer.turn().await.unwrap();
        let saves = Saves::default();
        let [a, b] = [snapshot("a", 1).await, snapshot("b", 1).await];
        let (mut dropped, mut waits) = (Box::pin(saves.store(&writer, a)), Box::pin(saves.store(&writer, b)));
        assert!((&mut dropped).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
        drop(dropped);
        assert_eq!(saves.take().0.iter().map(|save| save.snapshot.document()).collect::<Vec<_>>(), ["b"]);
        // Who took it gave up: it goes back to its caller, who does not wait for the turn any more.
        assert_eq!(waits.await.unwrap().unwrap().document(), "b");
        drop(turn);
    }
}
