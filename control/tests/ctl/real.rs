//! `swift-s3ctl` against the real `swift-s3-control`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, Hello, NodeMessage, Problem, Role, control_message, node_message,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::program::Home;

struct Control {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Control {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let child = Command::new(env!("CARGO_BIN_EXE_swift-s3-control"))
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"))
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = read_when_written(&port_file).await;
        Self { child, url: format!("http://{address}"), _folder: folder }
    }
}

async fn read_when_written(path: &Path) -> String {
    let start = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text)
                if text.ends_with('\n')
                    || text.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty()) =>
            {
                return text.trim().to_owned();
            }
            _ => assert!(start.elapsed() < Duration::from_secs(30), "swift-s3-control does not start"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn document(copy_after: u32) -> String {
    format!(
        r#"{{
  "containers": [{{
    "account": "AUTH_test", "container": "photos", "aws_bucket": "archive", "copy_after": {copy_after},
    "aws_identity": "key-id", "aws_secret": "planted-secret", "aws_endpoint": "https://s3.example.org"
  }}]
}}
"#
    )
}

/// A node that answers each configuration with `outcome`.
async fn connect_node(url: &str, outcome: ConfigOutcome) -> tokio::task::JoinHandle<()> {
    let mut client = NodeServiceClient::connect(url.to_owned()).await.unwrap();
    let (sender, receiver) = mpsc::channel(8);
    let send = |message| NodeMessage { message: Some(message) };
    let hello = Hello {
        node_id: "n1".into(),
        role: Role::Worker.into(),
        version: "0.1.0".into(),
        instance_id: "i1".into(),
        ..Hello::default()
    };
    sender.send(send(node_message::Message::Hello(hello))).await.unwrap();
    let mut answers = client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(message)) = answers.message().await {
            let Some(control_message::Message::Config(snapshot)) = message.message else { continue };
            let mut answer = ConfigAnswer {
                nonce: snapshot.nonce,
                revision: snapshot.revision,
                outcome: outcome.into(),
                problems: Vec::new(),
            };
            if outcome == ConfigOutcome::Rejected {
                answer.problems.push(Problem { found: "no such bucket".into(), ..Problem::default() });
            }
            if sender.send(send(node_message::Message::ConfigAnswer(answer))).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_applied_changed_and_rolled_back() {
    let control = Control::start().await;
    let home = Home::new(&control.url);
    assert!(home.run(&["config", "history"]).await.exits(0).stderr.contains("no configuration"));
    home.run(&["config", "get"]).await.exits(1);
    let first =
        home.run_with(&["config", "apply", "-", "--comment", "first"], &document(3600)).await.exits(0);
    assert!(first.stdout.ends_with("revision 1 is in force, 1 mapping\n"), "{first:?}");

    let shown = home.run(&["config", "get"]).await.exits(0).stdout;
    assert!(
        shown.starts_with("{\n  \"// revision\": \"1\",\n") && !shown.contains("planted-secret"),
        "{shown}"
    );
    let edited = shown.replace("3600", "60");
    home.write("edited.json", &edited);
    let diff = home.run(&["config", "diff", "edited.json"]).await.exits(0);
    assert!(diff.stdout.contains("containers[0].copy_after (AUTH_test/photos): 3600 -> 60"), "{diff:?}");
    let second = home.run(&["config", "apply", "edited.json", "-o", "json"]).await.exits(0).json();
    assert_eq!(second["revision"]["revision"], 2);
    assert_eq!(second["changes"].as_array().unwrap().len(), 1, "the secret stays: {second}");
    home.run(&["config", "apply", "edited.json"]).await.exits(1);
    let same = home.run(&["config", "apply", "edited.json", "--expected-revision", "2"]).await.exits(0);
    assert_eq!(same.stdout, "nothing differs; revision 2 stays in force\n");

    home.run(&["config", "rollback", "1", "--comment", "back"]).await.exits(0);
    let history = home.run(&["config", "history", "-o", "json"]).await.exits(0).json();
    let told: Vec<_> = history["revisions"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 3);
    assert_eq!((&told[0]["rolled_back_to"], &told[0]["comment"]), (&Value::from(1), &Value::from("back")));
    let diff = home.run(&["config", "diff", "--from", "1", "--to", "3"]).await.exits(0);
    assert_eq!(diff.stderr, "no differences\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_by_path() {
    let control = Control::start().await;
    let home = Home::new(&control.url);
    let wrong = document(60).replace("\"archive\"", "7").replace(": 60", ": \"soon\"");
    for command in ["validate", "apply"] {
        let shown = home.run_with(&["config", command, "-"], &wrong).await.exits(3);
        assert!(shown.stderr.contains("\n  containers[0].aws_bucket: found "), "{shown:?}");
        assert!(shown.stderr.contains("\n  containers[0].copy_after: found "), "{shown:?}");
        assert!(shown.stderr.contains("; expected "), "{shown:?}");
        assert!(!shown.stderr.contains("planted-secret"), "{shown:?}");
    }
    home.run_with(&["config", "validate", "-"], "{").await.exits(3);
    home.run_with(&["config", "validate", "-"], &document(60)).await.exits(0);
    home.run(&["config", "get"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_paused_and_goes_on() {
    let control = Control::start().await;
    let home = Home::new(&control.url);
    home.run_with(&["config", "apply", "-"], &document(60)).await.exits(0);
    let shown = home.run(&["pause", "AUTH_test/photos", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["changed"], true);
    let id = shown["mapping_id"].as_str().unwrap();
    let mappings = home.run(&["mappings", "-o", "json"]).await.exits(0).json();
    assert_eq!(mappings["mappings"][0]["is_paused"], true);
    assert_eq!(mappings["mappings"][0]["lag"], Value::Null, "no node ever reported");
    assert!(home.run(&["mappings"]).await.stdout.contains("paused"));
    assert!(home.run(&["pause", id]).await.exits(0).stdout.contains("already"));
    assert_eq!(home.run(&["resume", id]).await.exits(0).stdout, format!("mapping {id} goes on\n"));
    assert!(home.run(&["release-deletes", id]).await.exits(1).stderr.contains("holds deletes"));
    home.run(&["pause", "AUTH_test/absent"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_make_of_it_is_waited_for() {
    let control = Control::start().await;
    let home = Home::new(&control.url);
    let node = connect_node(&control.url, ConfigOutcome::Applied).await;
    let apply = ["config", "apply", "-", "--wait=60"];
    let shown = home.run_with(&apply, &document(60)).await.exits(0);
    assert!(shown.stdout.contains("\nn1: applied"), "{shown:?}");
    home.run(&["status", "--check"]).await;
    assert!(home.run(&["status"]).await.exits(0).stdout.contains("1 synced"));
    home.run(&["nodes", "forget", "n1"]).await.exits(1);
    node.abort();
    let _ = node.await;

    let control = Control::start().await;
    let home = Home::new(&control.url);
    let _node = connect_node(&control.url, ConfigOutcome::Rejected).await;
    let shown = home.run_with(&apply, &document(60)).await.exits(4);
    assert!(shown.stderr.contains("no such bucket"), "{shown:?}");
    home.run(&["status", "--check"]).await.exits(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_empty_say_so() {
    let control = Control::start().await;
    let home = Home::new(&control.url);
    for (words, nothing) in [
        (&["nodes"][..], "no nodes\n"),
        (&["mappings"], "no mappings\n"),
        (&["containers"], "no containers\n"),
        (&["failures"], "no failures\n"),
    ] {
        let shown = home.run(words).await.exits(0);
        assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("", nothing), "{words:?}");
    }
    assert!(home.run(&["status"]).await.exits(0).stdout.contains("revision     none"));
    let shown = home.run(&["failures", "retry", "--all", "-o", "json"]).await.exits(0).json();
    assert_eq!(shown["matched"], 0);
    assert!(
        home.run(&["explain", "AUTH_test/photos/x"])
            .await
            .exits(0)
            .stdout
            .starts_with("AUTH_test/photos/x: ")
    );
}
