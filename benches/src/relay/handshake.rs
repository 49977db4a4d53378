//! The server's half of the WebSocket handshake, for the relays.

use tungstenite::handshake::derive_accept_key;

/// A request that is longer than this is refused.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// What the bytes of a new connection amount to.
pub enum Upgrade {
    /// The request has not ended yet.
    Incomplete,
    /// The answer to send, and how many bytes of the input it used.
    Accept { response: Vec<u8>, request_bytes: usize },
}

/// Answers an upgrade request.
pub fn upgrade(received: &[u8]) -> anyhow::Result<Upgrade> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        anyhow::ensure!(received.len() < REQUEST_BYTES_MAX, "the request is over {REQUEST_BYTES_MAX} bytes");
        return Ok(Upgrade::Incomplete);
    };
    let request = std::str::from_utf8(&received[..end])?;
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let key = key.ok_or_else(|| anyhow::anyhow!("not a WebSocket handshake"))?;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    Ok(Upgrade::Accept { response: response.into_bytes(), request_bytes: end + 4 })
}
