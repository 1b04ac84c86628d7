//! Which objects make a large object on a Swift remote, and when it has them already.

use std::collections::BTreeMap;

use super::metadata::{DLO_ETAG_MARKER, SWIFT_SLO_ETAG_MARKER};
use super::segments::segment_groups;
use crate::large_object::{Entry, Manifest, ObjectEntry};

/// One segment of the remote large object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedSegment {
    /// A local segment under its own name; a manifest, if that is what it is.
    Own(ObjectEntry),
    /// What exists on the remote only: the contents of these, one behind the other.
    Derived {
        /// Its place among the segments, from 1.
        number: usize,
        /// Whole plain objects, or data that lay in the manifest itself.
        members: Vec<Entry>,
    },
}

/// The segments of a remote large object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentPlan {
    /// In order.
    pub segments: Vec<PlannedSegment>,
    /// The remote's ETag may differ from the local one, so the manifest needs [`SWIFT_SLO_ETAG_MARKER`] to be known again.
    pub is_marked: bool,
}

/// Plans the segments of `manifest`. Whole plain ones are joined until they hold `minimum` bytes; 0 joins none.
pub fn plan_segments(manifest: &Manifest, minimum: u64) -> SegmentPlan {
    let joinable = |entry: &Entry| match entry {
        Entry::Object(object) if object.range.is_none() && object.nested.is_none() => Some(object.bytes),
        Entry::Object(_) | Entry::Data(_) => None,
    };
    let sizes: Vec<Option<u64>> = manifest.entries.iter().map(joinable).collect();
    let mut plan =
        SegmentPlan { segments: Vec::new(), is_marked: sizes.iter().flatten().any(|bytes| *bytes < minimum) };
    for (index, group) in segment_groups(&sizes, minimum).into_iter().enumerate() {
        let members = manifest.entries.get(group).unwrap_or_default();
        let segment = match members {
            [Entry::Object(object)] => PlannedSegment::Own(object.clone()),
            _ => {
                plan.is_marked = true;
                PlannedSegment::Derived { number: index + 1, members: members.to_vec() }
            }
        };
        plan.segments.push(segment);
    }
    plan
}

/// Whether a remote static large object is the one that was made of a local manifest. `user` and `etag` are the remote's;
/// `manifest_etag` is the ETag of the local manifest object, `content_etag` that of the local large object.
pub fn is_same_slo(
    user: &BTreeMap<String, String>,
    etag: &str,
    manifest_etag: &str,
    content_etag: &str,
) -> bool {
    match user.get(SWIFT_SLO_ETAG_MARKER) {
        Some(marker) => marker.eq_ignore_ascii_case(manifest_etag),
        None => etag.eq_ignore_ascii_case(content_etag),
    }
}

/// Whether a remote large object was made of a local dynamic one whose segments have these ETags, as
/// [`super::etag_of_etags`] puts them together.
pub fn is_same_dlo(user: &BTreeMap<String, String>, content_etag: &str) -> bool {
    user.get(DLO_ETAG_MARKER).is_some_and(|marker| marker.eq_ignore_ascii_case(content_etag))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn manifest(json: &str) -> Manifest {
        Manifest::parse(json.as_bytes()).unwrap()
    }

    fn entry(name: &str, bytes: u64, more: &str) -> String {
        format!(
            r#"{{"name": "/s/{name}", "hash": "5d41402abc4b2a76b9719d911017c592", "bytes": {bytes}{more}}}"#
        )
    }

    fn shape(plan: &SegmentPlan) -> Vec<String> {
        plan.segments
            .iter()
            .map(|segment| match segment {
                PlannedSegment::Own(entry) => entry.object.clone(),
                PlannedSegment::Derived { number, members } => format!("{number}x{}", members.len()),
            })
            .collect()
    }

    #[test]
    fn without_a_minimum_segments_stay_what_they_are() {
        let list = [entry("a", 5, ""), entry("b", 7, r#", "range": "1-3""#)].join(",");
        let plan = plan_segments(&manifest(&format!("[{list}]")), 0);
        assert_eq!(shape(&plan), ["a", "b"]);
        assert!(!plan.is_marked);
    }

    #[test]
    fn small_segments_are_joined_and_the_manifest_is_marked() {
        let sizes = [1024, 1024, 512, 512, 2048];
        let list: Vec<String> = sizes.iter().map(|bytes| entry("e", *bytes, "")).collect();
        let manifest = manifest(&format!("[{}]", list.join(",")));
        let plan = plan_segments(&manifest, 1024);
        assert_eq!(shape(&plan), ["e", "e", "3x2", "e"]);
        assert!(plan.is_marked);
        assert!(!plan_segments(&manifest, 512).is_marked);
    }

    #[test]
    fn parts_and_data_are_not_joined() {
        let list =
            [entry("a", 5, ""), entry("b", 7, r#", "range": "1-3""#), r#"{"data": "aGVsbG8="}"#.to_owned()]
                .join(",");
        let plan = plan_segments(&manifest(&format!("[{list}]")), 1000);
        assert_eq!(shape(&plan), ["a", "b", "3x1"]);
        assert!(plan.is_marked);
    }

    #[test]
    fn what_is_there_is_known_by_its_marker_or_its_etag() {
        let marked = BTreeMap::from([(SWIFT_SLO_ETAG_MARKER.to_owned(), "m".to_owned())]);
        assert!(is_same_slo(&BTreeMap::new(), "C", "m", "c"));
        assert!(!is_same_slo(&BTreeMap::new(), "x", "m", "c"));
        assert!(is_same_slo(&marked, "x", "M", "c"));
        assert!(!is_same_slo(&marked, "c", "other", "c"), "the marker counts");
        assert!(!is_same_dlo(&marked, "m"));
        assert!(is_same_dlo(&BTreeMap::from([(DLO_ETAG_MARKER.to_owned(), "m".to_owned())]), "m"));
    }
}
