//! How fast one socket may send. Too fast is answered by not reading for a while, which the peer feels as a
//! full pipe; only who keeps pushing for long is closed, with a code that lets it come back. Nothing is ever
//! dropped.

use std::time::{Duration, Instant};

use crate::config::Limits;

/// What may be sent at once after a rest, in seconds of the rate.
const BURST_SECONDS: f64 = 5.0;

/// The pace of one socket.
pub(super) struct Pace {
    updates: Option<Bucket>,
    bytes: Option<Bucket>,
    push_max: Duration,
    at: Instant,
    /// Since when it has been too fast without a rest.
    pushing_since: Option<Instant>,
}

/// Fills with the rate; what is spent beyond it is owed.
struct Bucket {
    per_second: f64,
    left: f64,
}

impl Pace {
    /// `None`: there is no limit.
    pub(super) fn new(limits: &Limits, now: Instant) -> Option<Box<Self>> {
        let bucket = |per_second: f64| Bucket { per_second, left: per_second * BURST_SECONDS };
        let updates = limits.updates_per_second_max.map(|max| bucket(f64::from(max)));
        let bytes = limits.bytes_per_second_max.map(|max| bucket(max as f64));
        let limited = updates.is_some() || bytes.is_some();
        let pace = Self { updates, bytes, push_max: limits.push_max, at: now, pushing_since: None };
        limited.then(|| Box::new(pace))
    }

    /// Counts what arrived.
    pub(super) fn spend(&mut self, updates: u32, bytes: usize, now: Instant) {
        self.refill(now);
        if let Some(bucket) = &mut self.updates {
            bucket.left -= f64::from(updates);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.left -= bytes as f64;
        }
        if self.buckets().any(|bucket| bucket.left < 0.0) {
            self.pushing_since.get_or_insert(now);
        }
    }

    /// When it may be read from again; `None`: now.
    pub(super) fn resumes(&self, now: Instant) -> Option<Instant> {
        let owed = self.buckets().map(|bucket| -bucket.left / bucket.per_second).fold(0.0, f64::max);
        let resumes = self.at + Duration::from_secs_f64(owed);
        (owed > 0.0 && resumes > now).then_some(resumes)
    }

    /// Whether it has pushed for longer than it may.
    pub(super) fn is_excessive(&self, now: Instant) -> bool {
        self.pushing_since.is_some_and(|since| now.saturating_duration_since(since) > self.push_max)
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let mut rested = true;
        for bucket in [&mut self.updates, &mut self.bytes].into_iter().flatten() {
            let full = bucket.per_second * BURST_SECONDS;
            bucket.left = (bucket.left + seconds * bucket.per_second).min(full);
            rested &= bucket.left > full / 2.0;
        }
        if rested {
            self.pushing_since = None;
        }
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        [&self.updates, &self.bytes].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(updates: Option<u32>, bytes: Option<usize>, now: Instant) -> Pace {
        let limits = Limits {
            updates_per_second_max: updates,
            bytes_per_second_max: bytes,
            push_max: Duration::from_secs(30),
            ..Limits::default()
        };
        *Pace::new(&limits, now).unwrap()
    }

    #[test]
    fn a_burst_passes_and_a_stream_is_slowed_to_the_rate() {
        let start = Instant::now();
        let mut pace = pace(Some(100), None, start);
        pace.spend(500, 1, start);
        assert_eq!(pace.resumes(start), None);
        pace.spend(50, 1, start);
        assert_eq!(pace.resumes(start), Some(start + Duration::from_millis(500)));
        assert_eq!(pace.resumes(start + Duration::from_millis(500)), None);
        // Who sends whenever it may gets the rate through, and no more.
        let (mut now, mut sent) = (start + Duration::from_millis(500), 0);
        while now < start + Duration::from_secs(10) {
            pace.spend(1, 1, now);
            sent += 1;
            now = pace.resumes(now).unwrap_or(now + Duration::from_millis(1));
        }
        assert!((900..=1000).contains(&sent), "{sent}");
    }

    #[test]
    fn one_large_message_is_paid_off_and_long_pushing_is_excessive() {
        let start = Instant::now();
        let mut bytes = pace(None, Some(1000), start);
        bytes.spend(0, 8000, start);
        assert_eq!(bytes.resumes(start), Some(start + Duration::from_secs(3)));
        assert!(!bytes.is_excessive(start + Duration::from_secs(29)));
        // After a rest it has not pushed at all.
        bytes.spend(0, 1, start + Duration::from_secs(7));
        assert!(!bytes.is_excessive(start + Duration::from_secs(60)));
        let mut pushing = pace(Some(10), None, start);
        for second in 0..40 {
            pushing.spend(60, 1, start + Duration::from_secs(second));
        }
        assert!(pushing.is_excessive(start + Duration::from_secs(40)));
        assert!(Pace::new(&Limits::default(), start).is_none());
    }
}
