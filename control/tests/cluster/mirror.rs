//! What is in etcd and what is in the database, looked at from inside.

use std::time::Duration;

use rusqlite::Connection;
use swift_s3_control::store::mirror::{
    Keys, Loaded, Mirror, Operation, SCHEMA, Sequence, State, TABLES, TableDigest, WriteError, digests, load,
};
use swift_s3_control::store::{
    CopyDirectory, Line, NewRevision, NodeRecord, Prune, Repeat, Store, StoreError, SwitchChange, UsageNews,
};
use swift_s3_etcd::election::campaign;
use swift_s3_etcd::{Election, Etcd, Lease};
use swift_s3_proto::v1::{ActivityKind, RemoteUsage, UsageReport};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::etcd::{EtcdProcess, client};
use crate::gate::{Gate, Way};
use crate::support::{parked, progress};

struct Led {
    etcd: Etcd,
    lease: Lease,
    keys: Keys,
    created: i64,
    folder: TempDir,
}

impl Led {
    async fn new(etcd: Etcd) -> Self {
        let keys = Keys::new("/swift-s3-sync/");
        let lease = Lease::grant(&etcd).await.unwrap();
        let Election::Won(created) = campaign(&etcd, &keys.leader(), b"{}", &lease).await.unwrap() else {
            panic!("somebody leads")
        };
        Self { etcd, lease, keys, created, folder: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> State {
        self.keys.state(1)
    }

    async fn sequence(&self) -> Sequence {
        Sequence::begin(&self.etcd, &self.keys, self.created, "test").await.unwrap()
    }

    async fn store(&self) -> Store {
        let directory = CopyDirectory::lock(self.folder.path()).unwrap();
        let (path, connection) = directory.create(1, SCHEMA).unwrap();
        let mirror =
            Mirror::new(Handle::current(), self.sequence().await, self.state(), self.lease.term().clone());
        Store::mirrored(&path, connection, mirror).unwrap()
    }

    /// What a leader would find.
    async fn read(&self) -> (Connection, Loaded) {
        read(&self.etcd, self.state()).await
    }

    fn own(&self) -> [TableDigest; TABLES.len()] {
        let path = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = path.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
        digests(&Connection::open(path).unwrap()).unwrap()
    }
}

async fn read(etcd: &Etcd, state: State) -> (Connection, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut connection) = CopyDirectory::lock(folder.path()).unwrap().create(1, SCHEMA).unwrap();
    let revision = etcd.list("/x", 1).await.unwrap().revision;
    let (runtime, etcd) = (Handle::current(), etcd.clone());
    tokio::task::spawn_blocking(move || {
        let loaded = load(&runtime, &etcd, &state, revision, &mut connection, &mut |_| {}).unwrap();
        (connection, loaded)
    })
    .await
    .unwrap()
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn one_job(store: &Store, dice: &mut Dice, revision: &mut i64) -> Result<(), StoreError> {
    let database = format!("db/{}", dice.below(4));
    let number = i64::try_from(dice.below(1_000)).unwrap();
    match dice.below(11) {
        0 | 1 => {
            let mut feed = progress(&database, "c ä", number);
            feed.parked = (0..dice.below(150)).map(|n| parked(&format!("o/{n}\n"), 1)).collect();
            store.save_progress("n", vec![feed]).await
        }
        2 => {
            let mut feed = progress(&database, "c ä", number);
            feed.is_complete = false;
            feed.parked = vec![parked(&format!("o/{}\n", dice.below(150)), 0)];
            feed.unparked = (0..dice.below(50)).map(|n| format!("o/{n}\n")).collect();
            match store.save_progress("n", vec![feed]).await {
                Err(StoreError::Unknown { .. }) => Ok(()),
                other => other,
            }
        }
        3 => {
            let mut gone = progress(&database, "c ä", 1);
            gone.cursors.clear();
            let again = progress(&database, "c ä", number);
            let feeds = if dice.below(2) == 0 { vec![gone] } else { vec![gone, again] };
            store.save_progress("n", feeds).await
        }
        4 => {
            let new = NewRevision {
                document: "x".repeat(usize::try_from(dice.below(1_500_000)).unwrap()),
                author: "a".to_owned(),
                comment: String::new(),
                mappings: 1,
                expected: *revision,
                rolled_back_to: 0,
                applied_at_ms: 1,
            };
            store.apply(new).await.map(|record| *revision = record.revision)
        }
        5 => store.prune_revisions(2).await.map(drop),
        6 => {
            let record = |id: u64| NodeRecord {
                node_id: format!("node {id}"),
                role: 1,
                version: String::new(),
                host: String::new(),
                addresses: vec!["a".to_owned()],
                capabilities: Vec::new(),
                revision: number,
                last_seen_at_ms: number,
                is_lost: false,
            };
            store.save_nodes(vec![record(dice.below(3)), record(dice.below(3))]).await
        }
        7 => {
            let change = [SwitchChange::Pause { at_ms: 5 }, SwitchChange::Resume];
            store.switch("m", change[usize::try_from(dice.below(2)).unwrap()], "me").await.map(drop)
        }
        8 => {
            let (key, group, rest) =
                (format!("key {}", number % 40), format!("group {}", number % 2), "more");
            let repeat = match dice.below(4) {
                0 => Repeat::Never,
                1 => Repeat::Counted { group, rest },
                2 => Repeat::Once { key, group, rest },
                _ => Repeat::Summed { key, count: 7, group, rest },
            };
            let line = Line::happened(ActivityKind::NodeLost, number, format!("detail {number}"));
            store.record(vec![Line { repeat, ..line }]).await
        }
        9 => {
            let usage = Some(RemoteUsage { writes: 3, bytes_sent: u64::MAX, ..RemoteUsage::default() });
            let reports = vec![UsageReport { mapping_id: format!("m {}", number % 3), usage }];
            let usage =
                UsageNews { instance_id: "p".to_owned(), number: u64::try_from(number).unwrap(), reports };
            store.save_report("n/1", Vec::new(), usage).await
        }
        _ => {
            let feeds = vec![i64::try_from(dice.below(4)).unwrap()];
            let prune = Prune { before_ms: i64::MAX, connected: Vec::new(), feeds, clock_ms: number };
            store.prune(prune).await.map(drop)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_written_etcd_has_what_the_database_has() {
    let process = EtcdProcess::start().await;
    let led = Led::new(process.client()).await;
    let store = led.store().await;
    let (mut dice, mut revision, mut seen) = (Dice(1), 0, [0; TABLES.len()]);
    for round in 0..12 {
        for _ in 0..12 {
            one_job(&store, &mut dice, &mut revision).await.unwrap();
        }
        store.settle().await.unwrap();
        let (copy, loaded) = led.read().await;
        assert_eq!(loaded.digests, led.own(), "in round {round}");
        assert_eq!(digests(&copy).unwrap(), led.own(), "in round {round}");
        for (seen, digest) in seen.iter_mut().zip(&loaded.digests) {
            *seen += digest.rows;
        }
        assert_eq!(loaded.into_removals(), Vec::<Vec<Operation>>::new(), "in round {round}");
    }
    assert!([0, 2, 3, 4, 6, 7, 8].iter().all(|index| seen[*index] > 0), "{seen:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_in_neither_and_takes_nothing_else_with_it() {
    let process = EtcdProcess::start().await;
    let led = Led::new(process.client()).await;
    let store = led.store().await;
    let mut bad = progress("bad", "c", 1);
    bad.parked = vec![parked(&"x".repeat(5_000), 1)];
    let (good, refused) = tokio::join!(
        store.save_progress("n", vec![progress("good", "c", 1)]),
        store.save_progress("n", vec![progress("also", "c", 1), bad]),
    );
    good.unwrap();
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let (_, loaded) = led.read().await;
    assert_eq!((loaded.digests[2].rows, loaded.digests), (1, led.own()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_cut_short_anywhere_leaves_no_cursor_without_its_rows() {
    let process = EtcdProcess::start().await;
    let led = Led::new(process.client()).await;
    let store = led.store().await;
    let mut feed = progress("db", "c", 10);
    feed.parked = (0..250).map(|number| parked(&format!("old {number}"), 1)).collect();
    store.save_progress("n", vec![feed]).await.unwrap();
    let before: Vec<(String, String)> = process.rows().await;
    let mut feed = progress("db", "c", 20);
    feed.parked = (0..250).map(|number| parked(&format!("new {number}"), 1)).collect();
    store.save_progress("n", vec![feed]).await.unwrap();
    store.close().await;
    // The order in which keys were written or removed is that of their revisions.
    let (etcd, state) = (process.client(), led.state());
    let first = etcd.get(&before.iter().find(|(key, _)| key.ends_with("/progress/1")).unwrap().0).await;
    let last = first.unwrap().unwrap().modified;
    let mut seen = 0;
    for revision in (last - 4)..=(last + 4) {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut connection) = CopyDirectory::lock(folder.path()).unwrap().create(1, SCHEMA).unwrap();
        let (runtime, etcd, state) = (Handle::current(), etcd.clone(), state.clone());
        let rows = tokio::task::spawn_blocking(move || {
            load(&runtime, &etcd, &state, revision, &mut connection, &mut |_| {}).ok()?;
            let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            let cursors = connection.query_row("SELECT cursors FROM progress", [], |row| row.get(0));
            let failures = count("SELECT coalesce(sum(failures), 0) FROM progress");
            assert_eq!(failures, count("SELECT count(*) FROM parked"));
            let (old, new) = ("object LIKE 'old %'", "object LIKE 'new %'");
            let of = |which: &str| count(&format!("SELECT count(*) FROM parked WHERE {which}"));
            Some((cursors.unwrap_or_else(|_| String::new()), of(old), of(new)))
        })
        .await
        .unwrap();
        let Some((cursors, old, new)) = rows else { continue };
        seen += 1;
        match cursors.as_str() {
            r#"{"own":10}"# => assert_eq!(old, 250, "{new}"),
            r#"{"own":20}"# => assert_eq!(new, 250, "{old}"),
            other => assert_eq!((other, old, new), ("", 0, 0)),
        }
    }
    assert!(seen > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_feeds_with_one_key_the_later_holds_and_rows_of_no_feed_are_dropped() {
    let process = EtcdProcess::start().await;
    let led = Led::new(process.client()).await;
    let store = led.store().await;
    let mut feed = progress("db", "c", 10);
    feed.parked = vec![parked("o", 1)];
    store.save_progress("n", vec![feed]).await.unwrap();
    let (etcd, row) = (process.client(), process.row("progress/1").await);
    let value = String::from_utf8(etcd.get(&row).await.unwrap().unwrap().value).unwrap();
    // As if a writer had been killed between the two halves of taking it off and taking it up again.
    let newer = value.replace("\"feed\":1", "\"feed\":10").replace(":10}\"", ":99}\"");
    let newer = newer.replace("\\\"own\\\":10", "\\\"own\\\":99");
    etcd.put(&row.replace("/progress/1", "/progress/10"), newer.into_bytes(), None).await.unwrap();
    etcd.put(&row.replace("/progress/1", "/parts/revisions/9/00/0"), b"x".to_vec(), None).await.unwrap();
    let (copy, loaded) = led.read().await;
    let found: Vec<(i64, String)> = copy
        .prepare("SELECT feed, cursors FROM progress")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(found, [(10, r#"{"own":99}"#.to_owned())]);
    assert_eq!((loaded.digests[2].rows, loaded.digests[3].rows), (1, 0));
    let removals = format!("{:?}", loaded.into_removals());
    for gone in ["/progress/1", "/parked/1/o", "/parts/revisions/9/00/0"] {
        assert!(
            removals.contains(&format!("delete {}{gone}", row.trim_end_matches("/progress/1"))),
            "{removals}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_late_changes_nothing() {
    let process = EtcdProcess::start().await;
    let gate = Gate::before(process.port()).await;
    // The first address is behind the gate, the second is not.
    let both = client(&[&gate.url(), &process.url()]);
    let keys = Keys::new("/swift-s3-sync/");
    let put = |value: &str| vec![Operation::Put("/x".to_owned(), value.as_bytes().to_vec())];
    let mut sequence = Sequence::begin(&both, &keys, 0, "test").await.unwrap();
    sequence.write(put("1")).await.unwrap();
    gate.set(Way { holds_requests: true, ..Way::default() });
    // Its first way is the closed one: it waits there, and is carried out on the other.
    sequence.write(put("2")).await.unwrap();
    sequence.write(put("3")).await.unwrap();
    gate.set(Way::default());
    tokio::time::sleep(Duration::from_millis(500)).await;
    sequence.write(Vec::new()).await.unwrap();
    assert_eq!(process.client().get("/x").await.unwrap().unwrap().value, b"3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_write_is_not_looked_for_in_a_backup_that_was_restored() {
    let mut process = EtcdProcess::start().await;
    let gate = Gate::before(process.port()).await;
    let etcd = client(&[&gate.url()]);
    let led = Led::new(process.client()).await;
    let mut sequence = Sequence::begin(&etcd, &led.keys, led.created, "test").await.unwrap();
    let put = |value: &str| vec![Operation::Put("/x".to_owned(), value.as_bytes().to_vec())];
    sequence.write(put("1")).await.unwrap();
    let backup = led.folder.path().join("backup");
    process.save(&backup);
    sequence.write(put("2")).await.unwrap();
    gate.set(Way { holds_requests: true, ..Way::default() });
    assert!(matches!(sequence.write(put("3")).await, Err(WriteError::Unknown(_))));
    process.restore(&backup).await;
    gate.set(Way::default());
    // Its own value of before is there, and the leader's key; what was written since is not.
    assert_eq!(sequence.write(put("4")).await, Err(WriteError::NotOurs { unclear: false }));
    assert_eq!(process.client().get("/x").await.unwrap().unwrap().value, b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_no_more_writes_nothing() {
    let process = EtcdProcess::start().await;
    let led = Led::new(process.client()).await;
    let store = led.store().await;
    store.save_progress("n", vec![progress("db", "c", 1)]).await.unwrap();
    // Somebody made the key anew: for us the lease seems fine.
    let etcd = process.client();
    etcd.delete(&led.keys.leader(), false).await.unwrap();
    etcd.put(&led.keys.leader(), b"{}".to_vec(), None).await.unwrap();
    let refused = store.save_progress("n", vec![progress("db", "c", 2)]).await;
    assert_eq!(refused, Err(StoreError::Deposed));
    assert!(!led.lease.term().is_valid(), "it knows from then on");
    let (_, loaded) = led.read().await;
    assert_eq!(loaded.digests, led.own(), "neither has it");
    // Two at a time never write, even if both think that they lead.
    let mut first = Sequence::begin(&etcd, &Keys::new("/other/"), 0, "a").await.unwrap();
    let mut second = Sequence::begin(&etcd, &Keys::new("/other/"), 0, "b").await.unwrap();
    second.write(Vec::new()).await.unwrap();
    assert_eq!(first.write(Vec::new()).await, Err(WriteError::NotOurs { unclear: false }));
}
