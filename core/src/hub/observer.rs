//! Somebody in the host who follows a document: a subscriber of its room like any session, whose frames are
//! taken apart again. So it is bounded and conflated as every reader is, and costs nothing where nobody
//! observes.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::host::Wake;
use super::registry::{Command, Join, RoomHandle};
use super::{Hub, Shared};
use crate::auth::Access;
use crate::error::{CloseReason, HubError};
use crate::id::{DocumentName, SessionKey};
use crate::protocol::Dialect;
use crate::protocol::frame::Prefix;
use crate::protocol::message::{Inbound, Message, parse_y_websocket};
use crate::room::{Framing, Note, Outbox, Sink, Subscriber};

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The document changed: a Yjs update v1. Changes that come together, or faster than they are taken,
    /// are one.
    Update(Bytes),
    /// Awareness changed: an awareness update of `y-protocols`.
    Awareness(Bytes),
    /// The room ended; nothing follows.
    Closed(CloseReason),
}

/// Follows one document, and keeps it loaded, until it is dropped.
pub struct Observer {
    session: SessionKey,
    room: Arc<RoomHandle>,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lagging: bool,
    closed: Option<CloseReason>,
}

impl Hub {
    /// Follows a document from now on; loads it where it is not. `wake` is called as a connection's.
    ///
    /// # Errors
    /// The document cannot be loaded, or the hub is shutting down.
    pub async fn observe(&self, document: &DocumentName, wake: Wake) -> Result<Observer, HubError> {
        let shared: &Arc<Shared> = &self.0;
        let pin = shared.open_room(document, None)?;
        let room = Arc::clone(pin.room());
        let session = SessionKey { connection: shared.next_connection_id(), number: 0 };
        let outbox: Arc<Outbox> = Arc::new(Outbox::new(shared.limits.outbox_bytes_max, ObserverSink(wake)));
        let subscriber = Subscriber {
            session,
            prefix: Prefix::none(),
            dialect: Dialect::YWebsocket,
            access: Access::ReadOnly,
            user: None,
            outbox: Arc::clone(&outbox),
        };
        room.ask(|reply| Command::Join(Box::new(Join { subscriber, reply, pin }))).await??;
        Ok(Observer { session, room, outbox, state: Mutex::default() })
    }
}

impl Observer {
    /// Takes what came next. After a wake, take until there is nothing: only then is it woken again.
    pub fn poll(&self) -> Option<Observed> {
        loop {
            if let Some(frame) = self.outbox.pop(Instant::now()) {
                match parse_y_websocket(&frame.into_bytes()) {
                    Ok(Message::Room(Inbound::Update(update) | Inbound::SyncStep2(update))) => {
                        return Some(Observed::Update(update));
                    }
                    Ok(Message::Room(Inbound::Awareness(update))) => {
                        return Some(Observed::Awareness(update));
                    }
                    // A room sends nothing else unasked.
                    _ => continue,
                }
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for note in self.outbox.take_notes() {
                match note {
                    Note::CloseSession(_, reason) | Note::CloseConnection(reason) => {
                        state.closed = Some(reason);
                    }
                    Note::Lagging(_) => state.lagging = true,
                    Note::AccessChanged(..) => {}
                }
            }
            if std::mem::take(&mut state.lagging) {
                // The answer arrives as frames, with a wake.
                self.room.send(Command::Drained(self.session));
            }
            return state.closed.take().map(Observed::Closed);
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.outbox.close();
        self.room.send(Command::Leave(self.session));
    }
}

struct ObserverSink(Wake);

impl Sink for ObserverSink {
    fn framing(&self) -> Framing {
        Framing::Whole
    }

    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn wake(&self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::config::Config;
    use crate::room::{Edit, text};

    /// Goal: an observer that takes little and late has, in the end, the same document. Method: a small
    /// outbox, more edits than it holds, and only what the observer saw is merged.
    #[tokio::test]
    async fn an_observer_sees_all_however_late() {
        let mut config = Config::default();
        config.limits.outbox_bytes_max = 1_000;
        let hub = Hub::builder(config).build();
        let name = DocumentName::parse("notes").unwrap();
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let observer = hub.observe(&name, Arc::new(move || rung.notify_one())).await.unwrap();
        let direct = hub.open_direct_connection(&name).await.unwrap();
        for _ in 0..50 {
            let edit = Edit::TextInsert { root: "t".into(), index: None, text: "x".repeat(100) };
            direct.transact(vec![edit]).await.unwrap();
        }
        assert!(hub.metrics().conflations_total > 0);
        assert_eq!(direct.text("t").await.unwrap().len(), 5_000);
        let mut seen = vec![Bytes::from_static(&[0, 0])];
        loop {
            while let Some(Observed::Update(update)) = observer.poll() {
                seen.push(update);
            }
            let merged = yrs::merge_updates_v1(&seen).unwrap();
            if text(&merged, "t").unwrap().len() == 5_000 {
                break;
            }
            tokio::time::timeout(Duration::from_secs(5), bell.notified()).await.expect("a wake");
        }
        drop(direct);
        hub.close_connections(None);
        tokio::time::timeout(Duration::from_secs(5), bell.notified()).await.expect("a wake");
        assert_eq!(observer.poll(), Some(Observed::Closed(CloseReason::RESET_CONNECTION)));
        drop(observer);
        for _ in 0..200 {
            if hub.documents().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the document stays loaded");
    }
}
