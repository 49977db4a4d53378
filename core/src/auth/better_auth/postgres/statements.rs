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
    format!(
        "select q.answer::text from ({query}) as q(answer)
         where $1::text is not null and $2::text is not null limit 1"
    )
}

/// Reads rows of [`Statements::Json`].
pub(super) mod by_json {
    use serde_json::Value;

    use super::super::super::super::identity::{SessionRow, UserRow};
    use super::super::super::tables::{BAN_EXPIRES, EXPIRES, IMPERSONATED_BY};

    pub(in super::super) fn session(row: &Value) -> Option<SessionRow> {
        let session = &row["s"];
        let expires = seconds(first(session, &EXPIRES)?)?;
        Some(SessionRow {
            token: text(&session["token"])?,
            id: text(&session["id"])?,
            remaining_seconds: expires - row["now"].as_f64()?,
            impersonated_by: first(session, &IMPERSONATED_BY).and_then(text),
            user: user(row)?,
        })
    }

    pub(in super::super) fn user(row: &Value) -> Option<UserRow> {
        let user = &row["u"];
        let banned = match &user["banned"] {
            Value::Bool(banned) => *banned,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !matches!(&**text, "" | "0" | "f" | "false"),
            _ => false,
        };
        // An end that cannot be read does not end a ban.
        let over =
            first(user, &BAN_EXPIRES).and_then(seconds).is_some_and(|end| Some(end) <= row["now"].as_f64());
        Some(UserRow {
            id: text(&user["id"])?,
            name: text(&user["name"]),
            email: text(&user["email"]),
            role: text(&user["role"]),
            banned: banned && !over,
        })
    }

    fn first<'a>(object: &'a Value, names: &[&str]) -> Option<&'a Value> {
        names.iter().map(|name| &object[*name]).find(|value| !value.is_null())
    }

    fn text(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Seconds since 1970 of a time: ISO 8601, in UTC where it names no offset; or a number of seconds or, where
    /// that would be thousands of years away, milliseconds.
    pub(super) fn seconds(value: &Value) -> Option<f64> {
        /// The year 5138 in seconds, March 1973 in milliseconds.
        const SECONDS_MAX: f64 = 1e11;
        if let Some(number) = value.as_f64() {
            return Some(if number > SECONDS_MAX { number / 1000.0 } else { number });
        }
        iso8601(value.as_str()?)
    }

    fn iso8601(text: &str) -> Option<f64> {
        if !text.is_ascii() || text.len() < 19 {
            return None;
        }
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let rest = &text[19..];
        let digits =
            rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count() + 1);
        let fraction: f64 = if digits > 1 { format!("0{}", &rest[..digits]).parse().ok()? } else { 0.0 };
        let whole = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(whole as f64 + fraction - offset_seconds(&rest[digits..])?)
    }

    fn offset_seconds(zone: &str) -> Option<f64> {
        let sign = match zone.as_bytes().first() {
            None | Some(b'Z' | b'z') => return Some(0.0),
            Some(b'+') => 1.0,
            Some(b'-') => -1.0,
            Some(_) => return None,
        };
        let digits: String = zone[1..].chars().filter(char::is_ascii_digit).collect();
        let hours: f64 = digits.get(..2)?.parse().ok()?;
        let minutes: f64 = digits.get(2..4).map_or(Some(0.0), |minutes| minutes.parse().ok())?;
        Some(sign * (hours * 3600.0 + minutes * 60.0))
    }

    /// Days since 1970-01-01, by years that start in March (H. Hinnant, "chrono-Compatible Low-Level Date
    /// Algorithms").
    fn days(year: i64, month: i64, day: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn times_are_read_in_all_their_forms() {
        for (value, expected) in [
            (json!("2026-11-30T12:35:06.889"), 1_796_042_106.889),
            (json!("2026-11-30T12:35:06.889Z"), 1_796_042_106.889),
            (json!("2026-11-30 12:35:06+00"), 1_796_042_106.0),
            (json!("2026-11-30T20:35:06+08:00"), 1_796_042_106.0),
            (json!("2026-11-30T07:05:06.5-05:30"), 1_796_042_106.5),
            (json!(1_796_042_106), 1_796_042_106.0),
            (json!(1_796_042_106_889_u64), 1_796_042_106.889),
        ] {
            let seconds = by_json::seconds(&value).unwrap();
            assert!((seconds - expected).abs() < 0.001, "{value}: {seconds}");
        }
        for bad in
            [json!("soon"), json!("2026-13-30T12:35:06"), json!("2026-11-30T12:35:06 noon"), json!(true)]
        {
            assert_eq!(by_json::seconds(&bad), None, "{bad}");
        }
    }

    #[test]
    fn rows_through_json_are_read() {
        let row = json!({
            "now": 1000.0,
            "s": {"id": 7, "token": "t", "expiresAt": "1970-01-01T00:17:40", "userId": "u", "impersonatedBy": null},
            "u": {"id": "u", "name": "Ann", "role": "viewer", "banned": true, "banExpires": "1970-01-01T00:16:40Z"}
        });
        let session = by_json::session(&row).unwrap();
        assert_eq!((&*session.id, session.remaining_seconds), ("7", 60.0));
        assert_eq!((session.user.role.as_deref(), session.user.banned), (Some("viewer"), false));
        let mut banned = row.clone();
        banned["u"]["banExpires"] = json!(null);
        assert!(by_json::session(&banned).unwrap().user.banned);
        banned["u"]["banExpires"] = json!("sometime");
        assert!(by_json::session(&banned).unwrap().user.banned);
        assert_eq!(
            by_json::session(&json!({"now": 1.0, "s": {"id": "1", "token": "t"}, "u": {"id": "u"}})),
            None
        );
    }
}
