//! yjs in a Node process at the other end of a pipe; `oracle.mjs` says what it does. Shared by the tests of the log.
#![allow(dead_code, reason = "every test uses a part of it")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;

/// What an oracle is asked for; the numbers are those of `oracle.mjs`.
const CASE: u64 = 1;
const ROUND: u64 = 2;
const FOLLOW: u64 = 3;
const COMPARE: u64 = 4;
const ACCEPTS: u64 = 5;

/// A Node process that answers one command at a time.
pub struct Oracle {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// Replies that were not read yet.
    unread: usize,
    waited: bool,
}

/// Replies that may lie in the pipe, which holds 64 KiB.
const UNREAD_MAX: usize = 100;

/// What a client gets in a round.
#[derive(Default)]
pub struct Turn {
    pub receive: Vec<Vec<u8>>,
    /// The peer, counted from one, whose state it takes directly; zero: nobody's.
    pub peer: u64,
    pub edits: u64,
    /// The state vector of the server, which asks for what it lacks.
    pub asked: Vec<u8>,
}

/// What a client answers.
pub struct Answer {
    pub updates: Vec<Vec<u8>>,
    pub state_vector: Vec<u8>,
    pub lacking: Vec<u8>,
}

impl Oracle {
    /// Starts Node on `oracle.mjs`, installing the pinned packages where they are missing.
    pub fn start() -> Self {
        static INSTALL: Once = Once::new();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/yjs");
        INSTALL.call_once(|| {
            if !here.join("node_modules/yjs").exists() {
                let install = ["ci", "--no-audit", "--no-fund"];
                let status = Command::new("npm").args(install).current_dir(&here).status().expect("npm runs");
                assert!(status.success(), "npm ci in {}", here.display());
            }
        });
        let mut child = Command::new("node")
            .arg(here.join("oracle.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs: these tests compare with yjs");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output, unread: 0, waited: false }
    }

    /// Starts over with fresh documents.
    pub fn case(&mut self, seed: u64, clients: u64, features: u64) {
        let mut out = Writer::new(CASE);
        out.uint(seed).uint(clients).uint(features);
        self.ask(out);
        self.waited = false;
    }

    /// One turn of every client.
    pub fn round(&mut self, turns: Vec<Turn>) -> Vec<Answer> {
        let mut out = Writer::new(ROUND);
        let clients = turns.len();
        for turn in turns {
            out.list(&turn.receive).uint(turn.peer).uint(turn.edits).bytes(&turn.asked);
        }
        let reply = self.ask(out);
        let mut reader = Reader { bytes: &reply };
        let answer = |reader: &mut Reader<'_>| Answer {
            updates: (0..reader.uint()).map(|_| reader.bytes()).collect(),
            state_vector: reader.bytes(),
            lacking: reader.bytes(),
        };
        (0..clients).map(|_| answer(&mut reader)).collect()
    }

    /// Lets follower `id` apply `updates`; returns its state vector, or nothing if some of them have to wait.
    pub fn follow(&mut self, id: u64, updates: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Writer::new(FOLLOW);
        out.uint(id).list(updates);
        self.ask(out)
    }

    /// Lets follower `id` apply `update` without waiting for it; `waited` tells later how it went.
    pub fn tell(&mut self, id: u64, update: Vec<u8>) {
        let mut out = Writer::new(FOLLOW);
        out.uint(id).list(&[update]);
        self.send(out);
        self.unread += 1;
        if self.unread > UNREAD_MAX {
            self.read_unread();
        }
    }

    /// Whether some update of `tell` had to wait in the last case.
    pub fn waited(&mut self) -> bool {
        self.read_unread();
        self.waited
    }

    fn read_unread(&mut self) {
        for _ in 0..std::mem::take(&mut self.unread) {
            self.waited |= self.reply().is_empty();
        }
    }

    /// Compares all documents and the named states with the one that got every update in order.
    pub fn compare(&mut self, states: &[(&str, Vec<u8>)]) -> String {
        let mut out = Writer::new(COMPARE);
        out.uint(states.len() as u64);
        for (name, state) in states {
            out.bytes(name.as_bytes()).bytes(state);
        }
        String::from_utf8(self.ask(out)).expect("the oracle answers in UTF-8")
    }

    /// Applies `update` to a document with `state`; `Err` says what yjs threw.
    pub fn accepts(&mut self, state: &[u8], update: &[u8]) -> Result<(), String> {
        let mut out = Writer::new(ACCEPTS);
        out.bytes(state).bytes(update);
        match &self.ask(out)[..] {
            b"yes" => Ok(()),
            thrown => Err(String::from_utf8_lossy(thrown).into_owned()),
        }
    }

    fn ask(&mut self, command: Writer) -> Vec<u8> {
        self.send(command);
        self.read_unread();
        self.reply()
    }

    fn send(&mut self, command: Writer) {
        let frame = [&(command.0.len() as u32).to_le_bytes(), &command.0[..]].concat();
        self.input.write_all(&frame).expect("the oracle lives");
    }

    fn reply(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).expect("the oracle answers; its error is above");
        let mut reply = vec![0; u32::from_le_bytes(length) as usize];
        self.output.read_exact(&mut reply).expect("the oracle answers");
        reply
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes lib0's encoding.
struct Writer(Vec<u8>);

impl Writer {
    fn new(command: u64) -> Self {
        let mut out = Self(Vec::new());
        out.uint(command);
        out
    }

    fn uint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.uint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn list(&mut self, list: &[Vec<u8>]) -> &mut Self {
        self.uint(list.len() as u64);
        for bytes in list {
            self.bytes(bytes);
        }
        self
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn uint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.bytes.split_first().expect("the reply is complete");
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.uint() as usize;
        let (bytes, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        bytes.to_vec()
    }
}
