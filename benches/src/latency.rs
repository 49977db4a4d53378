//! A histogram of waits: fixed memory, about 1.6 % wide buckets, cheap enough for millions of records a second.

const SUB_BUCKETS: u64 = 64;
const BUCKETS: usize = 64 * SUB_BUCKETS as usize;

/// Recorded waits in nanoseconds.
#[derive(Clone)]
pub struct Waits {
    counts: Box<[u64]>,
    total: u64,
    longest: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, longest: 0 }
    }
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < SUB_BUCKETS {
        return nanoseconds as usize;
    }
    let shift = nanoseconds.ilog2() - SUB_BUCKETS.ilog2();
    (u64::from(shift) * SUB_BUCKETS + (nanoseconds >> shift)) as usize
}

fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket as f64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let low = (bucket - shift * SUB_BUCKETS) << shift;
    low as f64 + (1u64 << shift) as f64 / 2.0
}

impl Waits {
    /// Adds one wait.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds).min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    /// How many waits were recorded.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest wait in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.longest as f64 / 1e6
    }

    /// The wait in milliseconds that the given share of all waits did not exceed.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && self.total > 0 {
                return middle(at) / 1e6;
            }
        }
        0.0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut waits = Waits::default();
        for microseconds in 1..=10_000u64 {
            waits.record(microseconds * 1000);
        }
        for share in [0.1, 0.5, 0.9, 0.99] {
            let expected = 10.0 * share;
            let found = waits.quantile_ms(share);
            assert!((found - expected).abs() < expected * 0.02, "{share}: {found} instead of {expected}");
        }
        assert_eq!((waits.total(), waits.longest_ms()), (10_000, 10.0));
    }

    #[test]
    fn the_bucket_of_a_middle_is_that_bucket() {
        for nanoseconds in [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456_789, u64::from(u32::MAX)] {
            let at = bucket(nanoseconds);
            assert_eq!(bucket(middle(at) as u64), at, "{nanoseconds}");
        }
    }
}
