//! Where Swift keeps a name: hash, partition, path.

use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

/// Hash prefix and suffix of a cluster and its ring size.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) prefix: String,
    pub(crate) suffix: String,
    pub(crate) part_power: u32,
}

impl Placement {
    /// MD5 over prefix, `/account[/container[/object]]`, suffix. Source: `hash_path` in swift/common/utils.py.
    pub(crate) fn digest(&self, names: &[&str]) -> [u8; 16] {
        let mut hash = Md5::new();
        hash.update(self.prefix.as_bytes());
        for name in names {
            hash.update(b"/");
            hash.update(name.as_bytes());
        }
        hash.update(self.suffix.as_bytes());
        hash.finalize().into()
    }

    /// The partition: the digest's first `part_power` bits.
    pub(crate) fn partition(&self, names: &[&str]) -> u32 {
        let [a, b, c, d, ..] = self.digest(names);
        u32::from_be_bytes([a, b, c, d]) >> (32 - self.part_power)
    }

    /// `<device>/<kind>/<partition>/<suffix>/<hash>` below the devices folder.
    pub(crate) fn folder(&self, device: &Path, kind: &str, names: &[&str]) -> PathBuf {
        let hash = hex::encode(self.digest(names));
        let suffix = hash.get(29..).unwrap_or_default().to_owned();
        device.join(kind).join(self.partition(names).to_string()).join(suffix).join(hash)
    }
}
