//! Follows what happens to keys, over everything that can happen to etcd meanwhile.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions, EventType, WatchOptions};
use tokio::sync::oneshot;

use crate::wait;

/// Between two tries to reach a member that is away.
const PAUSE: Duration = Duration::from_millis(50);
/// A watch that is silent for so long is made anew: the member may be frozen, or cut off.
const SILENCE: Duration = Duration::from_secs(5);

/// One change of a key.
#[derive(Debug, Clone)]
pub struct Change {
    /// When the first member told of it.
    pub at: Instant,
    /// The whole key.
    pub key: String,
    /// The new value, or nothing when the key went away (deleted, or its lease ended).
    pub value: Option<String>,
    /// etcd's revision of the change.
    pub revision: i64,
}

#[derive(Debug, Default)]
struct Seen {
    changes: Vec<Change>,
    known: HashSet<(u64, i64, String)>,
}

/// Collects changes in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(
        sources: Vec<(Vec<String>, ConnectOptions)>,
        prefix: &str,
        from: i64,
        wipes: Arc<AtomicU64>,
    ) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let (stop, stopped) = oneshot::channel();
        let (prefix, for_thread) = (prefix.to_owned(), Arc::clone(&seen));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                for (urls, options) in sources {
                    let (prefix, seen, wipes) = (prefix.clone(), Arc::clone(&for_thread), Arc::clone(&wipes));
                    tokio::spawn(async move { watch(urls, options, &prefix, from, &seen, &wipes).await });
                }
                let _ = stopped.await;
            });
        });
        Ok(Self { seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Everything so far, in the order in which it was seen.
    pub fn changes(&self) -> Vec<Change> {
        lock(&self.seen).changes.clone()
    }

    /// Forgets what was seen so far.
    pub fn forget(&self) {
        lock(&self.seen).changes.clear();
    }

    /// Waits for the first change that `wanted` accepts.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<Change> {
        wait::until(what, limit, async || {
            let changes = self.changes();
            if let Some(found) = changes.iter().find(|change| wanted(change)) {
                return Ok(found.clone());
            }
            let told: Vec<String> = changes
                .iter()
                .rev()
                .take(10)
                .map(|change| format!("{}{}", if change.value.is_some() { "+" } else { "-" }, change.key))
                .collect();
            bail!("not seen; of {} changes the last are {told:?}", changes.len())
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn watch(
    urls: Vec<String>,
    options: ConnectOptions,
    prefix: &str,
    mut from: i64,
    seen: &Mutex<Seen>,
    wipes: &AtomicU64,
) {
    let mut wiped = wipes.load(Ordering::SeqCst);
    loop {
        let now = wipes.load(Ordering::SeqCst);
        if now != wiped {
            (wiped, from) = (now, 1);
        }
        // Whatever ended it: a member that is away, or history that was compacted. It is tried again.
        let _ = watch_once(&urls, &options, prefix, &mut from, seen, wiped).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch_once(
    urls: &[String],
    options: &ConnectOptions,
    prefix: &str,
    from: &mut i64,
    seen: &Mutex<Seen>,
    wiped: u64,
) -> Result<()> {
    let mut client = Client::connect(urls, Some(options.clone())).await?;
    let wanted = WatchOptions::new().with_prefix().with_start_revision(*from);
    let opened = tokio::time::timeout(SILENCE, client.watch(prefix, Some(wanted))).await;
    let mut stream = opened.context("no answer")??;
    loop {
        let Ok(message) = tokio::time::timeout(SILENCE, stream.message()).await else {
            // Nothing happens, or nothing works. A read tells which, and a new watch costs nothing.
            return Ok(());
        };
        let at = Instant::now();
        let Some(answer) = message? else { return Ok(()) };
        if answer.compact_revision() > 0 {
            *from = answer.compact_revision();
            return Ok(());
        }
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let key = text(kv.key());
            let value = (event.event_type() == EventType::Put).then(|| text(kv.value()));
            let mut seen = lock(seen);
            if seen.known.insert((wiped, kv.mod_revision(), key.clone())) {
                seen.changes.push(Change { at, key, value, revision: kv.mod_revision() });
            }
            drop(seen);
            *from = (*from).max(kv.mod_revision() + 1);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
