//! `saturate`: a closed loop, each writer types as soon as its last update was acked.

use std::sync::Arc;

use super::{Bench, Figures, Form, join_all};
use crate::crowd::Crowd;
use crate::peer::Peer;
use crate::proc::Usage;
use crate::profile::Profiler;
use crate::trace::Trace;

/// A writer alone types at most so often: what loopback allows, with room above.
const UPDATES_PER_SECOND_MAX: f64 = 25_000.0;
/// All writers together, likewise.
const UPDATES_PER_SECOND_TOTAL_MAX: f64 = 300_000.0;

/// Measures one server at several numbers of writers, each with a fresh process.
pub fn run(
    bench: &Bench,
    peer: Peer,
    name: &str,
    documents: usize,
    members: usize,
) -> anyhow::Result<Vec<Figures>> {
    let levels: &[usize] = match (documents, members, bench.form) {
        (1, 100, Form::Short) => &[1, 64],
        (1, 100, Form::Full) => &[1, 4, 16, 64, 100],
        (1, _, Form::Short) => &[256],
        (1, _, Form::Full) => &[1, 16, 64, 256, 500],
        (_, _, Form::Short) => &[400],
        (_, _, Form::Full) => &[100, 250, 400],
    };
    levels.iter().map(|&writers| level(bench, peer, name, [documents, members, writers])).collect()
}

fn level(
    bench: &Bench,
    peer: Peer,
    name: &str,
    [documents, members, writers]: [usize; 3],
) -> anyhow::Result<Figures> {
    let warm_up = bench.span(1.0, 2.0);
    let window = bench.span(2.0, 4.0);
    let per_writer = UPDATES_PER_SECOND_MAX.min(4.0 * UPDATES_PER_SECOND_TOTAL_MAX / writers as f64);
    let updates = ((warm_up + window).as_secs_f64() * per_writer) as usize;
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(updates, 1)))?;
    // Writers are spread over the documents before a document gets a second one.
    let in_document = |document: usize| writers / documents + usize::from(document < writers % documents);
    for document in 0..documents {
        crowd.world.add_document(format!("bench-{document}"), in_document(document), 0);
    }
    join_all(&mut crowd, documents, members)?;

    let ids: Vec<usize> =
        (0..documents * members).filter(|id| id % members < in_document(id / members)).collect();
    crowd.start_closed_loop(&ids, warm_up + window)?;
    crowd.run(warm_up, &mut [])?;
    let before = Usage::of(server.pid)?;
    crowd.start_recording();
    let profiler = bench.profile(&server, &format!("{name}-{writers}-{}", peer.name()))?;
    crowd.run(window, &mut [])?;
    let after = Usage::of(server.pid)?;
    crowd.world.closed_loop_until = 0;
    let counts = std::mem::take(&mut crowd.world.counts);
    crowd.drain()?;
    profiler.map(Profiler::finish).transpose()?;

    let mut figures = Figures { level: Some(writers), ..Figures::default() };
    let spent = after.since(&before);
    figures.put_spent(&spent);
    figures.put_counts(&counts, &spent);
    figures.put("acks_per_s", counts.acks as f64 / spent.seconds);
    figures.put("rss_peak_mb", after.rss_peak_kb as f64 / 1000.0);
    figures.put("exhausted_writers", crowd.world.exhausted as f64);
    figures.put_verdict(&crowd.verdict()?);
    Ok(figures)
}
