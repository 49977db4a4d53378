//! Goal: only tokens that an issuer has signed for us and that are in time are accepted. Method: tokens made
//! here with keys of every kind, then damaged in one respect each.

use std::time::SystemTime;

use jsonwebtoken::{EncodingKey, encode};
use serde_json::{Value, json};

use super::super::BoxFuture;
use super::*;
use crate::error::BoxError;

/// A key pair of RFC 8037, appendix A.1, as PKCS #8.
const ED25519_PKCS8: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20, 0x9d,
    0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
    0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const ED25519_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

struct Keys(Value);

impl KeySource for Keys {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(std::future::ready(Ok(self.0.to_string())))
    }
}

struct Away;

impl KeySource for Away {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(std::future::ready(Err("away".into())))
    }
}

fn ed25519() -> JwtIssuer {
    let key = json!({"alg": "EdDSA", "crv": "Ed25519", "kty": "OKP", "kid": "k", "x": ED25519_PUBLIC});
    JwtIssuer::with_keys(Arc::new(Keys(json!({"keys": [key]}))))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({"sub": "u", "iss": "https://a", "aud": "https://a", "exp": seconds() + 900});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some("k".to_owned()), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn eddsa(changes: Value) -> String {
    signed(Algorithm::EdDSA, &EncodingKey::from_ed_der(&ED25519_PKCS8), &claims(changes))
}

async fn accepts(issuer: JwtIssuer, token: &str) -> bool {
    match JwtVerifier::new(vec![issuer]).verify(token).await {
        Ok(subject) => {
            assert_eq!(&*subject.identity.user, "u");
            true
        }
        Err(AuthError::Denied { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn strict(issuer: JwtIssuer) -> JwtIssuer {
    issuer.named(Some("https://a".to_owned())).for_audiences(vec!["https://a".to_owned()])
}

#[tokio::test]
async fn tokens_in_order_are_accepted() {
    assert!(accepts(strict(ed25519()), &eddsa(json!({}))).await);
    assert!(accepts(ed25519(), &eddsa(json!({"iss": "https://other"}))).await);
    let secret = EncodingKey::from_secret(b"a shared secret");
    let token = signed(Algorithm::HS256, &secret, &claims(json!({})));
    assert!(accepts(strict(JwtIssuer::with_secret("a shared secret")), &token).await);
}

#[tokio::test]
async fn every_flaw_refuses() {
    for flaw in [
        json!({"exp": seconds() - 120}),
        json!({"nbf": seconds() + 120}),
        json!({"iss": "https://b"}),
        json!({"aud": "https://b"}),
        json!({"sub": null}),
    ] {
        assert!(!accepts(strict(ed25519()), &eddsa(flaw.clone())).await, "{flaw}");
    }
    let token = eddsa(json!({}));
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    assert!(!accepts(ed25519(), &format!("{head}.{other}{}", &signature[1..])).await);
    assert!(!accepts(ed25519(), "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.").await);
    assert!(!accepts(JwtIssuer::with_secret("other"), &token).await);
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    // The classic: HS256 with what everybody can fetch.
    for secret in [ED25519_PUBLIC.as_bytes().to_vec(), ED25519_PKCS8[16..].to_vec()] {
        let token = signed(Algorithm::HS256, &EncodingKey::from_secret(&secret), &claims(json!({})));
        assert!(!accepts(ed25519(), &token).await);
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_is_no_denial_but_another_may_know_the_token() {
    let away = || JwtIssuer::with_keys(Arc::new(Away));
    let token = eddsa(json!({}));
    let verdict = JwtVerifier::new(vec![away()]).verify(&token).await;
    assert!(matches!(verdict, Err(AuthError::Unavailable(_))), "{verdict:?}");
    assert!(JwtVerifier::new(vec![away(), ed25519()]).verify(&token).await.is_ok());
}
