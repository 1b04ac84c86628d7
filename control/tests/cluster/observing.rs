//! What several processes tell of themselves, and of a call that goes through two of them.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use swift_s3_proto::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::etcd::EtcdProcess;
use crate::processes::Process;
use crate::support::{document, eventually};

/// A process with an admin endpoint, whose address is in the file.
fn start(etcd: &str, port_file: &Path) -> Process {
    let arguments = ["--admin-listen", "127.0.0.1:0", "--admin-port-file", port_file.to_str().unwrap()];
    Process::start(etcd, &arguments)
}

/// Head and body of the answer.
async fn get(port_file: &Path, path: &str) -> String {
    let address = std::fs::read_to_string(port_file).unwrap();
    let mut stream = TcpStream::connect(address.trim()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_two_processes_is_one_trace_and_each_tells_what_it_is() {
    let etcd = EtcdProcess::start().await;
    let folder = tempfile::tempdir().unwrap();
    let files = ["leader", "follower"].map(|name| folder.path().join(name));
    let leader = start(&etcd.url(), &files[0]);
    leader.answers().await;
    let follower = start(&etcd.url(), &files[1]);
    follower.answers().await;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = tonic::Request::new(ApplyConfigRequest {
        document: document(&["c"]),
        comment: "by a test".to_owned(),
        ..ApplyConfigRequest::default()
    });
    let parent = format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    follower.config().await.apply_config(request).await.unwrap();
    // The line is written by the process that leads, in a task that outlives the call.
    let log = leader.log();
    let line = log.lines().find(|line| line.contains("configuration applied")).unwrap();
    assert!(line.contains(trace), "{line}");

    for (file, leads) in [(&files[0], "1"), (&files[1], "0")] {
        assert!(get(file, "/ready").await.ends_with("ready\n"));
        let expected = format!("swift_s3_control_leader {leads}");
        let has_it = |text: &String| text.lines().any(|line| line == expected);
        eventually(|| get(file, "/metrics"), has_it).await;
    }
    let commits = |text: &String| {
        let name = "swift_s3_control_store_commit_duration_seconds_count";
        text.lines().any(|line| line.starts_with(name) && line.contains("store=\"etcd\""))
    };
    eventually(|| get(&files[0], "/metrics"), commits).await;
    for revision in [1, 2] {
        if revision == 2 {
            // Whoever adds up has told the first one before anybody tells this one.
            let request = ApplyConfigRequest {
                document: document(&["c", "d"]),
                expected_revision: 1,
                ..ApplyConfigRequest::default()
            };
            follower.config().await.apply_config(request).await.unwrap();
        }
        let told = format!("swift_s3_control_config_revision {revision}");
        let knows = |text: &String| text.lines().any(|line| line == told);
        let told = eventually(|| get(&files[0], "/metrics"), knows);
        tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    }
    // Only who leads knows nodes and mappings.
    assert!(!get(&files[1], "/metrics").await.contains("\nswift_s3_control_config_revision "));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_leader_is_not_ready_and_says_so() {
    let etcd = EtcdProcess::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin");
    let alone = start(&etcd.url(), &file);
    alone.answers().await;
    assert!(get(&file, "/ready").await.starts_with("HTTP/1.1 200"));
    drop(etcd);
    let answer = eventually(|| get(&file, "/ready"), |answer| answer.starts_with("HTTP/1.1 503")).await;
    assert!(answer.contains("not ready: ") && answer.contains("lead"), "{answer}");
    assert!(get(&file, "/live").await.starts_with("HTTP/1.1 200"));
    alone.signal(Signal::SIGTERM);
}
