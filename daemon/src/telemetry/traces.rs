//! Traces on their way out: those that were chosen, and those in which something failed.
//!
//! Spans of a trace that was not chosen wait until its first span of this process ends. If one of them failed all of them are sent,
//! otherwise none. How many wait is bounded by what is in flight, and by [`MAX_WAITING`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceId};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor};
use tracing::{Level, Metadata};

/// Spans that wait for the end of their traces; of further ones only those that failed themselves are sent.
const MAX_WAITING: usize = 20_000;
/// Spans of one trace that wait: an operation has about ten.
const MAX_OF_TRACE: usize = 200;

/// Spans of this program that tell of operations, and what is worth telling of inside them.
pub(super) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("swift_s3") && *metadata.level() <= Level::INFO
}

/// Sends spans in batches, from a thread of its own. What does not fit its queue is dropped: work is never held.
pub(super) fn processor(exporter: SpanExporter) -> KeepFailures<BatchSpanProcessor> {
    KeepFailures { next: BatchSpanProcessor::builder(exporter).build(), waiting: Mutex::default() }
}

/// See the module.
#[derive(Debug)]
pub(super) struct KeepFailures<P> {
    next: P,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    traces: HashMap<TraceId, Vec<SpanData>>,
    spans: usize,
}

impl Waiting {
    fn add(&mut self, span: SpanData) {
        let trace = span.span_context.trace_id();
        let has_room = self.spans < MAX_WAITING;
        let spans = self.traces.entry(trace).or_default();
        if has_room && spans.len() < MAX_OF_TRACE {
            spans.push(span);
            self.spans += 1;
        }
    }

    fn take(&mut self, trace: TraceId) -> Vec<SpanData> {
        let spans = self.traces.remove(&trace).unwrap_or_default();
        self.spans -= spans.len();
        spans
    }
}

fn has_failed(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

/// As if it had been chosen from the beginning: who was not is not sent.
fn chosen(mut span: SpanData) -> SpanData {
    let context = &span.span_context;
    span.span_context = SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags().with_sampled(true),
        context.is_remote(),
        context.trace_state().clone(),
    );
    span
}

impl<P: SpanProcessor> KeepFailures<P> {
    /// The spans that go out because this one, which was not chosen, has ended.
    fn ended(&self, span: SpanData) -> Vec<SpanData> {
        let is_first = span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_first {
            if waiting.spans < MAX_WAITING {
                waiting.add(span);
                return Vec::new();
            }
            return if has_failed(&span) { vec![span] } else { Vec::new() };
        }
        let mut spans = waiting.take(span.span_context.trace_id());
        drop(waiting);
        spans.push(span);
        if spans.iter().any(has_failed) { spans } else { Vec::new() }
    }
}

impl<P: SpanProcessor> SpanProcessor for KeepFailures<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.next.on_end(span);
            return;
        }
        for span in self.ended(span) {
            self.next.on_end(chosen(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
