//! Better Auth's secondary storage in Redis: a session and its user as one JSON text, by the session's token.
//! Read over one connection that all lookups share; a Redis that is away is an error, never an unknown token.

mod link;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::BoxFuture;
use super::super::identity::{SessionRow, SessionSource, UserRow};
use super::by_json;
use crate::error::BoxError;
use link::Link;

/// Keys of one command: Redis serves nobody else meanwhile.
const KEYS_PER_COMMAND_MAX: usize = 500;

/// Sessions in Redis, users in a database.
pub struct RedisSessions {
    link: Link,
    prefix: String,
    users: Arc<dyn SessionSource>,
}

impl RedisSessions {
    /// Reads from the Redis at a `redis://` or `rediss://` URL, where keys begin with `prefix`. Who has no session
    /// there, but a JWT, is looked up in `users`. Connects at the first lookup.
    ///
    /// # Errors
    /// The URL cannot be read. The error shows nothing of it.
    pub fn new(url: &str, prefix: String, users: Arc<dyn SessionSource>) -> Result<Self, BoxError> {
        Ok(Self { link: Link::new(url)?, prefix, users })
    }

    async fn texts(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, BoxError> {
        let mut texts = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_PER_COMMAND_MAX) {
            texts.extend(self.link.get(keys).await?);
        }
        Ok(texts)
    }

    async fn find(&self, tokens: &[&str]) -> Result<Vec<SessionRow>, BoxError> {
        let keys: Vec<_> = tokens.iter().map(|token| format!("{}{token}", self.prefix)).collect();
        let now = seconds_since_1970();
        let texts = self.texts(&keys).await?;
        let found: Vec<_> = texts.iter().flatten().filter_map(|text| Stored::parse(text, now)).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let revoked = self.revocations(&found).await?;
        let stands = |stored: &Stored| {
            revoked.get(&stored.row.user.id).is_none_or(|before| stored.created_ms >= *before)
        };
        Ok(found.into_iter().filter(stands).map(|stored| stored.row).collect())
    }

    /// Of users whose sessions were all ended, the time before which these were made. Better Auth 1.7 notes it beside
    /// deleting them, since one that is just being refreshed would come back.
    async fn revocations(&self, found: &[Stored]) -> Result<HashMap<String, f64>, BoxError> {
        let users: BTreeSet<_> = found.iter().map(|stored| &*stored.row.user.id).collect();
        let keys: Vec<_> =
            users.iter().map(|user| format!("{}revoked-sessions-before-{user}", self.prefix)).collect();
        let texts = self.texts(&keys).await?;
        let noted = users.into_iter().zip(texts).filter_map(|(user, text)| {
            let before = String::from_utf8(text?).ok()?.trim().parse().ok()?;
            Some((user.to_owned(), before))
        });
        Ok(noted.collect())
    }
}

/// A session as it was stored.
struct Stored {
    row: SessionRow,
    /// In milliseconds since 1970; 0 where it cannot be read, which is before any revocation.
    created_ms: f64,
}

impl Stored {
    /// What cannot be read is no session: Better Auth takes it so as well.
    fn parse(text: &[u8], now: f64) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(text).ok()?;
        let created = value["session"].get("createdAt").and_then(by_json::seconds);
        let row =
            json!({ "s": value.get_mut("session")?.take(), "u": value.get_mut("user")?.take(), "now": now });
        Some(Self {
            row: by_json::session(&row)?,
            // The time has milliseconds, the sum of its parts may lie beside one.
            created_ms: created.map_or(0.0, |seconds| (seconds * 1000.0).round()),
        })
    }
}

fn seconds_since_1970() -> f64 {
    // A clock before 1970 is beyond help, and then everything has expired.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(f64::MAX, |time| time.as_secs_f64())
}

impl SessionSource for RedisSessions {
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
        Box::pin(self.find(tokens))
    }

    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
        self.users.users(ids)
    }
}

impl fmt::Debug for RedisSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisSessions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Better Auth 1.4.18, shortened; it gives such sessions no id.
    const TEXT: &str = r#"{"session":{"ipAddress":"","expiresAt":"2026-11-30T12:35:06.889Z","userId":"u1",
        "token":"zvab","createdAt":"2026-11-23T12:35:06.889Z"},"user":{"name":"Ann","email":"a@x","role":"viewer",
        "banned":false,"id":"u1"}}"#;
    const EXPIRES: f64 = 1_796_042_106.889;

    #[test]
    fn what_better_auth_stored_is_read() {
        let stored = Stored::parse(TEXT.as_bytes(), EXPIRES - 60.0).unwrap();
        assert_eq!((&*stored.row.token, stored.row.id.as_deref()), ("zvab", None));
        assert!((stored.row.remaining_seconds - 60.0).abs() < 0.01);
        assert_eq!((&*stored.row.user.id, stored.row.user.role.as_deref()), ("u1", Some("viewer")));
        assert_eq!(stored.created_ms, (EXPIRES * 1000.0).round() - 7.0 * 86_400_000.0);
        let banned = TEXT.replace("false", "true");
        assert!(Stored::parse(banned.as_bytes(), 0.0).unwrap().row.user.banned);
    }

    #[test]
    fn other_values_are_no_sessions() {
        for text in [
            "",
            "1795437306889",
            "[{\"token\":\"zvab\",\"expiresAt\":1}]",
            "{}",
            "\u{fffd}",
            &TEXT.replace("zvab", "").replace("\"token\"", "\"other\""),
            &TEXT.replace("2026-11-30T12:35:06.889Z", "soon"),
            &TEXT[..TEXT.find(",\"user\"").unwrap()],
        ] {
            assert!(Stored::parse(text.as_bytes(), 0.0).is_none(), "{text}");
        }
        let no_user = r#"{"session":{"expiresAt":"2026-11-30T12:35:06Z","token":"zvab"},"user":null}"#;
        assert!(Stored::parse(no_user.as_bytes(), 0.0).is_none());
    }

    #[test]
    fn a_url_of_no_use_is_refused_and_not_shown() {
        struct Nobody;
        impl SessionSource for Nobody {
            fn sessions<'a>(&'a self, _: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
                Box::pin(std::future::ready(Ok(Vec::new())))
            }
            fn users<'a>(&'a self, _: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
                Box::pin(std::future::ready(Ok(Vec::new())))
            }
        }
        for url in ["postgres://me:hunter2@db/x", "hunter2", "redis://me:hunter2@:x/"] {
            let error = RedisSessions::new(url, String::new(), Arc::new(Nobody)).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let url = "rediss://me:hunter2@127.0.0.1:6379/1";
        let sessions = RedisSessions::new(url, "better-auth:".to_owned(), Arc::new(Nobody)).unwrap();
        assert!(!format!("{sessions:?}").contains("hunter2"));
    }
}
