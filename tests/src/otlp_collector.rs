//! An OpenTelemetry collector that keeps what it receives: traces and metrics by OTLP over gRPC.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::wait;

/// Exporters wait this long for more spans, in milliseconds, instead of seconds: for their environment.
pub const PROMPT: [(&str, &str); 2] =
    [("OTEL_BSP_SCHEDULE_DELAY", "100"), ("OTEL_METRIC_EXPORT_INTERVAL", "500")];

/// A span as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.name` of its process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `Server`, `Client`, `Internal`, …
    pub kind: SpanKind,
    /// In hexadecimal digits.
    pub trace_id: String,
    /// In hexadecimal digits.
    pub id: String,
    /// Empty for the first of its trace.
    pub parent: String,
    /// Every attribute as text.
    pub attributes: BTreeMap<String, String>,
    /// Status ERROR.
    pub has_failed: bool,
    /// Ids of spans that it is linked to.
    pub links: Vec<String>,
}

impl Span {
    /// An attribute, or nothing.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    metrics: BTreeSet<String>,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    received: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    /// Listens on a free port of loopback.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let received = Arc::<Mutex<Received>>::default();
        let service = Service(Arc::clone(&received));
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(service.clone()))
            .add_service(MetricsServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        // Exporters see when it ends.
        let serving = tokio::spawn(async move { drop(server.await) });
        Ok(Self { endpoint, received, serving })
    }

    /// One that takes connections and never answers.
    pub async fn silent() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                open.push(connection);
            }
        });
        Ok(Self { endpoint, received: Arc::default(), serving })
    }

    /// `http://…`, for `--otlp-endpoint`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Arguments for a process that traces everything to this collector.
    pub fn arguments(&self) -> [String; 4] {
        ["--otlp-endpoint", self.endpoint(), "--trace-sample-ratio", "1"].map(str::to_owned)
    }

    /// All spans so far, in the order of their arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// Spans by trace.
    pub fn traces(&self) -> BTreeMap<String, Vec<Span>> {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in self.spans() {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        traces
    }

    /// Names of all metrics so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.lock().metrics.clone()
    }

    /// Waits for a trace that `is_it`, and answers its spans.
    pub async fn wait_for_trace(
        &self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&[Span]) -> bool,
    ) -> Result<Vec<Span>> {
        wait::until(what, limit, async || {
            let traces = self.traces();
            let found = traces.values().find(|spans| is_it(spans));
            found.cloned().ok_or_else(|| shown(&traces))
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails unless every span but the first has its parent in the trace, so that all hang together. The parent of the first may be
/// somebody who does not report here.
pub fn ensure_connected(trace: &[Span]) -> Result<()> {
    let ids: BTreeSet<&str> = trace.iter().map(|span| span.id.as_str()).collect();
    let loose: Vec<&Span> = trace.iter().filter(|span| !ids.contains(span.parent.as_str())).collect();
    ensure!(loose.len() == 1, "{} spans have no parent in the trace: {loose:#?}", loose.len());
    Ok(())
}

fn shown(traces: &BTreeMap<String, Vec<Span>>) -> String {
    let names = |spans: &Vec<Span>| {
        spans.iter().map(|span| format!("{}/{}", span.service, span.name)).collect::<Vec<_>>().join(", ")
    };
    let last: Vec<String> = traces.values().rev().take(20).map(names).collect();
    format!("{} traces, among them:\n{}", traces.len(), last.join("\n"))
}

#[derive(Clone, Debug)]
struct Service(Arc<Mutex<Received>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in request.into_inner().resource_spans {
            let service = service_name(batch.resource.as_ref());
            for span in batch.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                received.spans.push(Span {
                    service: service.clone(),
                    kind: span.kind(),
                    name: span.name,
                    trace_id: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    attributes: attributes(&span.attributes),
                    has_failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                    links: span.links.iter().map(|link| hex::encode(&link.span_id)).collect(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let batches = request.into_inner().resource_metrics;
        let scopes = batches.into_iter().flat_map(|batch| batch.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).metrics.extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let all = resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
    all.get("service.name").cloned().unwrap_or_default()
}

fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    given.iter().map(|one| (one.key.clone(), one.value.as_ref().map(text).unwrap_or_default())).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
