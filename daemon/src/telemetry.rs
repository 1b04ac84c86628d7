//! What a process tells of itself: log lines, traces and metrics. Started once, before anything else.
//!
//! Traces and metrics are pushed by OTLP over gRPC where an endpoint is given; metrics can be read from the admin endpoint always.
//! Without an endpoint traces are not recorded, but have ids: log lines of one operation can be found together, and context that
//! came with a request goes on to whom the request goes.

mod arguments;
pub mod propagation;
mod sampling;
mod traces;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::transport::ClientTlsConfig;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::logging::{self, LevelSwitch, LogError, LogSettings};
use crate::metrics::{self, Metrics};

pub use arguments::TelemetryArguments;
pub use sampling::{MAPPING, Sampling};

/// Which program this is.
#[derive(Clone, Debug)]
pub struct Process {
    /// The binary's name; `service.name`, unless the environment says otherwise.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// What tells this process from others of its kind, such as the node's name; `service.instance.id`.
    pub instance: String,
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Lines cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The endpoint, or what the environment says of it, cannot be used.
    #[error("--otlp-endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// Metrics cannot be collected.
    #[error("metrics cannot be collected: {0}")]
    Metrics(#[from] opentelemetry_sdk::error::OTelSdkError),
}

/// Everything that tells. Keep it until the process ends, and end it with [`Telemetry::shut_down`].
#[derive(Debug)]
pub struct Telemetry {
    tracers: SdkTracerProvider,
    metrics: Metrics,
    sampling: Sampling,
    level: LevelSwitch,
}

impl Telemetry {
    /// Starts logging, tracing and metrics. To be called inside a Tokio runtime that lives until [`Telemetry::shut_down`].
    ///
    /// # Errors
    /// When the log file cannot be written, the endpoint cannot be used, or telemetry was started before.
    pub fn start(
        process: &Process,
        arguments: &TelemetryArguments,
        log: &LogSettings,
    ) -> Result<Self, TelemetryError> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let resource = resource(process);
        let registry = prometheus::Registry::new();
        let mut meters = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(metrics::exporter(&registry)?);
        let sampling = Sampling::new(arguments.trace_sample_ratio, arguments.otlp_endpoint.is_some());
        let mut tracers = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampling.clone());
        if let Some(endpoint) = &arguments.otlp_endpoint {
            let (spans, numbers) = exporters(endpoint.as_str())?;
            meters = meters.with_periodic_exporter(numbers);
            tracers = tracers.with_span_processor(traces::processor(spans));
        }
        let tracers = tracers.build();
        let metrics = Metrics::new(meters.build(), registry);
        let logging::LogLayer { layer: lines, level, counts } = logging::layer(log)?;
        // Inside out: the registry, the lines, and the spans on top.
        let spans = tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_tracer(tracers.tracer("swift-s3-sync"))
            .with_filter(FilterFn::new(traces::is_ours));
        tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(LogError::AlreadySet)?;
        metrics::observe_process(&metrics, process.name, process.version, counts);
        if log.syslog.is_some() {
            tracing::debug!("using syslog");
        }
        Ok(Self { tracers, metrics, sampling, level })
    }

    /// Metrics of this process.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many operations are traced.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// How much is logged.
    #[must_use]
    pub fn level(&self) -> &LevelSwitch {
        &self.level
    }

    /// Sends what was not sent yet. Takes some seconds at most, and is no reason to fail: a collector may be gone.
    pub async fn shut_down(self) {
        let sending = tokio::task::spawn_blocking(move || {
            let spans = self.tracers.shutdown();
            spans.and(self.metrics.shut_down())
        });
        if let Ok(Ok(Err(error))) = tokio::time::timeout(std::time::Duration::from_secs(5), sending).await {
            tracing::debug!(%error, "the last traces and metrics were not sent");
        }
    }
}

/// Who sends, with what `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` add or replace.
fn resource(process: &Process) -> Resource {
    let ours = [
        KeyValue::new("service.version", process.version),
        KeyValue::new("service.instance.id", process.instance.clone()),
    ];
    let resource = Resource::builder().with_attributes(ours);
    let is_named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_named("OTEL_SERVICE_NAME") {
        resource.build()
    } else {
        resource.with_service_name(process.name).build()
    }
}

/// Connections are made when something is sent first: a collector that is not there is no reason not to start.
fn exporters(endpoint: &str) -> Result<(SpanExporter, MetricExporter), ExporterBuildError> {
    let mut spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    let mut numbers = MetricExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.starts_with("https") {
        let tls = ClientTlsConfig::new().with_enabled_roots();
        spans = spans.with_tls_config(tls.clone());
        numbers = numbers.with_tls_config(tls);
    }
    Ok((spans.build()?, numbers.build()?))
}
