//! What can be done to open sessions from outside: see, end, and judge them again.

use std::sync::Arc;
use std::time::SystemTime;

use super::directory::Selector;
use super::registry::Command;
use super::{Hub, recheck};
use crate::auth::{Access, Authenticator};
use crate::error::CloseReason;
use crate::id::{DocumentName, SessionKey};

/// A session that was granted to somebody.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Which one.
    pub session: SessionKey,
    /// Its document.
    pub document: DocumentName,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// The id of the login session.
    pub login: Option<Box<str>>,
    /// What it may do.
    pub access: Access,
    /// When it ends by itself.
    pub expires: Option<SystemTime>,
}

impl Hub {
    /// Who decides about sessions.
    pub fn authenticator(&self) -> &Arc<dyn Authenticator> {
        &self.0.authenticator
    }

    /// Open sessions, in no order. Those of nobody, which never end by themselves, are not among them.
    pub fn sessions(&self, whom: &Selector) -> Vec<OpenSession> {
        let cases = self.0.directory.select(whom).into_iter();
        cases
            .map(|case| OpenSession {
                session: case.session,
                document: case.standing.document,
                user: case.standing.grant.user,
                login: case.standing.grant.login.and_then(|login| login.session.clone()),
                access: case.standing.grant.access,
                expires: case.standing.grant.expires,
            })
            .collect()
    }

    /// Ends open sessions; how many of them belong to somebody. Of a document those of nobody end as well.
    pub fn end_sessions(&self, whom: &Selector, reason: CloseReason) -> usize {
        let cases = self.0.directory.select(whom);
        for case in &cases {
            recheck::close(&self.0, case, reason.clone());
        }
        if let Selector::Document(document) = whom
            && let Some(room) = self.0.registry.find(document)
        {
            room.send(Command::CloseSessions(reason));
        }
        cases.len()
    }

    /// Has the authenticator judge open sessions now, and carries out what it says; how many there were.
    pub async fn recheck(&self, whom: &Selector) -> usize {
        recheck::judge(&self.0, self.0.directory.select(whom)).await
    }
}
