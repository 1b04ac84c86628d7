//! What a process tells of itself: log lines, traces and metrics. Started once, before anything else.
//!
//! Traces and metrics are pushed by OTLP over gRPC where an endpoint is given; metrics can be read from the admin endpoint always.
//! Without an endpoint traces are not recorded, but have ids: log lines of one operation can be found together. Nobody else is told of
//! these; context that came with a request goes on to whom the request goes as it came. `OTEL_SDK_DISABLED=true` leaves even that out.

mod arguments;
pub mod propagation;
mod sampling;
mod traces;

use std::path::Path;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::logging::{self, LevelSwitch, LogError, LogSettings};
use crate::metrics::{self, Metrics};
use crate::signals::Signals;

pub use arguments::TelemetryArguments;
pub use sampling::{MAPPING, Sampling};
pub use traces::is_sampled;

/// What was not sent when the process ends is given this long, so that ends keep to their documented times.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Which program this is.
#[derive(Clone, Debug)]
pub struct Process {
    /// The binary's name; `service.name`, unless the environment says otherwise.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// Where it runs, such as the node's name. With the process's number it is `service.instance.id`.
    pub instance: String,
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Lines cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The endpoint cannot be used.
    #[error("--otlp-endpoint: {0}")]
    Endpoint(&'static str),
    /// The collector's certificate authorities cannot be read.
    #[error("--otlp-ca-cert: {0}")]
    Authorities(std::io::Error),
    /// What the environment says of the exporter cannot be used.
    #[error("the exporter of traces and metrics cannot be set up: {0}")]
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
            .with_view(metrics::bounds)
            .with_reader(metrics::exporter(&registry)?);
        let endpoint = arguments.endpoint().map_err(TelemetryError::Endpoint)?.filter(|_| !is_disabled());
        let sampling = Sampling::new(arguments.trace_sample_ratio, endpoint.is_some());
        propagation::set_exporting(endpoint.is_some());
        let mut tracers = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampling.clone());
        if let Some(endpoint) = endpoint {
            let (spans, numbers) = exporters(endpoint, arguments.otlp_ca_cert.as_deref())?;
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
            // Said apart, so that whatever is less important costs nothing when nobody logs it.
            .with_filter(FilterFn::new(traces::is_ours).with_max_level_hint(LevelFilter::INFO));
        let spans = (!is_disabled()).then_some(spans);
        tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(LogError::AlreadySet)?;
        metrics::observe_process(&metrics, process.name, process.version, counts);
        if log.syslog.is_some() {
            tracing::debug!("using syslog");
        }
        if let Some(protocol) = endpoint.and_then(|_| unknown_protocol()) {
            tracing::warn!(
                protocol,
                "OTEL_EXPORTER_OTLP_PROTOCOL is not used here: traces and metrics go by gRPC"
            );
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

    /// Sends what was not sent yet. Takes two seconds at most, less when a further signal to stop comes, and is no reason to fail:
    /// a collector may be gone.
    pub async fn shut_down(self) {
        let sending = tokio::task::spawn_blocking(move || {
            let spans = self.tracers.shutdown_with_timeout(LAST_WORDS);
            spans.and(self.metrics.shut_down(LAST_WORDS))
        });
        let signals = Signals::install();
        let told_again = async {
            match signals {
                Ok(mut signals) => signals.stop_requested().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            sent = tokio::time::timeout(LAST_WORDS, sending) => if !matches!(sent, Ok(Ok(Ok(())))) {
                tracing::debug!("the last traces and metrics were not sent");
            },
            () = told_again => {}
        }
    }
}

/// Tells processes of one kind on one node apart: series of two that share an id would be taken for one.
fn instance(process: &Process) -> String {
    format!("{}:{}", process.instance, std::process::id())
}

/// Who sends. What `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say counts more.
fn resource(process: &Process) -> Resource {
    let ours = [
        KeyValue::new("service.name", process.name),
        KeyValue::new("service.version", process.version),
        KeyValue::new("service.instance.id", instance(process)),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    let resource =
        Resource::builder_empty().with_attributes(ours).with_detector(Box::new(EnvResourceDetector::new()));
    match environment("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Source: OpenTelemetry specification, environment variables: anything but `true` is false.
fn is_disabled() -> bool {
    environment("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn unknown_protocol() -> Option<String> {
    environment("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|protocol| protocol != "grpc")
}

/// Connections are made when something is sent first: a collector that is not there is no reason not to start.
fn exporters(
    endpoint: &str,
    authorities: Option<&Path>,
) -> Result<(SpanExporter, MetricExporter), TelemetryError> {
    let mut spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    let mut numbers = MetricExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.starts_with("https") {
        let tls = match authorities.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => {
                let pem = std::fs::read(path).map_err(TelemetryError::Authorities)?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        spans = spans.with_tls_config(tls.clone());
        numbers = numbers.with_tls_config(tls);
    }
    Ok((spans.build()?, numbers.build()?))
}
