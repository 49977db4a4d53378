//! The targets for speed and size, and whether they are met.

use super::table::Table;
use super::{Key, Results, Spread, short};

const RELAY: &str = "relay-tokio";
const HOCUSPOCUS: &str = "hocuspocus";
const HOCUSPOCUS_DATABASE: &str = "hocuspocus-database";
const MEMORY: &str = "fidibus-memory";
const SQLITE: &str = "fidibus-sqlite";
const POSTGRES: &str = "fidibus-postgres";

/// What a figure is compared with.
enum Goal {
    /// At most so many times what another server has in the same run.
    Ratio(&'static str, f64),
    /// At most so much.
    Absolute(f64),
}

struct Target {
    text: &'static str,
    scenario: &'static str,
    /// Whether the highest number of writers counts that all were measured at.
    at_many_writers: bool,
    figure: &'static str,
    peer: &'static str,
    goals: &'static [Goal],
}

const fn target(
    text: &'static str,
    scenario: &'static str,
    figure: &'static str,
    peer: &'static str,
    goals: &'static [Goal],
) -> Target {
    Target { text, scenario, at_many_writers: false, figure, peer, goals }
}

const fn at_many_writers(target: Target) -> Target {
    Target { at_many_writers: true, ..target }
}

use Goal::{Absolute, Ratio};

const TARGETS: &[Target] = &[
    target(
        "fanout 500, busy: server CPU per delivered update",
        "fanout-500-busy",
        "cpu_us_per_delivery",
        MEMORY,
        &[Ratio(RELAY, 1.0), Ratio(HOCUSPOCUS, 0.6)],
    ),
    target(
        "rooms 250 × 4, 5/s: CPU per update",
        "rooms",
        "cpu_us_per_update",
        MEMORY,
        &[Ratio(RELAY, 1.1), Ratio(HOCUSPOCUS, 0.5)],
    ),
    target(
        "the same with cursors",
        "rooms-cursors",
        "cpu_us_per_update",
        MEMORY,
        &[Ratio(RELAY, 1.1), Ratio(HOCUSPOCUS, 0.33)],
    ),
    at_many_writers(target(
        "saturate 1 × 100, many writers: CPU per delivered update",
        "saturate-1x100",
        "cpu_us_per_delivery",
        MEMORY,
        &[Ratio(RELAY, 0.75), Ratio(HOCUSPOCUS, 0.25)],
    )),
    at_many_writers(target(
        "saturate 100 × 4: CPU per update",
        "saturate-100x4",
        "cpu_us_per_update",
        MEMORY,
        &[Ratio(RELAY, 1.15), Ratio(HOCUSPOCUS, 0.12)],
    )),
    target(
        "storm 200 × 1 MB: until the last is synced",
        "storm-1mb",
        "all_synced_s",
        MEMORY,
        &[Ratio(RELAY, 1.2), Ratio(HOCUSPOCUS, 0.2)],
    ),
    target(
        "idle connection, four per document: resident kB",
        "idle-2000",
        "rss_kb_per_connection",
        MEMORY,
        &[Absolute(5.0), Ratio(HOCUSPOCUS, 0.2)],
    ),
    target(
        "loaded document of 1 MB, fragmented: resident bytes per encoded byte",
        "cold-1mb",
        "rss_per_encoded_byte",
        SQLITE,
        &[Absolute(1.5), Ratio(HOCUSPOCUS_DATABASE, 0.15)],
    ),
    target(
        "cold load of it from the store, p50",
        "cold-1mb",
        "load_p50_ms",
        SQLITE,
        &[Ratio(HOCUSPOCUS_DATABASE, 0.1)],
    ),
    target(
        "the same from PostgreSQL",
        "cold-1mb",
        "load_p50_ms",
        POSTGRES,
        &[Ratio(HOCUSPOCUS_DATABASE, 0.1)],
    ),
    target(
        "p99 latency in rooms 250 × 4",
        "rooms",
        "latency_p99_ms",
        MEMORY,
        &[Ratio(RELAY, 2.0), Ratio(HOCUSPOCUS, 0.1)],
    ),
    target(
        "durable acks on SQLite, rooms: CPU per update",
        "rooms",
        "cpu_us_per_update",
        SQLITE,
        &[Ratio(MEMORY, 1.3), Ratio(HOCUSPOCUS, 1.0)],
    ),
    target(
        "durable acks on PostgreSQL, rooms: CPU per update",
        "rooms",
        "cpu_us_per_update",
        POSTGRES,
        &[Ratio(MEMORY, 1.3), Ratio(HOCUSPOCUS, 1.0)],
    ),
    at_many_writers(target(
        "durable acks on SQLite, saturate 100 × 4: CPU per update",
        "saturate-100x4",
        "cpu_us_per_update",
        SQLITE,
        &[Ratio(MEMORY, 1.3), Ratio(HOCUSPOCUS, 1.0)],
    )),
    target("stalled readers: MB of memory for each", "slow", "rss_mb_per_stalled", MEMORY, &[Absolute(1.0)]),
    target(
        "stalled readers: the others' p99, times that before",
        "slow",
        "p99_over_calm",
        MEMORY,
        &[Absolute(1.5)],
    ),
    target(
        "stalled readers: clocks lacking after they woke",
        "slow",
        "undelivered",
        MEMORY,
        &[Absolute(0.0)],
    ),
    target(
        "1,500 observers, 10 writers: clocks undelivered",
        "presence",
        "undelivered",
        MEMORY,
        &[Absolute(0.0)],
    ),
    target(
        "the same: last presence states undelivered",
        "presence",
        "presence_undelivered",
        MEMORY,
        &[Absolute(0.0)],
    ),
    target("the same: p99 of updates, ms", "presence", "latency_p99_ms", MEMORY, &[Absolute(100.0)]),
    target("the same: p99 of presence, ms", "presence", "presence_p99_ms", MEMORY, &[Absolute(100.0)]),
];

/// What the targets compare, as names of scenarios and servers; some more than once.
pub fn compared() -> impl Iterator<Item = (&'static str, &'static str)> {
    TARGETS.iter().flat_map(|target| {
        let peers = target.peers();
        // One server alone is compared with nobody.
        let compared = peers.len() > 1;
        peers.into_iter().filter(move |_| compared).map(|peer| (target.scenario, peer))
    })
}

impl Target {
    /// The server and those that it is compared with.
    fn peers(&self) -> Vec<&'static str> {
        let against = self.goals.iter().filter_map(|goal| match goal {
            Ratio(against, _) => Some(*against),
            Absolute(_) => None,
        });
        std::iter::once(self.peer).chain(against).collect()
    }

    fn key(&self, results: &Results) -> Key {
        let level =
            if self.at_many_writers { results.highest_level(self.scenario, &self.peers()) } else { None };
        Key { scenario: self.scenario.to_owned(), level, peer: self.peer.to_owned() }
    }
}

/// The table of targets: one row per goal.
pub fn table(results: &Results) -> Table {
    let headers = ["what", "server", "measured", "compared with", "target", "reached", "verdict"];
    let intro = "Ratios are taken within a run; the verdict is that of the median. Why some are not met stands in \
                 benches/README.md, \"Targets that are not met\".";
    let mut table = Table::new("Targets", intro, &headers);
    for target in TARGETS {
        let key = target.key(results);
        let measured = results.spread(&key, target.figure);
        for goal in target.goals {
            let (against, limit, reached) = match goal {
                Ratio(against, limit) => (
                    *against,
                    format!("≤ {limit} ×"),
                    results.ratio(&key, target.figure, against).map(|found| (found, *limit)),
                ),
                Absolute(limit) => ("–", format!("≤ {limit}"), measured.map(|found| (found, *limit))),
            };
            table.rows.push(vec![
                target.text.to_owned(),
                target.peer.to_owned(),
                measured.map_or_else(
                    || "–".to_owned(),
                    |found| format!("{} {}", found.text(), unit(target.figure)),
                ),
                against.to_owned(),
                limit,
                reached.map_or_else(|| "–".to_owned(), |(found, _)| found.text()),
                verdict(reached).to_owned(),
            ]);
        }
    }
    table
}

fn verdict(reached: Option<(Spread, f64)>) -> &'static str {
    match reached {
        None => "not measured",
        Some((found, limit)) if found.median <= limit => "met",
        // A figure that reads as the limit itself is not held against a server.
        Some((found, limit)) if short(found.median) == short(limit) => "met",
        Some(_) => "not met",
    }
}

fn unit(figure: &str) -> &'static str {
    match figure {
        _ if figure.starts_with("cpu_us") => "µs",
        _ if figure.ends_with("_ms") => "ms",
        _ if figure.ends_with("_s") => "s",
        "rss_kb_per_connection" => "kB",
        "rss_mb_per_stalled" => "MB",
        _ => "",
    }
}
