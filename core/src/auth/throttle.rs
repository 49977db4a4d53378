//! Counts what one address does and bans it for a while when that is too much: failed logins, new
//! connections. Bounded, without a clock of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Hits within the window that are let through.
    pub hits_max: u32,
    /// The window.
    pub window: Duration,
    /// How long an address is banned that had more.
    pub ban: Duration,
    /// Addresses that are remembered.
    pub addresses_max: usize,
}

/// The hits of all addresses.
#[derive(Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    addresses: HashMap<IpAddr, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    since: Instant,
    hits: u32,
    banned_until: Option<Instant>,
}

impl Throttle {
    /// One that has seen nothing yet.
    pub fn new(limits: ThrottleLimits) -> Self {
        Self { limits, addresses: HashMap::new() }
    }

    /// Whether an address is banned.
    pub fn is_banned(&self, ip: IpAddr, now: Instant) -> bool {
        let banned_until = self.addresses.get(&network(ip)).and_then(|record| record.banned_until);
        banned_until.is_some_and(|until| until > now)
    }

    /// Counts a hit; `false` where the address is banned, by this hit or before. Hits of a banned address do
    /// not prolong its ban.
    pub fn hit(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.make_room(now);
        let limits = self.limits;
        let fresh = Record { since: now, hits: 0, banned_until: None };
        let record = self.addresses.entry(network(ip)).or_insert(fresh);
        match record.banned_until {
            Some(until) if until > now => return false,
            Some(_) => *record = fresh,
            None if now.saturating_duration_since(record.since) >= limits.window => *record = fresh,
            None => {}
        }
        record.hits += 1;
        if record.hits > limits.hits_max {
            record.banned_until = Some(now + limits.ban);
            return false;
        }
        true
    }

    fn make_room(&mut self, now: Instant) {
        if self.addresses.len() < self.limits.addresses_max {
            return;
        }
        let window = self.limits.window;
        self.addresses.retain(|_, record| match record.banned_until {
            Some(until) => until > now,
            None => now.saturating_duration_since(record.since) < window,
        });
        if self.addresses.len() >= self.limits.addresses_max {
            // Under attack from everywhere: counting anew is better than growing, or refusing everybody.
            self.addresses.clear();
        }
    }
}

/// What counts as one address: a host over IPv4, a /64 over IPv6, where one host has as many as it likes.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ThrottleLimits = ThrottleLimits {
        hits_max: 3,
        window: Duration::from_secs(60),
        ban: Duration::from_secs(300),
        addresses_max: 4,
    };

    #[test]
    fn too_many_hits_ban_for_a_while() {
        let (mut throttle, start) = (Throttle::new(LIMITS), Instant::now());
        let ip: IpAddr = "203.0.113.9".parse().unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!((0..3).all(|second| throttle.hit(ip, at(second))));
        assert!(!throttle.is_banned(ip, at(3)));
        assert!(!throttle.hit(ip, at(3)) && throttle.is_banned(ip, at(4)));
        assert!(!throttle.hit(ip, at(302)) && !throttle.is_banned("203.0.113.8".parse().unwrap(), at(4)));
        assert!(!throttle.is_banned(ip, at(304)) && throttle.hit(ip, at(304)));
        // Hits that are spread out add up to nothing.
        assert!((0..20).all(|minute| throttle.hit(ip, at(1000 + minute * 60))));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_memory_is_bounded() {
        let (mut throttle, now) = (Throttle::new(LIMITS), Instant::now());
        for host in 0..4_u32 {
            throttle.hit(format!("2001:db8::{host}").parse().unwrap(), now);
        }
        assert!(throttle.is_banned("2001:db8::99".parse().unwrap(), now));
        for host in 0..100_u32 {
            throttle.hit(IpAddr::from(host.to_be_bytes()), now);
            assert!(throttle.addresses.len() <= LIMITS.addresses_max);
        }
    }
}
