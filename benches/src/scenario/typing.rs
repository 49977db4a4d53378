//! `fanout` and `rooms`: keystrokes at a fixed rate, whether the server keeps up or not.

use std::sync::Arc;

use super::{Bench, Figures, join_all};
use crate::crowd::{Act, Crowd, Pace};
use crate::peer::Peer;
use crate::proc::Usage;
use crate::profile::Profiler;
use crate::trace::Trace;

/// Who types where, and how fast.
pub struct Typing {
    documents: usize,
    members: usize,
    writers: usize,
    per_second: f64,
    cursors_per_second: f64,
}

/// One document, some of whose readers write.
pub fn fanout(members: usize, writers: usize, per_second: f64) -> Typing {
    Typing { documents: 1, members, writers, per_second, cursors_per_second: 0.0 }
}

/// 250 documents whose four members all write.
pub fn rooms(per_second: f64, cursors_per_second: f64) -> Typing {
    Typing { documents: 250, members: 4, writers: 4, per_second, cursors_per_second }
}

/// Measures one server.
pub fn run(bench: &Bench, peer: Peer, name: &str, typing: &Typing) -> anyhow::Result<Figures> {
    let warm_up = bench.span(1.5, 3.0);
    let window = bench.span(4.0, 10.0);
    let updates = ((warm_up + window).as_secs_f64() * typing.per_second) as usize + 2;
    let server = peer.start(&bench.places, false)?;
    let mut crowd = Crowd::new(server.port, peer.dialect(), Arc::new(Trace::typing(updates, 1)))?;
    let has_cursors = typing.cursors_per_second > 0.0;
    for document in 0..typing.documents {
        let presences = if has_cursors { typing.members } else { 0 };
        crowd.world.add_document(format!("bench-{document}"), typing.writers, presences);
    }
    join_all(&mut crowd, typing.documents, typing.members)?;

    let ids = 0..typing.documents * typing.members;
    let writers = ids.clone().filter(|id| id % typing.members < typing.writers);
    let mut paces = vec![Pace::new(Act::Type, writers, typing.per_second, 1)];
    if has_cursors {
        paces.push(Pace::new(Act::ShowPresence, ids, typing.cursors_per_second, 2));
    }
    crowd.run(warm_up, &mut paces)?;
    let before = Usage::of(server.pid)?;
    crowd.start_recording();
    let profiler = bench.profile(&server, &format!("{name}-{}", peer.name()))?;
    crowd.run(window, &mut paces)?;
    let after = Usage::of(server.pid)?;
    let counts = std::mem::take(&mut crowd.world.counts);
    crowd.drain()?;
    profiler.map(Profiler::finish).transpose()?;

    let mut figures = Figures::default();
    let spent = after.since(&before);
    figures.put_spent(&spent);
    figures.put_counts(&counts, &spent);
    figures.put("rss_peak_mb", after.rss_peak_kb as f64 / 1000.0);
    figures.put_verdict(&crowd.verdict()?);
    Ok(figures)
}
