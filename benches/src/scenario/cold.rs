//! `cold`: stored documents are opened after a restart, one after the other.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, Figures, quantile};
use crate::crowd::{Crowd, Seat};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::{Trace, seed, text_of};

/// Documents that are opened first, so that a just-in-time compiler has seen the code.
const WARM_UP_DOCUMENTS: usize = 10;
/// After the last client has left, a server that stores behind a delay gets this long.
const STORE_WAIT: Duration = Duration::from_secs(3);
/// Servers keep things for a moment for whoever comes next; what is resident is what stays.
const SETTLE_WAIT: Duration = Duration::from_secs(4);

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer, documents: usize, bytes: usize) -> anyhow::Result<Figures> {
    let content = seed(bytes, 2);
    let expected = text_of(std::iter::once(&content[..]))?;
    let trace = Arc::new(Trace::typing(1, 1));
    let total = WARM_UP_DOCUMENTS + documents;
    let stored = {
        let server = peer.start(&bench.places, false)?;
        let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::clone(&trace))?;
        for document in 0..total {
            crowd.world.add_document(format!("bench-cold-{document}"), 0, 0);
            let seeder = crowd.seed(document, &content)?;
            crowd.leave(seeder);
        }
        crowd.run(STORE_WAIT, &mut [])?;
        server.stop()
    };
    stored?;

    let server = peer.start(&bench.places, true)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), trace)?;
    crowd.world.compares_joins = true;
    for document in 0..total {
        crowd.world.add_document(format!("bench-cold-{document}"), 0, 0);
    }
    let open = |crowd: &mut Crowd, document| -> anyhow::Result<f64> {
        let seat = Seat { document, member: None, receive_buffer_bytes: None };
        let id = crowd.join(&[seat], 1)?;
        let client = &crowd.world.clients[id];
        Ok((client.synced_at - client.started_at) as f64 / 1e6)
    };
    for document in 0..WARM_UP_DOCUMENTS {
        open(&mut crowd, document)?;
    }
    settle(&mut crowd, peer, &server)?;
    let before = Usage::of(server.pid)?;
    let mut waits = (WARM_UP_DOCUMENTS..total)
        .map(|document| open(&mut crowd, document))
        .collect::<anyhow::Result<Vec<f64>>>()?;
    let loaded = Usage::of(server.pid)?;
    settle(&mut crowd, peer, &server)?;
    let after = Usage::of(server.pid)?;

    let spent = loaded.since(&before);
    let mut figures = Figures::default();
    figures.put_spent(&spent);
    figures.put("load_p50_ms", quantile(&mut waits, 0.5));
    figures.put("load_p99_ms", quantile(&mut waits, 0.99));
    figures.put("cpu_us_per_load", spent.cpu_seconds * 1e6 / documents as f64);
    let rss_kb = after.rss_kb as f64 - before.rss_kb as f64;
    figures.put("rss_kb_per_document", rss_kb / documents as f64);
    figures.put("rss_per_encoded_byte", rss_kb * 1024.0 / (documents * content.len()) as f64);
    figures.put_verdict(&crowd.verdict()?);
    for join in crowd.world.joins() {
        if text_of(std::iter::once(&join[..])).ok().as_deref() != Some(&expected) {
            figures.faults.push("a document was loaded that differs from the stored one".to_owned());
        }
    }
    Ok(figures)
}

fn settle(crowd: &mut Crowd, peer: Peer, server: &crate::peer::Running) -> anyhow::Result<()> {
    if peer.is_node() {
        server.collect_garbage()?;
    }
    crowd.run(SETTLE_WAIT, &mut [])
}
