//! One request to Swift, as operators see it: a span until its answer begins, and the figures. It goes out with the trace that it is part of.

use std::time::Instant;

use http::{HeaderMap, Method, Response, StatusCode};
use swift_s3_daemon::metrics::label;
use swift_s3_daemon::telemetry::propagation;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::exchange::{TRANS_ID, method_name};
use crate::metrics::Metrics;

/// No connection, or it broke.
const UNREACHABLE: &str = "unreachable";
/// Nobody waits for the answer any more: it took too long, or the client has gone.
const GIVEN_UP: &str = "given_up";

/// How Swift is reached, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the proxy behind the shunt, with a client's credentials.
    Upstream,
    /// Below the authentication, for a restore.
    Restore,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Restore => "restore",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SwiftCall {
    metrics: Metrics,
    span: Span,
    way: Way,
    method: &'static str,
    began: Instant,
    is_over: bool,
}

impl SwiftCall {
    /// A request with this method, path and headers is about to go out. If it is part of a trace, the headers say so.
    pub(crate) fn begin(
        metrics: &Metrics,
        way: Way,
        (method, path): (&Method, &str),
        headers: &mut HeaderMap,
    ) -> Self {
        let method = method_name(method);
        let span = if Span::current().is_none() { Span::none() } else { client_span(method, path) };
        if !span.is_disabled() {
            propagation::pass_on(&span, headers);
        }
        Self { metrics: metrics.clone(), span, way, method, began: Instant::now(), is_over: false }
    }

    /// Waits for the answer to begin.
    ///
    /// # Cancel safety
    /// As `asking`; the request counts as given up.
    pub(crate) async fn until<B, E>(
        mut self,
        asking: impl Future<Output = Result<Response<B>, E>>,
    ) -> Result<Response<B>, E> {
        let answer = asking.instrument(self.span.clone()).await;
        match &answer {
            Ok(answer) => self.answered(answer.status(), answer.headers()),
            Err(_) => self.ended_without(UNREACHABLE),
        }
        answer
    }

    fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.is_over = true;
        self.span.record("http.response.status_code", i64::from(status.as_u16()));
        if let Some(id) = headers.get(TRANS_ID).and_then(|value| value.to_str().ok()) {
            self.span.record("swift.trans_id", id);
        }
        // What Swift does not have is asked of the remote: no failure.
        if status.is_server_error() {
            self.span.record("error.type", status.as_str());
            self.span.record("otel.status_code", "ERROR");
        }
        let outcome = label("http.response.status_code", i64::from(status.as_u16()));
        self.metrics.asked_swift(self.method, self.way.as_str(), outcome, self.began.elapsed());
    }

    fn ended_without(&mut self, fault: &'static str) {
        self.is_over = true;
        self.span.record("error.type", fault);
        if fault == UNREACHABLE {
            self.span.record("otel.status_code", "ERROR");
        }
        let outcome = label("error.type", fault);
        self.metrics.asked_swift(self.method, self.way.as_str(), outcome, self.began.elapsed());
    }
}

impl Drop for SwiftCall {
    fn drop(&mut self) {
        if !self.is_over {
            self.ended_without(GIVEN_UP);
        }
    }
}

fn client_span(method: &'static str, path: &str) -> Span {
    tracing::info_span!(
        "swift",
        otel.kind = "client",
        otel.name = method,
        otel.status_code = Empty,
        http.request.method = method,
        url.path = path,
        http.response.status_code = Empty,
        "error.type" = Empty,
        swift.trans_id = Empty,
    )
}
