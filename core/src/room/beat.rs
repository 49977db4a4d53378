//! Moments that all rooms of a hub share: what waits for the next of them in many rooms wakes the process once,
//! where it would else be once for each room.

use std::time::{Duration, Instant};

/// Of awareness that is older than 30 s a peer believes that its client is gone.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Moments that come again and again.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    start: Instant,
    period: Duration,
}

impl Beat {
    /// Moments such that what waits for one waits for half of `delay` at least, and for all of it at most. `None`
    /// where that is no time.
    pub fn new(delay: Duration, start: Instant) -> Option<Self> {
        let period = delay.min(DELAY_MAX) / 2;
        (!period.is_zero()).then_some(Self { start, period })
    }

    /// When what comes now goes out.
    pub fn after(&self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.start).as_nanos();
        let into = since % self.period.as_nanos();
        // Less than one period: it fits.
        now + 2 * self.period - Duration::from_nanos(into as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_close_together_goes_out_together() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let beat = Beat::new(Duration::from_millis(16), start).unwrap();
        for (now, out) in [(0, 16), (1, 16), (7, 16), (8, 24), (1_000, 1_016), (1_007, 1_016)] {
            assert_eq!(beat.after(at(now)), at(out));
        }
        assert_eq!(beat.after(start - Duration::from_millis(5)), at(11), "before the first");
        assert!(Beat::new(Duration::ZERO, start).is_none());
    }
}
