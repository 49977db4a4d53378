//! The names of Better Auth's tables, as they go into statements, and the columns that were found in them.

pub(super) use super::spelling::{BAN_EXPIRES, EXPIRES, IMPERSONATED_BY};

/// Better Auth's tables. Each name is quoted already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthTables {
    pub(super) session: String,
    pub(super) user: String,
    pub(super) jwks: String,
}

impl Default for AuthTables {
    fn default() -> Self {
        Self { session: "\"session\"".to_owned(), user: "\"user\"".to_owned(), jwks: "\"jwks\"".to_owned() }
    }
}

impl AuthTables {
    /// Names the table of sessions, as `table` or `schema.table`, in the spelling that it has.
    ///
    /// # Errors
    /// It is no name of a table.
    pub fn with_session(self, name: &str) -> Result<Self, TableNameError> {
        Ok(Self { session: quote(name)?, ..self })
    }

    /// Names the table of users.
    ///
    /// # Errors
    /// As [`Self::with_session`].
    pub fn with_user(self, name: &str) -> Result<Self, TableNameError> {
        Ok(Self { user: quote(name)?, ..self })
    }

    /// Names the table of the JWT plugin's keys.
    ///
    /// # Errors
    /// As [`Self::with_session`].
    pub fn with_jwks(self, name: &str) -> Result<Self, TableNameError> {
        Ok(Self { jwks: quote(name)?, ..self })
    }
}

/// A text that names no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must name a table, as table or schema.table")]
pub struct TableNameError;

fn quote(name: &str) -> Result<String, TableNameError> {
    /// PostgreSQL cuts longer ones, so they would name another table.
    const NAME_BYTES_MAX: usize = 63;
    let parts: Vec<_> = name.split('.').collect();
    let legal = |part: &&str| !part.is_empty() && part.len() <= NAME_BYTES_MAX && !part.contains(['"', '\0']);
    if parts.len() > 2 || !parts.iter().all(legal) {
        return Err(TableNameError);
    }
    Ok(parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join("."))
}

/// The columns of a table by name with their types, as the database calls these.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns(pub(super) Vec<(String, String)>);

impl Columns {
    /// The first of these names that there is, quoted: Drizzle and the built-in adapter spell them differently.
    pub(super) fn find(&self, names: &[&str]) -> Option<String> {
        self.place(names).map(|place| format!("\"{}\"", self.0[place].0))
    }

    /// The type of the first of these names that there is.
    pub(super) fn type_of(&self, names: &[&str]) -> Option<&str> {
        self.place(names).map(|place| &*self.0[place].1)
    }

    fn place(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.0.iter().position(|(column, _)| column == name))
    }
}

/// The key set of an issuer that has no keys.
pub(super) const NO_KEYS: &str = "{\"keys\":[]}";

pub(super) const USER_ID: [&str; 2] = ["user_id", "userId"];
pub(super) const PUBLIC_KEY: [&str; 2] = ["public_key", "publicKey"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("session").as_deref(), Ok("\"session\""));
        assert_eq!(quote("auth.Sessions").as_deref(), Ok("\"auth\".\"Sessions\""));
        for bad in ["", ".", "a.b.c", "a\"; drop table x; --", "a\0", &"x".repeat(64)] {
            assert_eq!(quote(bad), Err(TableNameError), "{bad}");
        }
    }

    #[test]
    fn both_spellings_are_found() {
        let columns = Columns(vec![("userId".to_owned(), "text".to_owned())]);
        assert_eq!(columns.find(&USER_ID).as_deref(), Some("\"userId\""));
        assert_eq!(columns.type_of(&USER_ID), Some("text"));
        assert_eq!(columns.find(&EXPIRES), None);
    }
}
