//! Deadlines, on a thread of their own. Before a runtime that has any deadline waits for its sockets, it sets a timer of
//! the kernel, which it takes back when something comes. On a virtual machine each is a way out of it and back: 2 µs of
//! the 30 that a lone message costs. A runtime without deadlines just waits. A single one, however far away, is enough:
//! whatever waits often or always while a server is busy should wait here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Whoever waits for longer than this is woken at moments that all share.
const STEP: Duration = Duration::from_millis(250);

const THREAD: &str = "fidibus-clock";

/// What the process has: one thread serves all that need it.
static SHARED: Mutex<Weak<Clock>> = Mutex::new(Weak::new());

/// See the module.
#[derive(Debug)]
pub struct Clock {
    runtime: Handle,
    start: Instant,
    /// The thread ends with it.
    _ended: oneshot::Sender<()>,
}

impl Clock {
    /// The clock of the process, which ends with the last that holds it; where there can be no thread, the runtime that
    /// this is called in.
    ///
    /// # Panics
    /// Where there can be no thread, outside of a runtime.
    pub fn shared() -> Arc<Self> {
        // Any value is whole.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = shared.upgrade() {
            return clock;
        }
        let (ended, end) = oneshot::channel();
        let clock = |runtime| Arc::new(Self { runtime, start: Instant::now(), _ended: ended });
        match spawn(end) {
            Ok(runtime) => {
                let clock = clock(runtime);
                *shared = Arc::downgrade(&clock);
                clock
            }
            Err(error) => {
                // Whoever listens may come here as well.
                drop(shared);
                tracing::warn!(%error, "No thread for deadlines; a message costs a little more");
                // For the caller alone: others may outlive this runtime.
                clock(Handle::current())
            }
        }
    }

    /// A timer that ends at the deadline, or before it: then it is to be set again ([`Self::set`]). Most deadlines move
    /// away before they come, and what wakes many tasks at once costs little more than what wakes one.
    ///
    /// It must not be waited for any more when the clock is gone.
    pub(crate) fn timer(&self, deadline: Instant) -> Sleep {
        let _entered = self.runtime.enter();
        tokio::time::sleep_until(self.step_before(deadline, Instant::now()).into())
    }

    /// Sets a timer to another deadline.
    pub(crate) fn set(&self, timer: Pin<&mut Sleep>, deadline: Instant) {
        timer.reset(self.step_before(deadline, Instant::now()).into());
    }

    /// The first moment that all share at or after this one: for what need not come to the moment.
    pub(crate) fn step_after(&self, moment: Instant) -> Instant {
        self.step_before(moment + STEP - Duration::from_nanos(1), moment)
    }

    /// Waits for so long. The thread does so to the end when the caller gives up.
    pub async fn sleep(&self, wait: Duration) {
        self.run(async move { tokio::time::sleep(wait).await }).await;
    }

    /// Has the thread do something that is mostly waiting, and waits for its end: the caller is woken once, however often
    /// the thread is. It goes on when the caller gives up.
    pub(crate) async fn run(&self, what: impl Future<Output = ()> + Send + 'static) {
        // An error is the end as well: it panicked, or is in a runtime that ends.
        let _ = self.runtime.spawn(what).await;
    }

    /// The last moment that all share, up to a deadline; the deadline where that has passed.
    fn step_before(&self, deadline: Instant, now: Instant) -> Instant {
        let since_step = deadline.saturating_duration_since(self.start).as_nanos() % STEP.as_nanos();
        // Less than a step: it fits.
        let step = deadline.checked_sub(Duration::from_nanos(since_step as u64)).unwrap_or(deadline);
        if step >= now { step } else { deadline }
    }
}

/// Starts a thread with a runtime, which ends with `end`. The runtime is made there: no other may drop one.
fn spawn(end: oneshot::Receiver<()>) -> io::Result<Handle> {
    let (tell, told) = mpsc::sync_channel(1);
    thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_time().build();
        // Who asked waits for it.
        let _ =
            tell.send(runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(|e| e.kind().into()));
        if let Ok(runtime) = runtime {
            // An error is the end as well: nothing is ever sent.
            let _ = runtime.block_on(end);
        }
    })?;
    told.recv().map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what waits long is woken together with others and never late. Method: deadlines from no time to ten steps
    /// away.
    #[tokio::test]
    async fn a_timer_ends_at_its_deadline_or_at_a_step_before_it() {
        let clock = Clock::shared();
        let now = clock.start + STEP / 3;
        let deadlines = || (0..100).map(|tenth| now + STEP * tenth / 10);
        let mut ends: Vec<Instant> = deadlines().map(|deadline| clock.step_before(deadline, now)).collect();
        assert!(deadlines().zip(&ends).all(|(deadline, end)| *end <= deadline && deadline - *end < STEP));
        ends.dedup();
        assert_eq!(ends.len(), 7 + 10, "those before the next step, and ten steps");
        for moment in deadlines() {
            let step = clock.step_after(moment);
            assert!(step >= moment && step - moment < STEP);
            assert_eq!(clock.step_before(step, now), step);
        }
    }

    /// Goal: there is one thread, and it is who waits. Method: ask from two threads; have it tell its name.
    #[tokio::test]
    async fn all_share_one_clock() {
        let clock = Clock::shared();
        let other = thread::spawn(Clock::shared).join().unwrap();
        assert!(Arc::ptr_eq(&clock, &other));
        let (tell, told) = oneshot::channel();
        let start = Instant::now();
        let wait = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            tell.send(thread::current().name().map(str::to_owned)).unwrap();
        };
        clock.run(wait).await;
        assert!(start.elapsed() >= Duration::from_millis(3));
        assert_eq!(told.await.unwrap().as_deref(), Some(THREAD));
    }

    /// Goal: no deadline is missed, and none woken for often. Method: a deadline that is a step away.
    #[tokio::test]
    async fn a_timer_that_ended_early_is_set_again() {
        let clock = Clock::shared();
        let deadline = Instant::now() + STEP / 10 + STEP;
        let mut timer = std::pin::pin!(clock.timer(deadline));
        let mut ended = 0;
        while Instant::now() < deadline {
            timer.as_mut().await;
            clock.set(timer.as_mut(), deadline);
            ended += 1;
        }
        assert!((1..=3).contains(&ended), "{ended}");
    }
}
