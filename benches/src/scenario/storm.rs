//! `storm`: many clients open one large document at the same moment.

use std::sync::Arc;

use anyhow::ensure;

use super::{Bench, Figures, quantile};
use crate::crowd::{Crowd, Seat};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::{Trace, seed, text_of};

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer, clients: usize, bytes: usize) -> anyhow::Result<Figures> {
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(1, 1)))?;
    let document = crowd.world.add_document("bench-storm".to_owned(), 0, 0);
    let content = seed(bytes, 1);
    crowd.seed(document, &content)?;

    crowd.world.compares_joins = true;
    let seats = vec![Seat { document, member: None, receive_buffer_bytes: None }; clients];
    let before = Usage::of(server.pid)?;
    let received_before = crowd.net.received_bytes;
    let start = crowd.net.now();
    let first = crowd.join(&seats, clients)?;
    let after = Usage::of(server.pid)?;
    let received = crowd.net.received_bytes - received_before;

    let joined = &crowd.world.clients[first..];
    let last = joined.iter().map(|client| client.synced_at).max().unwrap_or(start);
    let seconds = (last - start) as f64 / 1e9;
    let mut waits: Vec<f64> =
        joined.iter().map(|client| (client.synced_at - client.started_at) as f64 / 1e6).collect();
    let spent = after.since(&before);
    let mut figures = Figures::default();
    figures.put_spent(&spent);
    figures.put("all_synced_s", seconds);
    figures.put("sync_p50_ms", quantile(&mut waits, 0.5));
    figures.put("sync_p99_ms", quantile(&mut waits, 0.99));
    figures.put("mb_per_s", received as f64 / 1e6 / seconds);
    figures.put("cpu_us_per_client", spent.cpu_seconds * 1e6 / clients as f64);
    figures.put("rss_peak_mb", after.rss_peak_kb as f64 / 1000.0);
    figures.put_verdict(&crowd.verdict()?);
    let expected = text_of(std::iter::once(&content[..]))?;
    ensure!(!crowd.world.joins().is_empty(), "nobody was sent the document");
    for join in crowd.world.joins() {
        if text_of(std::iter::once(&join[..])).ok().as_deref() != Some(&expected) {
            figures.faults.push("a client was sent something else than the document".to_owned());
        }
    }
    Ok(figures)
}
