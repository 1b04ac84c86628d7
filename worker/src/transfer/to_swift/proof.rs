//! What must be known of a large object on the remote before its local copy goes.
//!
//! A HEAD of a manifest tells what was true when the manifest was stored: its segments may have been removed, or overwritten, since.
//! So the remote manifest is read, and every segment that it names is asked for, nested manifests included.

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use swift_s3_policy::Timestamp;
use swift_s3_policy::large_object::{Entry, Manifest, ManifestError, ObjectEntry};
use swift_s3_policy::swift_layout::{
    COMBINED_ETAG_MARKER, PlannedSegment, derived_name, etag_of_etags, plan_segments,
};
use swift_s3_store::RemoteObject;

use super::local::{MAX_MANIFEST_BYTES, unfit};
use super::segments::{derived_home, segment_key};
use super::{Route, Transfer, Trouble, account, is_manifest, is_slo};
use crate::reason::{Failure, Reason};

/// HEADs at a time.
const AT_ONCE: usize = 6;

/// A remote manifest as it must be.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    /// Its key.
    pub(super) key: &'a str,
    /// The large object's name, which names of derived segments begin with.
    pub(super) object: &'a str,
    /// When the local one was written.
    pub(super) written: Timestamp,
    /// Its segments in order.
    pub(super) segments: &'a [PlannedSegment],
}

/// What a static manifest says of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    key: String,
    etag: String,
    /// First byte, and the one behind the last.
    taken: (u64, u64),
}

impl Transfer {
    /// Makes sure that the remote holds a static manifest of exactly these segments, and all of them. Answers the ETag that the whole
    /// must have.
    pub(super) fn prove_static<'a>(
        &'a self,
        route: &'a Route,
        expected: Expected<'a>,
        depth: usize,
    ) -> BoxFuture<'a, Result<String, Trouble>> {
        Box::pin(async move {
            let lines = self.prove_segments(route, expected, depth).await?;
            let most = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
            let json = account(route)?.slo_manifest(expected.key, most).await?;
            let json = json.ok_or_else(|| kept(expected.key, "it is not there"))?;
            let manifest = Manifest::parse(&json).map_err(|error| kept(expected.key, &error.to_string()))?;
            if !same_lines(&lines, &manifest) {
                return Err(kept(expected.key, "its manifest names other segments"));
            }
            Ok(manifest.etag())
        })
    }

    /// Makes sure that the remote has all of these segments, each with its content.
    pub(super) async fn prove_segments(
        &self,
        route: &Route,
        expected: Expected<'_>,
        depth: usize,
    ) -> Result<Vec<Line>, Trouble> {
        let home = derived_home(route, expected.segments);
        // By number, because the compiler cannot see that a future over borrowed items may change threads.
        stream::iter(0..expected.segments.len())
            .map(|index| {
                let home = &home;
                async move {
                    match expected.segments.get(index) {
                        Some(PlannedSegment::Own(entry)) => self.prove_own(route, entry, depth).await,
                        Some(PlannedSegment::Derived { number, members }) => {
                            let name = derived_name(expected.object, expected.written, *number);
                            self.prove_derived(route, format!("{home}/{name}"), members).await
                        }
                        None => Err(unfit(ManifestError::TooMany)),
                    }
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn prove_own(&self, route: &Route, entry: &ObjectEntry, depth: usize) -> Result<Line, Trouble> {
        let key = segment_key(route, entry);
        let found = route.store.head(&key).await?;
        let found = found.ok_or_else(|| kept(&key, "it is not there"))?;
        if !is_own(&found, entry) {
            return Err(kept(&key, "it has another content"));
        }
        if entry.nested.is_some() {
            let Some(deeper) = depth.checked_sub(1) else { return Err(unfit(ManifestError::TooDeep)) };
            let (head, manifest) = self.read_nested(route, entry).await?;
            let plan = plan_segments(&manifest, 0);
            let (object, written) = (&entry.object, head.data_timestamp);
            let inner = Expected { key: &key, object, written, segments: &plan.segments };
            let etag = self.prove_static(route, inner, deeper).await?;
            if !etag.eq_ignore_ascii_case(&entry.etag) {
                return Err(kept(&key, "its manifest has another ETag"));
            }
        }
        let taken = entry.taken();
        Ok(Line { key, etag: entry.etag.to_ascii_lowercase(), taken: (taken.start, taken.end) })
    }

    async fn prove_derived(&self, route: &Route, key: String, members: &[Entry]) -> Result<Line, Trouble> {
        let found = route.store.head(&key).await?;
        let found = found.ok_or_else(|| kept(&key, "it is not there"))?;
        let length = members.iter().map(Entry::length).fold(0_u64, u64::saturating_add);
        let is_right = !is_manifest(&found)
            && found.length == length
            && found.metadata.user.get(COMBINED_ETAG_MARKER) == Some(&combined_etag(members));
        if !is_right {
            return Err(kept(&key, "it has another content"));
        }
        Ok(Line { key, etag: found.etag.to_ascii_lowercase(), taken: (0, length) })
    }
}

/// What a derived segment is known by: MD5 over its members' ETags.
pub(super) fn combined_etag(members: &[Entry]) -> String {
    etag_of_etags(members.iter().map(|member| match member {
        Entry::Object(entry) => entry.etag.as_str(),
        Entry::Data(_) => "",
    }))
}

/// Whether a remote object has the content of a local segment.
pub(super) fn is_own(found: &RemoteObject, entry: &ObjectEntry) -> bool {
    let is_kind = if entry.nested.is_some() { is_slo(found) } else { !is_manifest(found) };
    is_kind && found.etag.eq_ignore_ascii_case(&entry.etag) && found.length == entry.bytes
}

/// Whether a remote manifest says just this. It names segments of its own account only.
fn same_lines(lines: &[Line], manifest: &Manifest) -> bool {
    let named = manifest.entries.iter().map(|entry| match entry {
        Entry::Object(entry) => {
            let taken = entry.taken();
            Some(Line {
                key: format!("{}/{}", entry.container, entry.object),
                etag: entry.etag.to_ascii_lowercase(),
                taken: (taken.start, taken.end),
            })
        }
        // We send none.
        Entry::Data(_) => None,
    });
    named.eq(lines.iter().cloned().map(Some))
}

fn kept(key: &str, problem: &str) -> Trouble {
    let message = format!("the local copy is kept: {key} on the remote: {problem}");
    Trouble::Row(Failure::new(Reason::RemoteMismatch, message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use swift_s3_policy::RemoteMetadata;

    use super::*;

    const ETAG: &str = "5d41402abc4b2a76b9719d911017c592";

    fn manifest(more: &str) -> Manifest {
        let json = format!(r#"[{{"name": "/s/a", "hash": "{ETAG}", "bytes": 5{more}}}]"#);
        Manifest::parse(json.as_bytes()).unwrap()
    }

    fn line(key: &str, etag: &str, taken: (u64, u64)) -> Vec<Line> {
        vec![Line { key: key.to_owned(), etag: etag.to_owned(), taken }]
    }

    #[test]
    fn a_remote_manifest_must_name_just_what_was_looked_at() {
        assert!(same_lines(&line("s/a", ETAG, (0, 5)), &manifest("")));
        assert!(same_lines(&line("s/a", ETAG, (1, 3)), &manifest(r#", "range": "1-2""#)));
        for (name, lines) in [
            ("another name", line("s/b", ETAG, (0, 5))),
            ("another content", line("s/a", "d41d8cd98f00b204e9800998ecf8427e", (0, 5))),
            ("another part", line("s/a", ETAG, (0, 4))),
            ("one more", Vec::new()),
            ("one less", [line("s/a", ETAG, (0, 5)), line("s/a", ETAG, (0, 5))].concat()),
        ] {
            assert!(!same_lines(&lines, &manifest("")), "{name}");
        }
    }

    #[test]
    fn a_segment_is_known_by_kind_etag_and_length() {
        let Entry::Object(entry) = manifest("").entries.remove(0) else { unreachable!("it names an object") };
        let found = RemoteObject {
            etag: ETAG.to_owned(),
            length: 5,
            metadata: RemoteMetadata::default(),
            storage_class: None,
            archived: false,
            last_modified: None,
            kms: false,
        };
        assert!(is_own(&found, &entry));
        assert!(!is_own(&RemoteObject { length: 4, ..found.clone() }, &entry));
        assert!(!is_own(&RemoteObject { etag: "x".to_owned(), ..found.clone() }, &entry));
        let mut slo = found;
        slo.metadata.headers.insert("x-static-large-object".to_owned(), "True".to_owned());
        assert!(!is_own(&slo, &entry), "a manifest in the place of a segment");
        let nested = ObjectEntry { nested: Some(Default::default()), ..entry };
        assert!(is_own(&slo, &nested));
    }
}
