//! What a verified JWT says: who the user is, and which documents the token is good for.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::super::Access;
use super::super::identity::Identity;
use crate::id::DocumentName;

/// Document names in one token that are looked at.
const NAMES_MAX: usize = 1000;
/// The latest time that a token may name, in seconds since 1970: beyond it times overflow.
const SECONDS_MAX: f64 = 1e11;

/// The claims that matter here; Better Auth's JWT has the user's columns beside `sub`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    sub: Option<String>,
    id: Option<String>,
    exp: f64,
    sid: Option<String>,
    jti: Option<String>,
    name: Option<String>,
    email: Option<String>,
    role: Option<Value>,
    roles: Option<Value>,
    #[serde(alias = "readonly")]
    read_only: Option<bool>,
    allowed_document_names: Option<Vec<String>>,
    #[serde(alias = "readonlyDocumentNames")]
    read_only_document_names: Option<Vec<String>>,
}

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSubject {
    /// Whose it is.
    pub identity: Identity,
    /// What it is good for.
    pub documents: DocumentClaims,
}

/// What a token says about documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentClaims {
    read_only: bool,
    allowed: Option<Vec<String>>,
    read_only_names: Option<Vec<String>>,
}

impl DocumentClaims {
    /// What may be done with a document; `None`: nothing. A list of names, even an empty one, excludes all
    /// others; `*` at the end of a name stands for anything.
    pub fn access(&self, document: &DocumentName) -> Option<Access> {
        let listed = |names: &Option<Vec<String>>| {
            names.as_ref().is_some_and(|names| names.iter().any(|name| fits(name, document.as_str())))
        };
        let unrestricted = self.allowed.is_none() && self.read_only_names.is_none();
        if listed(&self.read_only_names) {
            Some(Access::ReadOnly)
        } else if unrestricted || listed(&self.allowed) {
            Some(if self.read_only { Access::ReadOnly } else { Access::ReadWrite })
        } else {
            None
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

impl Claims {
    /// `None`: the token names nobody, or more than may be named.
    pub(super) fn into_subject(self) -> Option<JwtSubject> {
        let user = self.sub.or(self.id).filter(|user| !user.is_empty())?;
        let counts = [&self.allowed_document_names, &self.read_only_document_names];
        if counts.iter().any(|names| names.as_ref().is_some_and(|names| names.len() > NAMES_MAX)) {
            return None;
        }
        if !(0.0..=SECONDS_MAX).contains(&self.exp) {
            return None;
        }
        let identity = Identity {
            user: user.into(),
            name: self.name,
            email: self.email,
            role: self.role.or(self.roles).and_then(roles),
            session: self.sid.or(self.jti).map(Into::into),
            impersonated_by: None,
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.exp)),
        };
        let documents = DocumentClaims {
            read_only: self.read_only.unwrap_or(false),
            allowed: self.allowed_document_names,
            read_only_names: self.read_only_document_names,
        };
        Some(JwtSubject { identity, documents })
    }
}

/// A role, or a list of them, as the role column has it.
fn roles(claim: Value) -> Option<String> {
    match claim {
        Value::String(role) => Some(role),
        Value::Array(roles) => Some(roles.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(claims: Value) -> Option<JwtSubject> {
        serde_json::from_value::<Claims>(claims).ok()?.into_subject()
    }

    fn access(claims: Value, document: &str) -> Option<Access> {
        subject(claims).unwrap().documents.access(&DocumentName::parse(document).unwrap())
    }

    #[test]
    fn claims_of_better_auth_name_the_user() {
        let claims = serde_json::json!({
            "sub": "u1", "id": "u1", "name": "Ann", "email": "a@x", "role": "viewer", "exp": 1_764_000_000, "emailVerified": true
        });
        let identity = subject(claims).unwrap().identity;
        assert_eq!((&*identity.user, identity.role.as_deref()), ("u1", Some("viewer")));
        assert_eq!(identity.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000)));
        let listed = serde_json::json!({"sub": "u", "roles": ["viewer", "editor"], "exp": 1});
        assert_eq!(subject(listed).unwrap().identity.role.as_deref(), Some("viewer,editor"));
        assert_eq!(subject(serde_json::json!({"exp": 1})), None);
        assert_eq!(subject(serde_json::json!({"sub": "", "exp": 1})), None);
        assert_eq!(subject(serde_json::json!({"sub": "u"})), None);
        assert_eq!(subject(serde_json::json!({"sub": "u", "exp": 1e300})), None);
        assert_eq!(subject(serde_json::json!({"sub": "u", "exp": -1})), None);
    }

    #[test]
    fn lists_of_documents_exclude_all_others() {
        let (rw, ro) = (Some(Access::ReadWrite), Some(Access::ReadOnly));
        let lists = serde_json::json!({
            "sub": "u", "exp": 1, "allowedDocumentNames": ["a", "team-*"], "readonlyDocumentNames": ["team-plan", "b"]
        });
        for (document, expected) in
            [("a", rw), ("team-x", rw), ("team-plan", ro), ("b", ro), ("c", None), ("aa", None)]
        {
            assert_eq!(access(lists.clone(), document), expected, "{document}");
        }
        let none = serde_json::json!({"sub": "u", "exp": 1, "allowedDocumentNames": []});
        assert_eq!(access(none, "a"), None);
        assert_eq!(access(serde_json::json!({"sub": "u", "exp": 1}), "a"), rw);
        assert_eq!(access(serde_json::json!({"sub": "u", "exp": 1, "readOnly": true}), "a"), ro);
    }
}
