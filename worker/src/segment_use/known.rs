//! What manifests were found to need, kept from one look to the next.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Names of segments that are remembered, over all manifests of an account: 32 MiB. Manifests beyond that are read again by each look.
const MAX_NAMES: usize = 4 << 20;
/// Objects without content that were seen to be no manifests: 8 MiB.
const MAX_EMPTY: usize = 1 << 20;

/// A segment's name as a number. Two names with one number make a segment look needed that is not, which is the safe side.
pub(super) type NameHash = u64;

/// The number of a name.
pub(super) fn name_hash(container: &str, object: &str) -> NameHash {
    let mut hasher = DefaultHasher::new();
    (container, object).hash(&mut hasher);
    hasher.finish()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By the ETag of the manifest, which is the MD5 of its text.
    manifests: HashMap<[u8; 16], Vec<NameHash>>,
    names: usize,
    /// Container, object and time of objects that are empty and nothing else.
    empty: HashSet<u64>,
}

impl Known {
    /// The names in the manifest with this ETag, if it was read before.
    pub(super) fn manifest(&self, etag: &str) -> Option<&[NameHash]> {
        self.manifests.get(&digest(etag)?).map(Vec::as_slice)
    }

    /// Remembers a manifest, as long as there is room.
    pub(super) fn remember_manifest(&mut self, etag: &str, names: &[NameHash]) {
        let Some(digest) = digest(etag) else { return };
        if self.names.saturating_add(names.len()) > MAX_NAMES {
            return;
        }
        if self.manifests.insert(digest, names.to_vec()).is_none() {
            self.names = self.names.saturating_add(names.len());
        }
    }

    /// Whether this version of an object was seen to be empty and no manifest.
    pub(super) fn is_just_empty(&self, container: &str, object: &str, written: &str) -> bool {
        self.empty.contains(&version_hash(container, object, written))
    }

    /// Remembers that this version of an object is no manifest.
    pub(super) fn remember_empty(&mut self, container: &str, object: &str, written: &str) {
        if self.empty.len() < MAX_EMPTY {
            self.empty.insert(version_hash(container, object, written));
        }
    }
}

fn digest(etag: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    hex::decode_to_slice(etag, &mut digest).ok()?;
    Some(digest)
}

fn version_hash(container: &str, object: &str, written: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (container, object, written).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_known_by_their_etag() {
        let mut known = Known::default();
        let etag = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(known.manifest(etag), None);
        known.remember_manifest(etag, &[1, 2]);
        known.remember_manifest("no digest", &[3]);
        assert_eq!(known.manifest(etag), Some([1, 2].as_slice()));
        assert_eq!(known.manifest("no digest"), None);
    }

    #[test]
    fn another_version_of_an_empty_object_is_looked_at_again() {
        let mut known = Known::default();
        known.remember_empty("c", "o", "monday");
        assert!(known.is_just_empty("c", "o", "monday"));
        assert!(!known.is_just_empty("c", "o", "tuesday"));
        assert!(!known.is_just_empty("co", "", "monday"));
    }

    #[test]
    fn names_do_not_run_into_each_other() {
        assert_ne!(name_hash("a", "b/c"), name_hash("a/b", "c"));
    }
}
