//! W3C trace context, in with a request and out with those that it leads to. Source: <https://www.w3.org/TR/trace-context/>.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes `span` a part of the trace that a request with these headers belongs to, if it says so. To be called before the span is
/// entered. Nothing but ids and one flag is taken from the headers, and only in the form that W3C gives them.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&From(headers)));
    // Fails only without a tracing layer, or when the span was entered before: then it begins a trace of its own.
    drop(span.set_parent(context));
}

/// Begins a trace of `span`'s own, which names the trace that a request with these headers belongs to as a link: for callers whose word
/// on what is recorded shall not count.
pub fn link_trace(span: &Span, headers: &HeaderMap) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&From(headers)));
    let theirs = context.span().span_context().clone();
    if theirs.is_valid() {
        span.add_link(theirs);
    }
}

/// Says in `headers` which trace the request belongs to that is made in `span`, in place of what they said before.
pub fn pass_on(span: &Span, headers: &mut HeaderMap) {
    pass_on_context(&span.context(), headers);
}

/// As [`pass_on`], of the span that the caller is in.
pub fn pass_on_current(headers: &mut HeaderMap) {
    pass_on_context(&Context::current(), headers);
}

fn pass_on_context(context: &Context, headers: &mut HeaderMap) {
    if context.span().span_context().is_valid() {
        // What vendors noted there is of the trace that `traceparent` named.
        headers.remove("tracestate");
    }
    global::get_text_map_propagator(|propagator| propagator.inject_context(context, &mut Into(headers)));
}

struct From<'a>(&'a HeaderMap);

impl Extractor for From<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Into<'a>(&'a mut HeaderMap);

impl Injector for Into<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            return;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
