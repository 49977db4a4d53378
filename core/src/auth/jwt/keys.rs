//! The public keys of an issuer: fetched when they are first needed, kept for a while, fetched again when a
//! token names a key that is not among them, but not as often as somebody can make such tokens up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use tokio::sync::Mutex;

use super::super::BoxFuture;
use crate::error::BoxError;

/// Keys are taken as they are for this long.
const VALID: Duration = Duration::from_secs(600);
/// While they cannot be fetched, old ones count for this long.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Time between two fetches at least.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Keys of one issuer that are looked at.
const KEYS_MAX: usize = 200;
/// The length of a public key of Ed25519.
const ED25519_BYTES: usize = 32;

/// Where the public keys of an issuer are: a URL, a table.
pub trait KeySource: Send + Sync + 'static {
    /// Fetches them, as the text of a JSON Web Key Set.
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>>;
}

pub(super) struct KeyCache {
    source: Arc<dyn KeySource>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Vec<Arc<Jwk>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl KeyCache {
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self { source, state: Mutex::default() }
    }

    /// The key of an id; of a token without one the only key that there is.
    ///
    /// # Errors
    /// The keys cannot be fetched, and there are no old ones that would do.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Jwk>>, BoxError> {
        // Held over the fetch: whoever comes meanwhile wants its result, not a fetch of its own.
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let age = |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        let found = state.find(id);
        let fresh = age(state.fetched).is_some_and(|age| age < VALID);
        let just_tried = age(state.tried).is_some_and(|age| age < FETCH_INTERVAL);
        let usable = age(state.fetched).is_some_and(|age| age < STALE_MAX);
        if (found.is_some() && fresh) || (just_tried && usable) {
            return Ok(found.filter(|_| usable));
        }
        if just_tried {
            return Err("the keys could not be fetched a moment ago".into());
        }
        state.tried = Some(now);
        match self.source.fetch().await.and_then(|text| parse(&text)) {
            Ok(keys) => {
                state.keys = keys;
                state.fetched = Some(Instant::now());
                Ok(state.find(id))
            }
            Err(error) if usable && found.is_some() => {
                tracing::warn!(%error, "The keys for JWTs cannot be fetched; going on with the old ones");
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }
}

impl State {
    fn find(&self, id: Option<&str>) -> Option<Arc<Jwk>> {
        match id {
            Some(_) => self.keys.iter().find(|key| key.common.key_id.as_deref() == id).cloned(),
            None => match &*self.keys {
                [only] => Some(Arc::clone(only)),
                _ => None,
            },
        }
    }
}

fn parse(text: &str) -> Result<Vec<Arc<Jwk>>, BoxError> {
    let set: JwkSet = serde_json::from_str(text)?;
    Ok(set.keys.into_iter().take(KEYS_MAX).filter(is_whole).map(Arc::new).collect())
}

/// jsonwebtoken 11 panics over a key of Ed25519 that is too short.
fn is_whole(key: &Jwk) -> bool {
    let AlgorithmParameters::OctetKeyPair(parameters) = &key.algorithm else { return true };
    let whole = URL_SAFE_NO_PAD.decode(&parameters.x).is_ok_and(|bytes| bytes.len() == ED25519_BYTES);
    if !whole {
        tracing::warn!(
            key = key.common.key_id.as_deref(),
            "A public key for JWTs has the wrong length and is left out"
        );
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    const ONE: &str = r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","kid":"one","x":"Ou1dZUjW2HpmWyQKyVvOL0oRrhpFUDrUTbVjEBd4y6E"}]}"#;
    const TWO: &str = r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","kid":"two","x":"Ou1dZUjW2HpmWyQKyVvOL0oRrhpFUDrUTbVjEBd4y6E"}]}"#;

    /// Answers with the texts in turn, then fails.
    struct Script(StdMutex<Vec<&'static str>>);

    impl KeySource for Script {
        fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
            let next = self.0.lock().unwrap().pop();
            Box::pin(std::future::ready(next.map(str::to_owned).ok_or("gone".into())))
        }
    }

    fn cache(mut texts: Vec<&'static str>) -> KeyCache {
        texts.reverse();
        KeyCache::new(Arc::new(Script(StdMutex::new(texts))))
    }

    async fn forget_last_try(cache: &KeyCache) {
        cache.state.lock().await.tried = None;
    }

    #[tokio::test]
    async fn keys_of_the_wrong_length_are_left_out() {
        const SHORT: &str =
            r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","kid":"one","x":"Ou1dZUjW2Hpm"}]}"#;
        assert!(cache(vec![SHORT]).find(Some("one")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_unknown_key_is_fetched_for_but_not_too_often() {
        let cache = cache(vec![ONE, TWO]);
        assert!(cache.find(Some("one")).await.unwrap().is_some());
        assert!(cache.find(Some("two")).await.unwrap().is_none(), "fetched again at once");
        forget_last_try(&cache).await;
        assert!(cache.find(Some("two")).await.unwrap().is_some());
        assert!(cache.find(Some("one")).await.unwrap().is_none(), "the old key is gone");
    }

    #[tokio::test]
    async fn old_keys_bridge_an_outage_and_none_is_an_error() {
        let cache = cache(vec![ONE]);
        assert!(cache.find(None).await.unwrap().is_some());
        cache.state.lock().await.fetched = Instant::now().checked_sub(VALID * 2);
        forget_last_try(&cache).await;
        assert!(cache.find(Some("one")).await.unwrap().is_some());
        forget_last_try(&cache).await;
        assert!(cache.find(Some("two")).await.is_err());
        cache.state.lock().await.fetched = Instant::now().checked_sub(STALE_MAX * 2);
        assert!(cache.find(Some("one")).await.is_err());
    }
}
