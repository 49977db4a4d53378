//! Deadlines that are far away, on a thread of their own. Before a runtime that has any deadline waits for its sockets,
//! it sets a timer of the kernel, which it takes back when something comes. On a virtual machine each is a way out of it
//! and back: 2 µs of the 30 that a lone message costs. A runtime without deadlines just waits.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Whoever waits for longer than this is woken at moments that all share.
const STEP: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Clock {
    runtime: Handle,
    start: Instant,
    /// The thread ends with it.
    _ended: oneshot::Sender<()>,
}

impl Clock {
    /// Starts the thread; where there can be none, the deadlines are the runtime's own.
    pub(super) fn start() -> Self {
        let (ended, end) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_time().build().and_then(|runtime| {
            let handle = runtime.handle().clone();
            let thread = std::thread::Builder::new().name("fidibus-clock".to_owned());
            // An error is the end as well: nothing is ever sent.
            thread.spawn(move || drop(runtime.block_on(end)))?;
            Ok(handle)
        });
        let runtime = runtime.unwrap_or_else(|error| {
            tracing::warn!(%error, "No thread for deadlines; a message costs a little more");
            Handle::current()
        });
        Self { runtime, start: Instant::now(), _ended: ended }
    }

    /// A timer that ends at the deadline, or before it: then it is to be set again ([`Self::set`]). Most deadlines move
    /// away before they come, and what wakes many tasks at once costs little more than what wakes one.
    ///
    /// It must not be waited for any more when the clock is gone.
    pub(super) fn timer(&self, deadline: Instant) -> Sleep {
        let _entered = self.runtime.enter();
        tokio::time::sleep_until(self.step_before(deadline).into())
    }

    /// Sets a timer to another deadline.
    pub(super) fn set(&self, timer: Pin<&mut Sleep>, deadline: Instant) {
        timer.reset(self.step_before(deadline).into());
    }

    fn step_before(&self, deadline: Instant) -> Instant {
        let since_step = deadline.saturating_duration_since(self.start).as_nanos() % STEP.as_nanos();
        // Less than a step: it fits.
        let step = deadline.checked_sub(Duration::from_nanos(since_step as u64)).unwrap_or(deadline);
        if step > Instant::now() { step } else { deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what waits long is woken together with others and never late, and no deadline is missed. Method: deadlines
    /// from no time to ten steps away.
    #[tokio::test]
    async fn a_timer_ends_at_its_deadline_or_at_a_step_before_it() {
        let clock = Clock::start();
        let now = Instant::now();
        let mut ends = Vec::new();
        for deadline in (0..100).map(|tenth| now + STEP * tenth / 10) {
            let end = clock.timer(deadline).deadline().into_std();
            assert!(end <= deadline && deadline - end < STEP);
            ends.push(end);
        }
        ends.dedup();
        assert!(ends.len() <= 10 + 10, "all that are near, and ten steps: {}", ends.len());

        let deadline = Instant::now() + STEP / 10 + STEP;
        let mut timer = std::pin::pin!(clock.timer(deadline));
        let mut ended = 0;
        while Instant::now() < deadline {
            timer.as_mut().await;
            clock.set(timer.as_mut(), deadline);
            ended += 1;
        }
        assert!(ended <= 3, "{ended}");
        assert!(deadline.elapsed() < STEP / 2);
    }
}
