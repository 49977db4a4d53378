//! The statements: typed ones for tables whose columns are as expected, and one through JSON for all others.

use super::super::tables::{AuthTables, BAN_EXPIRES, Columns, EXPIRES, IMPERSONATED_BY, USER_ID};

/// How sessions and users are asked for. Each statement has one parameter, a list of tokens or ids.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statements {
    /// Columns: those of a user (id, name, email, role, banned), then token, id, remaining seconds, impersonator.
    Typed { sessions: String, users: String },
    /// One column, an object with `s`, `u` and `now`.
    Json { sessions: String, users: String },
}

impl Statements {
    pub(super) fn new(tables: &AuthTables, session: &Columns, user: &Columns) -> Self {
        Self::typed(tables, session, user).unwrap_or_else(|| Self::json(tables))
    }

    fn typed(tables: &AuthTables, session: &Columns, user: &Columns) -> Option<Self> {
        let is_time = |columns: &Columns, names: &[&str]| {
            columns.type_of(names).is_none_or(|kind| kind.starts_with("timestamp"))
        };
        if !is_time(session, &EXPIRES) || !is_time(user, &BAN_EXPIRES) {
            return None;
        }
        if user.type_of(&["banned"]).is_some_and(|kind| kind != "boolean") {
            return None;
        }
        let (expires, user_id) = (session.find(&EXPIRES)?, session.find(&USER_ID)?);
        let id_type = user.type_of(&["id"])?;
        session.find(&["token"])?;
        let text = |columns: &Columns, table: &str, names: &[&str]| match columns.find(names) {
            Some(name) => format!("{table}.{name}::text"),
            None => "null::text".to_owned(),
        };
        let user_columns = format!(
            "u.id::text, {}, {}, {}, {}",
            text(user, "u", &["name"]),
            text(user, "u", &["email"]),
            text(user, "u", &["role"]),
            banned(user)
        );
        let impersonator = text(session, "s", &IMPERSONATED_BY);
        let AuthTables { session: sessions, user: users, .. } = tables;
        // Seconds since 1970 are right for both kinds of timestamps whatever the time zone of the connection:
        // those without a zone hold the time in UTC (requirements.md, finding 4).
        let remaining = format!("(extract(epoch from s.{expires}) - extract(epoch from now()))::float8");
        Some(Self::Typed {
            sessions: format!(
                "select {user_columns}, s.token::text, s.id::text, {remaining}, {impersonator}
                 from {sessions} s join {users} u on u.id = s.{user_id} where s.token = any($1::text[])"
            ),
            users: format!("select {user_columns} from {users} u where u.id = any($1::text[]::{id_type}[])"),
        })
    }

    /// Needs to know no column by its type (requirements.md, 2.2).
    fn json(AuthTables { session, user, .. }: &AuthTables) -> Self {
        let now = "'now', extract(epoch from now())";
        Self::Json {
            sessions: format!(
                "select jsonb_build_object('s', to_jsonb(s), 'u', to_jsonb(u), {now})::text from {session} s
                 join {user} u on u.id::text = coalesce(to_jsonb(s)->>'user_id', to_jsonb(s)->>'userId')
                 where s.token = any($1::text[])"
            ),
            users: format!(
                "select jsonb_build_object('u', to_jsonb(u), {now})::text from {user} u
                 where u.id::text = any($1::text[])"
            ),
        }
    }
}

/// Banned now: without an end, or with one that is to come.
fn banned(user: &Columns) -> String {
    let Some(banned) = user.find(&["banned"]) else { return "false".to_owned() };
    let still = user.find(&BAN_EXPIRES).map_or("true".to_owned(), |expires| {
        format!("(u.{expires} is null or extract(epoch from u.{expires}) > extract(epoch from now()))")
    });
    format!("(coalesce(u.{banned}, false) and {still})")
}

/// Puts parameters in the place of `$user` and `$document`.
pub(super) fn document_query(query: &str) -> String {
    // Cast to text on purpose: without a cast the type is taken from the context, and text could not be bound
    // to a UUID; with it the query can cast on (`$user::uuid`).
    let query = query.trim().trim_end_matches(';');
    let query = query.replace("$document", "$2::text").replace("$user", "$1::text");
    // On a line of its own, since the query may end in a comment.
    format!(
        "select q.answer::text from ({query}
         ) as q(answer)
         where $1::text is not null and $2::text is not null limit 1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(list: &[(&str, &str)]) -> Columns {
        Columns(list.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect())
    }

    #[test]
    fn both_spellings_give_typed_statements_and_odd_types_do_not() {
        const TIME: &str = "timestamp without time zone";
        let tables = AuthTables::default();
        let user = columns(&[("id", "uuid"), ("name", "text"), ("email", "text")]);
        let snake = columns(&[("id", "text"), ("token", "text"), ("expires_at", TIME), ("user_id", "uuid")]);
        let Statements::Typed { sessions, users } = Statements::new(&tables, &snake, &user) else { panic!() };
        assert!(
            sessions.contains("s.\"expires_at\"") && sessions.contains("null::text, false"),
            "{sessions}"
        );
        assert!(users.contains("$1::text[]::uuid[]"), "{users}");
        let number =
            columns(&[("id", "text"), ("token", "text"), ("expiresAt", "bigint"), ("userId", "uuid")]);
        assert!(matches!(Statements::new(&tables, &number, &user), Statements::Json { .. }));
        assert!(matches!(Statements::new(&tables, &columns(&[]), &user), Statements::Json { .. }));
    }
}
