//! Decides by tokens: login sessions in a database, and JWTs. Finds the credential, proves it, and asks the
//! policy; judges open sessions again in batches.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::better_auth::Secrets;
use super::credential::{CookieNames, Token, cookie_credentials, explicit_credential};
use super::identity::{Identity, SessionRow, SessionSource, UserRow};
use super::jwt::{DocumentClaims, JwtVerifier};
use super::origin::OriginRule;
use super::policy::{AccessPolicy, narrower};
use super::refusals::Refusals;
use super::throttle::ThrottleLimits;
use super::{Access, AuthRequest, Authenticator, BoxFuture, Grant, Login, SECURITY, Standing};
use crate::error::{AuthError, BoxError, CloseReason};
use crate::id::DocumentName;

/// Failed logins of one address: beyond these its tokens are not looked up for a while.
pub const FAILURE_LIMITS: ThrottleLimits = ThrottleLimits {
    hits_max: 30,
    window: Duration::from_secs(60),
    ban: Duration::from_secs(60),
    addresses_max: 10_000,
};

/// How login sessions are found.
#[derive(Clone)]
pub struct LoginSessions {
    /// Where they are.
    pub source: Arc<dyn SessionSource>,
    /// What signed tokens are signed with; `None`: only raw tokens count, and no cookies.
    pub secrets: Option<Secrets>,
    /// The names of their cookies.
    pub cookies: CookieNames,
    /// Whether raw tokens are refused.
    pub signed_only: bool,
}

/// What a [`TokenAuthenticator`] decides by.
pub struct TokenOptions {
    /// Login sessions.
    pub sessions: Option<LoginSessions>,
    /// JWTs; where there are login sessions too, their users must be among those of the sessions' source.
    pub jwt: Option<JwtVerifier>,
    /// What users may do.
    pub policy: AccessPolicy,
    /// Where cookies count from.
    pub origins: OriginRule,
    /// How often open sessions are judged again.
    pub recheck_interval: Duration,
    /// Failed logins of one address.
    pub failures: ThrottleLimits,
}

/// See the module's description.
pub struct TokenAuthenticator {
    sessions: Option<LoginSessions>,
    jwt: Option<JwtVerifier>,
    policy: AccessPolicy,
    origins: OriginRule,
    recheck_interval: Duration,
    refusals: Refusals,
}

/// What a grant was given for, kept with the grant.
#[derive(Debug)]
struct Proof {
    kind: ProofKind,
    documents: DocumentClaims,
}

#[derive(Debug)]
enum ProofKind {
    /// The token of a login session.
    Session(Box<str>),
    /// A JWT's user.
    Jwt(Box<Identity>),
}

struct Proved {
    identity: Identity,
    proof: Proof,
}

impl TokenAuthenticator {
    /// Decides by these.
    pub fn new(options: TokenOptions) -> Self {
        let TokenOptions { sessions, jwt, policy, origins, recheck_interval, failures } = options;
        Self { sessions, jwt, policy, origins, recheck_interval, refusals: Refusals::new(failures) }
    }

    async fn decide(&self, request: &AuthRequest<'_>) -> Result<Grant, AuthError> {
        if !self.policy.allows_name(request.document) {
            return Err(AuthError::forbidden());
        }
        let Proved { identity, proof } = self.prove(request).await?;
        let access = self.access(&identity, &proof, request.document).await?;
        if let Some(administrator) = &identity.impersonated_by {
            tracing::warn!(target: SECURITY, userId = &*identity.user, %administrator, documentName = %request.document, "An administrator acts as another user");
        }
        Ok(grant(&identity, access, Arc::new(login(&identity, proof))))
    }

    async fn access(
        &self,
        identity: &Identity,
        proof: &Proof,
        document: &DocumentName,
    ) -> Result<Access, AuthError> {
        let by_token = proof.documents.access(document).ok_or(AuthError::forbidden())?;
        Ok(narrower(by_token, self.policy.access(identity, document).await?))
    }

    async fn prove(&self, request: &AuthRequest<'_>) -> Result<Proved, AuthError> {
        let ip = request.handshake.client_ip;
        let proved = match explicit_credential(request) {
            Some(text) => match Token::parse(&text) {
                Some(token) => self.prove_token(token, ip).await,
                None => Err(AuthError::unauthorized()),
            },
            None => match self.signed_cookie(request)? {
                // Nothing was tried, so nothing is counted: a page without a login is no attack.
                None => return Err(AuthError::unauthorized()),
                Some(Ok(token)) => self.prove_session(&token).await,
                Some(Err(error)) => Err(error),
            },
        };
        if let (Err(AuthError::Denied { close, .. }), Some(ip)) = (&proved, ip)
            && close.code == CloseReason::UNAUTHORIZED.code
            && self.refusals.failed(ip, Instant::now())
        {
            tracing::warn!(target: SECURITY, clientIp = %ip, "Too many failed logins: tokens from this address are not looked up for a while");
        }
        proved
    }

    /// The token of a cookie with a good signature; `None`: there is no such cookie at all.
    fn signed_cookie(
        &self,
        request: &AuthRequest<'_>,
    ) -> Result<Option<Result<String, AuthError>>, AuthError> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        let headers = &request.handshake.headers;
        let values = cookie_credentials(headers, &sessions.cookies);
        if values.is_empty() {
            return Ok(None);
        }
        if !self.origins.allows(headers) {
            return Err(AuthError::Denied {
                reason: "origin-not-allowed".into(),
                close: CloseReason::new(CloseReason::FORBIDDEN.code, "origin-not-allowed"),
            });
        }
        let verified = values.iter().find_map(|value| match Token::parse(value) {
            Some(Token::Signed { token, signature }) if sessions.verify(&token, &signature) => Some(token),
            _ => None,
        });
        Ok(Some(verified.ok_or(AuthError::unauthorized())))
    }

    async fn prove_token(&self, token: Token, ip: Option<IpAddr>) -> Result<Proved, AuthError> {
        match (token, &self.sessions) {
            (Token::Jwt(token), _) => self.prove_jwt(&token).await,
            (Token::Signed { token, signature }, Some(sessions)) if sessions.verify(&token, &signature) => {
                self.prove_session(&token).await
            }
            // Only raw tokens can be guessed at: a signature proves that the token was once given out.
            (Token::Raw(token), Some(sessions)) if !sessions.signed_only => {
                let now = Instant::now();
                if ip.is_some_and(|ip| self.refusals.is_banned(ip, now)) {
                    return Err(AuthError::Denied {
                        reason: "too-many-attempts".into(),
                        close: CloseReason::TRY_AGAIN_LATER,
                    });
                }
                self.prove_session(&token).await
            }
            _ => Err(AuthError::unauthorized()),
        }
    }

    async fn prove_session(&self, token: &str) -> Result<Proved, AuthError> {
        let sessions = self.sessions.as_ref().ok_or(AuthError::unauthorized())?;
        if self.refusals.is_unknown(token, Instant::now()) {
            return Err(AuthError::unauthorized());
        }
        let rows = sessions.source.sessions(&[token]).await.map_err(AuthError::Unavailable)?;
        let Some(row) = rows.into_iter().find(|row| row.token == token) else {
            self.refusals.remember_unknown(token, Instant::now());
            return Err(AuthError::unauthorized());
        };
        let kind = ProofKind::Session(token.into());
        Ok(Proved {
            identity: session_identity(row)?,
            proof: Proof { kind, documents: DocumentClaims::default() },
        })
    }

    async fn prove_jwt(&self, token: &str) -> Result<Proved, AuthError> {
        let subject = self.jwt.as_ref().ok_or(AuthError::unauthorized())?.verify(token).await?;
        let mut identity = subject.identity;
        let kind = ProofKind::Jwt(Box::new(identity.clone()));
        if let Some(sessions) = &self.sessions {
            let id = Arc::clone(&identity.user);
            let rows = sessions.source.users(&[&id]).await.map_err(AuthError::Unavailable)?;
            identity = user_identity(identity, rows.into_iter().find(|row| row.id == *id))?;
        }
        Ok(Proved { identity, proof: Proof { kind, documents: subject.documents } })
    }

    async fn judge(&self, standing: &[Standing]) -> Result<Vec<Result<Grant, AuthError>>, BoxError> {
        let proofs: Vec<_> = standing.iter().map(|standing| proof_of(&standing.grant)).collect();
        let (mut tokens, mut users) = (Vec::new(), Vec::new());
        for proof in proofs.iter().flatten() {
            match &proof.kind {
                ProofKind::Session(token) => tokens.push(&**token),
                ProofKind::Jwt(identity) => users.push(&*identity.user),
            }
        }
        for list in [&mut tokens, &mut users] {
            list.sort_unstable();
            list.dedup();
        }
        let (mut sessions, mut rows) = (HashMap::new(), HashMap::new());
        if let Some(known) = &self.sessions {
            if !tokens.is_empty() {
                let found = known.source.sessions(&tokens).await?.into_iter();
                sessions = found.map(|row| (row.token.clone(), row)).collect();
            }
            if !users.is_empty() {
                let found = known.source.users(&users).await?.into_iter();
                rows = found.map(|row| (row.id.clone(), row)).collect();
            }
        }
        let mut verdicts = Vec::with_capacity(standing.len());
        for (standing, proof) in standing.iter().zip(proofs) {
            verdicts.push(match proof {
                None => Ok(standing.grant.clone()),
                Some(proof) => self.judge_one(standing, proof, &sessions, &rows).await,
            });
        }
        Ok(verdicts)
    }

    async fn judge_one(
        &self,
        standing: &Standing,
        proof: &Proof,
        sessions: &HashMap<String, SessionRow>,
        users: &HashMap<String, UserRow>,
    ) -> Result<Grant, AuthError> {
        let identity = match &proof.kind {
            ProofKind::Session(token) => {
                let row = sessions.get(&**token).cloned();
                session_identity(row.ok_or(AuthError::unauthorized())?)?
            }
            ProofKind::Jwt(identity) if self.sessions.is_some() => {
                user_identity((**identity).clone(), users.get(&*identity.user).cloned())?
            }
            ProofKind::Jwt(identity) => (**identity).clone(),
        };
        let access = self.access(&identity, proof, &standing.document).await?;
        let expires = identity.expires;
        Ok(Grant { access, expires, ..standing.grant.clone() })
    }
}

impl LoginSessions {
    fn verify(&self, token: &str, signature: &str) -> bool {
        self.secrets.as_ref().is_some_and(|secrets| secrets.verify(token, signature))
    }
}

fn session_identity(row: SessionRow) -> Result<Identity, AuthError> {
    let remaining = Duration::try_from_secs_f64(row.remaining_seconds).unwrap_or_default();
    if remaining.is_zero() {
        return Err(AuthError::unauthorized());
    }
    let identity = Identity {
        user: row.user.id.as_str().into(),
        name: None,
        email: None,
        role: None,
        session: row.id.map(Into::into),
        impersonated_by: row.impersonated_by,
        expires: SystemTime::now().checked_add(remaining),
    };
    user_identity(identity, Some(row.user))
}

/// What the database says of a user counts more than what a token said when it was made.
fn user_identity(identity: Identity, row: Option<UserRow>) -> Result<Identity, AuthError> {
    let row = row.ok_or(AuthError::unauthorized())?;
    if row.banned {
        return Err(AuthError::forbidden());
    }
    Ok(Identity { name: row.name, email: row.email, role: row.role, ..identity })
}

fn login(identity: &Identity, proof: Proof) -> Login {
    Login {
        session: identity.session.as_deref().map(Into::into),
        role: identity.role.as_deref().map(Into::into),
        proof: Box::new(proof),
    }
}

fn grant(identity: &Identity, access: Access, login: Arc<Login>) -> Grant {
    Grant {
        user: Some(Arc::clone(&identity.user)),
        expires: identity.expires,
        login: Some(login),
        ..Grant::anonymous(access)
    }
}

fn proof_of(grant: &Grant) -> Option<&Proof> {
    grant.login.as_ref()?.proof.downcast_ref()
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a AuthRequest<'a>) -> BoxFuture<'a, Result<Grant, AuthError>> {
        Box::pin(self.decide(request))
    }

    fn recheck_interval(&self) -> Option<Duration> {
        Some(self.recheck_interval)
    }

    fn takes_fresh_tokens(&self) -> bool {
        true
    }

    fn recheck<'a>(&'a self, standing: &'a [Standing]) -> BoxFuture<'a, Vec<Result<Grant, AuthError>>> {
        Box::pin(async move {
            self.judge(standing).await.unwrap_or_else(|error| {
                // Said once for the batch; every session gets the same answer.
                tracing::warn!(%error, sessions = standing.len(), "Open sessions cannot be checked again");
                standing.iter().map(|_| Err(AuthError::Unavailable("cannot be checked".into()))).collect()
            })
        })
    }
}

impl fmt::Debug for TokenAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAuthenticator")
            .field("sessions", &self.sessions.is_some())
            .field("jwt", &self.jwt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
