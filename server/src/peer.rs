//! Who is at the other end: the client's address, seen through those proxies that are trusted, and only
//! through them. A server that is reached directly must not believe a header.

use std::net::IpAddr;

use http::HeaderMap;

/// The TCP or Unix peer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Connected over TCP.
    Ip(IpAddr),
    /// Connected over the Unix socket.
    Unix,
}

/// Whose forwarding headers count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    unix: bool,
}

/// All addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl TrustedProxies {
    /// Parses addresses, networks (`10.0.0.0/8`), and `unix`.
    ///
    /// # Errors
    /// The entry that is none of these.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let mut proxies = Self::default();
        for entry in entries {
            if entry == "unix" {
                proxies.unix = true;
            } else {
                proxies.networks.push(Network::parse(entry).ok_or_else(|| entry.clone())?);
            }
        }
        Ok(proxies)
    }

    /// The client's address: that of the peer, or, from a trusted peer, the last address in
    /// `X-Forwarded-For` that is not itself a trusted proxy, else `X-Real-IP`.
    pub fn client_ip(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        let (peer_ip, trusted) = match peer {
            Peer::Ip(ip) => (Some(ip.to_canonical()), self.trusts(ip.to_canonical())),
            Peer::Unix => (None, self.unix),
        };
        if !trusted {
            return peer_ip;
        }
        // Proxies append, so the list is read from its end: everything before the first stranger is
        // that stranger's own claim.
        let mut farthest = None;
        for value in headers.get_all("x-forwarded-for").iter().rev() {
            for entry in value.to_str().unwrap_or_default().rsplit(',') {
                let Some(ip) = parse_ip(entry) else { return farthest.or(peer_ip) };
                if !self.trusts(ip) {
                    return Some(ip);
                }
                farthest = Some(ip);
            }
        }
        let real = || headers.get("x-real-ip").and_then(|value| parse_ip(value.to_str().ok()?));
        farthest.or_else(real).or(peer_ip)
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Some(bits_max), |bits| bits.parse().ok())?;
        (prefix_bits <= bits_max).then_some(Self { address, prefix_bits })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let difference = network.to_bits() ^ ip.to_bits();
                difference.checked_shr(32 - self.prefix_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let difference = network.to_bits() ^ ip.to_bits();
                difference.checked_shr(128 - self.prefix_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// An address as forwarding headers write it: bare, in brackets, with a port.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let ip: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    ip.or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn proxies(list: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(&list.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn strangers_are_not_believed() {
        let spoofed = headers(&[("x-forwarded-for", "10.1.1.1"), ("x-real-ip", "10.1.1.1")]);
        let default = proxies(&["127.0.0.0/8", "::1", "unix"]);
        assert_eq!(default.client_ip(Peer::Ip("203.0.113.9".parse().unwrap()), &spoofed), ip("203.0.113.9"));
        assert_eq!(proxies(&["127.0.0.1"]).client_ip(Peer::Unix, &spoofed), None);
    }

    #[test]
    fn the_last_stranger_in_the_list_counts() {
        let default = proxies(&["127.0.0.0/8", "::1", "10.0.0.0/8", "unix"]);
        let loopback = Peer::Ip("127.0.0.1".parse().unwrap());
        let chain = headers(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9"), ("x-forwarded-for", "10.2.3.4")]);
        assert_eq!(default.client_ip(loopback, &chain), ip("203.0.113.9"));
        assert_eq!(default.client_ip(Peer::Unix, &chain), ip("203.0.113.9"));
        let garbage = headers(&[("x-forwarded-for", "1.1.1.1, nonsense, 10.2.3.4")]);
        assert_eq!(default.client_ip(loopback, &garbage), ip("10.2.3.4"));
        let real = headers(&[("x-real-ip", "203.0.113.7")]);
        assert_eq!(default.client_ip(loopback, &real), ip("203.0.113.7"));
        assert_eq!(default.client_ip(loopback, &HeaderMap::new()), ip("127.0.0.1"));
        let mapped = Peer::Ip("::ffff:127.0.0.1".parse().unwrap());
        assert_eq!(default.client_ip(mapped, &real), ip("203.0.113.7"));
    }

    #[test]
    fn ports_and_brackets_are_read() {
        assert_eq!(parse_ip(" 1.2.3.4:80 "), ip("1.2.3.4"));
        assert_eq!(parse_ip("[2001:db8::1]:80"), ip("2001:db8::1"));
        assert_eq!(parse_ip("2001:db8::1"), ip("2001:db8::1"));
        assert_eq!(parse_ip("unknown"), None);
    }

    #[test]
    fn networks_are_read() {
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("2001:db8::/32").unwrap().contains("2001:db8:1::1".parse().unwrap()));
        assert!(!Network::parse("10.0.0.0/9").unwrap().contains("10.128.0.0".parse().unwrap()));
        assert_eq!(TrustedProxies::parse(&["1.2.3.4/33".to_owned()]), Err("1.2.3.4/33".to_owned()));
        assert_eq!(TrustedProxies::parse(&["proxy".to_owned()]), Err("proxy".to_owned()));
    }
}
