//! Bodies of several ranges, `multipart/byteranges`, whose length is known before a byte of the content is.
//!
//! Source: `multi_range_iterator` and `_prepare_for_ranges` in `swift/common/swob.py` of Swift 2.30.1.

use std::ops::Range;

use bytes::Bytes;

/// The frame of a body of several ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteRanges {
    boundary: String,
    content_type: Vec<u8>,
    length: u64,
    ranges: Vec<Range<u64>>,
}

impl ByteRanges {
    /// `ranges`, none of them empty, of an object of `length` bytes and a content type.
    #[must_use]
    pub fn new(boundary: String, content_type: &[u8], length: u64, ranges: Vec<Range<u64>>) -> Self {
        Self { boundary, content_type: content_type.to_vec(), length, ranges }
    }

    /// The ranges in their order.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The body's content type.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges;boundary={}", self.boundary)
    }

    /// What stands before the bytes of a range.
    #[must_use]
    pub fn head(&self, range: &Range<u64>) -> Bytes {
        let mut head = format!("--{}\r\nContent-Type: ", self.boundary).into_bytes();
        head.extend_from_slice(&self.content_type);
        head.extend_from_slice(
            format!("\r\nContent-Range: {}\r\n\r\n", content_range(range, self.length)).as_bytes(),
        );
        head.into()
    }

    /// What stands behind the bytes of a range.
    #[must_use]
    pub fn separator(&self) -> Bytes {
        Bytes::from_static(b"\r\n")
    }

    /// What ends the body.
    #[must_use]
    pub fn tail(&self) -> Bytes {
        format!("--{}--", self.boundary).into()
    }

    /// Bytes of the whole body; `None` if no number holds them.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        let mut total = u64::try_from(self.tail().len()).ok()?;
        for range in &self.ranges {
            let framing = self.head(range).len().checked_add(self.separator().len())?;
            let content = range.end.checked_sub(range.start)?;
            total = total.checked_add(u64::try_from(framing).ok()?)?.checked_add(content)?;
        }
        Some(total)
    }
}

/// The value of `Content-Range` for a range that is not empty.
#[must_use]
pub fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

    use proptest::prelude::*;

    use super::*;

    fn body(frame: &ByteRanges, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for range in frame.ranges() {
            body.extend_from_slice(&frame.head(range));
            body.extend_from_slice(&content[range.start as usize..range.end as usize]);
            body.extend_from_slice(&frame.separator());
        }
        body.extend_from_slice(&frame.tail());
        body
    }

    /// As a Swift proxy answered.
    #[test]
    fn the_body_is_swifts_byte_for_byte() {
        let frame = ByteRanges::new(
            "c621d185eaa2403fa8015d185eaa2403".to_owned(),
            b"text/plain; charset=utf-8",
            11,
            vec![0..2, 3..5],
        );
        let expected = "--c621d185eaa2403fa8015d185eaa2403\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Range: bytes 0-1/11\r\n\r\nhe\r\n--c621d185eaa2403fa8015d185eaa2403\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 3-4/11\r\n\r\nlo\r\n\
            --c621d185eaa2403fa8015d185eaa2403--";
        assert_eq!(String::from_utf8(body(&frame, b"hello-world")).unwrap(), expected);
        assert_eq!(frame.total(), Some(260));
        assert_eq!(frame.content_type(), "multipart/byteranges;boundary=c621d185eaa2403fa8015d185eaa2403");
    }

    proptest! {
        #[test]
        fn the_length_told_is_the_length_sent(
            starts in proptest::collection::vec((0u64..500, 1u64..100), 1..20),
            kind in "[a-z/]{1,20}",
        ) {
            let content = vec![7; 600];
            let ranges: Vec<_> = starts.into_iter().map(|(start, count)| start..start + count).collect();
            let frame = ByteRanges::new("0".repeat(32), kind.as_bytes(), 600, ranges);
            prop_assert_eq!(frame.total(), Some(body(&frame, &content).len() as u64));
        }
    }

    #[test]
    fn lengths_that_no_number_holds_are_none() {
        let whole = 0..u64::MAX;
        let frame = ByteRanges::new("b".to_owned(), b"a/b", u64::MAX, vec![whole.clone(), whole]);
        assert_eq!(frame.total(), None);
    }
}
