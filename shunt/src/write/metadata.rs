//! The metadata that a POST gives to a remote copy. Pure; Swift's rules.
//!
//! A POST replaces: user metadata and headers that it does not name are gone. The content type stays unless it is named. What makes an object a
//! large one stays, whatever the POST says.
//!
//! Source: `POST` in `swift/obj/server.py` of Swift 2.30.1.

use http::{HeaderMap, HeaderName, header};
use swift_s3_policy::metadata_mapping::DELETE_AT_MARKER;
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, ObjectRole, SWIFT_SLO_ETAG_MARKER, to_swift};
use swift_s3_policy::{
    DLO_ETAG_MARKER, DLO_MARKER, MAX_USER_METADATA_BYTES, Mapping, RemoteMetadata, SLO_ETAG_MARKER,
    SLO_MARKER, to_remote, user_metadata_bytes,
};

use crate::restore::headers::Shape;

const X_DELETE_AT: HeaderName = HeaderName::from_static("x-delete-at");
const X_DELETE_AFTER: HeaderName = HeaderName::from_static("x-delete-after");
const S3_MARKS: [&str; 4] = [SLO_MARKER, DLO_MARKER, SLO_ETAG_MARKER, DLO_ETAG_MARKER];
const SWIFT_MARKS: [&str; 3] = [SWIFT_SLO_ETAG_MARKER, DLO_ETAG_MARKER, COMBINED_ETAG_MARKER];

/// A POST that the remote copy cannot follow: for the client, as 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("X-Delete-At and X-Delete-After must be numbers of seconds, in the future")]
    Expiry,
    #[error("the metadata takes {0} bytes, the remote store keeps at most {MAX_USER_METADATA_BYTES}")]
    TooLarge(usize),
    #[error("{0}")]
    NotText(String),
}

/// What the remote copy `old` has after a POST with these headers.
pub(super) fn after_post(
    posted: &HeaderMap,
    old: &RemoteMetadata,
    shape: &Shape,
    mapping: &Mapping,
    now_seconds: u64,
) -> Result<RemoteMetadata, Unfit> {
    let delete_at = delete_at(posted, now_seconds)?;
    let named = posted.iter().filter(|(name, _)| !is_seen_to_apart(name));
    let named = named.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let on_swift = mapping.remote.swift().is_some();
    let mut new = if on_swift {
        to_swift(named).map_err(|error| Unfit::NotText(error.to_string()))?
    } else {
        to_remote(named)
    };
    if posted.get(header::CONTENT_TYPE).is_none_or(|value| value.is_empty()) {
        new.content_type.clone_from(&old.content_type);
    }
    new.user.retain(|_, value| !value.is_empty());
    new.headers.retain(|_, value| !value.is_empty());
    let marks: &[&str] = if on_swift { &SWIFT_MARKS } else { &S3_MARKS };
    for mark in marks {
        if let Some(value) = old.user.get(*mark) {
            new.user.insert((*mark).to_owned(), value.clone());
        }
    }
    if on_swift {
        if let Some(source) = old.headers.get(DLO_MARKER) {
            new.headers.insert(DLO_MARKER.to_owned(), source.clone());
        }
        let role = if *shape == Shape::Plain { ObjectRole::Plain } else { ObjectRole::Manifest };
        new.headers.extend(mapping.expiry_on_swift(role, delete_at).header(now_seconds));
    } else {
        if let Some(delete_at) = delete_at {
            new.user.insert(DELETE_AT_MARKER.to_owned(), delete_at.to_string());
        }
        let bytes = user_metadata_bytes(&new);
        if bytes > MAX_USER_METADATA_BYTES {
            return Err(Unfit::TooLarge(bytes));
        }
    }
    Ok(new)
}

/// Marks of large objects are the copy's own; expiry is worked out.
fn is_seen_to_apart(name: &HeaderName) -> bool {
    *name == X_DELETE_AT || matches!(name.as_str(), SLO_MARKER | DLO_MARKER)
}

/// The second at which the object is to be deleted. Of both headers the length of time counts, as in Swift.
fn delete_at(posted: &HeaderMap, now_seconds: u64) -> Result<Option<u64>, Unfit> {
    let number = |name: &HeaderName| -> Result<Option<u64>, Unfit> {
        let Some(value) = posted.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let value = value.to_str().ok().and_then(|value| value.trim().parse().ok());
        value.map(Some).ok_or(Unfit::Expiry)
    };
    let at = match (number(&X_DELETE_AFTER)?, number(&X_DELETE_AT)?) {
        (Some(after), _) => Some(now_seconds.saturating_add(after)),
        (None, at) => at,
    };
    match at {
        Some(at) if at <= now_seconds => Err(Unfit::Expiry),
        at => Ok(at),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use swift_s3_policy::parse_sync_config;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn mapping(options: &str) -> Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"c",
              "aws_bucket":"b","aws_identity":"i","aws_secret":"s"{options}}}]}}"#
        );
        Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    fn headers(named: &[(&str, &str)]) -> HeaderMap {
        let pairs = named.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        pairs.collect()
    }

    fn old() -> RemoteMetadata {
        to_remote(
            [
                ("Content-Type", &b"text/plain"[..]),
                ("Content-Encoding", b"gzip"),
                ("X-Object-Meta-Old", b"o"),
                ("X-Delete-At", b"1800000000"),
                ("X-Static-Large-Object", b"True"),
            ]
            .into_iter(),
        )
    }

    #[test]
    fn what_is_not_named_is_gone_but_for_the_type_and_the_marks() {
        let posted =
            headers(&[("X-Object-Meta-New", "n\u{e9}"), ("X-Object-Meta-Empty", ""), ("X-Auth-Token", "t")]);
        let new = after_post(&posted, &old(), &Shape::Static, &mapping(""), NOW).unwrap();
        assert_eq!(new.content_type, "text/plain");
        assert!(new.headers.is_empty());
        let names: Vec<&str> = new.user.keys().map(String::as_str).collect();
        assert_eq!(names, ["new", "x-static-large-object"]);
    }

    #[test]
    fn what_is_named_is_there() {
        let posted = headers(&[
            ("Content-Type", "a/b"),
            ("Content-Disposition", "inline"),
            ("X-Delete-After", "100"),
            ("X-Object-Manifest", "other/container"),
        ]);
        let new = after_post(&posted, &old(), &Shape::Static, &mapping(""), NOW).unwrap();
        assert_eq!(new.content_type, "a/b");
        assert_eq!(new.headers["content-disposition"], "inline");
        assert_eq!(new.user["x-delete-at"], (NOW + 100).to_string());
        assert!(!new.user.contains_key("x-object-manifest"), "nobody makes it another kind of object");
    }

    #[test]
    fn what_swift_refuses_is_refused() {
        for (name, value) in [("X-Delete-At", "soon"), ("X-Delete-At", "1"), ("X-Delete-After", "-5")] {
            let result = after_post(&headers(&[(name, value)]), &old(), &Shape::Plain, &mapping(""), NOW);
            assert_eq!(result, Err(Unfit::Expiry), "{name}: {value}");
        }
        let posted = headers(&[("X-Object-Meta-Big", &"x".repeat(3_000))]);
        let result = after_post(&posted, &old(), &Shape::Plain, &mapping(""), NOW);
        assert!(matches!(result, Err(Unfit::TooLarge(_))));
    }

    #[test]
    fn on_swift_manifests_stay_manifests_and_copies_expire_by_the_mapping() {
        let options = r#","protocol":"swift","aws_endpoint":"http://h/","remote_delete_after":1000"#;
        let old = RemoteMetadata {
            content_type: "a/b".into(),
            user: [("swift-source-dlo-etag".to_owned(), "e".to_owned())].into(),
            headers: [("x-object-manifest", "s/p"), ("x-delete-at", "1"), ("content-encoding", "gzip")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let posted = headers(&[("X-Object-Meta-K", "MixedCase \u{e9}")]);
        let new =
            after_post(&posted, &old, &Shape::Dynamic(b"s/p".to_vec()), &mapping(options), NOW).unwrap();
        assert_eq!(new.content_type, "a/b");
        assert_eq!(new.user["k"], "MixedCase \u{e9}");
        assert_eq!(new.user["swift-source-dlo-etag"], "e");
        assert_eq!(new.headers["x-object-manifest"], "s/p");
        assert_eq!(new.headers["x-delete-after"], "1000");
        assert_eq!(new.headers.len(), 2);
    }
}
