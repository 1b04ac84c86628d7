//! One page of a comparison: walks both listings, looks closer at what differs, answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use swift_s3_policy::Mapping;
use swift_s3_proto::v1::{
    CompareContainerRequest, CompareContainerResponse, CompareCounts, Difference, DifferenceKind, ObjectState,
};
use tokio::time::Instant;

use super::merge::Step;
use super::verdict::{
    First, LocalLook, Match, RemoteEntry, RemoteLook, Second, Terms, by_local, by_remote, first,
};
use super::walk::Walk;
use super::{Auditor, Refusal};
use crate::control::explain;
use crate::feed::{Feed, now};
use crate::swift::container_server::objects::ListedObject;
use crate::swift::local_objects::{LocalKind, ObjectName};
use crate::transfer::Route;

/// Names of one page, unless the question says otherwise.
const PAGE: u32 = 10_000;
/// Never more.
const LARGEST_PAGE: u32 = 100_000;
/// An answer comes after about this time, so that whoever waits sees progress.
const SLICE: Duration = Duration::from_secs(2);
/// Differences in one answer.
const MOST_DIFFERENCES: usize = 1_000;
/// Names that are looked at closer for one answer: each takes up to four requests.
const MOST_SUSPECTS: usize = 250;
/// Names that are looked at closer at the same time.
const LOOKS: usize = 16;
/// A page ends within this time: the control plane waits a minute for it. What could not be looked at closer by then is told as pending.
const LIMIT: Duration = Duration::from_secs(40);
/// Of this, the walk takes no longer, so that there is time to look closer.
const WALK_LIMIT: Duration = Duration::from_secs(25);

/// A name that differs in the listings.
#[derive(Debug)]
struct Suspect {
    kind: DifferenceKind,
    local: Option<ListedObject>,
    remote: Option<RemoteEntry>,
}

/// A page under way.
#[derive(Debug, Default)]
struct Page {
    counts: CompareCounts,
    differences: Vec<Difference>,
    suspects: Vec<Suspect>,
}

impl Auditor {
    /// Compares one page.
    ///
    /// # Errors
    /// [`Refusal`]; the same page may be asked for again.
    pub(super) async fn compare(
        &self,
        request: CompareContainerRequest,
    ) -> Result<CompareContainerResponse, Refusal> {
        let feeds = self.feeds(&request.mapping_id, &request.account, &request.container)?;
        let Some(route) = feeds.first().map(|feed| Arc::clone(&feed.route)) else {
            return Err(Refusal::NotServed);
        };
        let started = Instant::now();
        let (walk_until, look_until) = (started + WALK_LIMIT, started + LIMIT);
        let most = if request.max_names == 0 { PAGE } else { request.max_names.min(LARGEST_PAGE) };
        let terms = terms(&route, request.is_prefix_shared);
        let mut walk = match self.walks.take(&route, &request.start_after) {
            Some(walk) => walk,
            None => {
                let begun = Walk::begin(&self.servers, &route, &request.start_after);
                tokio::time::timeout_at(walk_until, begun).await.map_err(|_| too_slow())??
            }
        };
        let mut page = Page::default();
        let is_done = page.fill(&mut walk, &route.mapping, &terms, u64::from(most), walk_until).await?;
        let (outline, position) = (walk.outline, walk.position.clone());
        let list_requests = std::mem::take(&mut walk.requests);
        if !is_done {
            self.walks.keep(&route, walk);
        }
        let suspects = std::mem::take(&mut page.suspects);
        self.look(suspects, &feeds, &route, outline.policy_index, &mut page, look_until).await;
        page.differences.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(CompareContainerResponse {
            differences: page.differences,
            counts: Some(page.counts),
            next_start_after: position,
            is_done,
            node_id: String::new(),
            object_count: outline.objects,
            list_requests,
        })
    }

    /// Looks closer at what differs in the listings, which are never of the same moment.
    async fn look(
        &self,
        suspects: Vec<Suspect>,
        feeds: &[Arc<Feed>],
        route: &Arc<Route>,
        policy_index: u32,
        page: &mut Page,
        deadline: Instant,
    ) {
        let looks = suspects.into_iter().map(|suspect| async move {
            let look = self.look_at(&suspect, feeds, route, policy_index);
            let second = tokio::time::timeout_at(deadline, look).await;
            let second = second.unwrap_or_else(|_| pending("there was no time to look closer"));
            (suspect, second)
        });
        let mut looked = stream::iter(looks).buffer_unordered(LOOKS);
        while let Some((suspect, second)) = looked.next().await {
            page.settle(suspect, second);
        }
    }

    async fn look_at(
        &self,
        suspect: &Suspect,
        feeds: &[Arc<Feed>],
        route: &Route,
        policy_index: u32,
    ) -> Second {
        let name = suspect.name();
        let mut is_done = false;
        for feed in feeds {
            if let Some((state, why)) = explain::fate(feed, name).await {
                is_done |= state == ObjectState::Done;
                let is_owed = matches!(
                    state,
                    ObjectState::WaitingForAge
                        | ObjectState::Queued
                        | ObjectState::Parked
                        | ObjectState::Paused
                        | ObjectState::DeleteHeld
                        | ObjectState::OwnedElsewhere
                );
                if is_owed {
                    return pending(&why);
                }
                // A tombstone that no user made: the remote may hold the only copy.
                if state == ObjectState::NotWanted && suspect.kind == DifferenceKind::Extra {
                    return Second::Is(DifferenceKind::Kept, why);
                }
            }
        }
        let local = match self.ask_local(route, name, policy_index).await {
            Ok(look) => LocalLook { is_done, ..look },
            Err(why) => return pending(&why),
        };
        let row = suspect.local.as_ref().map(|row| row.modified);
        if let Some(second) = by_local(suspect.kind, row, &local, now()) {
            return second;
        }
        match route.store.head(&route.keys.object_key(name)).await {
            Ok(found) => {
                let remote = found.map(|object| RemoteLook {
                    is_opaque: object.kms,
                    etag: object.etag,
                    bytes: object.length,
                    modified: object.last_modified,
                });
                by_remote(suspect.kind, suspect.local.as_ref(), &local, remote.as_ref())
            }
            Err(error) => pending(&format!("the remote could not be asked for it: {error}")),
        }
    }

    async fn ask_local(&self, route: &Route, name: &str, policy_index: u32) -> Result<LocalLook, String> {
        let name =
            ObjectName { account: &route.account, container: &route.container, object: name, policy_index };
        let newest = self.local.newest(&name).await.map_err(|error| error.to_string())?;
        let selection = &route.mapping.selection;
        let is_selected = newest.found.as_ref().is_none_or(|head| {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers: Vec<(String, String)> =
                head.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            selection.is_empty() || selection.matches(&headers)
        });
        let kind = newest.found.as_ref().map(|head| head.kind);
        Ok(LocalLook {
            // Listings leave offsets out.
            written: newest.found.map(|head| head.timestamp.with_offset(0)),
            deleted: newest.deleted_at.map(|at| at.with_offset(0)),
            is_opaque: matches!(kind, Some(LocalKind::DynamicLargeObject | LocalKind::Symlink)),
            is_static: kind == Some(LocalKind::StaticLargeObject),
            is_done: false,
            is_selected,
            was_archived: newest.deleted_at.is_some_and(|at| at.offset() > 0),
            is_unsure: newest.unreachable.saturating_mul(2) >= newest.asked,
        })
    }
}

/// What the mapping says.
pub(super) fn terms(route: &Route, is_shared: bool) -> Terms {
    let mapping = &route.mapping;
    Terms {
        copy_after: mapping.copy_after,
        retain_local: mapping.retain_local,
        propagate_delete: mapping.propagate_delete,
        is_shared,
        is_swift: mapping.remote.swift().is_some(),
        remote_delete_after: mapping.remote_delete_after,
        now: now(),
    }
}

fn too_slow() -> Refusal {
    Refusal::Failed(format!("no page of the listings came within {} s", WALK_LIMIT.as_secs()))
}

fn pending(why: &str) -> Second {
    Second::Is(DifferenceKind::Pending, why.to_owned())
}

impl Suspect {
    fn name(&self) -> &str {
        let local = self.local.as_ref().map(|local| local.name.as_str());
        local.or(self.remote.as_ref().map(|remote| remote.name.as_str())).unwrap_or_default()
    }

    fn difference(self, kind: DifferenceKind, detail: String) -> Difference {
        let name = self.name().to_owned();
        let (local, remote) = (self.local, self.remote);
        Difference {
            object: name,
            kind: kind.into(),
            detail,
            local_bytes: local.as_ref().map(|local| local.bytes),
            remote_bytes: remote.as_ref().map(|remote| remote.bytes),
            local_etag: local.map(|local| local.etag).unwrap_or_default(),
            remote_etag: remote.and_then(|remote| remote.etag).unwrap_or_default(),
        }
    }
}

impl Page {
    /// Walks until there is enough for one answer. True at the end of both listings.
    async fn fill(
        &mut self,
        walk: &mut Walk,
        mapping: &Mapping,
        terms: &Terms,
        most: u64,
        deadline: Instant,
    ) -> Result<bool, Refusal> {
        let started = Instant::now();
        let mut seen = 0_u64;
        loop {
            let is_late = seen > 0 && started.elapsed() >= SLICE && !walk.is_ready();
            let is_full = self.suspects.len() >= MOST_SUSPECTS
                || self.differences.len() + self.suspects.len() >= MOST_DIFFERENCES;
            if seen >= most || is_late || is_full {
                return Ok(false);
            }
            let step = match tokio::time::timeout_at(deadline, walk.step()).await {
                Ok(step) => step?,
                Err(_) if seen > 0 => return Ok(false),
                Err(_) => return Err(too_slow()),
            };
            let (local, remote) = match step {
                Step::Both(local, remote) => (Some(local), Some(remote)),
                Step::Local(local) => (Some(local), None),
                Step::Remote(remote) => (None, Some(remote)),
                Step::Wants(_) | Step::End => return Ok(true),
            };
            seen += 1;
            self.take(local, remote, mapping, terms);
        }
    }

    fn take(
        &mut self,
        local: Option<ListedObject>,
        remote: Option<RemoteEntry>,
        mapping: &Mapping,
        terms: &Terms,
    ) {
        let judged = first(local.as_ref(), remote.as_ref(), terms);
        let suspect = |kind| Suspect { kind, local, remote };
        let suspect = match judged {
            First::Equal(matched) => {
                let bytes =
                    suspect(DifferenceKind::Unspecified).local.map(|row| row.bytes).unwrap_or_default();
                return self.equal(matched, bytes);
            }
            First::Harmless(kind, _) | First::Suspect(kind) => suspect(kind),
        };
        // A pattern costs more than a comparison; equal names need none.
        if mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(suspect.name())) {
            self.counts.excluded += 1;
            return;
        }
        match judged {
            First::Harmless(kind, why) => self.differs(suspect, kind, why.to_owned()),
            _ => self.suspects.push(suspect),
        }
    }

    fn equal(&mut self, matched: Match, bytes: u64) {
        self.counts.compared += 1;
        self.counts.equal += 1;
        self.counts.size_only += u64::from(matched == Match::SizeOnly);
        self.counts.bytes = self.counts.bytes.saturating_add(bytes);
    }

    fn settle(&mut self, suspect: Suspect, second: Second) {
        match second {
            Second::Equal(matched) => {
                let bytes = suspect.local.map(|row| row.bytes).unwrap_or_default();
                self.equal(matched, bytes);
            }
            Second::Unwanted => self.counts.excluded += 1,
            Second::Is(kind, why) => self.differs(suspect, kind, why),
        }
    }

    fn differs(&mut self, suspect: Suspect, kind: DifferenceKind, why: String) {
        let counts = &mut self.counts;
        counts.compared += 1;
        let bytes = suspect.local.as_ref().map(|row| row.bytes).unwrap_or_default();
        counts.bytes = counts.bytes.saturating_add(bytes);
        let count = match kind {
            DifferenceKind::Missing => &mut counts.missing,
            DifferenceKind::Different => &mut counts.different,
            DifferenceKind::Extra => &mut counts.extra,
            DifferenceKind::Archived => &mut counts.archived,
            DifferenceKind::Kept => &mut counts.kept,
            DifferenceKind::Expired => &mut counts.expired,
            DifferenceKind::NotCompared => &mut counts.not_compared,
            DifferenceKind::Pending | DifferenceKind::Unspecified => &mut counts.pending,
        };
        *count += 1;
        if matches!(kind, DifferenceKind::Missing | DifferenceKind::Different) {
            counts.bytes_to_repair = counts.bytes_to_repair.saturating_add(bytes);
        }
        // An archive may have millions; they are what it is for.
        if kind != DifferenceKind::Archived {
            self.differences.push(suspect.difference(kind, why));
        }
    }
}
