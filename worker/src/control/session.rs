//! The connection to the control plane: fail-over, registration, heartbeats, reports and their acknowledgements.
//!
//! The worker never waits for it: while there is none, progress is kept in files. A control plane that stops answering is left for the
//! next one in the list.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prost::Message as _;
use swift_s3_proto::v1::control_message::Message as Order;
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::{MAX_MESSAGE_BYTES, v1};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use super::link::{Client, Link, Report};
use super::reporter::{Sent, Statuses, mapping_health};
use super::usage::Told;
use crate::board::Board;
use crate::metrics::Metrics;
use swift_s3_daemon::control_client::ControlSettings;
use swift_s3_daemon::control_client::ShowToken;

/// An answer to the registration takes no longer.
const WELCOME_LIMIT: Duration = Duration::from_secs(10);
/// A control plane that does not acknowledge a report for this long is taken to be away.
const ACK_LIMIT: Duration = Duration::from_secs(8);
/// The first pause after a lost connection is random up to this, so that a thousand nodes do not come back in one moment.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses never get longer than this.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Messages that wait to be sent.
const OUTGOING: usize = 64;
/// Reports that go into one message.
const BATCH: usize = 1_000;
/// A message with reports is closed when it has this many bytes; the largest report has some 3 MiB.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// After a refusal, reports go one by one for this long: one that is bad must not spoil the others.
const ONE_BY_ONE: Duration = Duration::from_secs(30);
/// At the end of the process the control plane has so long to take the last counts.
const LAST_WORD: Duration = Duration::from_secs(2);
/// What is kept in files is handed over this often.
const FLUSH_INTERVAL: Duration = Duration::from_secs(15);

/// Whatever comes from the control plane, for the parts that act on it.
#[derive(Debug)]
pub struct Incoming {
    /// The newest snapshot; those in between are skipped.
    pub snapshots: watch::Sender<Option<v1::Snapshot>>,
    /// Everything else.
    pub orders: mpsc::Sender<Order>,
    /// Told at each new contact.
    pub connected: watch::Sender<u64>,
}

/// What one process says of itself.
#[derive(Debug)]
pub struct Session {
    settings: ControlSettings,
    endpoints: Vec<Endpoint>,
    link: Link,
    incoming: Incoming,
    reports: mpsc::Receiver<Report>,
    answers: mpsc::Receiver<Message>,
    board: Arc<Board>,
    statuses: Arc<Statuses>,
    refused: watch::Receiver<BTreeMap<String, String>>,
    revision: Arc<AtomicI64>,
    metrics: Metrics,
    instance_id: String,
    usage: Told,
}

/// What a session is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where to connect.
    pub settings: ControlSettings,
    /// The same, ready for use.
    pub endpoints: Vec<Endpoint>,
    /// For whatever arrives.
    pub incoming: Incoming,
    /// Answers to be sent.
    pub answers: mpsc::Receiver<Message>,
    /// What the worker does.
    pub board: Arc<Board>,
    /// How far it is.
    pub statuses: Arc<Statuses>,
    /// Mappings whose configuration is not in force here.
    pub refused: watch::Receiver<BTreeMap<String, String>>,
    /// The revision in force.
    pub revision: Arc<AtomicI64>,
    /// Is told how it stands with the control plane.
    pub metrics: Metrics,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("could not connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Box<Status>),
    #[error("{0}")]
    Silent(&'static str),
}

/// Reports of one message, and who waits for its acknowledgement.
type Waiting = BTreeMap<u64, (Instant, Vec<oneshot::Sender<Result<(), String>>>)>;

impl Session {
    /// A session that is not connected yet, and the handle for everybody else.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Link) {
        let (link, reports) = Link::new(parts.settings.node_id.clone());
        let session = Self {
            settings: parts.settings,
            endpoints: parts.endpoints,
            link: link.clone(),
            incoming: parts.incoming,
            reports,
            answers: parts.answers,
            usage: Told::new(Arc::clone(&parts.board), Instant::now()),
            board: parts.board,
            statuses: parts.statuses,
            refused: parts.refused,
            revision: parts.revision,
            metrics: parts.metrics,
            instance_id: format!("{:032x}", rand::random::<u128>()),
        };
        (session, link)
    }

    /// Keeps a connection until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        self.metrics.set_connected(false);
        let mut failures = 0_u32;
        let mut last_told = String::new();
        loop {
            for index in 0..self.endpoints.len() {
                let Some(endpoint) = self.endpoints.get(index).cloned() else { continue };
                let began = Instant::now();
                let link = self.link.clone();
                let stopped = async {
                    stop.cancelled().await;
                    // What is connected says its last word.
                    if link.is_connected() {
                        tokio::time::sleep(LAST_WORD).await;
                    }
                };
                let ended = tokio::select! {
                    ended = self.serve(&endpoint, &stop) => ended,
                    () = stopped => {
                        self.link.disconnected();
                        return;
                    }
                };
                if stop.is_cancelled() {
                    self.link.disconnected();
                    return;
                }
                let was_connected = self.link.is_connected();
                self.link.disconnected();
                self.metrics.set_connected(false);
                // Whoever waits keeps its progress in its file.
                while self.reports.try_recv().is_ok() {}
                if was_connected && began.elapsed() > LAST_PAUSE {
                    failures = 0;
                }
                let told = format!("{}: {ended}", endpoint.uri());
                if told != last_told || was_connected {
                    tracing::warn!(control = %endpoint.uri(), error = %ended, "no contact with the control plane; work goes on");
                    last_told = told;
                }
            }
            let pause = pause(failures, rand::random());
            failures = failures.saturating_add(1);
            let woken = async {
                // Reports that come meanwhile go to files at once.
                while self.reports.recv().await.is_some() {}
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
                () = woken => {}
            }
        }
    }

    /// One connection, until it ends.
    async fn serve(&mut self, endpoint: &Endpoint, stop: &CancellationToken) -> Lost {
        match self.try_serve(endpoint, stop).await {
            Ok(()) => Lost::Silent("the control plane ended the connection"),
            Err(lost) => lost,
        }
    }

    async fn try_serve(&mut self, endpoint: &Endpoint, stop: &CancellationToken) -> Result<(), Lost> {
        let channel = endpoint.connect().await?;
        let token = ShowToken::new(self.settings.token.as_ref());
        let mut client: Client = NodeServiceClient::with_interceptor(channel, token)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        send(&sender, Message::Hello(self.hello())).await?;
        let stream = within(WELCOME_LIMIT, client.session(ReceiverStream::new(outgoing))).await?;
        let mut stream = stream.map_err(Box::new)?.into_inner();
        let welcome = match within(WELCOME_LIMIT, stream.message()).await?.map_err(Box::new)? {
            Some(v1::ControlMessage { message: Some(Order::Welcome(welcome)) }) => welcome,
            _ => return Err(Lost::Silent("the first answer was no welcome")),
        };
        tracing::info!(control = %endpoint.uri(), id = welcome.control_id, version = welcome.version, node = self.link.node_id(),
            "registered with the control plane");
        self.link.connected(client);
        self.metrics.set_connected(true);
        self.incoming.connected.send_modify(|count| *count += 1);
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_milliseconds.clamp(100, 60_000)));
        self.converse(&sender, &mut stream, heartbeat, stop).await
    }

    async fn converse(
        &mut self,
        sender: &mpsc::Sender<v1::NodeMessage>,
        stream: &mut Streaming<v1::ControlMessage>,
        heartbeat: Duration,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let mut beat = tokio::time::interval(heartbeat);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sent = Sent::default();
        let mut waiting = Waiting::new();
        let mut sequence = 0;
        let mut batch = Vec::new();
        let link = self.link.clone();
        let flush = async move {
            loop {
                link.flush().await;
                tokio::time::sleep(FLUSH_INTERVAL).await;
            }
        };
        tokio::pin!(flush);
        let mut one_by_one_until = Instant::now();
        self.usage.connected();
        loop {
            let is_stopping = stop.is_cancelled();
            if let Some(report) = self.usage.next(sequence + 1, Instant::now(), is_stopping) {
                sequence += 1;
                waiting.insert(sequence, (Instant::now(), Vec::new()));
                self.metrics.reported();
                send(sender, Message::Progress(report)).await?;
            }
            if is_stopping && self.usage.is_answered() {
                return Ok(());
            }
            let oldest = waiting.first_key_value().map(|(_, (at, _))| *at + ACK_LIMIT);
            tokio::select! {
                message = stream.message() => match message.map_err(Box::new)? {
                    Some(message) => if self.take(message, &mut waiting) {
                        one_by_one_until = Instant::now() + ONE_BY_ONE;
                    },
                    None => return Ok(()),
                },
                _ = beat.tick() => {
                    let mut heartbeat = self.statuses.heartbeat(&mut sent, Instant::now());
                    heartbeat.mappings = mapping_health(&self.board, &self.refused.borrow());
                    send(sender, Message::Heartbeat(heartbeat)).await?;
                }
                count = self.reports.recv_many(&mut batch, BATCH), if batch.is_empty() => if count > 0 {
                    let contact = self.link.contact();
                    // Whoever made a report for an earlier contact makes a new one.
                    batch.retain(|report| report.contact == contact);
                    while !batch.is_empty() {
                        let most = if one_by_one_until > Instant::now() { 1 } else { BATCH };
                        let (feeds, done) = next_message(&mut batch, most);
                        sequence += 1;
                        waiting.insert(sequence, (Instant::now(), done));
                        self.metrics.reported();
                        send(sender, Message::Progress(v1::ProgressReport { sequence, feeds, usage: Vec::new(), usage_number: 0 })).await?;
                    }
                },
                Some(answer) = self.answers.recv() => send(sender, answer).await?,
                () = &mut flush => {}
                () = stop.cancelled(), if !is_stopping => {}
                () = tokio::time::sleep_until(oldest.unwrap_or_else(Instant::now)), if oldest.is_some() => {
                    return Err(Lost::Silent("a report was not acknowledged in time"));
                }
            }
        }
    }

    /// Takes a message. True when it refuses a report.
    fn take(&mut self, message: v1::ControlMessage, waiting: &mut Waiting) -> bool {
        match message.message {
            Some(Order::Config(snapshot)) => {
                self.incoming.snapshots.send_replace(Some(snapshot));
            }
            Some(Order::ProgressAck(ack)) => {
                acknowledge(waiting, &ack);
                if ack.failure.is_empty() {
                    let oldest = waiting.first_key_value().map(|(_, (at, _))| at.into_std());
                    self.metrics.report_acknowledged(oldest);
                }
                self.usage.acknowledged(&ack, Instant::now());
                return !ack.failure.is_empty();
            }
            Some(order @ (Order::Retry(_) | Order::Explain(_) | Order::Audit(_))) => {
                // Acknowledgements and heartbeats must not wait for a busy scheduler; whoever asked can ask again.
                if self.incoming.orders.try_send(order).is_err() {
                    tracing::warn!("too many requests of the control plane at once; one was dropped");
                }
            }
            Some(Order::Welcome(_)) | None => {}
        }
        false
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            node_id: self.link.node_id().to_owned(),
            role: v1::Role::Worker.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: self.settings.addresses.clone(),
            capabilities: vec![
                "explain".to_owned(),
                "retry".to_owned(),
                "delete_limit".to_owned(),
                "audit".to_owned(),
            ],
            instance_id: self.instance_id.clone(),
            revision: self.revision.load(Ordering::Acquire),
            host: nix::unistd::gethostname()
                .map(|host| host.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    }
}

/// Takes as many reports out of `batch` as go into one message, at least one.
fn next_message(
    batch: &mut Vec<Report>,
    most: usize,
) -> (Vec<v1::FeedProgress>, Vec<oneshot::Sender<Result<(), String>>>) {
    let mut bytes = 0;
    let fits = |report: &Report| {
        bytes += report.progress.encoded_len();
        bytes <= BATCH_BYTES
    };
    let count = batch.iter().take(most).map(fits).take_while(|fits| *fits).count().max(1);
    batch.drain(..count.min(batch.len())).map(|report| (report.progress, report.done)).unzip()
}

/// Tells everybody whose report is durable, or was refused. A refusal is of one message only.
fn acknowledge(waiting: &mut Waiting, ack: &v1::ProgressAck) {
    let tell = |done: Vec<oneshot::Sender<Result<(), String>>>, result: Result<(), String>| {
        for done in done {
            // Whoever gave up waiting has kept its progress in its file.
            drop(done.send(result.clone()));
        }
    };
    if !ack.failure.is_empty() {
        if let Some((_, done)) = waiting.remove(&ack.sequence) {
            tell(done, Err(ack.failure.clone()));
        }
        return;
    }
    let later = waiting.split_off(&ack.sequence.saturating_add(1));
    for (_, done) in std::mem::replace(waiting, later).into_values() {
        tell(done, Ok(()));
    }
}

async fn send(sender: &mpsc::Sender<v1::NodeMessage>, message: Message) -> Result<(), Lost> {
    let message = v1::NodeMessage { message: Some(message) };
    within(ACK_LIMIT, sender.send(message)).await?.map_err(|_| Lost::Silent("the connection is closed"))
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Lost> {
    tokio::time::timeout(limit, work).await.map_err(|_| Lost::Silent("no answer in time"))
}

/// How long to wait before the next try: up to a second at first, then up to twice as long each time, and at least half of that.
fn pause(failures: u32, spread: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
    if failures == 0 { most.mul_f64(spread) } else { most.mul_f64(0.5 + spread / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_and_bounded() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!(pause(0, 1.0), FIRST_PAUSE);
        assert_eq!(pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(pause(30, 1.0), LAST_PAUSE);
    }

    #[test]
    fn an_acknowledgement_covers_what_came_before_and_a_refusal_only_itself() {
        let mut waiting = Waiting::new();
        let mut answers = Vec::new();
        for sequence in 1..=4 {
            let (sender, receiver) = oneshot::channel();
            waiting.insert(sequence, (Instant::now(), vec![sender]));
            answers.push(receiver);
        }
        acknowledge(&mut waiting, &v1::ProgressAck { sequence: 3, failure: "disk full".into() });
        acknowledge(&mut waiting, &v1::ProgressAck { sequence: 2, failure: String::new() });
        let told: Vec<_> = answers.iter_mut().map(|answer| answer.try_recv().ok()).collect();
        assert_eq!(told, [Some(Ok(())), Some(Ok(())), Some(Err("disk full".to_owned())), None]);
    }
}
