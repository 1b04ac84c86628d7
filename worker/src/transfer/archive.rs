//! Removing local copies, after the proof that the remote holds them.

mod segments;

use std::time::Duration;

use swift_s3_policy::{ContainerSelector, Mapping, Timestamp, holds_segments};
use swift_s3_store::RemoteObject;

use super::{Route, Transfer, Trouble, object_name};
use crate::decide::archive_timestamp;
use crate::failpoint;
use crate::feed::now;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, Newest, ObjectName};
use crate::swift::topology::ContainerPlace;

/// Swift may forget deletes that are dated further back than this before its replicators have spread them: of the week of its
/// `reclaim_age`, this leaves them a day. Source: `DEFAULT_RECLAIM_AGE` in `swift/obj/diskfile.py` of Swift 2.30.1.
const TOMBSTONES_FORGOTTEN: Duration = Duration::from_secs(6 * 86_400);

/// A large object that the remote holds, as far as the local delete needs to know.
#[derive(Clone, Debug)]
pub(crate) struct CarriedLarge {
    /// The remote key.
    pub key: String,
    /// What the remote's ETag must be right before the local delete, without quotes: worked out from the segments, or the remote's
    /// answer to our own upload, whose parts were each checked.
    pub etag: String,
    /// Bytes of the whole content.
    pub length: u64,
    /// Local objects that exist for the large object only, perhaps: its segments whose content is remote in whole, and the
    /// manifests nested in it.
    pub segments: Vec<CarriedSegment>,
}

/// A segment, or a nested manifest, that was carried in whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CarriedSegment {
    /// The local container, in the account of the large object.
    pub container: String,
    /// The local object.
    pub object: String,
    /// The ETag that the manifest has for it: the object must still be that one to be removed.
    pub etag: String,
}

/// Whether one write of an object may go.
enum Removable {
    /// It has gone already.
    Gone,
    /// Something newer is there, which has a row of its own.
    Newer,
    /// It may, by a tombstone of this time.
    At(Timestamp),
}

impl Transfer {
    /// Removes the local copy of exactly the write that is known to be remote. Answers whether it is gone.
    ///
    /// `proof` is what the remote holds, by its answer to our own write or by a fresh HEAD; without one the remote is asked here.
    pub(super) async fn archive(
        &self,
        route: &Route,
        row: &Row,
        key: &str,
        sent: &LocalHead,
        proof: Option<RemoteObject>,
    ) -> Result<bool, Trouble> {
        // A newer write has its own row, which will be archived in its turn.
        if sent.timestamp > row.timestamps.metadata {
            return Ok(false);
        }
        // Objects of such containers go with the large objects that they belong to: a manifest may not have been carried yet.
        if route.mapping.container == ContainerSelector::All && holds_segments(&route.container) {
            return Ok(false);
        }
        let proof = match proof {
            Some(proof) => proof,
            None => route.store.head(key).await?.ok_or_else(vanished)?,
        };
        expect_same(&proof, &sent.etag, sent.length)?;
        let name = object_name(route, row);
        let newest = self.local.newest(&name).await?;
        let at = match removable(&newest, row.timestamps.metadata)? {
            Removable::Gone => return Ok(true),
            Removable::Newer => return Ok(false),
            Removable::At(at) => at,
        };
        self.remove(route, &name, at, &proof).await
    }

    /// Removes one write of an object by a tombstone of the time `at`. Answers whether it is gone.
    async fn remove(
        &self,
        route: &Route,
        name: &ObjectName<'_>,
        at: Timestamp,
        proof: &RemoteObject,
    ) -> Result<bool, Trouble> {
        let place = self.container_place(name.account, name.container)?;
        tracing::info!(
            account = %name.account, container = %name.container, object = %name.object, bucket = %route.mapping.remote.bucket(),
            etag = %proof.etag, bytes = proof.length, timestamp = %at, "removing the local copy; the remote holds it"
        );
        let deleted = self.local.delete_exactly(name, at, &place).await?;
        failpoint::reached("local copy removed");
        if deleted.newer > 0 {
            return Ok(false);
        }
        if !deleted.is_durable() {
            let message =
                format!("{} of {} object servers confirmed the local delete", deleted.removed, deleted.asked);
            return Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)));
        }
        Ok(true)
    }

    pub(super) fn container_place(&self, account: &str, container: &str) -> Result<ContainerPlace, Trouble> {
        self.topology
            .container(account, container)
            .map_err(|error| Trouble::Row(Failure::new(Reason::LocalUnavailable, error.to_string())))
    }
}

/// A dynamic large object consists of what its container lists, and that lacks what was archived from there before. In a container that
/// this mapping archives the list is not to be trusted, so such an object is set aside.
///
/// # Errors
/// When `container`, which the manifest names, is one of those that the route's mapping archives.
pub(super) fn refuse_archived_home(route: &Route, container: &str) -> Result<(), Trouble> {
    if !archives_plain_objects(&route.mapping, container) {
        return Ok(());
    }
    let message = format!(
        "its segments are what container {container:?} lists, and this mapping archives objects from there: \
         those that are archived are not listed any more"
    );
    Err(Trouble::Row(Failure::new(Reason::LargeObject, message)))
}

/// Whether plain objects of a container are archived one by one.
fn archives_plain_objects(mapping: &Mapping, container: &str) -> bool {
    let is_for_segments = mapping.container == ContainerSelector::All && holds_segments(container);
    !mapping.retain_local && mapping.container.covers(container) && !is_for_segments
}

fn vanished() -> Trouble {
    let message = "the remote object vanished before the local delete";
    Trouble::Row(Failure::new(Reason::RemoteMismatch, message))
}

/// The remote must hold what is about to be removed.
fn expect_same(remote: &RemoteObject, etag: &str, length: u64) -> Result<(), Trouble> {
    if remote.etag.eq_ignore_ascii_case(etag) && remote.length == length {
        return Ok(());
    }
    let message = format!(
        "the local copy is kept: the remote holds ETag {} with {} bytes, expected {etag} with {length}",
        remote.etag, remote.length
    );
    Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)))
}

/// Tells from what the replicas say whether the write at `written` may go.
fn removable(newest: &Newest, written: Timestamp) -> Result<Removable, Trouble> {
    // The object server compares with the time of the data only: a POST that came meanwhile would be lost with the object.
    match &newest.found {
        None if newest.unreachable == 0 => return Ok(Removable::Gone),
        Some(head) if head.timestamp > written => return Ok(Removable::Newer),
        _ => {}
    }
    let at = archive_timestamp(written);
    // Swift forgets a tombstone of that age at once: a replica that did not hear of it would be copied back to the others.
    let all_must_hear = now().since(at) >= TOMBSTONES_FORGOTTEN;
    let too_few = if all_must_hear {
        newest.unreachable > 0
    } else {
        newest.unreachable.saturating_mul(2) >= newest.asked
    };
    if too_few {
        let message = format!(
            "the local copy is kept: {} of {} object servers cannot be asked for newer writes",
            newest.unreachable, newest.asked
        );
        return Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)));
    }
    Ok(Removable::At(at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use swift_s3_policy::parse_sync_config;

    use super::*;

    fn mapping(container: &str, retain_local: bool) -> Mapping {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"{container}",
              "aws_bucket":"b","aws_identity":"i","aws_secret":"s","propagate_delete":false,"retain_local":{retain_local}}}]}}"#
        );
        Mapping::clone(parse_sync_config(&text).unwrap().config.mappings.first().unwrap())
    }

    #[test]
    fn lists_of_containers_that_are_archived_are_not_trusted() {
        for (selector, retain_local, container, archives) in [
            ("c", false, "c", true),
            ("c", false, "parts", false),
            ("c", false, "c_segments", false),
            ("c_segments", false, "c_segments", true),
            ("/*", false, "parts", true),
            ("/*", false, "c_segments", false),
            ("c", true, "c", false),
            ("/*", true, "parts", false),
        ] {
            let mapping = mapping(selector, retain_local);
            assert_eq!(
                archives_plain_objects(&mapping, container),
                archives,
                "{selector} {retain_local} {container}"
            );
        }
    }
}
