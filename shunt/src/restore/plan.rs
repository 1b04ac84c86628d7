//! What has to be written to Swift so that an archived object is there again, in the order of its content.
//!
//! Pure. The content is one stream; each segment is a stretch of it.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use swift_s3_policy::Timestamp;
use swift_s3_policy::large_object::{Entry, Manifest, Rebuilt, dlo_source};
use swift_s3_policy::swift_layout::has_derived_form;
use swift_s3_policy::{ContainerSelector, Mapping};

use super::Unfit;
use super::headers::Shape;

/// What remote containers for segments end with. Source: `docs/large-objects.md`.
const SEGMENTS_SUFFIX: &str = "_segments";

/// The steps of one restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Containers that segments and nested manifests need, without the object's own.
    pub containers: Vec<String>,
    /// Objects that hold content, in the order of the content; stretches do not overlap.
    pub segments: Vec<Segment>,
    /// Manifests in manifests, inner ones first.
    pub nested: Vec<NestedManifest>,
    /// The object itself, which goes last.
    pub object: Object,
}

/// One object that holds a stretch of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its container.
    pub container: String,
    /// Its name.
    pub object: String,
    /// The MD5 of its content.
    pub etag: String,
    /// Its content type, if that is known.
    pub content_type: Option<String>,
    /// When it was written, as far as the manifest tells.
    pub modified: Option<Timestamp>,
    /// Which bytes of the whole content are its own.
    pub content: Range<u64>,
}

/// A manifest that another one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NestedManifest {
    /// Its container.
    pub container: String,
    /// Its name.
    pub object: String,
    /// Its content type, if that is known.
    pub content_type: Option<String>,
    /// What is PUT with `multipart-manifest=put`.
    pub json: Vec<u8>,
    /// The ETag that Swift gives it.
    pub etag: String,
}

/// What is written under the object's own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// The content itself.
    #[default]
    Content,
    /// A static manifest, PUT with `multipart-manifest=put`.
    Static {
        /// The manifest in the form that clients send.
        json: Vec<u8>,
        /// The ETag that Swift gives the large object.
        etag: String,
    },
    /// Nothing, with this `X-Object-Manifest`.
    Dynamic(Vec<u8>),
}

/// Where the segments of a remote manifest lie locally.
#[derive(Clone, Copy, Debug)]
pub enum Homes<'a> {
    /// Where the companion says: it has local names.
    AsNamed,
    /// The manifest is that of a copy on a Swift remote, under this mapping, of an object in this local container.
    OnSwift(&'a Mapping, &'a str),
}

impl Homes<'_> {
    /// The local container for a segment that the manifest has in `named`.
    fn local(&self, named: &str) -> Option<String> {
        let Self::OnSwift(mapping, container) = self else { return Some(named.to_owned()) };
        let remote = mapping.remote.swift()?;
        match &mapping.container {
            ContainerSelector::All => {
                let local = named.strip_prefix(remote.container.as_str())?;
                (!local.is_empty()).then(|| local.to_owned())
            }
            // All local containers for segments share one, and clients name theirs after the objects' container.
            ContainerSelector::One(_) => {
                let own = named.strip_suffix(SEGMENTS_SUFFIX) == Some(remote.container.as_str());
                own.then(|| format!("{container}{SEGMENTS_SUFFIX}"))
            }
        }
    }
}

/// Plans a large object, from its manifest or list of segments as [`swift_s3_policy::large_object::rebuild`] has read it.
///
/// # Errors
/// [`Unfit`] when it cannot be made again from one walk through its content, or nobody knows where its segments belong.
pub fn plan_large(rebuilt: Rebuilt, shape: &Shape, homes: Homes<'_>) -> Result<Plan, Unfit> {
    let Rebuilt { segments, nested, manifest, incomplete: _ } = rebuilt;
    let mut plan = Plan::default();
    for segment in segments {
        if matches!(homes, Homes::OnSwift(..)) && has_derived_form(&segment.object) {
            return Err(Unfit::Converted);
        }
        let container = homes.local(&segment.container).ok_or(Unfit::UnknownHome)?;
        let modified = modified_of(&manifest, &segment.container, &segment.object);
        plan.segments.push(Segment {
            container,
            object: segment.object,
            etag: segment.etag,
            content_type: segment.content_type,
            modified,
            content: one_stretch(&segment.content)?,
        });
    }
    plan.segments.sort_by_key(|segment| (segment.content.start, segment.content.end));
    let names: BTreeSet<_> = plan.segments.iter().map(|one| (&one.container, &one.object)).collect();
    let overlap = plan.segments.is_sorted_by(|one, next| one.content.end <= next.content.start);
    if names.len() < plan.segments.len() || !overlap {
        return Err(Unfit::OutOfOrder);
    }
    for inner in nested {
        let manifest = at_home(inner.manifest, homes)?;
        plan.nested.push(NestedManifest {
            container: homes.local(&inner.container).ok_or(Unfit::UnknownHome)?,
            object: inner.object,
            content_type: inner.content_type,
            json: manifest_json(&manifest),
            etag: manifest.etag(),
        });
    }
    let containers = plan.segments.iter().map(|one| &one.container);
    let containers: BTreeSet<&String> =
        containers.chain(plan.nested.iter().map(|one| &one.container)).collect();
    plan.containers = containers.into_iter().cloned().collect();
    plan.object = match shape {
        Shape::Plain => return Err(Unfit::Converted),
        Shape::Static => {
            let manifest = at_home(manifest, homes)?;
            Object::Static { json: manifest_json(&manifest), etag: manifest.etag() }
        }
        Shape::Dynamic(source) => Object::Dynamic(local_source(source, homes)?),
    };
    Ok(plan)
}

/// Stretches that touch are one; more than one cannot be written while the content passes by.
fn one_stretch(ranges: &[Range<u64>]) -> Result<Range<u64>, Unfit> {
    let mut ranges = ranges.iter();
    let Some(first) = ranges.next() else { return Ok(0..0) };
    ranges.try_fold(first.clone(), |whole, next| match next.start == whole.end {
        true => Ok(whole.start..next.end),
        false => Err(Unfit::OutOfOrder),
    })
}

fn at_home(mut manifest: Manifest, homes: Homes<'_>) -> Result<Manifest, Unfit> {
    for entry in &mut manifest.entries {
        if let Entry::Object(entry) = entry {
            entry.container = homes.local(&entry.container).ok_or(Unfit::UnknownHome)?;
        }
    }
    Ok(manifest)
}

/// The value of `X-Object-Manifest` here, for that of the copy.
fn local_source(source: &[u8], homes: Homes<'_>) -> Result<Vec<u8>, Unfit> {
    if matches!(homes, Homes::AsNamed) {
        return Ok(source.to_vec());
    }
    let (container, prefix) = dlo_source(source).ok_or(Unfit::UnknownHome)?;
    let container = homes.local(&container).ok_or(Unfit::UnknownHome)?;
    let text = format!("{container}/{prefix}");
    Ok(crate::swift_path::quote(&text).into_bytes())
}

/// The manifest as clients send it.
fn manifest_json(manifest: &Manifest) -> Vec<u8> {
    let entries: Vec<Value> = manifest
        .entries
        .iter()
        .map(|entry| match entry {
            Entry::Data(data) => json!({ "data": STANDARD.encode(data) }),
            Entry::Object(entry) => {
                let mut fields =
                    json!({ "path": entry.path(), "etag": entry.etag, "size_bytes": entry.bytes });
                if let (Some(range), Some(fields)) = (&entry.range, fields.as_object_mut()) {
                    let text = format!("{}-{}", range.start, range.end.saturating_sub(1));
                    fields.insert("range".to_owned(), json!(text));
                }
                fields
            }
        })
        .collect();
    Value::Array(entries).to_string().into_bytes()
}

/// When a segment was written, by the manifest: Swift keeps the whole second after.
fn modified_of(manifest: &Manifest, container: &str, object: &str) -> Option<Timestamp> {
    let entry = manifest.entries.iter().find_map(|entry| match entry {
        Entry::Object(entry) if entry.container == container && entry.object == object => Some(entry),
        _ => None,
    })?;
    let text = entry.last_modified.as_deref()?;
    let text = text.trim_end_matches('Z');
    let moment: jiff::civil::DateTime = text.parse().ok()?;
    let seconds = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond();
    Some(Timestamp::from_unix_micros(u64::try_from(seconds).ok()?))
}

/// The MD5 of nothing.
pub fn empty_etag() -> String {
    hex::encode(Md5::digest(b""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use swift_s3_policy::large_object::rebuild;
    use swift_s3_policy::parse_sync_config;

    use super::*;

    fn entry(container: &str, name: &str, content: &[u8]) -> Value {
        json!({"name": format!("/{container}/{name}"), "bytes": content.len(), "hash": hex::encode(Md5::digest(content)),
            "content_type": "a/b", "last_modified": "2026-11-23T07:00:01.000000"})
    }

    fn planned(entries: &[Value], length: u64, homes: Homes<'_>) -> Result<Plan, Unfit> {
        let companion = serde_json::to_vec(entries).unwrap();
        plan_large(rebuild(&companion, length).unwrap(), &Shape::Static, homes)
    }

    fn mapping(container: &str, bucket: &str) -> Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"{container}",
              "aws_bucket":"{bucket}","aws_identity":"i","aws_secret":"s","protocol":"swift","aws_endpoint":"http://h/"}}]}}"#
        );
        Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    #[test]
    fn segments_come_in_the_order_of_the_content() {
        let entries = [entry("s", "b", b"first"), entry("t", "a", b"second"), json!({"data": "eHl6"})];
        let plan = planned(&entries, 14, Homes::AsNamed).unwrap();
        assert_eq!(plan.containers, ["s", "t"]);
        let told: Vec<_> =
            plan.segments.iter().map(|one| (one.object.as_str(), one.content.clone())).collect();
        assert_eq!(told, [("b", 0..5), ("a", 5..11)]);
        assert_eq!(plan.segments[0].modified.unwrap().to_string(), "1795417201.00000");
        let Object::Static { json, etag } = plan.object else { panic!() };
        let sent: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(sent[0]["path"], "/s/b");
        assert_eq!(sent[1]["size_bytes"], 6);
        assert_eq!(sent[2]["data"], "eHl6");
        assert_eq!(etag.len(), 32);
    }

    #[test]
    fn a_segment_that_is_named_twice_is_written_once() {
        let twice = entry("s", "a", b"again");
        let plan = planned(&[twice.clone(), entry("s", "b", b"x"), twice], 11, Homes::AsNamed).unwrap();
        assert_eq!(plan.segments.len(), 2);
    }

    #[test]
    fn what_does_not_pass_by_in_order_is_not_restored() {
        let part = |range: &str| {
            let mut part = entry("s", "a", b"0123456789");
            part["range"] = json!(range);
            part
        };
        let scattered = [part("5-9"), part("0-4")];
        assert_eq!(planned(&scattered, 10, Homes::AsNamed), Err(Unfit::OutOfOrder));
        let meeting = planned(&[part("0-4"), part("5-9")], 10, Homes::AsNamed).unwrap();
        assert_eq!(meeting.segments[0].content, 0..10);
        // Only a part of it was ever in the content; it stays local when the object is archived.
        let partial = planned(&[part("2-4")], 3, Homes::AsNamed).unwrap();
        assert!(partial.segments.is_empty());
        let Object::Static { json, .. } = partial.object else { panic!() };
        assert!(String::from_utf8(json).unwrap().contains("\"range\":\"2-4\""));
    }

    #[test]
    fn segments_on_swift_go_back_to_where_clients_keep_them() {
        for (selector, bucket, named, expected) in [
            ("c", "copy", "copy_segments", Some("c_segments")),
            ("c", "copy", "elsewhere", None),
            ("/*", "copy-", "copy-c_segments", Some("c_segments")),
            ("/*", "copy-", "copy-", None),
            ("/*", "copy-", "others", None),
        ] {
            let mapping = mapping(selector, bucket);
            let homes = Homes::OnSwift(&mapping, "c");
            let plan = planned(&[entry(named, "a/1", b"x")], 1, homes);
            let home = plan.as_ref().ok().map(|plan| plan.segments[0].container.as_str());
            assert_eq!(home, expected, "{selector} {named}");
        }
        let mapping = mapping("c", "copy");
        let homes = Homes::OnSwift(&mapping, "c");
        assert_eq!(local_source(b"copy_segments/a%20b/", homes).unwrap(), b"c_segments/a%20b/");
        let joined = entry("copy_segments", "o/1400000000.00000/000001", b"x");
        assert_eq!(planned(&[joined], 1, homes), Err(Unfit::Converted));
    }

    #[test]
    fn nested_manifests_are_written_before_what_names_them() {
        let inner = entry("s", "a", b"x");
        let outer = json!({"name": "/s/inner", "bytes": 1, "hash": hex::encode(Md5::digest(
            inner["hash"].as_str().unwrap())), "sub_slo": true, "manifest_hash": "h", "segments": [inner]});
        let plan = planned(&[outer], 1, Homes::AsNamed).unwrap();
        assert_eq!((plan.segments.len(), plan.nested.len()), (1, 1));
        assert_eq!(plan.nested[0].object, "inner");
    }

    proptest! {
        #[test]
        fn stretches_are_ordered_apart_and_within_the_content(
            picks in proptest::collection::vec((0..6_usize, 1..40_usize), 1..12),
        ) {
            let contents: Vec<Vec<u8>> = (0..6).map(|index| vec![b'a' + index as u8; 40]).collect();
            let entries: Vec<Value> = picks.iter().map(|(index, _)| entry("s", &index.to_string(), &contents[*index])).collect();
            let length = 40 * entries.len() as u64;
            let plan = planned(&entries, length, Homes::AsNamed).unwrap();
            let mut reached = 0;
            for segment in &plan.segments {
                prop_assert!(segment.content.start >= reached && segment.content.end <= length);
                reached = segment.content.end;
            }
        }
    }
}
