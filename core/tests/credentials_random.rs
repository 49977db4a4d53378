//! Goal: whatever a client sends as cookies, query, headers, tokens or origin, the parsers neither panic nor let
//! anything through that does not have the shape it must have. Method: noise, and texts made of the pieces that
//! matter to each parser. (`server/fuzz` gives the same functions to libFuzzer.)
#![cfg(feature = "better-auth")]
#![allow(clippy::unwrap_used, reason = "a test's helper may panic")]

use fidibus_core::auth::credential::{
    CREDENTIAL_BYTES_MAX, CookieNames, SESSION_TOKEN_BYTES_MAX, Token, cookie_credentials,
    explicit_credential,
};
use fidibus_core::auth::jwt::{JwtIssuer, JwtVerifier};
use fidibus_core::auth::origin::OriginRule;
use fidibus_core::auth::{AuthRequest, Handshake};
use fidibus_core::id::DocumentName;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces that some parser looks for.
const PIECES: [&str; 30] = [
    "better-auth.session_token",
    "__Secure-",
    "=",
    ";",
    "; ",
    "\"",
    "%",
    "%2F",
    "%3D",
    "%ff",
    ".",
    "eyJ",
    "A",
    "abcdefghijklmnopqrstuvwxyz012345",
    "l6QCg/Zk+dTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o=",
    " ",
    "+",
    "token=",
    "access_token=",
    "&",
    "?",
    "Bearer ",
    "bearer",
    "://",
    "https",
    "*",
    "/",
    "draw.example",
    "evil",
    "\u{e4}",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat()), ".{0,80}"]
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    let pairs =
        pairs.iter().filter_map(|(name, text)| Some((name.clone(), HeaderValue::from_str(text).ok()?)));
    pairs.collect()
}

fn is_session_token(text: &str) -> bool {
    let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    legal && (1..=SESSION_TOKEN_BYTES_MAX).contains(&text.len())
}

proptest! {
    #[test]
    fn tokens_have_their_shape(text in text()) {
        match Token::parse(&text) {
            None => {}
            Some(Token::Raw(token)) => prop_assert!(is_session_token(&token)),
            Some(Token::Signed { token, signature }) => {
                prop_assert!(is_session_token(&token) && signature.len() == 44);
                let again = Token::parse(&format!("{token}.{signature}"));
                prop_assert_eq!(again, Some(Token::Signed { token, signature }));
            }
            Some(Token::Jwt(token)) => {
                prop_assert!(token.len() <= CREDENTIAL_BYTES_MAX && token.is_ascii());
                prop_assert_eq!(token.split('.').count(), 3);
            }
        }
    }

    #[test]
    fn cookies_are_of_their_names_only(one in text(), two in text()) {
        let headers = headers(&[(http::header::COOKIE, &one), (http::header::COOKIE, &two)]);
        let values = cookie_credentials(&headers, &CookieNames::with_prefix("better-auth"));
        prop_assert!(values.len() <= 4 && values.iter().all(|value| !value.is_empty()));
        let named = [&one, &two].iter().any(|text| text.contains("session_token"));
        prop_assert!(values.is_empty() || named);
    }

    #[test]
    fn explicit_credentials_are_never_blank(query in text(), bearer in text(), token in proptest::option::of(text())) {
        let uri = format!("/d?{query}").parse().unwrap_or_default();
        let headers = headers(&[(http::header::AUTHORIZATION, &bearer)]);
        let handshake = Handshake { uri, headers, ..Handshake::default() };
        let document = DocumentName::parse("d").unwrap();
        let request = AuthRequest { document: &document, token: token.as_deref(), handshake: &handshake };
        if let Some(credential) = explicit_credential(&request) {
            prop_assert!(!credential.trim().is_empty());
        }
    }

    #[test]
    fn origins_pass_by_host_or_pattern_only(origin in text(), pattern in text(), host in text()) {
        let headers = headers(&[(http::header::ORIGIN, &origin), (http::header::HOST, &host)]);
        let allowed = OriginRule::new([&*pattern]).allows(&headers);
        if !pattern.contains(['*', '?']) && allowed {
            let origin = origin.to_ascii_lowercase();
            let (_, authority) = origin.split_once("://").unwrap();
            let by_host = host.eq_ignore_ascii_case(authority);
            prop_assert!(by_host || pattern.to_ascii_lowercase().contains(authority), "{} {}", origin, pattern);
        }
    }

    #[test]
    fn nothing_made_up_is_a_jwt(text in text()) {
        let verifier = JwtVerifier::new(vec![JwtIssuer::with_secret("a secret")]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert!(runtime.block_on(verifier.verify(&text)).is_err());
    }
}
