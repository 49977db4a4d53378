//! The relay on raw epoll: one thread, level-triggered, one write per connection and turn.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::Faults;
use super::handshake::{Upgrade, upgrade};
use super::room::{Rooms, falls_under};
use crate::wire::{FRAME_BYTES_MAX, Header, mask, opcode};

const LISTENER: u64 = u64::MAX;
const EVENTS_PER_TURN_MAX: usize = 1024;
const READ_BYTES: usize = 64 * 1024;
/// Frames from this size on are queued as they are, so that a partial write moves no memory.
const SHARED_FRAME_BYTES_MIN: usize = 8 * 1024;

struct Connection {
    stream: TcpStream,
    upgraded: bool,
    room: Option<usize>,
    received: Vec<u8>,
    queue: VecDeque<Bytes>,
    gathered: Vec<u8>,
    written: usize,
    is_dirty: bool,
    wants_write: bool,
}

struct Relay {
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    members: Vec<Vec<usize>>,
    rooms: Rooms,
    dirty: Vec<usize>,
    faults: Faults,
    deliveries: u64,
}

/// Serves until the process ends.
pub fn serve(listener: &TcpListener, faults: Faults) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay = Relay {
        epoll,
        connections: Vec::new(),
        free: Vec::new(),
        members: Vec::new(),
        rooms: Rooms::new(faults),
        dirty: Vec::new(),
        faults,
        deliveries: 0,
    };
    let mut events = Vec::with_capacity(EVENTS_PER_TURN_MAX);
    let mut scratch = vec![0; READ_BYTES];
    loop {
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => relay.accept(listener)?,
                id => relay.ready(id as usize, event.flags, &mut scratch),
            }
        }
        let dirty = std::mem::take(&mut relay.dirty);
        for &id in &dirty {
            relay.flush(id);
        }
        relay.dirty = dirty;
        relay.dirty.clear();
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let id = self.free.pop().unwrap_or(self.connections.len());
            epoll::add(&self.epoll, &stream, EventData::new_u64(id as u64), EventFlags::IN)?;
            let connection = Connection {
                stream,
                upgraded: false,
                room: None,
                received: Vec::new(),
                queue: VecDeque::new(),
                gathered: Vec::new(),
                written: 0,
                is_dirty: false,
                wants_write: false,
            };
            if id == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[id] = Some(connection);
            }
        }
    }

    fn ready(&mut self, id: usize, flags: EventFlags, scratch: &mut [u8]) {
        if flags.contains(EventFlags::OUT) {
            self.mark(id);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id).and_then(Option::as_mut) else { return };
        let read = match connection.stream.read(scratch) {
            Ok(0) => return self.close(id),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.close(id),
        };
        let mut received = std::mem::take(&mut connection.received);
        let outcome = if received.is_empty() {
            self.take(id, &mut scratch[..read])
        } else {
            received.extend_from_slice(&scratch[..read]);
            self.take(id, &mut received)
        };
        match outcome {
            Ok((used, wanted)) => {
                if received.is_empty() {
                    received.extend_from_slice(&scratch[used..read]);
                } else {
                    received.drain(..used);
                }
                received.reserve(wanted.saturating_sub(received.len()));
                if let Some(connection) = self.connections[id].as_mut() {
                    connection.received = received;
                }
            }
            Err(error) => {
                eprintln!("connection {id}: {error:#}");
                self.close(id);
            }
        }
    }

    /// Takes whole frames; answers the bytes used, and the length of a frame that is not complete yet.
    fn take(&mut self, id: usize, bytes: &mut [u8]) -> anyhow::Result<(usize, usize)> {
        let mut used = 0;
        if self.connections[id].as_ref().is_some_and(|connection| !connection.upgraded) {
            let Upgrade::Accept { response, request_bytes } = upgrade(bytes)? else { return Ok((0, 0)) };
            used = request_bytes;
            if let Some(connection) = self.connections[id].as_mut() {
                connection.upgraded = true;
            }
            self.send(id, &Bytes::from(response));
        }
        while let Some(header) = Header::parse(&bytes[used..]) {
            let end = used.saturating_add(header.frame_bytes());
            anyhow::ensure!(header.payload_bytes <= FRAME_BYTES_MAX, "a frame over {FRAME_BYTES_MAX} bytes");
            if end > bytes.len() {
                return Ok((used, header.frame_bytes()));
            }
            let payload = &mut bytes[used + header.header_bytes..end];
            if let Some(key) = header.mask {
                mask(payload, key);
            }
            match header.opcode {
                opcode::BINARY => self.message(id, payload)?,
                opcode::CLOSE => anyhow::bail!("closed by the client"),
                _ => {}
            }
            used = end;
        }
        Ok((used, 0))
    }

    fn message(&mut self, id: usize, payload: &[u8]) -> anyhow::Result<()> {
        let joined = self.connections[id].as_ref().and_then(|connection| connection.room);
        let room = match joined {
            Some(room) => room,
            None => {
                let room = self.rooms.enter(payload)?;
                self.members.resize_with(self.members.len().max(room + 1), Vec::new);
                self.members[room].push(id);
                if let Some(connection) = self.connections[id].as_mut() {
                    connection.room = Some(room);
                }
                room
            }
        };
        let reaction = self.rooms.react(room, payload)?;
        if let Some(reply) = reaction.reply {
            self.send(id, &reply);
        }
        if reaction.replay {
            let frames: Vec<Bytes> = self.rooms.replay(room).cloned().collect();
            for frame in &frames {
                self.send(id, frame);
            }
        }
        if let Some(frame) = reaction.broadcast {
            let members = std::mem::take(&mut self.members[room]);
            for &member in members.iter().filter(|&&member| member != id) {
                self.deliveries += 1;
                if !falls_under(self.faults.drop_delivery_every, self.deliveries) {
                    self.send(member, &frame);
                }
            }
            self.members[room] = members;
        }
        Ok(())
    }

    fn send(&mut self, id: usize, frame: &Bytes) {
        let Some(connection) = self.connections[id].as_mut() else { return };
        if frame.len() < SHARED_FRAME_BYTES_MIN {
            connection.gathered.extend_from_slice(frame);
        } else {
            connection.seal();
            connection.queue.push_back(frame.clone());
        }
        self.mark(id);
    }

    fn mark(&mut self, id: usize) {
        if let Some(connection) = self.connections[id].as_mut()
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(id);
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(connection) = self.connections[id].as_mut() else { return };
        connection.is_dirty = false;
        let Ok(is_drained) = connection.write() else { return self.close(id) };
        if connection.wants_write == is_drained {
            connection.wants_write = !is_drained;
            let flags = if is_drained { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
            if epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(id as u64), flags).is_err() {
                self.close(id);
            }
        }
    }

    fn close(&mut self, id: usize) {
        if let Some(connection) = self.connections[id].take() {
            if let Some(room) = connection.room {
                self.members[room].retain(|&member| member != id);
            }
            self.free.push(id);
        }
    }
}

impl Connection {
    /// Moves what was gathered behind what is queued already.
    fn seal(&mut self) {
        if self.queue.is_empty() && self.written > 0 {
            self.gathered.drain(..self.written);
            self.written = 0;
        }
        if !self.gathered.is_empty() {
            self.queue.push_back(Bytes::from(std::mem::take(&mut self.gathered)));
        }
    }

    /// Writes until the socket takes no more; answers whether everything went out.
    fn write(&mut self) -> std::io::Result<bool> {
        loop {
            let bytes = self.queue.front().map_or(&self.gathered[..], |front| &front[..]);
            if self.written == bytes.len() {
                self.written = 0;
                if self.queue.pop_front().is_none() {
                    self.gathered.clear();
                    return Ok(true);
                }
                continue;
            }
            match self.stream.write(&bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
