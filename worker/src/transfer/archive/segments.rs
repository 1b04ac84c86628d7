//! Removing large objects.
//!
//! Of a static one the segments go first and the manifest last: as long as the manifest is there the row is not done, so whatever interrupts
//! this is taken up again from the manifest. Of a dynamic one the manifest goes first, because a listing that lacks some segments
//! would look like another content, and be carried over the whole one.
//!
//! A segment goes only if it is still the one that was carried, and if no other manifest needs it ([`crate::segment_use`]).

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use super::{CarriedLarge, CarriedSegment, Removable, expect_same, removable, vanished};
use crate::failpoint;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{AtLeast, LocalError, LocalHead, LocalKind, ObjectName};
use crate::transfer::{Route, Transfer, Trouble, object_name};

/// Segments removed at a time: each is a few small requests to object servers, which have others to serve.
const AT_ONCE: usize = 8;

/// What became of the segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    removed: usize,
    needed: usize,
    changed: usize,
}

impl Tally {
    fn tell(self, route: &Route, row: &Row) {
        tracing::info!(
            account = %route.account, container = %route.container, object = %row.name, removed = self.removed,
            kept_for_others = self.needed, kept_as_changed = self.changed, "removed local segments; the remote holds them"
        );
    }
}

impl Transfer {
    /// Removes a large object that is remote from the local cluster. Answers whether its manifest is gone.
    ///
    /// `sent` is the manifest that was carried, and nothing else is removed. The remote is asked right before.
    pub(in crate::transfer) async fn archive_large(
        &self,
        route: &Route,
        row: &Row,
        sent: &LocalHead,
        carried: &CarriedLarge,
    ) -> Result<bool, Trouble> {
        let written = row.timestamps.metadata;
        if sent.timestamp > written {
            return Ok(false);
        }
        let proof = route.store.head(&carried.key).await?.ok_or_else(vanished)?;
        expect_same(&proof, &carried.etag, carried.length)?;
        let name = object_name(route, row);
        if sent.kind == LocalKind::DynamicLargeObject {
            self.expect_same_listing(route, sent, carried).await?;
        }
        let newest = self.local.newest(&name).await?;
        let at = match removable(&newest, written)? {
            Removable::Gone => return Ok(true),
            Removable::Newer => return Ok(false),
            Removable::At(at) => at,
        };
        failpoint::reached("large object proven");
        if route.mapping.retain_local_segments {
            return self.remove(route, &name, at, &proof).await;
        }
        if sent.kind == LocalKind::DynamicLargeObject {
            let is_gone = self.remove(route, &name, at, &proof).await?;
            if is_gone {
                self.remove_remaining_segments(route, row, sent, carried).await;
            }
            return Ok(is_gone);
        }
        let tally = self.remove_segments(route, row, sent, carried).await?;
        tally.tell(route, row);
        failpoint::reached("segments removed");
        let is_gone = self.remove(route, &name, at, &proof).await?;
        if is_gone && tally.needed > 0 {
            // Two large objects that are archived at the same time keep their common segments for each other: once both manifests are
            // gone, whoever looks last sees that.
            self.remove_remaining_segments(route, row, sent, carried).await;
        }
        Ok(is_gone)
    }

    /// Removes what is left of the segments of a large object whose manifest is gone: what remains of a failure stays as plain objects.
    async fn remove_remaining_segments(
        &self,
        route: &Route,
        row: &Row,
        sent: &LocalHead,
        carried: &CarriedLarge,
    ) {
        match self.remove_segments(route, row, sent, carried).await {
            Ok(tally) => tally.tell(route, row),
            Err(Trouble::Row(failure)) => {
                tracing::warn!(account = %route.account, container = %route.container,
                object = %row.name, reason = failure.reason.as_str(), "local segments stay: {}", failure.message)
            }
            Err(Trouble::Remote(error)) => {
                tracing::warn!(account = %route.account, container = %route.container,
                object = %row.name, %error, "local segments stay")
            }
        }
    }

    /// What a dynamic large object consists of is decided by listings, and those may lag: all replicas must list what was carried.
    async fn expect_same_listing(
        &self,
        route: &Route,
        sent: &LocalHead,
        carried: &CarriedLarge,
    ) -> Result<(), Trouble> {
        let refuse = |problem: String| {
            let message = format!("the local copy is kept: {problem}");
            Err(Trouble::Row(Failure::new(Reason::LocalStale, message)))
        };
        let Some((container, prefix)) =
            sent.header("x-object-manifest").and_then(swift_s3_policy::large_object::dlo_source)
        else {
            return refuse("its X-Object-Manifest cannot be understood".to_owned());
        };
        let expected: HashMap<&str, &str> = carried
            .segments
            .iter()
            .filter(|segment| segment.container == container)
            .map(|segment| (segment.object.as_str(), segment.etag.as_str()))
            .collect();
        let listed = self.large.segments.list(&route.account, &container, &prefix).await?;
        for entry in listed {
            match expected.get(entry.object.as_str()) {
                Some(carried) if carried.eq_ignore_ascii_case(&entry.etag) => {}
                Some(_) => return refuse(format!("segment {} changed since it was carried", entry.object)),
                None => return refuse(format!("segment {} came after it was carried", entry.object)),
            }
        }
        Ok(())
    }

    /// Removes the segments that nothing else needs. One that cannot be removed keeps the manifest, but not the others.
    async fn remove_segments(
        &self,
        route: &Route,
        row: &Row,
        sent: &LocalHead,
        carried: &CarriedLarge,
    ) -> Result<Tally, Trouble> {
        let mut segments = carried.segments.clone();
        segments.sort();
        segments.dedup();
        if segments.is_empty() {
            return Ok(Tally::default());
        }
        let own = (route.container.as_str(), row.name.as_str(), sent.etag.as_str());
        let needed = self.segment_use.needed(&route.account, own, &segments).await.map_err(Trouble::Row)?;
        failpoint::reached("segments looked for");
        self.expect_still_current(route, row, sent).await?;
        let policies = self.policies(route, &segments).await?;
        let mut tally = Tally { needed: needed.iter().filter(|needed| **needed).count(), ..Tally::default() };
        // Owned, because the compiler cannot see that a future over borrowed items may change threads.
        let mut free: Vec<(CarriedSegment, u32)> = Vec::new();
        for (segment, needed) in segments.iter().zip(needed) {
            if !needed {
                free.push((segment.clone(), policies.get(segment.container.as_str()).copied().unwrap_or(0)));
            }
        }
        let removals = free.into_iter().map(|(segment, policy_index)| async move {
            let removal = self.remove_segment(route, &segment, policy_index).await;
            (segment, removal)
        });
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        let mut failed: Option<(usize, String)> = None;
        while let Some((segment, removal)) = removals.next().await {
            match removal {
                Ok(true) => tally.removed = tally.removed.saturating_add(1),
                Ok(false) => tally.changed = tally.changed.saturating_add(1),
                Err(problem) => {
                    let (count, _) = failed.get_or_insert_with(|| {
                        (0, format!("{}/{}: {problem}", segment.container, segment.object))
                    });
                    *count = count.saturating_add(1);
                }
            }
            failpoint::reached("segment removed");
        }
        match failed {
            None => Ok(tally),
            Some((count, first)) => {
                let message =
                    format!("the manifest is kept: {count} of its segments could not be removed; {first}");
                Err(Trouble::Row(Failure::new(Reason::LocalDelete, message)))
            }
        }
    }

    /// The look took its time: nobody may have written the object anew meanwhile, perhaps with the same segments.
    async fn expect_still_current(&self, route: &Route, row: &Row, sent: &LocalHead) -> Result<(), Trouble> {
        if sent.kind == LocalKind::DynamicLargeObject {
            return Ok(());
        }
        let newest = self.local.newest(&object_name(route, row)).await?;
        if newest.found.is_some_and(|head| head.timestamp > row.timestamps.metadata) {
            let message = "the local copy is kept: it was written again";
            return Err(Trouble::Row(Failure::new(Reason::LocalStale, message)));
        }
        Ok(())
    }

    /// The storage policies of the segments' containers.
    async fn policies<'a>(
        &self,
        route: &Route,
        segments: &'a [CarriedSegment],
    ) -> Result<HashMap<&'a str, u32>, Trouble> {
        let mut policies = HashMap::new();
        for segment in segments {
            let container = segment.container.as_str();
            if policies.contains_key(container) {
                continue;
            }
            let place = self.container_place(&route.account, container)?;
            let index = self.segment_use.servers().policy_index(&place, &route.account, container).await;
            let index = index
                .map_err(|error| Trouble::Row(Failure::new(Reason::LocalUnavailable, error.to_string())))?;
            // Without its container a segment cannot be there any more.
            policies.insert(container, index.unwrap_or(0));
        }
        Ok(policies)
    }

    /// Removes one segment; `false` when another object has its name now.
    async fn remove_segment(
        &self,
        route: &Route,
        segment: &CarriedSegment,
        policy_index: u32,
    ) -> Result<bool, Problem> {
        let name = ObjectName {
            account: &route.account,
            container: &segment.container,
            object: &segment.object,
            policy_index,
        };
        let newest = self.local.newest(&name).await?;
        let Some(found) = &newest.found else {
            return if newest.unreachable == 0 {
                Ok(true)
            } else {
                Err(Problem("too few object servers answer".to_owned()))
            };
        };
        // Past a proxy that encrypts, ETags are those of ciphertext.
        let head = if found.is_encrypted() {
            self.local.head(&name, AtLeast::from(found)).await?
        } else {
            found.clone()
        };
        if !head.etag.eq_ignore_ascii_case(&segment.etag) {
            return Ok(false);
        }
        let at = match removable(&newest, found.timestamp).map_err(Problem::of)? {
            Removable::Gone => return Ok(true),
            Removable::Newer => return Ok(false),
            Removable::At(at) => at,
        };
        let place = self.container_place(name.account, name.container).map_err(Problem::of)?;
        let deleted = self.local.delete_exactly(&name, at, &place).await?;
        if deleted.newer > 0 {
            return Ok(false);
        }
        if !deleted.is_durable() {
            let answered =
                format!("{} of {} object servers confirmed the delete", deleted.removed, deleted.asked);
            return Err(Problem(answered));
        }
        tracing::debug!(account = %name.account, container = %name.container, segment = %name.object, timestamp = %at, "segment removed");
        Ok(true)
    }
}

/// Why a segment could not be removed, for people.
#[derive(Debug)]
struct Problem(String);

impl Problem {
    fn of(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Row(failure) => Self(failure.message),
            Trouble::Remote(error) => Self(error.to_string()),
        }
    }
}

impl From<LocalError> for Problem {
    fn from(error: LocalError) -> Self {
        Self(error.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
