//! Goal: what the operator meets first: the two lines of the deployment guide, one clear line for each way
//! of not starting, and its exit code. Method: the real binary, its streams and its exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use program::{Directory, Server, command, http, raw_http, run_to_end};

#[test]
fn the_guides_lines_come_word_for_word() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, &[]);
    let port = server.port;
    assert_eq!(
        server.seen[..2],
        [
            "[INFO] Hocuspocus server started".to_owned(),
            format!("[INFO] WebSocket server listening {{\"port\": {port}}}")
        ]
    );
    server.signal("TERM");
    let (status, errors) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(errors, Vec::<String>::new(), "nothing on stderr when all is well");
    let last = &server.seen[server.seen.len() - 2..];
    assert_eq!(last[0], "[INFO] Shutting down WebSocket server {\"signal\": \"SIGTERM\"}");
    assert_eq!(last[1], "[INFO] WebSocket shutdown complete");
}

#[test]
fn json_lines_are_objects() {
    let directory = Directory::new();
    let server = Server::start(&directory, &[("LOG_FORMAT", "json")]);
    let line: serde_json::Value = serde_json::from_str(&server.seen[1]).unwrap();
    assert_eq!(line["message"], "WebSocket server listening");
    assert_eq!(line["level"], "info");
    assert_eq!(line["service"], "fidibus");
    assert_eq!(line["port"], server.port);
    assert!(line["ts"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_development_server_says_so_and_keeps_to_itself() {
    let directory = Directory::new();
    let mut command = command(&directory, &[("DATABASE_URL", "memory:"), ("WS_PORT", "0")]);
    command.args(["--health-port", "0"]);
    let mut server = Server::spawn(command);
    assert_eq!(http(server.address(), "GET", "/health").status, 200);
    server.signal("INT");
    let (status, errors) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("[WARN] WS_AUTH is not set: everybody may read and write"), "{errors:?}");
}

#[test]
fn the_default_store_is_a_private_file() {
    let directory = Directory::new();
    let mut command = command(&directory, &[("WS_AUTH", "none"), ("WS_PORT", "0"), ("WS_HOST", "127.0.0.1")]);
    command.args(["--health-port", "0"]);
    let server = Server::spawn(command);
    let state = directory.path().join("fidibus-data");
    assert!(state.join("fidibus.sqlite").exists());
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    drop(server);
}

#[test]
fn a_used_port_is_named() {
    let directory = Directory::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let base = [("DATABASE_URL", "memory:"), ("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1")];
    let (code, _, errors) = run_to_end(&directory, &base, &["--port", &port]);
    assert_eq!(code, 1);
    assert_eq!(errors, format!("fidibus: WS_PORT: port {port} (127.0.0.1) is in use by another process\n"));
    let (code, _, errors) = run_to_end(&directory, &base, &["--port", "0", "--health-port", &port]);
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        format!("fidibus: WS_HEALTH_PORT: port {port} (127.0.0.1) is in use by another process\n")
    );
}

#[test]
fn bad_configurations_end_with_one_line_and_code_2() {
    let directory = Directory::new();
    for (environment, message) in [
        (&[("WS_PORT", "abc")][..], "WS_PORT is \"abc\", but must be a port from 0 to 65535"),
        (&[("NODE_ENV", "production")], "DATABASE_URL is required for WebSocket server persistence"),
        (
            &[("WS_AUTH", "static"), ("WS_STATIC_TOKENS", "hunter2=bob:admin"), ("DATABASE_URL", "memory:")],
            "WS_STATIC_TOKENS is set, but entry 1 is not token=user:rw or token=user:ro",
        ),
    ] {
        for arguments in [&[][..], &["--check-config"]] {
            let (code, output, errors) = run_to_end(&directory, environment, arguments);
            assert_eq!((code, output.as_str()), (2, ""));
            assert_eq!(errors, format!("fidibus: {message}\n"));
        }
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_named() {
    let directory = Directory::new();
    std::fs::write(directory.path().join("file"), "x").unwrap();
    let url = format!("sqlite:{}/file/below.db", directory.path().display());
    let environment =
        [("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1"), ("WS_PORT", "0"), ("DATABASE_URL", &url)];
    let (code, _, errors) = run_to_end(&directory, &environment, &["--health-port", "off"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.starts_with("fidibus: DATABASE_URL: cannot open the store: "), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn dotenv_is_read_below_the_environment() {
    let directory = Directory::new();
    let file = directory.path().join(".env");
    std::fs::write(&file, "WS_PORT=4001\nLOG_LEVEL=debug\nWS_PROT=1\n").unwrap();
    let (code, output, errors) =
        run_to_end(&directory, &[("WS_PORT", "4002")], &["--check-config", "--log-level=warn"]);
    assert_eq!(code, 0, "{errors}");
    let line = |name: &str| output.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("WS_PORT=4002").ends_with("# environment"), "{output}");
    assert!(line("LOG_LEVEL=warn").ends_with("# flag"), "{output}");
    assert!(line("WS_HEALTH_PORT=4003").ends_with("# default"), "{output}");
    assert_eq!(errors, "fidibus: warning: WS_PROT is not a setting of this server; did you mean WS_PORT?\n");
    std::fs::remove_file(&file).unwrap();
    // Root may read every file, so the unreadable one is a directory.
    std::fs::create_dir(&file).unwrap();
    let (code, output, errors) = run_to_end(&directory, &[], &[]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert!(errors.starts_with("fidibus: .env cannot be read: "), "{errors}");
}

#[test]
fn secrets_stay_out_of_the_printed_configuration() {
    let directory = Directory::new();
    let environment =
        [("WS_AUTH", "static"), ("WS_STATIC_TOKENS", "hunter2=bob:rw"), ("BETTER_AUTH_SECRET", "hunter3")];
    let (code, output, errors) = run_to_end(&directory, &environment, &["--check-config"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.contains("WS_STATIC_TOKENS=(secret)") && !output.contains("hunter"), "{output}");
}

#[test]
fn version_and_help_are_there() {
    let directory = Directory::new();
    let (code, output, _) = run_to_end(&directory, &[], &["--version"]);
    assert_eq!((code, output), (0, format!("fidibus {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, output, _) = run_to_end(&directory, &[], &["--help"]);
    assert_eq!(code, 0);
    for part in ["--port <PORT>", "[WS_PORT]", "[default: 3001]", "Storage:", "serve"] {
        assert!(output.contains(part), "{part} is not in {output}");
    }
    let (code, _, errors) = run_to_end(&directory, &[], &["--prot", "1"]);
    assert_eq!(code, 2);
    assert!(errors.contains("--port"), "{errors}");
}

#[test]
fn a_unix_socket_is_served_private_and_cleaned_up() {
    let directory = Directory::new();
    let path = directory.path().join("f.sock");
    // Left by a process that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let host = format!("unix:{}", path.display());
    let environment = [("WS_HOST", host.as_str()), ("WS_SOCKET_MODE", "600")];
    let mut server = Server::start(&directory, &environment);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let request = "GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = raw_http(UnixStream::connect(&path).unwrap(), request);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ready\":true}"));
    let base = [("DATABASE_URL", "memory:"), ("WS_AUTH", "none"), ("WS_HOST", &host)];
    let (code, _, errors) = run_to_end(&directory, &base, &["--health-port", "off"]);
    assert_eq!((code, errors), (1, format!("fidibus: WS_HOST: {host} is in use by another process\n")));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(!path.exists());
}
