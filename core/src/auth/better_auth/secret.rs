//! The secrets that Better Auth signs session tokens with, and the check of a signature.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What Better Auth signs with where nobody configured anything: it is public.
const DEFAULT_SECRET: &str = "better-auth-secret-12345678901234567890";

/// One secret or more: the newest first, older ones still accepted while they are rotated out.
#[derive(Clone)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Takes a single secret (`BETTER_AUTH_SECRET`).
    ///
    /// # Errors
    /// It is empty, or the public default.
    pub fn single(secret: &str) -> Result<Self, SecretError> {
        match secret {
            "" => Err(SecretError::Empty),
            DEFAULT_SECRET => Err(SecretError::Default),
            secret => Ok(Self(vec![secret.to_owned()])),
        }
    }

    /// Parses `2:newest,1:older` (`BETTER_AUTH_SECRETS`); the versions may be left out.
    ///
    /// # Errors
    /// As [`Self::single`], for any of them.
    pub fn list(list: &str) -> Result<Self, SecretError> {
        let mut secrets = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let numbered = entry.split_once(':').filter(|(version, _)| version.parse::<u32>().is_ok());
            let secret = numbered.map_or(entry, |(_, secret)| secret);
            secrets.extend(Self::single(secret)?.0);
        }
        if secrets.is_empty() { Err(SecretError::Empty) } else { Ok(Self(secrets)) }
    }

    /// Accepts those of `other` as well.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether one of the secrets has signed the token. The time taken tells nothing about the signature.
    pub fn verify(&self, token: &str, signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        self.0.iter().fold(false, |found, secret| {
            let valid = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).is_ok_and(|mut mac| {
                mac.update(token.as_bytes());
                mac.verify_slice(&signature).is_ok()
            });
            found | valid
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.0.len()).finish()
    }
}

/// A secret of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("is empty")]
    Empty,
    /// It is the one that everybody knows.
    #[error("is the public default of Better Auth, with which everybody can sign")]
    Default,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Better Auth 1.4.18 (requirements.md, 2.1).
    const SECRET: &str = "0123456789abcdef0123456789abcdef-Secr3t/+";
    const TOKEN: &str = "zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLA";
    const SIGNATURE: &str = "l6QCg/Zk+dTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o=";

    #[test]
    fn signatures_of_better_auth_are_known() {
        let secrets = Secrets::single(SECRET).unwrap();
        assert!(secrets.verify(TOKEN, SIGNATURE));
        assert!(!secrets.verify("zvaboWnhtSDuy9sYRi6Y5C9hC2SVAjLB", SIGNATURE));
        assert!(!secrets.verify(TOKEN, "m6QCg/Zk+dTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o="));
        for nonsense in ["", "=", "l6QC", "l6QCg/Zk+dTVMrH3N16szgdcsRvSDH1oXTFiyTxeZ4o", &"A".repeat(44)] {
            assert!(!secrets.verify(TOKEN, nonsense), "{nonsense}");
        }
        assert!(!Secrets::single("another").unwrap().verify(TOKEN, SIGNATURE));
    }

    #[test]
    fn secrets_rotate() {
        let secrets = Secrets::list(&format!("2:newest, 1:{SECRET}")).unwrap();
        assert!(secrets.verify(TOKEN, SIGNATURE));
        assert!(Secrets::list(SECRET).unwrap().verify(TOKEN, SIGNATURE));
        assert!(Secrets::single("x").unwrap().or(Secrets::single(SECRET).unwrap()).verify(TOKEN, SIGNATURE));
        // Only a number in front of a colon is a version.
        assert!(Secrets::list("a:b").unwrap().0 == ["a:b"]);
    }

    #[test]
    fn useless_secrets_are_refused_and_none_is_shown() {
        assert_eq!(Secrets::single("").unwrap_err(), SecretError::Empty);
        assert_eq!(Secrets::list(" , ").unwrap_err(), SecretError::Empty);
        assert_eq!(Secrets::single(DEFAULT_SECRET).unwrap_err(), SecretError::Default);
        assert_eq!(Secrets::list(&format!("2:ok,1:{DEFAULT_SECRET}")).unwrap_err(), SecretError::Default);
        assert!(!format!("{:?}", Secrets::single(SECRET).unwrap()).contains("Secr3t"));
    }
}
