//! Which segments go from the remote, and when: with a large object that was deleted, or replaced by another one.
//!
//! # The rule
//! A remote segment is removed with its manifest only if
//! * it exists on the remote alone, under a name that is derived from this object's, and is marked as such, or
//! * users have removed the local segment too: a tombstone that is not the archiver's, and no replica that has the object; in mappings
//!   that archive nothing, and of a replaced object only where deletes are propagated.
//!
//! Everything else stays, and is counted in the log: another manifest may need it, here or there. In mappings of all containers segments
//! have rows of their own, so only derived ones are seen to here.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use swift_s3_policy::ContainerSelector;
use swift_s3_policy::large_object::{Entry, MAX_PIECES, Manifest, dlo_source};
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, is_derived_name};
use swift_s3_store::{ErrorKind, RemoteObject};

use super::local::MAX_MANIFEST_BYTES;
use super::segments::segments_container;
use super::{Done, Hint, Outcome, Route, Transfer, Trouble, X_OBJECT_MANIFEST, account, is_slo};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::ObjectName;

/// Requests at a time: removals are in no hurry.
const AT_ONCE: usize = 8;
/// Segments that are removed before the local cluster is asked again whether their manifest was written anew.
const KEYS_PER_LOOK: usize = 64;
/// Keys of one listing page.
const PAGE_KEYS: u16 = 1_000;

/// What is needed by the manifest that replaces another.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Remote keys.
    pub(super) keys: HashSet<String>,
    /// Local containers of its segments.
    pub(super) homes: BTreeSet<String>,
}

/// What may go beside derived segments.
struct Owed {
    /// Local containers that may have held the segments.
    homes: BTreeSet<String>,
    /// Others may go at all.
    others: bool,
}

impl Transfer {
    /// Carries a tombstone, which is known to be a user's, to a Swift remote.
    pub(in crate::transfer) async fn delete_from_swift(
        &self,
        route: &Route,
        row: &Row,
        hint: &Hint,
    ) -> Result<Done, Trouble> {
        let key = route.keys.object_key(&row.name);
        let Some(found) = route.store.head(&key).await? else {
            return Ok(Done::plain(Outcome::AlreadyThere));
        };
        if self.was_written_since(route, row, hint).await? {
            return Ok(Done::plain(Outcome::Superseded));
        }
        // Segments first: as long as the manifest is there, the delete is known to be owed.
        let segments = self.segments_of_remote(route, &key, &found).await?;
        let owed = Owed { homes: local_homes(&route.container).into(), others: true };
        for batch in segments.chunks(KEYS_PER_LOOK) {
            self.remove_unneeded(route, row, batch.to_vec(), &owed).await?;
            // It may have been written again, and carried, while segments went.
            if self.was_written_since(route, row, hint).await? {
                return Ok(Done::plain(Outcome::Superseded));
            }
        }
        route.store.delete(&key).await?;
        if let Some(metrics) = &route.metrics {
            self.counters.add(&metrics.deleted_objects, 1);
        }
        tracing::debug!(object = %row.name, container = %route.container, key, "deleted from the remote");
        Ok(Done::plain(Outcome::Deleted))
    }

    /// Removes what an overwritten manifest needed and its successor does not. What fails is told, and stays.
    pub(super) async fn remove_replaced(&self, route: &Route, row: &Row, replaced: Vec<String>, kept: &Kept) {
        let left_over: Vec<String> = replaced.into_iter().filter(|key| !kept.keys.contains(key)).collect();
        let homes = kept.homes.iter().cloned().chain(local_homes(&route.container)).collect();
        let owed = Owed { homes, others: route.mapping.propagate_delete };
        let error = match self.remove_unneeded(route, row, left_over, &owed).await {
            Ok(()) => return,
            Err(Trouble::Row(failure)) => failure.message,
            Err(Trouble::Remote(error)) => error.to_string(),
        };
        tracing::warn!(account = %route.account, container = %route.container, object = %row.name, error,
            "segments of a replaced large object stay on the remote");
    }

    /// Keys of what a remote object is made of; none if it is no manifest.
    pub(super) async fn segments_of_remote(
        &self,
        route: &Route,
        key: &str,
        found: &RemoteObject,
    ) -> Result<Vec<String>, Trouble> {
        if is_slo(found) {
            return self.remote_segments(route, key).await;
        }
        let Some(value) = found.metadata.headers.get(X_OBJECT_MANIFEST) else { return Ok(Vec::new()) };
        let Some((container, prefix)) = dlo_source(value.as_bytes()) else { return Ok(Vec::new()) };
        let prefix = format!("{container}/{prefix}");
        let mut keys: Vec<String> = Vec::new();
        loop {
            let page = match route.store.list(&prefix, keys.last().map(String::as_str), PAGE_KEYS).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(keys),
                page => page?,
            };
            let is_last = page.entries.is_empty() || !page.truncated;
            let before = keys.len();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            let grows = keys
                .get(before.saturating_sub(1)..)
                .unwrap_or_default()
                .is_sorted_by(|one, other| one < other);
            if !grows || keys.len() > MAX_PIECES {
                tracing::warn!(account = %route.account, container = %route.container, key,
                    "the remote's listing is out of order, or too long; the segments stay");
                return Ok(Vec::new());
            }
            if is_last {
                return Ok(keys);
            }
        }
    }

    /// Keys that a remote static manifest names; nested manifests stand for themselves.
    async fn remote_segments(&self, route: &Route, key: &str) -> Result<Vec<String>, Trouble> {
        let most = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
        let json = match account(route)?.slo_manifest(key, most).await {
            Ok(json) => json.unwrap_or_default(),
            // It was replaced meanwhile.
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let Ok(manifest) = Manifest::parse(&json) else {
            tracing::warn!(account = %route.account, container = %route.container, key,
                "the remote manifest cannot be understood; its segments stay");
            return Ok(Vec::new());
        };
        let names: BTreeSet<String> = manifest
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Object(entry) => Some(format!("{}/{}", entry.container, entry.object)),
                Entry::Data(_) => None,
            })
            .collect();
        Ok(names.into_iter().collect())
    }

    /// Removes those of these remote objects that the rule lets go.
    async fn remove_unneeded(
        &self,
        route: &Route,
        row: &Row,
        keys: Vec<String>,
        owed: &Owed,
    ) -> Result<(), Trouble> {
        let total = keys.len();
        if total == 0 {
            return Ok(());
        }
        let removed: Vec<bool> = stream::iter(keys)
            .map(|key| async move {
                if !self.may_go(route, row, &key, owed).await? {
                    return Ok(false);
                }
                route.store.delete(&key).await?;
                Ok::<bool, Trouble>(true)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let removed = removed.into_iter().filter(|removed| *removed).count();
        tracing::info!(account = %route.account, container = %route.container, object = %row.name, removed,
            kept = total.saturating_sub(removed), "removed remote segments that nothing needs");
        Ok(())
    }

    async fn may_go(&self, route: &Route, row: &Row, key: &str, owed: &Owed) -> Result<bool, Trouble> {
        let Some((container, name)) = key.split_once('/') else { return Ok(false) };
        if is_derived_name(&row.name, name) {
            // Users may give such names too.
            let found = route.store.head(key).await?;
            let is_ours = found.is_some_and(|found| found.metadata.user.contains_key(COMBINED_ETAG_MARKER));
            if is_ours {
                return Ok(true);
            }
        }
        // What was archived may be needed by other archived objects, whose manifests nobody has read.
        if !owed.others || !route.mapping.retain_local {
            return Ok(false);
        }
        // Only what this mapping put there, and what has no rows of its own.
        let is_ours = route.mapping.container != ContainerSelector::All
            && container == segments_container(route, &route.container);
        if !is_ours {
            return Ok(false);
        }
        let mut was_removed = false;
        for local in &owed.homes {
            match self.local_word(route, local, name).await? {
                Word::Kept => return Ok(false),
                Word::Removed => was_removed = true,
                Word::Unknown => {}
            }
        }
        Ok(was_removed)
    }

    /// What the local cluster says of a segment.
    async fn local_word(&self, route: &Route, container: &str, object: &str) -> Result<Word, Trouble> {
        let policy_index = match self.segment_policy(&route.account, container).await {
            Ok(index) => index,
            Err(Trouble::Row(Failure { reason: Reason::LocalMissing, .. })) => return Ok(Word::Unknown),
            Err(_) => return Ok(Word::Kept),
        };
        let name = ObjectName { account: &route.account, container, object, policy_index };
        let newest = self.local.newest(&name).await?;
        if newest.found.is_some() || newest.unreachable.saturating_mul(2) >= newest.asked {
            return Ok(Word::Kept);
        }
        Ok(match newest.deleted_at {
            // The archiver's tombstones carry an offset: the remote has the only copy.
            Some(at) if at.offset() != 0 => Word::Kept,
            Some(_) => Word::Removed,
            None => Word::Unknown,
        })
    }
}

/// What the local cluster says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It is there, or archived, or that cannot be told.
    Kept,
    /// Users removed it.
    Removed,
    /// There is no trace of it.
    Unknown,
}

/// Local containers where clients keep the segments of large objects in this one.
fn local_homes(container: &str) -> [String; 3] {
    [container.to_owned(), format!("{container}_segments"), format!("{container}+segments")]
}
