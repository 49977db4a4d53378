//! What was refused a moment ago: tokens that nobody has, and addresses that tried too many. Keeps guesses
//! away from the database.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::throttle::{Throttle, ThrottleLimits};

/// A token that nobody has is not looked up again for this long.
const UNKNOWN_VALID: Duration = Duration::from_secs(5);
/// Where there is no room for more, old ones are looked for this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Such tokens that are remembered.
const UNKNOWN_MAX: usize = 10_000;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<Memory>);

#[derive(Debug)]
struct Memory {
    unknown: HashMap<Box<str>, Instant>,
    /// When old ones were last thrown out, where there was no room.
    swept: Option<Instant>,
    failures: Throttle,
}

impl Refusals {
    pub(super) fn new(limits: ThrottleLimits) -> Self {
        Self(Mutex::new(Memory { unknown: HashMap::new(), swept: None, failures: Throttle::new(limits) }))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Both parts are whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the token was looked up a moment ago, in vain.
    pub(super) fn is_unknown(&self, token: &str, now: Instant) -> bool {
        let since = self.lock().unknown.get(token).copied();
        since.is_some_and(|since| now.saturating_duration_since(since) < UNKNOWN_VALID)
    }

    /// Nobody has this token.
    pub(super) fn remember_unknown(&self, token: &str, now: Instant) {
        let Memory { unknown, swept, .. } = &mut *self.lock();
        // Not at every token of a flood: each sweep looks at all of them.
        let swept_lately = swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_INTERVAL);
        if unknown.len() >= UNKNOWN_MAX && !swept_lately {
            unknown.retain(|_, since| now.saturating_duration_since(*since) < UNKNOWN_VALID);
            *swept = Some(now);
        }
        if unknown.len() < UNKNOWN_MAX {
            unknown.insert(token.into(), now);
        }
    }

    /// Whether the address has failed too often.
    pub(super) fn is_banned(&self, ip: IpAddr, now: Instant) -> bool {
        self.lock().failures.is_banned(ip, now)
    }

    /// Counts a failure; whether this one begins a ban.
    pub(super) fn failed(&self, ip: IpAddr, now: Instant) -> bool {
        let failures = &mut self.lock().failures;
        !failures.is_banned(ip, now) && !failures.hit(ip, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_tokens_are_remembered_for_a_while_and_not_without_bound() {
        let limits =
            ThrottleLimits { hits_max: 1, window: UNKNOWN_VALID, ban: UNKNOWN_VALID, addresses_max: 10 };
        let (refusals, now) = (Refusals::new(limits), Instant::now());
        refusals.remember_unknown("a", now);
        assert!(refusals.is_unknown("a", now) && !refusals.is_unknown("b", now));
        assert!(!refusals.is_unknown("a", now + UNKNOWN_VALID));
        for number in 0..UNKNOWN_MAX * 2 {
            refusals.remember_unknown(&number.to_string(), now);
        }
        assert_eq!(refusals.lock().unknown.len(), UNKNOWN_MAX);
        refusals.remember_unknown("late", now + UNKNOWN_VALID);
        assert!(refusals.is_unknown("late", now + UNKNOWN_VALID) && refusals.lock().unknown.len() == 1);
    }

    #[test]
    fn a_ban_begins_once() {
        let limits =
            ThrottleLimits { hits_max: 1, window: UNKNOWN_VALID, ban: UNKNOWN_VALID, addresses_max: 10 };
        let (refusals, now, ip) = (Refusals::new(limits), Instant::now(), IpAddr::from([1, 2, 3, 4]));
        let begins: Vec<_> = (0..4).map(|_| refusals.failed(ip, now)).collect();
        assert_eq!(begins, [false, true, false, false]);
        assert!(refusals.is_banned(ip, now));
    }
}
