//! The commands that wait for a room's task: any number of senders, one receiver that takes all at once.
//! Unlike a channel of tokio it keeps no block of memory while it is empty, which ten thousand idle rooms
//! would each have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::registry::Command;

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    closed: bool,
    /// The task was told that something waits, and has not come yet.
    told: bool,
    /// The task has taken something, and is not done with it.
    busy: bool,
    /// The task takes what waits before long, told or not.
    patient: bool,
}

/// See the module.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Notify,
    /// How many wait.
    commands: AtomicUsize,
    commands_max: usize,
    opened: Notify,
}

impl Inbox {
    /// An empty inbox that is full beyond this many commands. It takes more: readers are to pause.
    pub(super) fn new(commands_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            commands: AtomicUsize::new(0),
            commands_max,
            opened: Notify::new(),
        }
    }

    /// Whether more commands wait than there should.
    pub(super) fn is_full(&self) -> bool {
        self.commands.load(Ordering::Acquire) > self.commands_max
    }

    /// Notified whenever readers may perhaps go on.
    pub(super) fn opened(&self) -> &Notify {
        &self.opened
    }

    /// Adds a command; gives it back when the room has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), Command> {
        let queue = self.lock();
        if queue.closed {
            return Err(command);
        }
        self.push(queue, command, false);
        Ok(())
    }

    /// As [`Self::send`], for what may wait until the task comes for something else; lost when the room has ended.
    pub(super) fn send_patiently(&self, command: Command) {
        let queue = self.lock();
        if !queue.closed {
            let patient = queue.patient;
            self.push(queue, command, patient);
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, command: Command, patient: bool) {
        queue.commands.push(command);
        let tell = !patient && !std::mem::replace(&mut queue.told, true);
        self.commands.store(queue.commands.len(), Ordering::Release);
        drop(queue);
        if tell {
            self.filled.notify_one();
        }
    }

    /// The task is done with what it took; whether it takes what waits before long, whether it is told or not: it has
    /// a timer. Said before it looks for what waits.
    pub(super) fn set_patient(&self, patient: bool) {
        let mut queue = self.lock();
        queue.patient = patient;
        queue.busy = false;
    }

    /// Whether what is sent patiently would wake nobody and wait, with nothing under way that it could overtake.
    pub(super) fn is_patient(&self) -> bool {
        let queue = self.lock();
        queue.closed || (queue.patient && !queue.told && !queue.busy)
    }

    /// Takes all that waits, behind what is in `commands`. Does not wait.
    pub(super) fn take(&self, commands: &mut Vec<Command>) {
        let mut queue = self.lock();
        queue.told = false;
        if commands.is_empty() {
            std::mem::swap(&mut queue.commands, commands);
        } else {
            commands.append(&mut queue.commands);
        }
        queue.busy |= !commands.is_empty();
        let was_full = self.is_full();
        self.commands.store(0, Ordering::Release);
        drop(queue);
        if was_full {
            self.opened.notify_waiters();
        }
    }

    /// Waits until there is something, and takes it. Cancel-safe: nothing is taken before it is ready.
    pub(super) async fn recv(&self, commands: &mut Vec<Command>) {
        loop {
            self.take(commands);
            if !commands.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }

    /// Gives back memory that nothing is in.
    pub(super) fn shrink(&self) {
        let mut queue = self.lock();
        if queue.commands.is_empty() {
            queue.commands = Vec::new();
        }
    }

    /// Takes nothing more; what waited.
    pub(super) fn close(&self) -> Vec<Command> {
        let mut queue = self.lock();
        queue.closed = true;
        let waited = std::mem::take(&mut queue.commands);
        self.commands.store(0, Ordering::Release);
        drop(queue);
        // Readers do not wait for a room that has ended.
        self.opened.notify_waiters();
        waited
    }

    /// Whether the room has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn taken(inbox: &Inbox, wait: Duration) -> usize {
        let mut commands = Vec::new();
        let _ = tokio::time::timeout(wait, inbox.recv(&mut commands)).await;
        commands.len()
    }

    /// Goal: what may wait wakes nobody, and takes the wake-up of nothing that may not. Method: a task that waits.
    #[tokio::test]
    async fn what_may_wait_comes_with_the_next() {
        let inbox = Inbox::new(10);
        inbox.send_patiently(Command::Reconsider);
        let (long, short) = (Duration::from_secs(5), Duration::from_millis(50));
        assert_eq!(taken(&inbox, long).await, 1, "nobody said that it may");
        inbox.set_patient(true);
        let (waiting, ()) = tokio::join!(taken(&inbox, long), async {
            tokio::task::yield_now().await;
            inbox.send_patiently(Command::Reconsider);
            assert!(inbox.is_patient());
            tokio::time::sleep(short).await;
            assert!(inbox.send(Command::Reconsider).is_ok() && !inbox.is_patient());
        });
        assert_eq!(waiting, 2);
        assert!(!inbox.is_patient(), "what was taken is not handled yet");
        inbox.set_patient(true);
        assert!(inbox.is_patient());
        let (waiting, ()) = tokio::join!(taken(&inbox, short), async {
            tokio::task::yield_now().await;
            inbox.send_patiently(Command::Reconsider);
        });
        assert_eq!(waiting, 0, "it was not woken");
        inbox.set_patient(false);
        assert!(!inbox.is_patient());
        inbox.close();
        assert!(inbox.is_patient(), "nobody comes");
        inbox.send_patiently(Command::Reconsider);
        assert!(inbox.close().is_empty());
    }
}
