//! The manifest of a static large object as Swift stores it, and the source of a dynamic one.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{MAX_PIECES, ManifestError};

/// A parsed manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In the order of the content.
    pub entries: Vec<Entry>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes kept in the manifest itself.
    Data(Vec<u8>),
    /// Another object, or a part of it.
    Object(ObjectEntry),
}

/// An entry that names another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// The container, in the account of the manifest.
    pub container: String,
    /// The object.
    pub object: String,
    /// Its ETag: the MD5 of its content in hex; of a nested manifest the large object's ETag.
    pub etag: String,
    /// Bytes of the whole object; of a nested manifest those of its content.
    pub bytes: u64,
    /// Which of these bytes; never empty. `None` stands for all.
    pub range: Option<Range<u64>>,
    /// Its content type, where the manifest has it.
    pub content_type: Option<String>,
    /// When it was last changed, where the manifest has it.
    pub last_modified: Option<String>,
    /// The object is itself a static large object: its manifest, once somebody has loaded it.
    pub nested: Option<Nested>,
}

/// A manifest in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nested {
    /// Its content, if it is at hand.
    pub manifest: Option<Arc<Manifest>>,
    /// The ETag of the object that holds it, which is the MD5 of its JSON; empty if it is not at hand.
    pub object_etag: String,
}

impl ObjectEntry {
    /// The bytes that the content takes from it.
    pub fn taken(&self) -> Range<u64> {
        self.range.clone().unwrap_or(0..self.bytes)
    }

    /// `/container/object`.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.container, self.object)
    }
}

impl Entry {
    /// Bytes that it gives to the content.
    pub fn length(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Object(entry) => entry.taken().end.saturating_sub(entry.taken().start),
        }
    }
}

impl Manifest {
    /// Reads the JSON that Swift stores, or a companion: there nested manifests are in place.
    ///
    /// # Errors
    /// [`ManifestError`] for anything that Swift would not have stored.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let value: Value =
            serde_json::from_slice(json).map_err(|error| ManifestError::Json(error.to_string()))?;
        let mut left = MAX_PIECES;
        Self::from_value(&value, &mut left, super::MAX_DEPTH)
    }

    pub(super) fn from_value(value: &Value, left: &mut usize, depth: usize) -> Result<Self, ManifestError> {
        let depth = depth.checked_sub(1).ok_or(ManifestError::TooDeep)?;
        let Value::Array(items) = value else {
            return Err(ManifestError::Json("expected a list of segments".to_owned()));
        };
        *left = left.checked_sub(items.len()).ok_or(ManifestError::TooMany)?;
        let mut entries = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let fields = item.as_object().ok_or_else(|| wrong(index, "expected an object"))?;
            entries.push(read_entry(index, fields, left, depth)?);
        }
        Ok(Self { entries })
    }

    /// Bytes of the whole content.
    ///
    /// # Errors
    /// [`ManifestError::Overflow`].
    pub fn length(&self) -> Result<u64, ManifestError> {
        let mut total = 0u64;
        for entry in &self.entries {
            total = total.checked_add(entry.length()).ok_or(ManifestError::Overflow)?;
        }
        Ok(total)
    }

    /// The ETag that Swift gives the large object.
    pub fn etag(&self) -> String {
        let mut hash = Md5::new();
        for entry in &self.entries {
            match entry {
                Entry::Data(data) => hash.update(hex::encode(Md5::digest(data))),
                Entry::Object(entry) => {
                    hash.update(&entry.etag);
                    if let Some(range) = &entry.range {
                        hash.update(format!(":{}-{};", range.start, range.end.saturating_sub(1)));
                    }
                }
            }
        }
        hex::encode(hash.finalize())
    }

    /// Whether a manifest is nested in it.
    pub fn has_nested(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Object(entry) if entry.nested.is_some()))
    }
}

fn wrong(index: usize, problem: impl Into<String>) -> ManifestError {
    ManifestError::Entry { index, problem: problem.into() }
}

fn read_entry(
    index: usize,
    fields: &Map<String, Value>,
    left: &mut usize,
    depth: usize,
) -> Result<Entry, ManifestError> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let Some(data) = fields.get("data").filter(|data| !data.is_null()) {
        let data = data.as_str().ok_or_else(|| wrong(index, "data is not a text"))?;
        let data = STANDARD.decode(data).map_err(|error| wrong(index, format!("data: {error}")))?;
        return Ok(Entry::Data(data));
    }
    let name = text("name").ok_or_else(|| wrong(index, "it has no name"))?;
    let (container, object) = name
        .trim_start_matches('/')
        .split_once('/')
        .filter(|(container, object)| !container.is_empty() && !object.is_empty())
        .ok_or_else(|| wrong(index, format!("{name:?} is not /container/object")))?;
    let etag = text("hash").map(|hash| hash.trim_matches('"')).filter(|hash| !hash.is_empty());
    let etag = etag.ok_or_else(|| wrong(index, format!("{name} has no hash")))?;
    let content_type = text("content_type");
    let is_nested = fields.get("sub_slo").is_some_and(is_true);
    // Swift prefers the length in the content type of what is nested: manifests of old versions have the wrong one in `bytes`.
    let override_bytes = content_type.filter(|_| is_nested).and_then(swift_bytes);
    let bytes = override_bytes
        .or_else(|| fields.get("bytes").and_then(whole_number))
        .ok_or_else(|| wrong(index, format!("{name} has no length")))?;
    let range = match fields.get("range").filter(|range| !range.is_null()) {
        None => None,
        Some(Value::String(range)) if range.is_empty() => None,
        Some(Value::String(range)) => Some(
            read_range(range, bytes)
                .ok_or_else(|| wrong(index, format!("{name}: {range:?} is no range of {bytes} bytes")))?,
        ),
        Some(_) => return Err(wrong(index, format!("{name}: its range is not a text"))),
    };
    let nested = match fields.get("segments").filter(|_| is_nested) {
        None => is_nested.then(Nested::default),
        Some(segments) => {
            let manifest = Manifest::from_value(segments, left, depth)?;
            let object_etag = text("manifest_hash").unwrap_or_default().to_owned();
            Some(Nested { manifest: Some(Arc::new(manifest)), object_etag })
        }
    };
    Ok(Entry::Object(ObjectEntry {
        container: container.to_owned(),
        object: object.to_owned(),
        etag: etag.to_owned(),
        bytes,
        range,
        content_type: content_type.map(str::to_owned),
        last_modified: text("last_modified").map(str::to_owned),
        nested,
    }))
}

/// What `config_true_value` of Swift takes for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(text) => {
            matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "t" | "y")
        }
        _ => false,
    }
}

fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The parameter `swift_bytes` of a content type.
fn swift_bytes(content_type: &str) -> Option<u64> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("swift_bytes").then(|| value.trim().parse().ok()).flatten()
    })
}

/// `first-last`, `first-` or `-count`, as in an HTTP range; only the first form is stored by Swift. `None` when no byte of `bytes` is in it.
fn read_range(text: &str, bytes: u64) -> Option<Range<u64>> {
    let (first, last) = text.trim().split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", "") => return None,
        ("", count) => bytes.saturating_sub(count.parse().ok()?)..bytes,
        (first, "") => first.parse().ok()?..bytes,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(bytes)
        }
    };
    (range.start < range.end).then_some(range)
}

/// The container and the prefix that the header `X-Object-Manifest` names, or `None` if it names none.
///
/// The prefix is meant exactly: `c/a/` takes what begins with `a/`, not `ab`.
pub fn dlo_source(header: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(header).ok()?;
    let text = percent_decode_str(text).decode_utf8().ok()?;
    let (container, prefix) = text.trim_start_matches('/').split_once('/')?;
    (!container.is_empty()).then(|| (container.to_owned(), prefix.to_owned()))
}

/// The ETag that Swift gives a dynamic large object: the MD5 of its segments' ETags.
pub fn listing_etag<'a>(etags: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Md5::new();
    for etag in etags {
        hash.update(etag);
    }
    hex::encode(hash.finalize())
}
