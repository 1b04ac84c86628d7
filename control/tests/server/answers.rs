//! What the pages of an operator ask: failures by reason, one mapping in words, the containers that matter.

use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{SECRET, Server, document, eventually, feed, parked, progress};

fn failed(object: &str, reason: &str) -> ParkedRow {
    ParkedRow { reason: reason.to_owned(), ..parked(object, 3) }
}

async fn reasons(server: &Server, mapping_id: &str, account: &str, container: &str) -> Vec<(String, u64)> {
    let request = CountFailuresRequest {
        mapping_id: mapping_id.to_owned(),
        account: account.to_owned(),
        container: container.to_owned(),
    };
    let counted = server.status().await.count_failures(request).await.unwrap().into_inner();
    counted.reasons.into_iter().map(|count| (count.reason, count.rows)).collect()
}

#[tokio::test]
async fn failures_are_counted_by_reason_and_place() {
    let server = Server::start().await;
    server.apply(&document(&["c", "d"]), 0).await.unwrap();
    let ids = server.mapping_ids();
    let mut node = server.worker("n").await;
    let rows = |reasons: &[&str]| -> Vec<ParkedRow> {
        let numbered = reasons.iter().enumerate();
        // One that only waits for its time is no failure.
        numbered
            .map(|(index, reason)| failed(&format!("o{index}"), reason))
            .chain([parked("later", 0)])
            .collect()
    };
    let of = |database: &str, container: &str, mapping: &str, parked| FeedProgress {
        mapping_id: mapping.to_owned(),
        parked,
        ..progress(database, container, 1)
    };
    let feeds = vec![
        of("db1", "c", &ids[0], rows(&["remote_refused", "local_missing", "remote_refused"])),
        of("db2", "c", &ids[0], rows(&["local_missing"])),
        of("db3", "d", &ids[1], rows(&["remote_refused", "key_too_long"])),
    ];
    assert_eq!(node.report(feeds).await, "");
    let named = |counts: &[(&str, u64)]| -> Vec<(String, u64)> {
        counts.iter().map(|(reason, rows)| ((*reason).to_owned(), *rows)).collect()
    };
    let all = named(&[("remote_refused", 3), ("local_missing", 2), ("key_too_long", 1)]);
    assert_eq!(reasons(&server, "", "", "").await, all);
    assert_eq!(reasons(&server, "", "AUTH_a", "").await, all);
    assert_eq!(
        reasons(&server, &ids[0], "", "").await,
        named(&[("local_missing", 2), ("remote_refused", 2)])
    );
    assert_eq!(
        reasons(&server, "", "AUTH_a", "d").await,
        named(&[("key_too_long", 1), ("remote_refused", 1)])
    );
    assert_eq!(reasons(&server, &ids[0], "AUTH_a", "d").await, []);
    assert_eq!(reasons(&server, "", "AUTH_b", "").await, []);
    server.stop().await;
}

#[tokio::test]
async fn more_reasons_than_there_are_words_for_are_cut_to_the_most_frequent() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let rows = (0..300).map(|index| failed(&format!("o{index}"), &format!("reason-{:03}", index % 150)));
    let often = (0..5).map(|index| failed(&format!("p{index}"), "remote_refused"));
    let feed = FeedProgress { parked: rows.chain(often).collect(), ..progress("db", "c", 1) };
    assert_eq!(node.report(vec![feed]).await, "");
    let counted = reasons(&server, "", "", "").await;
    assert_eq!((counted.len(), &counted[0]), (100, &("remote_refused".to_owned(), 5)));
    server.stop().await;
}

#[tokio::test]
async fn a_mapping_is_told_in_words_with_its_failures_and_without_its_secrets() {
    let server = Server::start().await;
    let refused = |name: &str| {
        let request = DescribeMappingRequest { mapping: name.to_owned() };
        let server = &server;
        async move { server.status().await.describe_mapping(request).await.unwrap_err().code() }
    };
    assert_eq!(refused("AUTH_a/c").await, Code::NotFound);
    server.apply(&document(&["c", "d"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(1);
    let mut node = server.worker("n").await;
    let parked = vec![failed("o", "remote_refused")];
    let feed = FeedProgress { mapping_id: id.clone(), parked, ..progress("db", "d", 1) };
    assert_eq!(node.report(vec![feed]).await, "");
    let request = DescribeMappingRequest { mapping: "AUTH_a/d".to_owned() };
    let told = server.status().await.describe_mapping(request.clone()).await.unwrap().into_inner();
    assert_eq!(told.path, "containers[1]");
    assert_eq!(told.status.as_ref().unwrap().mapping_id, id);
    assert_eq!(told.policy[0], "Every change in AUTH_a/d goes to bucket bucket at http://127.0.0.1:9000.");
    assert_eq!(told.failure_reasons, [FailureCount { reason: "remote_refused".to_owned(), rows: 1 }]);
    let element: serde_json::Value = serde_json::from_str(&told.document).unwrap();
    assert_eq!((&element["container"], &element["aws_secret"]), (&"d".into(), &"***".into()));
    assert!(!format!("{told:?}").contains(SECRET));
    assert_eq!(refused("AUTH_a/x").await, Code::NotFound);

    // What an operator changes is told at once.
    server.apply(&document(&["d", "e"]), 1).await.unwrap();
    let pause = PauseMappingRequest { mapping: id.clone() };
    server.status().await.pause_mapping(pause).await.unwrap();
    let told = server.status().await.describe_mapping(request).await.unwrap().into_inner();
    assert_eq!((told.path.as_str(), told.status.unwrap().is_paused), ("containers[0]", true));
    assert_eq!(refused("AUTH_a/c").await, Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn containers_are_found_by_a_part_of_their_name_and_by_how_far_they_are_behind() {
    let server = Server::start().await;
    server.apply(&document(&["/*"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let node = server.worker("n").await;
    let lag = |seconds: f64, rows| Some(Lag { seconds, rows, ..Lag::default() });
    let names = [
        ("Photos-2024", lag(5.0, 1)),
        ("photos-2025", lag(60.0, 1)),
        ("films", lag(3_600.0, 1)),
        ("old-PHOTOS", lag(60.0, 7)),
        ("unknown-photos", None),
    ];
    let feeds = names.iter().map(|(name, lag)| FeedStatus { lag: *lag, ..feed(name, &id, name, 1) });
    node.heartbeat(feeds.collect()).await;
    let status = server.status().await;
    let ask = |request: ListContainersRequest| {
        let mut status = status.clone();
        async move {
            let found = status.list_containers(request).await.unwrap().into_inner();
            let names: Vec<String> = found.containers.into_iter().map(|one| one.container).collect();
            (names, found.next_page_token)
        }
    };
    eventually(|| ask(ListContainersRequest::default()), |(names, _)| names.len() == 5).await;
    let search = ListContainersRequest { container_contains: "pHoToS".to_owned(), ..Default::default() };
    let in_order = ["Photos-2024", "old-PHOTOS", "photos-2025", "unknown-photos"];
    assert_eq!(ask(search.clone()).await.0, in_order);
    let first = ListContainersRequest { page_size: 3, ..search.clone() };
    let (names, token) = ask(first.clone()).await;
    assert_eq!(names, in_order[..3]);
    let rest = ListContainersRequest { page_token: token.clone(), ..first.clone() };
    assert_eq!(ask(rest).await, (vec!["unknown-photos".to_owned()], String::new()));
    let other =
        ListContainersRequest { container_contains: "films".to_owned(), page_token: token.clone(), ..first };
    assert_eq!(status.clone().list_containers(other).await.unwrap_err().code(), Code::InvalidArgument);

    let by_lag = ListContainersRequest { order: ContainerOrder::Lag.into(), ..Default::default() };
    let worst = ["unknown-photos", "films", "old-PHOTOS", "photos-2025", "Photos-2024"];
    assert_eq!(ask(by_lag.clone()).await, (worst.map(str::to_owned).to_vec(), String::new()));
    let top = ListContainersRequest { page_size: 2, ..by_lag.clone() };
    assert_eq!(ask(top).await, (worst[..2].iter().map(|name| (*name).to_owned()).collect(), String::new()));
    let found = ListContainersRequest { order: ContainerOrder::Lag.into(), page_size: 1, ..search };
    assert_eq!(ask(found).await.0, ["unknown-photos"]);
    let paged = ListContainersRequest { page_token: token, ..by_lag };
    assert_eq!(status.clone().list_containers(paged).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}
