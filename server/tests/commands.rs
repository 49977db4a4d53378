//! Goal: each of the operator's commands does what its help says, on SQLite and on PostgreSQL, and meets bad
//! input with one clear line and its exit code. Method: the real binary, real databases, real files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peer;
mod program;

use std::fs;
use std::net::TcpListener;

use fidibus_core::store::conformance::postgres_server::PostgresServer;
use peer::letter;
use program::{Directory, Server, run_to_end};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

/// A directory and a database for one test.
struct Place {
    directory: Directory,
    url: String,
}

impl Place {
    fn new(url: &str) -> Self {
        Self { directory: Directory::new(), url: url.to_owned() }
    }

    /// One on each kind of database, with their tables.
    fn both() -> [Self; 2] {
        let both = [Self::new("sqlite:documents.db"), Self::new(&PostgresServer::shared().database())];
        for place in &both {
            assert_eq!(place.run(&["migrate"]).0, 0, "{}", place.url);
        }
        both
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let environment = [
            ("DATABASE_URL", &*self.url),
            ("WS_AUTH", "none"),
            ("WS_HOST", "127.0.0.1"),
            ("WS_PORT", "29871"),
        ];
        run_to_end(&self.directory, &environment, arguments)
    }

    /// Runs it, and answers what it printed.
    fn succeed(&self, arguments: &[&str]) -> String {
        let (code, output, errors) = self.run(arguments);
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?} on {}: {output}", self.url);
        output
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    /// Stores the letters of these authors.
    fn store(&self, document: &str, authors: impl IntoIterator<Item = u8>) {
        for author in authors {
            self.file("letter.yjs", &letter(author));
            self.succeed(&["import", "letter.yjs", "--name", document]);
        }
    }

    fn text(&self, document: &str) -> String {
        self.succeed(&["documents", "show", document, "--text", "t"]).trim_end().to_owned()
    }

    /// Runs SQL on it.
    fn sql(&self, sql: &str) {
        match self.url.strip_prefix("sqlite:") {
            Some(file) => sqlite(&self.directory, file, sql),
            None => {
                let arguments = ["-v", "ON_ERROR_STOP=1", "-qAtc", sql, &self.url];
                PostgresServer::shared().program("psql", &arguments).unwrap();
            }
        }
    }

    fn blob(&self, hex: &str) -> String {
        if self.url.starts_with("sqlite") { format!("x'{hex}'") } else { format!("'\\x{hex}'") }
    }
}

fn sqlite(directory: &Directory, file: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options =
            SqliteConnectOptions::new().filename(directory.path().join(file)).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

const NAMES: [&str; 5] = ["plan", "team/Plan 1", "../../up", "Grün.yjs", ".%41+"];

#[test]
fn what_is_exported_is_imported_again() {
    for place in Place::both() {
        for (number, name) in NAMES.into_iter().enumerate() {
            place.store(name, 1..=number as u8 + 1);
        }
        let long = "ü".repeat(500);
        place.store(&long, [1]);
        let report = place.succeed(&["export", "out"]);
        assert!(report.starts_with("6 documents, "), "{report}");
        let files: Vec<_> = fs::read_dir(place.directory.path()).unwrap().flatten().collect();
        assert!(files.iter().all(|file| file.file_name() != "up.yjs"), "nothing leaves the directory");
        for other in Place::both() {
            let out = place.directory.path().join("out");
            let report = other.succeed(&["import", out.to_str().unwrap()]);
            assert!(report.starts_with("6 documents, "), "{report}");
            for (number, name) in NAMES.into_iter().enumerate() {
                assert_eq!(other.text(name), "a".repeat(number + 1), "{name}");
            }
            assert_eq!(other.text(&long), "a");
            // Once more, and on top of more: nothing is lost, nothing is doubled.
            other.store("plan", [9]);
            other.succeed(&["import", out.to_str().unwrap()]);
            assert_eq!(other.text("plan"), "aa");
        }
    }
}

#[test]
fn files_that_exist_are_not_replaced_unasked() {
    let [place, _] = Place::both();
    place.store("plan", [1]);
    place.succeed(&["export", "--document", "plan", "one.bin"]);
    let (code, _, errors) = place.run(&["export", "--document", "plan", "one.bin"]);
    assert_eq!((code, errors.as_str()), (1, "fidibus: one.bin: exists already; --overwrite replaces it\n"));
    place.succeed(&["export", "--document", "plan", "one.bin", "--overwrite"]);
    assert_eq!(fs::read(place.directory.path().join("one.bin")).unwrap(), letter(1));
    let stdout = place.succeed(&["export", "--document", "plan", "-"]);
    assert_eq!(stdout.as_bytes(), letter(1));
}

#[test]
fn documents_come_from_hocuspocus_and_from_any_table() {
    for place in Place::both() {
        let hocuspocus =
            "create table documents (name varchar(255) not null, data blob not null, unique(name));
            insert into documents values ('from-hocuspocus', x'0101010004010174016100'), ('broken', x'ffff')";
        sqlite(&place.directory, "hocuspocus.sqlite", hocuspocus);
        let (code, report, errors) = place.run(&["import", "--from", "sqlite:hocuspocus.sqlite"]);
        assert_eq!((code, errors.starts_with("fidibus: broken: ")), (1, true), "{report}{errors}");
        assert!(report.starts_with("1 documents, 11 bytes imported\n"), "{report}");
        assert_eq!(place.text("from-hocuspocus"), "a");
        let table = "create table \"my docs\" (slug text, state blob); insert into \"my docs\" values ('from-table', x'0101020004010174016100'), (null, null)";
        sqlite(&place.directory, "other.db", table);
        let from = ["import", "--from", "sqlite:other.db", "--table", "my docs", "--name-column", "slug"];
        let (code, _, errors) = place.run(&from);
        assert_eq!(code, 1);
        assert!(errors.starts_with("fidibus: sqlite:other.db: ") && errors.contains("data"), "{errors}");
        let (code, _, errors) = place.run(&[&from[..], &["--data-column", "state"]].concat());
        assert_eq!((code, errors.as_str()), (1, "fidibus: : holds no data\n"));
        assert_eq!(place.text("from-table"), "a");
        let postgres = Place::new(&PostgresServer::shared().database());
        postgres.sql("create schema app; create table app.docs (name varchar, data bytea); insert into app.docs values ('from-postgres', '\\x0101030004010174016100')");
        let report = place.succeed(&["import", "--from", &postgres.url, "--table", "app.docs"]);
        assert_eq!(report, "1 documents, 11 bytes imported\n");
        assert_eq!(place.text("from-postgres"), "a");
    }
}

#[test]
fn a_store_moves_to_another_database() {
    let [one, two] = Place::both();
    for (from, to) in [(&one, &two), (&two, &one)] {
        from.store("plan", [1, 2]);
        // In the log only.
        from.sql(&format!(
            "insert into yjs_update_log (document_id, update_data) values ('plan', {})",
            from.blob("0101030004010174016100")
        ));
        let url = match from.url.strip_prefix("sqlite:") {
            Some(file) => format!("sqlite:{}", from.directory.path().join(file).display()),
            None => from.url.clone(),
        };
        to.succeed(&["import", "--from", &url]);
        assert_eq!(to.text("plan"), "aaa");
        to.succeed(&["documents", "delete", "plan", "--yes"]);
    }
    let (code, _, errors) = one.run(&["import", "--from", &one.url]);
    assert_eq!((code, errors.as_str()), (2, "fidibus: --from is the database that is written to\n"));
}

#[test]
fn bad_files_are_named_and_left_out() {
    for place in Place::both() {
        fs::create_dir_all(place.directory.path().join("in/sub")).unwrap();
        for (name, bytes) in [
            ("in/good.yjs", &letter(1)[..]),
            ("in/empty.yjs", b""),
            ("in/text.yjs", b"hello"),
            ("in/%00.yjs", b"\0\0"),
            ("in/notes.txt", b"x"),
        ] {
            place.file(name, bytes);
        }
        let (code, report, errors) = place.run(&["import", "in"]);
        assert_eq!(
            (code, report.as_str()),
            (1, "1 documents, 11 bytes imported\n3 documents could not be imported, or not in whole\n")
        );
        for part in
            ["fidibus: empty: ", "fidibus: text: ", "holds a NUL", "skipped: in/notes.txt", "skipped: in/sub"]
        {
            assert!(errors.contains(part), "{part} in {errors}");
        }
        for (arguments, message) in [
            (&["import", "nowhere"][..], "fidibus: nowhere: No such file or directory (os error 2)\n"),
            (&["import", "in", "--name", "x"], "fidibus: --name goes with one file, not with a directory\n"),
            (
                &["import", "--from", "mysql://me:hunter2@x/y"],
                "fidibus: --from has the scheme \"mysql\"; postgres://user@host/database, sqlite:path.db or memory: is expected\n",
            ),
            (
                &["import", "--from", "sqlite:nowhere.db"],
                "fidibus: nowhere.db: No such file or directory (os error 2)\n",
            ),
            (
                &["documents", "show", "nobody"],
                &format!("fidibus: {} has no document \"nobody\"\n", shown(&place.url)),
            ),
            (
                &["documents", "delete", "good", "nobody", "--yes"],
                &format!("fidibus: {} has no document \"nobody\"\n", shown(&place.url)),
            ),
            (
                &["documents", "delete", "good"],
                "fidibus: deletes for good; say --yes where nobody can be asked\n",
            ),
            (&["documents", "show", " "], "fidibus: \" \": document name must not be empty\n"),
            (&["verify", "nobody"], &format!("fidibus: {} has no document \"nobody\"\n", shown(&place.url))),
        ] {
            let (code, _, errors) = place.run(arguments);
            assert_eq!(errors, message, "{arguments:?}");
            assert_ne!(code, 0);
        }
        assert_eq!(place.text("good"), "a", "it is still there");
    }
}

fn shown(url: &str) -> String {
    url.replace("fidibus@", "")
}

#[test]
fn databases_that_cannot_be_used_are_named() {
    let place = Place::new("sqlite:nowhere.db");
    for command in [&["export", "out"][..], &["verify"], &["documents", "list"]] {
        let (code, _, errors) = place.run(command);
        assert_eq!(
            (code, errors.as_str()),
            (1, "fidibus: nowhere.db: No such file or directory (os error 2)\n")
        );
        assert!(!place.directory.path().join("nowhere.db").exists());
    }
    place.file("text.db", b"this is not a database, however long it may be");
    let (code, _, errors) = place.run(&["verify", "--database-url", "sqlite:text.db"]);
    let expected = "fidibus: DATABASE_URL: sqlite: text.db: is not an SQLite database";
    assert!(code == 1 && errors.starts_with(expected), "{errors}");
    let (code, _, errors) = place.run(&["documents", "list", "--database-url", "memory:"]);
    assert_eq!((code, errors.starts_with("fidibus: memory: keeps nothing")), (2, true), "{errors}");
    let empty = PostgresServer::shared().database();
    let (code, _, errors) = place.run(&["documents", "list", "--database-url", &empty]);
    assert!(
        code == 1
            && errors.contains("table yjs_document does not exist here; create it with: fidibus migrate"),
        "{errors}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://me:hunter2@{nobody}/x");
    let environment = [("WS_DATABASE_CONNECT_MS", "300")];
    let (code, _, errors) = run_to_end(&place.directory, &environment, &["verify", "--database-url", &url]);
    assert!(
        code == 1 && errors.contains(&format!("postgres: {nobody}/x: ")) && !errors.contains("hunter2"),
        "{errors}"
    );
}

#[test]
fn documents_are_listed_and_shown() {
    for place in Place::both() {
        place.store("plan", [1, 2]);
        place.store("team/\u{1b}[31mred", [1]);
        let list = place.succeed(&["documents", "list"]);
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), 2, "{list}");
        assert!(lines[0].contains("Z plan") && lines[1].ends_with("team/\\u{1b}[31mred"), "{list}");
        let list = place.succeed(&["documents", "list", "--json", "--prefix", "pl"]);
        let summary: serde_json::Value = serde_json::from_str(list.trim()).unwrap();
        assert_eq!((&summary["name"], &summary["waitingRows"]), (&"plan".into(), &0.into()));
        assert!(
            summary["snapshotBytes"].as_u64() > Some(11) && summary["updatedAt"].is_string(),
            "{summary}"
        );
        let shown = place.succeed(&["documents", "show", "plan"]);
        assert!(shown.starts_with("name      plan\n") && shown.ends_with("{\"t\":\"aa\"}\n"), "{shown}");
        assert_eq!(place.succeed(&["documents", "show", "plan", "--json"]), "{\"t\":\"aa\"}\n");
        assert_eq!(place.succeed(&["documents", "show", "plan", "--json", "t"]), "\"aa\"\n");
        assert_eq!(place.succeed(&["documents", "show", "plan", "--json", "none"]), "null\n");
        assert_eq!(place.succeed(&["documents", "delete", "plan", "--yes"]), "deleted plan\n");
        assert_eq!(place.succeed(&["documents", "list", "--prefix", "plan"]), "");
    }
}

#[test]
fn verify_finds_what_is_wrong() {
    for place in Place::both() {
        place.store("good", [1, 2]);
        place.store("lacks", [1]);
        place.store("damaged", [1]);
        let report = place.succeed(&["verify"]);
        assert_eq!(
            report,
            "3 documents: 0 derived from their logs and equal, 0 hold their logs and more, 3 without rows, 0 with something wrong\n"
        );
        // A row that counts as folded, of which the snapshot knows nothing; and another content under the
        // old checksum.
        let mark = match place.url.starts_with("sqlite") {
            true => "insert into fidibus_folded (log_id) select id from yjs_update_log",
            false => {
                "insert into collab.folded (log_id, created_at) select id, (extract(epoch from created_at) * 1000000)::bigint from yjs_update_log"
            }
        };
        place.sql(&format!(
            "insert into yjs_update_log (document_id, update_data) values ('lacks', {}); {mark};
             update yjs_document set data = {} where id = 'damaged'",
            place.blob("0101050004010174016100"),
            place.blob("0101060004010174016200"),
        ));
        let (code, report, _) = place.run(&["verify"]);
        assert_eq!(code, 1);
        assert!(report.contains("lacks: row 1 counts as stored, but the document lacks it\n"), "{report}");
        assert!(report.contains("damaged: ") && report.contains("(checksum)"), "{report}");
        assert!(report.ends_with("3 documents: 0 derived from their logs and equal, 0 hold their logs and more, 1 without rows, 2 with something wrong\n"), "{report}");
        assert_eq!(place.run(&["verify", "good"]).0, 0);
        let (code, _, errors) = place.run(&["export", "out"]);
        assert!(code == 1 && errors.starts_with("fidibus: damaged is left out: "), "{errors}");
    }
}

#[test]
fn migrations_are_looked_at_tried_and_done() {
    let postgres = Place::new(&PostgresServer::shared().database());
    let sqlite = Place::new("sqlite:new.db");
    for place in [&postgres, &sqlite] {
        let (code, report, _) = place.run(&["migrate", "--check"]);
        assert_eq!(code, 1);
        assert!(report.contains(": is missing\n") && report.contains("fidibus migrate"), "{report}");
        assert!(place.succeed(&["migrate", "--dry-run"]).contains(": would be created\n"));
        assert_eq!(place.run(&["migrate", "--check"]).0, 1, "nothing was done");
        place.succeed(&["migrate"]);
        assert!(place.succeed(&["migrate", "--check"]).ends_with(": all tables are there\n"));
        place.succeed(&["migrate"]);
        assert_eq!(place.run(&["migrate", "--check", "--dry-run"]).0, 2);
    }
    let foreign = Place::new(&PostgresServer::shared().database());
    foreign.sql("create table yjs_document (id text primary key, content text)");
    let (code, _, errors) = foreign.run(&["migrate"]);
    assert!(code == 1 && errors.contains("table yjs_document has no bytea column data"), "{errors}");
}

#[test]
fn doctor_says_what_to_do() {
    for place in Place::both() {
        place.store("plan", [1]);
        let (code, report, errors) = place.run(&["doctor", "--nginx", "."]);
        assert_eq!((code, errors.as_str()), (0, ""), "{report}");
        assert!(
            report.contains("ok       the clocks agree\n") && report.contains("1 documents were read\n"),
            "{report}"
        );
        assert!(report.contains("WS_PORT 127.0.0.1:29871 is free"), "{report}");
        // A document that nobody can open, a row that nobody can read, a port that somebody else has, a
        // proxy that passes no WebSockets, a cluster.
        place.sql(&format!("insert into yjs_document (id, data) values ('broken', {})", place.blob("ffff")));
        place.sql(&format!(
            "insert into yjs_update_log (document_id, update_data) values ('plan', {})",
            place.blob("ffff")
        ));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        place.file(
            "nginx.conf",
            format!("server {{ location /ws {{ proxy_pass http://127.0.0.1:{port}; }} }}").as_bytes(),
        );
        place.file(
            "ecosystem.config.cjs",
            b"module.exports = { apps: [{ script: \"./fidibus\", exec_mode: \"cluster\", instances: \"max\" }] }",
        );
        drop(std::thread::spawn(move || taken.incoming().flatten().for_each(drop)));
        let (code, report, _) = place.run(&["doctor", "--nginx", ".", "--port", &port]);
        assert_eq!(code, 1);
        for part in [
            "PROBLEM  document \"broken\" cannot be opened",
            "PROBLEM  document \"plan\": row 1 cannot be read",
            "is held by another program\n         → see which, with: ss -ltnp",
            "PROBLEM  nginx, location /ws: WebSockets do not pass\n         → proxy_http_version 1.1;",
            "PROBLEM  ecosystem.config.cjs says exec_mode \"cluster\"",
            "PROBLEM  ecosystem.config.cjs says instances max",
            "warning  PM2 kills after 1600 ms",
        ] {
            assert!(report.contains(part), "{part} is not in:\n{report}");
        }
        let (code, report, _) =
            place.run(&["doctor", "--skip-documents", "--nginx", ".", "--ping-interval-ms", "x"]);
        assert_eq!(code, 2);
        assert!(report.contains("PROBLEM  WS_PING_INTERVAL_MS is \"x\""), "{report}");
    }
}

#[test]
fn doctor_knows_a_running_server_and_a_database_that_is_away() {
    let directory = Directory::new();
    let server =
        Server::start(&directory, &[("DATABASE_URL", "sqlite:state/a.db"), ("WS_STATE_DIR", "state")]);
    let port = server.port.to_string();
    let environment =
        [("WS_AUTH", "none"), ("WS_HOST", "127.0.0.1"), ("WS_STATE_DIR", "state"), ("WS_PORT", &*port)];
    let arguments = ["doctor", "--health-port", "off", "--database-url"];
    let (code, report, _) =
        run_to_end(&directory, &environment, &[&arguments[..], &["sqlite:state/a.db"]].concat());
    assert_eq!(code, 0, "{report}");
    assert!(
        report.contains("a server of ours answers there") && report.contains("in use by a running server"),
        "{report}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://me:hunter2@{nobody}/x");
    let (code, report, _) = run_to_end(
        &directory,
        &environment,
        &[&arguments[..], &[&url, "--database-connect-ms", "300"]].concat(),
    );
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("→ see that PostgreSQL runs") && !report.contains("hunter2"), "{report}");
}
