//! One request to Swift, as operators see it: a span until its answer begins, and the figures. It goes out with the trace that it is part of.

use std::time::Instant;

use http::{HeaderMap, Method, Response, StatusCode};
use swift_s3_daemon::metrics::label;
use swift_s3_daemon::telemetry::propagation;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::body::{SourceBroke, causes};
use crate::exchange::{TRANS_ID, method_name};
use crate::metrics::Metrics;

/// No connection, or it broke.
const UNREACHABLE: &str = "unreachable";
/// It took too long.
const TIMEOUT: &str = "timeout";
/// What was to be sent broke off, mostly because the client has gone.
const CLIENT_GONE: &str = "client_gone";
/// Nobody waits for the answer any more.
const GIVEN_UP: &str = "given_up";
/// All of these.
#[cfg(test)]
pub(crate) const FAULTS: [&str; 4] = [UNREACHABLE, TIMEOUT, CLIENT_GONE, GIVEN_UP];

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer<E> {
    /// Swift is not there, or broke off.
    Failed(E),
    /// What was to be sent broke off.
    SourceBroke(E),
    /// It took too long.
    TimedOut,
}

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

    /// Waits for the answer to begin, at most until `late` ends. `cause` shows an error of `asking` with what it came from.
    ///
    /// # Cancel safety
    /// As `asking`; the request counts as given up.
    pub(crate) async fn until<B, E>(
        mut self,
        asking: impl Future<Output = Result<Response<B>, E>>,
        late: impl Future<Output = ()>,
        cause: fn(&E) -> &(dyn std::error::Error + 'static),
    ) -> Result<Response<B>, NoAnswer<E>> {
        let answer = tokio::select! {
            biased;
            answer = asking.instrument(self.span.clone()) => answer,
            () = late => {
                self.ended_without(TIMEOUT);
                return Err(NoAnswer::TimedOut);
            }
        };
        match answer {
            Ok(answer) => {
                self.answered(answer.status(), answer.headers());
                Ok(answer)
            }
            Err(error) if causes(cause(&error)).any(|cause| cause.is::<SourceBroke>()) => {
                self.ended_without(CLIENT_GONE);
                Err(NoAnswer::SourceBroke(error))
            }
            Err(error) => {
                self.ended_without(UNREACHABLE);
                Err(NoAnswer::Failed(error))
            }
        }
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
        // Of the others, Swift is not to blame.
        if matches!(fault, UNREACHABLE | TIMEOUT) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use swift_s3_daemon::metrics::Metrics as Process;

    use super::*;
    use crate::BoxError;

    /// The word that is counted of a call that ends so.
    async fn word(
        asking: impl Future<Output = Result<Response<()>, BoxError>>,
        late: impl Future<Output = ()>,
        gives_up: bool,
    ) -> String {
        let process = Process::default();
        let mut headers = HeaderMap::new();
        let metrics = Metrics::new(&process);
        let call = SwiftCall::begin(&metrics, Way::Upstream, (&Method::PUT, "/v1/a/c/o"), &mut headers);
        let until = call.until(asking, late, |error| &**error);
        if gives_up {
            drop(tokio::time::timeout(Duration::ZERO, until).await);
        } else {
            drop(until.await);
        }
        let text = process.render();
        let name = "http_client_request_duration_seconds_count{";
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let fault = line.split("error_type=\"").nth(1).unwrap_or_default();
        fault.split('"').next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn the_word_says_whose_fault_it_is() {
        use std::future::{pending, ready};
        let failed = |error: BoxError| ready(Err(error));
        let answer = ready(Ok(Response::new(())));
        assert_eq!(word(answer, pending(), false).await, "");
        let mut words = Vec::new();
        words.push(word(failed("reset".into()), pending(), false).await);
        words.push(word(pending(), ready(()), false).await);
        // As it comes through a client of HTTP, which wraps it.
        let inside: BoxError = SourceBroke("reset".into()).into();
        let wrapped = failed(std::io::Error::other(SourceBroke(inside)).into());
        words.push(word(wrapped, pending(), false).await);
        words.push(word(pending(), pending(), true).await);
        assert_eq!(words, FAULTS);
    }
}
