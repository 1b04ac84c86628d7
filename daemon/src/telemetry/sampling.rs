//! Which operations are traced. A caller that traces is followed; of the others a part, which a mapping may choose. What is not
//! chosen is recorded all the same until it ends, because an operation that fails is kept.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// The attribute that names the mapping of an operation, on its first span.
pub const MAPPING: &str = "swift_s3_sync.mapping.id";

/// See the module. Clones share what is set.
#[derive(Clone, Debug)]
pub struct Sampling {
    ratio: f64,
    /// False: nobody receives traces.
    is_on: bool,
    by_mapping: Arc<ArcSwap<HashMap<String, f64>>>,
}

impl Sampling {
    pub(super) fn new(ratio: f64, is_on: bool) -> Self {
        Self { ratio, is_on, by_mapping: Arc::default() }
    }

    /// True when somebody receives traces. Otherwise spans only give log lines their ids.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Replaces the parts that mappings choose for themselves, 0 to 1 by mapping id.
    pub fn set(&self, by_mapping: HashMap<String, f64>) {
        self.by_mapping.store(Arc::new(by_mapping));
    }

    fn is_chosen(&self, trace: TraceId, attributes: &[KeyValue]) -> bool {
        let mapping = attributes.iter().find(|attribute| attribute.key.as_str() == MAPPING);
        let ratio = match mapping.map(|attribute| &attribute.value) {
            Some(Value::String(id)) => self.by_mapping.load().get(id.as_str()).copied(),
            _ => None,
        };
        is_within(trace, ratio.unwrap_or(self.ratio))
    }
}

/// By the trace's id alone, so that every process that sees it decides alike.
#[allow(clippy::cast_precision_loss, reason = "a share of some millionths more or less")]
fn is_within(trace: TraceId, ratio: f64) -> bool {
    let bytes = trace.to_bytes();
    let mut low = [0; 8];
    low.iter_mut().zip(bytes.iter().skip(8)).for_each(|(to, from)| *to = *from);
    // Seven bytes are random in W3C's trace ids; of these, as many bits as a floating-point number tells apart.
    let number = (u64::from_be_bytes(low) & 0x00ff_ffff_ffff_ffff) >> 3;
    (number as f64) < ratio * (1_u64 << 53) as f64
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let parent = parent
            .filter(|parent| parent.has_active_span())
            .map(|parent| parent.span().span_context().clone());
        let is_chosen = match &parent {
            Some(parent) => parent.is_sampled(),
            None => self.is_chosen(trace_id, attributes),
        };
        let decision = match (self.is_on, is_chosen) {
            (true, true) => SamplingDecision::RecordAndSample,
            (true, false) => SamplingDecision::RecordOnly,
            (false, _) => SamplingDecision::Drop,
        };
        // What vendors noted in the caller's trace is of the spans below, too. Source: W3C trace context, "Mutating the tracestate field".
        let trace_state = parent.map(|parent| parent.trace_state().clone()).unwrap_or_default();
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    fn decide(sampling: &Sampling, parent: Option<TraceFlags>, mapping: &str) -> SamplingDecision {
        let id = TraceId::from_bytes([0x40; 16]);
        let parent = parent.map(|flags| {
            let context =
                SpanContext::new(id, SpanId::from_bytes([1; 8]), flags, true, TraceState::default());
            Context::new().with_remote_span_context(context)
        });
        let attributes = [KeyValue::new(MAPPING, mapping.to_owned())];
        sampling.should_sample(parent.as_ref(), id, "x", &SpanKind::Internal, &attributes, &[]).decision
    }

    #[test]
    fn mappings_choose_for_themselves_and_callers_are_followed() {
        let sampling = Sampling::new(0.1, true);
        sampling.set(HashMap::from([("all".to_owned(), 1.0), ("none".to_owned(), 0.0)]));
        use SamplingDecision::{Drop, RecordAndSample, RecordOnly};
        // The id lies at a quarter of all ids.
        for (parent, mapping, decision) in [
            (None, "all", RecordAndSample),
            (None, "none", RecordOnly),
            (None, "other", RecordOnly),
            (Some(TraceFlags::SAMPLED), "none", RecordAndSample),
            (Some(TraceFlags::default()), "all", RecordOnly),
        ] {
            assert_eq!(decide(&sampling, parent, mapping), decision, "{parent:?} {mapping}");
        }
        assert_eq!(decide(&Sampling::new(0.3, true), None, "other"), RecordAndSample);
        let nobody = Sampling::new(1.0, false);
        assert_eq!(decide(&nobody, None, "other"), Drop);
        assert_eq!(decide(&nobody, Some(TraceFlags::default()), "other"), Drop);
        assert_eq!(decide(&nobody, Some(TraceFlags::SAMPLED), "other"), Drop);
    }

    #[test]
    fn about_as_many_are_chosen_as_asked_for() {
        let ids = (0..20_000).map(|_| TraceId::from_bytes(rand_bytes()));
        let chosen = ids.filter(|id| is_within(*id, 0.25)).count();
        assert!((4_500..5_500).contains(&chosen), "{chosen}");
        assert!(
            !is_within(TraceId::from_bytes([0; 16]), 0.0) && is_within(TraceId::from_bytes([0xff; 16]), 1.0)
        );
    }

    fn rand_bytes() -> [u8; 16] {
        use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
        RandomIdGenerator::default().new_trace_id().to_bytes()
    }
}
