//! The headers with which an archived object is written back: what the user gave it, nothing else.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use swift_s3_policy::metadata_mapping::DELETE_AT_MARKER;
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, SWIFT_SLO_ETAG_MARKER};
use swift_s3_policy::{
    DLO_ETAG_MARKER, DLO_MARKER, Mapping, RemoteMetadata, SLO_ETAG_MARKER, SLO_MARKER, decode_name,
    decode_value_bytes,
};
use swift_s3_store::RemoteObject;

use super::Unfit;

/// An object that expires within this many seconds is not worth restoring, and Swift refuses times that have passed.
const SHORTEST_LIFE_SECONDS: u64 = 60;
/// What a digest in place of a metadata name begins with: the name itself cannot be had back.
const DIGEST_NAME_PREFIX: &str = "swift-sha256-";
const USER_PREFIX: &str = "x-object-meta-";
const X_DELETE_AT: HeaderName = HeaderName::from_static("x-delete-at");
const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Headers of the remote copy that Swift may keep with an object. Source: `DEFAULT_ALLOWED_HEADERS` in `swift/obj/server.py` of Swift
/// 2.30.1; manifests and expiry are seen to apart.
const CARRIED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-robots-tag",
];

/// What kind of object comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its bytes are its content.
    Plain,
    /// A static large object.
    Static,
    /// A dynamic large object; the value of its `X-Object-Manifest`.
    Dynamic(Vec<u8>),
}

/// What kind of object the remote keeps, by its metadata.
pub fn shape_of(object: &RemoteObject, on_swift: bool) -> Shape {
    let marks = if on_swift { &object.metadata.headers } else { &object.metadata.user };
    let marked = |name: &str| marks.get(name).filter(|value| !value.is_empty());
    if let Some(source) = marked(DLO_MARKER) {
        return Shape::Dynamic(match on_swift {
            true => source.as_bytes().to_vec(),
            false => percent_decode_str(source).collect(),
        });
    }
    match marked(SLO_MARKER) {
        Some(value) if value.eq_ignore_ascii_case("true") => Shape::Static,
        _ => Shape::Plain,
    }
}

/// Whether a manifest on a Swift remote is not the local one: its segments were joined, or it was a dynamic one. What would come back is
/// another object.
pub fn is_converted(metadata: &RemoteMetadata, shape: &Shape) -> bool {
    let marked = |name: &str| metadata.user.get(name).is_some_and(|value| !value.is_empty());
    match shape {
        Shape::Plain => false,
        Shape::Static => marked(SWIFT_SLO_ETAG_MARKER) || marked(DLO_ETAG_MARKER),
        Shape::Dynamic(_) => false,
    }
}

/// Whether a container's headers tell that Swift keeps versions of its objects, in any of its ways. Source: `versioned_writes` of Swift 2.30.1.
pub fn keeps_versions(headers: &HeaderMap) -> bool {
    let told = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_on = |name: &str| {
        [&b"true"[..], b"1", b"yes", b"on", b"t", b"y"].iter().any(|on| told(name).eq_ignore_ascii_case(on))
    };
    ["x-versions-location", "x-history-location", "x-container-sysmeta-versions-location"]
        .iter()
        .any(|name| !told(name).is_empty())
        || ["x-versions-enabled", "x-container-sysmeta-versions-enabled"].iter().any(|name| is_on(name))
}

/// The headers for Swift, without length, ETag and what makes a manifest.
///
/// # Errors
/// [`Unfit`] when the object has expired, or has metadata that no request can give it.
pub fn headers_of(object: &RemoteObject, mapping: &Mapping, now_seconds: u64) -> Result<HeaderMap, Unfit> {
    let on_swift = mapping.remote.swift().is_some();
    let metadata = &object.metadata;
    let decoded = |value: &str| match on_swift {
        true => value.as_bytes().to_vec(),
        false => decode_value_bytes(value),
    };
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_bytes(&decoded(&metadata.content_type)).ok();
    let content_type = content_type.filter(|value| !value.is_empty()).unwrap_or(DEFAULT_CONTENT_TYPE);
    headers.insert(header::CONTENT_TYPE, content_type);
    for (name, value) in &metadata.headers {
        if CARRIED.contains(&name.as_str()) && !value.is_empty() {
            insert(&mut headers, name, &decoded(value))?;
        }
    }
    for (name, value) in &metadata.user {
        if is_mark(name, on_swift) || value.is_empty() {
            continue;
        }
        if !on_swift && name.starts_with(DIGEST_NAME_PREFIX) {
            return Err(Unfit::Metadata);
        }
        let user_name = if on_swift { name.clone() } else { decode_name(name) };
        insert(&mut headers, &format!("{USER_PREFIX}{user_name}"), &decoded(value))?;
    }
    if let Some(delete_at) = delete_at(object, mapping) {
        if delete_at <= now_seconds.saturating_add(SHORTEST_LIFE_SECONDS) {
            return Err(Unfit::Expired);
        }
        headers.insert(X_DELETE_AT, HeaderValue::from(delete_at));
    }
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), Unfit> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unfit::Metadata)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Unfit::Metadata)?;
    headers.append(name, value);
    Ok(())
}

/// Whether user metadata of the remote copy is this program's own.
fn is_mark(name: &str, on_swift: bool) -> bool {
    let marks: &[&str] = match on_swift {
        true => &[SWIFT_SLO_ETAG_MARKER, DLO_ETAG_MARKER, COMBINED_ETAG_MARKER],
        false => &[SLO_MARKER, DLO_MARKER, SLO_ETAG_MARKER, DLO_ETAG_MARKER, DELETE_AT_MARKER],
    };
    marks.contains(&name)
}

/// The second at which the user wanted the object to be deleted.
///
/// A copy on Swift may expire for reasons of its own (`remote_delete_after`); only what was carried from here comes back.
fn delete_at(object: &RemoteObject, mapping: &Mapping) -> Option<u64> {
    let Some(remote) = mapping.remote.swift() else {
        let value = object.metadata.user.get(DELETE_AT_MARKER)?;
        return String::from_utf8(decode_value_bytes(value)).ok()?.trim().parse().ok();
    };
    let offset = remote.expiration_offset?;
    if mapping.remote_delete_after.is_some_and(|after| !after.is_zero()) && offset == 0 {
        return None;
    }
    let told: u64 = object.metadata.headers.get(X_DELETE_AT.as_str())?.trim().parse().ok()?;
    told.checked_add_signed(offset.checked_neg()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use swift_s3_policy::{parse_sync_config, same_meaning, to_remote};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn mapping(options: &str) -> Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"c",
              "aws_bucket":"b","aws_identity":"i","aws_secret":"s"{options}}}]}}"#
        );
        Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    fn swift(options: &str) -> Arc<Mapping> {
        mapping(&format!(r#","protocol":"swift","aws_endpoint":"http://h/auth/v1.0"{options}"#))
    }

    fn object(metadata: RemoteMetadata) -> RemoteObject {
        RemoteObject {
            etag: "e".into(),
            length: 1,
            metadata,
            storage_class: None,
            archived: false,
            last_modified: None,
            kms: false,
        }
    }

    fn archived(headers: &[(&str, &[u8])]) -> RemoteObject {
        object(to_remote(headers.iter().copied()))
    }

    #[test]
    fn everything_that_was_archived_comes_back() {
        let given: &[(&str, &[u8])] = &[
            ("Content-Type", b"text/html; charset=UTF-8"),
            ("Content-Encoding", b"gzip"),
            ("Content-Disposition", "attachment; filename=\"\u{e9}\"".as_bytes()),
            ("X-Object-Meta-Colour", "gr\u{fc}n".as_bytes()),
            ("X-Object-Meta-X-Static-Large-Object", b"a user's own"),
            ("X-Object-Meta-Raw", b"\xff\xfe"),
            ("X-Delete-At", b"1700009999"),
        ];
        let headers = headers_of(&archived(given), &mapping(""), NOW).unwrap();
        for (name, value) in given {
            assert_eq!(headers[*name].as_bytes(), *value, "{name}");
        }
        assert_eq!(headers.len(), given.len());
    }

    #[test]
    fn what_has_expired_or_cannot_be_said_again_does_not_come_back() {
        for (name, value, unfit) in [
            ("X-Delete-At", "1699999999", Unfit::Expired),
            ("X-Delete-At", "1700000059", Unfit::Expired),
            ("X-Object-Meta-Lines", "two\nlines", Unfit::Metadata),
            ("X-Object-Meta-\u{e9}", "name", Unfit::Metadata),
        ] {
            let result = headers_of(&archived(&[(name, value.as_bytes())]), &mapping(""), NOW);
            assert_eq!(result.unwrap_err(), unfit, "{name}: {value}");
        }
    }

    #[test]
    fn expiry_on_swift_comes_back_only_if_it_was_the_users() {
        let metadata = RemoteMetadata {
            headers: [("x-delete-at".to_owned(), "1700010000".to_owned())].into(),
            ..RemoteMetadata::default()
        };
        for (options, expected) in [
            ("", None),
            (r#","remote_delete_after":1000"#, None),
            (r#","propagate_expiration":true"#, Some("1700010000")),
            (r#","propagate_expiration":true,"propagate_expiration_offset":100"#, Some("1700009900")),
            (r#","propagate_expiration":true,"remote_delete_after":1000"#, None),
        ] {
            let headers = headers_of(&object(metadata.clone()), &swift(options), NOW).unwrap();
            let told = headers.get("x-delete-at").map(|value| value.to_str().unwrap());
            assert_eq!(told, expected, "{options}");
        }
    }

    #[test]
    fn marks_of_copies_stay_behind() {
        let metadata = RemoteMetadata {
            content_type: "a/b".into(),
            user: [("swift-slo-etag", "x"), ("combined-etag", "x"), ("colour", "red")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            headers: [("x-robots-tag", "noindex"), ("x-static-large-object", "True")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let object = object(metadata);
        let headers = headers_of(&object, &swift(""), NOW).unwrap();
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-robots-tag", "x-object-meta-colour"]);
        assert_eq!(shape_of(&object, true), Shape::Static);
        assert!(is_converted(&object.metadata, &Shape::Static));
    }

    #[test]
    fn shapes_are_told_by_marks() {
        let slo = archived(&[("X-Static-Large-Object", b"True")]);
        assert_eq!(shape_of(&slo, false), Shape::Static);
        let dlo = archived(&[("X-Object-Manifest", b"c%20d/p \xc3\xa9")]);
        assert_eq!(shape_of(&dlo, false), Shape::Dynamic(b"c%20d/p \xc3\xa9".to_vec()));
        assert_eq!(
            shape_of(&archived(&[("X-Object-Meta-X-Static-Large-Object", b"True")]), false),
            Shape::Plain
        );
    }

    #[test]
    fn containers_that_keep_versions_are_told() {
        for (name, value, expected) in [
            ("X-Versions-Location", "old", true),
            ("X-History-Location", "old", true),
            ("X-Versions-Enabled", "True", true),
            ("X-Versions-Enabled", "False", false),
            ("X-Container-Sysmeta-Versions-Enabled", "True", true),
            ("X-Container-Object-Count", "1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
            assert_eq!(keeps_versions(&headers), expected, "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn an_object_that_came_back_means_the_same_as_its_copy(
            content_type in "[a-z]{1,5}/[a-z]{1,5}",
            user in proptest::collection::btree_map("[a-z][a-z0-9-]{0,12}", "[ -~\u{e0}-\u{ff}]{1,20}", 0..5),
        ) {
            let mut local: Vec<(String, Vec<u8>)> = vec![("content-type".to_owned(), content_type.into_bytes())];
            local.extend(user.iter().map(|(name, value)| {
                (format!("x-object-meta-{name}"), value.trim().as_bytes().to_vec())
            }));
            let first = to_remote(local.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            let headers = headers_of(&object(first.clone()), &mapping(""), NOW).unwrap();
            let again = to_remote(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
            prop_assert!(same_meaning(&again, &first));
        }
    }
}
