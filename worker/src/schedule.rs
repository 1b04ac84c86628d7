//! Decides when which feed runs: on a change of its database, when a row becomes due, and on the poll.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use swift_s3_daemon::signals::{Request, Signals};
use swift_s3_daemon::statsd::Counters;
use swift_s3_policy::{ContainerSelector, LifecyclePlan, Mapping, SyncConfig, expiration_days};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::discover::{Discovered, Discovery, Found};
use crate::feed::{Feed, PassEnd, PassSettings, Shared, now};
use crate::remote::{RemoteStore, Remotes};
use crate::status_file::{Keep, StatusDir, file_name};
use crate::transfer::Route;
use crate::watch::Watcher;

/// Passes of one feed start at least this far apart: rows that come in a burst are then read together.
const MIN_PASS_INTERVAL: Duration = Duration::from_millis(50);
/// A feed that waits for the one it replaces looks again after this long.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);
/// A feed whose pass broke off rests for this long.
const REST_AFTER_PANIC: Duration = Duration::from_secs(60);
/// Ends of passes that wait to be noted; the scheduler notes them at once.
const ENDS: usize = 64;
/// Statsd counters are sent this often.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Lifecycle rules are looked at this often: other nodes write them too, and all rules of a bucket are written as one document.
const LIFECYCLE_INTERVAL: Duration = Duration::from_secs(3600);

/// Identifies a feed: a mapping's identity and the database it follows.
type FeedKey = (String, String, PathBuf);
/// A pass that ended, and how.
type Ended = (FeedKey, PassEnd);

struct Entry {
    feed: Arc<Feed>,
    running: bool,
    due: Option<Instant>,
    last_start: Option<Instant>,
    /// No mapping asks for it any more (or one with other credentials does): it goes when its pass has ended.
    retired: bool,
}

/// Asks for the configuration again on SIGHUP.
pub type Reload = Box<dyn Fn() -> Option<Arc<SyncConfig>> + Send>;

/// Runs feeds until told to stop.
pub struct Scheduler {
    config: Arc<SyncConfig>,
    settings: PassSettings,
    enumerators: Arc<Semaphore>,
    shared: Arc<Shared>,
    counters: Counters,
    status: Arc<StatusDir>,
    remotes: Remotes,
    discovery: Discovery,
    watcher: Option<Watcher>,
    entries: HashMap<FeedKey, Entry>,
    by_folder: HashMap<PathBuf, Vec<FeedKey>>,
    due: BTreeSet<(Instant, FeedKey)>,
    routes: HashMap<(String, String), (Arc<RemoteStore>, Arc<Route>)>,
    identities: HashMap<usize, HashMap<String, String>>,
    sole: HashSet<usize>,
    expirations: HashMap<String, Instant>,
    ends: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    passes: JoinSet<()>,
    stop: CancellationToken,
    known_problems: BTreeSet<String>,
    known_containers: BTreeMap<String, HashSet<String>>,
    prune: bool,
    once_failed: bool,
}

/// What the scheduler works with.
pub struct Parts {
    /// The configuration in force.
    pub config: Arc<SyncConfig>,
    /// What feeds share.
    pub shared: Shared,
    /// Statsd counters.
    pub counters: Counters,
    /// Where progress is kept.
    pub status: StatusDir,
    /// Finds databases.
    pub discovery: Discovery,
    /// Handle what is there, once.
    pub once: bool,
}

impl Scheduler {
    /// A scheduler that has not looked at anything yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let watcher = if parts.once {
            None
        } else {
            Watcher::new()
                .map_err(|error| tracing::warn!(%error, "could not watch folders; changes wait for the poll"))
                .ok()
        };
        let sole = sole_targets(&parts.config);
        Self {
            settings: settings(&parts.config, parts.once),
            enumerators: Arc::new(Semaphore::new(parts.config.enumerator_workers)),
            config: parts.config,
            shared: Arc::new(parts.shared),
            counters: parts.counters,
            status: Arc::new(parts.status),
            remotes: Remotes::default(),
            discovery: parts.discovery,
            watcher,
            entries: HashMap::new(),
            by_folder: HashMap::new(),
            due: BTreeSet::new(),
            routes: HashMap::new(),
            identities: HashMap::new(),
            sole,
            expirations: HashMap::new(),
            ends: mpsc::channel(ENDS),
            passes: JoinSet::new(),
            stop: CancellationToken::new(),
            known_problems: BTreeSet::new(),
            known_containers: BTreeMap::new(),
            prune: true,
            once_failed: false,
        }
    }

    /// One round over everything that is here now. True when nothing failed. A stop signal ends it early, as a failure.
    pub async fn run_once(mut self, mut signals: Signals) -> bool {
        self.discover().await;
        let keys: Vec<FeedKey> = self.entries.keys().cloned().collect();
        for key in keys {
            self.start(&key);
        }
        let mut failed = self.once_failed;
        let mut outcomes: HashMap<FeedKey, bool> = HashMap::new();
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        loop {
            // Ends are noted before the passes are counted: the last one may ask for another.
            while let Ok((key, end)) = self.ends.1.try_recv() {
                // The last word counts: a row may fail in one pass and succeed in the next.
                outcomes.insert(key.clone(), end.broken || end.failures > 0);
                // Held back by the distance to its own saved cursor, or by a database that was replaced: not a failure, go on.
                if end.more && !self.stop.is_cancelled() {
                    self.start(&key);
                }
            }
            if self.passes.is_empty() {
                break;
            }
            tokio::select! {
                Some(_) = self.passes.join_next() => {}
                request = signals.next() => if request == Request::Stop {
                    if self.stop.is_cancelled() {
                        tracing::warn!("stopping at once");
                        return false;
                    }
                    failed = true;
                    self.stop.cancel();
                },
                _ = flush.tick() => self.counters.flush(),
            }
        }
        self.prune().await;
        self.counters.flush();
        !failed && !outcomes.values().any(|failed| *failed)
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP calls `reload`.
    pub async fn run(mut self, mut signals: Signals, reload: Reload) {
        let mut poll = ticker(self.config.poll_interval);
        let mut flush = ticker(FLUSH_INTERVAL);
        loop {
            let next_due = self.due.first().map(|(at, _)| *at);
            tokio::select! {
                _ = poll.tick() => {
                    // A slow account server must not keep a stop signal waiting.
                    let stopping = tokio::select! {
                        () = self.discover() => false,
                        () = signals.stop_requested() => true,
                    };
                    if stopping {
                        break;
                    }
                    if self.prune {
                        self.prune().await;
                    }
                    self.check_all();
                }
                folder = changed(&mut self.watcher) => match folder {
                    Some(folder) => self.touch_folder(&folder),
                    None => self.check_all(),
                },
                () = sleep_until(next_due), if next_due.is_some() => self.start_due(),
                Some((key, end)) = self.ends.1.recv() => if self.ended(&key, end) {
                    // Its place may be for a feed with other credentials or another position in the ring.
                    poll.reset_immediately();
                },
                Some(_) = self.passes.join_next(), if !self.passes.is_empty() => {}
                _ = flush.tick() => self.counters.flush(),
                request = signals.next() => match request {
                    Request::Stop => break,
                    Request::Reload => if let Some(config) = reload() {
                        self.apply(config).await;
                        poll = ticker(self.config.poll_interval);
                    },
                },
            }
        }
        self.shut_down(signals).await;
    }

    async fn shut_down(mut self, mut signals: Signals) {
        tracing::info!(
            passes = self.passes.len(),
            "stopping: transfers in flight get a few seconds to finish"
        );
        self.stop.cancel();
        loop {
            tokio::select! {
                joined = self.passes.join_next() => if joined.is_none() { break },
                Some(_) = self.ends.1.recv() => {}
                request = signals.next() => if request == Request::Stop {
                    tracing::warn!("stopping at once");
                    break;
                },
            }
        }
        self.counters.flush();
        tracing::info!("stopped");
    }

    /// Puts a new configuration in force. Transfers under way go on with what they started with.
    async fn apply(&mut self, config: Arc<SyncConfig>) {
        self.settings = settings(&config, false);
        self.enumerators = Arc::new(Semaphore::new(config.enumerator_workers));
        self.config = config;
        self.routes.clear();
        self.identities.clear();
        self.sole = sole_targets(&self.config);
        self.expirations.clear();
        self.prune = true;
        self.discover().await;
        self.remotes.tidy();
        self.check_all();
    }

    /// Looks for databases and brings the feeds in line with what is there.
    async fn discover(&mut self) {
        let discovered = self.discovery.look(&Arc::clone(&self.config)).await;
        let mut problems: BTreeSet<String> = discovered.problems.iter().cloned().collect();
        let mut wanted: HashSet<FeedKey> = HashSet::with_capacity(discovered.found.len());
        let complete = discovered.listings.values().all(Option::is_some) && problems.is_empty();
        for found in &discovered.found {
            match self.follow(found).await {
                Ok(key) => {
                    wanted.insert(key);
                }
                Err(problem) => {
                    problems.insert(problem);
                }
            }
        }
        self.note_problems(problems);
        let gone: Vec<FeedKey> = self.entries.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in gone {
            self.retire(&key);
        }
        self.note_containers(&discovered, complete);
        if let Some(watcher) = &mut self.watcher {
            for folder in self.by_folder.keys() {
                watcher.add(folder);
            }
            let by_folder = &self.by_folder;
            watcher.retain(|folder| by_folder.contains_key(folder));
        }
    }

    /// Tells problems once, when they begin, and when they are over.
    fn note_problems(&mut self, problems: BTreeSet<String>) {
        for problem in problems.difference(&self.known_problems) {
            tracing::error!("{problem}");
        }
        if problems.is_empty() && !self.known_problems.is_empty() {
            tracing::info!("the problems with finding containers are over");
        }
        self.once_failed |= !problems.is_empty();
        self.known_problems = problems;
    }

    fn note_containers(&mut self, discovered: &Discovered, complete: bool) {
        for (account, listing) in &discovered.listings {
            let Some(listing) = listing else { continue };
            if self.known_containers.get(account) != Some(listing) {
                self.known_containers.insert(account.clone(), listing.clone());
                self.prune = true;
            }
        }
        // Nothing is removed on the word of a look that did not see everything.
        self.prune &= complete;
    }

    /// Makes sure that a database is followed; answers its key.
    async fn follow(&mut self, found: &Found) -> Result<FeedKey, String> {
        let mapping = self.config.mappings.get(found.mapping).cloned().ok_or("a mapping went away")?;
        let identity = self.identity(&mapping, found);
        let key = (identity.clone(), found.container.clone(), found.source.database.clone());
        let (remote, route) = self.route(&mapping, &identity, &found.container).await?;
        self.expire_remote(&mapping, &remote, &route);
        if let Some(entry) = self.entries.get(&key) {
            let same = Arc::ptr_eq(&entry.feed.remote, &remote)
                && entry.feed.source.own == found.source.own
                && entry.feed.source.place == found.source.place;
            if same && !entry.retired {
                return Ok(key);
            }
            if entry.running {
                self.retire(&key);
                // The next look puts the new one in its place, when the old pass has ended.
                return Ok(key);
            }
            self.remove(&key);
        }
        let (status, account, container) =
            (Arc::clone(&self.status), mapping.account.clone(), found.container.clone());
        let file = tokio::task::spawn_blocking(move || status.file(&account, &container))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| {
                format!("could not read the status file of {}/{}: {error}", mapping.account, found.container)
            })?;
        let sole = self.sole.contains(&found.mapping);
        let feed = Feed::new(route, remote, identity, found.source.clone(), sole, file);
        if let Some(folder) = found.source.pending.parent() {
            self.by_folder.entry(folder.to_owned()).or_default().push(key.clone());
        }
        let entry =
            Entry { feed: Arc::new(feed), running: false, due: None, last_start: None, retired: false };
        self.entries.insert(key.clone(), entry);
        if !self.settings.once {
            self.schedule(&key, Instant::now());
        }
        Ok(key)
    }

    /// The mapping's identity for a container: a digest, so it is made once per configuration.
    fn identity(&mut self, mapping: &Mapping, found: &Found) -> String {
        let of_mapping = self.identities.entry(found.mapping).or_default();
        if let Some(identity) = of_mapping.get(&found.container) {
            return identity.clone();
        }
        let identity = mapping.identity(&found.container);
        of_mapping.insert(found.container.clone(), identity.clone());
        identity
    }

    async fn route(
        &mut self,
        mapping: &Arc<Mapping>,
        identity: &str,
        container: &str,
    ) -> Result<(Arc<RemoteStore>, Arc<Route>), String> {
        let name = (identity.to_owned(), container.to_owned());
        if let Some((remote, route)) = self.routes.get(&name) {
            return Ok((Arc::clone(remote), Arc::clone(route)));
        }
        let proxies = (self.config.http_proxy.as_deref(), self.config.https_proxy.as_deref());
        let remote = self
            .remotes
            .open(&mapping.remote, proxies, self.config.workers)
            .await
            .map_err(|error| format!("{} cannot be served: {error}", mapping.path))?;
        let route =
            Arc::new(Route::new(Arc::clone(mapping), container, Arc::clone(&remote.store), &self.counters));
        self.routes.insert(name, (Arc::clone(&remote), Arc::clone(&route)));
        Ok((remote, route))
    }

    /// Sees to the bucket's lifecycle rule of a mapping with `remote_delete_after`.
    fn expire_remote(&mut self, mapping: &Arc<Mapping>, remote: &Arc<RemoteStore>, route: &Arc<Route>) {
        let Some(after) = mapping.remote_delete_after else { return };
        let prefix = route.keys.key_prefix().to_owned();
        let days = expiration_days(after);
        let name = format!("{} {prefix}", remote.label);
        if self.expirations.get(&name).is_some_and(|at| *at > Instant::now()) {
            return;
        }
        self.expirations.insert(name.clone(), Instant::now() + LIFECYCLE_INTERVAL);
        let remote = Arc::clone(remote);
        let stop = self.stop.clone();
        let task = async move {
            let _turn = remote.lifecycle.lock().await;
            match remote.store.set_expiration(&prefix, days).await {
                Ok(LifecyclePlan::Keep) => {}
                Ok(LifecyclePlan::Write { .. }) => {
                    tracing::info!(remote = %remote.label, prefix, days, "set the lifecycle rule of the bucket");
                }
                Ok(LifecyclePlan::Conflict { rule }) => tracing::warn!(remote = %remote.label, prefix, rule,
                    "another lifecycle rule covers the prefix; remote_delete_after is not in force"),
                Ok(LifecyclePlan::TooShort) => tracing::warn!(remote = %remote.label, prefix,
                    "remote_delete_after is less than half a day; S3 counts in days"),
                Err(error) => tracing::warn!(remote = %remote.label, prefix, %error,
                    "could not set the lifecycle rule of the bucket; objects are copied all the same"),
            }
        };
        self.passes.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    fn retire(&mut self, key: &FeedKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.retired = true;
        entry.feed.retire();
        if !entry.running {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &FeedKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(at) = entry.due {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(folder) = entry.feed.source.pending.parent()
            && let Some(keys) = self.by_folder.get_mut(folder)
        {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_folder.remove(folder);
            }
        }
    }

    async fn prune(&mut self) {
        if !self.prune {
            return;
        }
        self.prune = false;
        let mut keep: HashMap<(String, String), Vec<String>> = HashMap::new();
        let mut unlisted: HashSet<String> = HashSet::new();
        for mapping in &self.config.mappings {
            let containers: Vec<&str> = match &mapping.container {
                ContainerSelector::One(container) => vec![container],
                ContainerSelector::All => {
                    let Some(known) = self.known_containers.get(&mapping.account) else {
                        unlisted.insert(file_name(&mapping.account));
                        continue;
                    };
                    known.iter().map(String::as_str).collect()
                }
            };
            for container in containers {
                keep.entry((file_name(&mapping.account), file_name(container)))
                    .or_default()
                    .push(mapping.identity(container));
            }
        }
        let status = Arc::clone(&self.status);
        let pruned = tokio::task::spawn_blocking(move || {
            status.prune(|account, container| {
                let name = (account.to_owned(), container.to_owned());
                match keep.get(&name) {
                    _ if unlisted.contains(account) => Keep::Everything,
                    Some(identities) => Keep::Mappings(identities.clone()),
                    None => Keep::Nothing,
                }
            });
        });
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "could not tidy the status folder");
        }
    }

    /// Looks at the files of every feed.
    fn check_all(&mut self) {
        let changed: Vec<FeedKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.feed.has_changed())
            .map(|(key, _)| key.clone())
            .collect();
        for key in changed {
            self.touch(&key);
        }
    }

    fn touch_folder(&mut self, folder: &Path) {
        let keys = self.by_folder.get(folder).cloned().unwrap_or_default();
        for key in keys {
            if self.entries.get(&key).is_some_and(|entry| entry.running || entry.feed.has_changed()) {
                self.touch(&key);
            }
        }
    }

    fn touch(&mut self, key: &FeedKey) {
        let Some(entry) = self.entries.get(key) else { return };
        if entry.running {
            entry.feed.touch();
        } else {
            self.schedule(key, Instant::now());
        }
    }

    /// Runs a feed at `at`, or as soon after it as the minimum interval allows. An earlier date that is set already stays.
    fn schedule(&mut self, key: &FeedKey, at: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let at = entry.last_start.map_or(at, |last| at.max(last + MIN_PASS_INTERVAL));
        if entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = entry.due.replace(at) {
            self.due.remove(&(due, key.clone()));
        }
        self.due.insert((at, key.clone()));
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some((at, key)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, key));
                break;
            }
            self.start(&key);
        }
    }

    /// True when a feed that this one replaces is not finished: two must never work on one container at once.
    fn is_draining(&self, key: &FeedKey) -> bool {
        let folder = self.entries.get(key).and_then(|entry| entry.feed.source.pending.parent());
        folder.and_then(|folder| self.by_folder.get(folder)).is_some_and(|keys| {
            keys.iter().any(|other| {
                other != key && self.entries.get(other).is_some_and(|entry| entry.retired && entry.running)
            })
        })
    }

    fn start(&mut self, key: &FeedKey) {
        if self.is_draining(key) {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.due = None;
            }
            self.schedule(key, Instant::now() + DRAIN_INTERVAL);
            return;
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.due = None;
        entry.running = true;
        entry.last_start = Some(Instant::now());
        let (feed, shared, settings) =
            (Arc::clone(&entry.feed), Arc::clone(&self.shared), self.settings.clone());
        let (enumerators, stop) = (Arc::clone(&self.enumerators), self.stop.clone());
        let (ends, key) = (self.ends.0.clone(), key.clone());
        self.passes.spawn(async move {
            shared.waiting.fetch_add(1, Ordering::Relaxed);
            let permit = enumerators.acquire_owned().await;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            let end = if stop.is_cancelled() {
                PassEnd::default()
            } else {
                let pass = std::panic::AssertUnwindSafe(feed.run(&shared, &settings, &stop));
                pass.catch_unwind().await.unwrap_or_else(|_| {
                    tracing::error!(container = %feed.route.container, "a pass broke off; see standard error");
                    PassEnd { again_at: Some(now().plus(REST_AFTER_PANIC)), broken: true, ..PassEnd::default() }
                })
            };
            drop(permit);
            // Fails only when the scheduler is gone.
            drop(ends.send((key, end)).await);
        });
    }

    /// Notes the end of a pass. True when its feed is gone now.
    fn ended(&mut self, key: &FeedKey, end: PassEnd) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        entry.running = false;
        if entry.retired {
            self.remove(key);
            return true;
        }
        let changed = entry.feed.is_dirty() && entry.feed.has_changed();
        if end.more || changed {
            self.schedule(key, Instant::now());
        } else if let Some(at) = end.again_at {
            self.schedule(key, Instant::now() + at.since(now()));
        }
        false
    }
}

fn settings(config: &SyncConfig, once: bool) -> PassSettings {
    PassSettings {
        permits: Arc::new(Semaphore::new(config.workers)),
        in_flight: config.workers,
        verification_slack: config.verification_slack,
        items_chunk: config.items_chunk,
        once,
    }
}

/// The mappings that are the only ones of their container with their bucket's name: cursors of the original, which knew
/// buckets by name only, can be trusted for them.
fn sole_targets(config: &SyncConfig) -> HashSet<usize> {
    let mut by_target: HashMap<(&str, &str), Vec<(usize, &ContainerSelector)>> = HashMap::new();
    for (index, mapping) in config.mappings.iter().enumerate() {
        let target = (mapping.account.as_str(), mapping.remote.bucket.as_str());
        by_target.entry(target).or_default().push((index, &mapping.container));
    }
    let mut sole = HashSet::new();
    for group in by_target.values() {
        if let [(index, _)] = group.as_slice() {
            sole.insert(*index);
            continue;
        }
        if group.iter().any(|(_, container)| **container == ContainerSelector::All) {
            continue;
        }
        let mut by_container: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, container) in group {
            if let ContainerSelector::One(container) = container {
                by_container.entry(container).or_default().push(*index);
            }
        }
        sole.extend(by_container.values().filter(|indexes| indexes.len() == 1).flatten());
    }
    sole
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(period.max(Duration::from_millis(10)));
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

async fn changed(watcher: &mut Option<Watcher>) -> Option<PathBuf> {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
