//! `idle`: what an open connection costs that does nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, Figures, join_all};
use crate::crowd::Crowd;
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::Trace;

/// Servers keep things for a moment for whoever comes next; what is resident is what stays.
const SETTLE_WAIT: Duration = Duration::from_secs(4);

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer, documents: usize, members: usize) -> anyhow::Result<Figures> {
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(1, 1)))?;
    for document in 0..documents {
        crowd.world.add_document(format!("bench-{document}"), 0, 0);
    }
    let settle = |crowd: &mut Crowd| -> anyhow::Result<Usage> {
        if peer.is_node() {
            server.collect_garbage()?;
        }
        crowd.run(SETTLE_WAIT, &mut [])?;
        Usage::of(server.pid)
    };
    let empty = settle(&mut crowd)?;
    join_all(&mut crowd, documents, members)?;
    let joined = Usage::of(server.pid)?;
    let open = settle(&mut crowd)?;
    crowd.run(bench.span(3.0, 10.0), &mut [])?;
    let after = Usage::of(server.pid)?;

    let connections = (documents * members) as f64;
    let mut figures = Figures::default();
    let spent = after.since(&open);
    figures.put_spent(&spent);
    figures.put("rss_kb_per_connection", (open.rss_kb as f64 - empty.rss_kb as f64) / connections);
    figures.put("rss_empty_mb", empty.rss_kb as f64 / 1000.0);
    figures.put("cpu_us_per_connect", joined.since(&empty).cpu_seconds * 1e6 / connections);
    figures.put("idle_cpu_percent", 100.0 * spent.cpu_seconds / spent.seconds);
    figures.put_verdict(&crowd.verdict()?);
    Ok(figures)
}
