//! `config …` against canned answers.

use std::time::{Duration, Instant};

use swift_s3_proto::v1::{NodeState, NodeStatus, Problem};

use crate::canned::CannedServer;
use crate::program::Home;

async fn server() -> CannedServer {
    let server = CannedServer::start().await;
    server.canned.put("{\n  \"workers\": 8,\n  \"ratio\": 1.50\n}\n", "first");
    server
}

fn node(id: &str, state: NodeState, revision: i64) -> NodeStatus {
    NodeStatus { node_id: id.into(), state: state.into(), revision, ..NodeStatus::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_get_prints_can_be_edited_and_applied() {
    let server = server().await;
    let home = Home::new(&server.url());
    let shown = home.run(&["config", "get"]).await.exits(0);
    assert_eq!(shown.stdout, "{\n  \"// revision\": \"1\",\n  \"workers\": 8,\n  \"ratio\": 1.50\n}\n");
    home.write("sync.json", &shown.stdout.replace(": 8", ": 16"));
    let applied = home.run(&["config", "apply", "sync.json", "--comment", "more"]).await.exits(0);
    assert_eq!(applied.stdout, "~ workers: 8 -> 16\nrevision 2 is in force, 1 mapping\n");
    let asked = server.canned.asked("ApplyConfigRequest");
    assert!(asked[0].contains("expected_revision: 1") && asked[0].contains("comment: \"more\""), "{asked:?}");
    assert!(!asked[0].contains("// revision") && asked[0].contains("1.50"), "{asked:?}");

    let again = home.run(&["config", "apply", "sync.json"]).await.exits(1);
    assert!(
        again.stderr.contains("revision 2 is in force, but the change was made for revision 1"),
        "{again:?}"
    );
    assert_eq!(server.canned.revision(), 2);
    let forced = home.run(&["config", "apply", "sync.json", "--expected-revision", "2"]).await.exits(0);
    assert_eq!(forced.stdout, "nothing differs; revision 2 stays in force\n");
    let first = home.run(&["config", "get", "--revision", "1"]).await.exits(0);
    assert!(first.stdout.contains("\"workers\": 8"), "{first:?}");
    home.run(&["config", "get", "--revision", "9"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_document_is_refused_with_every_problem() {
    let server = server().await;
    let home = Home::new(&server.url());
    let document = "{\"wrong\": 1, \"odd\": 2}";
    for command in ["validate", "apply"] {
        let shown = home.run_with(&["config", command, "-"], document).await.exits(3);
        assert_eq!(shown.stdout, "");
        let problem = "found \"a\\x1b[2Jb\"; expected a number\n";
        assert_eq!(
            shown.stderr,
            format!(
                "warning: odd: {problem}swift-s3ctl: the configuration is refused: 2 problems\n  \
                 wrong: {problem}  wrong.too: {problem}"
            )
        );
    }
    let shown = home.run_with(&["config", "validate", "-", "-o", "json"], document).await.exits(3).json();
    assert_eq!(shown["problems"][1]["path"], "wrong.too");
    let shown = home.run_with(&["config", "validate", "-"], "{\"workers\": 16}").await.exits(0);
    assert_eq!(shown.stdout, "right: 1 mapping; 1 change: 1 different\n");
    assert!(
        home.run_with(&["config", "validate", "-"], " \n").await.exits(2).stderr.contains("standard input")
    );
    home.run(&["config", "validate", "absent.json"]).await.exits(2);
    assert_eq!(server.canned.revision(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_history_and_rollback() {
    let server = server().await;
    server.canned.put("{\"workers\": 16}", "second\nline");
    let home = Home::new(&server.url());
    home.write("sync.json", "{\"// revision\": \"2\", \"workers\": 32}");
    assert_eq!(home.run(&["config", "diff", "sync.json"]).await.exits(0).stdout, "~ workers: 8 -> 16\n");
    let shown = home.run(&["config", "diff", "--from", "1", "--to", "2", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["changes"][0]["after"], 16);
    let same = home.run(&["config", "diff", "--from", "2"]).await.exits(0);
    assert_eq!((same.stdout.as_str(), same.stderr.as_str()), ("", "no differences\n"));

    let shown = home.run(&["config", "history"]).await.exits(0);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{shown:?}");
    assert!(lines[1].contains("2023-11-14T22:13:20Z") && lines[1].ends_with("second\\nline"), "{shown:?}");
    let shown = home.run(&["config", "rollback", "1", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["revision"]["revision"], 3);
    assert_eq!(server.canned.asked("RollbackConfigRequest { revision: 1, expected_revision: 2").len(), 1);
    home.run(&["config", "rollback", "9"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing() {
    let server = server().await;
    let home = Home::new(&server.url());
    let shown = home.run_with(&["config", "apply", "-", "--dry-run"], "{\"workers\": 16}").await.exits(0);
    assert_eq!(shown.stdout, "~ workers: 8 -> 16\nright: 1 change: 1 different; nothing was changed\n");
    assert_eq!(server.canned.revision(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_how_each_node_takes_it() {
    let server = server().await;
    let home = Home::new(&server.url());
    let apply = ["config", "apply", "-", "--wait=20"];
    *server.canned.nodes_after_apply.lock().unwrap() =
        Some(vec![node("n1", NodeState::Synced, 2), node("n2", NodeState::NotSeen, 1)]);
    let shown = home.run_with(&apply, "{\"workers\": 16}").await.exits(0);
    assert!(
        shown.stdout.ends_with("n1: applied\nn2: not connected; gets it when it comes back\n"),
        "{shown:?}"
    );

    let problem = Problem { path: "containers[0]".into(), found: "no bucket".into(), ..Problem::default() };
    let refusing = NodeStatus { problems: vec![problem], ..node("n1", NodeState::Rejected, 2) };
    *server.canned.nodes_after_apply.lock().unwrap() = Some(vec![refusing]);
    let shown = home.run_with(&apply, "{\"workers\": 17}").await.exits(4);
    assert!(shown.stdout.ends_with("n1: refused some or all of it\n"), "{shown:?}");
    assert!(shown.stderr.contains("  containers[0]: found no bucket\n"), "{shown:?}");

    *server.canned.nodes_after_apply.lock().unwrap() = Some(vec![node("n1", NodeState::Stale, 3)]);
    let start = Instant::now();
    let shown = home
        .run_with(&["config", "apply", "-", "--wait=1", "-o", "json"], "{\"workers\": 18}")
        .await
        .exits(1);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(shown.json()["has_converged"], false);
    assert_eq!(shown.json()["nodes"][0]["state"], "stale");
    assert!(shown.stderr.contains("revision 4 is in force, but 1 node did not answer in time"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_at_a_terminal_is_asked() {
    let server = server().await;
    let home = Home::new(&server.url());
    home.write("sync.json", "{\"workers\": 16}");
    let shown = home.run_on_terminal("config apply sync.json", "n\n").await.exits(1);
    assert!(shown.stdout.contains("put this in force on all nodes? [y/N]"), "{shown:?}");
    assert!(shown.stdout.contains("nothing was changed"), "{shown:?}");
    assert_eq!(server.canned.revision(), 1);
    server.canned.peers.lock().unwrap().clear();
    let thinking = Duration::from_secs(2);
    home.run_on_terminal_after(thinking, "config apply sync.json", "y\n").await.exits(0);
    assert_eq!(server.canned.peers.lock().unwrap().len(), 1, "the connection lasts while somebody thinks");
    assert_eq!(server.canned.revision(), 2);
    let shown = home.run_on_terminal("config rollback 1 --yes", "").await.exits(0);
    assert!(!shown.stdout.contains("[y/N]"), "{shown:?}");
    assert_eq!(server.canned.revision(), 3);
}
