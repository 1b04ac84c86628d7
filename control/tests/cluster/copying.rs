//! `swift-s3ctl state copy`, and which data directory is for what.

use std::path::Path;
use std::process::{Command, Output};

use swift_s3_control::store::UsageNews;
use swift_s3_proto::v1::*;

use crate::etcd::EtcdProcess;
use crate::processes::Process;
use crate::support::{Server, document, parked, progress, settings};

/// Exit code, standard output, standard error.
pub(crate) fn copy(etcd: &str, from: &str, to: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3ctl"));
    command.args(["state", "copy", "--etcd", etcd, "--from", from, "--to", to]).args(more);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn refused(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3-control"));
    let Output { status, stderr, .. } = command
        .arg("--data-dir")
        .arg(data)
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A data directory with something in every table.
async fn filled() -> std::sync::Arc<tempfile::TempDir> {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(std::sync::Arc::clone(&folder), settings(), None).await;
    let containers: Vec<String> = (0..6_000).map(|number| format!("container-{number}")).collect();
    let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
    server.apply(&document(&["c"]), 0).await.unwrap();
    server.apply(&document(&containers), 1).await.unwrap();
    let mut node = server.worker("n").await;
    let mut feeds: Vec<_> = (0..300).map(|n| progress(&format!("db{n}"), "c", n)).collect();
    feeds[7].parked = (0..500).map(|number| parked(&format!("o/{number} ä"), number % 3)).collect();
    assert_eq!(node.report(feeds).await, "");
    let mapping = server.mapping_ids()[0].clone();
    server.status().await.pause_mapping(PauseMappingRequest { mapping }).await.unwrap();
    let usage = Some(RemoteUsage { writes: 1, ..RemoteUsage::default() });
    let reports = vec![UsageReport { mapping_id: "m".to_owned(), usage }];
    let news = UsageNews { instance_id: "p".to_owned(), number: 1, reports };
    server.control.store.save_report("n", Vec::new(), news).await.unwrap();
    drop(node);
    server.control.save_nodes().await;
    server.stop().await;
    folder
}

fn tables(text: &str) -> Vec<(String, String, String)> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let rows = value["tables"].as_array().unwrap();
    rows.iter()
        .map(|row| (row["table"].to_string(), row["rows"].to_string(), row["sha256"].to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_goes_to_etcd_and_back_and_is_the_same() {
    let etcd = EtcdProcess::start().await;
    let folder = filled().await;
    let source = format!("sqlite:{}", folder.path().join("data").display());
    let json = ["--output", "json"];
    let (code, there, told) = copy(&etcd.url(), &source, "etcd", &json);
    assert_eq!(code, Some(0), "{told}");
    let there = tables(&there);
    assert!(there.iter().all(|(_, rows, _)| rows != "0"), "{there:?}");

    // Control works with it.
    let mut process = Process::start(&etcd.url(), &[]);
    assert_eq!(process.answers().await, 2);
    assert_eq!(process.cursor("db299").await.unwrap(), Some(299));
    let paused = process.status().await.list_mappings(ListMappingsRequest::default()).await.unwrap();
    assert!(paused.into_inner().mappings.iter().any(|mapping| mapping.is_paused));
    let (code, _, told) = copy(&etcd.url(), "etcd", "sqlite:/nowhere/at/all", &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("a control process leads with this state"), "{told}");
    let (code, _, told) = copy(&etcd.url(), &source, "etcd", &["--replace"]);
    assert_eq!((code, told.contains("leads with this state")), (Some(1), true), "{told}");
    process.apply(&document(&["d"]), 2).await.unwrap();
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.wait(), Some(0));

    // Back: what changed meanwhile is there, the rest is the same.
    let back = tempfile::tempdir().unwrap();
    let target = format!("sqlite:{}", back.path().join("data").display());
    let (code, here, told) = copy(&etcd.url(), "etcd", &target, &json);
    assert_eq!(code, Some(0), "{told}");
    let here = tables(&here);
    for table in ["\"progress\"", "\"parked\"", "\"switches\""] {
        let of = |tables: &[(String, String, String)]| tables.iter().find(|row| row.0 == table).cloned();
        assert_eq!(of(&here), of(&there));
    }
    let server = Server::start_with(std::sync::Arc::new(back), settings(), None).await;
    let read = server.config().await.get_config(GetConfigRequest::default()).await.unwrap().into_inner();
    assert_eq!(read.revision.unwrap().revision, 3);
    let (code, _, told) = copy(&etcd.url(), &target, "etcd", &["--replace"]);
    assert_eq!((code, told.contains("in use by another swift-s3-control")), (Some(2), true), "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_unless_it_is_asked_for() {
    let etcd = EtcdProcess::start().await;
    let folder = filled().await;
    let data = folder.path().join("data");
    let source = format!("sqlite:{}", data.display());
    let (code, text, told) = copy(&etcd.url(), &source, "etcd", &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(text.contains("TABLE") && text.contains("rows copied and compared"), "{text}");
    let before = etcd.rows().await;
    let (code, _, told) = copy(&etcd.url(), &source, "etcd", &[]);
    assert_eq!((code, told.contains("--replace")), (Some(2), true), "{told}");
    assert!(etcd.rows().await == before, "nothing was touched");
    let (code, _, told) = copy(&etcd.url(), &source, "etcd", &["--replace"]);
    assert_eq!(code, Some(0), "{told}");
    let after = etcd.rows().await;
    assert_eq!(after.len(), before.len(), "the state of before is removed");
    assert!(after != before);

    let (code, _, told) = copy(&etcd.url(), "etcd", &source, &[]);
    assert_eq!((code, told.contains("--replace")), (Some(2), true), "{told}");
    let (code, _, told) = copy(&etcd.url(), "etcd", &source, &["--replace"]);
    assert_eq!(code, Some(0), "{told}");
    let left: Vec<String> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    assert_eq!(left, ["state.db"]);

    for (from, to, words) in [
        ("etcd", "etcd", "one side is sqlite:DIR"),
        ("sqlite:/nowhere/at/all", "etcd", "/nowhere/at/all"),
        ("state.db", "etcd", "expected sqlite:DIR or etcd"),
    ] {
        let (code, _, told) = copy(&etcd.url(), from, to, &["--replace"]);
        assert_eq!((code, told.contains(words)), (Some(2), true), "{told}");
    }
    let empty = tempfile::tempdir().unwrap();
    let (code, _, told) =
        copy(&etcd.url(), &format!("sqlite:{}", empty.path().display()), "etcd", &["--replace"]);
    assert_eq!((code, told.contains("there is no state in")), (Some(2), true), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_for_one_kind_of_state_only() {
    let etcd = EtcdProcess::start().await;
    let folder = filled().await;
    let data = folder.path().join("data");
    let before = std::fs::read(data.join("state.db")).unwrap();
    let (code, told) = refused(&data, &["--etcd", &etcd.url()]);
    assert_eq!((code, told.contains("without --etcd")), (Some(3), true), "{told}");
    assert!(std::fs::read(data.join("state.db")).unwrap() == before);
    let mut process = Process::start(&etcd.url(), &[]);
    process.answers().await;
    let (code, told) = refused(&process.folder.path().join("data"), &["--etcd", &etcd.url()]);
    assert_eq!((code, told.contains("in use by another swift-s3-control")), (Some(3), true), "{told}");
    process.kill();
    let (code, told) = refused(&process.folder.path().join("data"), &[]);
    assert_eq!((code, told.contains("whose state is in etcd")), (Some(3), true), "{told}");
    for (arguments, words) in [
        (&["--etcd", "nowhere"][..], "http://HOST:PORT"),
        (&["--etcd", "http://127.0.0.1:1", "--backup", "/tmp/x"], "etcdctl snapshot save"),
        (&["--etcd", "http://127.0.0.1:1", "--advertise", "host"], "expected HOST:PORT"),
        (&["--advertise", "host:1"], "--etcd"),
        (
            &[
                "--etcd",
                "http://127.0.0.1:1",
                "--listen",
                "0.0.0.0:0",
                "--allow-plaintext",
                "--allow-anonymous",
            ],
            "--advertise HOST:PORT",
        ),
    ] {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3-control"));
        let Output { status, stderr, .. } =
            command.arg("--data-dir").arg(data.path()).args(arguments).output().unwrap();
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), told.contains(words)), (Some(2), true), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_copy_and_a_leader_that_comes_meanwhile_one_gives_way_and_what_is_in_force_is_whole() {
    let etcd = EtcdProcess::start().await;
    let folder = filled().await;
    let source = format!("sqlite:{}", folder.path().join("data").display());
    let url = etcd.url();
    let copying = tokio::task::spawn_blocking(move || copy(&url, &source, "etcd", &["--replace"]));
    let process = Process::start(&etcd.url(), &[]);
    let (code, _, told) = copying.await.unwrap();
    process.answers().await;
    let loaded = process.cursor("db7").await.unwrap();
    let failures = process.status().await.list_failures(ListFailuresRequest::default()).await.unwrap();
    let failures = failures.into_inner().total;
    let revision = process.revision().await.unwrap();
    match code {
        Some(0) => assert_eq!((revision, loaded, failures), (2, Some(7), 333)),
        _ => assert_eq!((revision, loaded, failures), (0, None, 0), "{told}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_leaves_one_of_the_two_states_whole() {
    let etcd = EtcdProcess::start().await;
    let (old, new) = (filled().await, filled().await);
    let place = |folder: &tempfile::TempDir| format!("sqlite:{}", folder.path().join("data").display());
    let out = |target: &Path| {
        let target = format!("sqlite:{}", target.display());
        let (code, text, told) = copy(&etcd.url(), "etcd", &target, &["--replace", "--output", "json"]);
        assert_eq!(code, Some(0), "{told}");
        tables(&text)
    };
    let target = tempfile::tempdir().unwrap();
    assert_eq!(copy(&etcd.url(), &place(&new), "etcd", &[]).0, Some(0));
    let whole_new = out(target.path());
    assert_eq!(copy(&etcd.url(), &place(&old), "etcd", &["--replace"]).0, Some(0));
    let whole_old = out(target.path());
    assert_ne!(whole_old, whole_new);
    for milliseconds in [20, 60, 120, 200, 300, 450, 700] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3ctl"));
        command.args([
            "state",
            "copy",
            "--replace",
            "--etcd",
            &etcd.url(),
            "--from",
            &place(&new),
            "--to",
            "etcd",
        ]);
        let mut copying = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        copying.kill().unwrap();
        copying.wait().unwrap();
        let found = out(target.path());
        assert!(found == whole_old || found == whole_new, "after {milliseconds} ms: {found:?}");
    }
    // And the other way: the database of before, or the new one.
    assert_eq!(copy(&etcd.url(), &place(&new), "etcd", &["--replace"]).0, Some(0));
    let data = place(&old);
    for milliseconds in [20, 60, 120, 200, 300, 450] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3ctl"));
        command.args(["state", "copy", "--replace", "--etcd", &etcd.url(), "--from", "etcd", "--to", &data]);
        let mut copying = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        copying.kill().unwrap();
        copying.wait().unwrap();
        let server = Server::start_with(std::sync::Arc::clone(&old), settings(), None).await;
        assert_eq!(server.mapping_ids().len(), 6_000);
        server.stop().await;
    }
}
