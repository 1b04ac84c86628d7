//! What a large object asks of the remote, from what is known of both sides. Pure, as [`crate::decide`] is for plain objects.

use swift_s3_policy::{ArchivedMetadata, RemoteMetadata, same_meaning};
use swift_s3_store::RemoteObject;

/// What the remote must hold.
#[derive(Clone, Debug)]
pub(crate) struct Expected<'a> {
    /// The ETag, where it follows from the manifest.
    pub etag: Option<&'a str>,
    /// The name of the metadata that tells which manifest the content was made from, and its value; it decides where no ETag is known.
    pub marker: (&'a str, &'a str),
    /// Bytes of the content.
    pub length: u64,
    /// Metadata in the remote's form, with the marker if the remote object is to have it.
    pub metadata: &'a RemoteMetadata,
    /// Set when the remote keeps ETags to itself (encryption with a managed key): whether being stored after the write is proof enough.
    pub opaque_is_enough: bool,
    /// What a change of metadata does to an object in an archive class.
    pub archived_metadata: ArchivedMetadata,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send the content.
    Upload,
    /// Give the remote object other metadata; its content is right.
    UpdateMetadata,
    /// All is well.
    Nothing,
    /// Only metadata differ, and the remote object is archived and stays as it is.
    Keep,
}

/// Decides. `archived` says that the remote object cannot be copied.
pub(crate) fn verdict(expected: &Expected<'_>, remote: &RemoteObject, archived: bool) -> Verdict {
    let marked = || {
        let (name, value) = expected.marker;
        remote.metadata.user.get(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let same_content = match expected.etag {
        _ if remote.length != expected.length => false,
        Some(_) if remote.kms => expected.opaque_is_enough,
        Some(etag) => remote.etag.eq_ignore_ascii_case(etag),
        None => marked(),
    };
    if !same_content {
        return Verdict::Upload;
    }
    if same_meaning(expected.metadata, &remote.metadata) {
        return Verdict::Nothing;
    }
    match (archived, expected.archived_metadata) {
        (false, _) => Verdict::UpdateMetadata,
        (true, ArchivedMetadata::Upload) => Verdict::Upload,
        (true, ArchivedMetadata::Keep) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn metadata(fields: &[(&str, &str)]) -> RemoteMetadata {
        let user = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RemoteMetadata {
            content_type: "a/b".into(),
            user: user.collect::<BTreeMap<_, _>>(),
            ..RemoteMetadata::default()
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn table_of_large_objects() {
        let slo = ("x-static-large-object", "True");
        let classic = metadata(&[slo, ("color", "red")]);
        let marked = metadata(&[slo, ("color", "red"), ("swift-slo-etag", "aa")]);
        let remote = |etag: &str, length, metadata: &RemoteMetadata, kms| RemoteObject {
            etag: etag.to_owned(),
            length,
            metadata: metadata.clone(),
            storage_class: None,
            archived: false,
            last_modified: None,
            kms,
        };
        let of = |etag: Option<&'static str>, opaque_is_enough, archived_metadata| Expected {
            etag,
            marker: ("swift-slo-etag", "aa"),
            length: 9,
            metadata: if etag.is_some() { &classic } else { &marked },
            opaque_is_enough,
            archived_metadata,
        };
        let (upload, keep) = (ArchivedMetadata::Upload, ArchivedMetadata::Keep);
        let blue = metadata(&[slo, ("color", "blue"), ("swift-slo-etag", "aa")]);
        let other = metadata(&[slo, ("color", "red"), ("swift-slo-etag", "bb")]);
        let table = [
            (
                "equal",
                of(Some("e-2"), false, upload),
                remote("E-2", 9, &classic, false),
                false,
                Verdict::Nothing,
            ),
            (
                "equal, of Google's form",
                of(Some("e-2"), false, upload),
                remote("e-2", 9, &marked, false),
                false,
                Verdict::Nothing,
            ),
            (
                "other ETag",
                of(Some("e-2"), false, upload),
                remote("e-3", 9, &classic, false),
                false,
                Verdict::Upload,
            ),
            (
                "other length",
                of(Some("e-2"), false, upload),
                remote("e-2", 8, &classic, false),
                false,
                Verdict::Upload,
            ),
            (
                "other metadata",
                of(Some("e-2"), false, upload),
                remote("e-2", 9, &blue, false),
                false,
                Verdict::UpdateMetadata,
            ),
            (
                "opaque",
                of(Some("e-2"), true, upload),
                remote("?", 9, &classic, true),
                false,
                Verdict::Nothing,
            ),
            (
                "opaque, to be proven",
                of(Some("e-2"), false, upload),
                remote("?", 9, &classic, true),
                false,
                Verdict::Upload,
            ),
            ("marked", of(None, false, upload), remote("?", 9, &marked, false), false, Verdict::Nothing),
            (
                "marked otherwise",
                of(None, false, upload),
                remote("?", 9, &other, false),
                false,
                Verdict::Upload,
            ),
            ("not marked", of(None, false, upload), remote("?", 9, &classic, false), false, Verdict::Upload),
            (
                "marked, other metadata",
                of(None, false, upload),
                remote("?", 9, &blue, false),
                false,
                Verdict::UpdateMetadata,
            ),
            (
                "archived",
                of(Some("e-2"), false, upload),
                remote("e-2", 9, &blue, false),
                true,
                Verdict::Upload,
            ),
            (
                "archived, kept",
                of(Some("e-2"), false, keep),
                remote("e-2", 9, &blue, false),
                true,
                Verdict::Keep,
            ),
        ];
        for (name, expected, remote, archived, answer) in table {
            assert_eq!(verdict(&expected, &remote, archived), answer, "{name}");
        }
    }
}
