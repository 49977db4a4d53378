//! What a relay knows: rooms by name, and the frames that each has seen.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use crate::wire::{Cursor, opcode, put_bytes, put_server_frame};

/// A relay that has logged this much stops with an error instead of filling the machine.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;

/// Defects that a relay can be given, to show that the harness notices them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Leaves out every n-th delivery of an update.
    pub drop_delivery_every: Option<u64>,
    /// Leaves out every n-th ack.
    pub drop_ack_every: Option<u64>,
    /// Leaves out every n-th update of the log that a joiner gets.
    pub drop_logged_every: Option<u64>,
}

/// Whether the `count`-th event falls under a fault.
pub fn falls_under(every: Option<u64>, count: u64) -> bool {
    every.is_some_and(|every| every > 0 && count.is_multiple_of(every))
}

/// What a relay has to do after a message.
#[derive(Default)]
pub struct Reaction {
    /// Goes back to the sender.
    pub reply: Option<Bytes>,
    /// Whether the sender gets the room's log, after the reply.
    pub replay: bool,
    /// Goes to everybody else in the room.
    pub broadcast: Option<Bytes>,
}

/// The rooms by name.
#[derive(Default)]
pub struct Rooms {
    index: HashMap<Vec<u8>, usize>,
    rooms: Vec<Room>,
    log_bytes: usize,
    faults: Faults,
    acks: u64,
}

struct Room {
    ack: Bytes,
    authenticated: Bytes,
    /// The first update as a sync step 2, and the later ones as they came.
    log: Vec<Bytes>,
    empty: Bytes,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// The room that a first message names, made when it is new.
    pub fn enter(&mut self, payload: &[u8]) -> anyhow::Result<usize> {
        let name = Cursor::new(payload).bytes().context("the message names no document")?;
        if let Some(&room) = self.index.get(name) {
            return Ok(room);
        }
        self.index.insert(name.to_vec(), self.rooms.len());
        self.rooms.push(Room {
            ack: frame(name, &[8, 1]),
            authenticated: frame(name, b"\x02\x02\x0aread-write"),
            log: Vec::new(),
            empty: frame(name, &[0, 1, 2, 0, 0]),
        });
        Ok(self.rooms.len() - 1)
    }

    /// The frames that a joiner gets.
    pub fn replay(&self, room: usize) -> impl Iterator<Item = &Bytes> {
        let room = &self.rooms[room];
        let frames = if room.log.is_empty() { std::slice::from_ref(&room.empty) } else { &room.log };
        let every = self.faults.drop_logged_every;
        frames
            .iter()
            .enumerate()
            .filter(move |(at, _)| *at == 0 || !falls_under(every, *at as u64))
            .map(|(_, f)| f)
    }

    /// Takes a message.
    pub fn react(&mut self, room: usize, payload: &[u8]) -> anyhow::Result<Reaction> {
        let mut cursor = Cursor::new(payload);
        let name = cursor.bytes().context("the message names no document")?;
        let message = cursor.rest();
        let known = &mut self.rooms[room];
        match message {
            [2, 0, ..] => Ok(Reaction { reply: Some(known.authenticated.clone()), ..Reaction::default() }),
            [0, 0, ..] => Ok(Reaction { replay: true, ..Reaction::default() }),
            [0, 1 | 2, ..] => {
                let broadcast = frame(name, message);
                let logged = if known.log.is_empty() {
                    let mut step = vec![0, 1];
                    step.extend_from_slice(&message[2..]);
                    frame(name, &step)
                } else {
                    broadcast.clone()
                };
                self.log_bytes += logged.len();
                ensure!(
                    self.log_bytes <= LOG_BYTES_MAX,
                    "the relay has logged more than {LOG_BYTES_MAX} bytes"
                );
                known.log.push(logged);
                self.acks += 1;
                let reply = (!falls_under(self.faults.drop_ack_every, self.acks)).then(|| known.ack.clone());
                Ok(Reaction { reply, replay: false, broadcast: Some(broadcast) })
            }
            [1, ..] => Ok(Reaction { broadcast: Some(frame(name, message)), ..Reaction::default() }),
            [3] => Ok(Reaction::default()),
            _ => bail!("a message that the relay does not know: {:?}", &message[..message.len().min(8)]),
        }
    }
}

fn frame(name: &[u8], message: &[u8]) -> Bytes {
    let mut payload = Vec::with_capacity(name.len() + message.len() + 2);
    put_bytes(&mut payload, name);
    payload.extend_from_slice(message);
    let mut out = Vec::with_capacity(payload.len() + 10);
    put_server_frame(&mut out, opcode::BINARY, &payload);
    Bytes::from(out)
}
