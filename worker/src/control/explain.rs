//! Why is this object (not) there? What this node knows of it.

use std::sync::Arc;
use std::time::Duration;

use swift_s3_policy::{SelectionCriteria, Timestamp};
use swift_s3_proto::v1::{self, ObjectState};

use super::wire;
use crate::board::Board;
use crate::decide::{DeleteAction, decide_delete};
use crate::feed::{Feed, View, now};
use crate::lane::{Lane, RowKey, Rows, Share, Verdict, judge};
use crate::parked::ParkedRow;
use crate::swift::container_db::Row;

/// The remote gets this long to answer.
const REMOTE_LIMIT: Duration = Duration::from_secs(5);

/// What is known of a row, as far as it decides what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Facts<'a> {
    deleted: bool,
    /// The row is not what the mapping is about, for this reason.
    unwanted: Option<&'a str>,
    parked: Option<&'a ParkedRow>,
    /// Its lane, the lane's cursor, and what the lane makes of it.
    lane: Option<(Lane, i64, Verdict)>,
    rowid: i64,
    paused: bool,
    deletes_held: bool,
    now: Timestamp,
}

/// Answers a question about one object.
pub async fn explain(board: &Board, node_id: &str, command: &v1::ExplainCommand) -> v1::ExplainAnswer {
    let mut findings = Vec::new();
    let mut without_row: Option<v1::ObjectFindings> = None;
    let of_container =
        |feed: &Arc<Feed>| feed.route.account == command.account && feed.route.container == command.container;
    for feed in board.feeds().into_iter().filter(of_container) {
        let found = look(&feed, node_id, &command.object).await;
        // A sharded container has many databases, and the row is in one of them.
        if found.state == i32::from(ObjectState::NoRow) {
            without_row.get_or_insert(found);
        } else {
            findings.push(found);
        }
    }
    if findings.is_empty() {
        findings.extend(without_row);
    }
    v1::ExplainAnswer { id: command.id, findings }
}

async fn look(feed: &Feed, node_id: &str, object: &str) -> v1::ObjectFindings {
    let view = feed.view();
    let mut findings = v1::ObjectFindings {
        key: Some(v1::FeedKey {
            mapping_identity: feed.identity.clone(),
            database_id: view.database.clone(),
        }),
        mapping_id: feed.mapping.id.clone(),
        node_id: node_id.to_owned(),
        ..v1::ObjectFindings::default()
    };
    let row = match feed.row(object.to_owned()).await {
        Ok(Some(row)) => row,
        Ok(None) => {
            findings.set_state(ObjectState::NoRow);
            "the container database on this node has no row of this name"
                .clone_into(&mut findings.explanation);
            return findings;
        }
        Err(error) => {
            findings.explanation = format!("could not read the container database: {error}");
            return findings;
        }
    };
    let now = now();
    let lane = lane_of(&view, &row, &feed.source.own, now);
    let parked =
        view.parked().and_then(|parked| parked.get(object)).filter(|parked| parked.rowid == row.rowid);
    let (state, explanation) = state(Facts {
        deleted: row.deleted,
        unwanted: unwanted(feed, &row),
        parked,
        lane,
        rowid: row.rowid,
        paused: feed.mapping.is_paused(),
        deletes_held: view.held.is_some(),
        now,
    });
    findings.set_state(state);
    findings.explanation = explanation;
    findings.is_owner = lane.is_some_and(|(lane, _, _)| lane.share == Share::Own);
    findings.cursor = lane.map(|(_, cursor, _)| cursor).unwrap_or_default();
    findings.parked = parked.map(|parked| wire::parked_row(object, parked));
    findings.remote_key = feed.route.keys.object_key(object);
    if findings.is_owner {
        ask_remote(feed, &mut findings).await;
        note_selection(feed, &row, &mut findings);
    }
    findings.row = Some(v1::ObjectRow {
        rowid: row.rowid,
        timestamp: row.timestamps.metadata.to_string(),
        deleted: row.deleted,
        size: row.size,
        etag: row.etag,
        content_type: row.content_type,
    });
    findings
}

async fn ask_remote(feed: &Feed, findings: &mut v1::ObjectFindings) {
    match tokio::time::timeout(REMOTE_LIMIT, feed.route.store.head(&findings.remote_key)).await {
        Ok(Ok(found)) => {
            findings.remote = Some(v1::RemoteState {
                exists: found.is_some(),
                size: found.as_ref().map(|object| object.length).unwrap_or_default(),
                etag: found.as_ref().map(|object| object.etag.clone()).unwrap_or_default(),
                last_modified: found.and_then(|object| object.last_modified).map(Into::into),
            });
        }
        Ok(Err(error)) => findings.remote_trouble = error.to_string(),
        Err(_) => findings.remote_trouble = format!("no answer within {} s", REMOTE_LIMIT.as_secs()),
    }
}

/// A row that is done, with nothing in the remote: most likely its headers do not match.
fn note_selection(feed: &Feed, row: &Row, findings: &mut v1::ObjectFindings) {
    let is_missing = findings.remote.as_ref().is_some_and(|remote| !remote.exists);
    let selects = feed.route.mapping.selection != SelectionCriteria::default();
    if findings.state() == ObjectState::Done && is_missing && !row.deleted && selects {
        findings.set_state(ObjectState::NotWanted);
        "its headers do not match the mapping's selection_criteria".clone_into(&mut findings.explanation);
    }
}

/// What becomes of an object's row in one database, and the same in words; `None` without a row. The remote is not asked.
pub async fn fate(feed: &Feed, object: &str) -> Option<(ObjectState, String)> {
    let view = feed.view();
    if view.database.is_empty() {
        return Some((ObjectState::Queued, "this node has not read the container database yet".to_owned()));
    }
    let row = feed.row(object.to_owned()).await.ok()??;
    let now = now();
    let parked =
        view.parked().and_then(|parked| parked.get(object)).filter(|parked| parked.rowid == row.rowid);
    Some(state(Facts {
        deleted: row.deleted,
        unwanted: unwanted(feed, &row),
        parked,
        lane: lane_of(&view, &row, &feed.source.own, now),
        rowid: row.rowid,
        paused: feed.mapping.is_paused(),
        deletes_held: view.held.is_some(),
        now,
    }))
}

fn unwanted(feed: &Feed, row: &Row) -> Option<&'static str> {
    let mapping = &feed.route.mapping;
    if mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(&row.name)) {
        return Some("its name matches the mapping's exclude_pattern");
    }
    if !row.deleted {
        return None;
    }
    match decide_delete(mapping.propagate_delete, row.timestamps.metadata) {
        DeleteAction::Delete => None,
        DeleteAction::NotPropagated => Some("it was deleted, and the mapping does not carry deletes"),
        DeleteAction::NotAUsersDelete => {
            Some("it was archived: the local copy was removed after the remote one was proven")
        }
    }
}

fn lane_of(view: &View, row: &Row, own: &[u32], now: Timestamp) -> Option<(Lane, i64, Verdict)> {
    let key = RowKey { name: &row.name, deleted: row.deleted, timestamp: row.timestamps.metadata };
    view.lanes.iter().find_map(|(lane, cursor)| match judge(*lane, key, own, view.nodes, now) {
        Verdict::Pass => None,
        // Another node may have come further with the share, and handed it over.
        verdict if view.is_settled(lane.rows, row) => Some((*lane, row.rowid.max(*cursor), verdict)),
        verdict => Some((*lane, *cursor, verdict)),
    })
}

/// What becomes of a row, and the same in words.
fn state(facts: Facts<'_>) -> (ObjectState, String) {
    if let Some(reason) = facts.unwanted {
        return (ObjectState::NotWanted, reason.to_owned());
    }
    if let Some(parked) = facts.parked {
        let wait = parked.next_try.saturating_sub(facts.now.units() / 100_000);
        if parked.reason.is_waiting() {
            return (ObjectState::WaitingForAge, format!("{}; due in {wait} s", parked.message));
        }
        let text = format!(
            "set aside after {} attempts: {}: {}; tried again in {wait} s",
            parked.attempts,
            parked.reason.as_str(),
            parked.message
        );
        return (ObjectState::Parked, text);
    }
    let Some((lane, cursor, verdict)) = facts.lane else {
        return (ObjectState::NotWanted, "no lane of the mapping takes such rows".to_owned());
    };
    if facts.rowid <= cursor {
        let text = match lane.share {
            Share::Own => "this node has done it",
            Share::Others => "another node handles it first, and this node has verified it",
        };
        return (ObjectState::Done, text.to_owned());
    }
    if facts.paused {
        return (ObjectState::Paused, "the mapping is paused".to_owned());
    }
    if facts.deletes_held && facts.deleted && lane.rows == Rows::Deletes {
        return (
            ObjectState::DeleteHeld,
            "the delete limit holds it until an operator releases it".to_owned(),
        );
    }
    if lane.share == Share::Others {
        let text = "another node handles it first; this node verifies it later";
        return (ObjectState::OwnedElsewhere, text.to_owned());
    }
    match verdict {
        Verdict::WaitUntil(at) | Verdict::Defer(at) => {
            let wait = at.since(facts.now).as_secs();
            (
                ObjectState::WaitingForAge,
                format!("not old enough for the mapping's copy_after; due in {wait} s"),
            )
        }
        Verdict::Take | Verdict::Pass => {
            let ahead = facts.rowid.saturating_sub(cursor).saturating_sub(1);
            (ObjectState::Queued, format!("in line on this node, with at most {ahead} rows before it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);
    const OWN: Lane = Lane { share: Share::Own, rows: Rows::All, minimum_age: Duration::ZERO };
    const FACTS: Facts<'_> = Facts {
        deleted: false,
        unwanted: None,
        parked: None,
        lane: Some((OWN, 10, Verdict::Take)),
        rowid: 20,
        paused: false,
        deletes_held: false,
        now: NOW,
    };

    #[test]
    fn every_fate_of_a_row_has_its_state() {
        let parked = |reason| ParkedRow {
            rowid: 20,
            share: Share::Own,
            deleted: false,
            timestamp: String::new(),
            reason,
            message: "m".into(),
            attempts: 3,
            next_try: 1_700_000_042,
            policy_index: None,
        };
        let (failed, future) = (parked(Reason::RemoteRefused), parked(Reason::FutureTimestamp));
        let others = Lane { share: Share::Others, ..OWN };
        let deletes = Lane { rows: Rows::Deletes, ..OWN };
        let later = Verdict::WaitUntil(NOW.plus(Duration::from_secs(5)));
        for (facts, expected, words) in [
            (FACTS, ObjectState::Queued, "at most 9 rows"),
            (Facts { rowid: 10, ..FACTS }, ObjectState::Done, "has done it"),
            (Facts { unwanted: Some("excluded"), ..FACTS }, ObjectState::NotWanted, "excluded"),
            (
                Facts { parked: Some(&failed), ..FACTS },
                ObjectState::Parked,
                "3 attempts: remote_refused: m; tried again in 42 s",
            ),
            (Facts { parked: Some(&future), ..FACTS }, ObjectState::WaitingForAge, "due in 42 s"),
            (Facts { paused: true, ..FACTS }, ObjectState::Paused, "paused"),
            (
                Facts { lane: Some((others, 10, Verdict::Take)), ..FACTS },
                ObjectState::OwnedElsewhere,
                "another node",
            ),
            (Facts { lane: Some((others, 20, Verdict::Take)), ..FACTS }, ObjectState::Done, "verified"),
            (Facts { lane: Some((OWN, 10, later)), ..FACTS }, ObjectState::WaitingForAge, "due in 5 s"),
            (
                Facts {
                    deleted: true,
                    deletes_held: true,
                    lane: Some((deletes, 10, Verdict::Take)),
                    ..FACTS
                },
                ObjectState::DeleteHeld,
                "releases",
            ),
            (Facts { lane: None, ..FACTS }, ObjectState::NotWanted, "no lane"),
        ] {
            let (state, text) = state(facts);
            assert_eq!(state, expected, "{facts:?}");
            assert!(text.contains(words), "{text}");
        }
    }
}
