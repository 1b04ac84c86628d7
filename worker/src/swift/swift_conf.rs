//! `swift.conf`: the secret of the cluster's hashes, and its storage policies.
//!
//! Read as Swift reads it, byte for byte: a hash that is off by one space finds no container at all.
//!
//! Source: `validate_hash_conf` and `parse_storage_policies` of Swift 2.30.1 and 2.38.3.

mod ini;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use ini::Ini;

/// The most that `swift.conf` may hold; real ones have a few KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the worker needs of `swift.conf`.
#[derive(Clone, Debug)]
pub struct SwiftConf {
    /// How paths are hashed.
    pub hash: HashPath,
    /// The storage policies, by ascending index. Never empty: without any section there is policy 0.
    pub policies: Vec<StoragePolicy>,
}

/// The salt around every hashed path. Whoever knows it can place objects at will, so `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HashPath {
    /// `swift_hash_path_prefix`.
    pub prefix: Vec<u8>,
    /// `swift_hash_path_suffix`.
    pub suffix: Vec<u8>,
}

/// One storage policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoragePolicy {
    /// Its number, which names its ring: `object.ring.gz` for 0, `object-N.ring.gz` for others.
    pub index: u32,
    /// Its first name.
    pub name: String,
    /// How its objects are stored.
    pub kind: PolicyKind,
    /// Further names.
    pub aliases: Vec<String>,
    /// Set when no new container may take it.
    pub deprecated: bool,
}

/// How a policy stores an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Whole copies: any replica can be read.
    Replication,
    /// Fragments: only a proxy can put them together.
    ErasureCoding,
}

/// Why `swift.conf` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SwiftConfError {
    /// The file cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file can be read, but its content is wrong.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a hash prefix or suffix.
        problem: String,
    },
}

impl SwiftConf {
    /// Reads `swift.conf`. Blocking.
    ///
    /// # Errors
    /// [`SwiftConfError::Read`] when the file is missing or unreadable; [`SwiftConfError::Content`] when it is empty or
    /// too long, is no ini file, has neither hash prefix nor suffix, or names a policy that cannot be.
    pub fn load(path: &Path) -> Result<Self, SwiftConfError> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut text = Vec::new();
            std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| SwiftConfError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problem| SwiftConfError::Content { path: path.to_owned(), problem })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        if u64::try_from(text.len()).map_or(true, |length| length > MAX_FILE_BYTES) {
            return Err(format!("expected at most {MAX_FILE_BYTES} bytes, got more"));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err("expected a [swift-hash] section, got an empty file".to_owned());
        }
        let ini = Ini::parse(text)?;
        let hash_value = |key: &str| -> Result<Vec<u8>, String> {
            ini.value("swift-hash", key)
                .map(|value| value.unwrap_or_default())
                .map_err(|problem| format!("[swift-hash] {key}: {problem}"))
        };
        let hash = HashPath {
            prefix: hash_value("swift_hash_path_prefix")?,
            suffix: hash_value("swift_hash_path_suffix")?,
        };
        if hash.prefix.is_empty() && hash.suffix.is_empty() {
            return Err("expected swift_hash_path_prefix or swift_hash_path_suffix in [swift-hash], \
                        got neither"
                .to_owned());
        }
        Ok(Self { hash, policies: policies(&ini)? })
    }

    /// The policy with this index.
    pub fn policy(&self, index: u32) -> Option<&StoragePolicy> {
        self.policies.iter().find(|policy| policy.index == index)
    }
}

fn policies(ini: &Ini) -> Result<Vec<StoragePolicy>, String> {
    let mut policies = BTreeMap::new();
    for section in ini.sections() {
        let Some(index) = section.strip_prefix("storage-policy:") else { continue };
        let index: u32 = index
            .trim()
            .parse()
            .map_err(|_| format!("[{section}]: expected a policy index of 0 or more, got {index:?}"))?;
        if policies.insert(index, policy(ini, section, index)?).is_some() {
            return Err(format!("expected one section for policy {index}, got more"));
        }
    }
    if policies.is_empty() {
        policies.insert(
            0,
            StoragePolicy {
                index: 0,
                name: "Policy-0".to_owned(),
                kind: PolicyKind::Replication,
                aliases: Vec::new(),
                deprecated: false,
            },
        );
    }
    if !policies.contains_key(&0) {
        return Err("expected a [storage-policy:0] section beside the others, got none".to_owned());
    }
    Ok(policies.into_values().collect())
}

fn policy(ini: &Ini, section: &str, index: u32) -> Result<StoragePolicy, String> {
    let text = |key: &str| -> Result<Option<String>, String> {
        let value = ini.value(section, key).map_err(|problem| format!("[{section}] {key}: {problem}"))?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    let name = text("name")?
        .filter(|name| !name.is_empty())
        .ok_or_else(|| format!("[{section}]: expected a name, got none"))?;
    let kind = match text("policy_type")?.as_deref() {
        None | Some("replication") => PolicyKind::Replication,
        Some("erasure_coding") => PolicyKind::ErasureCoding,
        Some(other) => {
            return Err(format!(
                "[{section}] policy_type: expected replication or erasure_coding, got {other:?}"
            ));
        }
    };
    let aliases = text("aliases")?.unwrap_or_default();
    let aliases = aliases
        .split(',')
        .map(str::trim)
        .filter(|alias| !alias.is_empty() && *alias != name)
        .map(str::to_owned)
        .collect();
    let deprecated = text("deprecated")?.is_some_and(|value| is_true(&value));
    Ok(StoragePolicy { index, name, kind, aliases, deprecated })
}

/// Swift's idea of a true value in a configuration file.
pub(crate) fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on", "t", "y"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

impl HashPath {
    /// The MD5 that places an account, a container or an object; its first four bytes give the partition.
    ///
    /// As in Swift, an empty container or object counts as none.
    pub fn digest(&self, account: &str, container: Option<&str>, object: Option<&str>) -> [u8; 16] {
        let mut digest = Md5::new();
        digest.update(&self.prefix);
        let parts = [Some(account), container, object];
        for (place, part) in parts.into_iter().enumerate() {
            let Some(part) = part.filter(|part| place == 0 || !part.is_empty()) else { continue };
            digest.update(b"/");
            digest.update(part.as_bytes());
        }
        digest.update(&self.suffix);
        digest.finalize().into()
    }

    /// [`Self::digest`] in lower-case hex: the name of the folder on disk.
    pub fn hex(&self, account: &str, container: Option<&str>, object: Option<&str>) -> String {
        hex::encode(self.digest(account, container, object))
    }
}

impl std::fmt::Debug for HashPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HashPath(***)")
    }
}

#[cfg(test)]
mod tests;
