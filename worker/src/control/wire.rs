//! Between the worker's types and those of the gRPC contract.

use std::collections::BTreeMap;

use swift_s3_policy::Timestamp;
use swift_s3_proto::v1;

use crate::coordination::{Mode, Takeover, TakeoverKind, View};
use crate::lane::Share;
use crate::memory::FeedName;
use crate::parked::{Parked, ParkedRow};
use crate::reason::Reason;
use crate::status_file::SavedFeed;

/// The key of a feed.
#[must_use]
pub fn key(name: &FeedName) -> v1::FeedKey {
    v1::FeedKey { mapping_identity: name.identity.clone(), database_id: name.database.clone() }
}

/// What is to be stored: only what differs from `acknowledged`, if that is known.
#[must_use]
pub fn progress(name: &FeedName, acknowledged: Option<&SavedFeed>, feed: &SavedFeed) -> v1::FeedProgress {
    let before = acknowledged.map(|known| &known.parked);
    let parked = feed
        .parked
        .iter()
        .filter(|(object, row)| before.and_then(|parked| parked.get(object)) != Some(*row))
        .map(|(object, row)| parked_row(object, row))
        .collect();
    let unparked = before
        .into_iter()
        .flat_map(Parked::iter)
        .filter(|(object, _)| feed.parked.get(object).is_none())
        .map(|(object, _)| object.to_owned())
        .collect();
    v1::FeedProgress {
        key: Some(key(name)),
        mapping_id: name.mapping_id.clone(),
        account: name.account.clone(),
        container: name.container.clone(),
        cursors: feed.cursors.clone(),
        replicas: feed.replicas.clone(),
        nodes: feed.nodes,
        parked,
        unparked,
        is_complete: acknowledged.is_none(),
        delete_valve: feed
            .valve
            .as_ref()
            .and_then(|valve| serde_json::to_string(valve).ok())
            .unwrap_or_default(),
    }
}

/// What was stored. A delete limit's state that cannot be read is dropped: counting then starts anew.
#[must_use]
pub fn saved(progress: v1::FeedProgress) -> SavedFeed {
    let rows: BTreeMap<String, ParkedRow> = progress
        .parked
        .into_iter()
        .map(|row| {
            let parked = ParkedRow {
                rowid: row.rowid,
                share: if row.share == "others" { Share::Others } else { Share::Own },
                deleted: row.deleted,
                timestamp: row.timestamp,
                reason: Reason::from_word(&row.reason),
                message: row.message,
                attempts: row.attempts,
                next_try: row.next_try,
                policy_index: None,
            };
            (row.object, parked)
        })
        .collect();
    SavedFeed {
        cursors: progress.cursors,
        replicas: progress.replicas,
        nodes: progress.nodes,
        parked: rows.into_iter().collect(),
        valve: serde_json::from_str(&progress.delete_valve).ok(),
    }
}

/// A row set aside.
#[must_use]
pub fn parked_row(object: &str, row: &ParkedRow) -> v1::ParkedRow {
    v1::ParkedRow {
        object: object.to_owned(),
        rowid: row.rowid,
        share: match row.share {
            Share::Own => "own",
            Share::Others => "others",
        }
        .to_owned(),
        deleted: row.deleted,
        timestamp: row.timestamp.clone(),
        reason: row.reason.as_str().to_owned(),
        message: row.message.clone(),
        attempts: row.attempts,
        next_try: row.next_try,
    }
}

/// Seconds since the epoch, in the contract's form.
#[must_use]
pub fn time(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

/// A moment, to the second and its fraction.
fn moment(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.units() % 100_000).unwrap_or_default().saturating_mul(10_000);
    prost_types::Timestamp { nanos, ..time(at.units() / 100_000) }
}

/// How the work is shared.
#[must_use]
pub fn coordination(view: &View, takeovers: &[Takeover]) -> v1::Coordination {
    let regime = view.regime.as_deref();
    let mode = match regime.map(|regime| regime.mode) {
        None => v1::CoordinationMode::Unspecified,
        Some(Mode::Implicit) => v1::CoordinationMode::Implicit,
        Some(Mode::Explicit) => v1::CoordinationMode::Explicit,
        Some(Mode::Fallback) => v1::CoordinationMode::Fallback,
    };
    let takeover = |one: &Takeover| v1::Takeover {
        at: Some(moment(one.at)),
        is_returned: one.kind == TakeoverKind::Returned,
        device: one.home.clone(),
        home_node_id: one.node.clone(),
        shares: one.shares,
        seconds: one.seconds,
    };
    v1::Coordination {
        mode: mode.into(),
        since: regime.map(|regime| moment(regime.since)),
        shares: u64::try_from(view.shares()).unwrap_or(u64::MAX),
        shares_taken: u64::try_from(view.taken).unwrap_or(u64::MAX),
        trouble: view.trouble.clone().unwrap_or_default(),
        takeovers: takeovers.iter().map(takeover).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::parked::FailedRow;
    use crate::reason::Failure;
    use swift_s3_policy::Timestamp;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

    fn feed(names: &[&str]) -> SavedFeed {
        let mut parked = Parked::default();
        for (rowid, name) in (1..).zip(names) {
            let row = FailedRow {
                rowid,
                share: Share::Others,
                deleted: rowid == 1,
                timestamp: NOW,
                policy_index: None,
            };
            parked.fail(name, row, &Failure::new(Reason::LocalMissing, "gone"), NOW, 0.0);
        }
        let cursors = [("own".to_owned(), 7), ("others".to_owned(), 5)].into();
        SavedFeed {
            cursors,
            replicas: vec![1],
            nodes: 3,
            parked,
            valve: Some(crate::valve::Valve::default()),
        }
    }

    #[test]
    fn a_complete_report_says_everything() {
        let feed = feed(&["a", "é\n"]);
        let sent = progress(&FeedName::default(), None, &feed);
        assert!(sent.is_complete);
        assert_eq!(saved(sent), feed);
    }

    #[test]
    fn a_further_report_says_what_changed() {
        let (before, mut after) = (feed(&["a", "b"]), feed(&["a", "b"]));
        after.parked.remove("a");
        after.cursors.insert("own".into(), 9);
        let sent = progress(&FeedName::default(), Some(&before), &after);
        assert_eq!((sent.is_complete, sent.parked.len(), sent.unparked), (false, 0, vec!["a".to_owned()]));
    }
}
