//! Counts of objects by size, and what it takes to upload them. Pure.

use swift_s3_proto::v1::SizeClass;

/// Upper bounds of the classes, in bytes. 128 KiB is what infrequent-access classes bill at least; 5 GiB is the largest plain PUT.
/// Source: Amazon S3 pricing and user guide.
const BOUNDS: [u64; 8] = [0, 128 << 10, 1 << 20, 16 << 20, 128 << 20, 1 << 30, LARGEST_PUT, 50 << 30];
/// What takes a multipart upload in any case. Source: Amazon S3 user guide, "Uploading objects".
const LARGEST_PUT: u64 = 5 << 30;
/// Parts of about this size are reckoned with.
const PART: u64 = 1 << 30;
/// Parts of one upload. Source: Amazon S3 user guide, "Multipart upload limits".
const MOST_PARTS: u64 = 10_000;

/// Counts by class.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    counts: [(u64, u64); BOUNDS.len() + 1],
    /// Objects that take a multipart upload.
    pub multipart: u64,
    /// Their parts.
    pub parts: u64,
}

impl Sizes {
    /// Counts an object.
    pub fn add(&mut self, bytes: u64, is_large_object: bool) {
        let class = BOUNDS.partition_point(|bound| *bound < bytes);
        if let Some((objects, total)) = self.counts.get_mut(class) {
            *objects += 1;
            *total = total.saturating_add(bytes);
        }
        if is_large_object || bytes > LARGEST_PUT {
            self.multipart += 1;
            self.parts += parts(bytes);
        }
    }

    /// All of them.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.counts
            .iter()
            .fold((0, 0), |(objects, bytes), (more, sum)| (objects + more, bytes.saturating_add(*sum)))
    }

    /// The classes that have objects.
    #[must_use]
    pub fn classes(&self) -> Vec<SizeClass> {
        let bounds = BOUNDS.into_iter().chain([u64::MAX]);
        bounds
            .zip(self.counts)
            .filter(|(_, (objects, _))| *objects > 0)
            .map(|(up_to_bytes, (objects, bytes))| SizeClass { up_to_bytes, objects, bytes })
            .collect()
    }
}

/// Parts of an upload of so many bytes.
#[must_use]
pub fn parts(bytes: u64) -> u64 {
    bytes.div_ceil(PART).clamp(1, MOST_PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_in_the_class_that_holds_them() {
        let mut sizes = Sizes::default();
        for bytes in [0, 1, 128 << 10, (128 << 10) + 1, 5 << 30, (5 << 30) + 1, 60 << 30] {
            sizes.add(bytes, false);
        }
        let classes: Vec<(u64, u64)> =
            sizes.classes().iter().map(|class| (class.up_to_bytes, class.objects)).collect();
        let expected = [(0, 1), (128 << 10, 2), (1 << 20, 1), (5 << 30, 1), (50 << 30, 1), (u64::MAX, 1)];
        assert_eq!(classes, expected);
        assert_eq!(sizes.totals().0, 7);
        assert_eq!((sizes.multipart, sizes.parts), (2, 6 + 60));
    }

    #[test]
    fn large_objects_take_multipart_uploads_whatever_their_size() {
        let mut sizes = Sizes::default();
        sizes.add(1_000, true);
        assert_eq!((sizes.multipart, sizes.parts), (1, 1));
        assert_eq!(parts(u64::MAX), 10_000);
    }
}
