//! The configuration of a hub: keys by their type or as JSON, and what is made of callbacks.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use fidibus_core::auth::Authenticator;
use serde_json::{Map, Value};

use crate::authenticator::CAuthenticator;
use crate::border::{quietly, run};
use crate::callback::{Env, fidibus_callback, fidibus_finalizer};
use crate::extension::{CExtension, fidibus_extension};
use crate::handle::{self, box_handle, output};
use crate::keys::{Access, KEYS, Key, Values};
use crate::status::{Failure, fidibus_status};
use crate::store::{CStore, fidibus_store};
use crate::text::{self, fidibus_buffer};

/// What a hub is made of. Any number of hubs may be made of one; they do not see later changes.
pub struct fidibus_config {
    _private: [u8; 0],
}

box_handle!(fidibus_config(Config));

/// The parts.
#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) values: Values,
    pub(crate) store: Option<CStore>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) extensions: Vec<CExtension>,
}

/// Makes a configuration with the defaults, which are Hocuspocus' where it has the key. Free it with
/// fidibus_config_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_new(config: *mut *mut fidibus_config) -> fidibus_status {
    run(|| {
        *output(config)? = handle::give_box(Config::default());
        Ok(())
    })
}

/// Frees it.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_free(config: *mut fidibus_config) {
    quietly((), || drop(handle::take_box(config)));
}

/// Sets a number; README.md lists the keys with their units and bounds.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_integer(
    config: *mut fidibus_config,
    key: *const c_char,
    value: u64,
) -> fidibus_status {
    run(|| set(&mut handle::box_mut(config)?.values, text::read(key)?, &Value::from(value)))
}

/// Sets a yes or no.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_boolean(
    config: *mut fidibus_config,
    key: *const c_char,
    value: bool,
) -> fidibus_status {
    run(|| set(&mut handle::box_mut(config)?.values, text::read(key)?, &Value::from(value)))
}

/// Sets a text.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_text(
    config: *mut fidibus_config,
    key: *const c_char,
    value: *const c_char,
) -> fidibus_status {
    run(|| {
        let config = handle::box_mut(config)?;
        set(&mut config.values, text::read(key)?, &Value::from(text::read(value)?))
    })
}

/// Sets all keys of a JSON object, or none of them where one is wrong: {"debounce_ms":1000,"store":"memory:"}.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_json(
    config: *mut fidibus_config,
    json: *const c_char,
) -> fidibus_status {
    run(|| {
        let config = handle::box_mut(config)?;
        let object: Map<String, Value> = serde_json::from_str(text::read(json)?)
            .map_err(|error| Failure::of(fidibus_status::InvalidJson, &error))?;
        let mut values = config.values.clone();
        for (key, value) in &object {
            set(&mut values, key, value)?;
        }
        config.values = values;
        Ok(())
    })
}

/// All keys with their values as a JSON object; passwords in URLs are left out.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_json(
    config: *const fidibus_config,
    json: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (config, out) = (handle::box_ref(config)?, output(json)?);
        let object: Map<String, Value> =
            KEYS.iter().map(|key| (key.name.to_owned(), shown(key, &config.values))).collect();
        *out = Value::from(object).to_string().into();
        Ok(())
    })
}

/// Uses a store made of callbacks, in place of the one that the key "store" names; NULL: that one again.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_store(
    config: *mut fidibus_config,
    store: *const fidibus_store,
) -> fidibus_status {
    run(|| {
        let config = handle::box_mut(config)?;
        let store = if store.is_null() { None } else { Some(handle::box_ref(store)?.clone()) };
        if let Some(store) = &store {
            store.complete()?;
        }
        config.store = store;
        Ok(())
    })
}

/// Has a callback decide who may do what; it gets a reply that may grant. Without one everybody may read and
/// write, unless a hook says no. The finalizer is called when the configuration and its hubs are gone.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_set_authenticator(
    config: *mut fidibus_config,
    callback: fidibus_callback,
    env: *mut c_void,
    finalizer: fidibus_finalizer,
) -> fidibus_status {
    run(|| {
        let config = handle::box_mut(config)?;
        let function = callback.ok_or(fidibus_status::NullPointer)?;
        config.authenticator = Some(Arc::new(CAuthenticator { function, env: Env::new(env, finalizer) }));
        Ok(())
    })
}

/// Adds an extension, with the callbacks that it has now.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_config_add_extension(
    config: *mut fidibus_config,
    extension: *const fidibus_extension,
) -> fidibus_status {
    run(|| {
        let config = handle::box_mut(config)?;
        config.extensions.push(handle::box_ref(extension)?.clone());
        Ok(())
    })
}

fn set(values: &mut Values, name: &str, value: &Value) -> Result<(), Failure> {
    let key = KEYS.iter().find(|key| key.name == name);
    let key = key.ok_or_else(|| Failure::new(fidibus_status::UnknownKey, format!("no key {name:?}")))?;
    let wrong = |expected: &str| {
        Failure::new(fidibus_status::WrongType, format!("{name} is {expected}, and {value} is not"))
    };
    match &key.access {
        Access::Integer { min, max, write, .. } => {
            let number = value.as_u64().ok_or_else(|| wrong("a whole number"))?;
            write(values, within(name, number, *min, *max)?);
        }
        Access::Optional { write, .. } if value.is_null() => write(values, None),
        Access::Optional { min, max, write, .. } => {
            let number = value.as_u64().ok_or_else(|| wrong("a whole number or null"))?;
            write(values, Some(within(name, number, *min, *max)?));
        }
        Access::Boolean { write, .. } => write(values, value.as_bool().ok_or_else(|| wrong("yes or no"))?),
        Access::Text { write, .. } => {
            let text = value.as_str().ok_or_else(|| wrong("text"))?;
            if !write(values, text) {
                let message = format!("{text:?} is not one of the values of {name}");
                return Err(Failure::new(fidibus_status::InvalidArgument, message));
            }
        }
    }
    Ok(())
}

fn within(name: &str, number: u64, min: u64, max: u64) -> Result<u64, Failure> {
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    let message = format!("{name} is {number}, but may be {min} to {max}");
    Err(Failure::new(fidibus_status::OutOfRange, message))
}

fn shown(key: &Key, values: &Values) -> Value {
    match &key.access {
        Access::Integer { read, .. } => read(values).into(),
        Access::Optional { read, .. } => read(values).into(),
        Access::Boolean { read, .. } => read(values).into(),
        Access::Text { read, .. } => without_password(&read(values)).into(),
    }
}

/// A URL whose password is replaced.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:***{}", &rest[user.len()..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("postgres://a:b@c/d?x=y@z"), "postgres://a:***@c/d?x=y@z");
        assert_eq!(without_password("postgres://a@c/d"), "postgres://a@c/d");
        assert_eq!(without_password("sqlite:/a:b@c"), "sqlite:/a:b@c");
    }
}
