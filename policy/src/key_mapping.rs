//! Which key a Swift object has on the remote.
//!
//! The layout is the predecessor's, byte for byte: buckets that it filled stay readable, and the other way
//! round. It must never change for an existing mapping.

use md5::{Digest, Md5};
use sha2::Sha256;

/// The longest key S3 takes, in bytes of UTF-8. Source: Amazon S3 User Guide, "Naming Amazon S3 objects".
pub const MAX_KEY_BYTES: usize = 1024;

const MANIFEST_FOLDER: &str = ".manifests";
const MANIFEST_SUFFIX: &str = ".swift_slo_manifest";

/// The keys of one container's objects in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMapping {
    key_prefix: String,
    /// Swift keeps manifests itself.
    manifest_prefix: Option<String>,
    /// With a custom prefix, manifests are named after the object without its leading slashes.
    ignores_leading_slashes: bool,
}

impl KeyMapping {
    /// Builds the mapping of `account/container`.
    ///
    /// `custom_prefix` replaces the computed prefix; slashes at its ends do not count, and an empty one means
    /// that the key is the object's name.
    pub fn new(account: &str, container: &str, custom_prefix: Option<&str>) -> Self {
        match custom_prefix.map(effective_prefix) {
            None => {
                let hash = container_hash(account, container);
                Self {
                    key_prefix: format!("{hash}/{account}/{container}/"),
                    manifest_prefix: Some(format!("{hash}/{MANIFEST_FOLDER}/{account}/{container}/")),
                    ignores_leading_slashes: false,
                }
            }
            Some("") => Self {
                key_prefix: String::new(),
                manifest_prefix: Some(format!("{MANIFEST_FOLDER}/")),
                ignores_leading_slashes: true,
            },
            Some(prefix) => Self {
                key_prefix: format!("{prefix}/"),
                manifest_prefix: Some(format!("{prefix}/{MANIFEST_FOLDER}/")),
                ignores_leading_slashes: true,
            },
        }
    }

    /// Objects of a container of another Swift cluster: keys are the container's name, a slash and the object's name.
    pub fn of_swift_container(container: &str) -> Self {
        Self { key_prefix: format!("{container}/"), manifest_prefix: None, ignores_leading_slashes: false }
    }

    /// What every object key of the container starts with; empty, or ending with a slash.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// The key of an object. It can be longer than [`MAX_KEY_BYTES`]; the caller checks.
    pub fn object_key(&self, object: &str) -> String {
        format!("{}{object}", self.key_prefix)
    }

    /// The object that a key belongs to, or `None` for a key outside the container and for the bare prefix.
    ///
    /// With a custom prefix the manifests' keys lie inside it: see [`KeyMapping::is_manifest_key`].
    pub fn object_name<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(self.key_prefix.as_str()).filter(|name| !name.is_empty())
    }

    /// The key of the companion that keeps the manifest of a large object; `None` where the remote is Swift.
    pub fn manifest_key(&self, object: &str) -> Option<String> {
        let prefix = self.manifest_prefix.as_deref()?;
        let named = if self.ignores_leading_slashes { object.trim_start_matches('/') } else { object };
        let digest = hex::encode(Sha256::digest(named.as_bytes()));
        Some(format!("{prefix}{digest}{MANIFEST_SUFFIX}"))
    }

    /// What the keys of all companions of the container start with; with a custom prefix other containers may share it.
    pub fn manifest_prefix(&self) -> Option<&str> {
        self.manifest_prefix.as_deref()
    }

    /// Whether a key has the form of this container's manifest companions.
    pub fn is_manifest_key(&self, key: &str) -> bool {
        let Some(prefix) = self.manifest_prefix.as_deref() else { return false };
        key.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(MANIFEST_SUFFIX))
            .is_some_and(|digest| digest.len() == 64 && digest.bytes().all(is_lower_hex))
    }
}

/// A custom prefix as it is used: without slashes at its ends.
pub fn effective_prefix(custom_prefix: &str) -> &str {
    custom_prefix.trim_matches('/')
}

/// The last six hexadecimal digits of MD5 over `account/container`, without leading zeros.
///
/// It spreads containers over the bucket's key space. The missing zeros are an accident of the predecessor
/// that every existing key depends on.
fn container_hash(account: &str, container: &str) -> String {
    let digest: [u8; 16] = Md5::digest(format!("{account}/{container}").as_bytes()).into();
    let [.., high, middle, low] = digest;
    format!("{:x}", u32::from_be_bytes([0, high, middle, low]))
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn computed_prefixes_match_the_known_vectors() {
        for (account, container, prefix) in [
            ("AUTH_test", "sync-s3", "e5d922"),
            ("AUTH_test", "archive-s3", "5dcc3"),
            ("AUTH_test", "s3-restore", "2b77b2"),
            ("AUTH_test", "filter-archive-s3", "aef111"),
            ("AUTH_test", "c156", "322f"),
            ("AUTH_test", "c14991", "3d1"),
            ("AUTH_test", "c98003", "4c"),
            ("account", "container", "356b9d"),
            ("verify-auth", "testing-\u{ef}", "4dbbd"),
            ("AUTH_\u{62a}acct", "\u{62a}cl-conn-sync", "d42fe1"),
        ] {
            let mapping = KeyMapping::new(account, container, None);
            assert_eq!(mapping.key_prefix(), format!("{prefix}/{account}/{container}/"));
        }
    }

    #[test]
    fn object_keys_keep_the_name_byte_for_byte() {
        let mapping = KeyMapping::new("AUTH_test", "sync-s3", None);
        for name in ["test_sync", "o bj/é +%25", "/lead", "a/../b", "unicodé", "a\nb"] {
            let key = mapping.object_key(name);
            assert_eq!(key, format!("e5d922/AUTH_test/sync-s3/{name}"));
            assert_eq!(mapping.object_name(&key), Some(name));
        }
    }

    #[test]
    fn custom_prefixes_lose_their_outer_slashes() {
        for (configured, key, prefix, lead) in [
            ("pre", "pre/a/b", "pre/", "pre//lead"),
            ("pre/", "pre/a/b", "pre/", "pre//lead"),
            ("/pre/x/", "pre/x/a/b", "pre/x/", "pre/x//lead"),
            ("scary/idea/", "scary/idea/a/b", "scary/idea/", "scary/idea//lead"),
            ("", "a/b", "", "/lead"),
            ("/", "a/b", "", "/lead"),
        ] {
            let mapping = KeyMapping::new("a", "c", Some(configured));
            assert_eq!(mapping.key_prefix(), prefix, "{configured}");
            assert_eq!(mapping.object_key("a/b"), key);
            assert_eq!(mapping.object_key("/lead"), lead);
            assert_eq!(mapping.object_name(lead), Some("/lead"));
        }
    }

    #[test]
    fn manifests_have_their_own_keys() {
        let digest = |name: &str| hex::encode(Sha256::digest(name.as_bytes()));
        let default = KeyMapping::new("AUTH_test", "sync-s3", None);
        assert_eq!(
            default.manifest_key("slo-object").unwrap(),
            "e5d922/.manifests/AUTH_test/sync-s3/\
             26f730515876464b737d6cba6b17c0eb2bc7446c14de3176b53c75f11bbc9d60.swift_slo_manifest"
        );
        assert!(default.manifest_key("/lead").unwrap().contains(&digest("/lead")));

        let custom = KeyMapping::new("a", "c", Some("/pre/x/"));
        let expected = format!("pre/x/.manifests/{}.swift_slo_manifest", digest("lead"));
        assert_eq!(custom.manifest_key("/lead").unwrap(), expected);

        let native = KeyMapping::new("a", "c", Some(""));
        let expected = format!(".manifests/{}.swift_slo_manifest", digest("a/b"));
        assert_eq!(native.manifest_key("a/b").unwrap(), expected);

        for mapping in [default, custom, native] {
            assert!(mapping.is_manifest_key(&mapping.manifest_key("x").unwrap()));
            assert!(!mapping.is_manifest_key(&mapping.object_key("x")));
            assert!(!mapping.is_manifest_key(&mapping.object_key(".manifests/x")));
        }
    }

    #[test]
    fn swift_keys_are_container_and_name() {
        let mapping = KeyMapping::of_swift_container("remote");
        assert_eq!(mapping.object_key("/a//b"), "remote//a//b");
        assert_eq!(mapping.object_name("remote//a//b"), Some("/a//b"));
        assert_eq!(mapping.manifest_key("a"), None);
        assert!(!mapping.is_manifest_key("remote/.manifests/x"));
    }

    #[test]
    fn keys_of_others_have_no_object_name() {
        let mapping = KeyMapping::new("AUTH_test", "sync-s3", None);
        for key in ["", "e5d922/AUTH_test/sync-s3/", "e5d922/AUTH_test/sync-s30/x", "x"] {
            assert_eq!(mapping.object_name(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_key(
            container in "[^/]{1,20}",
            custom in proptest::option::of("[a-z/]{0,8}"),
            name in "(?s).{1,60}",
        ) {
            let mapping = KeyMapping::new("AUTH_a", &container, custom.as_deref());
            let key = mapping.object_key(&name);
            prop_assert_eq!(mapping.object_name(&key), Some(name.as_str()));
        }
    }
}
