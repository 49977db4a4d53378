//! The check at the end of a run: nothing lost, everything acked, and a fresh client reads the merged text.

use std::time::Duration;

use super::world::{Awaited, Client, Stage, World};
use super::{Crowd, Seat};
use crate::trace::text_of;

const FRESH_READER_CHECK_PERIOD: Duration = Duration::from_millis(2);

/// What the check found. A run is good when it is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Clocks that did not reach a connection which should have them.
    pub undelivered: u64,
    /// Presence states, the last of each checked member, that did not reach a connection.
    pub presence_undelivered: u64,
    /// Updates that were not acked.
    pub unacked: u64,
    /// Documents whose fresh reader does not read the merged text.
    pub different_texts: u64,
    /// Everything else that went wrong, the first few in words.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        *self == Self::default()
    }
}

impl World {
    fn undelivered_to(&self, client: &Client) -> u64 {
        if client.stage != Stage::Synced {
            return 0;
        }
        let document = &self.documents[client.document];
        let missing_tail: u64 = document
            .due
            .iter()
            .zip(&client.seen)
            .enumerate()
            .filter(|(writer, _)| client.member != Some(*writer))
            .map(|(_, (due, seen))| {
                (due.len() as u64 * u64::from(self.trace.chars_per_update)).saturating_sub(u64::from(*seen))
            })
            .sum();
        let gaps = client.gaps.iter().filter(|(writer, _, _)| client.member != Some(*writer));
        missing_tail + gaps.map(|(_, from, to)| u64::from(to - from)).sum::<u64>()
    }

    fn presence_undelivered_to(&self, client: &Client) -> u64 {
        if client.stage != Stage::Synced {
            return 0;
        }
        let checked =
            self.documents[client.document].presence_due.iter().zip(&client.presence_seen).enumerate();
        checked
            .filter(|(member, (due, seen))| {
                client.member != Some(*member) && due.len() as u64 > u64::from(**seen)
            })
            .count() as u64
    }

    fn unacked_by(&self, client: &Client) -> u64 {
        client.awaited.iter().filter(|awaited| matches!(awaited, Awaited::Update { .. })).count() as u64
    }

    /// Whether everything sent has arrived everywhere and was acked.
    pub fn is_complete(&self) -> bool {
        self.clients.iter().all(|client| {
            client.stage == Stage::Closed
                || (client.awaited.is_empty()
                    && self.undelivered_to(client) == 0
                    && self.presence_undelivered_to(client) == 0)
        })
    }

    /// How many things went wrong so far.
    pub fn fault_count(&self) -> u64 {
        self.fault_count
    }

    /// The first few of them.
    pub fn faults_text(&self) -> String {
        self.faults.join("; ")
    }
}

impl Crowd {
    /// Reads every document with a fresh client and judges the run.
    pub fn verdict(&mut self) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::default();
        for client in &self.world.clients {
            verdict.undelivered += self.world.undelivered_to(client);
            verdict.presence_undelivered += self.world.presence_undelivered_to(client);
            verdict.unacked += self.world.unacked_by(client);
        }
        for document in 0..self.world.documents.len() {
            if self.world.documents[document].due.is_empty() {
                continue;
            }
            if let Err(error) = self.check_text(document) {
                verdict.different_texts += 1;
                self.world.fault(|| format!("document {document}: {error:#}"));
            }
        }
        verdict.faults = self.world.faults.clone();
        if self.world.fault_count as usize > verdict.faults.len() {
            verdict.faults.push(format!("{} faults altogether", self.world.fault_count));
        }
        Ok(verdict)
    }

    fn check_text(&mut self, document: usize) -> anyhow::Result<()> {
        let reader = self.connect(Seat { document, member: None, receive_buffer_bytes: None })?;
        self.world.clients[reader].kept = Some(Vec::new());
        let deadline = self.net.now() + self.patience.as_nanos() as u64;
        loop {
            let client = &self.world.clients[reader];
            if client.stage == Stage::Synced && self.world.undelivered_to(client) == 0 {
                break;
            }
            anyhow::ensure!(client.stage != Stage::Closed, "the fresh reader's connection ended");
            anyhow::ensure!(
                self.net.now() < deadline,
                "a fresh reader lacks {} clocks after {:?}",
                self.world.undelivered_to(client),
                self.patience
            );
            self.run(FRESH_READER_CHECK_PERIOD, &mut [])?;
        }
        let received = self.world.clients[reader].kept.take().unwrap_or_default();
        self.leave(reader);
        let found = text_of(received.iter().map(Vec::as_slice))?;
        let sent = self.sent_updates(document);
        let expected = text_of(sent.iter().map(Vec::as_slice))?;
        anyhow::ensure!(
            found == expected,
            "a fresh reader reads {} characters, and not the merged {}",
            found.len(),
            expected.len()
        );
        Ok(())
    }

    /// All updates that the writers of a document sent.
    fn sent_updates(&self, document: usize) -> Vec<Vec<u8>> {
        let of = &self.world.documents[document];
        let mut updates = Vec::new();
        for (writer, due) in of.due.iter().enumerate() {
            for index in 0..due.len() {
                let mut update = Vec::new();
                self.world.trace.put(index, of.base + writer as u64, &mut update);
                updates.push(update);
            }
        }
        updates
    }
}
