//! How long a commit waits for the rows of more rooms. It costs per commit, not per row: two tasks wake each
//! other, the disk is waited for. So it waits for as long as rows keep coming. Writers who wait for their acks
//! before they go on fall silent soon, and then it starts.

use std::time::Duration;

use crate::clock::Clock;

/// The waits between two looks at what has come, in milliseconds. The first are short, so that writers who wait
/// for their acks do not wait much longer than their rows need to come in; each look wakes a thread.
const WAITS_MS: [u64; 4] = [1, 1, 4, 8];
/// So many requests are a commit that more would not make much cheaper.
const REQUESTS_ENOUGH: usize = 96;

/// The wait for one commit. Its longest is the sum of [`WAITS_MS`].
#[derive(Debug, Default)]
pub(super) struct Gathering {
    looks: usize,
    seen: usize,
}

impl Gathering {
    /// Waits until the commit should start. `come` says how many requests have come.
    pub(super) async fn all_come(clock: &Clock, come: impl Fn() -> usize + Send + 'static) {
        let mut gathering = Self::default();
        // The caller's own look: a large commit does not go by way of the clock.
        let Some(first) = gathering.next_wait(come()) else { return };
        let looks = async move {
            tokio::time::sleep(first).await;
            while let Some(wait) = gathering.next_wait(come()) {
                tokio::time::sleep(wait).await;
            }
        };
        clock.run(looks).await;
    }

    /// How long to wait before the next look, where so many requests have come; nothing when the commit
    /// should start.
    fn next_wait(&mut self, come: usize) -> Option<Duration> {
        let silent = self.looks > 0 && come <= self.seen;
        if silent || come >= REQUESTS_ENOUGH {
            return None;
        }
        let wait = WAITS_MS.get(self.looks).map(|milliseconds| Duration::from_millis(*milliseconds));
        self.looks += 1;
        self.seen = come;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time after which the commit starts, where `come` says how many requests have come by then.
    fn milliseconds(come: impl Fn(u128) -> usize) -> u128 {
        let mut gathering = Gathering::default();
        let mut now = Duration::ZERO;
        while let Some(wait) = gathering.next_wait(come(now.as_millis())) {
            now += wait;
        }
        now.as_millis()
    }

    #[test]
    fn waits_while_rows_come_and_not_long() {
        assert_eq!(milliseconds(|now| 2 + 5 * now as usize), 14);
    }

    #[test]
    fn writers_who_wait_for_their_acks_are_not_waited_for() {
        assert_eq!(milliseconds(|_| 1), 1, "all are here");
        assert_eq!(milliseconds(|now| 1 + 20 * usize::from(now > 0)), 2, "all have come at once");
        assert_eq!(milliseconds(|now| 1 + (now as usize).min(2)), 6, "they still came at the second look");
        assert_eq!(milliseconds(|now| 1 + (now as usize).min(3)), 14, "they still came at the third look");
    }

    #[test]
    fn a_large_commit_does_not_wait() {
        assert_eq!(milliseconds(|_| REQUESTS_ENOUGH), 0);
        assert_eq!(milliseconds(|now| 1 + 100 * now as usize), 1);
    }
}
