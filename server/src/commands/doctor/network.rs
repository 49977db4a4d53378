//! The ports: free, or held by a server that answers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Findings;
use crate::commands::CommandError;
use crate::config::{AuthChoice, Listen, ServerConfig};

const WAIT_MAX: Duration = Duration::from_millis(1500);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn examine(config: &ServerConfig, findings: &mut Findings) -> Result<(), CommandError> {
    match &config.listen {
        Listen::Tcp(address) => examine_port("WS_PORT", *address, findings)?,
        Listen::Unix { path, .. } => match UnixStream::connect(path) {
            Ok(_) => findings.fine(format!("{} is served", path.display()))?,
            Err(_) => findings.fine(format!("{} is not served at the moment", path.display()))?,
        },
    }
    if let Some(address) = config.health {
        examine_port("WS_HEALTH_PORT", address, findings)?;
    }
    if let (Listen::Tcp(address), AuthChoice::None { .. }) = (&config.listen, &config.auth)
        && !address.ip().is_loopback()
    {
        findings.warning(
            format!(
                "WS_AUTH is none and WS_HOST is {}: whoever reaches it may read and write everything",
                address.ip()
            ),
            "set WS_AUTH, or WS_HOST=127.0.0.1",
        )?;
    }
    Ok(())
}

fn examine_port(setting: &str, address: SocketAddr, findings: &mut Findings) -> Result<(), CommandError> {
    if address.port() == 0 {
        return findings.fine(format!("{setting} is 0: any free port"));
    }
    if let Ok(stream) = TcpStream::connect_timeout(&reachable(address), WAIT_MAX) {
        return match answers(stream) {
            true => findings.fine(format!("{setting} {address}: a server of ours answers there")),
            false => findings.problem(
                format!("{setting} {address} is held by another program"),
                &format!(
                    "see which, with: ss -ltnp 'sport = :{}'; stop it, or set {setting}",
                    address.port()
                ),
            ),
        };
    }
    match TcpListener::bind(address) {
        Ok(_) => findings.fine(format!("{setting} {address} is free")),
        Err(error) => findings.problem(
            format!("{setting} {address} cannot be listened on: {error}"),
            match error.kind() {
                io::ErrorKind::AddrInUse => "stop what holds it, or set another port",
                io::ErrorKind::PermissionDenied => "ports below 1024 need a right (setcap cap_net_bind_service=+ep); take a higher one behind a proxy",
                _ => "set an address that this machine has",
            },
        ),
    }
}

/// Where a socket that listens on all addresses is reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether what is there answers as we do.
fn answers(mut stream: TcpStream) -> bool {
    let ask = || -> io::Result<String> {
        stream.set_read_timeout(Some(WAIT_MAX))?;
        stream.set_write_timeout(Some(WAIT_MAX))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = ask() else { return false };
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { return false };
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    ["status", "uptime", "database", "connections"].iter().all(|key| body.get(key).is_some())
}
