//! Traces on their way out: those that were chosen, and those in which something failed.
//!
//! An operation is what happens from a span that has no parent in this process until that span ends. Of an operation that was not
//! chosen the spans wait until then; if one of them failed all of them are sent, otherwise none. So many operations a second are sent
//! for that at most, of those that failed themselves more than of those that went well in the end: when a remote is down everything
//! fails alike, and what is chosen must have room. How many wait is bounded by what is in flight, and by [`MAX_WAITING`] and [`MAX_OF_OPERATION`]; those that failed have a bound of their own, so that they are not the
//! ones that are left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::trace::{Span as _, SpanContext, SpanId, Status, TraceContextExt as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor};
use tracing::{Level, Metadata};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Spans that wait for the end of their operations; of further ones only those that failed.
const MAX_WAITING: usize = 20_000;
/// Spans of one operation that wait: it usually has about ten, but a large object has one for each of its parts.
const MAX_OF_OPERATION: usize = 200;
/// Failed spans of one operation that wait beyond that.
const MAX_FAILED: usize = 50;
/// Operations that failed and are sent in a second, though they were not chosen.
const FAILED_A_SECOND: u32 = 50;
/// The same of operations that went well although something in them failed, such as a request that was repeated.
const TROUBLED_A_SECOND: u32 = 5;

/// Spans of this program that tell of operations, and what is worth telling of inside them.
pub(super) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("swift_s3") && *metadata.level() <= Level::INFO
}

/// True when what happens in `span` was chosen to be traced. False also for what is kept only if it fails.
#[must_use]
pub fn is_sampled(span: &tracing::Span) -> bool {
    span.context().span().span_context().is_sampled()
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

/// Operations that were not chosen and have not ended.
#[derive(Debug, Default)]
struct Waiting {
    /// By the id of their first span.
    operations: HashMap<SpanId, Operation>,
    /// The first span of whose operation each span is that has not ended. Requests of one caller may share a trace, so its id would
    /// not tell them apart.
    firsts: HashMap<SpanId, SpanId>,
    spans: usize,
    failed: Allowance,
    troubled: Allowance,
}

/// How many were sent in this second.
#[derive(Debug, Default)]
struct Allowance {
    second: Option<Instant>,
    sent: u32,
}

impl Allowance {
    fn take(&mut self, most: u32, now: Instant) -> bool {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.sent) = (Some(now), 0);
        }
        self.sent = self.sent.saturating_add(1);
        self.sent <= most
    }
}

#[derive(Debug, Default)]
struct Operation {
    spans: Vec<SpanData>,
    failed: usize,
}

impl Waiting {
    fn begun(&mut self, span: SpanId, parent: Option<SpanId>) {
        let first = parent.and_then(|parent| self.firsts.get(&parent).copied());
        self.firsts.insert(span, first.unwrap_or(span));
        if first.is_none() {
            self.operations.insert(span, Operation::default());
        }
    }

    /// The spans that go out because this one has ended.
    fn ended(&mut self, span: SpanData) -> Vec<SpanData> {
        let id = span.span_context.span_id();
        let has_failed = matches!(span.status, Status::Error { .. });
        let first = self.firsts.remove(&id).unwrap_or(id);
        if first == id {
            let operation = self.operations.remove(&id).unwrap_or_default();
            self.spans -= operation.spans.len();
            let now = Instant::now();
            let is_sent = if has_failed {
                self.failed.take(FAILED_A_SECOND, now)
            } else {
                operation.failed > 0 && self.troubled.take(TROUBLED_A_SECOND, now)
            };
            if !is_sent {
                return Vec::new();
            }
            let mut spans = operation.spans;
            spans.push(span);
            return spans;
        }
        // Its operation has ended before it: nothing is left to wait for.
        let Some(operation) = self.operations.get_mut(&first) else {
            let is_sent = has_failed && self.troubled.take(TROUBLED_A_SECOND, Instant::now());
            return if is_sent { vec![span] } else { Vec::new() };
        };
        let has_room = self.spans < MAX_WAITING && operation.spans.len() < MAX_OF_OPERATION;
        if has_room || (has_failed && operation.failed < MAX_FAILED) {
            operation.spans.push(span);
            self.spans += 1;
        }
        operation.failed += usize::from(has_failed);
        Vec::new()
    }
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

impl<P: SpanProcessor> SpanProcessor for KeepFailures<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
        let own = span.span_context();
        if own.is_sampled() {
            return;
        }
        let parent = context.span().span_context().clone();
        let parent = (parent.is_valid() && !parent.is_remote()).then(|| parent.span_id());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.begun(own.span_id(), parent);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.next.on_end(span);
            return;
        }
        let spans = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ended(span);
        for span in spans {
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

#[cfg(test)]
mod tests {
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanKind, TraceFlags, TraceId, TraceState};

    use super::*;

    fn id(number: u64) -> SpanId {
        SpanId::from_bytes(number.to_be_bytes())
    }

    fn span(number: u64, has_failed: bool) -> SpanData {
        let context = SpanContext::new(
            TraceId::from_bytes([7; 16]),
            id(number),
            TraceFlags::default(),
            false,
            TraceState::default(),
        );
        SpanData {
            span_context: context,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "x".into(),
            start_time: std::time::UNIX_EPOCH,
            end_time: std::time::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: if has_failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    fn ids(spans: &[SpanData]) -> Vec<SpanId> {
        spans.iter().map(|span| span.span_context.span_id()).collect()
    }

    fn is_empty(waiting: &Waiting) -> bool {
        waiting.operations.is_empty() && waiting.firsts.is_empty() && waiting.spans == 0
    }

    #[test]
    fn an_operation_is_sent_whole_if_anything_in_it_failed_and_not_at_all_otherwise() {
        for (child_failed, first_failed, sent) in [
            (false, false, vec![]),
            (true, false, vec![id(2), id(3), id(1)]),
            (false, true, vec![id(2), id(3), id(1)]),
        ] {
            let mut waiting = Waiting::default();
            waiting.begun(id(1), None);
            waiting.begun(id(2), Some(id(1)));
            waiting.begun(id(3), Some(id(2)));
            assert!(waiting.ended(span(2, child_failed)).is_empty());
            assert!(waiting.ended(span(3, false)).is_empty());
            assert_eq!(ids(&waiting.ended(span(1, first_failed))), sent);
            assert!(is_empty(&waiting));
        }
    }

    #[test]
    fn when_everything_fails_so_many_are_sent_in_a_second() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        let mut sent = |after| (0..100).filter(|_| allowance.take(50, now + after)).count();
        assert_eq!(sent(Duration::ZERO), 50);
        assert_eq!(sent(Duration::from_millis(999)), 0);
        assert_eq!(sent(Duration::from_secs(1)), 50);
        // What was repeated and went well in the end has less room, and takes none from what failed.
        let mut waiting = Waiting::default();
        let mut send = |root_failed| {
            let sent = (0..60_u64).filter(|_| {
                waiting.begun(id(1), None);
                waiting.begun(id(2), Some(id(1)));
                waiting.ended(span(2, true));
                !waiting.ended(span(1, root_failed)).is_empty()
            });
            sent.count()
        };
        let (troubled, failed) = (send(false), send(true));
        assert!(troubled < 60 && troubled < failed, "{troubled} {failed}");
    }

    #[test]
    fn two_requests_of_one_trace_are_two_operations() {
        let mut waiting = Waiting::default();
        // Their parents are the same span of another process.
        waiting.begun(id(1), Some(id(99)));
        waiting.begun(id(2), Some(id(99)));
        waiting.begun(id(21), Some(id(2)));
        assert!(waiting.ended(span(21, false)).is_empty());
        assert!(waiting.ended(span(1, false)).is_empty());
        assert_eq!(ids(&waiting.ended(span(2, true))), [id(21), id(2)]);
        assert!(is_empty(&waiting));
    }

    #[test]
    fn a_failure_behind_many_others_is_kept() {
        let mut waiting = Waiting::default();
        waiting.begun(id(1), None);
        for number in 2..1_000 {
            waiting.begun(id(number), Some(id(1)));
            assert!(waiting.ended(span(number, number == 900)).is_empty());
        }
        let sent = ids(&waiting.ended(span(1, false)));
        assert_eq!(sent.len(), MAX_OF_OPERATION + 2);
        assert!(sent.contains(&id(900)));
        assert!(is_empty(&waiting));
    }

    #[test]
    fn what_ends_after_its_operation_leaves_nothing_behind() {
        let mut waiting = Waiting::default();
        waiting.begun(id(1), None);
        waiting.begun(id(2), Some(id(1)));
        waiting.begun(id(3), Some(id(1)));
        assert!(waiting.ended(span(1, false)).is_empty());
        assert!(waiting.ended(span(2, false)).is_empty());
        assert_eq!(ids(&waiting.ended(span(3, true))), [id(3)]);
        assert!(is_empty(&waiting));
    }
}
