#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::swift::backend::BackendTimeouts;
use crate::swift::testing::{FakeCluster, FakeServer, Reply, Seen};

fn backend() -> Backend {
    let quick = Duration::from_millis(200);
    Backend::new(BackendTimeouts { connect: quick, response: quick, stall: quick })
}

async fn cluster(answers: Vec<Answer>) -> (FakeCluster, ContainerServers, Vec<FakeServer>) {
    let mut servers = Vec::new();
    for answer in answers {
        servers.push(FakeServer::start("127.0.0.1", answer).await);
    }
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let cluster = FakeCluster::new(&addresses);
    let asking = ContainerServers::new(cluster.topology(), backend());
    (cluster, asking, servers)
}

/// How a fake server answers.
type Answer = fn(&Seen) -> Reply;

fn missing(_: &Seen) -> Reply {
    Reply::new("404 Not Found", &[], b"<html/>")
}

fn broken(_: &Seen) -> Reply {
    Reply::new("500 Internal Error", &[], b"<html/>")
}

fn names(_: &Seen) -> Reply {
    let list = json!([{"name": "a", "count": 1, "bytes": 2}, {"name": "b/\u{e9}", "count": 0, "bytes": 0}]);
    Reply::new("200 OK", &[], list.to_string().as_bytes())
}

#[tokio::test]
async fn a_head_tells_the_container_and_merges_its_rows() {
    let (cluster, asking, servers) = cluster(vec![
        |_| {
            let headers = [("X-Backend-Storage-Policy-Index", "3"), ("X-Backend-Sharding-State", "sharding")];
            Reply::new("204 No Content", &headers, b"")
        },
        |_| Reply::new("404 Not Found", &[("Content-Length", "70")], b""),
        broken,
    ])
    .await;
    let place = cluster.topology().container("AUTH_a", "c /\u{e9}").unwrap();
    let ask = |index: usize| asking.flush_pending(&place, &place.replicas[index], "AUTH_a", "c /\u{e9}");
    let head = ask(0).await.unwrap();
    assert_eq!(
        head,
        ContainerHead { exists: true, policy_index: Some(3), sharding: Some(ShardingState::Sharding) }
    );
    assert!(!ask(1).await.unwrap().exists);
    assert!(matches!(ask(2).await, Err(ContainerServerError::Status { .. })));
    let seen = &servers[0].seen()[0];
    assert_eq!(seen.method(), "HEAD");
    assert_eq!(seen.target(), "/sd0/0/AUTH_a/c%20/%C3%A9");
}

#[tokio::test]
async fn containers_come_from_the_first_replica_that_knows() {
    let (_cluster, asking, servers) = cluster(vec![missing, broken, names]).await;
    assert_eq!(asking.list_containers("AUTH_a", "", 100).await.unwrap(), ["a", "b/\u{e9}"]);
    assert_eq!(asking.list_containers("AUTH_a", "a&b=\u{e9}/", 7).await.unwrap(), ["b/\u{e9}"]);
    let targets: Vec<String> = servers[2].seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(
        targets,
        ["/sd2/0/AUTH_a?format=json&limit=100", "/sd2/0/AUTH_a?format=json&limit=7&marker=a%26b%3D%C3%A9%2F"]
    );
}

#[tokio::test]
async fn an_account_is_empty_only_if_enough_replicas_say_so() {
    let table: [(Vec<Answer>, bool); 4] = [
        (vec![missing, missing, missing], true),
        (vec![missing, broken, missing], true),
        (vec![missing, broken, broken], false),
        (vec![broken, broken, broken], false),
    ];
    for (number, (answers, is_empty)) in table.into_iter().enumerate() {
        let (_cluster, asking, _servers) = cluster(answers).await;
        let found = asking.list_containers("AUTH_a", "", 100).await;
        assert_eq!(found.as_ref().is_ok_and(Vec::is_empty), is_empty, "{number}: {found:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_list_or_breaks_off_is_an_error() {
    let table: [Answer; 4] = [
        |_| Reply::new("200 OK", &[], b"<html/>"),
        |_| Reply::new("200 OK", &[], br#"[{"count": 1}]"#),
        |_| Reply::new("200 OK", &[("Content-Length", "99")], b"[]"),
        |_| Reply::Close(crate::swift::testing::wire("200 OK", &[("Content-Length", "99")], b"[]")),
    ];
    for (number, answer) in table.into_iter().enumerate() {
        let (_cluster, asking, _servers) = cluster(vec![answer]).await;
        let found = asking.list_containers("AUTH_a", "", 100).await;
        assert!(found.is_err(), "{number}: {found:?}");
    }
}

fn shards(_: &Seen) -> Reply {
    let shard = |name: &str, lower: &str, upper: &str, deleted: u8| {
        json!({"name": name, "timestamp": "1500000000.00000", "lower": lower, "upper": upper, "object_count": 1,
               "bytes_used": 2, "meta_timestamp": "1500000000.00000", "deleted": deleted, "state": 40,
               "state_timestamp": "1500000000.00000", "epoch": null, "reported": 0, "tombstones": -1,
               "last_modified": "2017-07-14T02:40:00.000000"})
    };
    let list = json!([
        shard(".shards_AUTH_a/c-0", "", "m", 0),
        shard(".shards_AUTH_a/c-1", "m", "", 0),
        shard(".shards_AUTH_a/c-old", "", "", 1),
        shard("AUTH_a/c", "", "", 0),
        shard("nowhere", "", "", 0)
    ]);
    let headers = [("X-Backend-Record-Type", "shard"), ("X-Backend-Sharding-State", "sharded")];
    Reply::new("200 OK", &headers, list.to_string().as_bytes())
}

#[tokio::test]
async fn shards_are_asked_for_by_kind_and_checked() {
    let (cluster, asking, servers) = cluster(vec![shards]).await;
    let place = cluster.topology().container("AUTH_a", "c").unwrap();
    let listing = asking.shard_ranges(&place, "AUTH_a", "c").await.unwrap().unwrap();
    assert_eq!(listing.state, ShardingState::Sharded);
    let found: Vec<(&str, &str, &str)> = listing
        .ranges
        .iter()
        .map(|range| (range.container.as_str(), range.lower.as_str(), range.upper.as_str()))
        .collect();
    assert_eq!(found, [("c-0", "", "m"), ("c-1", "m", "")]);
    assert_eq!(listing.problems.len(), 1, "{:?}", listing.problems);
    let seen = &servers[0].seen()[0];
    assert_eq!(seen.target(), "/sd0/0/AUTH_a/c?format=json");
    assert_eq!(seen.header("X-Backend-Record-Type"), Some("shard"));
}

#[tokio::test]
async fn replicas_take_turns_for_shards_and_objects_are_no_shards() {
    let (cluster, asking, servers) = cluster(vec![shards, shards, shards]).await;
    let place = cluster.topology().container("AUTH_a", "c").unwrap();
    for _ in 0..6 {
        asking.shard_ranges(&place, "AUTH_a", "c").await.unwrap();
    }
    assert!(servers.iter().all(|server| server.seen().len() == 2));

    let (cluster, asking, _servers) = self::cluster(vec![names]).await;
    let place = cluster.topology().container("AUTH_a", "c").unwrap();
    assert!(matches!(
        asking.shard_ranges(&place, "AUTH_a", "c").await,
        Err(ContainerServerError::Content { .. })
    ));
    let (cluster, asking, _servers) = self::cluster(vec![missing]).await;
    let place = cluster.topology().container("AUTH_a", "c").unwrap();
    assert_eq!(asking.shard_ranges(&place, "AUTH_a", "c").await.unwrap(), None);
}
