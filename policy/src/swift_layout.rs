//! How objects lie in the account of another Swift cluster: which headers go with them, when they expire, and how large objects
//! and containers are written. The layout is the predecessor's.
//!
//! Called by the worker's transfers to Swift remotes.

mod container;
mod expiry;
mod metadata;
mod plan;
mod segments;

pub use container::{container_changes, is_secret_header};
pub use expiry::{Expiry, ObjectRole, expiry_of, outlives, same_expiry};
pub use metadata::{
    COMBINED_ETAG_MARKER, DLO_ETAG_MARKER, HeaderNotText, SWIFT_SLO_ETAG_MARKER, same_on_swift, to_swift,
};
pub use plan::{PlannedSegment, SegmentPlan, is_same_dlo, is_same_slo, plan_segments};
pub use segments::{derived_name, etag_of_etags, has_derived_form, is_derived_name, segment_groups};
