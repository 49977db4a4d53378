//! Whose pages a browser may send cookies from. Browsers attach cookies to WebSocket handshakes of any
//! same-site page, so a cookie proves who the user is, but not that the user wanted this connection.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// The origins from which cookies count, besides the host that is asked itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRule {
    /// Lower case, without a slash at the end; with `*` and `?` as Better Auth's `trustedOrigins`.
    patterns: Vec<String>,
}

impl OriginRule {
    /// Makes a rule of origins (`https://draw.example`), patterns of origins (`https://*.draw.example`) and
    /// patterns of hosts (`*.draw.example`). Of a URL its origin counts.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns.into_iter().map(origin_of).filter(|pattern| !pattern.is_empty());
        Self { patterns: patterns.collect() }
    }

    /// Whether cookies of this request count. Without an `Origin` they do not: every browser sends one with
    /// a WebSocket handshake, and what is no browser can name its token.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else { return false };
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) && is_scheme_of(headers, scheme) {
            return true;
        }
        self.patterns.iter().any(|pattern| {
            let subject = if pattern.contains("://") { &origin } else { authority };
            matches(pattern.as_bytes(), subject.as_bytes())
        })
    }
}

/// Whether a page with this scheme is as trusted as the request, by a proxy's word: whoever sits on the network can
/// make up a page of `http://`, from which some browsers send cookies to `wss://`. Nobody who could forge that word
/// is a browser.
fn is_scheme_of(headers: &HeaderMap, scheme: &str) -> bool {
    let Some(forwarded) = headers.get("x-forwarded-proto") else { return true };
    // The first is the client's own.
    let forwarded = forwarded.to_str().unwrap_or_default().split(',').next().unwrap_or_default().trim();
    let is_secure = forwarded.eq_ignore_ascii_case("https") || forwarded.eq_ignore_ascii_case("wss");
    !is_secure || scheme == "https"
}

fn origin_of(url: &str) -> String {
    let url = url.trim().to_ascii_lowercase();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), &*url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // In a pattern a question mark stands for a character, so only a path ends the authority there.
    let authority = if url.contains('*') { rest.split('/').next().unwrap_or_default() } else { authority };
    if authority.is_empty() { String::new() } else { format!("{scheme}{authority}") }
}

/// Whether a pattern fits: `*` any characters but a slash, `?` one. Linear in both, but for the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') if text[t] != b'/' => {}
            Some(byte) if *byte == text[t] => {}
            _ => match star {
                // The star takes one character more, and what follows it is tried again.
                Some((after, taken)) if text[taken] != b'/' => {
                    star = Some((after, taken + 1));
                    (p, t) = (after, taken + 1);
                    continue;
                }
                _ => return false,
            },
        }
        p += 1;
        t += 1;
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(HOST, "ws.example:3001".parse().unwrap())]);
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn cookies_count_from_known_pages_only() {
        let rule = OriginRule::new([
            "https://Draw.example/app",
            "https://*.trusted.example",
            "*.hosts.example",
            "http://localhost:300?/*",
        ]);
        for (origin, allowed) in [
            ("https://ws.example:3001", true),
            ("https://ws.example", false),
            ("https://draw.example", true),
            ("HTTPS://DRAW.example", true),
            ("http://draw.example", false),
            ("https://draw.example.evil.example", false),
            ("https://a.b.trusted.example", true),
            ("https://trusted.example", false),
            ("https://evil.example/.trusted.example", false),
            ("http://a.hosts.example", true),
            ("http://evilhosts.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(rule.allows(&headers(Some(origin))), allowed, "{origin}");
        }
        assert!(!rule.allows(&headers(None)));
        assert!(!OriginRule::default().allows(&headers(Some("https://draw.example"))));
    }

    #[test]
    fn a_page_without_encryption_is_not_the_own_host_behind_a_proxy_with_it() {
        let rule = OriginRule::default();
        for (forwarded, origin, allowed) in [
            ("https", "https://ws.example:3001", true),
            ("https", "http://ws.example:3001", false),
            ("HTTPS, http", "http://ws.example:3001", false),
            ("wss", "http://ws.example:3001", false),
            ("http", "http://ws.example:3001", true),
        ] {
            let mut headers = headers(Some(origin));
            headers.insert("x-forwarded-proto", forwarded.parse().unwrap());
            assert_eq!(rule.allows(&headers), allowed, "{forwarded} {origin}");
        }
    }

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, text, fits) in [
            ("*", "abc", true),
            ("*", "a/c", false),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a*b*c", "axbxbxc", true),
            ("?", "a", true),
            ("?", "", false),
            ("", "", true),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
