//! Says when which buckets are swept of uploads that nobody completes.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::sweep::{Bucket, Prefixes, sweep};

/// Buckets are swept this often at most.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// When to sweep, and what came of it.
pub(super) struct Sweeping {
    due: Option<Instant>,
    /// One sweep at a time.
    is_running: Arc<AtomicBool>,
    /// What was told of buckets that could not be swept, by label.
    told: Arc<Mutex<HashMap<String, String>>>,
}

impl Sweeping {
    /// The first sweep comes within the first interval, at another time on each node.
    pub(super) fn new(age: Duration) -> Self {
        let first = interval(age).map(|interval| Instant::now() + interval.mul_f64(rand::random::<f64>()));
        Self { due: first, is_running: Arc::default(), told: Arc::default() }
    }

    /// Follows a change of the configuration.
    pub(super) fn keep_current(&mut self, age: Duration) {
        let latest = interval(age).map(|interval| Instant::now() + interval);
        self.due = latest.map(|latest| self.due.map_or(latest, |due| due.min(latest)));
    }

    /// When the next one is due, if ever.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// How often to look for uploads that reach `age`; never for zero.
fn interval(age: Duration) -> Option<Duration> {
    (!age.is_zero()).then(|| (age / 2).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL))
}

impl Scheduler {
    /// Begins a sweep of the buckets for which this node has the first replica of a container, unless one is still going on.
    pub(super) fn sweep(&mut self) {
        let age = self.config.stale_upload_age;
        self.sweeping.due = interval(age).map(|interval| Instant::now() + interval);
        if self.sweeping.due.is_none() || self.sweeping.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let buckets = self.buckets_to_sweep();
        let (turn, told) = (Turn(Arc::clone(&self.sweeping.is_running)), Arc::clone(&self.sweeping.told));
        let stop = self.stop.clone();
        self.passes.spawn(async move {
            let all = async {
                for bucket in &buckets {
                    let failure = sweep(bucket, age).await.err();
                    tell(&told, &bucket.label, failure);
                }
            };
            tokio::select! {
                () = all => {}
                () = stop.cancelled() => {}
            }
            drop(turn);
        });
    }

    /// Mappings that an operator paused, and remotes that rest, are left alone.
    fn buckets_to_sweep(&self) -> Vec<Bucket> {
        let now = Instant::now();
        // Credentials matter: one that may sweep stands beside one that may not.
        let mut buckets: BTreeMap<usize, Bucket> = BTreeMap::new();
        for entry in self.entries.values() {
            let feed = &entry.feed;
            let is_ours = feed.source.own.contains(&0) && !entry.retired;
            if !is_ours || feed.mapping.is_paused() || feed.remote.health.paused_until(now).is_some() {
                continue;
            }
            if feed.route.mapping.remote.s3().is_none() {
                continue;
            }
            let bucket = buckets.entry(Arc::as_ptr(&feed.remote).addr()).or_insert_with(|| Bucket {
                store: Arc::clone(&feed.route.store),
                label: feed.remote.label.clone(),
                prefixes: Prefixes::default(),
            });
            bucket.prefixes.add(feed.route.keys.key_prefix());
        }
        buckets.into_values().filter(|bucket| !bucket.prefixes.is_empty()).collect()
    }
}

/// Ends a sweep, however it ends.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Tells once what keeps a bucket from being swept: credentials that may only store objects are common.
fn tell(told: &Mutex<HashMap<String, String>>, label: &str, failure: Option<swift_s3_store::StoreError>) {
    let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(error) = failure else {
        told.remove(label);
        return;
    };
    let why = error.code().unwrap_or_else(|| error.kind().as_str()).to_owned();
    if told.get(label) == Some(&why) {
        return;
    }
    tracing::warn!(remote = label, %error,
        "could not look for uploads that nobody completed; if there are any, they stay in the bucket");
    told.insert(label.to_owned(), why);
}
