//! Nodes that are only told of: real connections and streams to a real control plane, and behind them nothing but made-up state.
//!
//! A [`Script`] is what one node tells. [`World`] writes scripts for fleets of any size; a scenario changes them as it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use swift_s3_proto::v1::control_message::Message as Order;
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, Coordination, ExplainAnswer, FeedProgress, FeedStatus, Heartbeat, Hello,
    MappingHealth, NodeLoad, ObjectFindings, Problem, ProgressReport,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Endpoint;

use crate::control_process::Token;
use crate::wait;
use session::Session;

pub mod session;
mod world;

pub use world::World;

/// All nodes are there by then.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// Feeds that change between two heartbeats.
const CHANGED_FEEDS: usize = 3;

/// What one node tells of itself.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Who it is.
    pub hello: Hello,
    /// Its feeds. A few of them change with each heartbeat.
    pub feeds: Vec<FeedStatus>,
    /// How its mappings fare.
    pub health: Vec<MappingHealth>,
    /// Cursors and rows set aside, reported once.
    pub progress: Vec<FeedProgress>,
    /// Why it refuses a part of every configuration. Empty: it takes all of it.
    pub problems: Vec<Problem>,
    /// What it takes of its machine.
    pub load: Option<NodeLoad>,
    /// How it shares the work.
    pub coordination: Option<Coordination>,
    /// What it knows of whatever object it is asked about.
    pub findings: Vec<ObjectFindings>,
}

/// Nodes that are connected, and come back when they lose control. Dropped, they are gone.
#[derive(Debug)]
pub struct SimulatedFleet {
    nodes: Vec<JoinHandle<()>>,
    connected: Arc<AtomicUsize>,
    heartbeat: watch::Sender<Option<Duration>>,
}

impl SimulatedFleet {
    /// Connects one node for each script, with the token of nodes if control asks for one.
    pub async fn start(url: &str, token: Option<&str>, scripts: Vec<Script>) -> Result<Self> {
        let endpoint = session::endpoint(url)?;
        let token = token.map(Token::new).transpose()?.unwrap_or_default();
        let (connected, heartbeat) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(None));
        let nodes = scripts
            .into_iter()
            .map(|script| {
                let node = Node {
                    script,
                    endpoint: endpoint.clone(),
                    token: token.clone(),
                    connected: Arc::clone(&connected),
                    heartbeat: heartbeat.subscribe(),
                };
                tokio::spawn(node.run())
            })
            .collect();
        let fleet = Self { nodes, connected, heartbeat };
        fleet.all_connected().await?;
        Ok(fleet)
    }

    /// Waits until all are registered.
    pub async fn all_connected(&self) -> Result<()> {
        wait::until("all simulated nodes to be registered", CONNECT_LIMIT, async || {
            let connected = self.connected.load(Ordering::Acquire);
            ensure!(connected == self.nodes.len(), "{connected} of {}", self.nodes.len());
            Ok(())
        })
        .await
    }

    /// Has all of them send heartbeats this often instead of as control asked.
    pub fn set_heartbeat(&self, every: Duration) {
        self.heartbeat.send_replace(Some(every));
    }

    /// Ends one: its connection breaks off, as if its machine had lost power.
    pub fn kill(&self, index: usize) {
        if let Some(node) = self.nodes.get(index) {
            node.abort();
        }
    }
}

impl Drop for SimulatedFleet {
    fn drop(&mut self) {
        self.nodes.iter().for_each(JoinHandle::abort);
    }
}

struct Node {
    script: Script,
    endpoint: Endpoint,
    token: Token,
    connected: Arc<AtomicUsize>,
    heartbeat: watch::Receiver<Option<Duration>>,
}

/// Counts a node while it is registered, however its task ends.
struct Registered<'a>(&'a AtomicUsize);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Node {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            if let Err(error) = self.serve().await {
                tracing::debug!(%error, node_id = %self.script.hello.node_id, "the session ended");
            }
            tokio::time::sleep(session::pause(failures, rand::random())).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn serve(&mut self) -> Result<()> {
        let mut session = Session::open(&self.endpoint, &self.token, self.script.hello.clone()).await?;
        let connected = Arc::clone(&self.connected);
        connected.fetch_add(1, Ordering::AcqRel);
        let _registered = Registered(&connected);
        if !self.script.progress.is_empty() {
            let feeds = self.script.progress.clone();
            let report = ProgressReport { sequence: 1, feeds, ..ProgressReport::default() };
            session.send(Message::Progress(report)).await?;
        }
        let mut beat = interval(self.heartbeat.borrow().unwrap_or(session.heartbeat));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0;
        loop {
            tokio::select! {
                order = session.orders.message() => {
                    let order = order?.context("control ended the stream")?.message;
                    self.answer(&session, order).await?;
                }
                _ = beat.tick() => {
                    session.send(Message::Heartbeat(self.beat(beats))).await?;
                    beats += 1;
                }
                changed = self.heartbeat.changed() => {
                    changed?;
                    beat = interval(self.heartbeat.borrow().unwrap_or(session.heartbeat));
                    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                }
            }
        }
    }

    async fn answer(&self, session: &Session, order: Option<Order>) -> Result<()> {
        let message = match order {
            Some(Order::Config(snapshot)) => {
                let problems = self.script.problems.clone();
                let outcome =
                    if problems.is_empty() { ConfigOutcome::Applied } else { ConfigOutcome::PartlyApplied };
                let (nonce, revision) = (snapshot.nonce, snapshot.revision);
                Message::ConfigAnswer(ConfigAnswer { nonce, revision, outcome: outcome.into(), problems })
            }
            Some(Order::Explain(question)) => {
                let findings = self.script.findings.clone();
                Message::ExplainAnswer(ExplainAnswer { id: question.id, findings })
            }
            _ => return Ok(()),
        };
        session.send(message).await
    }

    /// All feeds the first time, a few that changed later.
    fn beat(&mut self, beats: usize) -> Heartbeat {
        let count = self.script.feeds.len();
        let feeds = if beats == 0 {
            self.script.feeds.clone()
        } else {
            let changed = (0..CHANGED_FEEDS.min(count)).map(|index| (beats * CHANGED_FEEDS + index) % count);
            changed.filter_map(|index| self.script.feeds.get_mut(index).map(work)).collect()
        };
        Heartbeat {
            sent_at: Some(SystemTime::now().into()),
            feeds,
            ended: Vec::new(),
            is_complete: beats == 0,
            mappings: self.script.health.clone(),
            coordination: self.script.coordination.clone(),
            load: self.script.load,
        }
    }
}

/// A feed that carried something since it was told of.
fn work(feed: &mut FeedStatus) -> FeedStatus {
    feed.rows_done += 7;
    feed.bytes_sent += 7 << 20;
    if let Some(lag) = &mut feed.lag
        && lag.rows > 0
    {
        lag.rows = lag.rows % 1_000 + 1;
        lag.seconds = (lag.seconds + 2.0) % 3_600.0;
    }
    feed.clone()
}
