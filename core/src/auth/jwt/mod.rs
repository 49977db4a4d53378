//! JSON Web Tokens: those of Better Auth's JWT plugin, and of other issuers by their public keys or a shared
//! secret. A key is used for the algorithm that it is made for, whatever a token says of itself.

mod claims;
mod keys;

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};

pub use claims::{DocumentClaims, JwtSubject};
pub use keys::KeySource;

use crate::error::AuthError;
use claims::Claims;
use keys::KeyCache;

/// Clocks may differ by this much.
const LEEWAY_SECONDS: u64 = 30;

/// One issuer whose tokens count.
pub struct JwtIssuer {
    keys: Keys,
    issuer: Option<String>,
    audiences: Vec<String>,
}

enum Keys {
    /// HS256.
    Shared(DecodingKey),
    Public(KeyCache),
}

impl JwtIssuer {
    /// An issuer that signs with HS256 and a shared secret.
    pub fn with_secret(secret: &str) -> Self {
        Self::new(Keys::Shared(DecodingKey::from_secret(secret.as_bytes())))
    }

    /// An issuer that publishes its keys.
    pub fn with_keys(source: Arc<dyn KeySource>) -> Self {
        Self::new(Keys::Public(KeyCache::new(source)))
    }

    fn new(keys: Keys) -> Self {
        Self { keys, issuer: None, audiences: Vec::new() }
    }

    /// Demands that tokens name this issuer.
    #[must_use]
    pub fn named(self, issuer: Option<String>) -> Self {
        Self { issuer, ..self }
    }

    /// Demands that tokens are made for one of these; none: for anybody.
    #[must_use]
    pub fn for_audiences(self, audiences: Vec<String>) -> Self {
        Self { audiences, ..self }
    }

    async fn verify(&self, token: &str, header: &Header) -> Result<JwtSubject, AuthError> {
        let (key, algorithm) = match &self.keys {
            Keys::Shared(key) => (key.clone(), Algorithm::HS256),
            Keys::Public(cache) => {
                let found = cache.find(header.kid.as_deref()).await.map_err(AuthError::Unavailable)?;
                let key = found.ok_or(AuthError::unauthorized())?;
                let algorithm = algorithm_of(&key, header.alg).ok_or(AuthError::unauthorized())?;
                (DecodingKey::from_jwk(&key).map_err(|_| AuthError::unauthorized())?, algorithm)
            }
        };
        let claims =
            decode::<Claims>(token, &key, &self.validation(algorithm)).map_err(|error| refused(&error))?;
        claims.claims.into_subject().ok_or(AuthError::unauthorized())
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if self.audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&self.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }
}

impl fmt::Debug for JwtIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtIssuer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The algorithm to verify with: that which the key is made for, else that of the token, as long as it is one
/// for public keys: with a public key as the secret of an HMAC everybody could sign.
fn algorithm_of(key: &Jwk, claimed: Algorithm) -> Option<Algorithm> {
    let symmetric = matches!(claimed, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    let made_for = match key.common.key_algorithm {
        None => claimed,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
        Some(other) => other.to_string().parse().ok()?,
    };
    (!symmetric && made_for == claimed).then_some(claimed)
}

fn refused(error: &JwtError) -> AuthError {
    match error.kind() {
        ErrorKind::ExpiredSignature => tracing::debug!("A JWT has expired"),
        kind => tracing::debug!(?kind, "A JWT was refused"),
    }
    AuthError::unauthorized()
}

/// All issuers whose tokens count.
#[derive(Debug, Default)]
pub struct JwtVerifier(Vec<JwtIssuer>);

impl JwtVerifier {
    /// Accepts tokens of any of these issuers.
    pub fn new(issuers: Vec<JwtIssuer>) -> Self {
        Self(issuers)
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// Denied: no issuer has signed it, it has expired, or is for somebody else. Unavailable: keys could not be
    /// fetched, and nobody else has signed it.
    pub async fn verify(&self, token: &str) -> Result<JwtSubject, AuthError> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        let mut failure = AuthError::unauthorized();
        for issuer in &self.0 {
            match issuer.verify(token, &header).await {
                Ok(subject) => return Ok(subject),
                Err(unavailable @ AuthError::Unavailable(_)) => failure = unavailable,
                Err(_) => {}
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests;
