//! Judges open sessions again: from time to time, when their time is up, and when somebody asks for it. What
//! the verdicts change goes to the sockets as notes.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use super::Shared;
use super::directory::Case;
use crate::auth::{Access, Grant, SECURITY, Standing};
use crate::error::{AuthError, CloseReason};
use crate::room::Note;

/// Sessions that are judged in one go.
const BATCH_SESSIONS_MAX: usize = 1000;
/// The longest sleep: times of day can be set back and forth meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// The task that judges; it ends with this value.
pub(super) struct Rechecking(JoinHandle<()>);

impl Drop for Rechecking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the task of a hub.
pub(super) fn start(shared: &Arc<Shared>) -> Rechecking {
    let (weak, directory) = (Arc::downgrade(shared), Arc::clone(&shared.directory));
    let interval = shared.authenticator.recheck_interval();
    let clock = Arc::clone(&shared.clock);
    Rechecking(tokio::spawn(async move {
        let mut next_check = interval.map(|interval| Instant::now() + interval);
        loop {
            let expiry =
                directory.next_expiry().map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            let expiry = Instant::now() + expiry.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
            tokio::select! {
                () = clock.timer(next_check.map_or(expiry, |check| check.min(expiry))) => {}
                () = directory.sooner.notified() => continue,
            }
            let Some(shared) = Weak::upgrade(&weak) else { return };
            let due = next_check.is_some_and(|check| check <= Instant::now());
            let expired = directory.take_expired(SystemTime::now());
            if due {
                judge(&shared, directory.select(&super::Selector::All)).await;
                next_check = interval.map(|interval| Instant::now() + interval);
            } else {
                judge(&shared, expired).await;
            }
        }
    }))
}

/// Judges these sessions now; how many there were.
pub(super) async fn judge(shared: &Arc<Shared>, mut cases: Vec<Case>) -> usize {
    let count = cases.len();
    while !cases.is_empty() {
        let batch = cases.split_off(cases.len().saturating_sub(BATCH_SESSIONS_MAX));
        let (sessions, standing): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|case| (case.session, case.standing)).unzip();
        let verdicts = shared.authenticator.recheck(&standing).await;
        for ((session, standing), verdict) in sessions.into_iter().zip(standing).zip(verdicts) {
            carry_out(shared, Case { session, standing }, verdict);
        }
    }
    count
}

fn carry_out(shared: &Shared, case: Case, verdict: Result<Grant, AuthError>) {
    let now = SystemTime::now();
    let is_over = |grant: &Grant| grant.expires.is_some_and(|expires| expires <= now);
    match verdict {
        Ok(grant) if is_over(&grant) => close(shared, &case, CloseReason::UNAUTHORIZED),
        Ok(grant) => change(shared, &case, grant),
        Err(AuthError::Unavailable(_)) if is_over(&case.standing.grant) => {
            // Nobody said that it goes on, nobody said that it does not.
            close(shared, &case, CloseReason::TRY_AGAIN_LATER);
        }
        Err(AuthError::Unavailable(_)) => {}
        Err(AuthError::Denied { close: reason, .. }) => close(shared, &case, reason),
    }
}

fn change(shared: &Shared, Case { session, standing }: &Case, grant: Grant) {
    let Standing { document, grant: judged } = standing;
    let Some(access) = shared.directory.replace(*session, judged.login.as_ref(), grant) else { return };
    shared.metrics.access_changes_total.add(1);
    tracing::info!(target: SECURITY, userId = judged.user.as_deref(), documentName = %document, readOnly = access == Access::ReadOnly, "Access of an open session changed");
    shared.post(session.connection, Note::AccessChanged(*session, access));
}

/// Ends a session because of who it belongs to.
pub(super) fn close(shared: &Shared, Case { session, standing }: &Case, reason: CloseReason) {
    shared.metrics.sessions_revoked_total.add(1);
    tracing::warn!(target: SECURITY, userId = standing.grant.user.as_deref(), documentName = %standing.document, code = reason.code, reason = %reason.reason, "Open session revoked");
    shared.post(session.connection, Note::CloseSession(*session, reason));
}
