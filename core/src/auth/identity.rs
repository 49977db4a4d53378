//! Who a client is, once its credentials are proved, and the sources that know it.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Access, BoxFuture};
use crate::error::BoxError;
use crate::id::DocumentName;

/// A user, as an authenticator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's id.
    pub user: Arc<str>,
    /// What the user is called.
    pub name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// The role column or claim: one role, or several with commas.
    pub role: Option<String>,
    /// The id of the login session.
    pub session: Option<Arc<str>>,
    /// The administrator who acts as this user.
    pub impersonated_by: Option<String>,
    /// When the credentials end by themselves.
    pub expires: Option<SystemTime>,
}

/// A row of the users' table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRow {
    /// The user's id.
    pub id: String,
    /// What the user is called.
    pub name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// One role, or several with commas; `None` also where there is no such column.
    pub role: Option<String>,
    /// Banned at this moment.
    pub banned: bool,
}

/// A row of the sessions' table with its user.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// The token that it was found by.
    pub token: String,
    /// Its id; Better Auth gives a session none that it keeps in a secondary storage only.
    pub id: Option<String>,
    /// Seconds until it expires, by the database's clock; negative: expired.
    pub remaining_seconds: f64,
    /// The administrator who acts as this user.
    pub impersonated_by: Option<String>,
    /// Whose it is.
    pub user: UserRow,
}

/// Where login sessions and users are looked up. Errors mean that it could not be asked.
pub trait SessionSource: Send + Sync + 'static {
    /// The sessions of these tokens, with their users, in any order. Tokens that nobody has are left out.
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>>;

    /// The users of these ids, in any order. Ids that nobody has are left out.
    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>>;
}

/// Decides on one user and one document, beside roles: a table of shares, a call to the application.
pub trait DocumentAccess: Send + Sync + 'static {
    /// What the user may do with the document; `None`: nothing. An error means that it could not be asked.
    fn access<'a>(
        &'a self,
        identity: &'a Identity,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<Access>, BoxError>>;
}
