//! Where the server listens: a TCP address or a Unix socket, and the address of the health port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::layers::{ConfigError, Layers, Source};
use super::{AuthChoice, setting};

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The longest path of a Unix socket, in bytes: `sun_path` has 108, and it is bound under a longer name first.
const SOCKET_PATH_BYTES_MAX: usize = 96;

impl Listen {
    /// Reads `WS_HOST`, `WS_PORT` or `PORT`, and `WS_SOCKET_MODE`.
    pub(super) fn read(layers: &mut Layers, auth: &AuthChoice) -> Result<Self, ConfigError> {
        // A server that lets everybody in because nobody said otherwise must not be found by others.
        let default =
            if matches!(auth, AuthChoice::None { implied: true }) { "127.0.0.1" } else { "0.0.0.0" };
        let host = layers.text_or("WS_HOST", default);
        if let Some(path) = host.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.len() > SOCKET_PATH_BYTES_MAX {
                let expected = format!("a socket's path has 1 to {SOCKET_PATH_BYTES_MAX} bytes");
                return Err(ConfigError::bad("WS_HOST", &host, expected));
            }
            let mode = layers.text_or("WS_SOCKET_MODE", "660");
            let mode = u32::from_str_radix(&mode, 8).ok().filter(|bits| *bits <= 0o777).ok_or_else(|| {
                ConfigError::bad("WS_SOCKET_MODE", &mode, "must be permissions in octal such as 660")
            })?;
            return Ok(Self::Unix { path: path.into(), mode });
        }
        let ip = ip("WS_HOST", &host, "must be an IP address or unix:/path.sock")?;
        let port_variable = if layers.find("WS_PORT").is_none() { "PORT" } else { "WS_PORT" };
        let (port, source) =
            layers.find(port_variable).unwrap_or_else(|| ("3001".to_owned(), Source::Default));
        let port = parse_port(port_variable, &port, "must be a port from 0 to 65535")?;
        layers.note("WS_PORT", port, source);
        Ok(Self::Tcp(SocketAddr::new(ip, port)))
    }
}

/// Reads `WS_HEALTH_HOST` and `WS_HEALTH_PORT`; `None`: off.
pub(super) fn health(layers: &mut Layers, listen: &Listen) -> Result<Option<SocketAddr>, ConfigError> {
    const EXPECTED: &str = "must be a port from 1 to 65535, or off";
    let (default_ip, main_port) = match listen {
        Listen::Tcp(address) => (address.ip(), Some(address.port())),
        Listen::Unix { .. } => (IpAddr::V4(Ipv4Addr::LOCALHOST), None),
    };
    // The app's rule: one above, so that two servers on one machine need one setting each.
    let default = match main_port {
        None => Some(3002),
        Some(0) => Some(0),
        Some(port) => port.checked_add(1),
    };
    let port = match layers.find("WS_HEALTH_PORT") {
        None => {
            let port = default.ok_or_else(|| {
                ConfigError::new("WS_HEALTH_PORT", "is required: there is no port above WS_PORT=65535")
            })?;
            layers.note("WS_HEALTH_PORT", port, Source::Default);
            port
        }
        Some((text, source)) if matches!(text.to_ascii_lowercase().as_str(), "off" | "false" | "no") => {
            layers.note("WS_HEALTH_PORT", "off", source);
            return Ok(None);
        }
        Some((text, Source::Flag)) => {
            let port = parse_port("WS_HEALTH_PORT", &text, EXPECTED)?;
            layers.note("WS_HEALTH_PORT", port, Source::Flag);
            port
        }
        // Not strict, because the app's own server falls back as well (requirements.md, R7).
        Some(_) => {
            let fallback = default.unwrap_or(3002);
            let number = layers.lenient_number("WS_HEALTH_PORT", fallback.into(), 0..=65_535)?;
            u16::try_from(number).unwrap_or(fallback)
        }
    };
    if port != 0 && main_port == Some(port) {
        return Err(ConfigError::new(
            "WS_HEALTH_PORT",
            format_args!("is {port}, which is the port of WS_PORT"),
        ));
    }
    let host = layers.text_or("WS_HEALTH_HOST", &default_ip.to_string());
    Ok(Some(SocketAddr::new(ip("WS_HEALTH_HOST", &host, "must be an IP address")?, port)))
}

fn ip(variable: &'static str, host: &str, expected: &str) -> Result<IpAddr, ConfigError> {
    if host == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_err(|_| ConfigError::bad(variable, host, expected))
}

fn parse_port(variable: &'static str, text: &str, expected: &str) -> Result<u16, ConfigError> {
    debug_assert!(setting::by_variable(variable).is_some(), "{variable}");
    text.parse().map_err(|_| ConfigError::bad(variable, text, expected))
}
