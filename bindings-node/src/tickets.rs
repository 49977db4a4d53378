//! Questions to JavaScript that are open. A question whose asker is gone is forgotten; one that JavaScript will
//! never answer, since its environment ended, is answered with a refusal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fidibus_core::error::CloseReason;
use fidibus_core::hooks::Rejection;
use tokio::sync::oneshot;

/// What JavaScript says.
#[derive(Debug)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Go on, read only.
    ReadOnly,
    /// Go on with this content of a document.
    Updates(Vec<Vec<u8>>),
    /// Go on with these awareness states.
    States(Vec<(u64, u64, String)>),
    /// No.
    Rejected(CloseReason),
}

impl Answer {
    /// A refusal as hooks give it.
    pub fn rejection(self) -> Rejection {
        match self {
            Self::Rejected(reason) => Rejection::with_reason(reason),
            // Any other answer to a question that it does not fit.
            _ => Rejection::with_reason(CloseReason::RESET_CONNECTION),
        }
    }
}

/// The open questions.
#[derive(Default)]
pub struct Tickets {
    last: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// One question; closed when the asker goes away.
pub struct Question {
    /// Its number.
    pub ticket: u64,
    tickets: Arc<Tickets>,
    answer: oneshot::Receiver<Answer>,
}

impl Tickets {
    /// Opens a question.
    pub fn open(self: &Arc<Self>) -> Question {
        let ticket = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.lock().insert(ticket, sender);
        Question { ticket, tickets: Arc::clone(self), answer }
    }

    /// Answers a question; the first answer counts.
    pub fn answer(&self, ticket: u64, answer: Answer) {
        if let Some(sender) = self.lock().remove(&ticket) {
            // The asker may be gone.
            let _ = sender.send(answer);
        }
    }

    /// Refuses all that is open.
    pub fn refuse_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        // The map is whole between any two statements.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// Waits for the answer.
    pub async fn answered(mut self) -> Answer {
        let answer = (&mut self.answer).await;
        answer.unwrap_or(Answer::Rejected(CloseReason::SERVICE_RESTART))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.tickets.lock().remove(&self.ticket);
    }
}
