//! `churn`: clients come and go while others type.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, Figures, join_all, quantile};
use crate::crowd::{Act, Crowd, Pace, Seat, Stage};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::trace::Trace;

const DOCUMENTS: usize = 50;
const MEMBERS: usize = 4;
const UPDATES_PER_SECOND: f64 = 1.0;
const COMERS_PER_SECOND: u64 = 200;
const STAY: Duration = Duration::from_secs(1);
/// Comers open these besides the documents that are in use; they are loaded and unloaded again and again.
const VISITED_DOCUMENTS: usize = 50;

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer) -> anyhow::Result<Figures> {
    let warm_up = bench.span(2.0, 5.0);
    let window = bench.span(5.0, 20.0);
    let updates = (window + warm_up).as_secs() as usize + 5;
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(updates, 1)))?;
    for document in 0..DOCUMENTS + VISITED_DOCUMENTS {
        let writers = if document < DOCUMENTS { MEMBERS } else { 0 };
        crowd.world.add_document(format!("bench-{document}"), writers, 0);
    }
    join_all(&mut crowd, DOCUMENTS, MEMBERS)?;
    let mut paces = [Pace::new(Act::Type, 0..DOCUMENTS * MEMBERS, UPDATES_PER_SECOND, 1)];
    let mut visitors = Visitors::default();
    visitors.run(&mut crowd, &mut paces, warm_up)?;
    let before = Usage::of(server.pid)?;
    visitors.waits.clear();
    crowd.start_recording();
    visitors.run(&mut crowd, &mut paces, window)?;
    let after = Usage::of(server.pid)?;
    let counts = std::mem::take(&mut crowd.world.counts);
    visitors.leave_all(&mut crowd);
    crowd.drain()?;

    let spent = after.since(&before);
    let visits = visitors.waits.len();
    let mut figures = Figures::default();
    figures.put_spent(&spent);
    figures.put_counts(&counts, &spent);
    figures.put("visits_per_s", visits as f64 / spent.seconds);
    figures.put("sync_p50_ms", quantile(&mut visitors.waits, 0.5));
    figures.put("sync_p99_ms", quantile(&mut visitors.waits, 0.99));
    figures.put("cpu_us_per_visit", spent.cpu_seconds * 1e6 / visits.max(1) as f64);
    figures.put("rss_growth_mb", (after.rss_kb as f64 - before.rss_kb as f64) / 1000.0);
    figures.put("never_synced", visitors.never_synced as f64);
    figures.put_verdict(&crowd.verdict()?);
    if visitors.never_synced > 0 {
        figures.faults.push(format!("{} visitors had not synced after {STAY:?}", visitors.never_synced));
    }
    Ok(figures)
}

#[derive(Default)]
struct Visitors {
    present: VecDeque<(u64, usize)>,
    waits: Vec<f64>,
    arrived: usize,
    never_synced: usize,
}

impl Visitors {
    fn run(&mut self, crowd: &mut Crowd, paces: &mut [Pace], span: Duration) -> anyhow::Result<()> {
        let until = crowd.net.now() + span.as_nanos() as u64;
        while crowd.net.now() < until {
            let document = self.arrived % (DOCUMENTS + VISITED_DOCUMENTS);
            let id = crowd.connect(Seat { document, member: None, receive_buffer_bytes: None })?;
            self.present.push_back((crowd.net.now() + STAY.as_nanos() as u64, id));
            self.arrived += 1;
            while self.present.front().is_some_and(|(leaves_at, _)| *leaves_at <= crowd.net.now()) {
                self.let_one_leave(crowd);
            }
            crowd.run(Duration::from_micros(1_000_000 / COMERS_PER_SECOND), paces)?;
        }
        Ok(())
    }

    fn let_one_leave(&mut self, crowd: &mut Crowd) {
        let Some((_, id)) = self.present.pop_front() else { return };
        let client = &crowd.world.clients[id];
        if client.stage == Stage::Synced {
            self.waits.push((client.synced_at - client.started_at) as f64 / 1e6);
        } else {
            self.never_synced += 1;
        }
        crowd.leave(id);
    }

    fn leave_all(&mut self, crowd: &mut Crowd) {
        while let Some((_, id)) = self.present.pop_front() {
            crowd.leave(id);
        }
    }
}
