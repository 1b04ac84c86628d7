//! The `Range` header as Swift reads it.
//!
//! Source: `Range` in `swift/common/swob.py` of Swift 2.30.1.

use std::ops::Range;

/// More ranges than this are refused.
const MAX_RANGES: usize = 50;
/// More pairs of ranges that overlap are refused.
const MAX_OVERLAPS: usize = 2;
/// So many ranges are refused unless each begins behind the one before.
const MAX_NONASCENDING: usize = 8;

/// One part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From a byte to another one, included, or to the end.
    From { first: u64, last: Option<u64> },
    /// So many bytes from the end.
    Suffix(u64),
}

/// What a client asks for; never without a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges(Vec<Spec>);

impl Ranges {
    /// Reads a header; `None` when it means nothing, and is to be ignored.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let text: String = header.chars().filter(|c| *c != ' ').collect();
        let prefix = text.get(..6).filter(|prefix| prefix.eq_ignore_ascii_case("bytes="))?;
        let specs = text.get(prefix.len()..)?.split(',').map(spec).collect::<Option<Vec<_>>>()?;
        (!specs.is_empty()).then_some(Self(specs))
    }

    /// How many there are, whether or not the object has their bytes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The range, if there is one and its first byte is told: a remote can be asked for it without knowing the object's length.
    /// It ends at [`u64::MAX`] when its end is open.
    #[must_use]
    pub fn known_start(&self) -> Option<Range<u64>> {
        match self.0.as_slice() {
            [Spec::From { first, last }] => {
                Some(*first..last.map_or(u64::MAX, |last| last.saturating_add(1)))
            }
            _ => None,
        }
    }

    /// The bytes of an object of `length` bytes, in the order asked for. Empty when none can be given, or when too much is asked for.
    ///
    /// Of an object without a byte `-5` is the range `0..0`.
    #[must_use]
    pub fn of_length(&self, length: u64) -> Vec<Range<u64>> {
        let ranges: Vec<_> = self.0.iter().filter_map(|spec| spec.of_length(length)).collect();
        if is_egregious(&ranges) { Vec::new() } else { ranges }
    }
}

impl Spec {
    fn of_length(self, length: u64) -> Option<Range<u64>> {
        match self {
            Self::Suffix(0) => None,
            Self::Suffix(count) => Some(length.saturating_sub(count)..length),
            Self::From { first, .. } if first >= length => None,
            Self::From { first, last } => {
                Some(first..last.map_or(length, |last| last.saturating_add(1).min(length)))
            }
        }
    }
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Suffix(number(last)?)),
        (false, true) => Some(Spec::From { first: number(first)?, last: None }),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
        }
    }
}

/// A number of any length; one that is larger than any object is as good as the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// What swob refuses to serve, for the work it makes.
fn is_egregious(ranges: &[Range<u64>]) -> bool {
    if ranges.len() > MAX_RANGES {
        return true;
    }
    let mut overlaps = 0;
    for (index, one) in ranges.iter().enumerate() {
        for other in ranges.iter().skip(index + 1) {
            overlaps += usize::from(overlap(one, other));
        }
    }
    let descends = ranges.iter().zip(ranges.iter().skip(1)).any(|(one, next)| one.start > next.start);
    overlaps > MAX_OVERLAPS || (descends && ranges.len() >= MAX_NONASCENDING)
}

/// As swob has it: two equal ranges do not overlap.
fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    let inside = |point: u64, range: &Range<u64>| range.start < point && point < range.end;
    inside(other.start, one) || inside(other.end, one) || inside(one.start, other) || inside(one.end, other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

    use proptest::prelude::*;

    use super::*;

    fn of(header: &str, length: u64) -> Option<Vec<Range<u64>>> {
        Ranges::parse(header).map(|ranges| ranges.of_length(length))
    }

    /// Answers were taken from `swob.Range(header).ranges_for_length(length)`.
    #[test]
    fn ranges_are_those_of_swob() {
        type Row = (&'static str, u64, Option<&'static [Range<u64>]>);
        let table: &[Row] = &[
            ("bytes=0-4", 11, Some(&[0..5])),
            ("bytes=0-400", 11, Some(&[0..11])),
            ("BYTES = 3 - ", 11, Some(&[3..11])),
            ("bytes=-3", 11, Some(&[8..11])),
            ("bytes=-30", 11, Some(&[0..11])),
            ("bytes=-0", 11, Some(&[])),
            ("bytes=11-", 11, Some(&[])),
            ("bytes=11-12,0-0", 11, Some(&[0..1])),
            ("bytes=0-0", 0, Some(&[])),
            ("bytes=-5", 0, Some(&[0..0])),
            ("bytes=0-1,3-4", 11, Some(&[0..2, 3..5])),
            ("bytes=5-3", 11, None),
            ("bytes=-", 11, None),
            ("bytes=45", 11, None),
            ("bytes=a-b", 11, None),
            ("bytes=1-2-3", 11, None),
            ("bytes=--0", 11, None),
            ("bytes=0-1,", 11, None),
            ("bytes=", 11, None),
            ("items=0-1", 11, None),
            ("", 11, None),
            ("ä", 11, None),
            ("bytes=0-99999999999999999999999999", 11, Some(&[0..11])),
            ("bytes=99999999999999999999999999-", 11, Some(&[])),
            // Three overlaps are one too many; equal ranges are none.
            ("bytes=0-5,1-6,2-7", 11, Some(&[])),
            ("bytes=0-5,1-6", 11, Some(&[0..6, 1..7])),
            ("bytes=0-5,0-5,0-5,0-5", 11, Some(&[0..6, 0..6, 0..6, 0..6])),
        ];
        for (header, length, expected) in table {
            assert_eq!(of(header, *length).as_deref(), *expected, "{header}");
        }
    }

    #[test]
    fn many_ranges_must_ascend_and_very_many_are_refused() {
        let list = |starts: &[u64]| {
            let parts: Vec<_> = starts.iter().map(|start| format!("{}-{}", start * 2, start * 2)).collect();
            of(&format!("bytes={}", parts.join(",")), 1_000).unwrap().len()
        };
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 0]), 7);
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 7, 0]), 0);
        assert_eq!(list(&[0, 1, 2, 3, 4, 5, 6, 7]), 8);
        assert_eq!(list(&(0..50).collect::<Vec<_>>()), 50);
        assert_eq!(list(&(0..51).collect::<Vec<_>>()), 0);
    }

    #[test]
    fn a_range_can_be_asked_for_at_once_if_its_start_is_told() {
        let known = |header| Ranges::parse(header).unwrap().known_start();
        assert_eq!(known("bytes=5-9"), Some(5..10));
        assert_eq!(known("bytes=5-"), Some(5..u64::MAX));
        assert_eq!(known("bytes=-5"), None);
        assert_eq!(known("bytes=0-1,5-6"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_lies_within_the_object(header in "bytes=[0-9,\\- ]{0,40}", length in 0u64..200) {
            if let Some(ranges) = of(&header, length) {
                for range in ranges {
                    prop_assert!(range.start <= range.end && range.end <= length);
                    prop_assert!(range.start < range.end || length == 0);
                }
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in "\\PC{0,60}", length: u64) {
            let _ = of(&header, length);
        }
    }
}
