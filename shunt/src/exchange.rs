//! One request of a client and its answer, as operators see it: a span that lives until the answer is sent or the client has gone, and the
//! figures. Requests to Swift made for it are children of that span.
//!
//! Names follow OpenTelemetry's conventions for HTTP. Source: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use swift_s3_daemon::telemetry::propagation;
use tracing::Span;
use tracing::field::Empty;

use crate::body::{Body, BoxError, Response, boxed};
use crate::context::Context;
use crate::metrics::{Direction, Request, Transfer};

/// Swift's id of a request, in its answers and from the filter.
pub(crate) const TRANS_ID: HeaderName = HeaderName::from_static("x-trans-id");

/// What was done for a request, in the extensions of its answer. Without it Swift's answer was passed on.
#[derive(Clone, Copy, Debug)]
struct Done {
    operation: &'static str,
    told: Told,
}

/// What the client is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// The answer.
    This,
    /// What others say; `None`: not known here.
    ByOthers(Option<StatusCode>),
    /// Nothing yet: the rest of the same request comes back for more.
    NothingYet,
}

/// Notes in an answer what was done for it.
pub(crate) fn done(answer: Response, operation: &'static str) -> Response {
    noted(answer, Done { operation, told: Told::This })
}

/// As [`done`], of an answer that leaves it to others what the client is told: this status, if it is known.
pub(crate) fn done_by_others(
    answer: Response,
    operation: &'static str,
    status: Option<StatusCode>,
) -> Response {
    noted(answer, Done { operation, told: Told::ByOthers(status) })
}

/// As [`done`], of a step on the way to the answer of a client's request, which is counted only once: when it has its answer.
pub(crate) fn step_done(answer: Response, operation: &'static str) -> Response {
    noted(answer, Done { operation, told: Told::NothingYet })
}

fn noted(mut answer: Response, done: Done) -> Response {
    answer.extensions_mut().insert(done);
    answer
}

/// What is known of a request when it comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Where it came in.
    pub(crate) door: &'static str,
    /// The client's method.
    pub(crate) method: &'a Method,
    /// Its path, without the query: that may hold a signature.
    pub(crate) path: &'a str,
    /// Its headers, for the trace that it belongs to.
    pub(crate) headers: &'a HeaderMap,
    /// The id of the mapping that concerns it.
    pub(crate) mapping: Option<&'a str>,
    /// Swift alone answers it.
    pub(crate) is_passed: bool,
}

/// Whether clients' traces are gone on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceContext {
    /// A request is part of the trace that its `traceparent` names, and is recorded if that says so
    Follow,
    /// Each request begins a trace of its own, which names the client's as a link
    #[default]
    Link,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody has waited for the answer, or for all of it.
    ClientGone,
    /// The answer broke off on our side.
    Broken,
    /// The answer was given in full.
    Sent,
}

/// See the module. Dropping it ends the request.
#[derive(Debug)]
pub(crate) struct Exchange {
    context: Arc<Context>,
    span: Span,
    began: Instant,
    told: Request,
    end: End,
    /// The answer has no content, whatever its headers say.
    is_head: bool,
    /// False for a step that is not the last one of its request.
    is_counted: bool,
}

impl Exchange {
    /// A request has come in.
    pub(crate) fn begin(context: &Arc<Context>, asked: Asked<'_>) -> Self {
        let method = method_name(asked.method);
        context.metrics.request_began(asked.door);
        // Most requests only pass. Where nobody receives traces they keep the context that they came with, and are not slowed down; others
        // have a span for the ids of their log lines.
        let is_traced = context.sends_traces || !asked.is_passed;
        let span = if is_traced { server_span(&asked, method) } else { Span::none() };
        if !span.is_disabled() {
            match context.trace_context {
                TraceContext::Follow => propagation::continue_trace(&span, asked.headers),
                TraceContext::Link => propagation::link_trace(&span, asked.headers),
            }
        }
        let told = Request { door: asked.door, method, operation: "pass", status: None, fault: None };
        Self {
            context: Arc::clone(context),
            span,
            began: Instant::now(),
            told,
            end: End::ClientGone,
            is_head: asked.method == Method::HEAD,
            is_counted: true,
        }
    }

    /// What is done for the request is done in it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The request's id in Swift.
    pub(crate) fn in_transaction(&self, headers: &HeaderMap) {
        if let Some(id) = headers.get(TRANS_ID).and_then(|value| value.to_str().ok()) {
            self.span.record("swift.trans_id", id);
        }
    }

    /// The answer, which ends the request once it has been sent.
    pub(crate) fn answered(mut self, mut answer: Response) -> Response {
        let done = answer.extensions_mut().remove::<Done>();
        if let Some(done) = done {
            self.told.operation = done.operation;
        }
        self.told.status = match done.map_or(Told::This, |done| done.told) {
            Told::This => Some(answer.status()),
            Told::ByOthers(status) => status,
            Told::NothingYet => {
                self.is_counted = false;
                None
            }
        };
        self.in_transaction(answer.headers());
        let transfer = self.context.metrics.transfer(self.told.door, Direction::Transmit);
        let length = if self.is_head { Some(0) } else { length_of(&answer) };
        let is_ours = done.is_some();
        answer.map(|content| boxed(Sending { content, left: length, is_ours, transfer, exchange: self }))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.told.fault = match self.end {
            End::ClientGone => Some("client_gone"),
            End::Broken => Some("broken_body"),
            End::Sent => None,
        };
        let told = &self.told;
        // Entered once more, because a span ends when it was left last.
        self.span.in_scope(|| {
            self.span.record("swift_s3_sync.operation", told.operation);
            if let Some(status) = told.status {
                self.span.record("http.response.status_code", i64::from(status.as_u16()));
            }
            let failure = told.status.filter(StatusCode::is_server_error);
            if let Some(fault) = told.fault.or(failure.as_ref().map(StatusCode::as_str)) {
                self.span.record("error.type", fault);
            }
            // Clients that leave are no fault of ours: traces of those are not kept for that.
            if failure.is_some() || self.end == End::Broken {
                self.span.record("otel.status_code", "ERROR");
            }
        });
        self.context.metrics.request_ended(told, self.is_counted.then(|| self.began.elapsed()));
    }
}

/// Bytes that will be asked of an answer's body. Streams do not know their length; the header that announces it is what is kept to.
fn length_of(answer: &Response) -> Option<u64> {
    let status = answer.status();
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    let announced = || answer.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    answer.body().size_hint().exact().or_else(announced)
}

fn server_span(asked: &Asked<'_>, method: &'static str) -> Span {
    let route = route_of(asked.path);
    let shown = if method == "_OTHER" { "HTTP" } else { method };
    let blank = if route.is_empty() { "" } else { " " };
    tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.name = format_args!("{shown}{blank}{route}"),
        otel.status_code = Empty,
        http.request.method = method,
        http.route = (!route.is_empty()).then_some(route),
        url.path = asked.path,
        http.response.status_code = Empty,
        "error.type" = Empty,
        swift.trans_id = Empty,
        swift_s3_sync.door = asked.door,
        swift_s3_sync.operation = Empty,
        swift_s3_sync.mapping.id = asked.mapping,
    )
}

/// An answer's body on its way to the client.
struct Sending {
    content: Body,
    /// Bytes that it still has, if that is known.
    left: Option<u64>,
    /// It is made here: what happens on the way belongs to the span. What comes from Swift is only handed on.
    is_ours: bool,
    transfer: Transfer,
    exchange: Exchange,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = {
            let _entered = this.is_ours.then(|| this.exchange.span.enter());
            std::task::ready!(Pin::new(&mut this.content).poll_frame(task))
        };
        match &polled {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.transfer.passed(bytes);
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                this.left = this.left.map(|left| left.saturating_sub(bytes));
            }
            Some(Err(_)) => this.exchange.end = End::Broken,
            None => this.exchange.end = End::Sent,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // Whoever sends it on stops asking once it has as many bytes as were announced, and asks an empty one for nothing.
        let is_whole = self.left == Some(0) || self.content.is_end_stream();
        if is_whole && self.exchange.end != End::Broken {
            self.exchange.end = End::Sent;
        }
    }
}

/// A method as a label: one of those that Swift knows, or `_OTHER`.
pub(crate) fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// What a path is about, in Swift's own words; empty where it is none of Swift's. By the slashes as they came: it is a name and decides
/// nothing.
fn route_of(path: &str) -> &'static str {
    let Some(rest) = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v1.0/")) else {
        return if path == "/info" { "/info" } else { "" };
    };
    let mut parts = rest.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(""), ..) | (None, ..) => "",
        (_, None | Some(""), None) => "/v1/{account}",
        (_, Some(""), Some(_)) => "",
        (_, _, None | Some("")) => "/v1/{account}/{container}",
        (_, _, Some(_)) => "/v1/{account}/{container}/{object}",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_no_account_container_or_object() {
        for (path, route) in [
            ("/v1/a/c/o", "/v1/{account}/{container}/{object}"),
            ("/v1.0/a/c/o//p/", "/v1/{account}/{container}/{object}"),
            ("/v1/a/c", "/v1/{account}/{container}"),
            ("/v1/a/c/", "/v1/{account}/{container}"),
            ("/v1/a", "/v1/{account}"),
            ("/v1/a/", "/v1/{account}"),
            ("/v1/a//o", ""),
            ("/v1/", ""),
            ("/info", "/info"),
            ("/auth/v1.0", ""),
            ("*", ""),
            ("", ""),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
    }

    #[test]
    fn methods_that_swift_does_not_know_are_one_label() {
        assert_eq!(method_name(&Method::GET), "GET");
        assert_eq!(method_name(&Method::from_bytes(b"COPY").unwrap()), "COPY");
        assert_eq!(method_name(&Method::from_bytes(b"X-RANDOM-1").unwrap()), "_OTHER");
    }

    /// What is counted of a request with this method, when so many bytes of its answer were taken before it was dropped.
    async fn counted(method: Method, answer: Response, taken: usize) -> String {
        let process = swift_s3_daemon::metrics::Metrics::default();
        let context = Arc::new(Context::for_tests(crate::metrics::Metrics::new(&process)));
        let headers = HeaderMap::new();
        let asked = Asked {
            door: "proxy",
            method: &method,
            path: "/v1/a/c/o",
            headers: &headers,
            mapping: None,
            is_passed: false,
        };
        let answer = Exchange::begin(&context, asked).answered(answer);
        let mut body = answer.into_body();
        let mut seen = 0;
        while seen < taken {
            match http_body_util::BodyExt::frame(&mut body).await {
                Some(Ok(frame)) => seen += frame.into_data().unwrap().len(),
                Some(Err(_)) | None => break,
            }
        }
        drop(body);
        process.render()
    }

    fn streamed(pieces: &[Result<&'static str, &'static str>], length: Option<u64>) -> Response {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.map(Bytes::from)).collect();
        let mut answer = Response::new(swift_s3_store::body::from_stream(futures_util::stream::iter(pieces)));
        if let Some(length) = length {
            answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        done(answer, "read")
    }

    #[tokio::test]
    async fn an_answer_of_which_all_was_taken_that_was_announced_has_not_failed() {
        let text = |status| done(crate::body::text(status, "away\n"), "broken");
        let whole = || streamed(&[Ok("12345"), Ok("67890")], Some(10));
        for (name, method, answer, taken, fault) in [
            ("all of a stream", Method::GET, whole(), 10, None),
            ("a part of a stream", Method::GET, whole(), 5, Some("client_gone")),
            ("nothing of a stream", Method::GET, whole(), 0, Some("client_gone")),
            ("a HEAD of one", Method::HEAD, whole(), 0, None),
            (
                "no length, not to its end",
                Method::GET,
                streamed(&[Ok("12345")], None),
                5,
                Some("client_gone"),
            ),
            ("no length, to its end", Method::GET, streamed(&[Ok("12345")], None), 6, None),
            ("a break", Method::GET, streamed(&[Ok("1"), Err("broke")], Some(10)), 10, Some("broken_body")),
            ("a HEAD with a text", Method::HEAD, text(StatusCode::BAD_GATEWAY), 0, None),
            ("a GET with a text", Method::GET, text(StatusCode::BAD_GATEWAY), 5, None),
            ("304 with a text", Method::GET, text(StatusCode::NOT_MODIFIED), 0, None),
        ] {
            let seen = counted(method, answer, taken).await;
            let line =
                seen.lines().find(|line| line.starts_with("http_server_request_duration_seconds_count"));
            let line = line.unwrap();
            match fault {
                Some(fault) => assert!(line.contains(&format!("error_type=\"{fault}\"")), "{name}: {line}"),
                None => assert!(!line.contains("error_type"), "{name}: {line}"),
            }
            assert!(seen.contains("http_server_active_requests{door=\"proxy\"} 0"), "{name}: {seen}");
        }
    }

    #[tokio::test]
    async fn a_step_on_the_way_is_no_request_and_what_others_tell_has_their_status_or_none() {
        let empty = || Response::new(crate::body::empty());
        let seen = counted(Method::GET, step_done(empty(), "rights"), 0).await;
        assert!(!seen.contains("http_server_request_duration_seconds_count"), "{seen}");
        assert!(seen.contains("http_server_active_requests{door=\"proxy\"} 0"), "{seen}");
        for (status, label) in [(Some(StatusCode::FORBIDDEN), "code=\"403\""), (None, "")] {
            let seen = counted(Method::DELETE, done_by_others(empty(), "pass", status), 0).await;
            let line =
                seen.lines().find(|line| line.starts_with("http_server_request_duration_seconds_count"));
            let line = line.unwrap();
            assert!(
                line.contains(label) && line.contains("response_status_code") == status.is_some(),
                "{line}"
            );
            assert!(!line.contains("error_type"), "{line}");
        }
    }
}
