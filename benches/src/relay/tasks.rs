//! The relay in the usual tokio shape: two tasks per connection, an unbounded channel between them, one thread.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Faults;
use super::handshake::{Upgrade, upgrade};
use super::room::{Rooms, falls_under};
use crate::wire::{FRAME_BYTES_MAX, Header, mask, opcode};

/// What the writer takes from its channel at once.
const FRAMES_PER_WRITE_MAX: usize = 1024;
/// Frames from this size on are written by themselves rather than copied.
const SHARED_FRAME_BYTES_MIN: usize = 8 * 1024;
const READ_BYTES: usize = 4 * 1024;

type Member = (u64, UnboundedSender<Bytes>);

struct Relay {
    rooms: Rooms,
    members: Vec<Vec<Member>>,
    faults: Faults,
    deliveries: u64,
}

/// Serves until the process ends.
pub fn serve(listener: TcpListener, faults: Faults) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, accept(listener, faults))
}

async fn accept(listener: TcpListener, faults: Faults) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let relay = Rc::new(RefCell::new(Relay {
        rooms: Rooms::new(faults),
        members: Vec::new(),
        faults,
        deliveries: 0,
    }));
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        let relay = Rc::clone(&relay);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection(stream, id, relay).await {
                eprintln!("connection {id}: {error:#}");
            }
        });
    }
    Ok(())
}

async fn connection(mut stream: TcpStream, id: u64, relay: Rc<RefCell<Relay>>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(READ_BYTES);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Upgrade::Accept { response, request_bytes } = upgrade(&received)? {
            received.drain(..request_bytes);
            stream.write_all(&response).await?;
            break;
        }
    }
    let (reader, writer) = stream.into_split();
    let (sender, receiver) = unbounded_channel();
    tokio::task::spawn_local(write(writer, receiver));
    let mut room = None;
    let outcome = read(reader, received, id, &relay, &sender, &mut room).await;
    if let Some(room) = room {
        relay.borrow_mut().members[room].retain(|(member, _): &Member| *member != id);
    }
    outcome
}

async fn read(
    mut reader: OwnedReadHalf,
    mut received: Vec<u8>,
    id: u64,
    relay: &RefCell<Relay>,
    sender: &UnboundedSender<Bytes>,
    room: &mut Option<usize>,
) -> anyhow::Result<()> {
    loop {
        let mut used = 0;
        while let Some(header) = Header::parse(&received[used..]) {
            anyhow::ensure!(header.payload_bytes <= FRAME_BYTES_MAX, "a frame over {FRAME_BYTES_MAX} bytes");
            let end = used + header.frame_bytes();
            if end > received.len() {
                received.reserve(end - received.len());
                break;
            }
            let payload = &mut received[used + header.header_bytes..end];
            if let Some(key) = header.mask {
                mask(payload, key);
            }
            match header.opcode {
                opcode::BINARY => relay.borrow_mut().message(id, payload, sender, room)?,
                opcode::CLOSE => return Ok(()),
                _ => {}
            }
            used = end;
        }
        received.drain(..used);
        if reader.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

impl Relay {
    fn message(
        &mut self,
        id: u64,
        payload: &[u8],
        sender: &UnboundedSender<Bytes>,
        joined: &mut Option<usize>,
    ) -> anyhow::Result<()> {
        let room = match *joined {
            Some(room) => room,
            None => {
                let room = self.rooms.enter(payload)?;
                self.members.resize_with(self.members.len().max(room + 1), Vec::new);
                self.members[room].push((id, sender.clone()));
                *joined.insert(room)
            }
        };
        let reaction = self.rooms.react(room, payload)?;
        // A send fails only when the writer has ended, and then the reader of that connection ends as well.
        if let Some(reply) = reaction.reply {
            let _ = sender.send(reply);
        }
        if reaction.replay {
            for frame in self.rooms.replay(room) {
                let _ = sender.send(frame.clone());
            }
        }
        if let Some(frame) = reaction.broadcast {
            for (_, member) in self.members[room].iter().filter(|(member, _)| *member != id) {
                self.deliveries += 1;
                if !falls_under(self.faults.drop_delivery_every, self.deliveries) {
                    let _ = member.send(frame.clone());
                }
            }
        }
        Ok(())
    }
}

async fn write(mut writer: OwnedWriteHalf, mut receiver: UnboundedReceiver<Bytes>) -> std::io::Result<()> {
    let mut frames = Vec::new();
    let mut gathered = Vec::new();
    while receiver.recv_many(&mut frames, FRAMES_PER_WRITE_MAX).await > 0 {
        if let [only] = &frames[..] {
            writer.write_all(only).await?;
            frames.clear();
            continue;
        }
        for frame in frames.drain(..) {
            if frame.len() < SHARED_FRAME_BYTES_MIN {
                gathered.extend_from_slice(&frame);
                continue;
            }
            writer.write_all(&gathered).await?;
            gathered.clear();
            writer.write_all(&frame).await?;
        }
        writer.write_all(&gathered).await?;
        gathered.clear();
    }
    writer.shutdown().await
}
