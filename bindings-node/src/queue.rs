//! The one ordered queue from the engine to JavaScript. JavaScript is woken once, takes all that is there, and is
//! woken again only for what comes after.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::event::{Event, Writer};

/// Bytes written for JavaScript in one go, about; more is taken by the next call of the same turn.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Wakes JavaScript.
pub type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// JavaScript was woken and has not found the queue empty since.
    woken: bool,
}

/// See the module. What may pile up here is bounded by the rooms: events hold bytes of theirs.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    wake: OnceLock<Wake>,
}

impl Queue {
    /// Says how JavaScript is woken.
    pub fn wake_with(&self, wake: Wake) {
        // Set once, by the only engine of this queue.
        let _ = self.wake.set(wake);
    }

    /// Appends an event.
    pub fn push(&self, event: Event) {
        let sleeping = {
            let mut waiting = self.lock();
            waiting.events.push_back(event);
            !std::mem::replace(&mut waiting.woken, true)
        };
        if sleeping && let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Writes what waits, in order; `None` once there is nothing, so that the next event wakes again.
    pub fn take(&self, write: impl Fn(&Event, &mut Writer)) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        loop {
            let events = {
                let mut waiting = self.lock();
                if waiting.events.is_empty() {
                    if out.0.is_empty() {
                        waiting.woken = false;
                        return None;
                    }
                    return Some(out.0);
                }
                let count = waiting.events.len().min(256);
                waiting.events.drain(..count).collect::<Vec<_>>()
            };
            // Written and dropped outside of the lock: dropping releases bytes of a room.
            for event in &events {
                write(event, &mut out);
            }
            if out.0.len() >= BATCH_BYTES_MAX {
                return Some(out.0);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // The queue is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
