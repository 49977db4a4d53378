//! `presence`: 1,500 observers whose presence is shown and renewed, and ten writers.

use std::sync::Arc;

use super::{Bench, Figures, join_all};
use crate::crowd::{Act, Crowd, Pace};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::Trace;

const OBSERVERS: usize = 1500;
const WRITERS: usize = 10;
const UPDATES_PER_SECOND: f64 = 2.0;
const CURSORS_PER_SECOND: f64 = 2.0;
/// y-protocols renews a state after half of the 30 s in which it would be taken for gone.
const RENEWALS_PER_SECOND: f64 = 1.0 / 15.0;

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer) -> anyhow::Result<Figures> {
    let warm_up = bench.span(4.0, 15.0);
    let window = bench.span(8.0, 20.0);
    let updates = ((warm_up + window).as_secs_f64() * UPDATES_PER_SECOND) as usize + 2;
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(updates, 1)))?;
    crowd.world.add_document("bench-presence".to_owned(), WRITERS, WRITERS);
    join_all(&mut crowd, 1, WRITERS + OBSERVERS)?;
    let mut paces = [
        Pace::new(Act::Type, 0..WRITERS, UPDATES_PER_SECOND, 1),
        Pace::new(Act::ShowPresence, 0..WRITERS, CURSORS_PER_SECOND, 2),
        Pace::new(Act::ShowPresence, WRITERS..WRITERS + OBSERVERS, RENEWALS_PER_SECOND, 3),
    ];
    crowd.run(warm_up, &mut paces)?;
    let before = Usage::of(server.pid)?;
    crowd.start_recording();
    crowd.run(window, &mut paces)?;
    let after = Usage::of(server.pid)?;
    let counts = std::mem::take(&mut crowd.world.counts);
    crowd.drain()?;

    let spent = after.since(&before);
    let mut figures = Figures::default();
    figures.put_spent(&spent);
    figures.put_counts(&counts, &spent);
    figures.put("rss_peak_mb", after.rss_peak_kb as f64 / 1000.0);
    figures.put_verdict(&crowd.verdict()?);
    Ok(figures)
}
