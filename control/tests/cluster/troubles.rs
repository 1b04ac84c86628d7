//! etcd is away, slow, empty, compacted, or holds what nobody can read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swift_s3_etcd::Repeat;
use swift_s3_etcd::etcd_client::CompactionOptions;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::etcd::EtcdProcess;
use crate::gate::{Gate, Way};
use crate::processes::{Process, command, pair};
use crate::support::{document, eventually, progress};

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_was_away_loses_nothing_and_changes_are_refused_meanwhile() {
    let mut etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = leader.node("n").await;
    assert_eq!(node.report(vec![progress("db", "c", 1)]).await, "");
    etcd.kill();
    let refused = leader.apply(&document(&["d"]), 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    // By its own clock, without a word from etcd.
    eventually(|| leader.revision(), Result::is_err).await.unwrap_err();
    etcd.start_again().await;
    for process in [&leader, &follower] {
        assert_eq!(process.answers().await, 1);
        assert_eq!(process.cursor("db").await.unwrap(), Some(1));
    }
    assert_eq!(follower.apply(&document(&["d"]), 1).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_was_wiped_begins_empty_and_says_so_and_generations_still_grow() {
    let mut etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let before = leader.node("n").await.snapshot_of(1).await;
    // Generations begin with the second in which somebody begins to lead, and here nobody remembers the last one.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    eventually(|| async { second() }, |second| *second > before.generation >> 32).await;
    etcd.wipe().await;
    let is_empty = |revision: &Result<i64, _>| revision.as_ref().is_ok_and(|revision| *revision == 0);
    for process in [&leader, &follower] {
        eventually(|| process.revision(), is_empty).await.unwrap();
    }
    let log = leader.log() + &follower.log();
    assert!(log.matches("there is no state in etcd; beginning an empty one").count() >= 2, "{log}");
    let after = follower.node("n").await.snapshot().await;
    assert_eq!(after.revision, 0);
    assert!(after.generation > before.generation);
    assert_eq!(follower.apply(&document(&["d"]), 0).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_disturbs_nobody() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    for number in 0..5 {
        leader.apply(&document(&[&format!("c{number}")]), number).await.unwrap();
    }
    let client = etcd.client();
    let revision = client.list("/", 1_000).await.unwrap().revision;
    client
        .call("compacting", Repeat::Freely, Duration::from_secs(5), |mut client| async move {
            client.compact(revision, Some(CompactionOptions::new().with_physical())).await
        })
        .await
        .unwrap();
    assert_eq!(follower.apply(&document(&["d"]), 5).await.unwrap(), 6);
    leader.kill();
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    assert_eq!(follower.answers().await, 6);
    let listed =
        follower.config().await.list_revisions(ListRevisionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.revisions.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_etcd_makes_changes_slow_and_nothing_else() {
    let etcd = EtcdProcess::start().await;
    let gate = Gate::before(etcd.port()).await;
    let process = Process::start(&gate.url(), &["--etcd-lease-seconds=10"]);
    process.answers().await;
    gate.set(Way { delay: Duration::from_millis(150), ..Way::default() });
    let mut node = process.node("n").await;
    for cursor in 1..=5 {
        assert_eq!(node.report(vec![progress("db", "c", cursor)]).await, "");
    }
    assert_eq!(process.apply(&document(&["c"]), 0).await.unwrap(), 1);
    assert!(process.is_leading());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_told_as_it_was() {
    let etcd = EtcdProcess::start().await;
    let gate = Gate::before(etcd.port()).await;
    let process = Process::start(&gate.url(), &["--etcd-lease-seconds=30"]);
    process.answers().await;
    // etcd takes it, and its word does not arrive.
    gate.set(Way { holds_answers: true, ..Way::default() });
    let (applied, ()) = tokio::join!(async { process.apply(&document(&["c"]), 0).await }, async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        gate.set(Way::default());
    });
    assert_eq!(applied.unwrap(), 1, "it is in etcd, and was found there");
    assert_eq!(process.apply(&document(&["d"]), 1).await.unwrap(), 2);
    // etcd does not even hear of it for longer than anybody waits.
    gate.set(Way { holds_requests: true, ..Way::default() });
    let refused = process.apply(&document(&["e"]), 2).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("may have been stored all the same"), "{refused:?}");
    assert_eq!(process.revision().await.unwrap(), 2);
    gate.set(Way::default());
    // Whatever became of it, the next change is on top of what readers see, and etcd agrees.
    let last = document(&["f"]);
    let applied = eventually(|| process.apply(&last, 2), Result::is_ok).await.unwrap();
    assert_eq!(applied, 3);
    let stored = etcd.rows().await.into_iter().find(|(key, _)| key.ends_with("/revisions/3")).unwrap().1;
    assert!(stored.contains(r#"\"container\": \"f\""#), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_value_is_named_and_nobody_leads_with_it() {
    let etcd = EtcdProcess::start().await;
    let mut process = Process::start(&etcd.url(), &[]);
    process.answers().await;
    process.apply(&document(&["c"]), 0).await.unwrap();
    let mut node = process.node("n").await;
    let mut told = progress("db", "c", 1);
    told.parked = vec![crate::support::parked("o", 1)];
    assert_eq!(node.report(vec![told]).await, "");
    process.kill();
    let client = etcd.client();
    let key = etcd.row("revisions/1").await;
    let good = client.get(&key).await.unwrap().unwrap().value;
    let process = process.restart(&etcd.url());
    process.answers().await;
    let mut process = process;
    process.kill();
    let huge = format!("{{\"revision\":1,\"document\":\"{}\"}}", "x".repeat(1_400_000));
    for (bad, words) in [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{\"revision\":1}", "is missing"),
        ("{\"revision\":2}", "another key than its place"),
        (huge.as_str(), "is missing"),
        ("{\"$parts\":3,\"bytes\":1500000,\"sha256\":\"00\"}", "part 0 is missing"),
        ("{\"$parts\":99999999999,\"bytes\":99999999999,\"sha256\":\"00\"}", "bytes in"),
    ] {
        client.put(&key, bad.as_bytes().to_vec(), None).await.unwrap();
        let mut damaged = Process::start(&etcd.url(), &[]);
        let told = |answer: &Result<i64, tonic::Status>| {
            answer.as_ref().is_err_and(|status| status.message().contains("is damaged"))
        };
        let status = eventually(|| damaged.revision(), told).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains(&key) && status.message().contains(words), "{bad:.40}: {status:?}");
        damaged.kill();
    }
    client.put(&key, good, None).await.unwrap();
    let process = Process::start(&etcd.url(), &[]);
    assert_eq!(process.answers().await, 1);
    assert_eq!(process.cursor("db").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_the_key_that_names_them_are_not_taken_for_nothing() {
    let etcd = EtcdProcess::start().await;
    let mut process = Process::start(&etcd.url(), &[]);
    process.answers().await;
    process.apply(&document(&["c"]), 0).await.unwrap();
    process.kill();
    let meta = "/swift-s3-sync/control/meta";
    let value = etcd.client().get(meta).await.unwrap().unwrap().value;
    etcd.client().delete(meta, false).await.unwrap();
    let process = process.restart(&etcd.url());
    let told = |answer: &Result<i64, tonic::Status>| {
        answer.as_ref().is_err_and(|status| status.message().contains("no /swift-s3-sync/control/meta"))
    };
    eventually(|| process.revision(), told).await.unwrap_err();
    etcd.client().put(meta, value, None).await.unwrap();
    assert_eq!(process.answers().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_or_another_program_wrote_is_refused_at_the_start() {
    let etcd = EtcdProcess::start().await;
    let client = etcd.client();
    for (meta, words) in [
        (r#"{"application":"swift-s3-control","schema":99,"state":1}"#, "schema version 99"),
        (r#"{"application":"other","schema":1,"state":1}"#, "was not written by swift-s3-control"),
        ("nothing", "was not written by swift-s3-control"),
    ] {
        client.put("/swift-s3-sync/control/meta", meta.as_bytes().to_vec(), None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut process = command(&folder.path().join("data"), &etcd.url()).spawn().unwrap();
        let status = process.wait().unwrap();
        let mut told = String::new();
        std::io::Read::read_to_string(process.stderr.as_mut().unwrap(), &mut told).unwrap();
        assert_eq!(status.code(), Some(3), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_many_megabytes_survives_its_leader() {
    let etcd = EtcdProcess::start().await;
    let (mut leader, follower) = pair(&etcd.url(), &[]).await;
    let containers: Vec<String> = (0..15_000).map(|number| format!("container-{number}")).collect();
    let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
    let large = document(&containers);
    assert!(large.len() > 2_000_000);
    assert_eq!(leader.apply(&large, 0).await.unwrap(), 1);
    let before = leader.node("n").await.snapshot_of(1).await;
    leader.kill();
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    follower.answers().await;
    let snapshot = follower.node("n").await.snapshot_of(1).await;
    assert!(snapshot.document == before.document && snapshot.document.len() > 2_000_000);
    // Its parts go with it.
    follower.apply(&document(&["c"]), 1).await.unwrap();
    let row = etcd.row_of_large("revisions/1").await;
    assert!(row.starts_with("{\"$parts\":"), "{row:.100}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_etcd_gives_way_and_follows_later() {
    let etcd = EtcdProcess::start().await;
    let gate = Gate::before(etcd.port()).await;
    let leader = Process::start(&gate.url(), &[]);
    leader.answers().await;
    let follower = Process::start(&etcd.url(), &[]);
    follower.answers().await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    gate.set(Way { holds_requests: true, holds_answers: true, ..Way::default() });
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    // Its clients reach it as before.
    let status = leader.revision().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(follower.apply(&document(&["d"]), 1).await.unwrap(), 2);
    gate.set(Way::default());
    assert_eq!(leader.answers().await, 2);
    assert!(follower.is_leading() && !leader.is_leading());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_rights_on_the_prefix_is_enough() {
    let etcd = EtcdProcess::start().await;
    etcd.ask_for_password("hush-hush").await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let arguments = ["--etcd-user", "control", "--etcd-password-file", password.to_str().unwrap()];
    let refused = Process::start(&etcd.url(), &arguments);
    let told = || async { refused.log() };
    eventually(told, |log| log.contains("cannot stand for election") && log.contains("authentication")).await;
    assert!(!refused.log().contains("wrong"), "{}", refused.log());
    drop(refused);
    std::fs::write(&password, "hush-hush\n").unwrap();
    let (mut leader, follower) = pair(&etcd.url(), &arguments).await;
    let containers: Vec<String> = (0..6_000).map(|number| format!("container-{number}")).collect();
    let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
    follower.apply(&document(&containers), 0).await.unwrap();
    leader.kill();
    eventually(|| async { follower.is_leading() }, |is_so| *is_so).await;
    assert_eq!(follower.apply(&document(&["c"]), 1).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restored_backup_the_state_of_the_backup_is_in_force() {
    let mut etcd = EtcdProcess::start().await;
    let (leader, follower) = pair(&etcd.url(), &[]).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    etcd.save(&backup);
    leader.apply(&document(&["d"]), 1).await.unwrap();
    let before = leader.node("n").await.snapshot_of(2).await;
    etcd.restore(&backup).await;
    // Whoever goes on as the leader with what it knew is told so at its next write at the latest.
    let is_first = |revision: &Result<i64, _>| revision.as_ref().is_ok_and(|revision| *revision == 1);
    let ask = || async {
        drop(leader.apply(&document(&["x"]), 7).await);
        let mut node = match leader.try_channel().await {
            Ok(_) if leader.revision().await.is_ok() => leader.node("n").await,
            _ => return follower.revision().await,
        };
        // The stream may end with the leadership.
        drop(node.try_report(vec![progress("db", "c", 1)]).await);
        follower.revision().await
    };
    eventually(ask, is_first).await.unwrap();
    assert_eq!(leader.answers().await, 1);
    let after = follower.node("m").await.snapshot().await;
    assert_eq!(after.revision, 1);
    assert!(after.generation > before.generation, "{} after {}", after.generation, before.generation);
}
