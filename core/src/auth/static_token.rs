//! Tokens from the configuration: for tests, tools and closed networks.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use super::{Access, AuthRequest, Authenticator, BoxFuture, Grant};
use crate::error::AuthError;

/// Grants by a fixed list of tokens. A token comes in the Auth message, as `?token=`, or as
/// `Authorization: Bearer`, in this order.
pub struct StaticTokens {
    tokens: Vec<(String, Grant)>,
}

impl StaticTokens {
    /// Parses `token=user:rw,token2=user2:ro,…`. `:rw` may be left out, `=user` too.
    ///
    /// # Errors
    /// The entry that cannot be read, without its token.
    pub fn parse(list: &str) -> Result<Self, StaticTokensError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let tokens = entries
            .enumerate()
            .map(|(index, entry)| Self::parse_entry(entry).ok_or(StaticTokensError::Entry(index + 1)))
            .collect::<Result<Vec<_>, _>>()?;
        if tokens.is_empty() { Err(StaticTokensError::Empty) } else { Ok(Self { tokens }) }
    }

    fn parse_entry(entry: &str) -> Option<(String, Grant)> {
        let (token, rest) = entry.split_once('=').unwrap_or((entry, ""));
        let (user, access) = rest.split_once(':').unwrap_or((rest, "rw"));
        let access = match access {
            "rw" => Access::ReadWrite,
            "ro" => Access::ReadOnly,
            _ => return None,
        };
        let user = (!user.is_empty()).then(|| Arc::from(user));
        (!token.is_empty()).then(|| (token.to_owned(), Grant { user, ..Grant::anonymous(access) }))
    }

    fn find(&self, token: &str) -> Option<&Grant> {
        // Every token is compared in full, so that the time taken tells nothing about a near miss.
        let mut found = None;
        for (known, grant) in &self.tokens {
            let same_length = known.len() == token.len();
            let difference = known.bytes().zip(token.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
            if same_length && difference == 0 {
                found = Some(grant);
            }
        }
        found
    }
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens").field("tokens", &self.tokens.len()).finish()
    }
}

impl Authenticator for StaticTokens {
    fn authenticate<'a>(&'a self, request: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>> {
        let grant = match request.token.filter(|token| !token.is_empty()) {
            Some(token) => self.find(token),
            None => match request.query("token") {
                Some(token) => self.find(&token),
                None => request.bearer().and_then(|token| self.find(token)),
            },
        };
        Box::pin(ready(grant.cloned().ok_or(AuthError::unauthorized())))
    }
}

/// A list of static tokens that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StaticTokensError {
    /// No entry at all.
    #[error("names no token")]
    Empty,
    /// The entry of this number (from 1) is not `token`, `token=user`, or `token=user:rw|ro`.
    #[error("entry {0} is not token=user:rw or token=user:ro")]
    Entry(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let tokens = StaticTokens::parse("a=alice:rw, b=bob:ro,c").unwrap();
        assert_eq!(tokens.find("a").unwrap().access, Access::ReadWrite);
        assert_eq!(tokens.find("b").unwrap().access, Access::ReadOnly);
        assert_eq!(tokens.find("b").unwrap().user.as_deref(), Some("bob"));
        assert_eq!(tokens.find("c").unwrap().user, None);
        assert!(tokens.find("").is_none() && tokens.find("aa").is_none());
    }

    #[test]
    fn bad_lists_are_refused() {
        assert_eq!(StaticTokens::parse(" , ").unwrap_err(), StaticTokensError::Empty);
        assert_eq!(StaticTokens::parse("a,b=c:admin").unwrap_err(), StaticTokensError::Entry(2));
        assert_eq!(StaticTokens::parse("=bob").unwrap_err(), StaticTokensError::Entry(1));
    }
}
