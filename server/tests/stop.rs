//! Goal: a stop closes clients with 1012, saves, and ends with the right code in time, whoever asks for it:
//! a signal, two of them, or PM2's channel. Method: the real binary with its signals and descriptors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use program::{Directory, Server, WAIT, command, http};
use sqlx::Connection;
use tungstenite::{Bytes, Message, WebSocket};

fn connect(server: &Server, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    tungstenite::client(format!("ws://{}{path}", server.address()), stream).unwrap().0
}

/// Sync step 1, then client 1 writes "a" into the root text "t".
fn write(client: &mut WebSocket<TcpStream>) {
    for frame in [&[0, 0, 1, 0][..], &[0, 2, 11, 1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0]] {
        client.send(Message::Binary(Bytes::copy_from_slice(frame))).unwrap();
    }
}

fn holds_text(client: &mut WebSocket<TcpStream>) {
    client.send(Message::Binary(Bytes::from_static(&[0, 0, 1, 0]))).unwrap();
    loop {
        let Message::Binary(frame) = client.read().unwrap() else { continue };
        // In the answer, or a moment later as an update.
        if frame.windows(3).any(|part| part == [b't', 1, b'a']) {
            return;
        }
    }
}

#[test]
fn a_stop_closes_with_1012_and_keeps_the_document() {
    let directory = Directory::new();
    let store = [
        ("DATABASE_URL", "sqlite:documents.db"),
        ("WS_DEBOUNCE_MS", "60000"),
        ("WS_MAX_DEBOUNCE_MS", "60000"),
    ];
    let mut server = Server::start(&directory, &store);
    let mut client = connect(&server, "/doc");
    write(&mut client);
    // Another client sees it, so it has arrived.
    holds_text(&mut connect(&server, "/doc"));
    let since = Instant::now();
    server.signal("INT");
    let close = loop {
        if let Message::Close(frame) = client.read().unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1012, "Service Restart"));
    while client.read().is_ok() {}
    drop(client);
    let (status, errors) = server.wait();
    assert_eq!((status.code(), errors), (Some(0), vec![]));
    assert!(since.elapsed() < Duration::from_millis(1600), "PM2 kills after 1.6 s: {:?}", since.elapsed());
    let server = Server::start(&directory, &store);
    holds_text(&mut connect(&server, "/doc"));
}

#[test]
fn many_sockets_are_closed_in_time() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, &[]);
    let mut clients: Vec<_> =
        (0..200).map(|number| connect(&server, &format!("/doc-{}", number % 20))).collect();
    for client in &mut clients {
        // Not read from: some sessions are still on their way into their rooms when the stop comes.
        write(client);
    }
    let since = Instant::now();
    server.signal("TERM");
    for client in &mut clients {
        let close = loop {
            if let Message::Close(frame) = client.read().unwrap() {
                break frame.unwrap();
            }
        };
        assert_eq!(u16::from(close.code), 1012);
        while client.read().is_ok() {}
    }
    drop(clients);
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

/// Holds the write lock of the server's SQLite file until it is dropped, so that nothing can be saved.
struct Lock {
    runtime: tokio::runtime::Runtime,
    connection: Option<sqlx::SqliteConnection>,
}

impl Lock {
    fn take(directory: &Directory) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("sqlite://{}/documents.db", directory.path().display());
        let connection = runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("begin immediate").execute(&mut connection).await.unwrap();
            connection
        });
        Self { runtime, connection: Some(connection) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

/// A server whose document "doc" has a change that it cannot save.
fn unable_to_save(directory: &Directory, deadline_ms: &str) -> (Server, Lock) {
    let settings = [("DATABASE_URL", "sqlite:documents.db"), ("WS_SHUTDOWN_DEADLINE_MS", deadline_ms)];
    let server = Server::start(directory, &settings);
    let lock = Lock::take(directory);
    let mut client = connect(&server, "/doc");
    write(&mut client);
    holds_text(&mut connect(&server, "/doc"));
    (server, lock)
}

#[test]
fn what_was_not_saved_is_named() {
    let directory = Directory::new();
    let (mut server, _lock) = unable_to_save(&directory, "1500");
    let since = Instant::now();
    server.signal("TERM");
    let (status, errors) = server.wait();
    assert_eq!(status.code(), Some(1));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    let last = errors.last().unwrap();
    assert!(last.starts_with("[ERROR] WebSocket shutdown incomplete"), "{errors:?}");
    assert!(last.contains("doc"), "{errors:?}");
}

#[test]
fn a_second_signal_later_ends_it_at_once() {
    let directory = Directory::new();
    let (mut server, _lock) = unable_to_save(&directory, "30000");
    server.signal("INT");
    std::thread::sleep(Duration::from_millis(1200));
    let since = Instant::now();
    server.signal("INT");
    let (status, errors) = server.wait();
    assert_eq!(status.code(), Some(1));
    assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
    assert!(errors.last().unwrap().starts_with("[ERROR] Second signal: exiting at once"), "{errors:?}");
}

/// A client that never answers the close frame holds the stop up for a moment, in which signals can be
/// tried.
fn stubborn(server: &Server) -> TcpStream {
    let client = connect(server, "/doc");
    client.get_ref().try_clone().unwrap()
}

#[test]
fn early_duplicates_are_one_wish() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, &[]);
    let _client = stubborn(&server);
    for _ in 0..3 {
        server.signal("INT");
        std::thread::sleep(Duration::from_millis(30));
    }
    let (status, errors) = server.wait();
    assert_eq!((status.code(), errors), (Some(0), vec![]));
}

#[test]
fn the_health_port_answers_while_it_stops() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, &[]);
    let _client = stubborn(&server);
    server.signal("TERM");
    server.wait_for_line("Shutting down");
    // The line comes first, the deed a moment later.
    let deadline = Instant::now() + WAIT;
    let ready = loop {
        let ready = http(server.health_address(), "GET", "/ready");
        if ready.status == 503 || Instant::now() > deadline {
            break ready;
        }
    };
    assert_eq!((ready.status, ready.body.as_str()), (503, "{\"ready\":false,\"reason\":\"draining\"}"));
    assert_eq!(http(server.health_address(), "GET", "/health").status, 200, "draining is not sick");
    assert!(TcpStream::connect(server.address()).is_err(), "nobody is let in any more");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn pm2_is_told_and_heard() {
    let directory = Directory::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(WAIT)).unwrap();
    // A shell passes the descriptor on under the number that the environment names, as PM2 does.
    let descriptor = theirs.as_raw_fd();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let base = [("DATABASE_URL", "memory:"), ("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1"), ("WS_PORT", "0")];
    let mut command = command(&directory, &base);
    command.env("NODE_CHANNEL_FD", descriptor.to_string()).env("NODE_CHANNEL_SERIALIZATION_MODE", "json");
    command.args(["--health-port", "0"]);
    let mut server = Server::spawn(command);
    drop(theirs);
    let mut reader = BufReader::new(ours.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "\"ready\"\n");
    let mut writer = ours;
    writer.write_all(b"{\"type\":\"other\"}\n\"shutdown\"\n").unwrap();
    server.wait_for_line("Shutting down WebSocket server {\"signal\": \"shutdown message\"}");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_lost_manager_does_not_end_the_server() {
    let directory = Directory::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let descriptor = theirs.as_raw_fd();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let base = [("DATABASE_URL", "memory:"), ("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1"), ("WS_PORT", "0")];
    let mut command = command(&directory, &base);
    command.env("NODE_CHANNEL_FD", descriptor.to_string()).args(["--health-port", "0"]);
    let mut server = Server::spawn(command);
    drop((ours, theirs));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(http(server.address(), "GET", "/health").status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}
