//! One node as the control plane sees it: registers, answers configurations, sends heartbeats and reports, comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::control_message::Message as Order;
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, ControlMessage, FeedKey, FeedProgress, FeedStatus, Heartbeat, Hello, Lag,
    NodeMessage, ProgressReport, Role,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::fleet::{Fleet, Received};

/// Feeds whose lag a node tells.
pub const STATUS_FEEDS: usize = 20;
/// Feeds of one report. A node reports the same ones each time.
pub const REPORT_FEEDS: usize = 100;
/// Feeds that changed between two heartbeats.
const CHANGED_FEEDS: usize = 3;
/// As the worker: an answer to the registration takes no longer.
const WELCOME_LIMIT: Duration = Duration::from_secs(10);
/// As the worker: the first pause is random up to this, later ones up to twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// As the worker: messages that wait to be sent.
const OUTGOING: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Of a node that is going to stop reading: what the kernel and HTTP/2 take in its place is small.
const SMALL_WINDOW: u32 = 65_535;

/// A simulated node.
pub struct Node {
    fleet: Arc<Fleet>,
    index: usize,
    endpoint: Endpoint,
    instance_id: String,
    /// The highest cursor that was made up.
    cursor: i64,
    /// Cursors that were sent and not acknowledged before the connection ended.
    unsettled: VecDeque<i64>,
}

/// Reports under way: cursor and time of sending by sequence.
type Waiting = BTreeMap<u64, (i64, Instant)>;

impl Node {
    /// One that is not connected yet.
    pub fn new(fleet: Arc<Fleet>, index: usize) -> Result<Self> {
        let mut endpoint = Endpoint::from_shared(fleet.url.clone())?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if fleet.may_stop_reading(index) {
            endpoint = endpoint.initial_stream_window_size(SMALL_WINDOW);
        }
        let instance_id = format!("{:032x}", rand::random::<u128>());
        Ok(Self { fleet, index, endpoint, instance_id, cursor: 0, unsettled: VecDeque::new() })
    }

    /// Keeps a connection.
    pub async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            let mut was_connected = false;
            let ended = self.serve(&mut was_connected).await;
            if was_connected {
                self.fleet.connected.fetch_sub(1, Ordering::AcqRel);
            }
            self.fleet.ended(self.index, ended.err());
            if was_connected && began.elapsed() > LAST_PAUSE {
                failures = 0;
            }
            tokio::time::sleep(pause(failures, rand::random())).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn serve(&mut self, was_connected: &mut bool) -> Result<()> {
        let channel = self.endpoint.connect().await?;
        let mut client = NodeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        send(&sender, Message::Hello(self.hello())).await?;
        let stream = timeout(WELCOME_LIMIT, client.session(ReceiverStream::new(outgoing))).await??;
        let mut stream = stream.into_inner();
        let welcome = match timeout(WELCOME_LIMIT, stream.message()).await?? {
            Some(ControlMessage { message: Some(Order::Welcome(welcome)) }) => welcome,
            other => bail!("the first answer was no welcome: {other:?}"),
        };
        *was_connected = true;
        self.fleet.welcomed();
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_milliseconds));
        let mut waiting = Waiting::new();
        let ended = self.converse(&sender, &mut stream, heartbeat, &mut waiting).await;
        for (cursor, _) in waiting.into_values().rev() {
            self.unsettled.push_front(cursor);
        }
        ended
    }

    async fn converse(
        &mut self,
        sender: &mpsc::Sender<NodeMessage>,
        stream: &mut Streaming<ControlMessage>,
        heartbeat: Duration,
        waiting: &mut Waiting,
    ) -> Result<()> {
        // A heartbeat falls somewhere into the interval, not on all nodes at once.
        let mut beat = interval(heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0;
        let mut sequence = 0;
        let mut tempo = self.fleet.tempo.subscribe();
        let mut due = Instant::now();
        tempo.mark_changed();
        loop {
            let pace = *tempo.borrow();
            let may_send = waiting.len() < pace.in_flight;
            let is_owed = !self.unsettled.is_empty();
            tokio::select! {
                message = stream.message(), if !(pace.is_stuck && self.fleet.may_stop_reading(self.index)) => {
                    let message = message?.context("control ended the stream")?;
                    self.take(sender, message, waiting).await?;
                }
                _ = beat.tick() => {
                    send(sender, Message::Heartbeat(self.heartbeat(beats))).await?;
                    beats += 1;
                }
                changed = tempo.changed() => {
                    changed?;
                    let pace = *tempo.borrow_and_update();
                    due = Instant::now() + pace.every.mul_f64(self.index as f64 / self.fleet.nodes as f64);
                }
                () = sleep_until(due), if may_send && !is_owed && self.index < pace.reporters => {
                    due = Instant::now().max(due + pace.every);
                    self.cursor += 1;
                    let cursor = self.cursor;
                    self.report(sender, waiting, &mut sequence, cursor).await?;
                }
                () = std::future::ready(()), if waiting.len() < OUTGOING && is_owed => {
                    let cursor = self.unsettled.pop_front().context("one is owed")?;
                    self.fleet.resent.fetch_add(1, Ordering::AcqRel);
                    self.report(sender, waiting, &mut sequence, cursor).await?;
                }
            }
        }
    }

    async fn report(
        &mut self,
        sender: &mpsc::Sender<NodeMessage>,
        waiting: &mut Waiting,
        sequence: &mut u64,
        cursor: i64,
    ) -> Result<()> {
        *sequence += 1;
        waiting.insert(*sequence, (cursor, Instant::now()));
        self.fleet.sent(self.index, cursor);
        // As the worker does: everything first, then what changes.
        let is_complete = *sequence == 1;
        let feeds = (0..REPORT_FEEDS)
            .map(|feed| FeedProgress { is_complete, ..self.progress(feed, cursor) })
            .collect();
        send(
            sender,
            Message::Progress(ProgressReport { sequence: *sequence, feeds, ..ProgressReport::default() }),
        )
        .await
    }

    async fn take(
        &mut self,
        sender: &mpsc::Sender<NodeMessage>,
        message: ControlMessage,
        waiting: &mut Waiting,
    ) -> Result<()> {
        match message.message {
            Some(Order::Config(snapshot)) => {
                let at = std::time::Instant::now();
                let (revision, bytes) = (snapshot.revision, snapshot.document.len());
                self.fleet.received(Received { revision, bytes, at });
                let answer = ConfigAnswer {
                    nonce: snapshot.nonce,
                    revision,
                    outcome: ConfigOutcome::Applied.into(),
                    problems: Vec::new(),
                };
                send(sender, Message::ConfigAnswer(answer)).await?;
            }
            Some(Order::ProgressAck(ack)) if ack.failure.is_empty() => {
                let later = waiting.split_off(&(ack.sequence + 1));
                for (cursor, at) in std::mem::replace(waiting, later).into_values() {
                    self.fleet.acknowledged(self.index, cursor, at.elapsed());
                }
            }
            Some(Order::ProgressAck(ack)) => bail!("a report was refused: {}", ack.failure),
            _ => {}
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        Hello {
            node_id: node_id(self.index),
            role: Role::Worker.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: vec!["10.0.0.1".to_owned()],
            capabilities: vec!["explain".to_owned(), "retry".to_owned(), "delete_limit".to_owned()],
            instance_id: self.instance_id.clone(),
            revision: 0,
            host: node_id(self.index),
        }
    }

    /// All feeds the first time, a few later.
    fn heartbeat(&self, beats: usize) -> Heartbeat {
        let count = if beats == 0 { STATUS_FEEDS } else { CHANGED_FEEDS };
        let feeds = (0..count).map(|feed| self.status((beats + feed) % STATUS_FEEDS, beats)).collect();
        Heartbeat { feeds, is_complete: beats == 0, ..Heartbeat::default() }
    }

    fn status(&self, feed: usize, beats: usize) -> FeedStatus {
        let (row, rows) = (self.index * REPORT_FEEDS + feed, beats as u64);
        FeedStatus {
            key: Some(key(row)),
            mapping_id: format!("{:012x}", row % super::MAPPINGS),
            account: super::ACCOUNT.to_owned(),
            container: super::container(row % super::MAPPINGS),
            lag: Some(Lag { rows, bytes: rows * 1_000, seconds: 1.0, ..Lag::default() }),
            rows_done: rows,
            bytes_sent: rows * 1_000,
            replicas: vec![0],
            nodes: 3,
            ..FeedStatus::default()
        }
    }

    fn progress(&self, feed: usize, cursor: i64) -> FeedProgress {
        let row = self.index * REPORT_FEEDS + feed;
        FeedProgress {
            key: Some(key(row)),
            mapping_id: format!("{:012x}", row % super::MAPPINGS),
            account: super::ACCOUNT.to_owned(),
            container: super::container(row % super::MAPPINGS),
            cursors: [("others".to_owned(), cursor), (LANE.to_owned(), cursor)].into(),
            replicas: vec![0],
            nodes: 3,
            ..FeedProgress::default()
        }
    }
}

/// The lane whose cursor is looked at in the end.
pub const LANE: &str = "own";

async fn send(sender: &mpsc::Sender<NodeMessage>, message: Message) -> Result<()> {
    let sent = sender.send(NodeMessage { message: Some(message) }).await;
    sent.map_err(|_| anyhow!("the connection is closed"))
}

/// The worker's rule: random up to a second at first, then up to twice as long each time, and at least half of that.
fn pause(failures: u32, spread: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
    if failures == 0 { most.mul_f64(spread) } else { most.mul_f64(0.5 + spread / 2.0) }
}

/// The name of a node.
pub fn node_id(index: usize) -> String {
    format!("node{index:05}")
}

/// The key of a feed; feeds are numbered over all nodes.
pub fn key(row: usize) -> FeedKey {
    FeedKey { mapping_identity: mapping_identity(row), database_id: database_id(row) }
}

/// Each mapping and container has one.
pub fn mapping_identity(row: usize) -> String {
    let number = (row % super::MAPPINGS + 1) as u128;
    format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834))
}

/// Each database has one.
pub fn database_id(row: usize) -> String {
    // Ids of databases are random.
    let number = (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{:04x}-4000-8000-{row:012x}", number >> 32, number & 0xffff)
}
