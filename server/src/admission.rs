//! Who may open one more connection: so many per address, and so many new ones a minute. Checked before the
//! handshake is answered, when nothing was spent on the client yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fidibus_core::auth::SECURITY;
use fidibus_core::auth::throttle::{Throttle, ThrottleLimits, network};

/// What one address may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// WebSockets at a time.
    pub connections_per_ip_max: usize,
    /// New WebSockets; `None`: any number.
    pub connects: Option<ThrottleLimits>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Admission {
    connections_per_ip_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
    throttle: Option<Mutex<Throttle>>,
    refused: AtomicU64,
    full: AtomicU64,
}

/// A connection's place among those of its address; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The address has as many connections as it may.
    TooMany,
    /// It comes too often.
    TooOften,
}

impl Admission {
    /// Admits by these.
    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            connections_per_ip_max: limits.connections_per_ip_max,
            open: Mutex::default(),
            throttle: limits.connects.map(|limits| Mutex::new(Throttle::new(limits))),
            refused: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }
    }

    /// A place for a connection. A client whose address nobody knows (over a Unix socket, without a proxy's
    /// word) is not counted.
    ///
    /// # Errors
    /// There is none.
    pub fn admit(self: &Arc<Self>, ip: Option<IpAddr>, now: Instant) -> Result<Option<Place>, Refusal> {
        let Some(ip) = ip.map(network) else { return Ok(None) };
        self.find_place(ip, now).map(Some).inspect_err(|refusal| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(target: SECURITY, clientIp = %ip, ?refusal, "Connection refused");
        })
    }

    /// Connections that were refused.
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes a socket that is not served, since as many as may be are open.
    pub fn note_full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    /// Sockets that were not served.
    pub fn full_total(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    fn find_place(self: &Arc<Self>, ip: IpAddr, now: Instant) -> Result<Place, Refusal> {
        if let Some(throttle) = &self.throttle {
            // Whole between any two statements.
            let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
            let banned = throttle.is_banned(ip, now);
            if !throttle.hit(ip, now) {
                if !banned {
                    tracing::warn!(target: SECURITY, clientIp = %ip, "Too many new connections: the address is banned for a while");
                }
                return Err(Refusal::TooOften);
            }
        }
        let mut open = self.lock();
        let count = open.entry(ip).or_default();
        if *count >= self.connections_per_ip_max {
            return Err(Refusal::TooMany);
        }
        *count += 1;
        Ok(Place { admission: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // The map is whole between any two statements.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let limits = AdmissionLimits { connections_per_ip_max: 2, connects: None };
        let (admission, now) = (Arc::new(Admission::new(limits)), Instant::now());
        let admit = |last| admission.admit(Some(IpAddr::from([10, 0, 0, last])), now);
        let first = admit(1).unwrap();
        let second = admit(1).unwrap();
        assert_eq!(admit(1).unwrap_err(), Refusal::TooMany);
        let other = admit(2).unwrap();
        drop((first, second, other));
        assert!(admit(1).is_ok() && admission.admit(None, now).unwrap().is_none());
        assert_eq!(admission.refused_total(), 1);
        assert_eq!(admission.lock().len(), 0, "addresses without connections are forgotten");
        let v6 = |text: &str| admission.admit(Some(text.parse().unwrap()), now);
        let _held = (v6("2001:db8::1").unwrap(), v6("2001:db8::2").unwrap());
        assert!(v6("2001:db8::3").is_err() && v6("2001:db8:0:1::1").is_ok(), "one host has a whole network");
    }

    #[test]
    fn who_comes_too_often_is_banned() {
        let connects = ThrottleLimits {
            hits_max: 15,
            window: Duration::from_secs(60),
            ban: Duration::from_secs(300),
            addresses_max: 100,
        };
        let limits = AdmissionLimits { connections_per_ip_max: 100, connects: Some(connects) };
        let (admission, start) = (Arc::new(Admission::new(limits)), Instant::now());
        let admit = |seconds| {
            let at = start + Duration::from_secs(seconds);
            admission.admit(Some(IpAddr::from([10, 0, 0, 1])), at).is_ok()
        };
        assert_eq!((0..20).filter(|_| admit(0)).count(), 15);
        assert!(!admit(299) && admit(301));
    }
}
