//! Metrics: each is declared once, as a [`Metric`], and everything else follows from it: the instrument, its line in the Prometheus
//! text, its row in the reference, and the check that no rule or dashboard asks for one that does not exist.
//!
//! Names follow OpenTelemetry: dotted, the unit apart. Prometheus sees `.` as `_`, the unit as a suffix and `_total` on counters.
//! Labels take values from small fixed sets; a mapping is the finest thing that is told apart, never an account, a container or an
//! object.

mod process;
mod remote;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter, MeterProvider as _, UpDownCounter};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder, TextEncoder};

pub use process::PROCESS_METRICS;
pub(crate) use process::observe as observe_process;
pub use remote::{REMOTE_REQUEST_DURATION, REMOTE_REQUESTS, RemoteRequests};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// A value of now.
    Gauge,
    /// How values are spread; counted up to each of these bounds.
    Histogram(&'static [f64]),
}

/// One metric: everything that is known of it before it is ever recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// By OpenTelemetry's rules: lowercase words, dots between.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// In UCUM: `s`, `By`, or what is counted in braces.
    pub unit: &'static str,
    /// One sentence for the reference and for Prometheus' HELP.
    pub help: &'static str,
    /// Names of its labels, as OpenTelemetry spells them.
    pub labels: &'static [&'static str],
}

/// Bounds for what takes from a millisecond to an hour, in seconds.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0,
];

/// Bounds for what takes from a second to a month, in seconds.
pub const LONG_SECONDS: &[f64] = &[
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
];

/// Series of one of the [`WIDE`] metrics that are told apart: 201 mappings with 22 reasons for two actions, and nine actions that succeed.
pub const MOST_SERIES: usize = 11_000;

/// Metrics with more series than the SDK's 2,000: beyond their bound it tells all together, under no mapping.
const WIDE: [&str; 2] = ["swift_s3_sync.object.actions", "swift_s3_sync.row.parked"];

/// How many series the SDK tells apart, where that is not as it comes.
pub(crate) fn bounds(instrument: &Instrument) -> Option<Stream> {
    let is_wide = WIDE.contains(&instrument.name());
    is_wide.then(|| Stream::builder().with_cardinality_limit(MOST_SERIES).build().ok()).flatten()
}

impl Metric {
    /// The name by which Prometheus knows it; of a histogram without `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        match self.unit {
            "s" => name.push_str("_seconds"),
            "By" => name.push_str("_bytes"),
            _ => {}
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }

    /// What it is, as Prometheus' TYPE calls it.
    #[must_use]
    pub fn prometheus_type(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }

    /// Counts events. Without labels it begins with a zero that is told: who watches its growth misses no first event.
    #[must_use]
    pub fn counter(&self, meter: &Meter) -> Counter<u64> {
        let counter = meter.u64_counter(self.name).with_unit(self.unit).with_description(self.help).build();
        if self.labels.is_empty() {
            counter.add(0, &[]);
        }
        counter
    }

    /// Counts what comes and goes; a gauge to whoever reads it.
    #[must_use]
    pub fn up_down(&self, meter: &Meter) -> UpDownCounter<i64> {
        let builder = meter.i64_up_down_counter(self.name).with_unit(self.unit);
        let value = builder.with_description(self.help).build();
        if self.labels.is_empty() {
            value.add(0, &[]);
        }
        value
    }

    /// Notes how values are spread.
    #[must_use]
    pub fn histogram(&self, meter: &Meter) -> Histogram<f64> {
        let bounds = match self.kind {
            Kind::Histogram(bounds) => bounds.to_vec(),
            Kind::Counter | Kind::Gauge => SECONDS.to_vec(),
        };
        let builder = meter.f64_histogram(self.name).with_unit(self.unit).with_description(self.help);
        builder.with_boundaries(bounds).build()
    }

    /// Asks `look` for the value whenever somebody reads: a whole number, of a counter or a gauge by [`Metric::kind`].
    pub fn observe(&self, meter: &Meter, look: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static) {
        if self.kind == Kind::Counter {
            let builder = meter.u64_observable_counter(self.name).with_unit(self.unit);
            let _ = builder.with_description(self.help).with_callback(look).build();
        } else {
            let builder = meter.u64_observable_gauge(self.name).with_unit(self.unit);
            let _ = builder.with_description(self.help).with_callback(look).build();
        }
    }

    /// As [`Metric::observe`], for what is no whole number.
    pub fn observe_f64(
        &self,
        meter: &Meter,
        look: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static,
    ) {
        if self.kind == Kind::Counter {
            let builder = meter.f64_observable_counter(self.name).with_unit(self.unit);
            let _ = builder.with_description(self.help).with_callback(look).build();
        } else {
            let builder = meter.f64_observable_gauge(self.name).with_unit(self.unit);
            let _ = builder.with_description(self.help).with_callback(look).build();
        }
    }
}

/// The metrics of this process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: prometheus::Registry,
    declared: Arc<Mutex<Vec<&'static Metric>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    /// Metrics that nobody pushes anywhere: for tests, and for programs without telemetry.
    fn default() -> Self {
        let registry = prometheus::Registry::new();
        let provider = match exporter(&registry) {
            Ok(exporter) => SdkMeterProvider::builder().with_reader(exporter).with_view(bounds).build(),
            Err(_) => SdkMeterProvider::builder().build(),
        };
        Self::new(provider, registry)
    }
}

/// What turns metrics into Prometheus' text.
pub(crate) fn exporter(
    registry: &prometheus::Registry,
) -> Result<opentelemetry_prometheus::PrometheusExporter, opentelemetry_sdk::error::OTelSdkError> {
    opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build()
}

impl Metrics {
    pub(crate) fn new(provider: SdkMeterProvider, registry: prometheus::Registry) -> Self {
        Self { provider, registry, declared: Arc::default() }
    }

    /// Makes instruments. Metrics of `catalogue` are told of from now on, also while they have no value yet.
    pub fn meter(&self, catalogue: &[&'static Metric]) -> Meter {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in catalogue {
            if !declared.contains(metric) {
                declared.push(metric);
            }
        }
        self.provider.meter("swift-s3-sync")
    }

    /// Everything in Prometheus' text format. Blocks for as long as it takes to look at everything.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        let mut text = Vec::new();
        for family in &families {
            // Writing to memory fails only for a family without a name or a metric, which is left out then.
            drop(TextEncoder::new().encode(std::slice::from_ref(family), &mut text));
        }
        let mut text = String::from_utf8_lossy(&text).into_owned();
        for metric in self.declared.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let name = metric.prometheus_name();
            if !families.iter().any(|family| family.name() == name) {
                let kind = metric.prometheus_type();
                text.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help));
            }
        }
        text
    }

    /// Sends what was not pushed yet, and pushes no more.
    pub(crate) fn shut_down(&self, limit: std::time::Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.provider.shutdown_with_timeout(limit)
    }
}

/// A label.
#[must_use]
pub fn label(name: &'static str, value: impl Into<opentelemetry::Value>) -> KeyValue {
    KeyValue::new(name, value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const COUNTED: Metric = Metric {
        name: "a.b.things",
        kind: Kind::Counter,
        unit: "{thing}",
        help: "Things.",
        labels: &["x.y"],
    };
    const SENT: Metric =
        Metric { name: "a.io", kind: Kind::Counter, unit: "By", help: "Bytes.", labels: &[] };
    const TAKEN: Metric =
        Metric { name: "a.duration", kind: Kind::Histogram(SECONDS), unit: "s", help: "Time.", labels: &[] };
    const SEEN: Metric = Metric { name: "a.lag", kind: Kind::Gauge, unit: "s", help: "Lag.", labels: &[] };
    const OPEN: Metric =
        Metric { name: "a.open", kind: Kind::Gauge, unit: "{file}", help: "Open.", labels: &[] };
    const AGE: Metric = Metric { name: "a.cpu", kind: Kind::Counter, unit: "s", help: "Time.", labels: &[] };
    const ALL: &[&Metric] = &[&COUNTED, &SENT, &TAKEN, &SEEN, &OPEN, &AGE];

    fn types(text: &str) -> Vec<String> {
        let mut lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("# TYPE a_")).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn prometheus_is_told_the_same_names_before_and_after_there_are_values() {
        let metrics = Metrics::default();
        let meter = metrics.meter(ALL);
        let before = types(&metrics.render());
        assert_eq!(before.len(), ALL.len());
        COUNTED.counter(&meter).add(2, &[label("x.y", "z")]);
        SENT.counter(&meter).add(3, &[]);
        TAKEN.histogram(&meter).record(0.3, &[]);
        SEEN.observe_f64(&meter, |seen| seen.observe(1.5, &[]));
        OPEN.up_down(&meter).add(4, &[]);
        AGE.observe_f64(&meter, |age| age.observe(0.5, &[]));
        let text = metrics.render();
        assert_eq!(types(&text), before);
        for line in [
            "a_b_things_total{x_y=\"z\"} 2",
            "a_io_bytes_total 3",
            "a_duration_seconds_bucket{le=\"0.5\"} 1",
            "a_duration_seconds_bucket{le=\"0.25\"} 0",
            "a_lag_seconds 1.5",
            "a_open 4",
            "a_cpu_seconds_total 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn labels_without_bound_end_in_one_that_holds_the_rest() {
        let metrics = Metrics::default();
        let counter = COUNTED.counter(&metrics.meter(ALL));
        for number in 0..5_000 {
            counter.add(1, &[label("x.y", number)]);
        }
        let text = metrics.render();
        let lines = text.lines().filter(|line| line.starts_with("a_b_things_total")).count();
        assert!(lines <= 2_001, "{lines}");
        assert!(text.contains("a_b_things_total{otel_metric_overflow=\"true\"}"));
    }
}
