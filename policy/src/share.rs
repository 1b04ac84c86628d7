//! Which of a container's nodes handles a name first.
//!
//! The share depends on the name alone, so that replicas whose row numbers differ agree without talking.
//! It is the predecessor's rule, bit for bit, so that old and new daemons can run side by side.

use sha1::{Digest, Sha1};

/// The number that shares are computed from: the last six hexadecimal digits of SHA-1 over the UTF-8 name.
pub fn name_hash(name: &str) -> u32 {
    let digest: [u8; 20] = Sha1::digest(name.as_bytes()).into();
    let [.., high, middle, low] = digest;
    u32::from_be_bytes([0, high, middle, low])
}

/// The index of the node, out of `nodes`, that handles `name` first. With no nodes the answer is 0.
pub fn owner_index(name: &str, nodes: u32) -> u32 {
    name_hash(name).checked_rem(nodes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_the_known_vectors() {
        for (name, hash) in
            [("obj0", 12_921_105), ("foo", 14_322_227), ("café", 7_006_167), ("test_sync", 10_934_151)]
        {
            assert_eq!(name_hash(name), hash, "{name}");
        }
    }

    #[test]
    fn every_name_has_exactly_one_owner_within_range() {
        for nodes in 1..=5 {
            for index in 0..100 {
                assert!(owner_index(&format!("object-{index}"), nodes) < nodes);
            }
        }
        assert_eq!(owner_index("obj0", 3), 12_921_105 % 3);
    }

    #[test]
    fn no_nodes_is_not_a_division_by_zero() {
        assert_eq!(owner_index("obj0", 0), 0);
    }
}
