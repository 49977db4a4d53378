//! What a known user may do with a document: the rule for names, the role, and what is asked per document.
//! Every part may only narrow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use regex_lite::Regex;

use super::identity::{DocumentAccess, Identity};
use super::role::RoleMap;
use super::{Access, BoxFuture};
use crate::error::{AuthError, BoxError};
use crate::id::DocumentName;

/// Names that clients may open, where nothing else is configured (requirements.md, R52).
pub const DOCUMENT_PATTERN: &str = "^[a-zA-Z0-9._-]{1,128}$";
/// Answers about documents that are remembered.
const ANSWERS_MAX: usize = 100_000;

/// Decides on users and documents.
#[derive(Clone)]
pub struct AccessPolicy {
    /// Names that may be opened; `None`: all.
    pub names: Option<Regex>,
    /// What roles may do; `None`: everybody who is known may write.
    pub roles: Option<RoleMap>,
    /// What is asked per document; `None`: nothing.
    pub documents: Option<Arc<dyn DocumentAccess>>,
}

impl Default for AccessPolicy {
    fn default() -> Self {
        Self { names: Regex::new(DOCUMENT_PATTERN).ok(), roles: Some(RoleMap::default()), documents: None }
    }
}

impl AccessPolicy {
    /// Whether documents of this name may be opened at all. `..` is refused whatever the pattern says: names
    /// end up in paths of backups and exports.
    pub fn allows_name(&self, document: &DocumentName) -> bool {
        let name = document.as_str();
        let climbs = name.split('/').any(|part| part == "..");
        !climbs && self.names.as_ref().is_none_or(|names| names.is_match(name))
    }

    /// What a user may do with a document.
    ///
    /// # Errors
    /// Denied: nothing. Unavailable: somebody who must be asked does not answer.
    pub async fn access(&self, identity: &Identity, document: &DocumentName) -> Result<Access, AuthError> {
        let by_role =
            self.roles.as_ref().map_or(Some(Access::ReadWrite), |r| r.access(identity.role.as_deref()));
        let by_role = by_role.ok_or(AuthError::forbidden())?;
        let Some(documents) = &self.documents else { return Ok(by_role) };
        match documents.access(identity, document).await {
            Ok(Some(by_document)) => Ok(narrower(by_role, by_document)),
            Ok(None) => Err(AuthError::forbidden()),
            Err(error) => Err(AuthError::Unavailable(error)),
        }
    }
}

/// The lesser of two.
pub fn narrower(one: Access, other: Access) -> Access {
    if one == Access::ReadOnly { one } else { other }
}

/// Remembers answers for a stated time: a changed share shows at the latest then.
pub struct CachedAccess {
    inner: Arc<dyn DocumentAccess>,
    valid: Duration,
    answers: Mutex<HashMap<(Arc<str>, DocumentName), Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    access: Option<Access>,
    since: Instant,
}

impl CachedAccess {
    /// Remembers what `inner` says for as long as `valid`; zero asks every time.
    pub fn new(inner: Arc<dyn DocumentAccess>, valid: Duration) -> Self {
        Self { inner, valid, answers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Arc<str>, DocumentName), Answer>> {
        // The map is whole between any two statements.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, identity: &Identity, document: &DocumentName, answer: Answer) {
        let mut answers = self.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, old| answer.since.saturating_duration_since(old.since) < self.valid);
        }
        if answers.len() < ANSWERS_MAX {
            answers.insert((Arc::clone(&identity.user), document.clone()), answer);
        }
    }
}

impl DocumentAccess for CachedAccess {
    fn access<'a>(
        &'a self,
        identity: &'a Identity,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<Access>, BoxError>> {
        Box::pin(async move {
            let now = Instant::now();
            let key = (Arc::clone(&identity.user), document.clone());
            let known = self.lock().get(&key).copied();
            if let Some(answer) = known.filter(|a| now.saturating_duration_since(a.since) < self.valid) {
                return Ok(answer.access);
            }
            let access = self.inner.access(identity, document).await?;
            self.remember(identity, document, Answer { access, since: now });
            Ok(access)
        })
    }
}

/// Reads a word that an access table or an application answers with. `None`: it is none of these, and may
/// be a role.
pub fn parse_access(word: &str) -> Option<Option<Access>> {
    match word.trim().to_ascii_lowercase().as_str() {
        "rw" | "write" | "edit" | "true" | "t" | "1" => Some(Some(Access::ReadWrite)),
        "ro" | "read" | "view" | "readonly" | "read-only" => Some(Some(Access::ReadOnly)),
        "" | "none" | "deny" | "false" | "f" | "0" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn identity(role: &str) -> Identity {
        Identity {
            user: "u".into(),
            name: None,
            email: None,
            role: Some(role.to_owned()),
            session: None,
            impersonated_by: None,
            expires: None,
        }
    }

    fn name(text: &str) -> DocumentName {
        DocumentName::parse(text).unwrap()
    }

    #[test]
    fn names_of_the_app_pass_and_others_do_not() {
        let policy = AccessPolicy::default();
        for good in ["diagram-123", "team_room.alpha-1", "canvas-a-i-o-room", &"x".repeat(128)] {
            assert!(policy.allows_name(&name(good)), "{good}");
        }
        for bad in ["../../escape", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert!(!policy.allows_name(&name(bad)), "{bad}");
        }
        let open = AccessPolicy { names: None, ..AccessPolicy::default() };
        assert!(open.allows_name(&name("a/b c")) && !open.allows_name(&name("a/../b")));
    }

    struct Counting(Option<Access>, AtomicU32);

    impl DocumentAccess for Counting {
        fn access<'a>(
            &'a self,
            _: &'a Identity,
            _: &'a DocumentName,
        ) -> BoxFuture<'a, Result<Option<Access>, BoxError>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Box::pin(ready(Ok(self.0)))
        }
    }

    #[tokio::test]
    async fn every_part_only_narrows() {
        use Access::{ReadOnly, ReadWrite};
        for (role, by_document, result) in [
            ("editor", Some(ReadWrite), Some(ReadWrite)),
            ("editor", Some(ReadOnly), Some(ReadOnly)),
            ("editor", None, None),
            ("viewer", Some(ReadWrite), Some(ReadOnly)),
            ("guest", Some(ReadWrite), None),
        ] {
            let documents: Arc<dyn DocumentAccess> = Arc::new(Counting(by_document, AtomicU32::new(0)));
            let policy = AccessPolicy { documents: Some(documents), ..AccessPolicy::default() };
            let access = policy.access(&identity(role), &name("d")).await.ok();
            assert_eq!(access, result, "{role} {by_document:?}");
        }
    }

    #[tokio::test]
    async fn answers_are_remembered_per_user_and_document() {
        let inner = Arc::new(Counting(Some(Access::ReadOnly), AtomicU32::new(0)));
        let shared: Arc<dyn DocumentAccess> = Arc::<Counting>::clone(&inner);
        let cached = CachedAccess::new(shared, Duration::from_millis(50));
        for document in ["a", "a", "b", "a"] {
            let access = cached.access(&identity("editor"), &name(document)).await.unwrap();
            assert_eq!(access, Some(Access::ReadOnly));
        }
        assert_eq!(inner.1.load(Ordering::Relaxed), 2);
        std::thread::sleep(Duration::from_millis(60));
        cached.access(&identity("editor"), &name("a")).await.unwrap();
        assert_eq!(inner.1.load(Ordering::Relaxed), 3);
    }
}
