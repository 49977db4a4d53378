//! The figures of scenarios in which clients type.

use super::Figures;
use crate::crowd::Counts;
use crate::proc::Spent;

impl Figures {
    /// Rates, cost and waits of a window.
    pub(super) fn put_counts(&mut self, counts: &Counts, spent: &Spent) {
        let cpu_us = spent.cpu_seconds * 1e6;
        // Updates that a closed loop had in flight at the edges do not matter; a window without any would.
        let per = |count: u64| cpu_us / count.max(1) as f64;
        self.put("deliveries_per_s", counts.deliveries as f64 / spent.seconds);
        self.put("updates_per_s", counts.updates as f64 / spent.seconds);
        self.put("cpu_us_per_delivery", per(counts.deliveries));
        self.put("cpu_us_per_update", per(counts.updates));
        self.put("updates_per_frame", counts.deliveries as f64 / counts.frames.max(1) as f64);
        self.put("latency_p50_ms", counts.latency.quantile_ms(0.5));
        self.put("latency_p99_ms", counts.latency.quantile_ms(0.99));
        self.put("ack_p50_ms", counts.ack_latency.quantile_ms(0.5));
        self.put("ack_p99_ms", counts.ack_latency.quantile_ms(0.99));
        if counts.presence_updates > 0 {
            self.put("presence_deliveries_per_s", counts.presence_deliveries as f64 / spent.seconds);
            self.put("presence_p50_ms", counts.presence_latency.quantile_ms(0.5));
            self.put("presence_p99_ms", counts.presence_latency.quantile_ms(0.99));
        }
    }
}
