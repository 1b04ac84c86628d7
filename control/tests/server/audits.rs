//! Questions about whole containers find a worker that can answer, and come back with its answer.

use std::time::Duration;

use swift_s3_control::control::Settings;
use swift_s3_proto::v1::audit_answer::Answer;
use swift_s3_proto::v1::audit_command::Question;
use swift_s3_proto::v1::audit_service_client::AuditServiceClient;
use swift_s3_proto::v1::control_message::Message;
use swift_s3_proto::v1::*;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::{Node, Server, document, feed, hello, settings};

async fn auditing(containers: &[&str]) -> (Server, String) {
    let settings = Settings { audit: Duration::from_millis(500), ..settings() };
    let server = Server::start_with(std::sync::Arc::new(tempfile::tempdir().unwrap()), settings, None).await;
    server.apply(&document(containers), 0).await.unwrap();
    let id = server.mapping_ids()[0].clone();
    (server, id)
}

async fn client(server: &Server) -> AuditServiceClient<Channel> {
    AuditServiceClient::new(server.channel().await)
}

/// A worker that compares.
async fn worker(server: &Server, node_id: &str, follows: &[&str]) -> Node {
    let hello = Hello { capabilities: vec!["audit".to_owned()], ..hello(node_id, "p") };
    let mut node = Node::connect(server, hello).await;
    node.welcome().await;
    node.snapshot().await;
    let feeds = follows.iter().map(|container| feed(&format!("{node_id}-{container}"), "m", container, 0));
    node.heartbeat(feeds.collect()).await;
    let address = node_id.to_owned();
    crate::support::eventually(
        async || server.control.feeds().followers("AUTH_a", follows.first().copied().unwrap_or("c")),
        |followers| follows.is_empty() || followers.contains(&address),
    )
    .await;
    node
}

async fn question(node: &mut Node) -> AuditCommand {
    loop {
        if let Message::Audit(command) = node.next().await.unwrap() {
            return command;
        }
    }
}

async fn answer(node: &Node, id: u64, answer: Answer) {
    let answer = AuditAnswer { id, answer: Some(answer), ..AuditAnswer::default() };
    node.send(node_message::Message::AuditAnswer(answer)).await;
}

async fn fail(node: &Node, id: u64, kind: AuditFailure) {
    let answer = AuditAnswer {
        id,
        failure: "because".to_owned(),
        failure_kind: kind.into(),
        ..AuditAnswer::default()
    };
    node.send(node_message::Message::AuditAnswer(answer)).await;
}

fn compare(mapping_id: &str) -> CompareContainerRequest {
    CompareContainerRequest {
        mapping_id: mapping_id.to_owned(),
        account: "AUTH_a".to_owned(),
        container: "c".to_owned(),
        ..CompareContainerRequest::default()
    }
}

#[tokio::test]
async fn the_worker_that_follows_the_container_is_asked_and_answers() {
    let (server, id) = auditing(&["c"]).await;
    let _other = worker(&server, "a", &[]).await;
    let mut follower = worker(&server, "b", &["c"]).await;
    let mut client = client(&server).await;
    let asked = tokio::spawn(async move { client.compare_container(compare("AUTH_a/c")).await });
    let command = question(&mut follower).await;
    let Some(Question::Compare(request)) = command.question else { panic!("{command:?}") };
    assert_eq!((request.mapping_id, request.is_prefix_shared), (id, false), "the id stands for the name");
    let counts = Some(CompareCounts { compared: 7, ..CompareCounts::default() });
    let page = CompareContainerResponse { counts, is_done: true, ..CompareContainerResponse::default() };
    answer(&follower, command.id, Answer::Compare(page.clone())).await;
    assert_eq!(asked.await.unwrap().unwrap().into_inner(), page);
    server.stop().await;
}

#[tokio::test]
async fn another_worker_is_asked_when_one_fails_is_silent_or_goes() {
    let (server, id) = auditing(&["c"]).await;
    let mut nodes = Vec::new();
    for node_id in ["a", "b", "c"] {
        nodes.push(worker(&server, node_id, &["c"]).await);
    }
    let mut client = client(&server).await;
    let asked = tokio::spawn(async move { client.compare_container(compare(&id)).await });
    // Whoever is asked first does not serve it, the second goes away; the third answers.
    let mut step = 0;
    while step < 3 {
        let questions = nodes.iter_mut().map(|node| Box::pin(question(node)));
        let (command, index, _) = futures_util::future::select_all(questions).await;
        match step {
            0 => fail(&nodes[index], command.id, AuditFailure::NotServed).await,
            1 => drop(nodes.remove(index)),
            _ => {
                answer(&nodes[index], command.id, Answer::Compare(CompareContainerResponse::default())).await
            }
        }
        step += 1;
    }
    asked.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_final_and_unknown_things_not_found() {
    let (server, id) = auditing(&["c"]).await;
    let mut client = client(&server).await;
    let nobody = client.compare_container(compare(&id)).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
    let mut node = worker(&server, "a", &["c"]).await;
    let unmapped = CompareContainerRequest { container: "d".to_owned(), ..compare(&id) };
    assert_eq!(client.compare_container(unmapped).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.compare_container(compare("none")).await.unwrap_err().code(), Code::NotFound);
    for (kind, code) in [
        (AuditFailure::Refused, Code::FailedPrecondition),
        (AuditFailure::NoContainer, Code::NotFound),
        (AuditFailure::Unspecified, Code::Unavailable),
    ] {
        let (mut client, id) = (client.clone(), id.clone());
        let asked = tokio::spawn(async move { client.compare_container(compare(&id)).await });
        let command = question(&mut node).await;
        fail(&node, command.id, kind).await;
        let status = asked.await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message().contains("because")), (code, true));
    }
    // A worker that says nothing.
    let (mut other, id) = (client.clone(), id.clone());
    let asked = tokio::spawn(async move { other.compare_container(compare(&id)).await });
    question(&mut node).await;
    assert_eq!(asked.await.unwrap().unwrap_err().code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn a_name_is_repaired_by_its_own_worker_or_by_another_that_has_its_row() {
    let (server, id) = auditing(&["c"]).await;
    let mut first = worker(&server, "a", &["c"]).await;
    let mut second = worker(&server, "b", &["c"]).await;
    let mut client = client(&server).await;
    let request = RepairObjectsRequest {
        mapping_id: id,
        account: "AUTH_a".to_owned(),
        container: "c".to_owned(),
        objects: ["mine", "orphan", "gone"].map(str::to_owned).to_vec(),
        action: RepairAction::Copy.into(),
        ..RepairObjectsRequest::default()
    };
    let asked = tokio::spawn(async move { client.repair_objects(request).await });
    let result = |object: &str, outcome: RepairOutcome| RepairResult {
        object: object.to_owned(),
        outcome: outcome.into(),
        ..RepairResult::default()
    };
    let repaired = |results: Vec<RepairResult>| Answer::Repair(RepairObjectsResponse { results });
    use RepairOutcome::{Copied, NoRow, OtherNode};
    let command = question(&mut first).await;
    let results = vec![result("mine", Copied), result("orphan", OtherNode), result("gone", NoRow)];
    answer(&first, command.id, repaired(results)).await;
    let command = question(&mut second).await;
    let results = vec![result("mine", OtherNode), result("orphan", NoRow), result("gone", NoRow)];
    answer(&second, command.id, repaired(results)).await;
    // Nobody who is there owns it: whoever has the row handles it.
    let command = question(&mut first).await;
    let Some(Question::Repair(again)) = command.question else { panic!("{command:?}") };
    assert_eq!((again.objects, again.any_node), (vec!["orphan".to_owned()], true));
    answer(&first, command.id, repaired(vec![result("orphan", Copied)])).await;
    let results = asked.await.unwrap().unwrap().into_inner().results;
    let told: Vec<(&str, RepairOutcome, &str)> = results
        .iter()
        .map(|result| (result.object.as_str(), result.outcome(), result.node_id.as_str()))
        .collect();
    assert_eq!(told, [("gone", NoRow, ""), ("mine", Copied, "a"), ("orphan", Copied, "a")]);
    server.stop().await;
}
