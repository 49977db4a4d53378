//! Where a client's credentials stand, and what kind of token they are. Looks at nothing but the text: it
//! asks no database and checks no signature.

use std::borrow::Cow;

use cookie::Cookie;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::AuthRequest;

/// The longest text that is looked at as a credential; a JWT with many claims is the longest there is.
pub const CREDENTIAL_BYTES_MAX: usize = 8192;
/// The longest session token; those of Better Auth have 32 characters.
pub const SESSION_TOKEN_BYTES_MAX: usize = 256;
/// Cookies of one request that are looked at.
const COOKIES_MAX: usize = 200;
/// The length of an HMAC-SHA256 in base64, its padding included.
const SIGNATURE_CHARS: usize = 44;

/// Query parameters that carry a token, in the order in which they count.
const QUERY_NAMES: [&str; 3] = ["token", "access_token", "session_token"];
/// Headers that carry a token, after `Authorization`.
const HEADER_NAMES: [&str; 2] = ["x-session-token", "x-auth-token"];

/// The token that a client named itself, which a foreign page cannot make a browser send: that of the
/// Auth message, else of the query, else of the headers.
pub fn explicit_credential<'a>(request: &'a AuthRequest<'_>) -> Option<Cow<'a, str>> {
    let message = request.token.map(str::trim).filter(|token| !token.is_empty());
    message
        .map(Cow::Borrowed)
        .or_else(|| query_credential(request).map(Cow::Owned))
        .or_else(|| header_credential(request).map(Cow::Borrowed))
}

fn query_credential(request: &AuthRequest<'_>) -> Option<String> {
    let values = QUERY_NAMES.iter().filter_map(|name| request.query(name));
    // A signed token that was put into the URL as it is holds `+`, which a query means as a blank.
    values.map(|value| value.trim().replace(' ', "+")).find(|value| !value.is_empty())
}

fn header_credential<'a>(request: &'a AuthRequest<'_>) -> Option<&'a str> {
    let headers = &request.handshake.headers;
    let named = HEADER_NAMES.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    request.bearer().into_iter().chain(named).map(str::trim).find(|value| !value.is_empty())
}

/// The names under which a session cookie may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames(Vec<String>);

impl CookieNames {
    /// Those of Better Auth with a `cookiePrefix`, the secure one first.
    pub fn with_prefix(prefix: &str) -> Self {
        let plain = [format!("{prefix}.session_token"), format!("{prefix}-session_token")];
        let secure = plain.iter().map(|name| format!("__Secure-{name}"));
        Self(secure.chain(plain.iter().cloned()).collect())
    }

    /// One full name (`advanced.cookies.session_token.name`), also with the prefixes that browsers protect.
    pub fn named(name: &str) -> Self {
        Self(vec![format!("__Secure-{name}"), format!("__Host-{name}"), name.to_owned()])
    }
}

/// The values of a request's session cookies, decoded, in the order of `names`; of each name the first.
pub fn cookie_credentials(headers: &HeaderMap, names: &CookieNames) -> Vec<String> {
    let mut values: Vec<Option<String>> = vec![None; names.0.len()];
    let headers = headers.get_all(http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    for cookie in headers.flat_map(Cookie::split_parse).take(COOKIES_MAX).flatten() {
        let place = names.0.iter().position(|name| name == cookie.name());
        if let Some(place) = place.filter(|place| values[*place].is_none()) {
            values[place] = Some(decode(cookie.value_trimmed()).into_owned());
        }
    }
    values.into_iter().flatten().filter(|value| !value.is_empty()).collect()
}

/// Percent-decodes; what cannot be decoded stays as it is, as in Better Auth.
fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

/// A credential by its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A session's token as it stands in the database.
    Raw(String),
    /// The same with its signature, as cookies have it.
    Signed {
        /// The session's token.
        token: String,
        /// Its HMAC in base64, 44 characters.
        signature: String,
    },
    /// A JSON Web Token.
    Jwt(String),
}

impl Token {
    /// Tells a credential's kind; `None`: no token looks like this, and nobody needs to be asked.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > CREDENTIAL_BYTES_MAX {
            return None;
        }
        let text = if text.contains('%') { decode(text) } else { Cow::Borrowed(text) };
        if let Some((token, signature)) = text.rsplit_once('.')
            && signature.len() == SIGNATURE_CHARS
            && signature.ends_with('=')
        {
            let (token, signature) = (token.to_owned(), signature.to_owned());
            return is_session_token(&token).then_some(Self::Signed { token, signature });
        }
        if text.starts_with("eyJ") && text.split('.').count() == 3 {
            return text.bytes().all(is_jwt_byte).then(|| Self::Jwt(text.into_owned()));
        }
        is_session_token(&text).then(|| Self::Raw(text.into_owned()))
    }
}

fn is_session_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= SESSION_TOKEN_BYTES_MAX && text.bytes().all(legal)
}

fn is_jwt_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::super::Handshake;
    use super::*;
    use crate::id::DocumentName;

    fn explicit(token: Option<&str>, uri: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        let mut handshake = Handshake { uri: uri.parse().unwrap(), ..Handshake::default() };
        for (name, value) in headers {
            handshake.headers.append(*name, value.parse().unwrap());
        }
        let document = DocumentName::parse("d").unwrap();
        let request = AuthRequest { document: &document, token, handshake: &handshake };
        explicit_credential(&request).map(Cow::into_owned)
    }

    #[test]
    fn sources_count_in_their_order() {
        let headers = [("authorization", "bEaReR  h "), ("x-session-token", "s"), ("x-auth-token", "a")];
        let all = "/d?session_token=c&access_token=b&token=a";
        assert_eq!(explicit(Some("m"), all, &headers).as_deref(), Some("m"));
        assert_eq!(explicit(Some(" "), all, &headers).as_deref(), Some("a"));
        assert_eq!(explicit(None, "/d?session_token=c&access_token=b", &headers).as_deref(), Some("b"));
        assert_eq!(explicit(None, "/d?session_token=c&token=", &headers).as_deref(), Some("c"));
        assert_eq!(explicit(None, "/d", &headers).as_deref(), Some("h"));
        assert_eq!(explicit(None, "/d", &headers[1..]).as_deref(), Some("s"));
        assert_eq!(explicit(None, "/d", &headers[2..]).as_deref(), Some("a"));
        assert_eq!(explicit(None, "/d", &[("authorization", "Basic h")]), None);
        assert_eq!(explicit(None, "/d?token=x+y%2Fz%3D", &[]).as_deref(), Some("x+y/z="));
    }

    fn cookies(headers: &[&str], names: &CookieNames) -> Vec<String> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(http::header::COOKIE, value.parse().unwrap());
        }
        cookie_credentials(&map, names)
    }

    #[test]
    fn cookies_are_found_under_all_their_names() {
        let names = CookieNames::with_prefix("better-auth");
        let plain = "a=b; better-auth.session_token=one; better-auth.session_token=two";
        assert_eq!(cookies(&[plain], &names), ["one"]);
        assert_eq!(cookies(&[plain, "__Secure-better-auth.session_token=s"], &names), ["s", "one"]);
        assert_eq!(cookies(&["better-auth.session_token=\"a%2Fb%3D\""], &names), ["a/b="]);
        assert_eq!(cookies(&["better-auth.session_token=%ff"], &names), ["%ff"]);
        assert_eq!(cookies(&["better-auth-session_token=x"], &names), ["x"]);
        assert_eq!(cookies(&["other.session_token=x", "better-auth.session_token="], &names), [""; 0]);
        assert_eq!(cookies(&["app.session_token=x"], &CookieNames::with_prefix("app")), ["x"]);
        assert_eq!(cookies(&["__Host-sid=x"], &CookieNames::named("sid")), ["x"]);
    }

    #[test]
    fn tokens_are_told_apart_by_their_shape() {
        let raw = "zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLA";
        let signature = "l6QCg/Zk+dTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o=";
        let signed = Some(Token::Signed { token: raw.to_owned(), signature: signature.to_owned() });
        assert_eq!(Token::parse(raw), Some(Token::Raw(raw.to_owned())));
        assert_eq!(Token::parse(&format!(" {raw}.{signature} ")), signed);
        let encoded = "l6QCg%2FZk%2BdTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o%3D";
        assert_eq!(Token::parse(&format!("{raw}.{encoded}")), signed);
        assert_eq!(Token::parse("eyJh.eyJz.c2ln"), Some(Token::Jwt("eyJh.eyJz.c2ln".to_owned())));
        for nonsense in ["", " ", "a b", "' or 1=1", "a.b", "ä", &"x".repeat(257), "eyJh.eyJz.c2ln=", "%ff"]
        {
            assert_eq!(Token::parse(nonsense), None, "{nonsense}");
        }
    }
}
