//! The tables of the report: which figures of which scenarios stand side by side.

use super::{Key, Results};

/// A table, before it is written in some form.
pub struct Table {
    /// Its heading.
    pub title: String,
    /// A sentence below it.
    pub note: String,
    /// The columns.
    pub headers: Vec<String>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, note: &str, headers: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            rows: Vec::new(),
        }
    }
}

/// Scenarios with the same figures.
struct Group {
    title: &'static str,
    note: &'static str,
    scenarios: &'static [&'static str],
    /// Column and figure; the first is the one that ratios are shown of.
    columns: &'static [(&'static str, &'static str)],
}

const GROUPS: &[Group] = &[
    Group {
        title: "Keystrokes at a fixed rate",
        note: "The offered rate is the same for all; the cost is the CPU column.",
        scenarios: &["fanout-100", "fanout-500", "fanout-500-busy"],
        columns: &[
            ("CPU µs / delivery", "cpu_us_per_delivery"),
            ("CPU µs / update", "cpu_us_per_update"),
            ("deliveries/s", "deliveries_per_s"),
            ("server CPU %", "server_cpu_percent"),
            ("kernel share", "kernel_share"),
            ("p50 ms", "latency_p50_ms"),
            ("p99 ms", "latency_p99_ms"),
            ("ack p50 ms", "ack_p50_ms"),
            ("peak RSS MB", "rss_peak_mb"),
            ("other CPU %", "other_cpu_percent"),
        ],
    },
    Group {
        title: "Rooms: 250 documents with four writers each",
        note: "Cursors: their cost is in the figure per update, their deliveries are counted apart.",
        scenarios: &["rooms", "rooms-cursors"],
        columns: &[
            ("CPU µs / update", "cpu_us_per_update"),
            ("CPU µs / delivery", "cpu_us_per_delivery"),
            ("deliveries/s", "deliveries_per_s"),
            ("server CPU %", "server_cpu_percent"),
            ("kernel share", "kernel_share"),
            ("p50 ms", "latency_p50_ms"),
            ("p99 ms", "latency_p99_ms"),
            ("ack p50 ms", "ack_p50_ms"),
            ("ack p99 ms", "ack_p99_ms"),
            ("peak RSS MB", "rss_peak_mb"),
            ("other CPU %", "other_cpu_percent"),
        ],
    },
    Group {
        title: "Closed loop: every writer waits for its ack",
        note: "Where the generator's core is full, deliveries/s is a lower bound; the CPU column holds.",
        scenarios: &["saturate-1x100", "saturate-1x500", "saturate-100x4"],
        columns: &[
            ("CPU µs / delivery", "cpu_us_per_delivery"),
            ("CPU µs / update", "cpu_us_per_update"),
            ("deliveries/s", "deliveries_per_s"),
            ("acked updates/s", "acks_per_s"),
            ("updates per frame", "updates_per_frame"),
            ("p50 ms", "latency_p50_ms"),
            ("p99 ms", "latency_p99_ms"),
            ("server CPU %", "server_cpu_percent"),
            ("generator CPU %", "generator_cpu_percent"),
            ("other CPU %", "other_cpu_percent"),
        ],
    },
    Group {
        title: "Many clients open one document at once",
        note: "From the first connect to the last sync step 2; every client's content is compared.",
        scenarios: &["storm-1mb", "storm-100kb"],
        columns: &[
            ("all synced s", "all_synced_s"),
            ("p50 ms", "sync_p50_ms"),
            ("p99 ms", "sync_p99_ms"),
            ("MB/s", "mb_per_s"),
            ("CPU µs / client", "cpu_us_per_client"),
            ("peak RSS MB", "rss_peak_mb"),
        ],
    },
    Group {
        title: "Stored documents, opened after a restart",
        note: "One after the other by one client each, after ten others to warm up.",
        scenarios: &["cold-1mb", "cold-100kb"],
        columns: &[
            ("p50 ms", "load_p50_ms"),
            ("p99 ms", "load_p99_ms"),
            ("CPU µs / load", "cpu_us_per_load"),
            ("RSS kB / document", "rss_kb_per_document"),
            ("RSS / encoded byte", "rss_per_encoded_byte"),
        ],
    },
    Group {
        title: "Memory of open connections",
        note: "RSS, without the kernel's socket buffers; Node after a forced garbage collection.",
        scenarios: &["idle-2000", "idle-10000"],
        columns: &[
            ("RSS kB / connection", "rss_kb_per_connection"),
            ("CPU µs / connect", "cpu_us_per_connect"),
            ("RSS MB when empty", "rss_empty_mb"),
            ("idle CPU %", "idle_cpu_percent"),
        ],
    },
    Group {
        title: "Readers that stall: 10 of 100 in a busy document",
        note: "The document grows alike in the calm and the stalled window; memory beyond that is the stalled readers'.",
        scenarios: &["slow"],
        columns: &[
            ("others' p99 ms", "latency_p99_ms"),
            ("p99 ms before", "calm_p99_ms"),
            ("MB / stalled reader", "rss_mb_per_stalled"),
            ("MB missed by each", "stalled_mb_each"),
            ("RSS growth MB", "rss_growth_stalled_mb"),
            ("growth before MB", "rss_growth_calm_mb"),
            ("closed by server", "closed_stalled"),
            ("clocks lacking at the end", "undelivered"),
        ],
    },
    Group {
        title: "Clients that come and go",
        note: "200 connects a second, each for one second, half of them to documents that nobody else has open; 200 members type.",
        scenarios: &["churn"],
        columns: &[
            ("CPU µs / visit", "cpu_us_per_visit"),
            ("visits/s", "visits_per_s"),
            ("sync p50 ms", "sync_p50_ms"),
            ("sync p99 ms", "sync_p99_ms"),
            ("typing p99 ms", "latency_p99_ms"),
            ("RSS growth MB", "rss_growth_mb"),
        ],
    },
    Group {
        title: "1,500 observers with presence, 10 writers",
        note: "Writers type 2/s and move 2/s; every observer renews its state each 15 s, as y-protocols does.",
        scenarios: &["presence"],
        columns: &[
            ("server CPU %", "server_cpu_percent"),
            ("p50 ms", "latency_p50_ms"),
            ("p99 ms", "latency_p99_ms"),
            ("presence p50 ms", "presence_p50_ms"),
            ("presence p99 ms", "presence_p99_ms"),
            ("undelivered", "undelivered"),
            ("presence undelivered", "presence_undelivered"),
            ("peak RSS MB", "rss_peak_mb"),
        ],
    },
];

/// All tables that have rows.
pub fn all(results: &Results) -> Vec<Table> {
    GROUPS.iter().map(|group| group.table(results)).filter(|table| !table.rows.is_empty()).collect()
}

impl Group {
    fn table(&self, results: &Results) -> Table {
        let mut headers = vec!["scenario", "server"];
        headers.extend(self.columns.iter().map(|(header, _)| *header));
        headers.extend(["× relay", "× Hocuspocus", "runs"]);
        let mut table = Table::new(self.title, self.note, &headers);
        for scenario in self.scenarios {
            let mut levels: Vec<Option<usize>> = results
                .measurements
                .keys()
                .filter(|key| key.scenario == *scenario)
                .map(|key| key.level)
                .collect();
            levels.sort_unstable();
            levels.dedup();
            for level in levels {
                let rows = results.peers(scenario, level).map(|key| self.row(results, key));
                table.rows.extend(rows);
            }
        }
        table
    }

    fn row(&self, results: &Results, key: &Key) -> Vec<String> {
        let dash = || "–".to_owned();
        let scenario = match key.level {
            Some(level) => format!("{}, {level} writers", key.scenario),
            None => key.scenario.clone(),
        };
        let mut row = vec![scenario, key.peer.clone()];
        for (_, figure) in self.columns {
            row.push(results.spread(key, figure).map_or_else(dash, |spread| spread.text()));
        }
        let first = self.columns[0].1;
        let hocuspocus = if key.scenario.starts_with("cold") { "hocuspocus-database" } else { "hocuspocus" };
        for against in ["relay-tokio", hocuspocus] {
            row.push(results.ratio(key, first, against).map_or_else(dash, |spread| spread.text()));
        }
        row.push(results.measurements.get(key).map_or(0, |runs| runs.len()).to_string());
        row
    }
}
