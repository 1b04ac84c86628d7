//! Removing local copies, after the proof that the remote holds them.

use std::time::Duration;

use swift_s3_store::RemoteObject;

use super::{Route, Transfer, Trouble, object_name};
use crate::decide::archive_timestamp;
use crate::feed::now;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::LocalHead;
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

impl Transfer {
    /// Removes a large object that is remote from the local cluster: segments first, the manifest last. Answers whether it is gone.
    ///
    /// `sent` is the manifest that was carried, and nothing else is removed.
    #[expect(dead_code, reason = "comes with large objects")]
    pub(super) async fn archive_large(
        &self,
        _route: &Route,
        _row: &Row,
        _sent: &LocalHead,
        _carried: &CarriedLarge,
    ) -> Result<bool, Trouble> {
        Ok(false)
    }

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
        let written = row.timestamps.metadata;
        if sent.timestamp > written {
            return Ok(false);
        }
        let proof = match proof {
            Some(proof) => proof,
            None => route.store.head(key).await?.ok_or_else(|| {
                Trouble::Row(Failure::new(
                    Reason::RemoteMismatch,
                    "the remote object vanished before the local delete",
                ))
            })?,
        };
        let same_content = proof.etag.eq_ignore_ascii_case(&sent.etag);
        if !same_content || proof.length != sent.length {
            let message = format!(
                "the local copy is kept: the remote holds ETag {} with {} bytes, the local object has {} with {}",
                proof.etag, proof.length, sent.etag, sent.length
            );
            return Err(Trouble::Row(Failure::new(Reason::RemoteMismatch, message)));
        }
        let name = object_name(route, row);
        // The object server compares with the time of the data only: a POST that came meanwhile would be lost with the object.
        let newest = self.local.newest(&name).await?;
        match &newest.found {
            None if newest.unreachable == 0 => return Ok(true),
            Some(head) if head.timestamp > written => return Ok(false),
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
        let place = self.container_place(route)?;
        tracing::info!(
            account = %route.account, container = %route.container, object = %row.name, key, bucket = %route.mapping.remote.bucket(),
            etag = %proof.etag, bytes = proof.length, timestamp = %at, "removing the local copy; the remote holds it"
        );
        let deleted = self.local.delete_exactly(&name, at, &place).await?;
        if deleted.newer > 0 {
            return Ok(false);
        }
        if deleted.removed.saturating_mul(2) <= deleted.asked {
            let message =
                format!("{} of {} object servers confirmed the local delete", deleted.removed, deleted.asked);
            return Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)));
        }
        Ok(true)
    }

    fn container_place(&self, route: &Route) -> Result<ContainerPlace, Trouble> {
        self.topology
            .container(&route.account, &route.container)
            .map_err(|error| Trouble::Row(Failure::new(Reason::LocalUnavailable, error.to_string())))
    }
}
