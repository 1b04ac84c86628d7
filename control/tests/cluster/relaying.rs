//! Any process serves any client.

use swift_s3_proto::v1::policy_service_client::PolicyServiceClient;
use swift_s3_proto::v1::*;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::etcd::EtcdProcess;
use crate::processes::pair;
use crate::support::{SECRET, document, eventually, feed, parked, progress};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_an_operator_at_different_processes_work_together() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    let mut node = follower.node("n").await;
    assert_eq!(node.snapshot().await.revision, 0);
    assert_eq!(leader.apply(&document(&["c"]), 0).await.unwrap(), 1);
    let snapshot = node.snapshot_of(1).await;
    assert!(String::from_utf8_lossy(&snapshot.document).contains(SECRET));
    node.answer(&snapshot, ConfigOutcome::Applied).await;
    let synced = || async {
        leader.status().await.list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes
    };
    eventually(synced, |nodes| nodes.len() == 1 && nodes[0].state() == NodeState::Synced).await;

    // Progress is acknowledged, and each process gives it back.
    let mut told = progress("db", "c", 7);
    told.parked = vec![parked("o", 3)];
    assert_eq!(node.report(vec![told]).await, "");
    for process in [&leader, &follower] {
        assert_eq!(process.cursor("db").await.unwrap(), Some(7));
        let failures = process.status().await.list_failures(ListFailuresRequest::default()).await;
        assert_eq!(failures.unwrap().into_inner().failures.len(), 1);
    }

    // Questions that the leader asks come through to the node, and its answers back.
    let retry = RetryFailuresRequest { object: "o".to_owned(), ..RetryFailuresRequest::default() };
    let retried = follower.status().await.retry_failures(retry).await.unwrap().into_inner();
    assert_eq!((retried.matched, retried.nodes_told), (1, 1));
    loop {
        if let control_message::Message::Retry(command) = node.next().await.unwrap() {
            assert_eq!(command.object, "o");
            break;
        }
    }
    let explain = ExplainObjectRequest {
        account: "AUTH_a".to_owned(),
        container: "c".to_owned(),
        object: "o".to_owned(),
    };
    let mut status = follower.status().await;
    let asked = tokio::spawn(async move { status.explain_object(explain).await });
    loop {
        if let control_message::Message::Explain(command) = node.next().await.unwrap() {
            let answer = ExplainAnswer { id: command.id, ..ExplainAnswer::default() };
            node.send(node_message::Message::ExplainAnswer(answer)).await;
            break;
        }
    }
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_shunts_and_watchers_come_through() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    let mut policies = PolicyServiceClient::new(follower.channel().await);
    let mut policy = policies.watch_snapshot(WatchSnapshotRequest::default()).await.unwrap().into_inner();
    let request = WatchStatusRequest { interval_milliseconds: 100 };
    let mut watched = follower.status().await.watch_status(request).await.unwrap().into_inner();
    let node = leader.node("n").await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    node.heartbeat(vec![feed("db", "m", "c", 3)]).await;
    loop {
        let update = watched.message().await.unwrap().unwrap();
        if update.status.unwrap().revision == 1 && update.mappings.len() == 1 {
            break;
        }
    }
    loop {
        if policy.message().await.unwrap().unwrap().revision == 1 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_comes_through_and_health_is_each_process_s_own() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    let mut reflection = ServerReflectionClient::new(follower.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    assert!(answer.contains("swift_s3_sync.v1.StatusService"), "{answer}");

    let health = |channel| async move {
        let asked = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        asked.unwrap().into_inner().status()
    };
    for process in [&leader, &follower] {
        assert_eq!(health(process.channel().await).await, ServingStatus::Serving);
    }
    // Alone and without etcd, nobody can lead.
    drop(etcd);
    leader.kill();
    let channel = follower.channel().await;
    let status = eventually(|| follower.revision(), Result::is_err).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    // The last leader is known, and calls go there; whether it answers is another question.
    assert_eq!(health(channel).await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_through_different_processes_one_is_refused() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    let (first, second) = (document(&["a"]), document(&["b"]));
    let (one, other) = tokio::join!(leader.apply(&first, 0), follower.apply(&second, 0));
    let (mut won, mut lost) = (0, 0);
    for outcome in [one, other] {
        match outcome {
            Ok(1) => won += 1,
            Err(status) if status.code() == Code::Aborted => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((won, lost), (1, 1));
    assert_eq!(follower.revision().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reads_slowly_does_not_hold_up_others_at_the_same_process() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    // Each answer is larger than what may lie in a stream.
    let containers: Vec<String> = (0..20_000).map(|number| format!("container-{number}")).collect();
    let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
    let large = document(&containers);
    let mut lazy = Vec::new();
    for number in 0..12 {
        // Never read from.
        lazy.push(follower.node(&format!("lazy-{number}")).await);
    }
    let mut node = follower.node("n").await;
    leader.apply(&large, 0).await.unwrap();
    assert!(node.snapshot_of(1).await.document.len() > 4_000_000);
    assert_eq!(node.report(vec![progress("db", "c", 1)]).await, "");
    assert_eq!(follower.revision().await.unwrap(), 1);
}
