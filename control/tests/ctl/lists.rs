//! Status, lists, switches and explanations.

use serde_json::Value;
use swift_s3_proto::v1::{
    ClusterStatus, ContainerStatus, FailureStatus, Lag, MappingStatus, NodeCount, NodeState, NodeStatus,
    ParkedRow,
};

use crate::canned::CannedServer;
use crate::program::Home;

fn node(id: &str, state: NodeState) -> NodeStatus {
    NodeStatus { node_id: id.into(), state: state.into(), ..NodeStatus::default() }
}

fn failure(object: &str, node: &str) -> FailureStatus {
    FailureStatus {
        mapping_id: "0123456789ab".into(),
        account: "AUTH_a".into(),
        container: "c".into(),
        node_id: node.into(),
        row: Some(ParkedRow {
            object: object.into(),
            reason: "remote_refused".into(),
            message: "403\u{9b}2J".into(),
            ..ParkedRow::default()
        }),
    }
}

fn mapping(id: &str, container: &str) -> MappingStatus {
    MappingStatus {
        mapping_id: id.into(),
        account: "AUTH_a".into(),
        container: container.into(),
        ..MappingStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_a_page_and_check_is_a_verdict() {
    let server = CannedServer::start().await;
    let home = Home::new(&server.url());
    let well = ClusterStatus {
        revision: 7,
        nodes: vec![NodeCount { state: NodeState::Synced.into(), count: 3 }],
        lag: Some(Lag { rows: 12, seconds: 92.0, ..Lag::default() }),
        ..ClusterStatus::default()
    };
    *server.canned.status.lock().unwrap() = well.clone();
    let shown = home.run(&["status"]).await.exits(0);
    assert!(shown.stdout.contains("\nbehind       >=1m 32s, >=12 rows"), "{shown:?}");
    assert!(!shown.stdout.contains('\x1b'), "no colours in a pipe: {shown:?}");
    assert!(home.run(&["status", "--color", "always"]).await.stdout.contains("\x1b[33m>=1m 32s"));
    let shown = home.run(&["status", "--check"]).await.exits(0);
    assert_eq!(shown.stdout, "ok: revision 7, nodes: 3 synced, behind >=1m 32s\n");

    *server.canned.status.lock().unwrap() =
        ClusterStatus { alerts: vec!["node n1 is silent\u{1b}[2J".into()], lag: None, ..well };
    let shown = home.run(&["status", "--check"]).await.exits(4);
    assert_eq!(shown.stdout, "needs a person: node n1 is silent\\x1b[2J\n");
    let shown = home.run(&["status", "--check", "-o", "json"]).await.exits(4).json();
    assert_eq!(shown["needs_person"], true);
    assert_eq!(shown["status"]["lag"], Value::Null);
    home.run(&["status"]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_filtered_and_forgotten() {
    let server = CannedServer::start().await;
    *server.canned.nodes.lock().unwrap() =
        vec![node("n1", NodeState::Synced), node("n2", NodeState::NotSeen)];
    let home = Home::new(&server.url());
    let shown = home.run(&["nodes"]).await.exits(0);
    assert_eq!(shown.stdout.lines().count(), 3, "{shown:?}");
    assert!(shown.stdout.contains("n2    unknown  not seen"), "{shown:?}");
    let shown = home.run(&["nodes", "--state", "not-seen", "--output", "json"]).await.exits(0).json();
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(shown["nodes"][0]["state"], "not_seen");
    assert_eq!(shown["nodes"][0]["lag"], Value::Null);
    let shown = home.run(&["nodes", "forget", "n2", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["node_id"], "n2");
    assert_eq!(server.canned.asked("ForgetNode").len(), 1);
    home.run(&["nodes", "-o", "json", "forget", "n2"]).await.exits(0);
    assert_eq!(home.run(&["mappings"]).await.exits(0).stderr, "no mappings\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_are_fetched_unless_limited() {
    let server = CannedServer::start().await;
    *server.canned.containers.lock().unwrap() = (0..2500)
        .map(|number| ContainerStatus { container: format!("c{number}"), ..ContainerStatus::default() })
        .collect();
    let home = Home::new(&server.url());
    let shown = home.run(&["containers", "-o", "json", "--behind"]).await.exits(0).json();
    assert_eq!(shown["containers"].as_array().unwrap().len(), 2500);
    assert_eq!(shown["is_cut"], false);
    assert_eq!(server.canned.asked("only_behind: true").len(), 3);
    let limited = home.run(&["containers", "--limit", "1200"]).await.exits(0);
    assert_eq!(limited.stdout.lines().count(), 1201);
    assert!(limited.stderr.contains("the first 1200"), "{}", limited.stderr);
    assert_eq!(server.canned.asked("page_size: 200, page_token: \"1000\"").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_by_lag_are_one_page_of_those_that_matter() {
    let server = CannedServer::start().await;
    *server.canned.containers.lock().unwrap() = (0..2500)
        .map(|number| ContainerStatus { container: format!("c{number}"), ..ContainerStatus::default() })
        .collect();
    let home = Home::new(&server.url());
    let by_lag = ["containers", "--sort", "lag", "--search", "PHOTOS", "-o", "json"];
    let shown = home.run(&by_lag).await.exits(0).json();
    assert_eq!((shown["containers"].as_array().unwrap().len(), &shown["is_cut"]), (1000, &Value::Bool(true)));
    let asked = server.canned.asked("ListContainersRequest");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("container_contains: \"PHOTOS\", order: Lag"), "{asked:?}");
    let shown = home.run(&["containers", "--sort", "lag", "--limit", "3"]).await.exits(0);
    assert_eq!((shown.stdout.lines().count(), shown.stderr.as_str()), (4, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_reason() {
    let server = CannedServer::start().await;
    *server.canned.mappings.lock().unwrap() = vec![mapping("0123456789ab", "c")];
    let home = Home::new(&server.url());
    let shown = home.run(&["failures", "--summary", "--mapping", "AUTH_a/c"]).await.exits(0);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines, ["REASON          FAILURES", "remote_refused        41", "local_missing          1"]);
    assert_eq!(server.canned.asked("CountFailuresRequest { mapping_id: \"0123456789ab\"").len(), 1);
    let shown = home.run(&["failures", "--summary", "-o", "json"]).await.exits(0).json();
    assert_eq!(
        (&shown["reasons"][1]["reason"], &shown["reasons"][1]["rows"]),
        (&"local_missing".into(), &1.into())
    );
    home.run(&["failures", "--summary", "--reason", "x"]).await.exits(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mapping_is_told_in_words() {
    let server = CannedServer::start().await;
    *server.canned.mappings.lock().unwrap() = vec![mapping("0123456789ab", "c")];
    let home = Home::new(&server.url());
    let shown = home.run(&["mapping", "0123456789ab"]).await.exits(0);
    assert!(shown.stdout.contains("AUTH_a/c"), "{shown:?}");
    assert!(
        shown.stdout.contains("\ncontainers[0]:\n  Every change goes there.\n  Local copies stay.\n\nREASON"),
        "{shown:?}"
    );
    let shown = home.run(&["mapping", "0123456789ab", "-o", "json"]).await.exits(0).json();
    assert_eq!((&shown["document"]["account"], &shown["path"]), (&"AUTH_a".into(), &"containers[0]".into()));
    assert_eq!(
        (&shown["status"]["container"], &shown["policy"][1]),
        (&"c".into(), &"Local copies stay.".into())
    );
    assert!(home.run(&["mapping", "absent"]).await.exits(1).stderr.contains("NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_listed_harmlessly_and_retried() {
    let server = CannedServer::start().await;
    *server.canned.failures.lock().unwrap() =
        vec![failure("a\u{1b}[2J\nb", "n1"), failure("pre/x", "n1"), failure("pre/x", "n2")];
    *server.canned.mappings.lock().unwrap() =
        vec![mapping("0123456789ab", "c"), mapping("ba9876543210", "/*")];
    let home = Home::new(&server.url());
    let shown = home.run(&["failures", "--reason", "remote_refused"]).await.exits(0);
    assert!(shown.stdout.contains("a\\x1b[2J\\nb") && shown.stdout.contains("403\\x9b2J"), "{shown:?}");
    let json = home.run(&["failures", "-o", "json"]).await.exits(0);
    assert!(!json.stdout.contains('\u{9b}'), "{json:?}");
    assert_eq!(json.json()["failures"][0]["row"]["object"], "a\u{1b}[2J\nb");
    assert_eq!(json.json()["total"], 3);

    assert!(home.run(&["failures", "retry"]).await.exits(2).stderr.contains("--all"));
    let shown = home.run(&["failures", "retry", "--mapping", "AUTH_a/c", "--reason", "r"]).await.exits(0);
    assert_eq!(shown.stdout, "1 failure is tried again now; 2 nodes told\n");
    let asked = server.canned.asked("RetryFailuresRequest");
    assert!(
        asked[0].contains("mapping_id: \"0123456789ab\"") && asked[0].contains("reason: \"r\""),
        "{asked:?}"
    );
    home.run(&["failures", "retry", "--prefix", "pre/"]).await.exits(0);
    assert_eq!(server.canned.asked("object: \"pre/x\"").len(), 1, "one request for one object");
    assert!(
        home.run(&["failures", "--mapping", "AUTH_a/absent"])
            .await
            .exits(1)
            .stderr
            .contains("no mapping has")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_say_what_they_did() {
    let server = CannedServer::start().await;
    let home = Home::new(&server.url());
    let shown = home.run(&["pause", "0123"]).await.exits(0);
    assert_eq!(shown.stdout, "mapping 0123 is paused; transfers under way finish\n");
    assert_eq!(home.run(&["pause", "0123", "-o", "jsonl"]).await.stdout.lines().count(), 1);
    assert_eq!(home.run(&["resume", "0123"]).await.exits(0).stdout, "mapping 0123 was not paused\n");
    assert!(home.run(&["release-deletes", "0123"]).await.exits(0).stdout.contains("may go"));
    let refused = home.run(&["pause", "absent"]).await.exits(1);
    assert_eq!(refused.stdout, "");
    assert!(
        refused.stderr.contains("cannot pause the mapping: no mapping absent\\x1b[2J (NOT_FOUND"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_explained() {
    let server = CannedServer::start().await;
    let home = Home::new(&server.url());
    let shown = home.run(&["explain", "AUTH_a/c/d/e f"]).await.exits(0);
    assert!(shown.stdout.starts_with("AUTH_a/c/d/e f: set aside after 3 attempts\n"), "{shown:?}");
    assert!(shown.stdout.contains("unknown: timed out"), "{shown:?}");
    assert!(shown.stdout.ends_with("no answer from: n2\n"), "{shown:?}");
    let shown = home.run(&["explain", "AUTH_a", "c", "d/e f", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["findings"][0]["state"], "parked");
    assert_eq!(shown["findings"][0]["remote"], Value::Null);
    assert_eq!(server.canned.asked("object: \"d/e f\"").len(), 2);
    home.run(&["explain", "AUTH_a/c"]).await.exits(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_needs_no_server() {
    let home = Home::new("http://127.0.0.1:1");
    for shell in ["bash", "zsh", "fish"] {
        let shown = home.run(&["completion", shell]).await.exits(0);
        assert!(shown.stdout.contains("release-deletes"), "{shell}");
    }
    assert!(home.run(&["--help"]).await.exits(0).stdout.contains("Exit status:"));
    home.run(&["no-such-command"]).await.exits(2);
}
