//! Workers that die at any moment lose nothing, resurrect nothing and never remove what is not in S3.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;

use crate::CLUSTER;

/// Set this to the seed that a failed run printed.
const SEED_VARIABLE: &str = "SWIFT_S3_TESTS_SEED";
const OPERATIONS: u64 = 5_000;
/// Each works on names of its own, one operation after the other, so that it knows what must come out.
const CLIENTS: u64 = 16;
const NAMES_PER_CLIENT: u64 = 20;
/// Mirrored: the local objects stay.
const MIRROR: &str = "mirror";
/// Archived: the local objects go.
const VAULT: &str = "vault";

/// What must be in S3 in the end: for names of a container, content and marker; nothing for deleted ones.
type Expected = BTreeMap<(&'static str, String), Option<(String, String)>>;

/// xorshift64: the same numbers for the same seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().context(SEED_VARIABLE),
        Err(_) => Ok(RandomState::new().build_hasher().finish() | 1),
    }
}

#[tokio::test]
async fn workers_killed_at_random_moments_lose_nothing_and_resurrect_nothing() -> Result<()> {
    let seed = seed()?;
    eprintln!("{SEED_VARIABLE}={seed}");
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container(MIRROR).await?;
    site.swift.put_container(VAULT).await?;
    let vault = site.mapping(VAULT).set("retain_local", false);
    // An hour, as operators have it: without slack all nodes would work on every name at once, which is what it prevents.
    let config = SyncJson::new().set("verification_slack", 60);
    site.configure(&config.mapping(site.mapping(MIRROR)).mapping(vault))?;
    site.start_workers()?;

    let started = Instant::now();
    let expected = RefCell::new(Expected::new());
    let finished = Cell::new(false);
    let operations = async {
        let clients = (0..CLIENTS).map(|client| work(&site, client, seed, &expected));
        let outcome = try_join_all(clients).await;
        finished.set(true);
        outcome
    };
    let (_, kills) = tokio::try_join!(operations, kill_and_restart(&site, seed, &finished))?;
    eprintln!("{OPERATIONS} operations and {kills} kills in {:?}", started.elapsed());
    ensure!(kills >= 5, "only {kills} kills: nothing was tried");

    for worker in &site.workers {
        worker.kill().await?;
    }
    // The dust settles: what was set aside is tried now rather than in a minute.
    site.sync().await?;
    site.expect_equal(MIRROR).await.with_context(|| format!("seed {seed}"))?;
    expect_outcome(&site, &expected.into_inner()).await.with_context(|| format!("seed {seed}"))
}

/// One client's operations.
async fn work(site: &Site, client: u64, seed: u64, expected: &RefCell<Expected>) -> Result<()> {
    let mut dice = Dice(seed.wrapping_mul(client + 1) | 1);
    for step in 0..OPERATIONS / CLIENTS + 1 {
        let container = if dice.throw(4) == 0 { VAULT } else { MIRROR };
        let name = format!("{client}/{}", dice.throw(NAMES_PER_CLIENT));
        let slot = (container, name.clone());
        let marker = format!("{client}-{step}");
        let marked = [("X-Object-Meta-Marker", marker.as_str())];
        match dice.throw(10) {
            0..=5 => {
                let content = format!("content {marker} {}", "x".repeat(usize::try_from(dice.throw(2_000))?));
                site.swift.put_object(container, &name, content.clone(), &marked).await?;
                expected.borrow_mut().insert(slot, Some((content, marker)));
            }
            // Whether a POST to an object that is being archived still finds it is a matter of luck.
            6..=7 if container == MIRROR => {
                let posted = site.swift.object_request("POST", container, &name, "", &marked, None).await?;
                let mut expected = expected.borrow_mut();
                match (posted.status, expected.get_mut(&slot)) {
                    (202, Some(Some((_, known)))) => *known = marker,
                    (404, None | Some(None)) => {}
                    (status, known) => bail!("POST {name}: {status}, known as {known:?}"),
                }
            }
            _ => {
                let deleted = site.swift.delete_object(container, &name).await?;
                ensure!(matches!(deleted.status, 204 | 404), "DELETE {name}: {}", deleted.status);
                expected.borrow_mut().insert(slot, None);
            }
        }
    }
    Ok(())
}

/// Kills a worker and starts it again, until the clients have finished. Answers how often.
async fn kill_and_restart(site: &Site, seed: u64, finished: &Cell<bool>) -> Result<u32> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut kills = 0;
    while !finished.get() {
        // Not a wait for something: the moment itself is what is drawn.
        tokio::time::sleep(Duration::from_millis(50 + dice.throw(1_000))).await;
        let index = usize::try_from(dice.throw(site.workers.len() as u64))?;
        let worker = site.workers.get(index).context("no such worker")?;
        ensure!(worker.is_running(), "the worker of node {index} ended by itself");
        worker.kill().await?;
        kills += 1;
        worker.start()?;
    }
    Ok(kills)
}

async fn expect_outcome(site: &Site, expected: &Expected) -> Result<()> {
    for ((container, name), outcome) in expected {
        let key = KeyMapping::new(site.swift.account(), container, None).object_key(name);
        let remote = site.bucket.get(&key).await?;
        let found = remote.map(|object| {
            let marker = object.metadata.get("marker").cloned().unwrap_or_default();
            (String::from_utf8_lossy(&object.body).into_owned(), marker)
        });
        // The contents are long; their markers say enough.
        let markers = [&found, outcome].map(|side| side.as_ref().map(|(_, marker)| marker));
        ensure!(found == *outcome, "{container}/{name}: S3 and Swift have {markers:?}");
    }
    let kept = site.swift.list(VAULT).await?;
    ensure!(kept.is_empty(), "not archived: {kept:?}");
    Ok(())
}
