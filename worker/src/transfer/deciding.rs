//! Decisions as they show in traces: what is decided is decided elsewhere, here it is told.

use tracing::field::Empty;

use crate::decide::{Action, DeleteAction};
use crate::large::verdict::Verdict;

/// Something that was decided.
pub(super) trait Decided {
    /// The word for it.
    fn word(&self) -> &'static str;
}

impl Decided for Action {
    fn word(&self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::UpdateMetadata => "update metadata",
            Self::Nothing => "nothing",
            Self::Keep => "keep",
            Self::Refuse(_) => "refuse",
        }
    }
}

impl Decided for DeleteAction {
    fn word(&self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::NotPropagated => "not propagated",
            Self::NotAUsersDelete => "not a user's delete",
        }
    }
}

impl Decided for Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Upload => "put",
            Self::UpdateMetadata => "update metadata",
            Self::Nothing => "nothing",
            Self::Keep => "keep",
        }
    }
}

/// Of a Swift remote, whose rules are its own: whether both sides agree.
impl Decided for bool {
    fn word(&self) -> &'static str {
        if *self { "nothing" } else { "put" }
    }
}

/// Decides inside of a span that tells what came out.
pub(super) fn in_span<D: Decided>(decide: impl FnOnce() -> D) -> D {
    let span = tracing::info_span!("decide", swift_s3_sync.decision = Empty);
    let decided = span.in_scope(decide);
    span.record("swift_s3_sync.decision", decided.word());
    decided
}
