//! `/metrics`: the hub's figures as Prometheus reads them. Document names never become labels: they are
//! user data, and without bound.

use bytes::Bytes;
use fidibus_core::metrics::MetricsSnapshot;
use fidibus_core::store::{SpoolFigures, SpooledStore};
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::front::Front;
use crate::http::{self as routes, Answer};
use crate::process;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `/metrics`.
pub async fn answer(front: &Front) -> Answer {
    let store_up = front.probe.store(front).await.latency.is_some();
    let figures = Figures {
        hub: front.hub.metrics(),
        durability: [("store", front.hub.store().name()), ("ack", crate::ack_name(front.hub.ack_mode()))],
        spool: front.spool.as_ref().map(SpooledStore::figures).unwrap_or_default(),
        store_up: u64::from(store_up),
        draining: u64::from(front.is_draining()),
        connections_not_admitted_total: front.admission.refused_total(),
        connections_not_served_total: front.admission.full_total(),
        uptime_seconds: front.started.elapsed().as_secs_f64(),
        resident_bytes: process::memory().resident_bytes,
    };
    match render(figures) {
        Ok(text) => routes::answer(StatusCode::OK, CONTENT_TYPE, Bytes::from(text)),
        Err(error) => {
            tracing::error!(%error, "cannot render the metrics");
            routes::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics\n")
        }
    }
}

fn render(figures: Figures) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("fidibus");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that runs", version);
    let durability = Info::new(figures.durability);
    registry.register("durability", "The store, and when updates are acknowledged", durability);
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Figures {
    hub: MetricsSnapshot,
    durability: [(&'static str, &'static str); 2],
    spool: SpoolFigures,
    store_up: u64,
    draining: u64,
    connections_not_admitted_total: u64,
    connections_not_served_total: u64,
    uptime_seconds: f64,
    resident_bytes: u64,
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut page = Page { encoder };
        page.gauge("store_up", "Whether the store answers", self.store_up)?;
        page.gauge("draining", "Whether the server is shutting down", self.draining)?;
        page.counter(
            "connections_not_admitted",
            "WebSockets refused: too many, or too often, from one address",
            self.connections_not_admitted_total,
        )?;
        page.counter(
            "connections_not_served",
            "Sockets refused: as many as may be are open",
            self.connections_not_served_total,
        )?;
        page.seconds_gauge("uptime", "Since the start", self.uptime_seconds)?;
        page.gauge("resident_memory_bytes", "Memory of the process in RAM", self.resident_bytes)?;
        let SpoolFigures { rows, bytes, unreadable, failing } = self.spool;
        page.gauge("spool_rows", "Rows that wait for the database in the spool", rows)?;
        page.gauge("spool_bytes", "Bytes of their updates", bytes)?;
        page.gauge("spool_unreadable_rows", "Rows of the spool that cannot be read; kept in it", unreadable)?;
        page.gauge("spool_failing", "Whether the spool itself took no updates last time", failing.into())?;
        self.encode_hub(&mut page)
    }
}

impl Figures {
    fn encode_hub(&self, page: &mut Page<'_>) -> Result<(), std::fmt::Error> {
        // Taken apart by name, so that a figure that core adds cannot be forgotten here.
        let MetricsSnapshot {
            connections_open,
            connections_total,
            sessions_open,
            documents_loaded,
            documents_failing,
            updates_received_total,
            update_bytes_total,
            frames_sent_total,
            conflations_total,
            slow_closes_total,
            auth_denied_total,
            auth_unavailable_total,
            connections_refused_total,
            auth_timeouts_total,
            documents_refused_total,
            sessions_revoked_total,
            access_changes_total,
            rate_pauses_total,
            rate_closes_total,
            protocol_errors_total,
            hook_errors_total,
            loads_total,
            load_failures_total,
            load_microseconds_total,
            quarantined_rows,
            stores_total,
            store_failures_total,
            store_microseconds_total,
            store_bytes_total,
            log_rows_total,
            log_commits_total,
            log_failures_total,
            log_microseconds_total,
            uncommitted_bytes,
            room_panics_total,
        } = self.hub;
        page.gauge("connections_open", "Open sockets", connections_open)?;
        page.counter("connections", "Sockets accepted", connections_total)?;
        page.gauge("sessions_open", "Open documents, summed over all sockets", sessions_open)?;
        page.gauge("documents_loaded", "Documents in memory", documents_loaded)?;
        page.gauge("documents_failing", "Documents whose last store failed", documents_failing)?;
        page.counter("updates_received", "Valid updates received", updates_received_total)?;
        page.counter("update_bytes", "Bytes of valid updates received", update_bytes_total)?;
        page.counter("frames_sent", "Frames queued for sockets by rooms", frames_sent_total)?;
        page.counter("conflations", "Readers that fell behind and got differences", conflations_total)?;
        page.counter("slow_closes", "Sockets closed because they took nothing", slow_closes_total)?;
        page.counter("auth_denied", "Sessions refused by authentication", auth_denied_total)?;
        page.counter(
            "auth_unavailable",
            "Authentications that could not be decided",
            auth_unavailable_total,
        )?;
        page.counter(
            "connections_refused",
            "Sessions refused: too many sockets of one user",
            connections_refused_total,
        )?;
        page.counter("auth_timeouts", "Sockets on which nobody was let in in time", auth_timeouts_total)?;
        page.counter(
            "documents_refused",
            "Documents refused: too many on one socket",
            documents_refused_total,
        )?;
        page.counter(
            "sessions_revoked",
            "Open sessions ended by logout, ban or expiry",
            sessions_revoked_total,
        )?;
        page.counter("access_changes", "Open sessions whose access changed", access_changes_total)?;
        page.counter(
            "rate_pauses",
            "Times that a socket that sent too fast was not read from",
            rate_pauses_total,
        )?;
        page.counter("rate_closes", "Sockets closed because they kept sending too fast", rate_closes_total)?;
        page.counter("protocol_errors", "Messages that broke the protocol", protocol_errors_total)?;
        page.counter("hook_errors", "Hooks that failed", hook_errors_total)?;
        page.counter("loads", "Documents loaded", loads_total)?;
        page.counter("load_failures", "Loads that failed", load_failures_total)?;
        page.seconds("load", "Time spent in loads", load_microseconds_total)?;
        page.gauge("quarantined_rows", "Rows of the log found unreadable since the start", quarantined_rows)?;
        page.counter("stores", "Snapshots stored", stores_total)?;
        page.counter("store_failures", "Snapshots that could not be stored", store_failures_total)?;
        page.seconds("store", "Time spent in storing snapshots", store_microseconds_total)?;
        page.counter("store_bytes", "Bytes of snapshots stored", store_bytes_total)?;
        page.counter("log_rows", "Rows appended to the update log", log_rows_total)?;
        page.counter("log_commits", "Commits of the update log", log_commits_total)?;
        page.counter("log_failures", "Commits of the update log that failed", log_failures_total)?;
        page.seconds("log", "Time spent in commits of the update log", log_microseconds_total)?;
        page.gauge("uncommitted_bytes", "Bytes of updates that wait for their commit", uncommitted_bytes)?;
        page.counter("room_panics", "Rooms that ended in a panic", room_panics_total)
    }
}

struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(value);
        counter.encode(self.encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }

    fn seconds(&mut self, name: &str, help: &str, microseconds: u64) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(microseconds as f64 / 1e6);
        let unit = Some(&Unit::Seconds);
        counter.encode(self.encoder.encode_descriptor(name, help, unit, counter.metric_type())?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn seconds_gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(value);
        let unit = Some(&Unit::Seconds);
        gauge.encode(self.encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let hub = MetricsSnapshot {
            updates_received_total: 7,
            load_microseconds_total: 1_500_000,
            ..MetricsSnapshot::default()
        };
        let spool = SpoolFigures { rows: 3, bytes: 30, unreadable: 2, failing: true };
        let durability = [("store", "postgres"), ("ack", "commit")];
        let figures = Figures {
            hub,
            durability,
            spool,
            store_up: 1,
            draining: 0,
            connections_not_admitted_total: 0,
            connections_not_served_total: 0,
            uptime_seconds: 2.5,
            resident_bytes: 9,
        };
        let text = render(figures).unwrap();
        for line in [
            "# TYPE fidibus_updates_received counter",
            "fidibus_updates_received_total 7",
            "fidibus_load_seconds_total 1.5",
            "fidibus_store_up 1",
            "fidibus_durability_info{store=\"postgres\",ack=\"commit\"} 1",
            "fidibus_spool_rows 3",
            "fidibus_spool_unreadable_rows 2",
            "fidibus_spool_failing 1",
            "fidibus_uptime_seconds 2.5",
            "fidibus_resident_memory_bytes 9",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("fidibus_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
