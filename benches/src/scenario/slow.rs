//! `slow`: readers of a busy document stop reading; the others must not notice, and memory must stay bounded.

use std::sync::Arc;

use super::{Bench, Figures, JOIN_AT_A_TIME};
use crate::crowd::{Act, Crowd, Pace, Seat, Stage};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::Trace;

const MEMBERS: usize = 100;
const WRITERS: usize = 10;
const STALLED: usize = 10;
const UPDATES_PER_SECOND: f64 = 20.0;
const KEEP_ALIVES_PER_SECOND: f64 = 1.0 / 15.0;
/// A small receive buffer makes a stall reach the server's own memory sooner.
const STALLED_RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer) -> anyhow::Result<Figures> {
    let warm_up = bench.span(1.0, 3.0);
    let window = bench.span(8.0, 60.0);
    // More per second in the short form, so that the socket buffers overflow there as well.
    let chars = if bench.form == super::Form::Short { 4096 } else { 2048 };
    let updates = ((warm_up + window * 2).as_secs_f64() * UPDATES_PER_SECOND) as usize + 3;
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(updates, chars)))?;
    let document = crowd.world.add_document("bench-slow".to_owned(), WRITERS, 0);
    let seats: Vec<Seat> = (0..MEMBERS)
        .map(|member| Seat {
            document,
            member: Some(member),
            receive_buffer_bytes: (member >= MEMBERS - STALLED).then_some(STALLED_RECEIVE_BUFFER_BYTES),
        })
        .collect();
    crowd.join(&seats, JOIN_AT_A_TIME)?;
    let mut paces = [
        Pace::new(Act::Type, 0..WRITERS, UPDATES_PER_SECOND, 1),
        Pace::new(Act::KeepAlive, WRITERS..MEMBERS, KEEP_ALIVES_PER_SECOND, 2),
    ];
    crowd.run(warm_up, &mut paces)?;

    let mut figures = Figures::default();
    let before = Usage::of(server.pid)?;
    crowd.start_recording();
    crowd.run(window, &mut paces)?;
    let calm = Usage::of(server.pid)?;
    let calm_counts = std::mem::take(&mut crowd.world.counts);

    let stalled = MEMBERS - STALLED..MEMBERS;
    for id in stalled.clone() {
        crowd.stall(id)?;
    }
    crowd.run(window, &mut paces)?;
    let after = Usage::of(server.pid)?;
    let counts = std::mem::take(&mut crowd.world.counts);
    let spent = after.since(&calm);

    for id in stalled.clone() {
        crowd.wake(id)?;
    }
    crowd.drain()?;
    let closed: Vec<usize> = stalled.filter(|&id| crowd.world.clients[id].stage == Stage::Closed).collect();
    for _ in &closed {
        crowd.join(&[Seat { document, member: None, receive_buffer_bytes: None }], 1)?;
    }
    crowd.drain()?;

    figures.put_spent(&spent);
    figures.put_counts(&counts, &spent);
    figures.put("calm_p99_ms", calm_counts.latency.quantile_ms(0.99));
    let (calm_p99, p99) = (calm_counts.latency.quantile_ms(0.99), counts.latency.quantile_ms(0.99));
    figures.put("p99_over_calm", p99 / calm_p99.max(f64::MIN_POSITIVE));
    let growth = |from: &Usage, to: &Usage| (to.rss_kb as f64 - from.rss_kb as f64) / 1000.0;
    // The document grows by the same in both windows; what is beyond that, the stalled readers cost.
    figures.put("rss_growth_calm_mb", growth(&before, &calm));
    figures.put("rss_growth_stalled_mb", growth(&calm, &after));
    figures.put("rss_mb_per_stalled", (growth(&calm, &after) - growth(&before, &calm)) / STALLED as f64);
    figures.put("stalled_mb_each", counts.updates as f64 * f64::from(chars) / 1e6);
    figures.put("closed_stalled", closed.len() as f64);
    figures.put("rss_peak_mb", after.rss_peak_kb as f64 / 1000.0);
    figures.put_verdict(&crowd.verdict()?);
    Ok(figures)
}
