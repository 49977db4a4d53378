//! Who is in: every session that was granted to a user, or for a time. The place to look when a user is to be
//! judged again, disconnected, or has too many sockets. Sessions of nobody are not here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hashbrown::HashMap;
use tokio::sync::Notify;

use crate::auth::{Access, Grant, Login, Standing};
use crate::id::{ConnectionId, DocumentName, SessionKey};

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those of a user.
    User(String),
    /// Those of a login session.
    Login(String),
    /// Those of a document.
    Document(DocumentName),
    /// All of them.
    All,
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Directory {
    inner: Mutex<Inner>,
    /// A session came that ends earlier than all others.
    pub(super) sooner: Notify,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<SessionKey, Entry>,
    users: HashMap<Arc<str>, HashMap<ConnectionId, u32>>,
    expiring: BTreeSet<(SystemTime, SessionKey)>,
}

struct Entry {
    document: DocumentName,
    grant: Grant,
    /// A hook has narrowed the grant: nothing may widen it again.
    narrowed: bool,
}

/// A session that is to be judged again.
pub(super) struct Case {
    pub(super) session: SessionKey,
    pub(super) standing: Standing,
}

/// Keeps a session in the directory.
pub(super) struct Registration {
    directory: Arc<Directory>,
    session: SessionKey,
}

/// A user has as many sockets as a user may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyConnections;

impl Directory {
    /// Enters a session; `None` where there is nothing to know of it.
    pub(super) fn register(
        self: &Arc<Self>,
        session: SessionKey,
        standing: Standing,
        narrowed: bool,
        connections_max: usize,
    ) -> Result<Option<Registration>, TooManyConnections> {
        let Standing { document, grant } = standing;
        if grant.user.is_none() && grant.expires.is_none() && grant.login.is_none() {
            return Ok(None);
        }
        let mut inner = self.lock();
        if let Some(user) = &grant.user {
            let connections = inner.users.entry(Arc::clone(user)).or_default();
            if connections.len() >= connections_max && !connections.contains_key(&session.connection) {
                return Err(TooManyConnections);
            }
            *connections.entry(session.connection).or_default() += 1;
        }
        let sooner = inner.expect(grant.expires, session);
        inner.sessions.insert(session, Entry { document, grant, narrowed });
        drop(inner);
        if sooner {
            self.sooner.notify_one();
        }
        Ok(Some(Registration { directory: Arc::clone(self), session }))
    }

    /// Replaces the grant of a session that was judged by `login`; what it may do from now on, where that is
    /// something else. A session that was granted anew meanwhile keeps what it has.
    pub(super) fn replace(
        &self,
        session: SessionKey,
        login: Option<&Arc<Login>>,
        mut grant: Grant,
    ) -> Option<Access> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let entry = inner.sessions.get_mut(&session)?;
        let same = match (&entry.grant.login, login) {
            (Some(ours), Some(judged)) => Arc::ptr_eq(ours, judged),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return None;
        }
        if entry.narrowed {
            grant.access = Access::ReadOnly;
        }
        let (before, expired) = (entry.grant.access, entry.grant.expires);
        let (after, expires) = (grant.access, grant.expires);
        entry.grant = grant;
        if let Some(expired) = expired {
            inner.expiring.remove(&(expired, session));
        }
        let sooner = inner.expect(expires, session);
        drop(guard);
        if sooner {
            self.sooner.notify_one();
        }
        (before != after).then_some(after)
    }

    /// What a session may do at the most, whatever it is granted anew.
    pub(super) fn is_narrowed(&self, session: SessionKey) -> bool {
        self.lock().sessions.get(&session).is_some_and(|entry| entry.narrowed)
    }

    /// When the next session ends by itself.
    pub(super) fn next_expiry(&self) -> Option<SystemTime> {
        self.lock().expiring.first().map(|(expires, _)| *expires)
    }

    /// Takes the sessions whose time is up. Each is given once: it gets a new time, or is closed.
    pub(super) fn take_expired(&self, now: SystemTime) -> Vec<Case> {
        let mut inner = self.lock();
        let mut expired = Vec::new();
        while let Some((expires, session)) = inner.expiring.first().copied().filter(|(at, _)| *at <= now) {
            inner.expiring.remove(&(expires, session));
            expired.extend(inner.case(session));
        }
        expired
    }

    /// The sessions that are meant.
    pub(super) fn select(&self, whom: &Selector) -> Vec<Case> {
        let inner = self.lock();
        let meant = |entry: &Entry| match whom {
            Selector::User(user) => entry.grant.user.as_deref() == Some(user),
            Selector::Login(id) => {
                let login = entry.grant.login.as_ref().and_then(|login| login.session.as_deref());
                login == Some(id)
            }
            Selector::Document(document) => entry.document == *document,
            Selector::All => true,
        };
        let entries = inner.sessions.iter().filter(|(_, entry)| meant(entry));
        entries.filter_map(|(key, _)| inner.case(*key)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in between can only leave a session that nobody finds; it still ends with its socket.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn case(&self, session: SessionKey) -> Option<Case> {
        let Entry { document, grant, .. } = self.sessions.get(&session)?;
        Some(Case { session, standing: Standing { document: document.clone(), grant: grant.clone() } })
    }

    /// Notes an end; whether it comes before all others.
    fn expect(&mut self, expires: Option<SystemTime>, session: SessionKey) -> bool {
        let Some(expires) = expires else { return false };
        let sooner = self.expiring.first().is_none_or(|(first, _)| expires < *first);
        self.expiring.insert((expires, session));
        sooner
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut guard = self.directory.lock();
        let inner = &mut *guard;
        let Some(Entry { grant, .. }) = inner.sessions.remove(&self.session) else { return };
        if let Some(expires) = grant.expires {
            inner.expiring.remove(&(expires, self.session));
        }
        let Some(user) = grant.user else { return };
        let Some(connections) = inner.users.get_mut(&user) else { return };
        if let Some(sessions) = connections.get_mut(&self.session.connection) {
            *sessions -= 1;
            if *sessions == 0 {
                connections.remove(&self.session.connection);
            }
        }
        if connections.is_empty() {
            inner.users.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(connection: u64, number: u32) -> SessionKey {
        SessionKey { connection: ConnectionId(connection), number }
    }

    fn standing(user: &str, expires: Option<SystemTime>) -> Standing {
        let login = Login { session: Some(format!("login-{user}").into()), role: None, proof: Box::new(()) };
        let grant = Grant {
            user: Some(user.into()),
            expires,
            login: Some(Arc::new(login)),
            ..Grant::anonymous(Access::ReadWrite)
        };
        Standing { document: DocumentName::parse("d").unwrap(), grant }
    }

    fn sessions(cases: Vec<Case>) -> Vec<SessionKey> {
        let mut keys: Vec<_> = cases.into_iter().map(|case| case.session).collect();
        keys.sort();
        keys
    }

    #[test]
    fn sessions_are_found_by_what_they_are() {
        let directory = Arc::new(Directory::default());
        let register = |key, user| directory.register(key, standing(user, None), false, 10).unwrap();
        let held = [register(key(1, 0), "a"), register(key(1, 1), "a"), register(key(2, 0), "b")];
        let select = |whom| sessions(directory.select(&whom));
        assert_eq!(select(Selector::User("a".to_owned())), [key(1, 0), key(1, 1)]);
        assert_eq!(select(Selector::Login("login-b".to_owned())), [key(2, 0)]);
        assert_eq!(select(Selector::Document(DocumentName::parse("d").unwrap())).len(), 3);
        drop(held);
        assert!(select(Selector::All).is_empty());
        let inner = directory.lock();
        assert!(inner.users.is_empty() && inner.sessions.is_empty() && inner.expiring.is_empty());
    }

    #[test]
    fn a_user_has_so_many_sockets_and_any_number_of_documents_on_them() {
        let directory = Arc::new(Directory::default());
        let register = |key, user| directory.register(key, standing(user, None), false, 2);
        let held: Vec<_> = [key(1, 0), key(1, 1), key(2, 0)].map(|key| register(key, "a").unwrap()).into();
        assert!(register(key(3, 0), "a").is_err());
        let others = (register(key(1, 2), "a").unwrap(), register(key(3, 0), "b").unwrap());
        drop(held);
        let again = register(key(3, 1), "a");
        assert!(again.is_ok());
        drop((others, again));
        let anonymous = Standing { grant: Grant::anonymous(Access::ReadWrite), ..standing("x", None) };
        assert!(directory.register(key(9, 0), anonymous, false, 0).unwrap().is_none());
    }

    #[test]
    fn times_run_out_once_and_can_be_extended() {
        let (directory, start) = (Arc::new(Directory::default()), SystemTime::UNIX_EPOCH);
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = standing("a", Some(at(10)));
        let login = one.grant.login.clone();
        let _held = directory.register(key(1, 0), one, false, 10).unwrap();
        let _other = directory.register(key(2, 0), standing("b", Some(at(20))), false, 10).unwrap();
        assert_eq!(directory.next_expiry(), Some(at(10)));
        assert!(directory.take_expired(at(9)).is_empty());
        let mut expired = directory.take_expired(at(10));
        assert!(directory.take_expired(at(10)).is_empty());
        let case = expired.pop().unwrap();
        let grant = Grant { expires: Some(at(15)), ..case.standing.grant };
        assert_eq!(directory.replace(key(1, 0), login.as_ref(), grant), None);
        assert_eq!(directory.next_expiry(), Some(at(15)));
        assert_eq!(sessions(directory.take_expired(at(30))), [key(1, 0), key(2, 0)]);
    }

    #[test]
    fn access_changes_once_is_never_widened_against_a_hook_and_late_verdicts_are_void() {
        let directory = Arc::new(Directory::default());
        let (free, narrowed) = (standing("a", None), standing("a", None));
        let (free_login, narrowed_login) = (free.grant.login.clone(), narrowed.grant.login.clone());
        let read_only = Grant { access: Access::ReadOnly, ..free.grant.clone() };
        let read_write = free.grant.clone();
        let narrow = Grant { access: Access::ReadOnly, ..narrowed.grant.clone() };
        let _free = directory.register(key(1, 0), free, false, 9).unwrap();
        let standing = Standing { grant: narrow.clone(), ..narrowed };
        let _narrowed = directory.register(key(1, 1), standing, true, 9).unwrap();
        let replace = |key, login: &Option<Arc<Login>>, grant| directory.replace(key, login.as_ref(), grant);
        assert_eq!(replace(key(1, 0), &free_login, read_only.clone()), Some(Access::ReadOnly));
        assert_eq!(replace(key(1, 0), &free_login, read_only.clone()), None);
        assert_eq!(replace(key(1, 0), &free_login, read_write.clone()), Some(Access::ReadWrite));
        assert_eq!(replace(key(1, 0), &narrowed_login, read_only), None, "judged by another login");
        let widened = Grant { access: Access::ReadWrite, ..narrow };
        assert_eq!(replace(key(1, 1), &narrowed_login, widened), None);
    }
}
