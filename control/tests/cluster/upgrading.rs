//! A state that an older version wrote.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use swift_s3_proto::v1::*;

use crate::copying::copy;
use crate::etcd::EtcdProcess;
use crate::processes::Process;
use crate::support::{Server, document, settings};

/// A data directory as the version with schema 1 leaves it, with something in every table.
fn of_schema_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let database = Connection::open(data.join("state.db")).unwrap();
    database.execute_batch(include_str!("../../src/store/schema_1.sql")).unwrap();
    database.pragma_update(None, "application_id", 0x7377_5333).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    let insert = "INSERT INTO revisions VALUES (1, ?, 1700000000000, 'ops', 'first', 1, 0)";
    database.execute(insert, [document(&["c"])]).unwrap();
    database
        .execute_batch(
            "INSERT INTO nodes VALUES ('old', 1, '0.1.0', 'h', '[]', '[]', 1, 1700000000000);
             INSERT INTO progress VALUES (7, 'identity-db', 'db', 'm', 'AUTH_a', 'c', 'old', '{\"own\":42}', '[0]', 1, '', 1, 5);
             INSERT INTO parked VALUES (7, 'o/ä', 'AUTH_a', 'c', 3, 'own', 0, '1', 'remote_refused', 'no', 2, 9);
             INSERT INTO switches VALUES ('m', 1, 'ops', 5, '', NULL);
             INSERT INTO counters VALUES ('epoch', 3);",
        )
        .unwrap();
    folder
}

fn place(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("data").display())
}

async fn meta(etcd: &EtcdProcess) -> serde_json::Value {
    let entry = etcd.client().get("/swift-s3-sync/control/meta").await.unwrap().unwrap();
    serde_json::from_slice(&entry.value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_in_etcd_of_an_older_version_is_taken_over_whole() {
    let etcd = EtcdProcess::start().await;
    let old = of_schema_1();
    let (code, _, told) = copy(&etcd.url(), &place(old.path()), "etcd", &[]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(meta(&etcd).await["schema"], 1, "a copy is what it is a copy of");
    let before = meta(&etcd).await["state"].clone();

    // Back to a directory, without a process of this version in between.
    let back = tempfile::tempdir().unwrap();
    let (code, _, told) = copy(&etcd.url(), "etcd", &place(back.path()), &[]);
    assert_eq!(code, Some(0), "{told}");
    let server = Server::start_with(Arc::new(back), settings(), None).await;
    let read = server.config().await.get_config(GetConfigRequest::default()).await.unwrap().into_inner();
    assert_eq!(read.revision.unwrap().comment, "first");
    server.stop().await;

    // Somebody tried before and did not come to an end.
    let unfinished = "/swift-s3-sync/control/state/77/progress/1";
    etcd.client().put(unfinished, b"{}".to_vec(), None).await.unwrap();
    let mut process = Process::start(&etcd.url(), &[]);
    let activity = async |process: &Process| {
        let mut status = process.status().await;
        let told =
            status.list_activity(ListActivityRequest::default()).await.unwrap().into_inner().activities;
        told.into_iter().map(|one| (one.kind(), one.revision)).collect::<Vec<_>>()
    };
    for revision in [1, 2] {
        assert_eq!(process.answers().await, revision);
        assert_eq!(process.cursor("db").await.unwrap(), Some(42));
        let failures = process.status().await.list_failures(ListFailuresRequest::default()).await.unwrap();
        assert_eq!(failures.into_inner().failures[0].row.as_ref().unwrap().object, "o/ä");
        assert_eq!(meta(&etcd).await["schema"], 2);
        assert_ne!(meta(&etcd).await["state"], before);
        let left = format!("/state/{before}/");
        let rows = etcd.rows().await;
        assert!(rows.iter().all(|(key, _)| !key.contains(&left)), "the old form is removed");
        assert!(rows.iter().all(|(key, _)| !key.contains("/state/77/")), "{rows:?}");
        // What only this version keeps is there from now on, and survives a kill.
        if revision == 1 {
            process.apply(&document(&["c", "d"]), 1).await.unwrap();
            process = process.restart(&etcd.url());
        } else {
            let told = activity(&process).await;
            assert!(told.contains(&(ActivityKind::ConfigApplied, 2)), "{told:?}");
        }
    }
}
