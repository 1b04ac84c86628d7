//! What is remembered, and for how long.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use swift_s3_control::control::Settings;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Server, document, eventually, feed, key, progress, settings};

fn database(server: &Server) -> Connection {
    Connection::open(server.folder.path().join("data/state.db")).unwrap()
}

async fn known(server: &Server) -> Vec<String> {
    let feeds = server.control.store.reader().known_feeds().await.unwrap();
    feeds.into_iter().map(|feed| feed.database_id).collect()
}

#[tokio::test]
async fn a_long_stop_forgets_nothing() {
    let server = Server::start().await;
    server.worker("n").await.report(vec![progress("db", "c", 1)]).await;
    let (folder, path) = (Arc::clone(&server.folder), server.folder.path().join("data/state.db"));
    server.stop().await;
    let year = "365 * 86400000";
    let stopped = Connection::open(&path).unwrap();
    stopped
        .execute_batch(&format!(
            "UPDATE nodes SET last_seen_at = last_seen_at - {year};
             UPDATE progress SET updated_at = updated_at - {year}"
        ))
        .unwrap();
    drop(stopped);
    let server = Server::start_with(folder, settings(), None).await;
    server.control.prune().await;
    assert_eq!(known(&server).await, ["db"]);
    // Neither when the first node is back.
    let first = server.worker("first").await;
    first.heartbeat(Vec::new()).await;
    eventually(|| async { server.control.feeds().has_told_all("first") }, |told| *told).await;
    server.control.prune().await;
    assert_eq!(known(&server).await, ["db"]);
    server.stop().await;
}

#[tokio::test]
async fn what_a_connected_node_follows_is_never_forgotten_whoever_reported_it() {
    let settings = Settings { retention: Duration::ZERO, ..settings() };
    let server = Server::start_with(Arc::new(tempfile::tempdir().unwrap()), settings, None).await;
    let mut gone = server.worker("gone").await;
    gone.report(vec![progress("db1", "c", 1), progress("db2", "c", 1)]).await;
    drop(gone);
    let is_connected = || async { server.control.registry.is_connected("gone") };
    eventually(is_connected, |is_connected| *is_connected == Some(false)).await;
    server.control.save_nodes().await;

    let left = || async {
        server.control.prune().await;
        let keys = vec![key("db1"), key("db2")];
        let left = server.control.store.reader().progress(keys, 1_000_000).await.unwrap();
        left.into_iter().map(|feed| feed.key.unwrap().database_id).collect::<Vec<_>>()
    };
    assert_eq!(left().await.len(), 2, "nobody is there to say what it follows");
    let here = server.worker("here").await;
    assert_eq!(left().await.len(), 2, "it has not said yet");
    here.heartbeat(vec![feed("db1", "m", "c", 1)]).await;
    eventually(left, |left| *left == ["db1"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_removed_from_the_disk_is_not_forgotten() {
    let server = Server::start().await;
    drop(server.worker("n").await);
    let is_connected = || async { server.control.registry.is_connected("n") };
    eventually(is_connected, |is_connected| *is_connected == Some(false)).await;
    server.control.save_nodes().await;
    let other = database(&server);
    other
        .execute_batch(
            "CREATE TRIGGER no BEFORE DELETE ON nodes BEGIN SELECT RAISE(ABORT, 'a bad disk'); END",
        )
        .unwrap();
    let forget = ForgetNodeRequest { node_id: "n".to_owned() };
    let failed = server.status().await.forget_node(forget.clone()).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(server.control.registry.is_connected("n"), Some(false));
    other.execute_batch("DROP TRIGGER no").unwrap();
    server.status().await.forget_node(forget).await.unwrap();
    assert_eq!(server.control.registry.is_connected("n"), None);
    server.stop().await;
}

#[tokio::test]
async fn generations_grow_over_a_restored_backup_and_a_disk_that_takes_nothing() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let before = server.control.push.current().generation;
    let counter: u64 = database(&server)
        .query_row("SELECT value FROM counters WHERE name = 'epoch'", [], |row| row.get(0))
        .unwrap();
    assert!(counter > 1_700_000_000, "{counter}");
    let trigger = |when: &str| {
        format!("CREATE TRIGGER no_{when} BEFORE {when} ON counters BEGIN SELECT RAISE(ABORT, 'full'); END;")
    };
    let other = database(&server);
    other.execute_batch("UPDATE counters SET value = 1").unwrap();
    other.execute_batch(&(trigger("INSERT") + &trigger("UPDATE"))).unwrap();
    drop(other);
    // Generations of one start differ from those of another from one second to the next.
    eventually(
        || async { std::time::SystemTime::now() },
        |now| now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() > before >> 32,
    )
    .await;
    let server = server.restart().await;
    let current = server.control.push.current();
    assert!(current.generation > before, "{} after {before}", current.generation);
    assert_eq!(current.revision, 1);
    server.stop().await;
}

#[tokio::test]
async fn workers_that_were_there_count_until_they_had_time_to_come_back() {
    let patient = Settings { worker_absence: Duration::from_secs(3_600), ..settings() };
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(Arc::clone(&folder), patient, None).await;
    let (one, two) = (server.worker("a").await, server.worker("b").await);
    eventually(|| async { server.control.push.current().worker_count }, |count| *count == 2).await;
    drop((one, two));
    let server = server.restart().await;
    let mut first = crate::support::Node::connect(&server, crate::support::hello("a", "p")).await;
    assert_eq!(first.snapshot().await.worker_count, 2);
    server.stop().await;
    let server = Server::start_with(folder, settings(), None).await;
    eventually(|| async { server.control.push.current().worker_count }, |count| *count == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_switch_that_is_stored_but_was_not_pushed_is_pushed_when_asked_for_again() {
    use swift_s3_control::store::SwitchChange;
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    server.control.store.switch(&id, SwitchChange::Pause { at_ms: 1 }, "x").await.unwrap();
    let mut node = server.worker("n").await;
    let pause = PauseMappingRequest { mapping: id.clone() };
    assert!(!server.status().await.pause_mapping(pause).await.unwrap().into_inner().changed);
    assert!(server.control.push.current().is_paused(&id));
    assert!(node.snapshot().await.switches[0].is_paused);
    server.stop().await;
}
