//! Segments on a Swift remote: which are joined, what joined ones are called, and the digests over their ETags.

use std::ops::Range;

use md5::{Digest, Md5};

use crate::timestamp::Timestamp;

/// Digits of a group's number in a derived name.
const NUMBER_DIGITS: usize = 6;

/// Which segments are joined into one, as ranges of the list. Every segment is in exactly one group; groups are in order.
///
/// A group ends as soon as it holds `minimum` bytes, so with 0 every segment stands alone. `None` stands for a segment that cannot be
/// joined, whatever its size.
pub fn segment_groups(sizes: &[Option<u64>], minimum: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut held) = (0, 0_u64);
    for (index, size) in sizes.iter().enumerate() {
        let Some(size) = size else {
            if start < index {
                groups.push(start..index);
            }
            groups.push(index..index + 1);
            (start, held) = (index + 1, 0);
            continue;
        };
        held = held.saturating_add(*size);
        if held >= minimum {
            groups.push(start..index + 1);
            (start, held) = (index + 1, 0);
        }
    }
    if start < sizes.len() {
        groups.push(start..sizes.len());
    }
    groups
}

/// The name of a segment that exists on the remote only: group `number` (from 1) of the object's write at `written`.
pub fn derived_name(object: &str, written: Timestamp, number: usize) -> String {
    format!("{object}/{}/{number:0NUMBER_DIGITS$}", written.with_offset(0))
}

/// Whether a segment's name is one that [`derived_name`] gives to segments of `object`.
pub fn is_derived_name(object: &str, name: &str) -> bool {
    let rest = name.strip_prefix(object).and_then(|rest| rest.strip_prefix('/'));
    let Some((written, number)) = rest.and_then(|rest| rest.split_once('/')) else { return false };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    written.parse::<Timestamp>().is_ok_and(|time| time.to_string() == written)
        && number.len() >= NUMBER_DIGITS
        && digits(number)
}

/// Whether a name has the form that [`derived_name`] gives, of whatever object.
pub fn has_derived_form(name: &str) -> bool {
    name.rsplitn(3, '/').nth(2).is_some_and(|object| is_derived_name(object, name))
}

/// MD5 over ETags written one behind the other, in hex: what Swift answers for a large object, and what the markers hold.
pub fn etag_of_etags<'e>(etags: impl IntoIterator<Item = &'e str>) -> String {
    let mut digest = Md5::new();
    for etag in etags {
        digest.update(etag.trim_matches('"').as_bytes());
    }
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn groups(sizes: &[u64], minimum: u64) -> Vec<Range<usize>> {
        segment_groups(&sizes.iter().copied().map(Some).collect::<Vec<_>>(), minimum)
    }

    #[test]
    fn known_groups() {
        assert_eq!(groups(&[1024, 1024, 512, 512, 2048], 1024), [0..1, 1..2, 2..4, 4..5]);
        assert_eq!(groups(&[1024, 1024, 512], 2000), [0..2, 2..3]);
        assert_eq!(groups(&[1024; 10], 2000), [0..2, 2..4, 4..6, 6..8, 8..10]);
        assert_eq!(groups(&[1, 2], 0), [0..1, 1..2]);
        assert!(groups(&[], 5).is_empty());
        let apart = [Some(1), None, Some(1), Some(1), None];
        assert_eq!(segment_groups(&apart, 10), [0..1, 1..2, 2..4, 4..5]);
    }

    #[test]
    fn derived_names_are_told_from_others() {
        let written = Timestamp::new(140_000_000_012_345, 3);
        let name = derived_name("dir/o", written, 3);
        assert_eq!(name, "dir/o/1400000000.12345/000003");
        assert!(is_derived_name("dir/o", &name) && has_derived_form(&name));
        for other in [
            "dir/o/1400000000.12345/3",
            "dir/o/1400000000.12345/00000x",
            "dir/o/1400000000/000003",
            "dir/o/000003",
            "dir/o",
        ] {
            assert!(!has_derived_form(other) && !is_derived_name("dir/o", other), "{other}");
        }
        for other in ["dir/oo/1400000000.12345/000003", "dir/o/x/1400000000.12345/000003"] {
            assert!(!is_derived_name("dir/o", other), "{other}");
        }
    }

    #[test]
    fn digests_over_etags() {
        let hello = "5d41402abc4b2a76b9719d911017c592";
        let quoted = format!("\"{hello}\"");
        assert_eq!(etag_of_etags([hello]), etag_of_etags([quoted.as_str()]));
        assert_eq!(etag_of_etags([]), "d41d8cd98f00b204e9800998ecf8427e");
    }

    proptest! {
        #[test]
        fn groups_cover_everything_once_in_order(
            sizes in proptest::collection::vec(proptest::option::weighted(0.9, 0..100_u64), 0..60),
            minimum in 0..200_u64,
        ) {
            let groups = segment_groups(&sizes, minimum);
            let flat: Vec<usize> = groups.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..sizes.len()).collect::<Vec<_>>());
            for group in &groups {
                let members = sizes.get(group.clone()).unwrap();
                if members.len() > 1 {
                    let but_last: u64 = members.split_last().unwrap().1.iter().flatten().sum();
                    prop_assert!(but_last < minimum.max(1), "a group goes on only while it is too small");
                    prop_assert!(members.iter().all(Option::is_some));
                }
            }
        }
    }
}
