//! Objects that a shunt wrote back: they stay for `copy_after` from then on, whatever their timestamp says, and are no news for the remote.

use swift_s3_policy::{Mapping, RESTORED_HEADER, Timestamp, restored_at, restored_from, same_meaning};
use swift_s3_store::{ErrorKind, RemoteObject};

use super::{Outcome, Route, Transfer, Trouble, object_name, remote_metadata};
use crate::feed::now;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind, Newest};

/// What is known of a row's object before it is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A user wrote it, or something newer has a row of its own.
    Written,
    /// It was restored, and nothing is to be done: this is the outcome.
    Settled(Outcome),
    /// It was restored, and the remote has nothing, or the very copy that it was made from.
    Restored,
}

impl Transfer {
    /// Tells whether the row's object was restored. What was restored never goes over another copy on the remote: that is newer, whatever
    /// the timestamps say.
    ///
    /// Restored objects have timestamps with an offset, so other rows cost nothing here. The object servers are asked and not a proxy,
    /// which may keep system metadata to itself.
    ///
    /// # Errors
    /// Also when the remote has another object than the one that was restored.
    pub(super) async fn origin(&self, route: &Route, row: &Row) -> Result<Origin, Trouble> {
        if row.timestamps.data.offset() == 0 {
            return Ok(Origin::Written);
        }
        let newest = self.local.newest(&object_name(route, row)).await?;
        let is_known = newest.unreachable == 0 || is_newer(&newest, row.timestamps.data);
        let Some(found) = newest.found.filter(|found| found.data_timestamp == row.timestamps.data) else {
            // Something newer has a row of its own.
            if is_known {
                return Ok(Origin::Written);
            }
            let message = "no object server that answers can tell whether the object was restored";
            return Err(Trouble::Row(Failure::new(Reason::LocalUnavailable, message)));
        };
        let Some(mark) = found.header(RESTORED_HEADER) else { return Ok(Origin::Written) };
        let now = now();
        if let Some(at) = restored_at(mark, now)
            && found.timestamp == row.timestamps.metadata
            && may_wait(&route.mapping, row.timestamps.metadata)
            && at.plus(route.mapping.copy_after) > now
        {
            return Ok(Origin::Settled(Outcome::Restored(at)));
        }
        let key = route.keys.object_key(&row.name);
        let remote = match route.store.head(&key).await {
            Ok(remote) => remote,
            Err(error) if error.kind() == ErrorKind::Denied => {
                let message =
                    "the object was restored, and the remote does not tell whether it has a newer one";
                return Err(Trouble::Row(Failure::new(Reason::RemoteDenied, message)));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(remote) = remote else { return Ok(Origin::Restored) };
        // As clients see it: what the object servers tell may be encrypted.
        let head = self.head_object(route, row).await?;
        if !is_source(mark, &remote, &head.etag, head.length) {
            return Err(differs(&format!(
                "the remote holds ETag {} with {} bytes",
                remote.etag, remote.length
            )));
        }
        let is_posted = found.timestamp > found.data_timestamp;
        let is_plain = head.kind == LocalKind::Plain && route.mapping.remote.s3().is_some();
        if is_plain && !is_posted && !same_meaning(&remote_metadata(&head), &remote.metadata) {
            return Err(differs("the remote object has other metadata"));
        }
        Ok(Origin::Restored)
    }
}

/// Whether what was found locally was restored after the row was written; it has a row of its own.
pub(super) fn was_restored_since(row: &Row, found: &LocalHead) -> bool {
    found.data_timestamp > row.timestamps.data
        && found.data_timestamp.offset() != 0
        && found.header(RESTORED_HEADER).is_some()
}

/// Whether something was written or deleted after `data`.
fn is_newer(newest: &Newest, data: Timestamp) -> bool {
    let written = newest.found.as_ref().map(|found| found.data_timestamp);
    written.max(newest.deleted_at) > Some(data)
}

/// Whether the remote still has what a restored object was made from. Marks of segments do not name that: it is what they are.
fn is_source(mark: &[u8], remote: &RemoteObject, etag: &str, length: u64) -> bool {
    match restored_from(mark) {
        Some(source) => remote.etag == source,
        None => remote.etag.eq_ignore_ascii_case(etag) && remote.length == length,
    }
}

fn differs(found: &str) -> Trouble {
    let message =
        format!("the object was restored, and the remote copy was replaced since; both are kept: {found}");
    Trouble::Row(Failure::new(Reason::RemoteMismatch, message))
}

/// Whether a row can be one of a restored object that has to wait.
fn may_wait(mapping: &Mapping, timestamp: Timestamp) -> bool {
    timestamp.offset() != 0 && !mapping.retain_local && !mapping.copy_after.is_zero()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use swift_s3_policy::{RemoteMetadata, parse_sync_config};

    use super::*;

    #[test]
    fn only_the_copy_that_was_restored_is_its_source() {
        let remote = |etag: &str, length| RemoteObject {
            etag: etag.into(),
            length,
            metadata: RemoteMetadata::default(),
            storage_class: None,
            archived: false,
            last_modified: None,
            kms: false,
        };
        for (mark, etag, length, expected) in [
            ("1700000000 opaque", "opaque", 5, true),
            ("1700000000 opaque", "aa", 5, false),
            ("1700000000", "aa", 5, true),
            ("1700000000", "aa", 6, false),
            ("1700000000", "bb", 5, false),
        ] {
            assert_eq!(
                is_source(mark.as_bytes(), &remote(etag, length), "aa", 5),
                expected,
                "{mark} {etag} {length}"
            );
        }
    }

    #[test]
    fn only_rows_with_an_offset_in_mappings_that_archive_later_are_looked_at() {
        for (options, offset, waits) in [
            (r#""retain_local":false,"copy_after":60"#, 2, true),
            (r#""retain_local":false,"copy_after":60"#, 0, false),
            (r#""retain_local":false"#, 2, false),
            (r#""copy_after":60"#, 2, false),
        ] {
            let text = format!(
                r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"c",
                  "aws_bucket":"b","aws_identity":"i","aws_secret":"s","propagate_delete":false,{options}}}]}}"#
            );
            let parsed = parse_sync_config(&text).unwrap().config;
            let mapping = parsed.mappings.first().unwrap();
            assert_eq!(may_wait(mapping, Timestamp::new(1, offset)), waits, "{options} {offset}");
        }
    }
}
