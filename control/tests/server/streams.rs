//! Streams that end, and why.

use std::sync::Arc;

use swift_s3_control::access::Access;
use swift_s3_proto::v1::*;
use tonic::{Code, Request, Status};

use crate::support::{LOG, Node, Server, document, eventually, feed, hello, message, progress};

const FILE: &str = r#"
[[access]]
name = "worker-1"
role = "node"
token = "token-of-nodes-0123"
[[access]]
name = "eyes"
role = "viewer"
token = "token-of-viewers-0123"
"#;

fn enforce(server: &Server, file: &str) {
    server
        .doors
        .access
        .send_replace(Arc::new(Access::parse(file, |_| unreachable!("no token files")).unwrap()));
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The status that the stream ends with.
async fn end<T>(stream: &mut tonic::Streaming<T>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("a clean end"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, ended).await.expect("the stream ends")
}

#[tokio::test]
async fn whoever_is_taken_off_the_access_file_loses_streams_that_are_open() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    enforce(&server, FILE);
    let (out, messages) = tokio::sync::mpsc::channel(4);
    out.send(message(node_message::Message::Hello(hello("n", "p")))).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut nodes = server.nodes().await;
    let mut session = nodes.session(with_token(stream, "token-of-nodes-0123")).await.unwrap().into_inner();
    session.message().await.unwrap();
    let mut policy = server.policy().await;
    let watch = with_token(WatchSnapshotRequest::default(), "token-of-nodes-0123");
    let mut snapshots = policy.watch_snapshot(watch).await.unwrap().into_inner();
    let mut status = server.status().await;
    let watch = |token| with_token(WatchStatusRequest { interval_milliseconds: 100 }, token);
    let mut viewer = status.watch_status(watch("token-of-viewers-0123")).await.unwrap().into_inner();
    viewer.message().await.unwrap();

    // Another role is as good as none.
    enforce(&server, &FILE.replace("\"node\"", "\"viewer\""));
    assert_eq!(end(&mut session).await.code(), Code::Unauthenticated);
    assert_eq!(end(&mut snapshots).await.code(), Code::Unauthenticated);
    let is_connected = || async { server.control.registry.is_connected("n") };
    eventually(is_connected, |is_connected| *is_connected == Some(false)).await;
    assert!(viewer.message().await.unwrap().is_some(), "this one stays");
    enforce(&server, &FILE.replace("token-of-viewers-0123", "another-token-0123456"));
    assert_eq!(end(&mut viewer).await.code(), Code::Unauthenticated);
    drop(out);
    server.stop().await;
}

#[tokio::test]
async fn reflection_needs_no_role() {
    let server = Server::start().await;
    enforce(&server, FILE);
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    let path =
        http::uri::PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let codec = tonic_prost::ProstCodec::<Hello, Hello>::default();
    client.streaming(Request::new(tokio_stream::iter(Vec::<Hello>::new())), path, codec).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_beyond_measure_disturbs_nothing() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    for seconds in [i64::MIN, i64::MAX] {
        let sent_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let feeds = vec![FeedStatus { deletes_held_at: sent_at, ..feed("db", "m", "c", 1) }];
        let heartbeat = Heartbeat { sent_at, feeds, is_complete: true, ..Heartbeat::default() };
        node.send(node_message::Message::Heartbeat(heartbeat)).await;
        assert_eq!(node.report(Vec::new()).await, "");
        let status = server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert!(status.alerts.iter().any(|alert| alert.contains("the clock of node n")), "{status:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_sends_what_cannot_be_taken_is_told_so() {
    let server = Server::start().await;
    let mut node = server.worker("long").await;
    node.heartbeat(vec![feed(&"x".repeat(2_000), "m", "c", 1)]).await;
    assert_eq!(node.next().await.unwrap_err().code(), Code::InvalidArgument);
    // Larger than any message may be.
    let mut node = server.worker("large").await;
    let heartbeat = Heartbeat {
        mappings: vec![MappingHealth {
            refused: "x".repeat(swift_s3_proto::MAX_MESSAGE_BYTES),
            ..MappingHealth::default()
        }],
        ..Heartbeat::default()
    };
    node.send(node_message::Message::Heartbeat(heartbeat)).await;
    assert_eq!(node.next().await.unwrap_err().code(), Code::OutOfRange);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_report_is_told_once_in_the_log_and_in_the_status() {
    let server = Server::start().await;
    let mut node = Node::connect(&server, hello("refused-1", "p")).await;
    node.welcome().await;
    let bad = || FeedProgress { account: "x".repeat(2_000), ..progress("db", "c", 1) };
    for _ in 0..3 {
        assert!(node.report(vec![bad()]).await.contains("account"));
    }
    let alerts =
        || async { server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner().alerts };
    let is_told = |alerts: &Vec<String>| {
        alerts.iter().any(|alert| alert.contains("node refused-1") && alert.contains("at most 1024"))
    };
    eventually(alerts, is_told).await;
    assert_eq!(node.report(vec![progress("db", "c", 1)]).await, "");
    eventually(alerts, |alerts| !is_told(alerts)).await;
    server.stop().await;
    let log = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let warnings = std::str::from_utf8(&log).unwrap().lines().filter(|line| {
        line.contains("WARN") && line.contains("refused a report") && line.contains("refused-1")
    });
    assert_eq!(warnings.count(), 1);
}
