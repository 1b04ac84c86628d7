//! What a line looks like.
//!
//! Text: time, level, where from, what with its fields, and the trace. JSON: the same as one object. Spans are not repeated on the
//! lines of their events: what a reader needs of them is in the event, and the trace tells the rest.

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::{SpanContext, TraceContextExt};
use serde_json::{Map, Value};
use swift_s3_policy::LogFormat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use super::LogCounts;
use super::repeats::{Kind, Repeats};

/// Names of the line's own members, which no field of an event replaces.
const OWN: [&str; 6] = ["timestamp", "level", "target", "left_out", "trace_id", "span_id"];
/// Crates that send traces and metrics away.
const EXPORTER: &str = "opentelemetry";

fn is_exporter(target: &str) -> bool {
    target.starts_with(EXPORTER)
}

/// The level that a line is given. A collector may be away while the work goes on, so what an exporter calls an error is none.
pub(super) fn told_as(target: &str, level: Level) -> Level {
    if is_exporter(target) { level.max(Level::WARN) } else { level }
}

/// Writes events.
pub(super) struct Lines {
    format: LogFormat,
    repeats: Repeats,
    counts: Arc<LogCounts>,
}

impl Lines {
    pub(super) fn new(format: LogFormat, counts: Arc<LogCounts>) -> Self {
        Self { format, repeats: Repeats::default(), counts }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Libraries that use the `log` crate come by one place; where they logged is in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let is_exporter = is_exporter(metadata.target());
        let kind = if is_exporter { Kind::Exporter } else { Kind::of(*metadata.level()) };
        let Some(left_out) = self.repeats.admit(metadata, kind, std::time::Instant::now()) else {
            self.counts.left_out.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Ok(());
        };
        let mut head = Head {
            level: told_as(metadata.target(), *metadata.level()),
            target: metadata.target(),
            left_out,
            trace: SpanContext::empty_context(),
        };
        // The context may be borrowed by an exporter that complains of it.
        if !is_exporter {
            head.trace = opentelemetry::Context::current().span().span_context().clone();
        }
        self.counts.count(head.level);
        match self.format {
            LogFormat::Text => head.text(writer, event),
            LogFormat::Json => head.json(writer, event),
        }
    }
}

/// What a line has beside the fields of its event.
struct Head<'a> {
    level: Level,
    target: &'a str,
    left_out: u64,
    trace: SpanContext,
}

impl Head<'_> {
    fn text(&self, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {:>5} {}: ", self.level, self.target)?;
        DefaultFields::new().format_fields(writer.by_ref(), event)?;
        if self.left_out > 0 {
            write!(writer, " left_out={}", self.left_out)?;
        }
        if self.trace.is_valid() {
            write!(writer, " trace_id={}", self.trace.trace_id())?;
        }
        writeln!(writer)
    }

    fn json(&self, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut object = Object(Map::new());
        object.0.insert("timestamp".into(), time.into());
        object.0.insert("level".into(), self.level.as_str().into());
        object.0.insert("target".into(), self.target.into());
        event.record(&mut object);
        if self.left_out > 0 {
            object.0.insert("left_out".into(), self.left_out.into());
        }
        if self.trace.is_valid() {
            object.0.insert("trace_id".into(), self.trace.trace_id().to_string().into());
            object.0.insert("span_id".into(), self.trace.span_id().to_string().into());
        }
        let line = Value::Object(object.0).to_string();
        for character in line.chars() {
            // JSON allows what terminals obey.
            match character {
                '\u{7f}'..='\u{9f}' => write!(writer, "\\u{:04x}", u32::from(character))?,
                _ => writer.write_char(character)?,
            }
        }
        writeln!(writer)
    }
}

/// Fields of an event as members of a JSON object.
struct Object(Map<String, Value>);

impl Object {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        // Where a record of the `log` crate came from is in the line already.
        if name.starts_with("log.") {
            return;
        }
        let name = if OWN.contains(&name) { format!("field.{name}") } else { name.to_owned() };
        self.0.insert(name, value.into());
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Spans' fields are not shown, so they need not be formatted.
pub(super) struct NoFields;

impl<'writer> FormatFields<'writer> for NoFields {
    fn format_fields<R: RecordFields>(&self, _writer: Writer<'writer>, _fields: R) -> fmt::Result {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use opentelemetry::trace::TracerProvider as _;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .fmt_fields(NoFields)
            .event_format(Lines::new(format, Arc::default()))
            .with_writer(move || writer.clone());
        let tracers = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let spans = tracing_opentelemetry::layer().with_tracer(tracers.tracer("x"));
        let subscriber = tracing_subscriber::registry().with(lines).with(spans);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_names_its_trace_and_does_not_repeat_its_spans() {
        let lines = written(LogFormat::Text, || {
            tracing::warn!(rows = 3, "outside");
            tracing::info_span!("transfer", object = "o").in_scope(|| tracing::info!("inside"));
        });
        assert!(
            lines[0].ends_with("WARN swift_s3_daemon::logging::line::tests: outside rows=3"),
            "{lines:?}"
        );
        let (head, id) = lines[1].split_once(" trace_id=").unwrap();
        assert!(head.ends_with("INFO swift_s3_daemon::logging::line::tests: inside"), "{lines:?}");
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn a_json_line_is_one_object_whose_own_members_no_field_replaces() {
        let lines = written(LogFormat::Json, || {
            let span = tracing::info_span!("transfer");
            span.in_scope(|| {
                tracing::error!(timestamp = "then", level = 7, bad = "\u{9b}2J\n\u{7f}", ok = true, "failed");
            });
        });
        assert!(!lines[0].contains(char::is_control));
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_ne!(line["timestamp"], "then");
        assert_eq!(line["field.timestamp"], "then");
        assert_eq!((&line["field.level"], &line["ok"]), (&Value::from(7), &Value::from(true)));
        assert_eq!(
            (&line["message"], &line["bad"]),
            (&Value::from("failed"), &Value::from("\u{9b}2J\n\u{7f}"))
        );
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    }

    #[test]
    fn a_collector_that_is_away_is_a_warning_told_once_in_a_while() {
        let lines = written(LogFormat::Text, || {
            for _ in 0..50 {
                tracing::error!(target: "opentelemetry_sdk", "not sent");
            }
            tracing::warn!("ours");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains(" WARN opentelemetry_sdk: not sent"), "{lines:?}");
    }
}
