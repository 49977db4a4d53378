//! Lookups that wait together go together: while the source answers some, the next gather, so that a crowd that
//! comes at once (all clients after a restart) costs a few round trips instead of one each. A lookup is only ever
//! part of a question that is asked after it began, so it never sees an older state.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::BoxFuture;
use super::super::identity::{SessionRow, SessionSource, UserRow};
use crate::error::BoxError;

/// Tokens of one question.
const BATCH_TOKENS_MAX: usize = 500;
/// Lookups that wait.
const WAITING_MAX: usize = 100_000;
/// How long one may take, waiting included: as long as a single one of a source.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// A source whose single lookups are gathered.
pub struct GatheredSessions(Arc<Shared>);

struct Shared {
    source: Arc<dyn SessionSource>,
    questions_max: u32,
    lookup_max: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Lookup>,
    /// Tasks that take from the queue, each with one question under way.
    workers: u32,
}

struct Lookup {
    token: Box<str>,
    reply: oneshot::Sender<Answer>,
}

/// An error goes to all who waited for it, so only its text does.
type Answer = Result<Option<SessionRow>, String>;

impl GatheredSessions {
    /// Gathers lookups in `source` while `questions_max` are under way.
    pub fn new(source: Arc<dyn SessionSource>, questions_max: u32) -> Self {
        Self::with_deadline(source, questions_max, LOOKUP_MAX)
    }

    fn with_deadline(source: Arc<dyn SessionSource>, questions_max: u32, lookup_max: Duration) -> Self {
        Self(Arc::new(Shared { source, questions_max, lookup_max, queue: Mutex::default() }))
    }

    async fn find(&self, token: &str) -> Result<Vec<SessionRow>, BoxError> {
        let answer = self.0.ask(token)?;
        let row = tokio::time::timeout(self.0.lookup_max, answer).await???;
        Ok(row.into_iter().collect())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, token: &str) -> Result<oneshot::Receiver<Answer>, BoxError> {
        let (reply, answer) = oneshot::channel();
        let mut queue = self.lock();
        if queue.waiting.len() >= WAITING_MAX {
            return Err("too many lookups wait already".into());
        }
        queue.waiting.push(Lookup { token: token.into(), reply });
        if queue.workers < self.questions_max {
            queue.workers += 1;
            // A task of its own: the client that asked may go away, and others wait for the same question.
            tokio::spawn(Worker { shared: Arc::clone(self), is_counted: true }.run());
        }
        Ok(answer)
    }

    /// Finds several sessions at once and tells each lookup of its own.
    async fn answer(&self, batch: Vec<Lookup>) {
        let mut tokens: Vec<_> = batch.iter().map(|lookup| &*lookup.token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let rows = self.source.sessions(&tokens).await.map_err(|error| error.to_string());
        let rows: Result<HashMap<_, _>, _> =
            rows.map(|rows| rows.into_iter().map(|row| (row.token.clone(), row)).collect());
        for Lookup { token, reply } in batch {
            let answer = rows.as_ref().map(|rows| rows.get(&*token).cloned()).map_err(Clone::clone);
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }
}

/// One that takes from the queue until it is empty. Counted for as long as it lives, also where a source panics: who
/// still waits then is taken along by the next lookup, or gives up in time.
struct Worker {
    shared: Arc<Shared>,
    is_counted: bool,
}

impl Worker {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.shared.answer(batch).await;
        }
    }

    fn next_batch(&mut self) -> Option<Vec<Lookup>> {
        let mut queue = self.shared.lock();
        queue.waiting.retain(|lookup| !lookup.reply.is_closed());
        let count = queue.waiting.len().min(BATCH_TOKENS_MAX);
        if count == 0 {
            // Under the lock of the look: whoever comes now finds that one more may begin.
            queue.workers -= 1;
            self.is_counted = false;
            return None;
        }
        Some(queue.waiting.drain(..count).collect())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_counted {
            self.shared.lock().workers -= 1;
        }
    }
}

impl SessionSource for GatheredSessions {
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
        match tokens {
            [token] => Box::pin(self.find(token)),
            _ => self.0.source.sessions(tokens),
        }
    }

    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
        self.0.source.users(ids)
    }
}

impl fmt::Debug for GatheredSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatheredSessions")
            .field("questions_max", &self.0.questions_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes 20 ms for a question, knows every token but `x`, and remembers how many tokens each question had.
    #[derive(Default)]
    struct Slow(Mutex<Vec<usize>>);

    impl SessionSource for Slow {
        fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
            self.0.lock().unwrap().push(tokens.len());
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(!tokens.contains(&"panic"));
                if tokens.contains(&"broken") {
                    return Err("broken".into());
                }
                let rows = tokens.iter().filter(|token| **token != "x").map(|token| SessionRow {
                    token: (*token).to_owned(),
                    id: Some(format!("id-{token}")),
                    remaining_seconds: 1.0,
                    impersonated_by: None,
                    user: UserRow::default(),
                });
                Ok(rows.collect())
            })
        }

        fn users<'a>(&'a self, _: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    fn gathered() -> (Arc<Slow>, Arc<GatheredSessions>) {
        let slow = Arc::new(Slow::default());
        let source: Arc<dyn SessionSource> = Arc::<Slow>::clone(&slow);
        (slow, Arc::new(GatheredSessions::new(source, 2)))
    }

    #[tokio::test]
    async fn a_crowd_costs_a_few_questions_and_everybody_gets_their_own_row() {
        let (slow, sessions) = gathered();
        let lookups = (0..1000).map(|number| {
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move {
                let token = format!("t{}", number % 700);
                let rows = sessions.sessions(&[&token]).await.unwrap();
                assert_eq!(rows.len(), 1);
                assert_eq!(rows[0].id, Some(format!("id-{token}")));
            })
        });
        for lookup in lookups.collect::<Vec<_>>() {
            lookup.await.unwrap();
        }
        let questions = slow.0.lock().unwrap().clone();
        assert!(
            questions.len() <= 6 && questions.iter().all(|tokens| *tokens <= BATCH_TOKENS_MAX),
            "{questions:?}"
        );
        assert_eq!(sessions.0.lock().workers, 0);
    }

    #[tokio::test]
    async fn unknown_tokens_errors_and_lost_callers_are_told_apart() {
        let (_, sessions) = gathered();
        assert_eq!(sessions.sessions(&["x"]).await.unwrap(), []);
        assert_eq!(sessions.sessions(&["broken"]).await.unwrap_err().to_string(), "broken");
        // Who begins a question and goes away takes nobody along.
        let impatient = tokio::time::timeout(Duration::from_millis(1), sessions.sessions(&["a"])).await;
        assert!(impatient.is_err());
        assert_eq!(sessions.sessions(&["b"]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_source_that_panics_fails_whom_it_answered_and_nobody_else() {
        let (_, sessions) = gathered();
        for _ in 0..5 {
            assert!(sessions.sessions(&["panic"]).await.is_err());
        }
        assert_eq!(sessions.sessions(&["a"]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        struct Silent;
        impl SessionSource for Silent {
            fn sessions<'a>(&'a self, _: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
                Box::pin(std::future::pending())
            }
            fn users<'a>(&'a self, _: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
                Box::pin(std::future::pending())
            }
        }
        let soon = Duration::from_millis(20);
        let sessions = GatheredSessions::with_deadline(Arc::new(Silent), 1, soon);
        let (first, second) = (sessions.sessions(&["a"]), sessions.sessions(&["b"]));
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err() && second.is_err());
    }
}
