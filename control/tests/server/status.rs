use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swift_s3_control::control::Settings;
use swift_s3_proto::v1::control_message::Message;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Node, Server, document, eventually, feed, hello, parked, progress, settings};

async fn containers(server: &Server) -> Vec<ContainerStatus> {
    let request = ListContainersRequest::default();
    server.status().await.list_containers(request).await.unwrap().into_inner().containers
}

async fn cluster(server: &Server) -> ClusterStatus {
    server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn lag_adds_up_from_feeds_to_containers_mappings_and_the_cluster() {
    let server = Server::start().await;
    server.apply(&document(&["c", "d", "never"]), 0).await.unwrap();
    let ids = server.mapping_ids();
    let (one, two) = (server.worker("n1").await, server.worker("n2").await);
    let half = |database: &str, replica, rows| FeedStatus {
        replicas: vec![replica],
        nodes: 2,
        ..feed(database, &ids[0], "c", rows)
    };
    one.heartbeat(vec![half("db1", 0, 3), feed("db3", &ids[1], "d", 0)]).await;
    let first = eventually(|| containers(&server), |containers| containers.len() == 2).await;
    assert!(!first[0].is_complete && first[1].is_complete, "{first:?}");
    two.heartbeat(vec![half("db2", 1, 4)]).await;
    let all = eventually(|| containers(&server), |containers| containers[0].is_complete).await;
    assert_eq!((all[0].lag.unwrap().rows, &all[0].node_ids), (7, &vec!["n1".to_owned(), "n2".to_owned()]));

    let mappings = server.status().await.list_mappings(ListMappingsRequest::default()).await.unwrap();
    let mappings = mappings.into_inner().mappings;
    assert_eq!(mappings.iter().map(|mapping| mapping.mapping_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!((mappings[0].lag.unwrap().bytes, mappings[0].containers, mappings[0].nodes_total), (70, 1, 2));
    assert_eq!(mappings[0].remote, "http://127.0.0.1:9000/bucket");
    assert!(mappings[2].lag.is_none() && !mappings[2].is_complete, "never reported is unknown");
    let status = cluster(&server).await;
    assert_eq!(
        (status.lag.unwrap().rows, status.containers, status.mappings, status.is_complete),
        (7, 2, 3, false)
    );

    let behind = ListContainersRequest { only_behind: true, ..ListContainersRequest::default() };
    let behind = server.status().await.list_containers(behind).await.unwrap().into_inner().containers;
    assert_eq!(behind.iter().map(|container| container.container.as_str()).collect::<Vec<_>>(), ["c"]);
    server.stop().await;
}

#[tokio::test]
async fn what_a_silent_node_would_know_is_unknown_also_behind_a_restart() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let mut node = server.worker("n").await;
    node.report(vec![FeedProgress { mapping_id: id.clone(), ..progress("db", "c", 1) }]).await;
    node.heartbeat(vec![feed("db", &id, "c", 5)]).await;
    eventually(|| containers(&server), |containers| containers.first().is_some_and(|c| c.is_complete)).await;
    drop(node);
    let silent = eventually(|| containers(&server), |containers| containers[0].lag.is_none()).await;
    assert!(!silent[0].is_complete && silent[0].node_ids.is_empty());

    let server = server.restart().await;
    let silent = containers(&server).await;
    assert!(silent[0].lag.is_none() && !silent[0].is_complete);
    let status = cluster(&server).await;
    assert!(status.lag.is_none() && !status.is_complete, "{status:?}");
    assert!(status.alerts.iter().any(|alert| alert.starts_with("node n on host \"test-host\" is silent")));

    // It comes back, and says that it has another database now.
    let node = server.worker("n").await;
    node.heartbeat(vec![feed("db-new", &id, "c", 1)]).await;
    eventually(|| containers(&server), |containers| containers[0].is_complete).await;
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_sends_no_heartbeat_is_unknown_though_it_is_connected() {
    let settings = Settings { silence: Duration::from_millis(400), ..settings() };
    let server = Server::start_with(Arc::new(tempfile::tempdir().unwrap()), settings, None).await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let node = server.worker("n").await;
    node.heartbeat(vec![feed("db", &id, "c", 5)]).await;
    eventually(|| containers(&server), |containers| containers.first().is_some_and(|c| c.lag.is_some()))
        .await;
    eventually(|| containers(&server), |containers| containers[0].lag.is_none()).await;
    node.heartbeat(vec![feed("db", &id, "c", 5)]).await;
    eventually(|| containers(&server), |containers| containers[0].lag.is_some()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_pause_is_durable_pushed_and_undone() {
    let server = Server::start().await;
    server.apply(&document(&["c", "d"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let mut node = server.worker("n").await;
    let mut status = server.status().await;
    let pause = PauseMappingRequest { mapping: "AUTH_a/c".to_owned() };
    let paused = status.pause_mapping(pause.clone()).await.unwrap().into_inner();
    assert_eq!((paused.mapping_id.as_str(), paused.changed), (id.as_str(), true));
    let snapshot = node.snapshot().await;
    assert_eq!((snapshot.revision, snapshot.switches.len(), snapshot.switches[0].is_paused), (1, 1, true));
    assert!(!status.pause_mapping(pause).await.unwrap().into_inner().changed);

    let server = server.restart().await;
    assert_eq!(cluster(&server).await.mappings_paused, 1);
    let mut status = server.status().await;
    let mapping = id[..6].to_owned();
    let release = ReleaseDeletesRequest { mapping: mapping.clone() };
    let refused = status.release_deletes(release.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "nothing is held");
    // By the clock of the node, which is an hour ahead.
    let node = server.worker("n").await;
    let held = |database: &str, seconds| FeedStatus {
        deletes_held_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..feed(database, &id, "c", 1)
    };
    let hour_ahead = swift_s3_control::time::now_ms() / 1_000 + 3_600;
    node.heartbeat(vec![held("db1", hour_ahead), held("db2", hour_ahead - 10_000)]).await;
    eventually(|| containers(&server), |containers| !containers.is_empty()).await;
    let released = status.release_deletes(release).await.unwrap();
    assert_eq!(released.into_inner().mapping_id, id);
    let switch = server.control.push.current().switches[0].clone();
    assert_eq!((switch.is_paused, switch.deletes_released_at.unwrap().seconds), (true, hour_ahead));
    assert!(status.resume_mapping(ResumeMappingRequest { mapping }).await.unwrap().into_inner().changed);
    let switch = server.control.push.current().switches[0].clone();
    assert!(!switch.is_paused && switch.deletes_released_at.is_some());
    for (mapping, code) in [("AUTH_a/nope", Code::NotFound), ("", Code::NotFound)] {
        let request = PauseMappingRequest { mapping: mapping.to_owned() };
        assert_eq!(status.pause_mapping(request).await.unwrap_err().code(), code);
    }
    server.stop().await;
}

#[tokio::test]
async fn failures_come_in_stable_pages_and_only_those() {
    let server = Server::start().await;
    let mut node = server.worker("n1").await;
    let mut other = server.worker("n2").await;
    let rows = |prefix: &str, count: usize| {
        (0..count)
            .map(|index| parked(&format!("{prefix}%_{index:03}"), 1))
            .chain([parked("waits", 0)])
            .collect()
    };
    let with = |database: &str, container: &str, prefix: &str, count| FeedProgress {
        parked: rows(prefix, count),
        ..progress(database, container, 1)
    };
    node.report(vec![with("db1", "c", "a", 25), with("db2", "d", "b", 5)]).await;
    other.report(vec![with("db3", "c", "a", 25)]).await;
    let mut status = server.status().await;
    let mut seen = Vec::new();
    let mut request = ListFailuresRequest { page_size: 7, ..ListFailuresRequest::default() };
    loop {
        let page = status.list_failures(request.clone()).await.unwrap().into_inner();
        // Rows that come and go before the position move nothing.
        if seen.is_empty() {
            assert_eq!(page.total, 55);
            let mut gone = progress("db1", "c", 2);
            gone.unparked = vec!["a%_000".to_owned()];
            gone.is_complete = false;
            node.report(vec![gone, with("db4", "b", "new", 3)]).await;
        }
        seen.extend(page.failures.into_iter().map(|failure| {
            (failure.account, failure.container, failure.row.unwrap().object, failure.node_id)
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 55);
    assert!(seen.is_sorted() && seen.iter().collect::<BTreeSet<_>>().len() == 55, "in order, none twice");

    let filtered = |request: ListFailuresRequest| {
        let mut status = status.clone();
        async move { status.list_failures(request).await.unwrap().into_inner().total }
    };
    let none = ListFailuresRequest::default;
    assert_eq!(filtered(ListFailuresRequest { container: "d".to_owned(), ..none() }).await, 5);
    assert_eq!(filtered(ListFailuresRequest { node_id: "n2".to_owned(), ..none() }).await, 25);
    assert_eq!(filtered(ListFailuresRequest { object_prefix: "a%_02".to_owned(), ..none() }).await, 10);
    assert_eq!(filtered(ListFailuresRequest { object_prefix: "a_".to_owned(), ..none() }).await, 0);
    assert_eq!(filtered(ListFailuresRequest { reason: "remote_refused".to_owned(), ..none() }).await, 57);
    assert_eq!(filtered(ListFailuresRequest { reason: "future_timestamp".to_owned(), ..none() }).await, 0);
    let other_question = ListFailuresRequest { account: "x".to_owned(), ..request };
    assert_eq!(status.list_failures(other_question).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn containers_come_in_pages_of_their_order() {
    let server = Server::start().await;
    server.apply(&document(&["/*"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let node = server.worker("n").await;
    node.heartbeat(
        (0..25).map(|index| feed(&format!("db{index}"), &id, &format!("c{index:02}"), 1)).collect(),
    )
    .await;
    eventually(|| containers(&server), |containers| containers.len() == 25).await;
    let mut status = server.status().await;
    let mut seen = Vec::new();
    let mut request = ListContainersRequest {
        page_size: 4,
        container_prefix: "c1".to_owned(),
        ..ListContainersRequest::default()
    };
    loop {
        let page = status.list_containers(request.clone()).await.unwrap().into_inner();
        seen.extend(page.containers.into_iter().map(|container| container.container));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, (10..20).map(|index| format!("c{index}")).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_changes_and_only_those() {
    let server = Server::start().await;
    let request = WatchStatusRequest { interval_milliseconds: 1 };
    let mut watch = server.status().await.watch_status(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status.unwrap().revision, 0);
    server.apply(&document(&["c"]), 0).await.unwrap();
    let update = watch.message().await.unwrap().unwrap();
    assert_eq!((update.status.unwrap().revision, update.mappings.len()), (1, 1));
    // Nothing changed: the next update comes with the next change, and no other before it.
    server.apply(&document(&["c", "d"]), 1).await.unwrap();
    let update = watch.message().await.unwrap().unwrap();
    assert_eq!((update.status.unwrap().revision, update.mappings.len()), (2, 2));
    server.control.stopping.cancel();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn nodes_are_asked_why_an_object_is_not_there() {
    let server = Server::start().await;
    let ask = |object: &str| {
        let object = object.to_owned();
        let server = &server;
        async move {
            let request =
                ExplainObjectRequest { account: "AUTH_a".to_owned(), container: "c".to_owned(), object };
            server.status().await.explain_object(request).await.map(tonic::Response::into_inner)
        }
    };
    assert!(ask("o").await.unwrap().verdict.starts_with("not mapped"));
    server.apply(&document(&["c"]), 0).await.unwrap();
    assert_eq!(ask("o").await.unwrap().verdict, "unknown: no worker is connected");
    assert_eq!(ask("").await.unwrap_err().code(), Code::InvalidArgument);

    let id = server.mapping_ids().remove(0);
    let mut node = server.worker("n").await;
    node.heartbeat(vec![feed("db", &id, "c", 1)]).await;
    eventually(|| containers(&server), |containers| !containers.is_empty()).await;
    let answering = async {
        let command = loop {
            if let Message::Explain(command) = node.next().await.unwrap() {
                break command;
            }
        };
        let finding = ObjectFindings {
            mapping_id: id.clone(),
            is_owner: true,
            state: ObjectState::Queued.into(),
            explanation: format!("{} is next", command.object),
            ..ObjectFindings::default()
        };
        let answer = ExplainAnswer { id: command.id, findings: vec![finding] };
        node.send(node_message::Message::ExplainAnswer(answer)).await;
    };
    let (answer, ()) = tokio::join!(ask("o/1"), answering);
    let answer = answer.unwrap();
    assert_eq!((answer.verdict.as_str(), answer.findings[0].node_id.as_str()), ("o/1 is next", "n"));
    assert!(answer.silent_nodes.is_empty() && answer.mapping_ids == [id.clone()]);

    // Connected, but it does not answer.
    let answer = ask("o").await.unwrap();
    assert_eq!(answer.verdict, "unknown: node n, which handles it, is silent");
    assert_eq!(answer.silent_nodes, ["n"]);
    server.stop().await;
}

#[tokio::test]
async fn a_mapping_is_applied_only_where_its_switch_is_and_no_problem_names_it() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let mut node = Node::connect(&server, hello("n", "p")).await;
    let applied = || async {
        let mappings = server.status().await.list_mappings(ListMappingsRequest::default()).await.unwrap();
        mappings.into_inner().mappings[0].nodes_applied
    };
    let beat = |is_paused| {
        let health = MappingHealth { mapping_id: id.clone(), is_paused, ..MappingHealth::default() };
        let heartbeat = Heartbeat { mappings: vec![health], is_complete: true, ..Heartbeat::default() };
        node_message::Message::Heartbeat(heartbeat)
    };
    let snapshot = node.snapshot().await;
    node.answer(&snapshot, ConfigOutcome::Applied).await;
    node.send(beat(false)).await;
    eventually(applied, |count| *count == 1).await;
    let pause = PauseMappingRequest { mapping: id.clone() };
    server.status().await.pause_mapping(pause).await.unwrap();
    assert_eq!(applied().await, 0, "it has not paused yet");
    node.send(beat(true)).await;
    eventually(applied, |count| *count == 1).await;

    let snapshot = node.snapshot().await;
    let problem = Problem { mapping_id: id.clone(), found: "x".to_owned(), ..Problem::default() };
    let answer = ConfigAnswer {
        nonce: snapshot.nonce,
        revision: 1,
        outcome: ConfigOutcome::PartlyApplied.into(),
        problems: vec![problem],
    };
    node.send(node_message::Message::ConfigAnswer(answer)).await;
    eventually(applied, |count| *count == 0).await;
    server.stop().await;
}
