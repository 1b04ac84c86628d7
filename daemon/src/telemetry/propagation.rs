//! W3C trace context, in with a request and out with those that it leads to. Source: <https://www.w3.org/TR/trace-context/>.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Somebody receives the spans of this process. Otherwise nobody may be told of them: what is below would hang on a parent that nobody
/// ever sees.
static IS_EXPORTING: AtomicBool = AtomicBool::new(false);

pub(super) fn set_exporting(is_exporting: bool) {
    IS_EXPORTING.store(is_exporting, Ordering::Relaxed);
}

/// What a caller said of its trace, in the contexts of all spans below.
struct Theirs(SpanContext);

/// Makes `span` a part of the trace that a request with these headers belongs to, if it says so. To be called before the span is
/// entered. Nothing but ids and one flag is taken from the headers, and only in the form that W3C gives them.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&From(headers)));
    let theirs = context.span().span_context().clone();
    if theirs.is_valid() {
        // Fails only without a tracing layer, or when the span was entered before: then it begins a trace of its own.
        drop(span.set_parent(context.with_value(Theirs(theirs))));
    }
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

/// Says in `headers` which trace the request belongs to that is made in `span`, in place of what they said before. Where nobody receives
/// the spans of this process, that is the trace that [`continue_trace`] found, and without one they stay as they are.
pub fn pass_on(span: &Span, headers: &mut HeaderMap) {
    pass_on_context(&span.context(), IS_EXPORTING.load(Ordering::Relaxed), headers);
}

/// As [`pass_on`], of the span that the caller is in.
pub fn pass_on_current(headers: &mut HeaderMap) {
    pass_on_context(&Context::current(), IS_EXPORTING.load(Ordering::Relaxed), headers);
}

fn pass_on_context(context: &Context, is_exporting: bool, headers: &mut HeaderMap) {
    let theirs = (!is_exporting)
        .then(|| {
            context.get::<Theirs>().map(|theirs| Context::new().with_remote_span_context(theirs.0.clone()))
        })
        .flatten();
    let context = if is_exporting { Some(context) } else { theirs.as_ref() };
    let Some(context) = context.filter(|context| context.span().span_context().is_valid()) else { return };
    // What vendors noted there is of the trace that `traceparent` named.
    headers.remove("tracestate");
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use opentelemetry::trace::{SpanId, TracerProvider as _};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::sampling::Sampling;
    use super::*;

    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// What goes on from a request with these headers, when something is asked of others in a span below its own.
    fn handed_on(is_exporting: bool, does_follow: bool, came: &HeaderMap) -> HeaderMap {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let tracers = SdkTracerProvider::builder().with_sampler(Sampling::new(0.0, is_exporting)).build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
        let mut on = came.clone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("request");
            if does_follow {
                continue_trace(&span, came)
            } else {
                link_trace(&span, came)
            }
            let below = span.in_scope(|| tracing::info_span!("below"));
            pass_on_context(&below.context(), is_exporting, &mut on);
        });
        on
    }

    #[test]
    fn a_followed_trace_goes_on_with_what_vendors_noted_in_it() {
        let came = headers(&[("traceparent", THEIRS), ("tracestate", "vendor=1")]);
        let on = handed_on(true, true, &came);
        let (parent, state) =
            (on.get("traceparent").unwrap().to_str().unwrap(), on.get("tracestate").unwrap());
        assert_eq!(state, "vendor=1");
        let parts: Vec<&str> = parent.split('-').collect();
        let [_, trace, span, flags] = parts.as_slice() else { panic!("{parent}") };
        assert_eq!((*trace, *flags), ("0af7651916cd43dd8448eb211c80319c", "01"));
        assert!(*span != "b7ad6b7169203331" && SpanId::from_hex(span).is_ok(), "{parent}");
    }

    #[test]
    fn a_linked_trace_is_not_gone_on_with_and_its_flag_decides_nothing() {
        let came = headers(&[("traceparent", THEIRS), ("tracestate", "vendor=1")]);
        let on = handed_on(true, false, &came);
        let parent = on.get("traceparent").unwrap().to_str().unwrap();
        assert!(!parent.contains("0af7651916cd43dd8448eb211c80319c") && parent.ends_with("-00"), "{parent}");
        assert!(!on.contains_key("tracestate"));
    }

    #[test]
    fn where_nobody_receives_spans_nobody_is_told_of_them() {
        let came = headers(&[("traceparent", THEIRS), ("tracestate", "vendor=1")]);
        for does_follow in [true, false] {
            assert_eq!(handed_on(false, does_follow, &came), came);
            assert_eq!(handed_on(false, does_follow, &HeaderMap::new()), HeaderMap::new());
        }
        // Requests of our own, too, are told of the caller's trace.
        let asked = tracing_of_ours(&came);
        assert_eq!(asked.get("traceparent").unwrap(), THEIRS);
    }

    fn tracing_of_ours(came: &HeaderMap) -> HeaderMap {
        let tracers = SdkTracerProvider::builder().with_sampler(Sampling::new(0.0, false)).build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
        let mut asked = HeaderMap::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("request");
            continue_trace(&span, came);
            span.in_scope(|| pass_on_context(&Context::current(), false, &mut asked));
        });
        asked
    }
}
