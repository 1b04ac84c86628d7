use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use swift_s3_control::store::{DataDirectory, OpenError, Prune, Store, backup};

use crate::support::{Server, document, progress};

fn open(data: &Path) -> Result<Store, OpenError> {
    let directory = DataDirectory::lock(data)?;
    Store::open(&directory)
}

/// A data directory whose sound database was changed by `change`.
async fn changed(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close().await;
    change(&folder.path().join("state.db"));
    folder
}

/// A data directory whose database was made by `make`.
fn with_database(make: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make(&folder.path().join("state.db"));
    folder
}

#[tokio::test]
async fn what_is_not_a_sound_database_of_this_program_is_refused_untouched() {
    let newer = changed(|path| {
        let database = Connection::open(path).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
    })
    .await;
    let foreign = with_database(|path| {
        Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1")
            .unwrap();
    });
    let text =
        with_database(|path| std::fs::write(path, "this is not a database at all".repeat(100)).unwrap());
    let torn = changed(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        assert!(bytes.len() > 8_192);
        bytes[4_096..].fill(0xa5);
        std::fs::write(path, bytes).unwrap();
    })
    .await;
    for (folder, expected) in [
        (newer, &["schema version 99", "upgrade swift-s3-control"][..]),
        (foreign, &["not a database of swift-s3-control", "another --data-dir"]),
        (text, &["damaged", "restore a backup"]),
        (torn, &["damaged", "restore a backup"]),
    ] {
        let path = folder.path().join("state.db");
        let before = std::fs::read(&path).unwrap();
        let refused = open(folder.path()).unwrap_err().to_string();
        assert!(expected.iter().all(|words| refused.contains(words)), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{refused}");
    }
}

#[tokio::test]
async fn the_data_directory_is_the_owners_alone_and_one_processs() {
    let server = Server::start().await;
    server.worker("n").await.report(vec![progress("db", "c", 1)]).await;
    let data = server.folder.path().join("data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(data.join("state.db-wal").exists());
    let second = DataDirectory::lock(&data).unwrap_err().to_string();
    assert!(second.contains("in use by another swift-s3-control"), "{second}");
    server.stop().await;
    assert!(!data.join("state.db-wal").exists(), "one file is left behind");
    DataDirectory::lock(&data).unwrap();
}

#[tokio::test]
async fn a_backup_of_a_running_server_can_be_served_from() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join("data").join("state.db");
    std::fs::create_dir(target.parent().unwrap()).unwrap();
    backup(&server.folder.path().join("data"), &target).unwrap();
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(backup(&server.folder.path().join("data"), &target).is_err(), "a backup is never overwritten");
    assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    server.apply(&document(&["d"]), 1).await.unwrap();
    let restored = Server::start_with(std::sync::Arc::new(copy), crate::support::settings(), None).await;
    assert_eq!(restored.control.push.current().revision, 1);
    restored.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn only_what_is_too_old_and_not_connected_is_forgotten() {
    let server = Server::start().await;
    for revision in 0..5 {
        server.apply(&document(&[&format!("c{revision}")]), revision).await.unwrap();
    }
    let mut here = server.worker("here").await;
    let mut gone = server.worker("gone").await;
    here.report(vec![progress("db1", "c", 1)]).await;
    gone.report(vec![progress("db2", "c", 1)]).await;
    drop(gone);
    let is_gone =
        || async { server.control.registry.nodes().iter().any(|node| node.connected_at_ms.is_none()) };
    crate::support::eventually(is_gone, |is_gone| *is_gone).await;
    server.control.save_nodes().await;
    let store = &server.control.store;
    let prune =
        |before_ms, feeds| Prune { before_ms, connected: vec!["here".to_owned()], feeds, clock_ms: 0 };
    let nothing = store.prune(prune(0, vec![1, 2])).await.unwrap();
    assert_eq!((nothing.nodes, nothing.feeds), (0, 0));
    let stale = store.reader().stale_feeds(i64::MAX, vec!["here".to_owned()]).await.unwrap();
    assert_eq!(stale.iter().map(|feed| feed.database_id.as_str()).collect::<Vec<_>>(), ["db2"]);
    let pruned = store.prune(prune(i64::MAX, stale.iter().map(|feed| feed.feed).collect())).await.unwrap();
    assert_eq!((pruned.nodes, pruned.feeds), (1, 1));
    assert_eq!(store.prune_revisions(1_000).await, Ok(0));
    assert_eq!(store.prune_revisions(2).await, Ok(3));
    let left = store.reader().revisions(i64::MAX, 10).await.unwrap();
    assert_eq!(left.iter().map(|record| record.revision).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(store.reader().known_feeds().await.unwrap()[0].node_id, "here");
    server.stop().await;
}
