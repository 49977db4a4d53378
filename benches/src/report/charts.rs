//! Bar charts of the headline figures, drawn by plotters as SVG.

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Key, Results, Spread, short};

struct Chart {
    title: &'static str,
    scenario: &'static str,
    at_many_writers: bool,
    figure: &'static str,
}

const fn chart(title: &'static str, scenario: &'static str, figure: &'static str) -> Chart {
    Chart { title, scenario, at_many_writers: false, figure }
}

const fn many(title: &'static str, scenario: &'static str, figure: &'static str) -> Chart {
    Chart { title, scenario, at_many_writers: true, figure }
}

const CHARTS: &[Chart] = &[
    chart("Fan-out to 500, busy: CPU µs per delivery", "fanout-500-busy", "cpu_us_per_delivery"),
    chart("250 rooms of four: CPU µs per update", "rooms", "cpu_us_per_update"),
    chart("250 rooms of four, with cursors: CPU µs per update", "rooms-cursors", "cpu_us_per_update"),
    chart("250 rooms of four: p99 latency, ms", "rooms", "latency_p99_ms"),
    many("Closed loop, 1 × 100, many writers: CPU µs per delivery", "saturate-1x100", "cpu_us_per_delivery"),
    many("Closed loop, 1 × 100, many writers: deliveries per second", "saturate-1x100", "deliveries_per_s"),
    many("Closed loop, 1 × 500, many writers: CPU µs per delivery", "saturate-1x500", "cpu_us_per_delivery"),
    many("Closed loop, 100 × 4: CPU µs per update", "saturate-100x4", "cpu_us_per_update"),
    many("Closed loop, 100 × 4: acked updates per second", "saturate-100x4", "acks_per_s"),
    chart("200 clients open 1 MB: seconds until all have it", "storm-1mb", "all_synced_s"),
    chart("500 clients open 100 kB: seconds until all have it", "storm-100kb", "all_synced_s"),
    chart("A stored document of 1 MB is opened: p50, ms", "cold-1mb", "load_p50_ms"),
    chart("A loaded document of 1 MB: resident bytes per encoded byte", "cold-1mb", "rss_per_encoded_byte"),
    chart("An idle connection: resident kB", "idle-2000", "rss_kb_per_connection"),
    chart("A client that comes and goes: CPU µs per visit", "churn", "cpu_us_per_visit"),
    chart("10 of 100 readers stall: the others' p99, ms", "slow", "latency_p99_ms"),
    chart("1,500 observers, 10 writers: p99 of updates, ms", "presence", "latency_p99_ms"),
];

const WIDTH: u32 = 640;
const TITLE_HEIGHT: i32 = 40;
const ROW_HEIGHT: i32 = 30;
const LABEL_WIDTH: i32 = 160;
const VALUE_WIDTH: i32 = 90;
const BAR_INSET: i32 = 5;

const OURS: RGBColor = RGBColor(0xd9, 0x6c, 0x0b);
const CEILING: RGBColor = RGBColor(0x8f, 0x9b, 0xb0);
const OTHERS: RGBColor = RGBColor(0x3a, 0x5f, 0x9e);
const INK: RGBColor = RGBColor(0x1c, 0x23, 0x30);

/// All charts that have something to show, as SVG.
pub fn all(results: &Results) -> anyhow::Result<Vec<String>> {
    let mut drawn = Vec::new();
    for chart in CHARTS {
        let level = if chart.at_many_writers { highest_level(results, chart.scenario) } else { None };
        let bars: Vec<(&Key, Spread)> = results
            .peers(chart.scenario, level)
            .filter_map(|key| Some((key, results.spread(key, chart.figure)?)))
            .collect();
        if !bars.is_empty() {
            let title =
                level.map_or_else(|| chart.title.to_owned(), |level| format!("{} ({level})", chart.title));
            drawn.push(draw(&title, &bars).map_err(|error| anyhow!("cannot draw {title}: {error}"))?);
        }
    }
    Ok(drawn)
}

/// The highest level that the relay and Hocuspocus were measured at, or anybody.
fn highest_level(results: &Results, scenario: &str) -> Option<usize> {
    let of_both = results.highest_level(scenario, &["relay-tokio", "hocuspocus"]);
    of_both.or_else(|| {
        results.measurements.keys().filter(|key| key.scenario == scenario).filter_map(|key| key.level).max()
    })
}

fn draw(title: &str, bars: &[(&Key, Spread)]) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let height = TITLE_HEIGHT + ROW_HEIGHT * bars.len() as i32 + 12;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let style = |size: i32, position: HPos| {
            ("sans-serif", size).into_text_style(&area).color(&INK).pos(Pos::new(position, VPos::Center))
        };
        area.draw(&Text::new(title.to_owned(), (14, TITLE_HEIGHT / 2), style(16, HPos::Left)))?;
        let room = f64::from(WIDTH as i32 - LABEL_WIDTH - VALUE_WIDTH);
        let highest = bars.iter().map(|(_, spread)| spread.max).fold(f64::MIN_POSITIVE, f64::max);
        let x = |value: f64| LABEL_WIDTH + (value.max(0.0) / highest * room) as i32;
        for (at, (key, spread)) in bars.iter().enumerate() {
            let top = TITLE_HEIGHT + at as i32 * ROW_HEIGHT;
            let (middle, bottom) = (top + ROW_HEIGHT / 2, top + ROW_HEIGHT);
            let color = match key.peer.as_str() {
                ours if ours.starts_with("fidibus") => OURS,
                relay if relay.starts_with("relay") => CEILING,
                _ => OTHERS,
            };
            area.draw(&Text::new(key.peer.clone(), (LABEL_WIDTH - 8, middle), style(13, HPos::Right)))?;
            let corners =
                [(LABEL_WIDTH, top + BAR_INSET), (x(spread.median).max(LABEL_WIDTH + 1), bottom - BAR_INSET)];
            area.draw(&Rectangle::new(corners, color.filled()))?;
            if spread.runs > 1 {
                area.draw(&PathElement::new(
                    vec![(x(spread.min), middle), (x(spread.max), middle)],
                    INK.stroke_width(1),
                ))?;
                for end in [spread.min, spread.max] {
                    let tick = vec![(x(end), middle - 4), (x(end), middle + 4)];
                    area.draw(&PathElement::new(tick, INK.stroke_width(1)))?;
                }
            }
            let after = x(spread.max.max(spread.median)) + 6;
            area.draw(&Text::new(short(spread.median), (after, middle), style(13, HPos::Left)))?;
        }
        area.present()?;
    }
    Ok(svg)
}
