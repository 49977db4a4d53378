//! The public keys of an issuer: fetched when they are first needed, kept for a while, fetched again when a
//! token names a key that is not among them, but not as often as somebody can make such tokens up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use tokio::sync::Mutex as Turn;

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

pub(super) struct KeyCache(Arc<Shared>);

struct Shared {
    source: Arc<dyn KeySource>,
    state: Mutex<State>,
    /// Held over a fetch: whoever comes meanwhile wants its result, not a fetch of its own.
    fetching: Arc<Turn<()>>,
}

#[derive(Default)]
struct State {
    keys: Vec<Arc<Jwk>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl KeyCache {
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self(Arc::new(Shared { source, state: Mutex::default(), fetching: Arc::default() }))
    }

    /// The key of an id; of a token without one the only key that there is. A known key waits for nobody, or
    /// tokens with made-up keys would hold up all others.
    ///
    /// # Errors
    /// The keys cannot be fetched, and there are no old ones that would do.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Jwk>>, BoxError> {
        if let Some(fresh) = self.0.lock().find_fresh(id, Instant::now()) {
            return Ok(Some(fresh));
        }
        let turn = Arc::clone(&self.0.fetching).lock_owned().await;
        {
            let (mut state, now) = (self.0.lock(), Instant::now());
            if let Some(known) = state.judge(id, now) {
                return known;
            }
            state.tried = Some(now);
        }
        let shared = Arc::clone(&self.0);
        // A task of its own: the client that asked may go away, and others wait for the same keys.
        let fetching = tokio::spawn(async move {
            let fetched = shared.source.fetch().await.and_then(|text| parse(&text));
            let fetched = fetched.map(|keys| {
                let mut state = shared.lock();
                (state.keys, state.fetched) = (keys, Some(Instant::now()));
            });
            drop(turn);
            fetched
        });
        let fetched = fetching.await?;
        let (state, now) = (self.0.lock(), Instant::now());
        let found = state.find(id);
        match fetched {
            Ok(()) => Ok(found),
            Err(error) if found.is_some() && state.is_usable(now) => {
                tracing::warn!(%error, "The keys for JWTs cannot be fetched; going on with the old ones");
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find_fresh(&self, id: Option<&str>, now: Instant) -> Option<Arc<Jwk>> {
        is_younger(self.fetched, VALID, now).then(|| self.find(id)).flatten()
    }

    fn is_usable(&self, now: Instant) -> bool {
        is_younger(self.fetched, STALE_MAX, now)
    }

    /// What can be said without a fetch, for now; `None`: it takes one.
    fn judge(&self, id: Option<&str>, now: Instant) -> Option<Result<Option<Arc<Jwk>>, BoxError>> {
        if let Some(fresh) = self.find_fresh(id, now) {
            return Some(Ok(Some(fresh)));
        }
        let just_tried = is_younger(self.tried, FETCH_INTERVAL, now);
        just_tried.then(|| match self.is_usable(now) {
            true => Ok(self.find(id)),
            false => Err("the keys could not be fetched a moment ago".into()),
        })
    }

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

fn is_younger(since: Option<Instant>, age: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) < age)
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
    use super::*;

    const ONE: &str = r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","kid":"one","x":"Ou1dZUjW2HpmWyQKyVvOL0oRrhpFUDrUTbVjEBd4y6E"}]}"#;
    const TWO: &str = r#"{"keys":[{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","kid":"two","x":"Ou1dZUjW2HpmWyQKyVvOL0oRrhpFUDrUTbVjEBd4y6E"}]}"#;

    /// Answers with the texts in turn, then fails.
    struct Script(Mutex<Vec<&'static str>>);

    impl KeySource for Script {
        fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
            let next = self.0.lock().unwrap().pop();
            Box::pin(std::future::ready(next.map(str::to_owned).ok_or("gone".into())))
        }
    }

    fn cache(mut texts: Vec<&'static str>) -> KeyCache {
        texts.reverse();
        KeyCache::new(Arc::new(Script(Mutex::new(texts))))
    }

    fn forget_last_try(cache: &KeyCache) {
        cache.0.lock().tried = None;
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
        forget_last_try(&cache);
        assert!(cache.find(Some("two")).await.unwrap().is_some());
        assert!(cache.find(Some("one")).await.unwrap().is_none(), "the old key is gone");
    }

    #[tokio::test]
    async fn old_keys_bridge_an_outage_and_none_is_an_error() {
        let cache = cache(vec![ONE]);
        assert!(cache.find(None).await.unwrap().is_some());
        cache.0.lock().fetched = Instant::now().checked_sub(VALID * 2);
        forget_last_try(&cache);
        assert!(cache.find(Some("one")).await.unwrap().is_some());
        forget_last_try(&cache);
        assert!(cache.find(Some("two")).await.is_err());
        cache.0.lock().fetched = Instant::now().checked_sub(STALE_MAX * 2);
        assert!(cache.find(Some("one")).await.is_err());
    }

    /// Answers the first question at once, and every further one when it is told to.
    struct Slow(Mutex<Option<&'static str>>, Arc<tokio::sync::Notify>);

    impl KeySource for Slow {
        fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
            let first = self.0.lock().unwrap().take();
            Box::pin(async move {
                match first {
                    Some(text) => Ok(text.to_owned()),
                    None => {
                        self.1.notified().await;
                        Ok(TWO.to_owned())
                    }
                }
            })
        }
    }

    #[tokio::test]
    async fn a_known_key_does_not_wait_for_made_up_ones() {
        let gate = Arc::new(tokio::sync::Notify::new());
        let cache = Arc::new(KeyCache::new(Arc::new(Slow(Mutex::new(Some(ONE)), Arc::clone(&gate)))));
        assert!(cache.find(Some("one")).await.unwrap().is_some());
        forget_last_try(&cache);
        let asking = Arc::clone(&cache);
        let asking = tokio::spawn(async move { asking.find(Some("made-up")).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let known = tokio::time::timeout(Duration::from_secs(2), cache.find(Some("one"))).await;
        assert!(known.unwrap().unwrap().is_some());
        gate.notify_one();
        assert!(asking.await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_asks_and_goes_away_does_not_take_the_keys_along() {
        let gate = Arc::new(tokio::sync::Notify::new());
        let cache = KeyCache::new(Arc::new(Slow(Mutex::new(None), Arc::clone(&gate))));
        assert!(tokio::time::timeout(Duration::from_millis(20), cache.find(Some("two"))).await.is_err());
        gate.notify_one();
        assert!(cache.find(Some("two")).await.unwrap().is_some());
    }
}
