//! Goal: only a proved credential opens a document, every flaw refuses with the right code, and open sessions
//! are judged by what the source says now. Method: a source in memory that counts how often it is asked.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::super::Handshake;
use super::super::jwt::JwtIssuer;
use super::*;

/// Made by Better Auth 1.4.18 (requirements.md, 2.1).
const SECRET: &str = "0123456789abcdef0123456789abcdef-Secr3t/+";
const TOKEN: &str = "zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLA";
const ENCODED: &str = "zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLA.l6QCg%2FZk%2BdTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o%3D";
const FORGED: &str = "zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLA.m6QCg%2FZk%2BdTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o%3D";

#[derive(Default)]
struct Table {
    rows: Mutex<HashMap<String, SessionRow>>,
    asked: AtomicU32,
    away: AtomicBool,
}

impl Table {
    fn change(&self, change: impl FnOnce(&mut SessionRow)) {
        change(self.rows.lock().unwrap().get_mut(TOKEN).unwrap());
    }
}

impl SessionSource for Table {
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Box::pin(ready(Err("away".into())));
        }
        let rows = self.rows.lock().unwrap();
        Box::pin(ready(Ok(tokens.iter().filter_map(|token| rows.get(*token).cloned()).collect())))
    }

    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
        let rows = self.rows.lock().unwrap();
        let users = rows.values().map(|row| row.user.clone()).filter(|user| ids.contains(&&*user.id));
        Box::pin(ready(Ok(users.collect())))
    }
}

struct Scene {
    table: Arc<Table>,
    authenticator: TokenAuthenticator,
}

fn scene(change: impl FnOnce(&mut TokenOptions)) -> Scene {
    let table = Arc::new(Table::default());
    let row = SessionRow {
        token: TOKEN.to_owned(),
        id: Some("s1".to_owned()),
        remaining_seconds: 3600.0,
        impersonated_by: None,
        user: UserRow { id: "u1".to_owned(), role: Some("editor".to_owned()), ..UserRow::default() },
    };
    table.rows.lock().unwrap().insert(TOKEN.to_owned(), row);
    let source: Arc<dyn SessionSource> = Arc::<Table>::clone(&table);
    let mut options = TokenOptions {
        sessions: Some(LoginSessions {
            source,
            secrets: Some(Secrets::single(SECRET).unwrap()),
            cookies: CookieNames::with_prefix("better-auth"),
            signed_only: false,
        }),
        jwt: Some(JwtVerifier::new(vec![JwtIssuer::with_secret("shared")])),
        policy: AccessPolicy::default(),
        origins: OriginRule::new(["https://draw.example"]),
        recheck_interval: Duration::from_secs(60),
        failures: ThrottleLimits { hits_max: 3, ..FAILURE_LIMITS },
    };
    change(&mut options);
    Scene { table, authenticator: TokenAuthenticator::new(options) }
}

impl Scene {
    async fn ask(
        &self,
        document: &str,
        token: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Grant, AuthError> {
        let mut handshake = Handshake { client_ip: Some([203, 0, 113, 9].into()), ..Handshake::default() };
        for (name, value) in headers {
            handshake.headers.append(*name, value.parse().unwrap());
        }
        let document = DocumentName::parse(document).unwrap();
        self.authenticator
            .authenticate(&AuthRequest { document: &document, token, handshake: &handshake })
            .await
    }

    async fn code(&self, token: Option<&str>, headers: &[(&'static str, &str)]) -> u16 {
        code(self.ask("d", token, headers).await)
    }

    async fn recheck(&self, grant: &Grant) -> Result<Grant, AuthError> {
        let standing = Standing { document: DocumentName::parse("d").unwrap(), grant: grant.clone() };
        self.authenticator.recheck(&[standing]).await.pop().unwrap()
    }
}

/// 0: granted, 1: unavailable, else the close code.
fn code(result: Result<Grant, AuthError>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(AuthError::Denied { close, .. }) => close.code,
        Err(_) => 1,
    }
}

fn jwt(claims: &serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(b"shared");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

fn exp(seconds: u64) -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + seconds
}

#[tokio::test]
async fn every_form_of_a_session_opens() {
    let scene = scene(|_| {});
    let cookie = format!("__Secure-better-auth.session_token={ENCODED}");
    let page = ("origin", "https://draw.example");
    let bearer = format!("Bearer {TOKEN}");
    for (token, headers) in [
        (Some(TOKEN), vec![]),
        (Some(ENCODED), vec![]),
        (Some(""), vec![("cookie", &*cookie), page]),
        (None, vec![("cookie", &*cookie), page]),
        (None, vec![("authorization", &*bearer)]),
        (None, vec![("x-session-token", TOKEN)]),
    ] {
        let grant = scene.ask("d", token, &headers).await.unwrap();
        assert_eq!((grant.user.as_deref(), grant.access), (Some("u1"), Access::ReadWrite), "{headers:?}");
        let login = grant.login.unwrap();
        assert_eq!((login.session.as_deref(), login.role.as_deref()), (Some("s1"), Some("editor")));
        assert!(grant.expires.unwrap() > SystemTime::now() + Duration::from_secs(3500));
    }
}

#[tokio::test]
async fn every_flaw_refuses_without_a_question_to_the_database() {
    let scene = scene(|options| options.failures.hits_max = 1000);
    let forged = format!("better-auth.session_token={FORGED}");
    let raw = format!("better-auth.session_token={TOKEN}");
    let good = format!("better-auth.session_token={ENCODED}");
    let page = ("origin", "https://draw.example");
    assert_eq!(scene.code(None, &[]).await, 4401);
    assert_eq!(scene.code(Some(FORGED), &[]).await, 4401);
    assert_eq!(scene.code(Some("' or 1=1 --"), &[]).await, 4401);
    assert_eq!(scene.code(None, &[("cookie", &forged), page]).await, 4401);
    assert_eq!(scene.code(None, &[("cookie", &raw), page]).await, 4401, "a cookie without a signature");
    assert_eq!(scene.code(None, &[("cookie", &good), ("origin", "https://evil.example")]).await, 4403);
    assert_eq!(scene.code(None, &[("cookie", &good)]).await, 4403, "a cookie from nowhere");
    assert_eq!(code(scene.ask("../../escape", Some(TOKEN), &[]).await), 4403);
    assert_eq!(scene.table.asked.load(Ordering::Relaxed), 0);
    // An explicit token needs no origin, but hides the cookie.
    assert_eq!(scene.code(Some(TOKEN), &[("origin", "https://evil.example")]).await, 0);
    assert_eq!(scene.code(Some(FORGED), &[("cookie", &good), page]).await, 4401);
}

#[tokio::test]
async fn the_row_decides() {
    let scene = scene(|_| {});
    scene.table.change(|row| row.remaining_seconds = -0.5);
    assert_eq!(scene.code(Some(TOKEN), &[]).await, 4401);
    scene.table.change(|row| (row.remaining_seconds, row.user.banned) = (60.0, true));
    assert_eq!(scene.code(Some(TOKEN), &[]).await, 4403);
    scene.table.change(|row| (row.user.banned, row.user.role) = (false, Some("guest".to_owned())));
    assert_eq!(scene.code(Some(TOKEN), &[]).await, 4403);
    scene.table.change(|row| row.user.role = Some("viewer".to_owned()));
    assert_eq!(scene.ask("d", Some(TOKEN), &[]).await.unwrap().access, Access::ReadOnly);
    scene.table.away.store(true, Ordering::Relaxed);
    assert_eq!(scene.code(Some(TOKEN), &[]).await, 1);
}

#[tokio::test]
async fn guesses_do_not_reach_the_database() {
    let scene = scene(|_| {});
    for _ in 0..3 {
        assert_eq!(scene.code(Some("unknown"), &[]).await, 4401);
    }
    assert_eq!(scene.table.asked.load(Ordering::Relaxed), 1, "unknown tokens are remembered");
    assert_eq!(scene.code(Some("another"), &[]).await, 4401);
    assert_eq!(scene.code(Some("a-third"), &[]).await, 1013, "banned");
    assert_eq!(scene.table.asked.load(Ordering::Relaxed), 2);
    // Who holds a signature has not guessed.
    assert_eq!(scene.code(Some(ENCODED), &[]).await, 0);
}

#[tokio::test]
async fn raw_tokens_and_cookies_can_be_switched_off() {
    let signed_only = scene(|options| options.sessions.as_mut().unwrap().signed_only = true);
    assert_eq!(signed_only.code(Some(TOKEN), &[]).await, 4401);
    assert_eq!(signed_only.code(Some(ENCODED), &[]).await, 0);
    let no_secret = scene(|options| options.sessions.as_mut().unwrap().secrets = None);
    assert_eq!(no_secret.code(Some(TOKEN), &[]).await, 0);
    assert_eq!(no_secret.code(Some(ENCODED), &[]).await, 4401);
}

#[tokio::test]
async fn jwts_count_as_far_as_their_user_does() {
    let scene = scene(|_| {});
    let claims =
        serde_json::json!({"sub": "u1", "role": "owner", "exp": exp(60), "readonlyDocumentNames": ["d"]});
    assert_eq!(scene.ask("d", Some(&jwt(&claims)), &[]).await.unwrap().access, Access::ReadOnly);
    assert_eq!(code(scene.ask("e", Some(&jwt(&claims)), &[]).await), 4403);
    let unknown = serde_json::json!({"sub": "u2", "exp": exp(60)});
    assert_eq!(scene.code(Some(&jwt(&unknown)), &[]).await, 4401);
    scene.table.change(|row| row.user.banned = true);
    assert_eq!(scene.code(Some(&jwt(&claims)), &[]).await, 4403);
    let alone = self::scene(|options| options.sessions = None);
    assert_eq!(alone.code(Some(&jwt(&unknown)), &[]).await, 0);
    assert_eq!(alone.code(Some(TOKEN), &[]).await, 4401);
}

#[tokio::test]
async fn open_sessions_are_judged_by_the_present() {
    let scene = scene(|_| {});
    let grant = scene.ask("d", Some(TOKEN), &[]).await.unwrap();
    scene.table.change(|row| row.user.role = Some("viewer".to_owned()));
    assert_eq!(scene.recheck(&grant).await.unwrap().access, Access::ReadOnly);
    scene.table.change(|row| row.remaining_seconds = 7200.0);
    assert!(scene.recheck(&grant).await.unwrap().expires > grant.expires, "extended");
    scene.table.away.store(true, Ordering::Relaxed);
    assert_eq!(code(scene.recheck(&grant).await), 1);
    scene.table.away.store(false, Ordering::Relaxed);
    scene.table.change(|row| row.user.banned = true);
    assert_eq!(code(scene.recheck(&grant).await), 4403);
    scene.table.rows.lock().unwrap().clear();
    assert_eq!(code(scene.recheck(&grant).await), 4401);
}

#[tokio::test]
async fn many_sessions_are_one_question() {
    let scene = scene(|_| {});
    let grant = scene.ask("d", Some(TOKEN), &[]).await.unwrap();
    let standing =
        |name: &str| Standing { document: DocumentName::parse(name).unwrap(), grant: grant.clone() };
    let before = scene.table.asked.load(Ordering::Relaxed);
    let verdicts = scene.authenticator.recheck(&[standing("a"), standing("b"), standing("c")]).await;
    assert!(verdicts.len() == 3 && verdicts.iter().all(Result::is_ok));
    assert_eq!(scene.table.asked.load(Ordering::Relaxed), before + 1);
}
