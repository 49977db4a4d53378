//! Whose pages may open a WebSocket: a list of origins, or all.

use http::HeaderMap;
use http::header::ORIGIN;

/// Which origins may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    /// Empty: all. Lower case, without a slash at the end.
    origins: Vec<String>,
}

impl AllowedOrigins {
    /// Parses origins; `*` among them allows all.
    ///
    /// # Errors
    /// The entry that is no origin.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        if entries.iter().any(|entry| entry == "*") {
            return Ok(Self::default());
        }
        let origins = entries.iter().map(|entry| {
            let origin = entry.trim_end_matches('/').to_ascii_lowercase();
            let host = origin.split_once("://").map(|(_, host)| host);
            let legal =
                host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
            if legal { Ok(origin) } else { Err(entry.clone()) }
        });
        Ok(Self { origins: origins.collect::<Result<_, _>>()? })
    }

    /// Whether a request may become a WebSocket. One without `Origin` is not from a page, and passes.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN).filter(|_| !self.origins.is_empty()) else { return true };
        origin
            .to_str()
            .is_ok_and(|origin| self.origins.iter().any(|known| origin.eq_ignore_ascii_case(known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Result<AllowedOrigins, String> {
        AllowedOrigins::parse(&list.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    fn origin(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, value.parse().unwrap())])
    }

    #[test]
    fn only_listed_pages_pass() {
        let origins = parse(&["https://Draw.example/", "http://localhost:3000"]).unwrap();
        assert!(
            origins.allow(&origin("https://draw.example")) && origins.allow(&origin("http://localhost:3000"))
        );
        assert!(!origins.allow(&origin("http://draw.example")) && !origins.allow(&origin("null")));
        assert!(origins.allow(&HeaderMap::new()));
    }

    #[test]
    fn no_list_allows_all_and_nonsense_is_refused() {
        assert!(parse(&[]).unwrap().allow(&origin("https://evil.example")));
        assert!(parse(&["https://a.example", "*"]).unwrap().allow(&origin("https://evil.example")));
        assert_eq!(parse(&["draw.example"]), Err("draw.example".to_owned()));
        assert_eq!(parse(&["https://a.example/path"]), Err("https://a.example/path".to_owned()));
    }
}
