//! Sessions and users as JSON objects: rows of PostgreSQL whose columns are not as expected, and what Better Auth
//! writes to a secondary storage. In the spelling of either adapter.

use serde_json::Value;

use super::super::identity::{SessionRow, UserRow};
use super::spelling::{BAN_EXPIRES, EXPIRES, IMPERSONATED_BY};

pub(super) fn session(row: &Value) -> Option<SessionRow> {
    let session = &row["s"];
    let expires = seconds(first(session, &EXPIRES)?)?;
    Some(SessionRow {
        token: text(&session["token"])?,
        id: text(&session["id"]),
        remaining_seconds: expires - row["now"].as_f64()?,
        impersonated_by: first(session, &IMPERSONATED_BY).and_then(text),
        user: user(row)?,
    })
}

pub(super) fn user(row: &Value) -> Option<UserRow> {
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
    let digits = rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count() + 1);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            let read = seconds(&value).unwrap();
            assert!((read - expected).abs() < 0.001, "{value}: {read}");
        }
        for bad in
            [json!("soon"), json!("2026-13-30T12:35:06"), json!("2026-11-30T12:35:06 noon"), json!(true)]
        {
            assert_eq!(seconds(&bad), None, "{bad}");
        }
    }

    #[test]
    fn rows_through_json_are_read() {
        let row = json!({
            "now": 1000.0,
            "s": {"id": 7, "token": "t", "expiresAt": "1970-01-01T00:17:40", "userId": "u", "impersonatedBy": null},
            "u": {"id": "u", "name": "Ann", "role": "viewer", "banned": true, "banExpires": "1970-01-01T00:16:40Z"}
        });
        let known = session(&row).unwrap();
        assert_eq!((known.id.as_deref(), known.remaining_seconds), (Some("7"), 60.0));
        assert_eq!((known.user.role.as_deref(), known.user.banned), (Some("viewer"), false));
        let mut banned = row.clone();
        banned["u"]["banExpires"] = json!(null);
        assert!(session(&banned).unwrap().user.banned);
        banned["u"]["banExpires"] = json!("sometime");
        assert!(session(&banned).unwrap().user.banned);
        assert_eq!(session(&json!({"now": 1.0, "s": {"id": "1", "token": "t"}, "u": {"id": "u"}})), None);
    }
}
