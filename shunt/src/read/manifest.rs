//! Manifests of static large objects in the forms in which Swift gives them out.
//!
//! Source: `convert_segment_listing` in `swift/common/middleware/slo.py` of Swift 2.30.1.

use md5::{Digest, Md5};
use serde_json::{Map, Value};
use swift_s3_policy::large_object::Manifest;

use super::rights::samples;

/// What a companion adds to the manifest that Swift stores.
const ADDED: [&str; 2] = ["segments", "manifest_hash"];

/// What a companion says of its large object in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The ETag that Swift gives the large object, without quotes.
    pub etag: String,
    /// The ETag of the manifest itself.
    pub manifest_etag: String,
    /// Container and name of one segment of each container that segments lie in.
    pub samples: Vec<(String, String)>,
}

/// A manifest cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the companion cannot be read: {0}")]
pub struct BadManifest(String);

/// Sums up the companion of an object of `length` bytes.
///
/// # Errors
/// When it is none, or of another object.
pub fn summary(companion: &[u8], length: u64) -> Result<Summary, BadManifest> {
    let manifest = Manifest::parse(companion).map_err(|error| BadManifest(error.to_string()))?;
    let told = manifest.length().map_err(|error| BadManifest(error.to_string()))?;
    if told != length {
        return Err(BadManifest(format!("it speaks of {told} bytes, the object has {length}")));
    }
    let manifest_etag = match manifest.has_nested() {
        true => etag(&stored(companion)?),
        false => etag(companion),
    };
    let samples = samples(&manifest)
        .ok_or_else(|| BadManifest("its segments are in too many containers".to_owned()))?;
    Ok(Summary { etag: manifest.etag(), manifest_etag, samples })
}

/// The MD5 of a document, as Swift writes it.
#[must_use]
pub fn etag(document: &[u8]) -> String {
    hex::encode(Md5::digest(document))
}

/// The manifest as Swift stores it: the companion itself, byte for byte, or without what nested manifests add.
///
/// # Errors
/// When it is no list of objects.
pub fn stored(companion: &[u8]) -> Result<Vec<u8>, BadManifest> {
    let mut entries = parse(companion)?;
    if !entries.iter().any(|entry| ADDED.iter().any(|name| entry.contains_key(*name))) {
        return Ok(companion.to_vec());
    }
    for entry in &mut entries {
        for name in ADDED {
            entry.remove(name);
        }
    }
    Ok(python_json(&entries))
}

/// The manifest in the form in which clients upload it (`format=raw`).
///
/// # Errors
/// As [`stored`].
pub fn raw(companion: &[u8]) -> Result<Vec<u8>, BadManifest> {
    let mut entries = parse(companion)?;
    for entry in entries.iter_mut().filter(|entry| !entry.contains_key("data")) {
        for name in ["content_type", "last_modified", "sub_slo"].into_iter().chain(ADDED) {
            entry.remove(name);
        }
        for (stored, uploaded) in [("name", "path"), ("bytes", "size_bytes"), ("hash", "etag")] {
            let value = entry.remove(stored).unwrap_or(Value::Null);
            entry.insert(uploaded.to_owned(), value);
        }
    }
    Ok(python_json(&entries))
}

fn parse(companion: &[u8]) -> Result<Vec<Map<String, Value>>, BadManifest> {
    serde_json::from_slice(companion).map_err(|error| BadManifest(error.to_string()))
}

/// As Python's `json.dumps(…, sort_keys=True)` writes it: a space behind commas and colons, ASCII only.
fn python_json(entries: &[Map<String, Value>]) -> Vec<u8> {
    let mut text = String::from("[");
    for (index, entry) in entries.iter().enumerate() {
        text.push_str(if index == 0 { "{" } else { ", {" });
        let mut names: Vec<_> = entry.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        for (index, (name, value)) in names.into_iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            push_ascii(&mut text, &Value::from(name.as_str()).to_string());
            text.push_str(": ");
            push_ascii(&mut text, &value.to_string());
        }
        text.push('}');
    }
    text.push(']');
    text.into_bytes()
}

/// Characters outside of ASCII, which in JSON stand in texts only, become escapes.
fn push_ascii(text: &mut String, json: &str) {
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As a Swift proxy answered, with `multipart-manifest=get`.
    const STORED: &str = r#"[{"name": "/s/seg1", "bytes": 1048576, "hash": "b6d81b360a5672d80c27430f39153e2c", "content_type": "application/octet-stream", "last_modified": "2026-11-23T07:40:20.000000"}, {"name": "/s/seg2", "bytes": 1048576, "hash": "b6d81b360a5672d80c27430f39153e2c", "content_type": "application/octet-stream", "last_modified": "2026-11-23T07:40:20.000000", "range": "0-9"}, {"data": "aGVsbG8="}]"#;
    /// Likewise, with `format=raw`.
    const RAW: &str = r#"[{"etag": "b6d81b360a5672d80c27430f39153e2c", "path": "/s/seg1", "size_bytes": 1048576}, {"etag": "b6d81b360a5672d80c27430f39153e2c", "path": "/s/seg2", "range": "0-9", "size_bytes": 1048576}, {"data": "aGVsbG8="}]"#;

    #[test]
    fn both_forms_are_swifts_byte_for_byte() {
        assert_eq!(String::from_utf8(stored(STORED.as_bytes()).unwrap()).unwrap(), STORED);
        assert_eq!(String::from_utf8(raw(STORED.as_bytes()).unwrap()).unwrap(), RAW);
        assert_eq!(etag(RAW.as_bytes()), "aacd8638cfe2d3f471393eebbb86ff07");
    }

    #[test]
    fn etags_are_those_that_swift_gave() {
        let summary = summary(STORED.as_bytes(), 1_048_591).unwrap();
        assert_eq!(summary.etag, "39b7ed0c3f7bc7c6c1a23b2095eb877b");
        assert_eq!(summary.manifest_etag, "24827ba2e5e50594baf42896baab0924");
    }

    #[test]
    fn a_companion_of_another_object_is_none() {
        assert!(summary(STORED.as_bytes(), 1_048_590).is_err());
        for text in ["", "{}", "[1]", "[{}]", "[{\"name\": 1}]"] {
            assert!(summary(text.as_bytes(), 0).is_err(), "{text}");
        }
    }

    #[test]
    fn nested_manifests_lose_what_the_companion_added() {
        let nested = r#"[{"name": "/c/é", "bytes": 5, "hash": "h", "sub_slo": true, "manifest_hash": "x",
            "segments": [{"name": "/s/1", "bytes": 5, "hash": "g"}]}]"#;
        let expected = "[{\"bytes\": 5, \"hash\": \"h\", \"name\": \"/c/\\u00e9\", \"sub_slo\": true}]";
        assert_eq!(String::from_utf8(stored(nested.as_bytes()).unwrap()).unwrap(), expected);
        let expected = "[{\"etag\": \"h\", \"path\": \"/c/\\u00e9\", \"size_bytes\": 5}]";
        assert_eq!(String::from_utf8(raw(nested.as_bytes()).unwrap()).unwrap(), expected);
        assert_eq!(
            summary(nested.as_bytes(), 5).unwrap().manifest_etag,
            etag(&stored(nested.as_bytes()).unwrap())
        );
    }

    #[test]
    fn names_are_written_as_python_writes_them() {
        let companion = "[{\"name\": \"/s/\u{1F600}\u{7f}\\n\\\"\", \"bytes\": 0, \"hash\": \"h\"}]";
        let expected =
            "[{\"etag\": \"h\", \"path\": \"/s/\\ud83d\\ude00\\u007f\\n\\\"\", \"size_bytes\": 0}]";
        assert_eq!(String::from_utf8(raw(companion.as_bytes()).unwrap()).unwrap(), expected);
    }
}
