//! Decides when which feed runs: on a change of its database, when a row becomes due, and on the poll.

mod expiration;
mod follow;
mod orders;
mod prune;
mod sweeping;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use swift_s3_daemon::readiness::Readiness;
use swift_s3_daemon::service_manager;
use swift_s3_daemon::signals::{Request, Signals};
use swift_s3_daemon::statsd::Counters;
use swift_s3_policy::{ContainerSelector, Mapping, Rates, SyncConfig};
use swift_s3_store::RateGate;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Place};
use crate::control::{ControlMemory, Link};
use crate::coordination::records::RecordName;
use crate::coordination::{Coordination, View};
use crate::discover::{Discovered, Discovery, Found};
use crate::feed::{Feed, PassEnd, PassSettings, Shared, now};
use crate::memory::{FeedName, Memory};
use crate::metrics::Ending;
use crate::status_file::{Keep, StatusDir, file_name};
use crate::telling::Telling;
use crate::transfer::Route;
use crate::watch::Watcher;
use expiration::Expirations;
use orders::Obeyed;
pub use orders::{Order, Switch};
use sweeping::Sweeping;
use swift_s3_store::remotes::{RemoteStore, Remotes};

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
/// Limits are looked up in their timetables this often; the shortest entry is a minute.
const TIMETABLE_INTERVAL: Duration = Duration::from_secs(5);
/// Feeds that are remembered until the control plane is told that they are gone; further ones stay there until their node is forgotten.
const MAX_PAST: usize = 10_000;

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
    place: Place,
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
    link: Option<Link>,
    board: Arc<Board>,
    remotes: Arc<Remotes>,
    /// Of the mappings of `config`, in their order.
    mapping_ids: Vec<String>,
    cluster_gate: Arc<RateGate>,
    /// Over how many workers the cluster's limits are divided.
    worker_count: u32,
    discovery: Discovery,
    coordination: Coordination,
    /// The serial of the regime that routes were made for.
    regime: Option<u64>,
    /// What feeds were last brought in line with.
    view: Arc<View>,
    watcher: Option<Watcher>,
    entries: HashMap<FeedKey, Entry>,
    by_folder: HashMap<PathBuf, Vec<FeedKey>>,
    due: BTreeSet<(Instant, FeedKey)>,
    routes: HashMap<(String, String), (Arc<RemoteStore>, Arc<Route>)>,
    identities: HashMap<usize, HashMap<String, String>>,
    sole: HashSet<usize>,
    expirations: Expirations,
    sweeping: Sweeping,
    ends: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    passes: JoinSet<()>,
    stop: CancellationToken,
    known_problems: BTreeSet<String>,
    known_containers: BTreeMap<String, HashSet<String>>,
    prune: bool,
    /// The configuration has all mappings there are: what none of them names may be forgotten.
    is_complete: bool,
    /// What operators switched, by mapping id.
    switches: HashMap<String, Switch>,
    /// Feeds that are not followed any more; those that no mapping asks for are forgotten by the control plane too.
    past: Vec<FeedName>,
    /// The same, with the names of their records in etcd.
    past_records: Vec<(FeedName, RecordName)>,
    once_failed: bool,
    readiness: Readiness,
    telling: Telling,
}

/// What the scheduler works with.
pub struct Parts {
    /// The configuration in force.
    pub config: Arc<SyncConfig>,
    /// What feeds share.
    pub shared: Shared,
    /// Statsd counters.
    pub counters: Counters,
    /// Where progress is kept, or what the control plane has not acknowledged.
    pub status: StatusDir,
    /// The control plane, if there is one.
    pub link: Option<Link>,
    /// Shows what is going on.
    pub board: Arc<Board>,
    /// The remote stores.
    pub remotes: Arc<Remotes>,
    /// Over how many workers the cluster's limits are divided.
    pub worker_count: u32,
    /// What operators switched, by mapping id.
    pub switches: HashMap<String, Switch>,
    /// False when mappings were left out of the configuration because something is wrong with them.
    pub is_complete: bool,
    /// Finds databases.
    pub discovery: Discovery,
    /// Shares the work out.
    pub coordination: Coordination,
    /// Handle what is there, once.
    pub once: bool,
    /// Is told when the process begins to stop.
    pub readiness: Readiness,
    /// Is told of each configuration when it comes into force.
    pub telling: Telling,
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
        let sole = follow::sole_targets(&parts.config);
        let mapping_ids = parts.config.mapping_ids();
        let sweeping = Sweeping::new(parts.config.stale_upload_age);
        let mut scheduler = Self {
            settings: settings(&parts.config, parts.once),
            enumerators: Arc::new(Semaphore::new(parts.config.enumerator_workers)),
            config: parts.config,
            shared: Arc::new(parts.shared),
            counters: parts.counters,
            status: Arc::new(parts.status),
            link: parts.link,
            board: parts.board,
            remotes: parts.remotes,
            mapping_ids,
            cluster_gate: Arc::new(RateGate::new(Rates::default())),
            worker_count: parts.worker_count.max(1),
            discovery: parts.discovery,
            view: parts.coordination.view(),
            coordination: parts.coordination,
            regime: None,
            watcher,
            entries: HashMap::new(),
            by_folder: HashMap::new(),
            due: BTreeSet::new(),
            routes: HashMap::new(),
            identities: HashMap::new(),
            sole,
            expirations: Expirations::default(),
            sweeping,
            ends: mpsc::channel(ENDS),
            passes: JoinSet::new(),
            stop: CancellationToken::new(),
            known_problems: BTreeSet::new(),
            known_containers: BTreeMap::new(),
            prune: true,
            is_complete: parts.is_complete,
            switches: parts.switches,
            past: Vec::new(),
            past_records: Vec::new(),
            once_failed: false,
            readiness: parts.readiness,
            telling: parts.telling,
        };
        scheduler.telling.in_force(&scheduler.config, &scheduler.mapping_ids);
        scheduler.keep_switches_current();
        scheduler.keep_rates_current();
        scheduler.show_places();
        scheduler
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
                let is_paused = self.entries.get(&key).is_some_and(|entry| entry.feed.mapping.is_paused());
                if end.more && !is_paused && !self.stop.is_cancelled() {
                    self.start(&key);
                }
            }
            if self.passes.is_empty() {
                break;
            }
            self.shared.metrics.turned(self.due.len());
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

    /// Runs until SIGTERM or SIGINT. SIGHUP calls `reload`; `orders` come from the control plane.
    pub async fn run(mut self, mut signals: Signals, reload: Reload, mut orders: mpsc::Receiver<Order>) {
        let mut poll = ticker(self.config.poll_interval);
        let mut flush = ticker(FLUSH_INTERVAL);
        let mut timetable = ticker(TIMETABLE_INTERVAL);
        loop {
            let next_due = self.due.first().map(|(at, _)| *at);
            self.shared.metrics.turned(self.due.len());
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
                () = sleep_until(self.sweeping.due()) => self.sweep(),
                // Shares come and go: feeds are brought in line with them by a look at everything.
                () = self.coordination.changed() => if self.is_other_view() {
                    poll.reset_immediately();
                },
                Some((key, end)) = self.ends.1.recv() => if self.ended(&key, end) {
                    // Its place may be for a feed with other credentials or another position in the ring.
                    poll.reset_immediately();
                },
                Some(_) = self.passes.join_next(), if !self.passes.is_empty() => {}
                _ = flush.tick() => self.counters.flush(),
                _ = timetable.tick() => self.keep_rates_current(),
                Some(order) = orders.recv() => match self.obey(order, &mut signals).await {
                    Obeyed::Done => {}
                    Obeyed::Reconfigured => poll = ticker(self.config.poll_interval),
                    Obeyed::Stop => break,
                },
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
        self.readiness.not_ready("stopping");
        service_manager::stopping();
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
        // What is in flight has ended: others may go on at once.
        self.coordination.leave().await;
        tracing::info!("stopped");
    }

    /// Looks at the files of every feed.
    fn check_all(&mut self) {
        self.touch_where(Feed::has_changed);
    }

    fn touch_where(&mut self, wanted: impl Fn(&Feed) -> bool) {
        let entries = self.entries.iter().filter(|(_, entry)| wanted(&entry.feed));
        let keys: Vec<FeedKey> = entries.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.touch(key));
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
        if entry.feed.mapping.is_paused() {
            return;
        }
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
            shared.metrics.pass_waits(1);
            let permit = enumerators.acquire_owned().await;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            shared.metrics.pass_waits(-1);
            let begun = Instant::now();
            shared.metrics.pass_begins();
            let end = if stop.is_cancelled() {
                PassEnd::default()
            } else {
                let pass = std::panic::AssertUnwindSafe(feed.run(&shared, &settings, &stop));
                pass.catch_unwind().await.unwrap_or_else(|_| {
                    tracing::error!(container = %feed.route.container, "a pass broke off; see standard error");
                    let again_at = Some(now().plus(REST_AFTER_PANIC));
                    PassEnd { again_at, broken: true, ending: Ending::Broken, ..PassEnd::default() }
                })
            };
            shared.metrics.pass_ended(begun.elapsed(), end.ending);
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
        if entry.feed.mapping.is_paused() {
            // Resuming starts it.
            return false;
        }
        let changed = (entry.feed.is_dirty() && (entry.feed.has_changed() || !end.broken))
            || (entry.feed.has_wishes() && !end.broken);
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
        permits: Arc::new(ArcSwap::from_pointee(Semaphore::new(config.workers))),
        in_flight: config.workers,
        verification_slack: config.verification_slack,
        items_chunk: config.items_chunk,
        once,
    }
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
