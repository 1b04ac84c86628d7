//! One node as the control plane sees it: registers, answers configurations, sends heartbeats and reports, comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use swift_s3_proto::v1::control_message::Message as Order;
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, ControlMessage, FeedKey, FeedProgress, FeedStatus, Heartbeat, Hello, Lag,
    ProgressReport, Role,
};
use swift_s3_tests::control_process::Token;
use swift_s3_tests::simulated_fleet::session::{LAST_PAUSE, OUTGOING, Session, endpoint, pause};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tonic::transport::Endpoint;

use super::fleet::{Fleet, Received};

/// Feeds whose lag a node tells.
pub const STATUS_FEEDS: usize = 20;
/// Feeds of one report. A node reports the same ones each time.
pub const REPORT_FEEDS: usize = 100;
/// Feeds that changed between two heartbeats.
const CHANGED_FEEDS: usize = 3;
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
        let mut endpoint = endpoint(&fleet.url)?;
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
        let mut session = Session::open(&self.endpoint, &Token::default(), self.hello()).await?;
        *was_connected = true;
        self.fleet.welcomed();
        let mut waiting = Waiting::new();
        let ended = self.converse(&mut session, &mut waiting).await;
        for (cursor, _) in waiting.into_values().rev() {
            self.unsettled.push_front(cursor);
        }
        ended
    }

    async fn converse(&mut self, session: &mut Session, waiting: &mut Waiting) -> Result<()> {
        // A heartbeat falls somewhere into the interval, not on all nodes at once.
        let mut beat = interval(session.heartbeat);
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
                message = session.orders.message(), if !(pace.is_stuck && self.fleet.may_stop_reading(self.index)) => {
                    let message = message?.context("control ended the stream")?;
                    self.take(session, message, waiting).await?;
                }
                _ = beat.tick() => {
                    session.send(Message::Heartbeat(self.heartbeat(beats))).await?;
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
                    self.report(session, waiting, &mut sequence, cursor).await?;
                }
                () = std::future::ready(()), if waiting.len() < OUTGOING && is_owed => {
                    let cursor = self.unsettled.pop_front().context("one is owed")?;
                    self.fleet.resent.fetch_add(1, Ordering::AcqRel);
                    self.report(session, waiting, &mut sequence, cursor).await?;
                }
            }
        }
    }

    async fn report(
        &mut self,
        session: &Session,
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
        let report = ProgressReport { sequence: *sequence, feeds, ..ProgressReport::default() };
        session.send(Message::Progress(report)).await
    }

    async fn take(
        &mut self,
        session: &Session,
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
                session.send(Message::ConfigAnswer(answer)).await?;
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
