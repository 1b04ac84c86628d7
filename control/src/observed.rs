//! What stands in front of every call and every page: a span, which continues the caller's trace, and a measurement of how long it
//! took and how it ended. Nothing of what callers send is in either, but for the method of the contract and the route of the page.
//!
//! A stream is open for months; it is counted while it is open, and has no span.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::State;
use axum::middleware::Next;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prost_reflect::DescriptorPool;
use swift_s3_daemon::telemetry::propagation;
use swift_s3_web_ui::Route;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics::Metrics;

/// The label of what is not known, by OpenTelemetry's conventions.
const OTHER: &str = "_OTHER";
const STATUS: &str = "grpc-status";
/// How a trace is continued.
const TRACE_PARENT: &str = "traceparent";

/// A method of the contract.
struct Method {
    /// `package.Service/Method`.
    name: String,
    is_stream: bool,
}

/// By the path of the request, so that only these become labels.
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    let descriptors = [
        swift_s3_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    for descriptor in descriptors {
        // What cannot be read has no labels of its own; a test reads all of them.
        drop(pool.decode_file_descriptor_set(descriptor));
    }
    let methods = pool.services().flat_map(|service| {
        let name = service.full_name().to_owned();
        let of_service = service.methods().map(move |method| {
            let name = format!("{name}/{}", method.name());
            let is_stream = method.is_client_streaming() || method.is_server_streaming();
            (format!("/{name}"), Method { name, is_stream })
        });
        of_service.collect::<Vec<_>>()
    });
    methods.collect()
});

/// See the module.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Observed<S> {
    /// In front of `inner`.
    pub fn new(inner: S, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

impl<S> Service<http::Request<Body>> for Observed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let found = METHODS.get(request.uri().path());
        let method = found.map_or(OTHER, |method| method.name.as_str());
        let is_stream = found.is_some_and(|method| method.is_stream);
        let span = if is_stream { Span::none() } else { span(method) };
        let mut call = Call {
            metrics: self.metrics.clone(),
            method,
            span: span.clone(),
            began: Instant::now(),
            is_stream,
            has_ended: false,
        };
        if is_stream {
            call.metrics.stream(method, 1);
        }
        // The gate enters it, once it has seen whether the caller's word counts.
        request
            .extensions_mut()
            .insert(CallSpan { span: span.clone(), is_inner: !Span::current().is_none() });
        let answering = self.inner.call(request);
        Box::pin(
            async move {
                let response = match answering.await {
                    Ok(response) => response,
                    Err(error) => {
                        call.end(Code::Unknown);
                        return Err(error);
                    }
                };
                // An answer without a message has its status here.
                let status = response.headers().get(STATUS).map(|status| Code::from_bytes(status.as_bytes()));
                Ok(response.map(|body| Body::new(Measured { body, status, call })))
            }
            .instrument(span),
        )
    }
}

fn span(method: &str) -> Span {
    tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
    )
}

/// The span of a call that was not let in yet, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct CallSpan {
    span: Span,
    /// It is part of another one of this process, such as that of a page.
    is_inner: bool,
}

impl CallSpan {
    /// Takes the span of a call off it, and makes it part of its caller's trace if the caller is `known`. A stranger must not decide what is
    /// recorded, nor write into traces of others: his trace is only named.
    pub(crate) fn take(request: &mut http::Request<Body>, is_known: bool) -> Span {
        let Some(Self { span, is_inner }) = request.extensions_mut().remove::<Self>() else {
            return Span::none();
        };
        if !is_inner && request.headers().contains_key(TRACE_PARENT) {
            if is_known {
                propagation::continue_trace(&span, request.headers());
            } else {
                propagation::link_trace(&span, request.headers());
            }
        }
        span
    }
}

/// A call under way. Dropped before its end, it was cancelled.
struct Call {
    metrics: Metrics,
    method: &'static str,
    span: Span,
    began: Instant,
    is_stream: bool,
    has_ended: bool,
}

impl Call {
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        if self.is_stream {
            self.metrics.stream(self.method, -1);
            return;
        }
        let status = word(code);
        self.span.record("rpc.response.status_code", status);
        if is_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.metrics.called(self.method, status, self.began.elapsed());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// True where the server is at fault, by OpenTelemetry's conventions for gRPC.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// As gRPC spells it.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// An answer whose end is seen.
struct Measured {
    body: Body,
    /// Told in the head already.
    status: Option<Code>,
    call: Call,
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = trailers.get(STATUS).map(|status| Code::from_bytes(status.as_bytes()));
                    self.call.end(status.unwrap_or(Code::Unknown));
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.end(status.code()),
            Poll::Ready(None) => {
                let status = self.status.unwrap_or(Code::Unknown);
                self.call.end(status);
            }
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Nobody polls a body that says that it is empty.
        if let Some(status) = self.status {
            self.call.end(status);
        }
    }
}

/// The same for a web page, until its answer begins.
pub(crate) async fn page(
    State(metrics): State<Metrics>,
    request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let began = Instant::now();
    let method = match *request.method() {
        http::Method::GET | http::Method::HEAD => "GET",
        http::Method::POST => "POST",
        _ => OTHER,
    };
    let span = tracing::info_span!(
        "page",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
    );
    // A browser may be anybody's; whoever may see nothing here must not decide what is recorded.
    propagation::link_trace(&span, request.headers());
    let mut page = Page { metrics, span: span.clone(), method, began, answered: None };
    let response = next.run(request).instrument(span).await;
    let route = response.extensions().get::<Route>().map_or(OTHER, |route| route.0);
    page.answered = Some((route, response.status()));
    response
}

/// A request of a page under way. Dropped without an answer, its browser has left, most likely because it took too long.
struct Page {
    metrics: Metrics,
    span: Span,
    method: &'static str,
    began: Instant,
    answered: Option<(&'static str, http::StatusCode)>,
}

impl Drop for Page {
    fn drop(&mut self) {
        let Self { metrics, span, method, began, answered } = self;
        let Some((route, status)) = *answered else {
            span.record("error.type", "client_gone");
            metrics.page_left(began.elapsed());
            return;
        };
        span.record("http.route", route);
        span.record("otel.name", format!("{method} {route}"));
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        metrics.page(route, status, began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_all_services_are_known() {
        for (path, is_stream) in [
            ("/swift_s3_sync.v1.NodeService/Session", Some(true)),
            ("/swift_s3_sync.v1.StatusService/GetStatus", Some(false)),
            ("/swift_s3_sync.v1.StatusService/WatchStatus", Some(true)),
            ("/grpc.health.v1.Health/Check", Some(false)),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(true)),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(true)),
            ("/swift_s3_sync.v1.StatusService/AUTH_secret", None),
        ] {
            assert_eq!(METHODS.get(path).map(|method| method.is_stream), is_stream, "{path}");
        }
    }
}
