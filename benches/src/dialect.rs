//! What a client sends and understands, in both dialects that a Yjs server may speak.

use anyhow::{Context, bail, ensure};

use crate::wire::{Cursor, put_bytes, put_uint};

/// Which frames a server expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `documentName` first, acks by SyncStatus.
    Hocuspocus,
    /// The document's name in the URL, no acks; a server that echoes updates shows that they arrived.
    YWebsocket,
}

/// A message from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// The session may start.
    Authenticated,
    /// The server wants what it has not got.
    SyncStep1,
    /// What the client had not got.
    SyncStep2(&'a [u8]),
    /// An edit, or several merged.
    Update(&'a [u8]),
    /// The server has taken a sync step 2 or an update.
    Ack,
    /// States of presence.
    Awareness(&'a [u8]),
    /// Something that a measurement does not look at.
    Ignored,
}

impl Dialect {
    /// The path to connect to.
    pub fn path(self, document: &str) -> String {
        match self {
            Self::Hocuspocus => "/".to_owned(),
            Self::YWebsocket => format!("/{document}"),
        }
    }

    /// What stands in front of every message about the document.
    pub fn prefix(self, document: &str) -> Vec<u8> {
        let mut prefix = Vec::new();
        if self == Self::Hocuspocus {
            put_bytes(&mut prefix, document.as_bytes());
        }
        prefix
    }

    /// Reads a message.
    #[inline]
    pub fn parse<'a>(self, prefix: &[u8], payload: &'a [u8]) -> anyhow::Result<Inbound<'a>> {
        let message = payload.strip_prefix(prefix).context("a message about another document")?;
        let mut cursor = Cursor::new(message);
        let kind = cursor.uint().context("a message without a type")?;
        Ok(match kind {
            // 4 is SyncReply: the same, but not to be answered with a sync step 1.
            0 | 4 => {
                let step = cursor.uint().context("a sync message without a step")?;
                let bytes = cursor.bytes().context("a sync message that ends early")?;
                ensure!(cursor.rest().is_empty(), "bytes behind a sync message");
                match step {
                    0 => Inbound::SyncStep1,
                    1 => Inbound::SyncStep2(bytes),
                    2 => Inbound::Update(bytes),
                    other => bail!("a sync message with step {other}"),
                }
            }
            1 => Inbound::Awareness(cursor.bytes().context("an awareness message that ends early")?),
            2 => match cursor.uint() {
                Some(2) => Inbound::Authenticated,
                Some(1) => bail!(
                    "permission denied: {}",
                    String::from_utf8_lossy(cursor.bytes().unwrap_or_default())
                ),
                _ => Inbound::Ignored,
            },
            7 => {
                bail!("closed by the server: {}", String::from_utf8_lossy(cursor.bytes().unwrap_or_default()))
            }
            8 => {
                ensure!(cursor.uint() == Some(1), "an update was refused (SyncStatus 0)");
                Inbound::Ack
            }
            _ => Inbound::Ignored,
        })
    }
}

/// The token that a Hocuspocus session starts with.
pub fn put_auth(out: &mut Vec<u8>) {
    out.extend_from_slice(&[2, 0]);
    put_bytes(out, b"bench");
    put_bytes(out, b"4.7.0");
}

/// The state vector of a client that has nothing.
pub fn put_sync_step_1(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 1, 0]);
}

/// The answer of a client that has nothing to add.
pub fn put_empty_sync_step_2(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 1, 2, 0, 0]);
}

/// An edit.
pub fn put_update(out: &mut Vec<u8>, update: &[u8]) {
    out.extend_from_slice(&[0, 2]);
    put_bytes(out, update);
}

/// A question for the presence of others: what a client may say that has nothing to say.
pub fn put_query_awareness(out: &mut Vec<u8>) {
    out.push(3);
}

/// States of presence.
pub fn put_awareness(out: &mut Vec<u8>, states: &[u8]) {
    put_uint(out, 1);
    put_bytes(out, states);
}
