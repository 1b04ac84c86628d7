use std::time::Duration;

use swift_s3_control::control::Settings;
use swift_s3_proto::v1::control_message::Message;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Node, Server, document, eventually, hello, message, settings};

async fn listed(server: &Server) -> Vec<NodeStatus> {
    server.status().await.list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes
}

#[tokio::test]
async fn a_node_registers_gets_the_configuration_and_its_answer_shows() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = Node::connect(&server, hello("n", "p")).await;
    let welcome = node.welcome().await;
    assert_eq!((welcome.heartbeat_milliseconds, welcome.control_id == server.control.id), (500, true));
    let snapshot = node.snapshot().await;
    assert_eq!((snapshot.revision, snapshot.nonce.is_empty()), (1, false));
    assert_eq!(listed(&server).await[0].state(), NodeState::Stale);

    node.answer(&snapshot, ConfigOutcome::Applying).await;
    node.answer(&snapshot, ConfigOutcome::Applied).await;
    let nodes = eventually(|| listed(&server), |nodes| nodes[0].state() == NodeState::Synced).await;
    assert_eq!((nodes[0].revision, nodes[0].push_seconds.is_some()), (1, true));

    // Each change is pushed at once, with a new nonce; what is rejected is not sent again.
    server.apply(&document(&["c", "d"]), 1).await.unwrap();
    let second = node.snapshot_of(2).await;
    assert_ne!(second.nonce, snapshot.nonce);
    let problems =
        vec![Problem { path: "containers[1]".to_owned(), found: "x".to_owned(), ..Problem::default() }];
    let answer = ConfigAnswer {
        nonce: second.nonce.clone(),
        revision: 2,
        outcome: ConfigOutcome::Rejected.into(),
        problems: problems.clone(),
    };
    node.send(node_message::Message::ConfigAnswer(answer)).await;
    let nodes = eventually(|| listed(&server), |nodes| nodes[0].state() == NodeState::Rejected).await;
    assert_eq!((nodes[0].revision, &nodes[0].problems), (1, &problems));
    let alerts = server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner().alerts;
    assert!(
        alerts.iter().any(|alert| alert.contains("refused some or all of revision 2: containers[1]")),
        "{alerts:?}"
    );
    server.apply(&document(&["c"]), 2).await.unwrap();
    assert_eq!(node.snapshot().await.revision, 3, "the rejected one was not repeated");
    server.stop().await;
}

#[tokio::test]
async fn a_second_process_of_a_node_is_refused_until_the_first_is_gone() {
    let server = Server::start().await;
    let first = server.worker("n").await;
    let mut second = Node::connect(&server, hello("n", "q")).await;
    let refused = second.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("test-host"), "{refused:?}");
    drop(first);
    eventually(|| listed(&server), |nodes| nodes[0].connected_at.is_none()).await;
    Node::connect(&server, hello("n", "q")).await.welcome().await;
    server.stop().await;
}

#[tokio::test]
async fn a_process_that_reconnects_replaces_its_old_stream() {
    let server = Server::start().await;
    let mut old = server.worker("n").await;
    let mut new = Node::connect(&server, hello("n", "p")).await;
    new.welcome().await;
    let ended = loop {
        if let Err(status) = old.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    assert!(listed(&server).await[0].connected_at.is_some());
    assert_eq!(new.report(Vec::new()).await, "");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_greeting_ends() {
    let server = Server::start().await;
    let (out, messages) = tokio::sync::mpsc::channel(4);
    out.send(message(node_message::Message::Heartbeat(Heartbeat::default()))).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut incoming = server.nodes().await.session(stream).await.unwrap().into_inner();
    assert_eq!(incoming.message().await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(listed(&server).await.is_empty());

    let mut twice = server.worker("n").await;
    twice.send(node_message::Message::Hello(hello("n", "p"))).await;
    assert_eq!(twice.next().await.unwrap_err().code(), Code::FailedPrecondition);
    server.stop().await;
}

#[tokio::test]
async fn unknown_messages_and_answers_to_nothing_are_ignored() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let stale = Snapshot { nonce: "never sent".to_owned(), ..Snapshot::default() };
    node.answer(&stale, ConfigOutcome::Rejected).await;
    node.send(node_message::Message::ExplainAnswer(ExplainAnswer { id: 99, findings: Vec::new() })).await;
    assert_eq!(node.report(Vec::new()).await, "");
    server.stop().await;
}

#[tokio::test]
async fn limits_are_divided_over_the_workers_that_are_connected() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let mut one = server.worker("a").await;
    let two = server.worker("b").await;
    let mut shunt = Node::connect(&server, Hello { role: Role::Shunt.into(), ..hello("s", "p") }).await;
    shunt.welcome().await;
    loop {
        if one.snapshot().await.worker_count == 2 {
            break;
        }
    }
    drop(two);
    loop {
        if one.snapshot().await.worker_count == 1 {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_does_not_read_is_cut_off_and_holds_nobody() {
    let server = Server::start().await;
    let large = |index: usize| {
        document(&["c"]).replacen('{', &format!("{{\"// {index}\":\"{}\",", "x".repeat(2_000_000)), 1)
    };
    let _slow = Node::connect(&server, hello("slow", "p")).await;
    let mut quick = server.worker("quick").await;
    // Never read from: its window fills, and then the queue behind it.
    for index in 0..8 {
        server.apply(&large(index), index as i64).await.unwrap();
        quick.snapshot_of(index as i64 + 1).await;
    }
    let is_gone = |nodes: &Vec<NodeStatus>| {
        nodes.iter().any(|node| node.node_id == "slow" && node.connected_at.is_none())
    };
    let nodes = eventually(|| listed(&server), is_gone).await;
    assert!(nodes.iter().any(|node| node.node_id == "quick" && node.connected_at.is_some()));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_with_unavailable_and_keeps_what_was_acknowledged() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    node.report(vec![crate::support::progress("db", "c", 5)]).await;
    let stopping = tokio::spawn(server.restart());
    let ended = loop {
        if let Err(status) = node.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
    let server = stopping.await.unwrap();
    let nodes = listed(&server).await;
    assert_eq!((nodes.len(), nodes[0].state(), nodes[0].host.as_str()), (1, NodeState::NotSeen, "test-host"));
    server.stop().await;
}

#[tokio::test]
async fn a_silent_node_is_not_seen_and_can_be_forgotten_once_it_is_gone() {
    let settings = Settings { silence: Duration::from_millis(300), ..settings() };
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(folder, settings, None).await;
    let node = server.worker("n").await;
    eventually(|| listed(&server), |nodes| nodes[0].state() == NodeState::NotSeen).await;
    let forget = ForgetNodeRequest { node_id: "n".to_owned() };
    let refused = server.status().await.forget_node(forget.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    drop(node);
    eventually(|| listed(&server), |nodes| nodes[0].connected_at.is_none()).await;
    assert_eq!(listed(&server).await.len(), 1);
    server.status().await.forget_node(forget.clone()).await.unwrap();
    assert!(listed(&server).await.is_empty(), "at once, not with the next overview");
    assert_eq!(server.status().await.forget_node(forget).await.unwrap_err().code(), Code::NotFound);
    let server = server.restart().await;
    assert!(listed(&server).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn nodes_come_in_pages_and_by_state() {
    let server = Server::start().await;
    let mut nodes = Vec::new();
    for index in 0..5 {
        nodes.push(server.worker(&format!("n{index}")).await);
    }
    let mut status = server.status().await;
    let mut seen = Vec::new();
    let mut request = ListNodesRequest { page_size: 2, ..ListNodesRequest::default() };
    loop {
        let page = status.list_nodes(request.clone()).await.unwrap().into_inner();
        seen.extend(page.nodes.into_iter().map(|node| node.node_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ["n0", "n1", "n2", "n3", "n4"]);
    let silent = ListNodesRequest { state: NodeState::NotSeen.into(), ..ListNodesRequest::default() };
    assert!(status.list_nodes(silent).await.unwrap().into_inner().nodes.is_empty());
    let bad = ListNodesRequest { page_token: "made up".to_owned(), ..ListNodesRequest::default() };
    assert_eq!(status.list_nodes(bad).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn retries_reach_the_nodes_that_have_the_rows() {
    let server = Server::start().await;
    let mut with = server.worker("with").await;
    let without = server.worker("without").await;
    let mut feed = crate::support::progress("db", "c", 1);
    feed.parked = vec![
        crate::support::parked("o1", 2),
        crate::support::parked("o2", 1),
        crate::support::parked("w", 0),
    ];
    with.report(vec![feed]).await;
    let request = RetryFailuresRequest { container: "c".to_owned(), ..RetryFailuresRequest::default() };
    let told = server.status().await.retry_failures(request).await.unwrap().into_inner();
    assert_eq!((told.matched, told.nodes_told), (2, 1));
    let command = loop {
        if let Message::Retry(command) = with.next().await.unwrap() {
            break command;
        }
    };
    assert_eq!(command, RetryCommand { container: "c".to_owned(), ..RetryCommand::default() });
    drop(without);
    server.stop().await;
}
