//! The log: lines for people (`[INFO] message {"key": value}`, the deployment guide's form) or JSON, info
//! and below to stdout, warnings and errors to stderr. Nothing here writes tokens, cookies or query
//! strings, and nothing elsewhere may hand them over as fields.

use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;

use fidibus_core::auth::SECURITY;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::clock::iso8601;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `[INFO] message {"key": value}`
    Text,
    /// `{"ts":…,"level":"info","message":…,"service":"fidibus",…}`
    Json,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// The least important level that is logged.
    pub level: Level,
    /// The form of a line.
    pub format: LogFormat,
    /// Whether a line carries its time.
    pub timestamps: bool,
}

/// Makes the process's log. Only the program calls this, never the library: a host has a log of its own.
pub fn install(config: LogConfig) {
    // Our own crates by the level asked for; of the others only what went wrong.
    let filter = Targets::new()
        .with_target("fidibus", LevelFilter::from_level(config.level))
        // A slow statement is a figure (`/metrics`), not a warning with SQL in it.
        .with_target("sqlx::query", LevelFilter::from_level(config.level.min(Level::ERROR)))
        .with_default(LevelFilter::from_level(config.level.min(Level::WARN)));
    let subscriber = Registry::default().with(Console { config }.with_filter(filter));
    // Fails only where a log is installed already, which is then the one to use.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Console {
    config: LogConfig,
}

/// The fields of a span, kept until its events are written.
struct SpanFields(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Console {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if event.metadata().target() == SECURITY {
            // What a fail2ban or a SIEM selects by.
            fields.values.push(("security", true.into()));
        }
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(outer)) = span.extensions().get() {
                fields.values.extend(outer.values.iter().cloned());
            }
        }
        let level = *event.metadata().level();
        let mut line = render(self.config, level, &fields, SystemTime::now());
        line.push('\n');
        // A log that nobody reads any more (a closed pipe) must not end the server.
        let _ = if level <= Level::WARN {
            io::stderr().lock().write_all(line.as_bytes())
        } else {
            io::stdout().lock().write_all(line.as_bytes())
        };
    }
}

#[derive(Clone, Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            // A span that records a field again means the new value.
            self.values.retain(|(name, _)| *name != field.name());
            self.values.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, chain(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn render(config: LogConfig, level: Level, fields: &Fields, now: SystemTime) -> String {
    match config.format {
        LogFormat::Text => {
            let time = if config.timestamps { format!("{} ", iso8601(now)) } else { String::new() };
            let message = one_line(&fields.message);
            if fields.values.is_empty() {
                return format!("{time}[{level}] {message}");
            }
            let mut json = serde_json::Serializer::with_formatter(Vec::new(), Spaced);
            let values = json.collect_map(fields.values.iter().map(|(name, value)| (name, value)));
            let values = values.map(|()| json.into_inner()).unwrap_or_default();
            format!("{time}[{level}] {message} {}", String::from_utf8_lossy(&values))
        }
        LogFormat::Json => {
            let mut json = serde_json::Serializer::new(Vec::new());
            let written = write_json(&mut json, config, level, fields, now).map(|()| json.into_inner());
            String::from_utf8(written.unwrap_or_default()).unwrap_or_default()
        }
    }
}

fn write_json(
    json: &mut serde_json::Serializer<Vec<u8>>,
    config: LogConfig,
    level: Level,
    fields: &Fields,
    now: SystemTime,
) -> serde_json::Result<()> {
    let mut map = json.serialize_map(None)?;
    if config.timestamps {
        map.serialize_entry("ts", &iso8601(now))?;
    }
    map.serialize_entry("level", &level.as_str().to_ascii_lowercase())?;
    map.serialize_entry("message", &fields.message)?;
    map.serialize_entry("service", "fidibus")?;
    for (name, value) in &fields.values {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// What a client sent can stand in a message: a line break in it must not start a line of its own.
fn one_line(message: &str) -> String {
    message.replace('\n', "\\n").replace('\r', "\\r")
}

/// JSON with a blank after colons and commas, as the deployment guide shows it.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn line(format: LogFormat, timestamps: bool, values: &[(&'static str, Value)]) -> String {
        let config = LogConfig { level: Level::INFO, format, timestamps };
        let fields = Fields { message: "WebSocket server listening".to_owned(), values: values.to_vec() };
        render(config, Level::INFO, &fields, UNIX_EPOCH)
    }

    #[test]
    fn text_lines_are_those_of_the_guide() {
        assert_eq!(line(LogFormat::Text, false, &[]), "[INFO] WebSocket server listening");
        assert_eq!(
            line(LogFormat::Text, false, &[("port", 3001.into())]),
            "[INFO] WebSocket server listening {\"port\": 3001}"
        );
        assert_eq!(
            line(LogFormat::Text, true, &[("a", vec![1, 2].into()), ("b", "x\ny".into())]),
            "1970-01-01T00:00:00.000Z [INFO] WebSocket server listening {\"a\": [1, 2], \"b\": \"x\\ny\"}"
        );
    }

    #[test]
    fn json_lines_are_those_of_the_app() {
        assert_eq!(
            line(LogFormat::Json, true, &[("port", 3001.into())]),
            "{\"ts\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"message\":\"WebSocket server listening\",\
             \"service\":\"fidibus\",\"port\":3001}"
        );
    }

    #[test]
    fn errors_tell_their_causes_once() {
        let inner = io::Error::other("disk full");
        let outer = io::Error::other(io::Error::new(io::ErrorKind::StorageFull, inner));
        assert_eq!(chain(&outer), "disk full");
    }
}
