//! Has names handled again, by the feeds that handle them anyway; removes from the remote what is not here, after another look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use swift_s3_policy::swift_layout::has_derived_form;
use swift_s3_proto::v1::{
    RepairAction, RepairObjectsRequest, RepairObjectsResponse, RepairOutcome, RepairResult,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::compare::terms;
use super::{Auditor, Refusal};
use crate::feed::Feed;
use crate::feed::again::{Again, AgainEnd, AgainWhat};
use crate::schedule::Order;
use crate::swift::container_server::objects::ObjectRows;
use crate::swift::local_objects::ObjectName;
use crate::transfer::{Outcome, Route};

/// An answer comes within this time; what is not finished then goes on.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// Names whose object servers are asked at the same time.
const LOOKS: usize = 16;
/// Names in one question.
const MOST_NAMES: usize = 1_000;

impl Auditor {
    /// Has names handled, and tells how each ended.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] when the mapping's terms are against it; nothing was done then.
    pub(super) async fn repair(
        &self,
        mut request: RepairObjectsRequest,
    ) -> Result<RepairObjectsResponse, Refusal> {
        let feeds = self.feeds(&request.mapping_id, &request.account, &request.container)?;
        let Some(first) = feeds.first() else { return Err(Refusal::NotServed) };
        if first.mapping.is_paused() {
            return Err(Refusal::Forbidden("the mapping is paused".to_owned()));
        }
        request.objects.truncate(MOST_NAMES);
        request.objects.sort();
        request.objects.dedup();
        let deadline = Instant::now() + ANSWER_LIMIT;
        let results = match request.action() {
            RepairAction::Copy => {
                self.order(&feeds, &request.objects, AgainWhat::Row, request.any_node, deadline).await?
            }
            RepairAction::DeleteExtra => self.delete_extra(&feeds, &first.route, &request, deadline).await?,
            RepairAction::Unspecified => {
                return Err(Refusal::Forbidden("no action was asked for".to_owned()));
            }
        };
        Ok(RepairObjectsResponse { results })
    }

    async fn delete_extra(
        &self,
        feeds: &[Arc<Feed>],
        route: &Arc<Route>,
        request: &RepairObjectsRequest,
        deadline: Instant,
    ) -> Result<Vec<RepairResult>, Refusal> {
        check_deletes(feeds, route, request)?;
        let opened = ObjectRows::open(&self.servers, &route.account, &route.container, "").await?;
        let (_, outline) = opened.ok_or(Refusal::NoContainer)?;
        let looks = request.objects.iter().cloned().map(|object| async move {
            let refused = self.why_not(route, &object, outline.policy_index).await;
            (object, refused)
        });
        let looked: Vec<(String, Option<String>)> =
            stream::iter(looks).buffer_unordered(LOOKS).collect().await;
        let (mut results, mut names) = (Vec::new(), Vec::new());
        for (object, refused) in looked {
            match refused {
                Some(why) => results.push(result(object, RepairOutcome::Refused, why)),
                None => names.push(object),
            }
        }
        let what = AgainWhat::Delete { policy_index: outline.policy_index };
        results.extend(self.order(feeds, &names, what, true, deadline).await?);
        Ok(results)
    }

    /// Why a name must not be removed from the remote. `None`: nothing is against it.
    async fn why_not(&self, route: &Route, object: &str, policy_index: u32) -> Option<String> {
        if route.keys.is_manifest_key(&route.keys.object_key(object)) {
            return Some("it is the manifest of a large object".to_owned());
        }
        if route.mapping.remote.swift().is_some() && has_derived_form(object) {
            return Some("it is a segment of a large object, joined for the remote".to_owned());
        }
        if route.mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(object)) {
            return Some("the mapping excludes it".to_owned());
        }
        let name = ObjectName { account: &route.account, container: &route.container, object, policy_index };
        match self.local.newest(&name).await {
            Ok(newest) if newest.found.is_some() => Some("the object is here".to_owned()),
            Ok(newest) if newest.deleted_at.is_some_and(|at| at.offset() > 0) => {
                Some("it was archived once: the remote may hold the only copy".to_owned())
            }
            Ok(newest) if newest.unreachable.saturating_mul(2) >= newest.asked => {
                Some(format!("{} of {} object servers do not answer", newest.unreachable, newest.asked))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// Hands names to every feed, and waits for the first word about each that is not "no row here".
    async fn order(
        &self,
        feeds: &[Arc<Feed>],
        objects: &[String],
        what: AgainWhat,
        any_share: bool,
        deadline: Instant,
    ) -> Result<Vec<RepairResult>, Refusal> {
        let mut left: Vec<String> = objects.to_vec();
        let mut results = Vec::new();
        for feed in feeds {
            if left.is_empty() {
                break;
            }
            let mut waiting = Vec::new();
            let wishes = left.iter().map(|object| {
                let (ended, end) = oneshot::channel();
                waiting.push((object.clone(), end));
                Again { object: object.clone(), what, any_share, ended }
            });
            if !feed.handle_again(wishes.collect()) {
                return Err(Refusal::Busy);
            }
            let look = Order::Look {
                mapping_id: feed.mapping.id.clone(),
                account: feed.route.account.clone(),
                container: feed.route.container.clone(),
            };
            // The poll comes to it otherwise.
            drop(self.orders.send(look).await);
            left.clear();
            for (object, end) in waiting {
                let ended = tokio::time::timeout_at(deadline, end).await;
                match ended {
                    Ok(Ok(AgainEnd::NoRow)) => left.push(object),
                    Ok(Ok(end)) => results.push(told(object, end)),
                    Ok(Err(_)) => {
                        let why = "the pass ended before: the remote or the database fails";
                        results.push(result(object, RepairOutcome::Unfinished, why.to_owned()));
                    }
                    Err(_) => {
                        let why = "ordered, and not finished in time";
                        results.push(result(object, RepairOutcome::Unfinished, why.to_owned()));
                    }
                }
            }
        }
        let none = |object| result(object, RepairOutcome::NoRow, "no row of it on this node".to_owned());
        results.extend(left.into_iter().map(none));
        Ok(results)
    }
}

/// What is against any delete at all.
fn check_deletes(feeds: &[Arc<Feed>], route: &Route, request: &RepairObjectsRequest) -> Result<(), Refusal> {
    let forbid = |why: &str| Err(Refusal::Forbidden(why.to_owned()));
    let terms = terms(route, request.is_prefix_shared);
    if !request.never_archived {
        return forbid(
            "nobody vouches that the container was never archived (never_archived): what looks extra may be the only copy",
        );
    }
    if !terms.retain_local {
        return forbid("the mapping archives: what only the remote has may be the only copy");
    }
    if !terms.propagate_delete {
        return forbid("the mapping does not carry deletes");
    }
    if terms.is_shared {
        return forbid("other containers have keys below the same prefix; what is extra cannot be told");
    }
    if request.ignore_delete_limit {
        return Ok(());
    }
    if feeds.iter().any(|feed| feed.view().held.is_some()) {
        return forbid("the delete limit holds deletes of the container; release them first");
    }
    let deletes = request.planned_deletes.max(request.objects.len() as u64);
    let before = request.remote_objects.max(deletes);
    let limit = route.mapping.delete_limit.as_ref();
    if limit.is_some_and(|limit| limit.holds(deletes, before, before - deletes)) {
        return Err(Refusal::Forbidden(format!(
            "{deletes} deletes of {before} objects are more than the mapping's delete_limit allows"
        )));
    }
    Ok(())
}

fn result(object: String, outcome: RepairOutcome, detail: String) -> RepairResult {
    RepairResult { object, outcome: outcome.into(), detail, ..RepairResult::default() }
}

fn told(object: String, end: AgainEnd) -> RepairResult {
    let done = match end {
        AgainEnd::Done(done) => done,
        AgainEnd::Failed(why) => return result(object, RepairOutcome::Failed, why),
        AgainEnd::NoRow => return result(object, RepairOutcome::NoRow, String::new()),
        AgainEnd::OtherNode => return result(object, RepairOutcome::OtherNode, String::new()),
        AgainEnd::Refused(why) => return result(object, RepairOutcome::Refused, why),
    };
    let (outcome, bytes) = match done.outcome {
        Outcome::Copied(bytes) => (RepairOutcome::Copied, bytes),
        Outcome::MetadataUpdated => (RepairOutcome::Updated, 0),
        Outcome::AlreadyThere => (RepairOutcome::Equal, 0),
        Outcome::Deleted => (RepairOutcome::Deleted, 0),
        // Different metadata in an archive, and that is how the mapping wants it.
        Outcome::Kept | Outcome::NotWanted | Outcome::Restored(_) => (RepairOutcome::NotWanted, 0),
        Outcome::Superseded => (RepairOutcome::Superseded, 0),
    };
    RepairResult { bytes, ..result(object, outcome, String::new()) }
}
