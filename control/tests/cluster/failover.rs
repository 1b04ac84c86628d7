//! The leader goes, in every way there is.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use swift_s3_proto::v1::*;
use tonic::Code;
use tonic_types::StatusExt;

use crate::etcd::EtcdProcess;
use crate::processes::{LEASE, Process, pair};
use crate::support::{document, eventually, progress};

/// What detection, election and reading take besides the lease, on a machine that is busy with other tests.
const TAKEOVER: Duration = Duration::from_secs(2);
/// Tests run side by side.
const SLOW_MACHINE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_next_one_leads_with_all_that_was_acknowledged() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    let third = Process::start(&etcd.url(), &[]);
    third.answers().await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = third.node("n").await;
    let before = node.snapshot_of(1).await;

    // Reports are on their way all the time.
    let acknowledged = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&acknowledged);
    let reporting = tokio::spawn(async move {
        let mut cursor = 0;
        loop {
            cursor += 1;
            let told = node_message::Message::Progress(ProgressReport {
                sequence: u64::try_from(cursor).unwrap(),
                feeds: vec![progress("db", "c", cursor)],
                ..ProgressReport::default()
            });
            node.send(told).await;
            loop {
                match node.next().await {
                    Ok(control_message::Message::ProgressAck(ack)) => {
                        assert_eq!(ack.failure, "");
                        counted.store(cursor, Ordering::SeqCst);
                        break;
                    }
                    Ok(_) => {}
                    Err(status) => return status,
                }
            }
        }
    });
    let reached = || async { acknowledged.load(Ordering::SeqCst) };
    eventually(reached, |cursor| *cursor > 50).await;
    leader.kill();
    let killed = Instant::now();
    let status = reporting.await.unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    eventually(|| follower.revision(), Result::is_ok).await.unwrap();
    let took = killed.elapsed();
    assert!(took < LEASE + TAKEOVER + SLOW_MACHINE, "{took:?}");

    for process in [&follower, &third] {
        process.answers().await;
        let cursor = process.cursor("db").await.unwrap().unwrap();
        let last = acknowledged.load(Ordering::SeqCst);
        // The one that was under way may be there too.
        assert!(cursor == last || cursor == last + 1, "{cursor}, acknowledged {last}");
    }
    // The node comes back to the same process, and its configuration never goes back.
    let mut node = third.node("n").await;
    let after = node.snapshot().await;
    assert_eq!(after.revision, 1);
    assert!(after.generation > before.generation, "{} after {}", after.generation, before.generation);
    assert_eq!(follower.apply(&document(&["d"]), 1).await.unwrap(), 2);
    assert!(node.snapshot_of(2).await.generation > after.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_answers_and_writes_nothing_when_it_goes_on() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = leader.node("n").await;
    node.snapshot_of(1).await;
    assert_eq!(node.report(vec![progress("db", "c", 1)]).await, "");
    let channel = leader.channel().await;

    leader.freeze().await;
    // These wait in its sockets until it goes on.
    let told =
        ProgressReport { sequence: 2, feeds: vec![progress("db", "c", 2)], ..ProgressReport::default() };
    node.send(node_message::Message::Progress(told)).await;
    let mut config = config_service_client::ConfigServiceClient::new(channel.clone());
    let late = tokio::spawn(async move {
        let document = document(&["late"]);
        config.apply_config(ApplyConfigRequest { document, expected_revision: 1, ..Default::default() }).await
    });
    let mut config = config_service_client::ConfigServiceClient::new(channel);
    let question = tokio::spawn(async move { config.get_config(GetConfigRequest::default()).await });

    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    assert_eq!(follower.apply(&document(&["d"]), 1).await.unwrap(), 2);
    leader.signal(Signal::SIGCONT);
    let refused = late.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    // It may hand the question on by now, but must not answer from what it knew.
    match question.await.unwrap() {
        Ok(answer) => assert_eq!(answer.into_inner().revision.unwrap().revision, 2),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
    }
    let ended = loop {
        match node.next().await {
            Ok(control_message::Message::ProgressAck(ack)) => assert_ne!(ack.failure, "", "{ack:?}"),
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    // It follows now.
    let is_second = |revision: &Result<i64, _>| revision.as_ref().is_ok_and(|revision| *revision == 2);
    eventually(|| leader.revision(), is_second).await.unwrap();
    assert!(!leader.is_leading());
    for process in [&leader, &follower] {
        assert_eq!(process.cursor("db").await.unwrap(), Some(1));
        assert_eq!(process.revision().await.unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_good_order_hands_over_at_once() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &["--etcd-lease-seconds=60"]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = follower.node("n").await;
    node.snapshot_of(1).await;
    assert_eq!(node.report(vec![progress("db", "c", 1)]).await, "");
    leader.signal(Signal::SIGTERM);
    assert_eq!(leader.wait(), Some(0));
    let status = loop {
        if let Err(status) = node.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    assert_eq!(follower.answers().await, 1);
    assert_eq!(follower.cursor("db").await.unwrap(), Some(1));
    let files = std::fs::read_dir(leader.folder.path().join("data")).unwrap();
    let mut left: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "used-with-etcd"], "no working copy is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_clients_are_told_to_come_again_and_wait_for_nothing() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    drop(etcd);
    leader.kill();
    let asked = Instant::now();
    let status = follower.revision().await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("try again"), "{status:?}");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_killed_comes_back_and_follows() {
    let etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let leader = leader.restart(&etcd.url());
    eventually(|| async { follower.is_leading() || leader.is_leading() }, |is_so| *is_so).await;
    for process in [&leader, &follower] {
        assert_eq!(process.answers().await, 1);
    }
    assert!(leader.is_leading() != follower.is_leading());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_watch_goes_on_at_another_process_and_never_goes_back() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    leader.apply(&document(&["d"]), 1).await.unwrap();
    let lines = leader.folder.path().join("lines");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_swift-s3ctl"))
        .args(["--control", &format!("http://{},http://{}", leader.address, follower.address)])
        .args(["--output", "jsonl", "--timeout", "5s", "watch", "--interval", "100ms"])
        .stdout(std::fs::File::create(&lines).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let revisions = || async {
        let text = std::fs::read_to_string(&lines).unwrap();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let revisions = whole.map(|line| line["status"]["revision"].to_string().replace('"', ""));
        revisions.map(|revision| revision.parse::<i64>().unwrap_or(0)).collect::<Vec<_>>()
    };
    eventually(revisions, |seen| seen.last() == Some(&2)).await;
    leader.kill();
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    follower.apply(&document(&["e"]), 2).await.unwrap();
    let seen = eventually(revisions, |seen| seen.last() == Some(&3)).await;
    assert!(seen.is_sorted(), "{seen:?}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
