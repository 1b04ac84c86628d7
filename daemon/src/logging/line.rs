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
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use super::LogCounts;
use super::repeats::Repeats;

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
        let metadata = event.metadata();
        let Some(left_out) = self.repeats.admit(metadata, std::time::Instant::now()) else {
            self.counts.left_out.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Ok(());
        };
        self.counts.count(*metadata.level());
        let context = opentelemetry::Context::current();
        let trace = context.span().span_context().clone();
        match self.format {
            LogFormat::Text => text(writer, event, &trace, left_out),
            LogFormat::Json => json(writer, event, &trace, left_out),
        }
    }
}

fn text(mut writer: Writer<'_>, event: &Event<'_>, trace: &SpanContext, left_out: u64) -> fmt::Result {
    let metadata = event.metadata();
    SystemTime.format_time(&mut writer)?;
    write!(writer, " {:>5} {}: ", metadata.level(), metadata.target())?;
    DefaultFields::new().format_fields(writer.by_ref(), event)?;
    if left_out > 0 {
        write!(writer, " left_out={left_out}")?;
    }
    if trace.is_valid() {
        write!(writer, " trace_id={}", trace.trace_id())?;
    }
    writeln!(writer)
}

fn json(mut writer: Writer<'_>, event: &Event<'_>, trace: &SpanContext, left_out: u64) -> fmt::Result {
    let metadata: &Metadata<'_> = event.metadata();
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    let mut object = Object(Map::new());
    object.0.insert("timestamp".into(), time.into());
    object.0.insert("level".into(), metadata.level().as_str().into());
    object.0.insert("target".into(), metadata.target().into());
    event.record(&mut object);
    if left_out > 0 {
        object.0.insert("left_out".into(), left_out.into());
    }
    if trace.is_valid() {
        object.0.insert("trace_id".into(), trace.trace_id().to_string().into());
        object.0.insert("span_id".into(), trace.span_id().to_string().into());
    }
    writeln!(writer, "{}", Value::Object(object.0))
}

/// Fields of an event as members of a JSON object.
struct Object(Map<String, Value>);

impl Object {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        self.0.insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value.into());
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
