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
        let mut queue = self.lock();
        if queue.closed {
            return Err(command);
        }
        queue.commands.push(command);
        let first = queue.commands.len() == 1;
        self.commands.store(queue.commands.len(), Ordering::Release);
        drop(queue);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits, behind what is in `commands`. Does not wait.
    pub(super) fn take(&self, commands: &mut Vec<Command>) {
        let mut queue = self.lock();
        if commands.is_empty() {
            std::mem::swap(&mut queue.commands, commands);
        } else {
            commands.append(&mut queue.commands);
        }
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
