//! Goal: sessions and users are read from the tables that either adapter makes. Method: a file with such
//! tables each, in every spelling of a time.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::Executor;

use super::*;

async fn file(name: &str, sql: &str) -> SqliteSessions {
    let path = std::env::temp_dir().join(format!("fidibus-auth-{}-{name}.sqlite", std::process::id()));
    std::fs::remove_file(&path).ok();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    pool.close().await;
    SqliteSessions::new(&path, 2, AuthTables::default())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn tables_of_the_built_in_adapter() {
    let sessions = file(
        "built-in",
        r#"create table "user" (id text primary key, name text, email text, role text, banned integer, "banExpires" date);
        create table session (id text primary key, "expiresAt" date, token text unique, "userId" text, "impersonatedBy" text);
        create table jwks (id text primary key, "publicKey" text, "privateKey" text);
        insert into "user" values ('u', 'Ann', 'a@x', 'viewer', 0, null), ('b', 'Bob', 'b@x', null, 1, null),
          ('c', 'Cat', 'c@x', 'editor', 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 second'));
        insert into session values ('s1', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 hour'), 't1', 'u', null),
          ('s2', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 second'), 't2', 'b', 'u'), ('s3', 'soon', 't3', 'c', null);
        insert into jwks values ('k', '{"kty":"OKP"}', 'secret');"#,
    )
    .await;
    let mut rows = sessions.sessions(&["t1", "t2", "t3", "t4"]).await.unwrap();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let [one, two, three] = &rows[..] else { panic!("{rows:?}") };
    assert!((one.remaining_seconds - 3600.0).abs() < 5.0, "{}", one.remaining_seconds);
    assert_eq!((&*one.user.id, one.user.role.as_deref(), one.user.banned), ("u", Some("viewer"), false));
    assert!(two.remaining_seconds < 0.0 && two.user.banned && two.impersonated_by.as_deref() == Some("u"));
    assert!(three.remaining_seconds < 0.0 && !three.user.banned);
    assert_eq!(sessions.users(&["u", "x"]).await.unwrap(), std::slice::from_ref(&one.user));
    assert_eq!(sessions.fetch().await.unwrap(), r#"{"keys":[{"kid":"k","kty":"OKP"}]}"#);
}

#[tokio::test]
async fn tables_of_drizzle_in_seconds_and_milliseconds() {
    for (name, unit) in [("seconds", 1), ("milliseconds", 1000)] {
        let (ahead, behind) = ((now() + 3600) * unit, (now() - 10) * unit);
        let sql = format!(
            r#"create table "user" (id text primary key, name text, email text);
            create table session (id text primary key, expires_at integer, token text unique, user_id text);
            insert into "user" values ('u', 'Ann', 'a@x');
            insert into session values ('s1', {ahead}, 't1', 'u'), ('s2', {behind}, 't2', 'u');"#
        );
        let sessions = file(name, &sql).await;
        let rows = sessions.sessions(&["t1"]).await.unwrap();
        assert!((rows[0].remaining_seconds - 3600.0).abs() < 5.0, "{rows:?}");
        assert_eq!((&rows[0].user.role, rows[0].user.banned), (&None, false));
        assert!(sessions.sessions(&["t2"]).await.unwrap()[0].remaining_seconds < 0.0);
    }
}

#[tokio::test]
async fn a_query_decides_on_documents() {
    let sessions = file(
        "documents",
        "create table share (user_id text, document text, access);
        insert into share values ('u', 'a', 'write'), ('u', 'b', 'read'), ('u', 'c', 'viewer'), ('u', 'd', 0), ('u', 'e', 1);",
    )
    .await;
    let query = "select access from share where user_id = $user and document = $document";
    let access = sessions.document_access(query, RoleMap::default());
    let identity = Identity {
        user: "u".into(),
        name: None,
        email: None,
        role: None,
        session: None,
        impersonated_by: None,
        expires: None,
    };
    let (rw, ro) = (Some(Access::ReadWrite), Some(Access::ReadOnly));
    for (document, expected) in [("a", rw), ("b", ro), ("c", ro), ("d", None), ("e", rw), ("f", None)] {
        let document = DocumentName::parse(document).unwrap();
        assert_eq!(access.access(&identity, &document).await.unwrap(), expected, "{document}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_an_error_not_a_denial() {
    let sessions = SqliteSessions::new(Path::new("/nonexistent/x.sqlite"), 1, AuthTables::default());
    assert!(sessions.sessions(&["t"]).await.is_err());
    let sessions = file("empty", "create table unrelated (id text)").await;
    assert!(sessions.sessions(&["t"]).await.is_err());
    // But without the table of the JWT plugin there is simply no key.
    assert_eq!(sessions.fetch().await.unwrap(), "{\"keys\":[]}");
}
