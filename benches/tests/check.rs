//! The harness notices what goes wrong: a tiny scenario against the bare relay, sound and with defects.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fidibus_bench::crowd::{Act, Crowd, Pace, Seat, Verdict};
use fidibus_bench::dialect::Dialect;
use fidibus_bench::trace::Trace;

const DOCUMENTS: usize = 2;
const MEMBERS: usize = 3;

struct Relay {
    process: Child,
    port: u16,
}

impl Relay {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("a piped output");
        BufReader::new(output).read_line(&mut line).expect("the relay says where it listens");
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok()).expect("a port");
        Self { process, port }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().expect("the relay was still running");
        self.process.wait().expect("the relay ends");
    }
}

/// All members type and move; answers what the check found, and how many deliveries were counted.
fn measure(arguments: &[&str]) -> (Verdict, u64) {
    let relay = Relay::start(arguments);
    let trace = Arc::new(Trace::typing(100, 1));
    let mut crowd = Crowd::new(relay.port, Dialect::Hocuspocus, trace).expect("an epoll");
    crowd.patience = Duration::from_millis(500);
    let mut seats = Vec::new();
    for document in 0..DOCUMENTS {
        crowd.world.add_document(format!("check-{document}"), MEMBERS, MEMBERS);
        seats.extend((0..MEMBERS).map(|member| Seat {
            document,
            member: Some(member),
            receive_buffer_bytes: None,
        }));
    }
    crowd.join(&seats, 2).expect("all join");
    let everybody = 0..DOCUMENTS * MEMBERS;
    let mut paces =
        [Pace::new(Act::Type, everybody.clone(), 100.0, 1), Pace::new(Act::ShowPresence, everybody, 40.0, 2)];
    crowd.start_recording();
    crowd.run(Duration::from_millis(300), &mut paces).expect("a run");
    crowd.drain().expect("a wait for the rest");
    let deliveries = crowd.world.counts.deliveries;
    (crowd.verdict().expect("a verdict"), deliveries)
}

#[test]
fn a_sound_relay_passes_in_both_shapes() {
    for shape in ["epoll", "tokio"] {
        let (verdict, deliveries) = measure(&["--shape", shape]);
        assert!(verdict.is_good(), "{shape}: {verdict:?}");
        // 6 writers at 100/s for 0.3 s, two readers each; the machine may be busy.
        assert!(deliveries > 100, "{shape}: only {deliveries} deliveries");
    }
}

#[test]
fn a_relay_that_drops_a_frame_is_noticed() {
    for shape in ["epoll", "tokio"] {
        let (verdict, _) = measure(&["--shape", shape, "--drop-delivery-every", "50"]);
        assert!(verdict.undelivered > 0, "{shape}: {verdict:?}");
        assert_eq!((verdict.unacked, verdict.different_texts), (0, 0), "{shape}: {verdict:?}");
    }
}

#[test]
fn presence_that_never_arrives_is_noticed() {
    let (verdict, _) = measure(&["--drop-delivery-every", "1"]);
    let pairs = DOCUMENTS * MEMBERS * (MEMBERS - 1);
    assert_eq!(verdict.presence_undelivered, pairs as u64, "{verdict:?}");
}

#[test]
fn a_missing_ack_is_noticed() {
    let (verdict, _) = measure(&["--drop-ack-every", "40"]);
    assert!(verdict.unacked > 0, "{verdict:?}");
    assert_eq!((verdict.undelivered, verdict.different_texts), (0, 0), "{verdict:?}");
}

#[test]
fn a_document_that_a_fresh_reader_gets_incomplete_is_noticed() {
    let (verdict, _) = measure(&["--drop-logged-every", "20"]);
    assert_eq!((verdict.undelivered, verdict.unacked), (0, 0), "{verdict:?}");
    assert_eq!(verdict.different_texts, DOCUMENTS as u64, "{verdict:?}");
}
