//! All nodes of a run, what they are to do, and what they saw.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use swift_s3_tests::wait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::node::{Node, REPORT_FEEDS};

/// All nodes are there by then.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// What nodes do besides their heartbeats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// The first so many nodes send reports.
    pub reporters: usize,
    /// One each in this time; zero: as soon as they may.
    pub every: Duration,
    /// Reports that a node sends before it waits for acknowledgements.
    pub in_flight: usize,
    /// True: the last [`STUCK`] nodes do not read.
    pub is_stuck: bool,
}

/// Nodes that stop reading when told to.
pub const STUCK: usize = 10;

/// A configuration that one node received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub revision: i64,
    pub bytes: usize,
    pub at: Instant,
}

/// Cursors of one node's feeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    pub sent: i64,
    pub acknowledged: i64,
}

/// All nodes.
pub struct Fleet {
    pub url: String,
    pub nodes: usize,
    pub tempo: watch::Sender<Pace>,
    pub connected: AtomicUsize,
    pub resent: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    welcomes: Vec<Instant>,
    latencies: Vec<Duration>,
    cursors: Vec<Cursors>,
    last_error: Option<String>,
}

impl Fleet {
    /// Starts the nodes; they live as long as the set.
    pub fn start(url: String, nodes: usize) -> Result<(Arc<Self>, JoinSet<()>)> {
        let seen = Seen { cursors: vec![Cursors::default(); nodes], ..Seen::default() };
        let fleet = Arc::new(Self {
            url,
            nodes,
            tempo: watch::Sender::new(Pace::default()),
            connected: AtomicUsize::new(0),
            resent: AtomicU64::new(0),
            seen: Mutex::new(seen),
        });
        let mut tasks = JoinSet::new();
        for index in 0..nodes {
            tasks.spawn(Node::new(Arc::clone(&fleet), index)?.run());
        }
        Ok((fleet, tasks))
    }

    /// True for those that [`Pace::is_stuck`] is about.
    pub fn may_stop_reading(&self, index: usize) -> bool {
        index + STUCK >= self.nodes
    }

    /// A node was registered.
    pub fn welcomed(&self) {
        self.connected.fetch_add(1, Ordering::AcqRel);
        self.lock().welcomes.push(Instant::now());
    }

    /// A node's connection ended, or there was none.
    pub fn ended(&self, index: usize, error: Option<anyhow::Error>) {
        self.lock().last_error = error.map(|error| format!("node {index}: {error:#}"));
    }

    /// A node received a configuration.
    pub fn received(&self, received: Received) {
        self.lock().received.push(received);
    }

    /// A node sends a report.
    pub fn sent(&self, index: usize, cursor: i64) {
        if let Some(cursors) = self.lock().cursors.get_mut(index) {
            cursors.sent = cursors.sent.max(cursor);
        }
    }

    /// A report of a node was acknowledged.
    pub fn acknowledged(&self, index: usize, cursor: i64, latency: Duration) {
        let mut seen = self.lock();
        seen.latencies.push(latency);
        if let Some(cursors) = seen.cursors.get_mut(index) {
            cursors.acknowledged = cursors.acknowledged.max(cursor);
        }
    }

    /// Configurations of a revision that were received.
    pub fn receptions(&self, revision: i64) -> Vec<Received> {
        self.lock().received.iter().filter(|received| received.revision == revision).copied().collect()
    }

    /// When nodes were registered since the last question.
    pub fn take_welcomes(&self) -> Vec<Instant> {
        std::mem::take(&mut self.lock().welcomes)
    }

    /// How long reports waited for their acknowledgement, since the last question. Each is of [`REPORT_FEEDS`] feeds.
    pub fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut self.lock().latencies)
    }

    /// By node.
    pub fn cursors(&self) -> Vec<Cursors> {
        self.lock().cursors.clone()
    }

    /// Tells the nodes what to do.
    pub fn set_pace(&self, pace: Pace) {
        self.tempo.send_replace(pace);
    }

    /// Waits until all nodes are registered.
    pub async fn all_connected(&self) -> Result<()> {
        wait::until("all nodes to be registered", CONNECT_LIMIT, async || {
            let connected = self.connected.load(Ordering::Acquire);
            ensure!(connected == self.nodes, "{connected} of {}; {}", self.nodes, self.last_error());
            Ok(())
        })
        .await
    }

    /// Waits until each report was acknowledged.
    pub async fn all_acknowledged(&self) -> Result<()> {
        wait::until("all reports to be acknowledged", CONNECT_LIMIT, async || {
            let open = self.cursors().iter().filter(|node| node.sent != node.acknowledged).count();
            ensure!(open == 0, "{open} nodes wait; {}", self.last_error());
            Ok(())
        })
        .await
    }

    /// Feeds over all nodes that reports are about.
    pub fn report_feeds(&self) -> usize {
        self.nodes * REPORT_FEEDS
    }

    fn last_error(&self) -> String {
        self.lock().last_error.clone().unwrap_or_else(|| "no error".to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
