#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::swift::container_db::RawShardRange;

fn range(container: &str, lower: &str, upper: &str) -> ShardRange {
    ShardRange::checked(RawShardRange {
        name: &format!(".shards_a/{container}"),
        timestamp: "1700000000.00000",
        lower: lower.to_owned(),
        upper: upper.to_owned(),
        deleted: false,
        state: 40,
        epoch: "",
    })
    .unwrap()
}

fn whole(lower: &str, upper: &str) -> Segment {
    Segment {
        account: "a".to_owned(),
        container: "c".to_owned(),
        lower: lower.to_owned(),
        upper: upper.to_owned(),
        depth: 0,
    }
}

fn shown(parts: &[Segment]) -> Vec<(&str, &str, &str)> {
    parts.iter().map(|part| (part.container.as_str(), part.lower.as_str(), part.upper.as_str())).collect()
}

#[test]
fn a_split_container_is_walked_shard_by_shard() {
    let ranges = vec![range("s2", "m", ""), range("s1", "", "m")];
    assert_eq!(shown(&segments(&whole("", ""), ranges)), [("s1", "", "m"), ("s2", "m", "")]);
}

#[test]
fn what_no_range_covers_is_left_to_the_container_itself() {
    let ranges = vec![range("s1", "b", "d"), range("s2", "f", "h")];
    assert_eq!(
        shown(&segments(&whole("", ""), ranges)),
        [("c", "", "b"), ("s1", "b", "d"), ("c", "d", "f"), ("s2", "f", "h"), ("c", "h", "")]
    );
    assert_eq!(shown(&segments(&whole("", ""), Vec::new())), [("c", "", "")]);
}

#[test]
fn ranges_that_overlap_are_read_once() {
    let ranges = vec![range("parent", "", "z"), range("child", "", "m"), range("late", "m", "z")];
    assert_eq!(
        shown(&segments(&whole("", ""), ranges)),
        [("child", "", "m"), ("parent", "m", "z"), ("c", "z", "")]
    );
}

fn part(lower: &str, upper: &str) -> ShardPart {
    ShardPart {
        account: ".shards_a".to_owned(),
        container: "s".to_owned(),
        lower: lower.to_owned(),
        upper: upper.to_owned(),
    }
}

#[test]
fn only_shards_that_may_hold_a_prefix_are_asked() {
    for (lower, upper, may) in [
        ("", "", true),
        ("", "a", false),
        ("", "o/", true),
        ("o/2", "o/4", true),
        ("o/4", "", true),
        ("o0", "", false),
        ("p", "z", false),
    ] {
        assert_eq!(part(lower, upper).may_hold("o/"), may, "{lower:?} to {upper:?}");
        assert!(may || !part(lower, upper).covers("o/3"));
    }
    assert!(part("o/2", "o/4").covers("o/4") && !part("o/2", "o/4").covers("o/2"));
}

proptest! {
    #[test]
    fn every_name_is_in_exactly_one_part(
        bounds in prop::collection::vec(("[a-d]{0,2}", "[a-d]{0,2}"), 0..8),
        lower in "[a-d]{0,1}",
        upper in "[a-d]{0,1}",
        name in "[a-d]{1,3}",
    ) {
        prop_assume!(upper.is_empty() || lower < upper);
        let ranges: Vec<ShardRange> = bounds
            .iter()
            .filter(|(lower, upper)| upper.is_empty() || lower < upper)
            .enumerate()
            .map(|(index, (lower, upper))| range(&index.to_string(), lower, upper))
            .collect();
        let whole = whole(&lower, &upper);
        let holds = |part: &Segment| name > part.lower && (part.upper.is_empty() || name <= part.upper);
        let parts = segments(&whole, ranges);
        let count = parts.iter().filter(|part| holds(part)).count();
        prop_assert_eq!(count, usize::from(holds(&whole)), "{:?}", parts);
        prop_assert!(parts.is_sorted_by(|one, other| one.upper == other.lower));
    }
}
