//! Goal: a WebSocket is served from any path, and slow, oversized, malformed and surplus clients are turned
//! away without harm to others. Method: the real binary; clients are tungstenite, or bare TCP where the
//! client misbehaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use program::{Directory, Server, WAIT, http, raw_http};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message, WebSocket};

type Client = WebSocket<TcpStream>;

fn connect_with(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Client {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

fn connect(address: SocketAddr, path: &str) -> Client {
    connect_with(address, path, &[])
}

/// Reads until the close frame; its code and reason.
fn closed(client: &mut Client) -> (u16, String) {
    loop {
        match client.read().unwrap() {
            Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
            Message::Close(None) => return (1005, String::new()),
            _ => {}
        }
    }
}

/// Sync step 1 of an empty y-websocket client.
const STEP1: Bytes = Bytes::from_static(&[0, 0, 1, 0]);

/// Whether a y-websocket peer of this path is answered with sync step 2.
fn syncs(address: SocketAddr, path: &str) {
    let mut client = connect(address, path);
    client.send(Message::Binary(STEP1)).unwrap();
    loop {
        match client.read().unwrap() {
            Message::Binary(frame) if frame.starts_with(&[0, 1]) => return,
            Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_path_is_a_document_with_and_without_the_base() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let mut writer = connect(server.address(), "/ws/diagram-1?token=x");
    writer.send(Message::Binary(STEP1)).unwrap();
    // Client 1, clock 0: "a" in the root text "t".
    let update = [0, 2, 11, 1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0];
    writer.send(Message::Binary(Bytes::copy_from_slice(&update))).unwrap();
    let mut reader = connect(server.address(), "/diagram-1");
    reader.send(Message::Binary(STEP1)).unwrap();
    loop {
        let Message::Binary(frame) = reader.read().unwrap() else { continue };
        if frame.windows(3).any(|part| part == [b't', 1, b'a']) {
            break;
        }
    }
    syncs(server.address(), "/wsfoo");
    syncs(server.address(), "/ws/a%20b");
}

#[test]
fn another_base_path_is_honoured() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_BASE_PATH", "/collab/v1/")]);
    assert_eq!(http(server.address(), "GET", "/collab/v1/health").status, 200);
    assert_eq!(http(server.address(), "GET", "/ws/health").status, 404);
    syncs(server.address(), "/collab/v1/doc");
}

/// Goal: no frame of a burst is lost, however many are read at once. Method: 1,000 pings in one write, each
/// with a number, are answered one by one.
#[test]
fn a_burst_is_read_to_its_last_frame() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let mut client = connect(server.address(), "/doc");
    for number in 0..1000_u16 {
        client.write(Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes()))).unwrap();
    }
    client.flush().unwrap();
    for number in 0..1000_u16 {
        assert_eq!(client.read().unwrap(), Message::Pong(Bytes::copy_from_slice(&number.to_be_bytes())));
    }
}

#[test]
fn pings_are_answered_in_order_and_text_is_refused() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let mut client = connect(server.address(), "/doc");
    client.send(Message::Ping(Bytes::from_static(b"are you there?"))).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(Bytes::from_static(b"are you there?")));
    client.send(Message::text("hello")).unwrap();
    assert_eq!(closed(&mut client).0, 1003);
}

#[test]
fn a_close_is_echoed() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let mut client = connect(server.address(), "/doc");
    let frame = tungstenite::protocol::CloseFrame { code: CloseCode::Library(4000), reason: "bye".into() };
    client.close(Some(frame)).unwrap();
    assert_eq!(closed(&mut client).0, 4000);
    assert!(matches!(client.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn a_silent_socket_is_pinged_and_a_dead_one_dropped() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, &[("WS_PING_INTERVAL_MS", "150")]);
    let mut client = connect(server.address(), "/doc");
    for _ in 0..3 {
        // Reading answers the ping.
        assert!(matches!(client.read().unwrap(), Message::Ping(_)));
    }
    let mut dead = connect(server.address(), "/doc");
    let since = Instant::now();
    let mut bytes = Vec::new();
    dead.get_mut().read_to_end(&mut bytes).unwrap();
    assert!(bytes.starts_with(&[0x89, 0x00]), "{bytes:?}");
    assert!(since.elapsed() < Duration::from_secs(5));
    server.wait_for_line("WebSocket client disconnected");
}

#[test]
fn oversized_and_malformed_messages_close_their_own_socket() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_MAX_MESSAGE_BYTES", "2048")]);
    let mut bystander = connect(server.address(), "/doc");
    let mut client = connect(server.address(), "/doc");
    client.send(Message::Binary(vec![0; 2049].into())).unwrap();
    assert_eq!(closed(&mut client), (1009, "Message Too Big".to_owned()));
    let mut client = connect(server.address(), "/doc");
    // A head that claims 2^40 bytes, none of which ever come.
    client.get_mut().write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    assert_eq!(closed(&mut client).0, 1009);
    let mut client = connect(server.address(), "/doc");
    client.get_mut().write_all(&[0x82, 0x01, 0x00]).unwrap();
    assert_eq!(closed(&mut client), (1002, "frame without a mask".to_owned()));
    bystander.send(Message::Ping(Bytes::new())).unwrap();
    assert_eq!(bystander.read().unwrap(), Message::Pong(Bytes::new()));
}

#[test]
fn only_handshakes_of_version_13_become_websockets() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[]);
    let request = "GET /doc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n";
    let answer = raw_http(TcpStream::connect(server.address()).unwrap(), request);
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("sec-websocket-version: 13"), "{}", answer.head);
}

#[test]
fn foreign_pages_are_told_so() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_ALLOWED_ORIGINS", "https://draw.example")]);
    let mut foreign = connect_with(server.address(), "/doc", &[("origin", "https://evil.example")]);
    assert_eq!(closed(&mut foreign), (4403, "origin-not-allowed".to_owned()));
    let mut own = connect_with(server.address(), "/doc", &[("origin", "https://draw.example")]);
    own.send(Message::Binary(STEP1)).unwrap();
    assert!(matches!(own.read().unwrap(), Message::Binary(_)));
    syncs(server.address(), "/doc");
}

#[test]
fn oversized_heads_are_refused() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_MAX_HEADER_BYTES", "8192")]);
    let request = |bytes| {
        format!(
            "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Fill: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    let small = raw_http(TcpStream::connect(server.address()).unwrap(), &request(7000));
    assert_eq!(small.status, 200);
    // The rest of the request is not read, so the answer can be cut off by a reset: 431 or nothing.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request(9000).as_bytes()).unwrap();
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).unwrap_or(0);
    assert!(count == 0 || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn slow_heads_are_cut_off() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_HEADER_TIMEOUT_MS", "400")]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let since = Instant::now();
    // A byte now and then must not buy more time.
    let mut dripping = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter()
        {
            if dripping.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let elapsed = since.elapsed();
    assert!(elapsed > Duration::from_millis(350) && elapsed < Duration::from_secs(2), "{elapsed:?}");
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn surplus_sockets_get_503_and_places_come_back() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("WS_MAX_CONNECTIONS", "2")]);
    let first = connect(server.address(), "/a");
    let _second = connect(server.address(), "/b");
    let refused = http(server.address(), "GET", "/");
    assert_eq!((refused.status, refused.body.as_str()), (503, "too many connections, try again\n"));
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert_eq!(http(server.address(), "GET", "/health").status, 200, "a full server is not a sick one");
    let stream = TcpStream::connect(server.address()).unwrap();
    let error = tungstenite::client(format!("ws://{}/c", server.address()), stream).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    drop(first);
    let deadline = Instant::now() + WAIT;
    while http(server.address(), "GET", "/").status != 200 {
        assert!(Instant::now() < deadline, "the place does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}
