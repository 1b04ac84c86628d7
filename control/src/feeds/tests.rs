#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use swift_s3_proto::v1::MappingHealth;

use super::*;
use crate::time::timestamp;

const NOW: i64 = 1_700_000_000_000;

fn status(database: &str, container: &str, replicas: &[u32], rows: u64) -> FeedStatus {
    FeedStatus {
        key: Some(FeedKey { mapping_identity: "i".to_owned(), database_id: database.to_owned() }),
        mapping_id: "m".to_owned(),
        account: "AUTH_a".to_owned(),
        container: container.to_owned(),
        lag: Some(Lag { rows, seconds: rows as f64, observed_at: Some(timestamp(NOW)), ..Lag::default() }),
        replicas: replicas.to_vec(),
        nodes: 3,
        ..FeedStatus::default()
    }
}

fn beat(feeds: Vec<FeedStatus>, is_complete: bool, at_ms: i64) -> Heartbeat {
    Heartbeat { sent_at: Some(timestamp(at_ms)), feeds, is_complete, ..Heartbeat::default() }
}

/// Three nodes, each with one replica of container `c`.
fn three_nodes() -> Feeds {
    let mut feeds = Feeds::default();
    for (index, node) in ["n0", "n1", "n2"].into_iter().enumerate() {
        feeds.connected(node, "p");
        let status = status(&format!("db{index}"), "c", &[index as u32], index as u64 + 1);
        feeds.heartbeat(node, beat(vec![status], true, NOW), NOW).unwrap();
    }
    feeds
}

fn totals_after(
    before: Vec<ContainerTotal>,
    feeds: &Feeds,
    is_in_force: impl Fn(&str) -> bool,
    is_live: impl Fn(&str) -> bool,
) -> Vec<ContainerTotal> {
    let mut sum = ContainerSum::new(before.into());
    for (node_id, is_live) in feeds.in_order(is_live) {
        feeds.add_node(&mut sum, &node_id, is_live, |id| is_in_force(id));
    }
    sum.finish()
}

fn totals(
    feeds: &Feeds,
    is_in_force: impl Fn(&str) -> bool,
    is_live: impl Fn(&str) -> bool,
) -> Vec<ContainerTotal> {
    totals_after(Vec::new(), feeds, is_in_force, is_live)
}

fn only(feeds: &Feeds, live: &[&str]) -> ContainerTotal {
    let totals = totals(feeds, |_| true, |node| live.contains(&node));
    assert_eq!(totals.len(), 1, "{totals:?}");
    totals.into_iter().next().unwrap()
}

#[test]
fn replicas_add_up_and_the_oldest_row_counts() {
    let total = only(&three_nodes(), &["n0", "n1", "n2"]);
    let lag = total.lag.unwrap();
    assert_eq!((lag.rows, lag.seconds, total.is_complete), (6, 3.0, true));
    assert_eq!(total.node_ids.iter().map(|id| &**id).collect::<Vec<_>>(), ["n0", "n1", "n2"]);
}

#[test]
fn a_silent_node_makes_its_containers_unknown_not_zero() {
    let total = only(&three_nodes(), &["n0", "n1"]);
    assert_eq!((total.lag.unwrap().rows, total.is_complete, total.node_ids.len()), (3, false, 2));
    let nobody = only(&three_nodes(), &[]);
    assert!(nobody.lag.is_none() && !nobody.is_complete && nobody.node_ids.is_empty());
}

#[test]
fn a_replica_that_nobody_reports_makes_a_container_incomplete() {
    for (replicas, nodes, expected) in [
        (&[0, 1, 2][..], 3, true),
        (&[0, 2], 3, false),
        (&[0], 1, true),
        (&[], 0, false),
        (&[0, 1, 2], 64, false),
        (&[0, 700], 2, false),
    ] {
        let mut feeds = Feeds::default();
        let status = FeedStatus { nodes, ..status("db", "c", replicas, 0) };
        feeds.heartbeat("n", beat(vec![status], true, NOW), NOW).unwrap();
        assert_eq!(only(&feeds, &["n"]).is_complete, expected, "{replicas:?} of {nodes}");
    }
}

#[test]
fn a_feed_without_a_lag_is_unknown_and_says_why() {
    let mut feeds = three_nodes();
    let broken = FeedStatus { lag: None, trouble: "locked".to_owned(), ..status("db1", "c", &[1], 0) };
    feeds.heartbeat("n1", beat(vec![broken], false, NOW), NOW).unwrap();
    let total = only(&feeds, &["n0", "n1", "n2"]);
    assert_eq!(
        (total.lag.unwrap().rows, total.is_complete, total.trouble.as_str()),
        (4, false, "n1: locked")
    );
}

#[test]
fn stored_progress_is_unknown_until_its_node_tells() {
    let known = |node: &str, database: &str| KnownFeed {
        mapping_identity: "i".to_owned(),
        database_id: database.to_owned(),
        mapping_id: "m".to_owned(),
        account: "AUTH_a".to_owned(),
        container: "c".to_owned(),
        node_id: node.to_owned(),
        replicas: vec![0, 1, 2],
        nodes: 3,
    };
    let mut feeds = Feeds::default();
    feeds.know(vec![known("n", "db"), known("n", "gone")]);
    assert!(only(&feeds, &["n"]).lag.is_none());
    let told = status("db", "c", &[0, 1, 2], 0);
    feeds.heartbeat("n", beat(vec![told.clone()], false, NOW), NOW).unwrap();
    assert!(!only(&feeds, &["n"]).is_complete);
    // All that the node has: what is not among it is followed no more.
    feeds.heartbeat("n", beat(vec![told], true, NOW), NOW).unwrap();
    assert!(only(&feeds, &["n"]).is_complete && feeds.has_told_all("n"));
    // Stored again later, it keeps what was told; a late report does not bring back what ended.
    feeds.know(vec![known("n", "db"), known("n", "gone")]);
    assert!(only(&feeds, &["n"]).is_complete);
    feeds.connected("n", "p");
    assert!(only(&feeds, &["n"]).lag.is_none() && !feeds.has_told_all("n"));
}

#[test]
fn a_database_that_moved_from_a_silent_node_is_known_again() {
    let mut feeds = three_nodes();
    let moved = [status("db0", "c", &[0], 1), status("db1", "c", &[1], 2)];
    feeds.heartbeat("n0", beat(moved.to_vec(), false, NOW), NOW).unwrap();
    assert!(only(&feeds, &["n0", "n2"]).is_complete);
}

#[test]
fn ended_feeds_and_forgotten_nodes_are_gone() {
    let mut feeds = three_nodes();
    let key = FeedKey { mapping_identity: "i".to_owned(), database_id: "db1".to_owned() };
    feeds.heartbeat("n1", Heartbeat { ended: vec![key], ..Heartbeat::default() }, NOW).unwrap();
    assert_eq!(feeds.of_node("n1").0, 0);
    assert_eq!(feeds.followers("AUTH_a", "c"), ["n0", "n2"]);
    feeds.forget("n0");
    feeds.forget("n2");
    assert!(totals(&feeds, |_| true, |_| true).is_empty());
}

#[test]
fn mappings_that_are_not_in_force_do_not_count() {
    assert!(totals(&three_nodes(), |_| false, |_| true).is_empty());
}

#[test]
fn an_idle_feed_was_looked_at_with_the_last_heartbeat() {
    let mut feeds = three_nodes();
    for node in ["n0", "n1", "n2"] {
        feeds.heartbeat(node, beat(Vec::new(), false, NOW + 5_000), NOW + 5_000).unwrap();
    }
    let seen = only(&feeds, &["n0", "n1", "n2"]).lag.unwrap().observed_at;
    assert_eq!(seen, Some(timestamp(NOW + 5_000)));
    let (containers, lag) = feeds.of_node("n2");
    assert_eq!((containers, lag.unwrap().rows), (1, 3));
}

#[test]
fn rates_count_what_one_process_did_and_nothing_twice() {
    let done = |rows| FeedStatus { rows_done: rows, bytes_sent: rows * 10, ..status("db", "c", &[0], 0) };
    let mut feeds = Feeds::default();
    feeds.set_mappings(["m"].into_iter());
    feeds.connected("n", "p");
    for (rows, at) in [(1_000, NOW), (1_060, NOW + 5_000), (1_120, NOW + 10_000)] {
        feeds.heartbeat("n", beat(vec![done(rows)], false, at), at).unwrap();
    }
    assert_eq!(feeds.rate("m", NOW + 10_000), (2.0, 20.0));
    // The same process goes on behind a broken connection; another one begins anew.
    feeds.connected("n", "p");
    feeds.heartbeat("n", beat(vec![done(1_180)], true, NOW + 15_000), NOW + 15_000).unwrap();
    assert_eq!(feeds.rate("m", NOW + 15_000), (3.0, 30.0));
    feeds.connected("n", "q");
    feeds.heartbeat("n", beat(vec![done(500)], true, NOW + 20_000), NOW + 20_000).unwrap();
    assert_eq!(feeds.rate("m", NOW + 20_000), (3.0, 30.0));
    feeds.set_mappings(std::iter::empty());
    assert_eq!(feeds.rate("m", NOW + 20_000), (0.0, 0.0));
}

#[test]
fn held_deletes_are_told_since_the_earliest() {
    let mut feeds = three_nodes();
    for (node, database, at, why) in [("n0", "db0", 2_000, "later"), ("n1", "db1", 1_000, "first")] {
        let held = FeedStatus {
            deletes_held_at: Some(timestamp(at)),
            deletes_held_because: why.to_owned(),
            ..status(database, "c", &[0], 0)
        };
        feeds.heartbeat(node, beat(vec![held], false, NOW), NOW).unwrap();
    }
    let total = only(&feeds, &["n0", "n1", "n2"]);
    assert_eq!((total.held_since_ms, total.held_because.as_str()), (Some(1_000), "first"));
}

#[test]
fn adding_lags_is_the_same_in_any_order() {
    let lag = |rows, seconds, at: Option<i64>, is_estimate| Lag {
        rows,
        bytes: rows * 2,
        seconds,
        rows_waiting: 1,
        rows_parked: 2,
        deletes_held: 3,
        is_estimate,
        observed_at: at.map(timestamp),
    };
    let lags = [lag(1, 5.0, Some(30), false), lag(2, 9.0, None, true), lag(4, 1.0, Some(20), false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let mut total = None;
        for index in order {
            add_lag(&mut total, &lags[index]);
        }
        let mut expected = lag(7, 9.0, Some(20), true);
        (expected.rows_waiting, expected.rows_parked, expected.deletes_held) = (3, 6, 9);
        assert_eq!(total, Some(expected));
    }
}

#[test]
fn rates_are_kept_of_mappings_in_force_only() {
    let mut feeds = Feeds::default();
    feeds.set_mappings(["m"].into_iter());
    feeds.connected("n", "p");
    let other = FeedStatus { mapping_id: "made up".to_owned(), ..status("db2", "c", &[0], 0) };
    feeds.heartbeat("n", beat(vec![status("db", "c", &[0], 0), other], true, NOW), NOW).unwrap();
    assert_eq!(feeds.rates.keys().map(|id| &**id).collect::<Vec<_>>(), ["m"]);
}

#[test]
fn names_that_are_too_long_are_refused_wherever_they_are() {
    let long = || "x".repeat(MAX_NAME_BYTES + 1);
    let key = || FeedKey { mapping_identity: "i".to_owned(), database_id: long() };
    let health = MappingHealth { mapping_id: long(), ..MappingHealth::default() };
    let fine = status("db", "c", &[0], 0);
    for heartbeat in [
        beat(vec![FeedStatus { key: Some(key()), ..fine.clone() }], true, NOW),
        beat(vec![FeedStatus { mapping_id: long(), ..fine.clone() }], true, NOW),
        beat(vec![FeedStatus { account: long(), ..fine.clone() }], true, NOW),
        beat(vec![FeedStatus { container: long(), ..fine.clone() }], true, NOW),
        Heartbeat { ended: vec![key()], ..Heartbeat::default() },
        Heartbeat { mappings: vec![health], ..Heartbeat::default() },
    ] {
        assert!(check(&heartbeat).is_err(), "{heartbeat:?}");
    }
    assert_eq!(check(&beat(vec![fine], true, NOW)), Ok(()));
}

#[test]
fn all_feeds_may_be_told_in_parts() {
    let mut feeds = three_nodes();
    feeds.connected("n0", "p");
    let mut told = |database: &str, is_complete| {
        feeds
            .heartbeat("n0", beat(vec![status(database, database, &[0], 1)], is_complete, NOW), NOW)
            .unwrap();
        (feeds.has_told_all("n0"), feeds.of_node("n0").0)
    };
    assert_eq!(told("a", false), (false, 2), "the one of before is not denied yet");
    assert_eq!(told("b", false), (false, 3));
    assert_eq!(told("c", true), (true, 3));
    assert_eq!(told("d", true), (true, 1), "a later one is all there are");
}

#[test]
fn totals_of_before_change_the_way_there_and_not_the_result() {
    let mut feeds = three_nodes();
    let of = |database: &str, container: &str| status(database, container, &[0, 1, 2], 1);
    let more = vec![of("db7", "d"), of("db5", "a"), of("db6", "x")];
    feeds.heartbeat("n0", beat(more, true, NOW), NOW).unwrap();
    let shown = |totals: &[ContainerTotal]| format!("{totals:?}");
    let before = totals(&feeds, |_| true, |_| true);
    let names: Vec<&str> = before.iter().map(|total| &*total.container).collect();
    assert_eq!(names, ["a", "c", "d", "x"]);
    let key = FeedKey { mapping_identity: "i".to_owned(), database_id: "db7".to_owned() };
    let change = Heartbeat { ended: vec![key], ..beat(vec![of("db8", "b"), of("db5", "a")], false, NOW) };
    feeds.heartbeat("n0", change, NOW).unwrap();
    for live in [&["n0", "n1", "n2"][..], &["n1"], &[]] {
        let is_live = |node: &str| live.contains(&node);
        let after = totals_after(before.clone(), &feeds, |_| true, is_live);
        assert_eq!(shown(&after), shown(&totals(&feeds, |_| true, is_live)));
        let names: Vec<&str> = after.iter().map(|total| &*total.container).collect();
        assert_eq!(names, ["a", "b", "c", "x"]);
    }
}
