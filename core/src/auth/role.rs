//! From a user's roles to what may be done with a document.

use std::collections::{HashMap, HashSet};

use super::Access;

/// The permission to open a document, where nothing else is configured.
const VIEW: &str = "diagram:view";
/// The permission to change it.
const EDIT: &str = "diagram:edit";
/// Every permission.
const ALL: &str = "*";

/// Which role has which permissions, and which of these open and change documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMap {
    permissions: HashMap<String, HashSet<String>>,
    /// What a user without a role counts as.
    missing: Option<String>,
    /// What a user with none but unknown roles counts as.
    unknown: Option<String>,
    view: String,
    edit: String,
}

impl Default for RoleMap {
    /// The roles of the first deployment: owner, admin and editor write, viewer reads, nobody's role is
    /// editor's, an unknown one opens nothing.
    fn default() -> Self {
        let table: [(&str, &[&str]); 4] = [
            ("owner", &[ALL]),
            ("admin", &["diagram:create", EDIT, VIEW, "diagram:delete", "diagram:share"]),
            ("editor", &["diagram:create", EDIT, VIEW, "diagram:delete"]),
            ("viewer", &[VIEW]),
        ];
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            permissions: table.iter().map(|(role, words)| ((*role).to_owned(), own(words))).collect(),
            missing: Some("editor".to_owned()),
            unknown: None,
            view: VIEW.to_owned(),
            edit: EDIT.to_owned(),
        }
    }
}

impl RoleMap {
    /// Parses `owner=*;editor=diagram:view,diagram:edit;viewer=diagram:view`.
    ///
    /// # Errors
    /// The entry that is not `role=permission,…`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
        let permissions = entries
            .map(|entry| {
                let (role, words) = entry.split_once('=').ok_or_else(|| entry.to_owned())?;
                let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
                match role.trim() {
                    "" => Err(entry.to_owned()),
                    role => Ok((role.to_owned(), words.map(str::to_owned).collect())),
                }
            })
            .collect::<Result<HashMap<_, _>, _>>()?;
        if permissions.is_empty() {
            Err(text.to_owned())
        } else {
            Ok(Self { permissions, ..Self::default() })
        }
    }

    /// Names the role that users with unknown roles have.
    #[must_use]
    pub fn with_unknown(self, role: Option<String>) -> Self {
        Self { unknown: role, ..self }
    }

    /// Names the permissions that open and change documents.
    #[must_use]
    pub fn with_permissions(self, names: PermissionNames) -> Self {
        Self { view: names.view, edit: names.edit, ..self }
    }

    /// What a user may do by the role column: one role, a comma-separated list, or nothing. `None`: not even
    /// read.
    pub fn access(&self, roles: Option<&str>) -> Option<Access> {
        let listed = || roles.unwrap_or_default().split(',').map(str::trim).filter(|role| !role.is_empty());
        let mut sets: Vec<_> = listed().filter_map(|role| self.permissions.get(role)).collect();
        if sets.is_empty() {
            let stand_in = if listed().next().is_none() { &self.missing } else { &self.unknown };
            sets.extend(stand_in.as_ref().and_then(|role| self.permissions.get(role)));
        }
        let may = |permission: &str| sets.iter().any(|set| holds(set, permission));
        match (may(&self.view), may(&self.edit)) {
            (false, _) => None,
            (true, false) => Some(Access::ReadOnly),
            (true, true) => Some(Access::ReadWrite),
        }
    }
}

/// The permissions that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionNames {
    /// Opens a document.
    pub view: String,
    /// Changes it.
    pub edit: String,
}

impl Default for PermissionNames {
    fn default() -> Self {
        Self { view: VIEW.to_owned(), edit: EDIT.to_owned() }
    }
}

/// Whether a set has a permission, by its name, as `resource:*`, or as `*`.
fn holds(set: &HashSet<String>, permission: &str) -> bool {
    let resource = permission.split_once(':').map(|(resource, _)| format!("{resource}:*"));
    set.contains(ALL) || set.contains(permission) || resource.is_some_and(|all| set.contains(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_of_the_first_deployment() {
        let roles = RoleMap::default();
        let (rw, ro) = (Some(Access::ReadWrite), Some(Access::ReadOnly));
        for (column, access) in [
            (Some("owner"), rw),
            (Some("admin"), rw),
            (Some("editor"), rw),
            (Some("viewer"), ro),
            (Some("viewer, editor"), rw),
            (Some("viewer,guest"), ro),
            (Some("guest"), None),
            (Some("Owner"), None),
            (Some(" , "), rw),
            (Some(""), rw),
            (None, rw),
        ] {
            assert_eq!(roles.access(column), access, "{column:?}");
        }
        assert_eq!(roles.with_unknown(Some("viewer".to_owned())).access(Some("guest")), ro);
    }

    #[test]
    fn maps_are_read() {
        let roles = RoleMap::parse("boss=*; writer = doc:* ;reader=doc:read").unwrap();
        let names = PermissionNames { view: "doc:read".to_owned(), edit: "doc:write".to_owned() };
        let roles = roles.with_permissions(names);
        assert_eq!(roles.access(Some("boss")), Some(Access::ReadWrite));
        assert_eq!(roles.access(Some("writer")), Some(Access::ReadWrite));
        assert_eq!(roles.access(Some("reader")), Some(Access::ReadOnly));
        assert_eq!(roles.access(None), None);
        assert_eq!(RoleMap::parse("a;b=c"), Err("a".to_owned()));
        assert_eq!(RoleMap::parse("=c"), Err("=c".to_owned()));
        assert!(RoleMap::parse(" ; ").is_err());
    }
}
