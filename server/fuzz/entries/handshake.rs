//! Gives everything that is read of a handshake, and of the tokens in it, whatever the fuzzer invents.
//!
//! An input is lines; the first byte of each says what the rest is (see `Given::read`).

use std::future::ready;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fidibus_core::auth::better_auth::{AuthChange, Secrets};
use fidibus_core::auth::credential::{CookieNames, Token, cookie_credentials, explicit_credential};
use fidibus_core::auth::jwt::{JwtIssuer, JwtVerifier, KeySource};
use fidibus_core::auth::origin::OriginRule;
use fidibus_core::auth::policy::{AccessPolicy, parse_access};
use fidibus_core::auth::role::RoleMap;
use fidibus_core::auth::{AuthRequest, BoxFuture, Handshake};
use fidibus_core::error::BoxError;
use fidibus_core::id::DocumentName;
use fidibus_server::origin::AllowedOrigins;
use fidibus_server::peer::{Peer, TrustedProxies};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, header};
use sha2::Sha256;
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "the secret of these tests";

/// One input.
pub fn run(input: &[u8]) {
    let mut given = Given::default();
    for line in input.split(|byte| *byte == b'\n') {
        if let Some((kind, rest)) = line.split_first() {
            given.read(*kind, rest);
        }
    }
    credentials(&given);
    places(&given);
    tokens(&given);
}

#[derive(Default)]
struct Given {
    handshake: Handshake,
    /// Patterns of origins, and networks of proxies.
    patterns: Vec<String>,
    networks: Vec<String>,
    token: Option<String>,
    keys: String,
    claims: String,
    roles: String,
    role: Option<String>,
    document: Option<DocumentName>,
}

impl Given {
    fn read(&mut self, kind: u8, rest: &[u8]) {
        let text = String::from_utf8_lossy(rest).into_owned();
        match kind {
            b'c' => self.header(header::COOKIE, rest),
            b'a' => self.header(header::AUTHORIZATION, rest),
            b'o' => self.header(header::ORIGIN, rest),
            b'h' => self.header(header::HOST, rest),
            b'f' => self.header(HeaderName::from_static("x-forwarded-for"), rest),
            b'i' => self.header(HeaderName::from_static("x-real-ip"), rest),
            b's' => self.header(HeaderName::from_static("x-session-token"), rest),
            b'q' => self.handshake.uri = format!("/d?{text}").parse().unwrap_or_default(),
            b'p' => self.patterns.push(text),
            b'n' => self.networks.push(text),
            b't' => self.token = Some(text),
            b'k' => self.keys = text,
            b'l' => self.claims = text,
            b'm' => self.roles = text,
            b'r' => self.role = Some(text),
            b'd' => self.document = DocumentName::parse(&text).ok(),
            b'g' => drop(AuthChange::parse(&text)),
            b'w' => drop(parse_access(&text)),
            b'x' => {
                if let Ok(secrets) = Secrets::list(&text) {
                    assert!(!secrets.verify("token", "nonsense"));
                }
            }
            _ => {}
        }
    }

    fn header(&mut self, name: HeaderName, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.handshake.headers.append(name, value);
        }
    }
}

/// Whatever is taken for a credential has its shape.
fn credentials(given: &Given) {
    for names in [CookieNames::with_prefix("better-auth"), CookieNames::named("sid")] {
        for value in cookie_credentials(&given.handshake.headers, &names) {
            assert!(!value.is_empty());
            let _ = Token::parse(&value);
        }
    }
    let document = DocumentName::parse("d").expect("a name");
    let request =
        AuthRequest { document: &document, token: given.token.as_deref(), handshake: &given.handshake };
    if let Some(credential) = explicit_credential(&request)
        && let Some(Token::Signed { token, signature }) = Token::parse(&credential)
    {
        assert_eq!(Token::parse(&format!("{token}.{signature}")), Some(Token::Signed { token, signature }));
    }
}

/// Where a client is, and where its page is from.
fn places(given: &Given) {
    let headers = &given.handshake.headers;
    OriginRule::new(given.patterns.iter().map(String::as_str)).allows(headers);
    if let Ok(allowed) = AllowedOrigins::parse(&given.patterns) {
        allowed.allow(headers);
    }
    if let Ok(proxies) = TrustedProxies::parse(&given.networks) {
        let stranger = Peer::Ip([203, 0, 113, 9].into());
        let seen = proxies.client_ip(stranger, headers);
        assert!(!given.networks.is_empty() || seen == Some([203, 0, 113, 9].into()));
        proxies.client_ip(Peer::Unix, headers);
    }
}

/// What an issuer publishes, what a token claims, and what comes of it.
fn tokens(given: &Given) {
    let issuers = vec![
        JwtIssuer::with_secret(SECRET).named(Some("us".to_owned())),
        JwtIssuer::with_secret(SECRET),
        JwtIssuer::with_keys(Arc::new(Published(given.keys.clone()))),
    ];
    let verifier = JwtVerifier::new(issuers);
    if let Some(token) = &given.token {
        assert!(finished(verifier.verify(token)).is_err(), "nobody has signed {token}");
    }
    let name = given.document.clone().unwrap_or_else(|| DocumentName::parse("d").expect("a name"));
    if let Ok(subject) = finished(verifier.verify(&signed(&given.claims))) {
        assert!(!subject.identity.user.is_empty());
        subject.documents.access(&name);
    }
    let policy = AccessPolicy { names: None, ..AccessPolicy::default() };
    assert!(!policy.allows_name(&name) || !name.as_str().split('/').any(|part| part == ".."));
    RoleMap::default().access(given.role.as_deref());
    if let Ok(roles) = RoleMap::parse(&given.roles) {
        roles.access(given.role.as_deref());
    }
}

/// A token whose claims are these, well signed: what its issuer may say is text like any other.
fn signed(claims: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let content = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(content.as_bytes());
    format!("{content}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

struct Published(String);

impl KeySource for Published {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(ready(Ok(self.0.clone())))
    }
}

/// Keys are fetched by a task of their own.
fn finished<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
