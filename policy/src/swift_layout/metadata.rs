//! Headers of a local object as another Swift cluster keeps them, and when both sides have the same.

use std::collections::BTreeMap;

use crate::metadata_mapping::RemoteMetadata;

/// Metadata name of a remote manifest: the ETag of the local manifest object that it was made of.
pub const SWIFT_SLO_ETAG_MARKER: &str = "swift-slo-etag";
/// Metadata name of a remote manifest: MD5 over the ETags that the local listing showed for the segments.
pub const DLO_ETAG_MARKER: &str = "swift-source-dlo-etag";
/// Metadata name of a remote segment that was joined of several: MD5 over their ETags.
pub const COMBINED_ETAG_MARKER: &str = "combined-etag";

const MARKERS: [&str; 3] = [SWIFT_SLO_ETAG_MARKER, DLO_ETAG_MARKER, COMBINED_ETAG_MARKER];
const USER_PREFIX: &str = "x-object-meta-";
const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";
/// Swift's own note of a large object's size, which object servers keep behind the content type and proxies take off.
/// Source: `clean_content_type` in `swift/common/utils.py` of Swift 2.30.1.
const SWIFT_BYTES: &str = "swift_bytes=";

/// What a client may give an object beside its user metadata. Source: `allowed_headers` of `object-server.conf`.
const CARRIED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-robots-tag",
];

/// A header whose value is not UTF-8, which other clusters refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of {name} is not UTF-8, which no Swift cluster takes from a client")]
pub struct HeaderNotText {
    /// The header, in lower case.
    pub name: String,
}

/// Translates the headers of a local object, names in any case, into what another Swift cluster is to keep: content type, user
/// metadata and the headers a client may set, values as they are.
///
/// Expiry and manifests are left to the caller. User metadata with the name of a marker is left out: it speaks of another copy.
///
/// # Errors
/// [`HeaderNotText`]; headers that are not carried may hold anything.
pub fn to_swift<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<RemoteMetadata, HeaderNotText> {
    let mut remote =
        RemoteMetadata { content_type: DEFAULT_CONTENT_TYPE.to_owned(), ..RemoteMetadata::default() };
    for (header, value) in headers {
        let name = header.to_ascii_lowercase();
        let text = || match std::str::from_utf8(value) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(HeaderNotText { name: name.clone() }),
        };
        if name == "content-type" {
            remote.content_type = without_swift_bytes(&text()?).to_owned();
        } else if CARRIED.contains(&name.as_str()) {
            remote.headers.insert(name.clone(), text()?);
        } else if let Some(user) = name.strip_prefix(USER_PREFIX)
            && !user.is_empty()
            && !MARKERS.contains(&user)
        {
            remote.user.insert(user.to_owned(), text()?);
        }
    }
    Ok(remote)
}

/// Whether a remote object has the metadata that [`to_swift`] made of the local one. Markers, expiry and what makes manifests do
/// not count; an empty value is as good as none.
pub fn same_on_swift(local: &RemoteMetadata, remote: &RemoteMetadata) -> bool {
    local.content_type == without_swift_bytes(&remote.content_type)
        && meaningful(&local.user, |name| !MARKERS.contains(&name))
            .eq(meaningful(&remote.user, |name| !MARKERS.contains(&name)))
        && meaningful(&local.headers, |name| CARRIED.contains(&name))
            .eq(meaningful(&remote.headers, |name| CARRIED.contains(&name)))
}

fn meaningful<'m>(
    map: &'m BTreeMap<String, String>,
    counts: impl Fn(&str) -> bool + 'm,
) -> impl Iterator<Item = (&'m str, &'m str)> {
    map.iter()
        .map(|(name, value)| (name.as_str(), value.trim()))
        .filter(move |(name, value)| !value.is_empty() && counts(name))
}

fn without_swift_bytes(content_type: &str) -> &str {
    match content_type.rsplit_once(';') {
        Some((left, right)) if right.trim_start().starts_with(SWIFT_BYTES) => left,
        _ => content_type,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn translated(headers: &[(&str, &str)]) -> RemoteMetadata {
        to_swift(headers.iter().map(|(name, value)| (*name, value.as_bytes()))).unwrap()
    }

    #[test]
    fn values_keep_their_case_and_what_is_not_a_clients_stays_behind() {
        let remote = translated(&[
            ("Content-Type", "Text/HTML"),
            ("X-Object-Meta-K", "MixedCase é"),
            ("Content-Encoding", "GZip"),
            ("X-Robots-Tag", "NoIndex"),
            ("Etag", "abc"),
            ("X-Delete-At", "1"),
            ("X-Object-Manifest", "c/p"),
            ("X-Object-Sysmeta-Slo-Etag", "x"),
            ("X-Object-Meta-Swift-Slo-Etag", "of another copy"),
            ("X-Object-Meta-", "nameless"),
        ]);
        assert_eq!(remote.content_type, "Text/HTML");
        assert_eq!(remote.user, BTreeMap::from([("k".into(), "MixedCase é".into())]));
        let headers = [("content-encoding", "GZip"), ("x-robots-tag", "NoIndex")];
        assert_eq!(remote.headers, headers.map(|(name, value)| (name.into(), value.into())).into());
    }

    #[test]
    fn swifts_own_parameter_is_taken_off_the_content_type() {
        for (stored, public) in [
            ("a/b;swift_bytes=12", "a/b"),
            ("a/b; charset=utf-8; swift_bytes=1", "a/b; charset=utf-8"),
            ("a/b; charset=utf-8", "a/b; charset=utf-8"),
            ("a/b;swift_bytes=1;x=y", "a/b;swift_bytes=1;x=y"),
        ] {
            assert_eq!(translated(&[("content-type", stored)]).content_type, public);
        }
        assert_eq!(translated(&[]).content_type, "application/octet-stream");
    }

    #[test]
    fn a_value_that_is_no_text_is_named() {
        let headers: [(&str, &[u8]); 2] = [("X-Object-Sysmeta-Y", b"\xff"), ("X-Object-Meta-Z", b"\xff")];
        let error = to_swift(headers.into_iter()).unwrap_err();
        assert_eq!(error.name, "x-object-meta-z");
    }

    #[test]
    fn table_of_equal_and_different() {
        let local = translated(&[("content-type", "a/b"), ("x-object-meta-k", "V"), ("expires", "e")]);
        let with = |user: &[(&str, &str)], headers: &[(&str, &str)]| {
            let mut remote = local.clone();
            for (name, value) in user {
                remote.user.insert((*name).into(), (*value).into());
            }
            for (name, value) in headers {
                remote.headers.insert((*name).into(), (*value).into());
            }
            remote
        };
        for (name, remote, same) in [
            ("equal", local.clone(), true),
            ("a marker", with(&[("swift-slo-etag", "x"), ("combined-etag", "y")], &[]), true),
            (
                "a manifest that expires",
                with(&[], &[("x-delete-at", "9"), ("x-object-manifest", "c/")]),
                true,
            ),
            ("an empty value", with(&[("gone", "")], &[]), true),
            ("more metadata", with(&[("more", "x")], &[]), false),
            ("another case", with(&[("k", "v")], &[]), false),
            ("another header", with(&[], &[("content-language", "de")]), false),
            ("another type", RemoteMetadata { content_type: "A/b".into(), ..local.clone() }, false),
        ] {
            assert_eq!(same_on_swift(&local, &remote), same, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_was_translated_is_in_sync_with_itself(
            headers in proptest::collection::vec(("[A-Za-z-]{1,20}", "\\PC{0,20}"), 0..20),
        ) {
            let prefixed = headers.iter().map(|(name, value)| (format!("X-Object-Meta-{name}"), value));
            let prefixed: Vec<_> = prefixed.collect();
            let remote = to_swift(prefixed.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))).unwrap();
            prop_assert!(same_on_swift(&remote, &remote));
        }
    }
}
