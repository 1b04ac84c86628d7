//! Clients that write, overwrite, change and delete names of their own, and know what must come out.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use swift_s3_policy::KeyMapping;

use crate::s3_client::S3Client;
use crate::swift_client::SwiftClient;

/// Set this to the seed that a failed run printed.
pub const SEED_VARIABLE: &str = "SWIFT_S3_TESTS_SEED";
/// A cluster with a node that is away, frozen or coming back answers in the end.
const TRIES: u32 = 60;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// xorshift64: the same numbers for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Any number is a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 0 to `sides` - 1.
    pub fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }

    /// Between the two, in milliseconds.
    pub fn pause(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or_default();
        least + Duration::from_millis(self.throw(span + 1))
    }
}

/// The seed of [`SEED_VARIABLE`], else a new one.
pub fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().context(SEED_VARIABLE),
        Err(_) => Ok(RandomState::new().build_hasher().finish() >> 16),
    }
}

/// What to do; see [`MixedLoad::run`].
#[derive(Debug, Clone)]
pub struct MixedLoad {
    /// Decides on everything that is done.
    pub seed: u64,
    /// Operations of all clients together.
    pub operations: u64,
    /// Each works on names of its own, one operation after the other, so that it knows what must come out.
    pub clients: u64,
    /// Names of each client and container.
    pub names: u64,
    /// Containers, which must exist.
    pub containers: Vec<String>,
    /// Metadata is changed in so many of a thousand operations.
    pub posts: u64,
    /// Objects are deleted in so many of a thousand operations; the others are PUTs, as are those whose object is not there.
    pub deletes: u64,
    /// Rest of each client after each operation.
    pub pause: Duration,
    /// Clients end early when this is set.
    pub enough: Arc<AtomicBool>,
}

impl MixedLoad {
    /// As fast as it goes: six PUTs, one POST and three DELETEs of ten.
    pub fn new(seed: u64, operations: u64, containers: &[&str]) -> Self {
        Self {
            seed,
            operations,
            clients: 12,
            names: 40,
            containers: containers.iter().map(|name| (*name).to_owned()).collect(),
            posts: 50,
            deletes: 250,
            pause: Duration::ZERO,
            enough: Arc::default(),
        }
    }
}

/// The content and the marker that a name must have, or nothing when it was deleted last.
type Wanted = Option<(String, String)>;

/// What was done, and what must come out.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    wanted: BTreeMap<(String, String), Wanted>,
    /// How often each name was changed.
    times: BTreeMap<(String, String), u64>,
    /// How often each name was written.
    written: BTreeMap<(String, String), u64>,
    /// PUTs that succeeded.
    pub puts: u64,
    /// POSTs that found their object.
    pub posts: u64,
    /// DELETEs that found their object.
    pub deletes: u64,
    /// Requests that Swift did not answer with a clear yes or no, and that were made again.
    pub retries: u64,
}

impl Outcome {
    /// Operations that changed something.
    pub fn changes(&self) -> u64 {
        self.puts + self.posts + self.deletes
    }

    /// Names that exist in the end.
    pub fn live(&self) -> usize {
        self.wanted.values().flatten().count()
    }

    /// How often an object was changed, by its key in the bucket.
    pub fn times(&self, account: &str) -> BTreeMap<String, u64> {
        by_key(account, &self.times)
    }

    /// How often an object was written by a PUT, by its key in the bucket.
    pub fn writes(&self, account: &str) -> BTreeMap<String, u64> {
        by_key(account, &self.written)
    }

    /// Adds what others did to other names.
    pub fn merge(&mut self, other: Self) {
        self.wanted.extend(other.wanted);
        self.times.extend(other.times);
        self.written.extend(other.written);
        self.puts += other.puts;
        self.posts += other.posts;
        self.deletes += other.deletes;
        self.retries += other.retries;
    }

    /// Every name whose object in the bucket is not what was written last, with what is wrong: lost, resurrected, old.
    pub async fn violations(&self, account: &str, bucket: &S3Client) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for ((container, name), wanted) in &self.wanted {
            let key = KeyMapping::new(account, container, None).object_key(name);
            let remote = bucket.get(&key).await?.map(|object| {
                let marker = object.metadata.get("marker").cloned().unwrap_or_default();
                (String::from_utf8_lossy(&object.body).into_owned(), marker)
            });
            let what = match (wanted, &remote) {
                _ if *wanted == remote => continue,
                (Some((_, marker)), None) => format!("lost, was {marker}"),
                (None, Some((_, marker))) => format!("resurrected as {marker}"),
                (Some((content, marker)), Some((is, other))) if content == is => {
                    format!("metadata of {other}, not of {marker}")
                }
                (Some((_, marker)), Some((_, other))) => format!("content of {other}, not of {marker}"),
                (None, None) => continue,
            };
            found.push(format!("{container}/{name}: {what}"));
        }
        Ok(found)
    }

    /// Fails, naming the first ones, if there are [`Self::violations`].
    pub async fn expect(&self, account: &str, bucket: &S3Client) -> Result<()> {
        let found = self.violations(account, bucket).await?;
        let shown: Vec<_> = found.iter().take(10).collect();
        ensure!(found.is_empty(), "{} names are wrong: {shown:#?}", found.len());
        Ok(())
    }
}

fn by_key(account: &str, counts: &BTreeMap<(String, String), u64>) -> BTreeMap<String, u64> {
    let key = |container: &str, name: &str| KeyMapping::new(account, container, None).object_key(name);
    counts.iter().map(|((container, name), count)| (key(container, name), *count)).collect()
}

impl MixedLoad {
    /// Does it all.
    pub async fn run(&self, swift: &SwiftClient) -> Result<Outcome> {
        let done = try_join_all((0..self.clients).map(|client| self.work(swift, client))).await?;
        let mut outcome = Outcome::default();
        done.into_iter().for_each(|one| outcome.merge(one));
        Ok(outcome)
    }

    async fn work(&self, swift: &SwiftClient, client: u64) -> Result<Outcome> {
        let mut dice = Dice::new(self.seed.wrapping_add(client.wrapping_mul(0xD1B5_4A32_D192_ED03)));
        let mut outcome = Outcome::default();
        for step in 0..self.operations.div_ceil(self.clients) {
            if self.enough.load(Ordering::SeqCst) {
                break;
            }
            let which = usize::try_from(dice.throw(self.containers.len() as u64))?;
            let container = self.containers.get(which).context("no containers")?;
            let name = format!("{client}/{}", dice.throw(self.names));
            let marker = format!("{client}-{step}");
            let kind = dice.throw(1_000);
            let filling = "x".repeat(usize::try_from(dice.throw(2_000))?);
            let one = One { swift, container, name: &name, marker: &marker };
            if kind < self.deletes {
                one.delete(&mut outcome, filling).await?;
            } else if kind < self.deletes + self.posts {
                one.post(&mut outcome, filling).await?;
            } else {
                one.put(&mut outcome, filling).await?;
            }
            tokio::time::sleep(self.pause).await;
        }
        Ok(outcome)
    }
}

/// One operation.
struct One<'load> {
    swift: &'load SwiftClient,
    container: &'load str,
    name: &'load str,
    marker: &'load str,
}

impl One<'_> {
    async fn put(&self, outcome: &mut Outcome, filling: String) -> Result<()> {
        let content = format!("content {} {filling}", self.marker);
        self.ask(outcome, "PUT", &content, &[201]).await?;
        outcome.wanted.insert(self.slot(), Some((content, self.marker.to_owned())));
        outcome.puts += 1;
        *outcome.times.entry(self.slot()).or_default() += 1;
        *outcome.written.entry(self.slot()).or_default() += 1;
        Ok(())
    }

    async fn post(&self, outcome: &mut Outcome, filling: String) -> Result<()> {
        let is_there = matches!(outcome.wanted.get(&self.slot()), Some(Some(_)));
        if !is_there {
            return self.put(outcome, filling).await;
        }
        let posted = self.ask(outcome, "POST", "", &[202, 404]).await;
        match (posted, outcome.wanted.get_mut(&self.slot())) {
            (Ok(202), Some(Some((_, marker)))) => {
                *marker = self.marker.to_owned();
                outcome.posts += 1;
                *outcome.times.entry(self.slot()).or_default() += 1;
                Ok(())
            }
            // Replicas that do not agree yet: some know the object, some do not. A PUT says what is.
            _ => self.put(outcome, filling).await,
        }
    }

    async fn delete(&self, outcome: &mut Outcome, filling: String) -> Result<()> {
        // Swift also makes tombstones of what never was; a change is a change of something here.
        let is_there = matches!(outcome.wanted.get(&self.slot()), Some(Some(_)));
        if !is_there {
            return self.put(outcome, filling).await;
        }
        self.ask(outcome, "DELETE", "", &[204, 404]).await?;
        outcome.wanted.insert(self.slot(), None);
        outcome.deletes += 1;
        *outcome.times.entry(self.slot()).or_default() += 1;
        Ok(())
    }

    fn slot(&self) -> (String, String) {
        (self.container.to_owned(), self.name.to_owned())
    }

    /// Asks until the answer is clear.
    async fn ask(&self, outcome: &mut Outcome, method: &str, body: &str, clear: &[u16]) -> Result<u16> {
        let headers = [("X-Object-Meta-Marker", self.marker)];
        let mut last = String::new();
        let body = (method == "PUT").then(|| Bytes::copy_from_slice(body.as_bytes()));
        for _ in 0..TRIES {
            let sent = body.clone();
            let asked = self.swift.object_request(method, self.container, self.name, "", &headers, sent);
            match asked.await {
                Ok(answer) if clear.contains(&answer.status) => return Ok(answer.status),
                Ok(answer) => last = format!("status {}", answer.status),
                Err(error) => last = format!("{error:#}"),
            }
            outcome.retries += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        bail!("{method} {}/{}: {last}, {TRIES} times", self.container, self.name)
    }
}
