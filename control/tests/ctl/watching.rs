//! `watch` against a server that ends each stream after two updates.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use swift_s3_proto::v1::{ClusterStatus, MappingStatus};

use crate::canned::CannedServer;
use crate::program::{BINARY, Home};

async fn server() -> CannedServer {
    let server = CannedServer::start().await;
    *server.canned.status.lock().unwrap() =
        ClusterStatus { revision: 7, alerts: vec!["a\u{1b}[2Jb".into()], ..ClusterStatus::default() };
    *server.canned.mappings.lock().unwrap() =
        vec![MappingStatus { mapping_id: "0123456789ab".into(), ..MappingStatus::default() }];
    server
}

/// Lines until there are `count`, then Ctrl-C; the exit code and standard error too.
async fn watch(home: &Home, words: &[&str], count: usize) -> (Vec<String>, i32, String) {
    let mut command = home.command(Path::new(BINARY));
    command.arg("watch").args(words);
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen: Vec<String> = lines.by_ref().take(count).map(Result::unwrap).collect();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let rest = lines.count();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        assert!(rest < 4, "{rest} lines after Ctrl-C");
        (seen, code, stderr)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_lines_and_an_ended_stream_is_taken_up_again() {
    let server = server().await;
    let home = Home::new(&server.url());
    let (lines, code, stderr) = watch(&home, &["--interval", "250ms"], 3).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(
        lines.iter().all(|line| line.contains(" revision 7, ") && line.ends_with("alerts: a\\x1b[2Jb")),
        "{lines:?}"
    );
    assert!(stderr.contains("the server ended the stream; connecting again in 1 s"), "{stderr}");
    assert!(server.canned.asked("interval_milliseconds: 250").len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_json_for_programs() {
    let server = server().await;
    let (lines, code, _) = watch(&Home::new(&server.url()), &["-o", "jsonl"], 2).await;
    assert_eq!(code, 0);
    let update: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(update["status"]["revision"], 7);
    assert_eq!(update["mappings"][0]["mapping_id"], "0123456789ab");
    assert!(update["received_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_never_began_ends() {
    let server = server().await;
    *server.canned.token.lock().unwrap() = Some("planted".into());
    let home = Home::new(&server.url());
    assert!(home.run(&["watch"]).await.exits(1).stderr.contains("UNAUTHENTICATED"));
    Home::new("http://127.0.0.1:1").run(&["watch"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_nobody_reads_it() {
    let server = server().await;
    let home = Home::new(&server.url());
    let mut command = home.command(Path::new(BINARY));
    command.arg("watch");
    let code = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    });
    assert_eq!(code.await.unwrap(), Some(0));
}
