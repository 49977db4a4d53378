//! The one ordered queue from the engine to JavaScript. JavaScript is woken once, takes all that is there, and is
//! woken again only for what comes after.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, Writer};

/// Bytes written for JavaScript in one go, about; more is taken by the next call of the same turn.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Frames for sockets of the host that wait, about.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A buffer larger than this is not kept for the next batch.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// Wakes JavaScript.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What JavaScript is given.
pub enum Batch {
    /// Everything that there was; this many bytes, where it wanted them.
    Copied(usize),
    /// Too much for that; there may be more.
    Own(Vec<u8>),
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// What they hold of frames for sockets of the host.
    frame_bytes: usize,
    /// JavaScript was woken and has not found the queue empty since.
    woken: bool,
    /// It is to be then.
    due: Option<Instant>,
    /// When it last was.
    woken_at: Option<Instant>,
    /// For the next batch.
    spare: Vec<u8>,
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
        self.push_all([event]);
    }

    /// Appends events.
    pub fn push_all(&self, events: impl IntoIterator<Item = Event>) {
        let sleeping = {
            let mut waiting = self.lock();
            for event in events {
                waiting.frame_bytes += event.frame_bytes();
                waiting.events.push_back(event);
            }
            !waiting.events.is_empty() && waiting.wakes()
        };
        if sleeping {
            self.wake();
        }
    }

    /// Appends an event that nobody waits for: JavaScript is woken for it `within` this time of its last wake. Where a
    /// time is returned, `wake_late` has to be called then.
    pub fn push_told(&self, event: Event, within: Duration) -> Option<Instant> {
        let mut waiting = self.lock();
        waiting.events.push_back(event);
        if waiting.woken {
            return None;
        }
        let due = waiting.woken_at.map_or_else(Instant::now, |at| at + within);
        if waiting.due.is_some_and(|earlier| earlier <= due) {
            return None;
        }
        waiting.due = Some(due);
        Some(due)
    }

    /// The time that `push_told` named has come.
    pub fn wake_late(&self) {
        let sleeping = {
            let mut waiting = self.lock();
            waiting.due = None;
            !waiting.events.is_empty() && waiting.wakes()
        };
        if sleeping {
            self.wake();
        }
    }

    /// Whether JavaScript is so far behind that it has to come for more frames itself.
    pub fn holds_many_frames(&self) -> bool {
        self.lock().frame_bytes >= FRAME_BYTES_MAX
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Writes what waits, in order.
    pub fn take(&self, into: &mut [u8], write: impl Fn(&Event, &mut Writer)) -> Batch {
        let mut out = Writer(std::mem::take(&mut self.lock().spare));
        loop {
            let events = {
                let mut waiting = self.lock();
                if waiting.events.is_empty() {
                    if let Some(into) = into.get_mut(..out.0.len()) {
                        into.copy_from_slice(&out.0);
                        waiting.woken = false;
                        waiting.keep(out.0);
                        return Batch::Copied(into.len());
                    }
                    return Batch::Own(out.0);
                }
                let count = waiting.events.len().min(256);
                let events = waiting.events.drain(..count).collect::<Vec<_>>();
                waiting.frame_bytes -= events.iter().map(Event::frame_bytes).sum::<usize>();
                events
            };
            // Written and dropped outside of the lock: dropping releases bytes of a room.
            for event in &events {
                write(event, &mut out);
            }
            if out.0.len() >= BATCH_BYTES_MAX {
                return Batch::Own(out.0);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // The queue is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether JavaScript sleeps; it is woken by whom this tells so.
    fn wakes(&mut self) -> bool {
        if std::mem::replace(&mut self.woken, true) {
            return false;
        }
        self.woken_at = Some(Instant::now());
        true
    }

    fn keep(&mut self, mut spare: Vec<u8>) {
        if spare.capacity() <= SPARE_BYTES_MAX {
            spare.clear();
            self.spare = spare;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    fn queue() -> (Queue, Arc<AtomicUsize>) {
        let (queue, wakes) = (Queue::default(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&wakes);
        queue.wake_with(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        (queue, wakes)
    }

    fn take(queue: &Queue, into: &mut [u8]) -> Batch {
        queue.take(into, |event, out| event.write(out))
    }

    #[test]
    fn one_wake_for_all_until_everything_is_taken() {
        let (queue, wakes) = queue();
        let mut into = [0; 64];
        for document in 1..=3 {
            queue.push(Event::Ended { document });
        }
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(matches!(take(&queue, &mut into), Batch::Copied(15)));
        assert_eq!(into[..5], [11, 1, 0, 0, 0]);
        queue.push(Event::Ended { document: 4 });
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_does_not_fit_comes_in_its_own_buffer_and_there_may_be_more() {
        let (queue, wakes) = queue();
        queue.push(Event::Ended { document: 1 });
        let Batch::Own(bytes) = take(&queue, &mut [0; 4]) else { panic!("it does not fit") };
        assert_eq!(bytes.len(), 5);
        // JavaScript asks again, so it is not woken.
        queue.push(Event::Ended { document: 2 });
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(matches!(take(&queue, &mut [0; 64]), Batch::Copied(5)));
    }

    #[test]
    fn frames_are_counted_until_they_are_taken() {
        let (queue, _) = queue();
        let frames = || Event::Frames { connection: 1, frames: vec![vec![0; FRAME_BYTES_MAX / 2].into()] };
        queue.push(frames());
        assert!(!queue.holds_many_frames());
        queue.push(frames());
        assert!(queue.holds_many_frames());
        while matches!(take(&queue, &mut [0; 64]), Batch::Own(_)) {}
        assert!(!queue.holds_many_frames());
    }

    #[test]
    fn what_is_only_told_wakes_late_and_once_and_in_order_before_what_is_asked() {
        let (queue, wakes) = queue();
        let due = queue.push_told(Event::Touched { document: 1 }, WITHIN).expect("it sleeps");
        assert!(due <= Instant::now(), "it has never been woken before");
        assert!(queue.push_told(Event::Touched { document: 2 }, WITHIN).is_none());
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        queue.wake_late();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(matches!(take(&queue, &mut [0; 64]), Batch::Copied(10)));

        let later = queue.push_told(Event::Touched { document: 1 }, WITHIN).expect("it sleeps");
        assert!(later > Instant::now() + WITHIN / 2);
        let sooner = queue.push_told(Event::Touched { document: 2 }, Duration::ZERO).expect("that is sooner");
        assert!(sooner < later);
        queue.push(Event::Ended { document: 3 });
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        let mut into = [0; 64];
        assert!(matches!(take(&queue, &mut into), Batch::Copied(15)));
        assert_eq!([into[0], into[5], into[10]], [8, 8, 11]);
        // The time comes, and everything is told already.
        queue.wake_late();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
