//! Awareness states as JSON and back.

use serde_json::{Value, json};

use crate::status::{Failure, fidibus_status};

/// `[{"client":1,"clock":2,"state":{}}]`
pub(crate) fn to_json(states: &[(u64, u64, String)]) -> String {
    let states = states.iter().map(|(client, clock, state)| {
        // A state that is no JSON is somebody else's bug; the hook sees it as text.
        let state = serde_json::from_str(state).unwrap_or_else(|_| Value::from(state.as_str()));
        json!({ "client": client, "clock": clock, "state": state })
    });
    Value::from_iter(states).to_string()
}

/// The same back.
pub(crate) fn from_json(text: &str) -> Result<Vec<(u64, u64, String)>, Failure> {
    let wrong = || Failure::new(fidibus_status::InvalidJson, "not a list of client, clock and state");
    let value: Value =
        serde_json::from_str(text).map_err(|error| Failure::of(fidibus_status::InvalidJson, &error))?;
    let entries = value.as_array().ok_or_else(wrong)?;
    entries
        .iter()
        .map(|entry| {
            let number = |key| entry.get(key).and_then(Value::as_u64).ok_or_else(wrong);
            let state = entry.get("state").ok_or_else(wrong)?.to_string();
            Ok((number("client")?, number("clock")?, state))
        })
        .collect()
}
