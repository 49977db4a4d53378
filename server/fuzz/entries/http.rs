//! Gives a whole server whatever the fuzzer invents: HTTP requests and, after a handshake, frames on its socket, and
//! requests to the admin routes.
//!
//! The first byte of an input says what the rest is: the bytes of a socket; a path, a line's end, and the bytes of a
//! WebSocket under it; the same with frames that are masked here (a byte of length, so many bytes); a method and a path
//! of the admin routes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fidibus_core::hub::Hub;
use fidibus_core::store::MemoryStore;
use fidibus_server::config::dotenv::Dotenv;
use fidibus_server::config::{Layers, ServerConfig};
use fidibus_server::front::Front;
use fidibus_server::{Listeners, admin};
use http::Request;
use tokio::runtime::Runtime;

/// The server has answered and closed by then: both ends know that nothing more comes.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// One input.
pub fn run(input: &[u8]) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(Server::start);
    let Some((kind, rest)) = input.split_first() else { return };
    let before = PANICS.load(Ordering::Relaxed);
    match kind % 4 {
        0 => server.talk(rest),
        1 => server.talk(&after_handshake(rest, <[u8]>::to_vec)),
        2 => server.talk(&after_handshake(rest, frames)),
        _ => server.administrate(rest),
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), before, "a task of the server panicked");
}

struct Server {
    runtime: Runtime,
    front: Front,
    socket: PathBuf,
}

impl Server {
    fn start() -> Self {
        // Tasks keep their panics to themselves.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            hook(info);
        }));
        let socket = std::env::temp_dir().join(format!("fidibus-fuzz-{}.sock", std::process::id()));
        let settings = [
            ("WS_HOST", &*format!("unix:{}", socket.display())),
            ("WS_HEALTH_PORT", "off"),
            ("WS_MAX_MESSAGE_BYTES", "65536"),
            ("WS_ADMIN_TOKEN", ADMIN_TOKEN),
            ("WS_AUTH", "none"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let layers = Layers::new(HashMap::new(), HashMap::from(settings), Dotenv::default());
        let config = ServerConfig::load(layers).expect("good settings").config;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let (hub, listeners) = runtime.block_on(async {
            let hub =
                Hub::builder(config.engine.clone()).store(std::sync::Arc::new(MemoryStore::new())).build();
            (hub, Listeners::bind(&config).await.expect("a socket"))
        });
        let front = Front::new(hub.clone(), None, config.http.clone());
        runtime
            .spawn(async move { fidibus_server::run(listeners, hub, &config, std::future::pending()).await });
        Self { runtime, front, socket }
    }

    /// Says all at once, and reads to the end. Who does not end is a defect.
    fn talk(&self, bytes: &[u8]) {
        let mut socket = UnixStream::connect(&self.socket).expect("the server accepts");
        socket.set_read_timeout(Some(ANSWER_MAX)).expect("a time");
        // Fails where the server has had enough before.
        let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        if let Err(error) = socket.read_to_end(&mut answer) {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "no end after {ANSWER_MAX:?}");
        }
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    }

    fn administrate(&self, rest: &[u8]) {
        let Some((method, path)) = rest.split_first() else { return };
        let method = if method % 2 == 0 { "GET" } else { "POST" };
        let uri = format!("{}{}", admin::PREFIX, String::from_utf8_lossy(path));
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("authorization", format!("Bearer {ADMIN_TOKEN}")).body(());
        if let Ok(request) = request {
            let answer = self.runtime.block_on(admin::answer(&request, &self.front));
            assert!(matches!(answer.status().as_u16(), 200 | 404), "{}", answer.status());
        }
    }
}

/// A good handshake for the path in the first line, and what comes of the rest.
fn after_handshake(rest: &[u8], bytes: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let mut out = Vec::from(b"GET /".as_slice());
    out.extend(&rest[..end]);
    out.extend(b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.extend(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    out.extend(bytes(rest.get(end + 1..).unwrap_or_default()));
    out
}

/// Binary frames, masked with zeroes.
fn frames(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((len, tail)) = rest.split_first() {
        let (message, after) = tail.split_at(usize::from(len % 126).min(tail.len()));
        // At most 125 bytes.
        out.extend([0x82, 0x80 | message.len() as u8, 0, 0, 0, 0]);
        out.extend(message);
        rest = after;
    }
    out
}
