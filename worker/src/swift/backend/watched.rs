//! One request to a server of this cluster: its span, and how long it took.

use std::time::Instant;

use http::uri::Authority;
use http::{Method, Response};
use hyper::body::Incoming;
use tracing::Span;
use tracing::field::Empty;

use super::BackendErrorKind;
use crate::metrics::Metrics;

/// See the module. Dropped before an answer came, it counts as given up.
pub(super) struct Watched<'a> {
    metrics: &'a Metrics,
    server: &'static str,
    begun: Instant,
    span: Span,
    is_told: bool,
}

impl<'a> Watched<'a> {
    pub(super) fn begin(
        metrics: &'a Metrics,
        kind: &'static str,
        method: &Method,
        server: &Authority,
    ) -> Self {
        Self {
            metrics,
            server: kind,
            begun: Instant::now(),
            span: span(kind, method, server),
            is_told: false,
        }
    }

    /// What the request is to be sent in.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn answered(mut self, answer: &Response<Incoming>) {
        let status = answer.status();
        self.span.record("http.response.status_code", status.as_u16());
        if let Some(id) = answer.headers().get("x-trans-id").and_then(|id| id.to_str().ok()) {
            self.span.record("swift.trans_id", id);
        }
        self.end(match status.as_u16() {
            // 409: the server has something newer than what is to be removed.
            200..=299 | 304 | 409 => "ok",
            404 | 410 => "absent",
            _ => "refused",
        });
    }

    pub(super) fn failed(mut self, kind: BackendErrorKind) {
        self.end(kind.as_str());
    }

    fn end(&mut self, outcome: &'static str) {
        self.is_told = true;
        // One server that does not answer is no failure of the operation: the next one is asked.
        if !matches!(outcome, "ok" | "absent") {
            self.span.record("error.type", outcome);
        }
        self.metrics.asked_swift(self.server, outcome, self.begun.elapsed());
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.end("given_up");
        }
    }
}

/// A span if the request belongs to an operation that has one.
fn span(kind: &'static str, method: &Method, server: &Authority) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let name = match *method {
        Method::GET | Method::HEAD => "read local",
        Method::DELETE => "delete local",
        _ => "ask local",
    };
    tracing::info_span!(
        "ask local",
        otel.name = name,
        otel.kind = "client",
        http.request.method = method.as_str(),
        http.response.status_code = Empty,
        server.address = server.host(),
        server.port = server.port_u16(),
        swift_s3_sync.server.kind = kind,
        swift.trans_id = Empty,
        "error.type" = Empty,
    )
}
