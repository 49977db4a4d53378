//! Gives everything that is read of a handshake whatever libFuzzer invents: cookies, query, tokens, origin,
//! forwarding headers. An input is lines; the first byte of each says what the rest is. To run, in `server/`:
//! `cargo +nightly fuzz run handshake -- -max_len=4096 -timeout=1`
#![no_main]

use fidibus_core::auth::credential::{CookieNames, Token, cookie_credentials, explicit_credential};
use fidibus_core::auth::origin::OriginRule;
use fidibus_core::auth::{AuthRequest, Handshake};
use fidibus_core::id::DocumentName;
use fidibus_server::origin::AllowedOrigins;
use fidibus_server::peer::{Peer, TrustedProxies};
use http::{HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut handshake = Handshake::default();
    let (mut patterns, mut networks, mut token) = (Vec::new(), Vec::new(), None);
    for line in input.split(|byte| *byte == b'\n') {
        let Some((kind, rest)) = line.split_first() else { continue };
        let text = String::from_utf8_lossy(rest);
        let name = match kind % 11 {
            0 => header::COOKIE,
            1 => header::AUTHORIZATION,
            2 => header::ORIGIN,
            3 => header::HOST,
            4 => HeaderName::from_static("x-forwarded-for"),
            5 => HeaderName::from_static("x-real-ip"),
            6 => HeaderName::from_static("x-session-token"),
            7 => {
                handshake.uri = format!("/d?{text}").parse().unwrap_or_default();
                continue;
            }
            8 => {
                patterns.push(text.into_owned());
                continue;
            }
            9 => {
                networks.push(text.into_owned());
                continue;
            }
            _ => {
                token = Some(text.into_owned());
                continue;
            }
        };
        if let Ok(value) = HeaderValue::from_bytes(rest) {
            handshake.headers.append(name, value);
        }
    }
    let headers = &handshake.headers;
    for value in cookie_credentials(headers, &CookieNames::with_prefix("better-auth")) {
        assert!(!value.is_empty());
        let _ = Token::parse(&value);
    }
    let document = DocumentName::parse("d").expect("a name");
    let request = AuthRequest { document: &document, token: token.as_deref(), handshake: &handshake };
    if let Some(credential) = explicit_credential(&request)
        && let Some(Token::Signed { token, signature }) = Token::parse(&credential)
    {
        assert_eq!(Token::parse(&format!("{token}.{signature}")), Some(Token::Signed { token, signature }));
    }
    OriginRule::new(patterns.iter().map(String::as_str)).allows(headers);
    if let Ok(allowed) = AllowedOrigins::parse(&patterns) {
        allowed.allow(headers);
    }
    if let Ok(proxies) = TrustedProxies::parse(&networks) {
        let stranger = Peer::Ip([203, 0, 113, 9].into());
        let seen = proxies.client_ip(stranger, headers);
        assert!(!networks.is_empty() || seen == Some([203, 0, 113, 9].into()));
        proxies.client_ip(Peer::Unix, headers);
    }
});
