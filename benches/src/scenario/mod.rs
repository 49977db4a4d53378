//! The scenarios: what is offered to a server, and what is measured.

mod churn;
mod cold;
mod counts;
mod idle;
mod presence;
mod saturate;
mod slow;
mod storm;
mod typing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::crowd::{Crowd, Seat, Verdict};
use crate::peer::{Peer, Places, Running};
use crate::proc::Spent;
use crate::profile::Profiler;

/// How long the scenarios last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Form {
    /// Minutes for all of them.
    Short,
    /// An hour or more.
    Full,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Scenario {
    /// 1 document, 100 connections, 4 writers at 10/s.
    #[value(name = "fanout-100")]
    Fanout100,
    /// 1 document, 500 connections, 4 writers at 5/s.
    #[value(name = "fanout-500")]
    Fanout500,
    /// 1 document, 500 connections, 10 writers at 10/s.
    #[value(name = "fanout-500-busy")]
    Fanout500Busy,
    /// 250 documents, 4 connections each, all of them type 5/s.
    Rooms,
    /// 250 documents, 4 connections each, all of them type 2/s and move their cursor 2/s.
    RoomsCursors,
    /// Closed loop: 1 document, 100 connections.
    #[value(name = "saturate-1x100")]
    Saturate1x100,
    /// Closed loop: 1 document, 500 connections.
    #[value(name = "saturate-1x500")]
    Saturate1x500,
    /// Closed loop: 100 documents, 4 connections each.
    #[value(name = "saturate-100x4")]
    Saturate100x4,
    /// 200 clients open one document of 1 MB.
    #[value(name = "storm-1mb")]
    Storm1mb,
    /// 500 clients open one document of 100 kB.
    #[value(name = "storm-100kb")]
    Storm100kb,
    /// 20 stored documents of 1 MB are opened after a restart.
    #[value(name = "cold-1mb")]
    Cold1mb,
    /// 100 stored documents of 100 kB are opened after a restart.
    #[value(name = "cold-100kb")]
    Cold100kb,
    /// 2,000 connections to 500 documents that do nothing.
    #[value(name = "idle-2000")]
    Idle2000,
    /// 10,000 connections to 2,500 documents that do nothing.
    #[value(name = "idle-10000")]
    Idle10000,
    /// 10 of 100 readers of a busy document stop reading.
    Slow,
    /// Clients come and go while others type.
    Churn,
    /// 1,500 observers with presence, 10 writers.
    Presence,
}

/// One measurement of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// The scenario.
    pub scenario: String,
    /// The number of writers, where a scenario is measured at several.
    pub level: Option<usize>,
    /// The server.
    pub peer: String,
    /// The how-manieth of its kind, from 1.
    pub repetition: usize,
    /// The figures by name; the unit is the last part of the name.
    pub values: BTreeMap<String, f64>,
    /// What the check found wrong; empty when nothing was lost and all converged.
    pub faults: Vec<String>,
}

/// Where and how long.
pub struct Bench {
    /// Programs and files.
    pub places: Places,
    /// How long.
    pub form: Form,
    /// Where profiles go, when they are wanted.
    pub profiles: Option<PathBuf>,
}

/// Figures in the making.
#[derive(Default)]
pub(crate) struct Figures {
    level: Option<usize>,
    values: BTreeMap<String, f64>,
    faults: Vec<String>,
}

impl Figures {
    fn put(&mut self, name: &str, value: f64) {
        self.values.insert(name.to_owned(), value);
    }

    /// What every scenario says of its window.
    fn put_spent(&mut self, spent: &Spent) {
        self.put("server_cpu_percent", 100.0 * spent.cpu_seconds / spent.seconds);
        self.put("kernel_share", spent.kernel_share);
        self.put("generator_cpu_percent", 100.0 * spent.own_cpu_seconds / spent.seconds);
        self.put("other_cpu_percent", 100.0 * spent.other_cpu_seconds / spent.seconds);
    }

    fn put_verdict(&mut self, verdict: &Verdict) {
        for (name, count) in [
            ("undelivered", verdict.undelivered),
            ("presence_undelivered", verdict.presence_undelivered),
            ("unacked", verdict.unacked),
            ("different_texts", verdict.different_texts),
        ] {
            self.put(name, count as f64);
            if count > 0 {
                self.faults.push(format!("{name}: {count}"));
            }
        }
        self.faults.extend(verdict.faults.iter().cloned());
    }
}

impl Scenario {
    /// The name in reports and on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether the scenario says something about this server.
    pub fn applies_to(self, peer: Peer) -> bool {
        !self.applies_only_to_stores() || peer.has_store()
    }

    /// Whether the form has it without being asked.
    pub fn belongs_to(self, form: Form) -> bool {
        let is_second_size = matches!(
            self,
            Self::Fanout500 | Self::Saturate1x500 | Self::Storm100kb | Self::Cold100kb | Self::Idle10000
        );
        form == Form::Full || !is_second_size
    }

    /// Whom the form measures without being asked.
    pub fn measures(self, form: Form, peer: Peer) -> bool {
        // What a store costs shows where updates are many or documents are loaded.
        let is_about_stores =
            matches!(self, Self::Rooms | Self::Saturate100x4 | Self::Cold1mb | Self::Cold100kb);
        let is_long = matches!(self, Self::Slow | Self::Presence | Self::Idle10000);
        match peer {
            Peer::FidibusMemory | Peer::Hocuspocus | Peer::RelayTokio => true,
            Peer::FidibusSqlite => is_about_stores,
            Peer::FidibusPostgres => is_about_stores && form == Form::Full,
            Peer::HocuspocusDatabase => {
                is_about_stores && (form == Form::Full || self.applies_only_to_stores())
            }
            Peer::FidibusNode | Peer::YWebsocket | Peer::RelayEpoll => form == Form::Full && !is_long,
        }
    }

    fn applies_only_to_stores(self) -> bool {
        matches!(self, Self::Cold1mb | Self::Cold100kb)
    }

    /// Measures one server once; a scenario with several levels gives a measurement each.
    pub fn run(self, bench: &Bench, peer: Peer, repetition: usize) -> anyhow::Result<Vec<Measurement>> {
        let figures = match self {
            Self::Fanout100 => vec![typing::run(bench, peer, &self.name(), &typing::fanout(100, 4, 10.0))?],
            Self::Fanout500 => vec![typing::run(bench, peer, &self.name(), &typing::fanout(500, 4, 5.0))?],
            Self::Fanout500Busy => {
                vec![typing::run(bench, peer, &self.name(), &typing::fanout(500, 10, 10.0))?]
            }
            Self::Rooms => vec![typing::run(bench, peer, &self.name(), &typing::rooms(5.0, 0.0))?],
            Self::RoomsCursors => vec![typing::run(bench, peer, &self.name(), &typing::rooms(2.0, 2.0))?],
            Self::Saturate1x100 => saturate::run(bench, peer, &self.name(), 1, 100)?,
            Self::Saturate1x500 => saturate::run(bench, peer, &self.name(), 1, 500)?,
            Self::Saturate100x4 => saturate::run(bench, peer, &self.name(), 100, 4)?,
            Self::Storm1mb => vec![storm::run(bench, peer, 200, 1_000_000)?],
            Self::Storm100kb => vec![storm::run(bench, peer, 500, 100_000)?],
            Self::Cold1mb => vec![cold::run(bench, peer, 20, 1_000_000)?],
            Self::Cold100kb => vec![cold::run(bench, peer, 100, 100_000)?],
            Self::Idle2000 => vec![idle::run(bench, peer, 500, 4)?],
            Self::Idle10000 => vec![idle::run(bench, peer, 2500, 4)?],
            Self::Slow => vec![slow::run(bench, peer)?],
            Self::Churn => vec![churn::run(bench, peer)?],
            Self::Presence => vec![presence::run(bench, peer)?],
        };
        Ok(figures
            .into_iter()
            .map(|figures| Measurement {
                scenario: self.name(),
                level: figures.level,
                peer: peer.name().to_owned(),
                repetition,
                values: figures.values,
                faults: figures.faults,
            })
            .collect())
    }
}

impl Bench {
    /// A span that differs between the forms.
    fn span(&self, short: f64, full: f64) -> Duration {
        Duration::from_secs_f64(if self.form == Form::Short { short } else { full })
    }

    /// Begins to sample a server, when that is wanted.
    fn profile(&self, server: &Running, name: &str) -> anyhow::Result<Option<Profiler>> {
        self.profiles.as_ref().map(|folder| Profiler::start(server.pid, folder, name)).transpose()
    }
}

/// How many connections join at the same time where joining is not what is measured.
const JOIN_AT_A_TIME: usize = 64;

/// Fills the documents with members `0..members`, document after document.
fn join_all(crowd: &mut Crowd, documents: usize, members: usize) -> anyhow::Result<()> {
    let seats: Vec<Seat> = (0..documents)
        .flat_map(|document| {
            (0..members).map(move |member| Seat {
                document,
                member: Some(member),
                receive_buffer_bytes: None,
            })
        })
        .collect();
    crowd.join(&seats, JOIN_AT_A_TIME)?;
    Ok(())
}

/// The quantile of unsorted figures.
fn quantile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = (figures.len() as f64 * share).ceil() as usize;
    figures.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}
