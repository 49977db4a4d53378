//! Goal: with PostgreSQL behind it, nothing acknowledged is lost, whatever the database does; tables of other
//! programs are taken as they are; what cannot be read is kept and told of. Method: the real binary on a
//! real PostgreSQL, which is stopped, started and looked into with its own programs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peer;
mod program;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fidibus_core::store::conformance::postgres_server::PostgresServer;
use peer::{Heard, Peer, long_text};
use program::{Directory, Server, WAIT, http, run_to_end};
use serde_json::Value;

fn start(directory: &Directory, url: &str, more: &[(&str, &str)]) -> Server {
    let mut environment = vec![("DATABASE_URL", url), ("WS_DEBOUNCE_MS", "100"), ("WS_STATE_DIR", "state")];
    environment.extend_from_slice(more);
    Server::start(directory, &environment)
}

fn health(address: SocketAddr) -> (u16, Value) {
    let answer = http(address, "GET", "/health");
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// Waits until `/health` is as wanted, and answers it.
fn wait_for_health(server: &Server, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT;
    loop {
        let (code, health) = health(server.health_address());
        if wanted(code, &health) {
            return health;
        }
        assert!(Instant::now() < deadline, "{code} {health}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn healthy(code: u16, health: &Value) -> bool {
    code == 200 && health["status"] == "healthy"
}

/// Runs SQL, and answers what psql prints of it.
fn sql(postgres: &PostgresServer, url: &str, sql: &str) -> String {
    let output = postgres.program("psql", &["-v", "ON_ERROR_STOP=1", "-qAtc", sql, url]).unwrap();
    String::from_utf8(output).unwrap().trim().to_owned()
}

/// The root text "t" of a document as the database has it.
fn text(directory: &Directory, url: &str, document: &str) -> String {
    let arguments = ["documents", "show", document, "--text", "t", "--database-url", url];
    let (code, text, errors) = run_to_end(directory, &[], &arguments);
    assert_eq!(code, 0, "{errors}");
    text.trim_end().to_owned()
}

#[test]
fn it_starts_while_the_database_is_away() {
    let postgres = PostgresServer::start().unwrap();
    let url = postgres.database();
    let directory = Directory::new();
    postgres.crash().unwrap();
    let server = start(&directory, &url, &[("WS_DATABASE_CONNECT_MS", "500")]);
    let (code, body) = health(server.health_address());
    assert_eq!(
        (code, &body["status"], &body["database"]["connected"]),
        (503, &"unhealthy".into(), &false.into())
    );
    assert_eq!(http(server.health_address(), "GET", "/ready").status, 503);
    let heard = Peer::connect(server.address(), "plan").hear(WAIT);
    assert_eq!(heard, Heard::SocketClosed(1013), "no document from nowhere, and an invitation to come back");
    postgres.resume().unwrap();
    wait_for_health(&server, healthy);
    let mut peer = Peer::connect(server.address(), "plan");
    peer.write_acked(1);
    drop(server);
    assert_eq!(text(&directory, &url, "plan"), "a");
}

#[test]
fn what_is_acknowledged_while_the_database_is_away_is_there_later() {
    let postgres = PostgresServer::start().unwrap();
    let url = postgres.database();
    let directory = Directory::new();
    let mut server = start(&directory, &url, &[]);
    let mut peer = Peer::connect(server.address(), "plan");
    peer.write_acked(1);
    postgres.crash().unwrap();
    peer.write_acked(2);
    peer.write_acked(3);
    let body = wait_for_health(&server, |code, health| {
        code == 503 && health["durability"]["spool"]["rows"].as_u64() >= Some(2)
    });
    assert_eq!(body["durability"]["spool"]["failing"], false);
    server.signal("KILL");
    server.wait();
    // Another database does not get it.
    let other = format!("{url}-other");
    let environment = [("DATABASE_URL", &other[..]), ("WS_STATE_DIR", "state"), ("WS_PORT", "0")];
    let (code, _, said) = run_to_end(&directory, &environment, &[]);
    assert!(code != 0 && said.contains("WS_SPOOL_ADOPT=on") && said.contains("-other"), "{code}: {said}");
    // Nothing of it is in the database yet; a server that starts now finds it in the spool.
    let server = start(&directory, &url, &[("WS_DATABASE_CONNECT_MS", "500")]);
    let body =
        wait_for_health(&server, |_, health| health["durability"]["spool"]["rows"].as_u64() >= Some(2));
    assert_eq!(body["status"], "unhealthy");
    postgres.resume().unwrap();
    wait_for_health(&server, healthy);
    let metrics = http(server.health_address(), "GET", "/metrics").body;
    for line in ["fidibus_spool_rows 0", "fidibus_durability_info{store=\"postgres\",ack=\"commit\"} 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in:\n{metrics}");
    }
    Peer::connect(server.address(), "plan").write_acked(4);
    drop(server);
    assert_eq!(text(&directory, &url, "plan"), "aaaa");
}

#[test]
fn a_stop_during_an_outage_keeps_what_was_acknowledged() {
    let postgres = PostgresServer::start().unwrap();
    let url = postgres.database();
    let directory = Directory::new();
    let mut server = start(&directory, &url, &[("WS_SHUTDOWN_DEADLINE_MS", "1500")]);
    let mut peer = Peer::connect(server.address(), "plan");
    peer.write_acked(1);
    postgres.crash().unwrap();
    peer.write_acked(2);
    server.signal("INT");
    let (_, errors) = server.wait();
    assert!(errors.iter().any(|line| line.contains("The database is away")), "{errors:#?}");
    postgres.resume().unwrap();
    let server = start(&directory, &url, &[]);
    wait_for_health(&server, healthy);
    drop(server);
    assert_eq!(text(&directory, &url, "plan"), "aa");
}

#[test]
fn without_a_spool_nothing_is_acknowledged_while_the_database_is_away() {
    let postgres = PostgresServer::start().unwrap();
    let url = postgres.database();
    let directory = Directory::new();
    let server = start(&directory, &url, &[("WS_SPOOL", "off"), ("WS_DATABASE_CONNECT_MS", "500")]);
    let mut peer = Peer::connect(server.address(), "plan");
    peer.write_acked(1);
    postgres.crash().unwrap();
    peer.write(2);
    assert_eq!(peer.hear(Duration::from_secs(3)), Heard::Nothing);
    postgres.resume().unwrap();
    assert_eq!(peer.hear(WAIT), Heard::Ack(true));
    assert!(!directory.path().join("state").exists());
}

#[test]
fn a_state_directory_is_one_servers() {
    let postgres = PostgresServer::shared();
    let (one, two) = (postgres.database(), postgres.database());
    let directory = Directory::new();
    let server = start(&directory, &one, &[]);
    let environment =
        [("DATABASE_URL", &*two), ("WS_AUTH", "none"), ("WS_STATE_DIR", "state"), ("WS_HOST", "127.0.0.1")];
    let (code, _, errors) = run_to_end(&directory, &environment, &["--port", "0", "--health-port", "off"]);
    let expected = format!(
        "fidibus: WS_STATE_DIR: state is used by another server (process {}); give each server a directory of its own\n",
        server.pid()
    );
    assert_eq!((code, errors), (1, expected));
}

/// Tables as two other programs have made them, with one document in them.
const SHAPES: [(&str, &str); 2] = [
    (
        "the app's",
        "create table \"user\" (id text primary key);
         insert into \"user\" values ('u1');
         create table yjs_document (id text primary key, data bytea not null, updated_at timestamp not null);
         create table yjs_update_log (id bigserial primary key,
             document_id text not null references yjs_document (id) on delete cascade, update_data bytea not null,
             user_id text references \"user\" (id) on delete set null, created_at timestamptz not null default now());",
    ),
    (
        "the plan's",
        "create table yjs_document (id text primary key, data bytea not null, updated_at timestamp not null default now());
         create table yjs_update_log (id text primary key, document_id text not null, update bytea not null,
             user_id text, created_at timestamp not null default now());",
    ),
];

#[test]
fn tables_of_other_programs_are_adopted() {
    let postgres = PostgresServer::shared();
    for (whose, tables) in SHAPES {
        let url = postgres.database();
        sql(postgres, &url, tables);
        sql(postgres, &url, "insert into yjs_document values ('plan', '\\x0101010004010174016100', now())");
        let columns =
            "select table_name, column_name, data_type, column_default from information_schema.columns
                       where table_schema = 'public' order by 1, 2";
        let before = sql(postgres, &url, columns);
        let directory = Directory::new();
        let mut server = start(&directory, &url, &[("WS_ENABLE_UPDATE_LOG", "on")]);
        let mut peer = Peer::connect(server.address(), "plan");
        peer.write_acked(2);
        server.signal("TERM");
        assert_eq!(server.wait().0.code(), Some(0), "{whose}");
        assert_eq!(text(&directory, &url, "plan"), "aa", "{whose}");
        assert_eq!(sql(postgres, &url, columns), before, "{whose}: columns stay as they are");
        assert_eq!(
            sql(postgres, &url, "select count(*) from yjs_update_log"),
            "1",
            "{whose}: kept as history"
        );
        let tables = sql(postgres, &url, "\\dt yjs_*");
        let names: Vec<_> = tables.lines().filter_map(|line| line.split('|').nth(1)).collect();
        assert_eq!(names, ["yjs_document", "yjs_update_log"], "{whose}");
        let (code, report, _) = run_to_end(&directory, &[], &["verify", "--database-url", &url]);
        assert_eq!(code, 0, "{report}");
        assert!(report.contains("1 hold their logs and more"), "{report}");
    }
}

#[test]
fn a_dump_is_a_whole_backup() {
    let postgres = PostgresServer::shared();
    let (url, other) = (postgres.database(), postgres.database());
    let directory = Directory::new();
    let mut server = start(&directory, &url, &[("WS_ENABLE_UPDATE_LOG", "on")]);
    for document in ["plan", "Grün/2"] {
        let mut peer = Peer::connect(server.address(), document);
        (1..=3).for_each(|author| peer.write_acked(author));
    }
    // In the log only: its snapshot is not due yet.
    server.signal("KILL");
    server.wait();
    let dump = postgres.program("pg_dump", &[&url]).unwrap();
    let file = std::env::temp_dir().join(format!("fidibus-dump-{}.sql", std::process::id()));
    std::fs::write(&file, dump).unwrap();
    postgres.program("psql", &["-v", "ON_ERROR_STOP=1", "-qf", file.to_str().unwrap(), &other]).unwrap();
    std::fs::remove_file(&file).unwrap();
    for document in ["plan", "Grün/2"] {
        assert_eq!(text(&directory, &other, document), "aaa");
    }
    let elsewhere = Directory::new();
    let mut server = start(&elsewhere, &other, &[("WS_ENABLE_UPDATE_LOG", "on")]);
    Peer::connect(server.address(), "plan").write_acked(4);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    let (code, report, _) = run_to_end(&elsewhere, &[], &["verify", "--database-url", &other]);
    assert_eq!(
        (code, report.contains("2 documents: 2 derived from their logs and equal")),
        (0, true),
        "{report}"
    );
}

#[test]
fn a_document_that_cannot_be_read_is_refused_and_kept() {
    let postgres = PostgresServer::shared();
    let url = postgres.database();
    let directory = Directory::new();
    let server = start(&directory, &url, &[]);
    sql(postgres, &url, "insert into yjs_document (id, data) values ('broken', '\\xdeadbeef')");
    let mut peer = Peer::connect(server.address(), "broken");
    peer.write(1);
    assert_eq!(peer.hear(WAIT), Heard::Denied("document-unavailable".to_owned()));
    assert_eq!(peer.hear(Duration::from_millis(500)), Heard::Nothing);
    // Others are none the worse for it.
    Peer::connect(server.address(), "plan").write_acked(1);
    assert_eq!(sql(postgres, &url, "select data from yjs_document where id = 'broken'"), "\\xdeadbeef");
    assert_eq!(sql(postgres, &url, "select count(*) from yjs_update_log where document_id = 'broken'"), "0");
}

#[test]
fn a_row_that_cannot_be_read_is_kept_and_told_of() {
    let postgres = PostgresServer::shared();
    let url = postgres.database();
    let directory = Directory::new();
    let mut server = start(&directory, &url, &[]);
    Peer::connect(server.address(), "plan").write_acked(1);
    wait_until("it is unloaded", || {
        http(server.health_address(), "GET", "/metrics").body.contains("\nfidibus_documents_loaded 0\n")
    });
    sql(
        postgres,
        &url,
        "insert into yjs_update_log (document_id, update_data) values ('plan', '\\xdeadbeef')",
    );
    for _ in 0..2 {
        let mut peer = Peer::connect(server.address(), "plan");
        peer.write_acked(2);
        drop(peer);
        wait_until("it is unloaded", || {
            http(server.health_address(), "GET", "/metrics").body.contains("\nfidibus_documents_loaded 0\n")
        });
    }
    let (code, body) = health(server.health_address());
    assert_eq!(
        (code, &body["status"], &body["durability"]["quarantinedRows"]),
        (200, &"degraded".into(), &1.into())
    );
    let kept = "select encode(update_data, 'hex') from yjs_update_log where update_data = '\\xdeadbeef'";
    assert_eq!(sql(postgres, &url, kept), "deadbeef");
    assert_eq!(sql(postgres, &url, "select count(*) from collab.quarantine"), "1");
    server.signal("TERM");
    let (_, errors) = server.wait();
    assert!(errors.iter().any(|line| line.contains("A row of the update log cannot be read")), "{errors:#?}");
    let (code, report, _) = run_to_end(&directory, &[], &["verify", "plan", "--database-url", &url]);
    assert_eq!((code, report.contains("plan: row 2 of the log cannot be read")), (1, true), "{report}");
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn history_is_kept_for_as_long_as_it_is_to_be() {
    let postgres = PostgresServer::shared();
    let url = postgres.database();
    let directory = Directory::new();
    let settings = [("WS_ENABLE_UPDATE_LOG", "true"), ("WS_UPDATE_LOG_RETENTION_DAYS", "30")];
    let mut server = start(&directory, &url, &settings);
    let mut peer = Peer::connect(server.address(), "plan");
    (1..=3).for_each(|author| peer.write_acked(author));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    assert_eq!(sql(postgres, &url, "select count(*) from yjs_update_log"), "3");
    // Two rows become old; their marks know them by their time.
    sql(
        postgres,
        &url,
        "update yjs_update_log set created_at = created_at - interval '31 days' where id < 3;
         update collab.folded f set created_at = (extract(epoch from l.created_at) * 1000000)::bigint
         from yjs_update_log l where l.id = f.log_id",
    );
    let server = start(&directory, &url, &settings);
    wait_until("old rows are deleted", || sql(postgres, &url, "select count(*) from yjs_update_log") == "1");
    drop(server);
    assert_eq!(text(&directory, &url, "plan"), "aaa", "the snapshot has them");
    // Off: what is folded goes at once.
    let mut server = start(&directory, &postgres.database(), &[]);
    Peer::connect(server.address(), "plan").write_acked(1);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn an_update_that_makes_a_document_too_large_is_refused() {
    let postgres = PostgresServer::shared();
    let url = postgres.database();
    let directory = Directory::new();
    let server = start(&directory, &url, &[("WS_MAX_DOCUMENT_BYTES", "2048")]);
    let mut peer = Peer::connect(server.address(), "plan");
    peer.write_acked(1);
    peer.send_update(&long_text(2, 3000));
    let heard = peer.hear(WAIT);
    let told = matches!(&heard, Heard::Ack(false) | Heard::SocketClosed(4413))
        || matches!(&heard, Heard::Closed(reason) if reason.contains("Too Large"));
    assert!(told, "{heard:?}");
    // Everything before it is stored, and others go on writing.
    Peer::connect(server.address(), "plan").write_acked(3);
    drop(server);
    assert_eq!(text(&directory, &url, "plan"), "aa");
}

#[test]
fn tables_are_made_by_the_command_alone_where_the_server_may_not() {
    let postgres = PostgresServer::shared();
    let url = postgres.database();
    let directory = Directory::new();
    let server = start(&directory, &url, &[("WS_MIGRATE", "off")]);
    assert_eq!(sql(postgres, &url, "\\dt yjs_*"), "");
    assert_eq!(health(server.health_address()).0, 503);
    let (code, report, errors) = run_to_end(&directory, &[], &["migrate", "--database-url", &url]);
    assert_eq!((code, errors.as_str()), (0, ""), "{report}");
    wait_for_health(&server, healthy);
    assert_eq!(sql(postgres, &url, "select count(*) from yjs_document"), "0", "as the guide has it");
}
