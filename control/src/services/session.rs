//! The life of one node's stream. Two halves run side by side: one reads what the node says, one writes what it is told.
//! The session ends when either does, when the registry ends it, or when the process stops.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, ControlMessage, Heartbeat, Hello, NodeMessage, ProgressAck, ProgressReport,
    UsageReport, Welcome, control_message, node_message,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::activity;
use crate::control::{Control, shown};
use crate::feeds;
use crate::push::Current;
use crate::store::{KnownFeed, StoreError, UsageNews};
use crate::time;

/// A node that does not say who it is by then is turned away.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Reports of one node that may wait for the disk at a time; more are refused.
const REPORTS_IN_FLIGHT: usize = 4;
/// Answers that may wait behind them; the node is not read from beyond these.
const ANSWERS_IN_FLIGHT: usize = 256;
/// When the process stops, reports under way are still answered for so long.
const LAST_REPORTS: Duration = Duration::from_secs(3);

/// What the node reads: messages, then the reason for the end.
#[derive(Debug)]
pub struct Replies {
    messages: mpsc::Receiver<ControlMessage>,
    end: Arc<OnceLock<Status>>,
    has_ended: bool,
}

impl Stream for Replies {
    type Item = Result<ControlMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match self.messages.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Ready(self.end.get().cloned().map(Err))
            }
        }
    }
}

/// Why a session ended.
enum End {
    /// The node closed the stream or vanished.
    Gone,
    /// The node is told this.
    Told(Status),
    /// The process stops.
    Stopping,
}

/// Serves one stream until it ends.
pub(super) fn start(control: Arc<Control>, incoming: Streaming<NodeMessage>) -> Replies {
    let (out, messages) = mpsc::channel(1);
    let end = Arc::new(OnceLock::new());
    let replies = Replies { messages, end: Arc::clone(&end), has_ended: false };
    tokio::spawn(async move {
        let status = match serve(&control, incoming, &out).await {
            End::Gone => return,
            End::Told(status) => status,
            End::Stopping => Status::unavailable("this control process is stopping; connect again"),
        };
        // Set before `out` is dropped, which lets the stream come to its end.
        drop(end.set(status));
        drop(out);
    });
    replies
}

async fn serve(
    control: &Arc<Control>,
    mut incoming: Streaming<NodeMessage>,
    out: &mpsc::Sender<ControlMessage>,
) -> End {
    let hello = tokio::select! {
        () = control.stopping.cancelled() => return End::Stopping,
        greeted = tokio::time::timeout(HELLO_TIMEOUT, greeting(&mut incoming)) => match greeted {
            Ok(Ok(hello)) => hello,
            Ok(Err(end)) => return end,
            Err(_) => return End::Told(Status::deadline_exceeded("no hello within 10 s")),
        },
    };
    let node_id = hello.node_id.clone();
    let instance_id = hello.instance_id.clone();
    let (version, host, role, revision) =
        (hello.version.clone(), hello.host.clone(), hello.role().as_str_name(), hello.revision);
    let mut connected = match control.registry.connect(hello) {
        Ok(connected) => connected,
        Err(status) => {
            tracing::warn!(%node_id, %host, reason = status.message(), "refused a node");
            return End::Told(status);
        }
    };
    control.feeds().connected(&node_id, &instance_id);
    tracing::info!(%node_id, role, %version, %host, revision, "node connected");
    save_soon(control);

    let registered = Registered { control, node_id: &node_id, id: connected.session };
    let session = Session { control, node_id: &node_id, instance_id: &instance_id, id: connected.session };
    let mut outbound = connected.outbound;
    let reason = {
        let reading = session.read(incoming, connected.queue);
        let writing = session.write(&mut outbound, out);
        tokio::pin!(reading, writing);
        tokio::select! {
            end = &mut reading => end,
            end = &mut writing => end,
            // The stream was closed from here, such as by a change of the access file.
            () = out.closed() => End::Gone,
            end = &mut connected.end => End::Told(end.unwrap_or_else(|_| Status::aborted("the session was ended"))),
        }
    };
    if matches!(reason, End::Stopping) {
        // What the reading half answered last must still reach the node.
        while let Ok(message) = outbound.try_recv()
            && let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), out.send(message)).await
        {
        }
    }
    let why = match &reason {
        End::Gone => "the node closed the stream or vanished".to_owned(),
        End::Told(status) => format!("{}: {}", status.code(), status.message()),
        End::Stopping => "stopping".to_owned(),
    };
    tracing::info!(%node_id, why, "the stream of a node ended");
    drop(registered);
    reason
}

/// Takes the node off at the end of its session, even if that end is a panic.
struct Registered<'a> {
    control: &'a Arc<Control>,
    node_id: &'a str,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let was_current = self.control.registry.disconnect(self.node_id, self.id);
        if was_current {
            self.control.audits.gone(self.node_id);
        }
        tracing::info!(node_id = %self.node_id, was_current, "node disconnected");
        save_soon(self.control);
    }
}

/// A disk that hangs must not keep a node from its configuration.
fn save_soon(control: &Arc<Control>) {
    let control = Arc::clone(control);
    tokio::spawn(async move { control.save_nodes().await });
}

async fn greeting(incoming: &mut Streaming<NodeMessage>) -> Result<Hello, End> {
    match incoming.message().await {
        Ok(Some(NodeMessage { message: Some(node_message::Message::Hello(hello)) })) => Ok(hello),
        Ok(Some(_)) => Err(End::Told(Status::failed_precondition("the first message is not `hello`"))),
        Ok(None) => Err(End::Gone),
        Err(status) => Err(End::Told(status)),
    }
}

struct Session<'a> {
    control: &'a Arc<Control>,
    node_id: &'a str,
    /// Names the node's process.
    instance_id: &'a str,
    id: u64,
}

impl Session<'_> {
    /// Reads what the node says. Reports are answered in their order, each after its commit.
    async fn read(&self, mut incoming: Streaming<NodeMessage>, queue: mpsc::Sender<ControlMessage>) -> End {
        let mut reports = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                () = self.control.stopping.cancelled() => {
                    let last = async {
                        while let Some(ack) = reports.next().await {
                            drop(queue.send(ack).await);
                        }
                    };
                    drop(tokio::time::timeout(LAST_REPORTS, last).await);
                    return End::Stopping;
                }
                Some(ack) = reports.next(), if !reports.is_empty() => {
                    if queue.send(ack).await.is_err() {
                        return End::Gone;
                    }
                }
                message = incoming.message(), if reports.len() < ANSWERS_IN_FLIGHT => {
                    let message = match message {
                        Ok(Some(message)) => message.message,
                        Ok(None) => return End::Gone,
                        Err(status) => return End::Told(status),
                    };
                    match message {
                        // Read on, so that signs of life behind it count.
                        Some(node_message::Message::Progress(report)) if reports.len() < REPORTS_IN_FLIGHT => {
                            reports.push_back(self.save(report).left_future());
                        }
                        Some(node_message::Message::Progress(report)) => {
                            self.control.registry.seen(self.node_id, self.id);
                            let failure = format!("{REPORTS_IN_FLIGHT} reports wait for the disk already");
                            let refused = std::future::ready(acknowledge(report.sequence, failure));
                            reports.push_back(refused.right_future());
                        }
                        Some(message) => {
                            if let Err(status) = self.take(message) {
                                return End::Told(status);
                            }
                        }
                        // Of a newer node, which does not rely on it.
                        None => {}
                    }
                }
            }
        }
    }

    fn take(&self, message: node_message::Message) -> Result<(), Status> {
        match message {
            node_message::Message::Hello(_) => {
                return Err(Status::failed_precondition("`hello` was sent twice on one stream"));
            }
            node_message::Message::Heartbeat(heartbeat) => return self.heartbeat(heartbeat),
            node_message::Message::ConfigAnswer(answer) => self.answer(answer),
            node_message::Message::ExplainAnswer(answer) => {
                self.control.registry.explained(self.node_id, answer);
            }
            node_message::Message::AuditAnswer(answer) => {
                self.control.registry.seen(self.node_id, self.id);
                self.control.audits.answered(self.node_id, answer);
            }
            node_message::Message::Progress(_) => {}
        }
        Ok(())
    }

    fn heartbeat(&self, mut heartbeat: Heartbeat) -> Result<(), Status> {
        feeds::check(&heartbeat).map_err(|why| Status::invalid_argument(format!("heartbeat: {why}")))?;
        if !self.control.registry.heartbeat(self.node_id, self.id, &mut heartbeat) {
            // A newer connection took over; what it told must not be undone.
            return Ok(());
        }
        self.control
            .feeds()
            .heartbeat(self.node_id, heartbeat, time::now_ms())
            .map_err(|why| Status::resource_exhausted(format!("heartbeat: {why}")))
    }

    fn answer(&self, answer: ConfigAnswer) {
        let node_id = self.node_id;
        let Some(answer) = self.control.registry.answered(node_id, self.id, answer) else {
            tracing::debug!(%node_id, "an answer to a configuration that was not sent lately");
            return;
        };
        self.control.settings.metrics.answered(answer.outcome, answer.took);
        let (revision, seconds) = (answer.revision, answer.took.as_secs_f64());
        match answer.outcome {
            ConfigOutcome::Rejected | ConfigOutcome::PartlyApplied => {
                let first = answer.problems.first().map(shown).unwrap_or_default();
                tracing::warn!(
                    %node_id, revision, outcome = answer.outcome.as_str_name(), problems = answer.problems.len(), first,
                    "node refused some or all of the configuration"
                );
                let is_all = answer.outcome == ConfigOutcome::Rejected;
                self.control.activities.tell(activity::rejected(node_id, revision, is_all, &first));
            }
            ConfigOutcome::Applied => {
                tracing::info!(%node_id, revision, seconds, "node applied the configuration")
            }
            ConfigOutcome::Applying | ConfigOutcome::Unspecified => {
                tracing::debug!(%node_id, revision, "node is applying the configuration");
            }
        }
    }

    /// Stores a report. The answer is true to the disk.
    fn save(&self, report: ProgressReport) -> impl Future<Output = ControlMessage> + use<> {
        let (control, node_id, id) = (Arc::clone(self.control), self.node_id.to_owned(), self.id);
        let instance_id = self.instance_id.to_owned();
        // The session may last for months; each report is a trace of its own.
        let span = tracing::info_span!(
            "report",
            otel.status_code = Empty,
            swift_s3_control.feeds = report.feeds.len()
        );
        let saving = async move {
            let ProgressReport { sequence, feeds, usage, usage_number } = report;
            let usage = UsageNews { instance_id, number: usage_number, reports: in_force(&control, usage) };
            let known = feeds.iter().filter_map(|feed| known_feed(&node_id, feed)).collect();
            let saved = control.store.save_report(&node_id, feeds, usage).await;
            let refusal = match &saved {
                Err(error @ StoreError::Refused(_)) => Some(error.to_string()),
                _ => None,
            };
            let is_new = control.registry.reported(&node_id, id, refusal);
            let failure = match saved {
                Ok(()) => {
                    control.feeds().know(known);
                    String::new()
                }
                Err(error) => {
                    // Whatever the reason: the node's progress is not stored, and its trace is kept.
                    Span::current().record("otel.status_code", "ERROR");
                    if is_new {
                        tracing::warn!(%node_id, sequence, %error, "refused a report; its progress is not stored");
                    } else {
                        tracing::debug!(%node_id, sequence, %error, "did not store a report");
                    }
                    error.to_string()
                }
            };
            acknowledge(sequence, failure)
        };
        saving.instrument(span)
    }

    /// Writes what the node is told. The configuration is always the latest, however long the node did not read.
    async fn write(
        &self,
        outbound: &mut mpsc::Receiver<ControlMessage>,
        out: &mpsc::Sender<ControlMessage>,
    ) -> End {
        let welcome = Welcome {
            control_id: self.control.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_milliseconds: u32::try_from(self.control.settings.heartbeat.as_millis())
                .unwrap_or(u32::MAX),
        };
        let mut snapshots = self.control.push.watch();
        snapshots.mark_changed();
        let mut next = Some(control_message::Message::Welcome(welcome));
        loop {
            let message = match next.take() {
                Some(message) => ControlMessage { message: Some(message) },
                None => match self.next_message(outbound, &mut snapshots).await {
                    Some(message) => message,
                    None => return End::Gone,
                },
            };
            match tokio::time::timeout(self.control.settings.slow_node, out.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone,
                Err(_) => {
                    let count = self.control.registry.ended_slow_node();
                    tracing::warn!(node_id = %self.node_id, count, "ended the stream of a node that does not read");
                    return End::Told(Status::resource_exhausted("the node did not read what it was told"));
                }
            }
        }
    }

    async fn next_message(
        &self,
        outbound: &mut mpsc::Receiver<ControlMessage>,
        snapshots: &mut watch::Receiver<Arc<Current>>,
    ) -> Option<ControlMessage> {
        tokio::select! {
            changed = snapshots.changed() => {
                changed.ok()?;
                let current = Arc::clone(&snapshots.borrow_and_update());
                let nonce = format!("{:032x}", rand::random::<u128>());
                self.control.settings.metrics.pushed();
                self.control.registry.pushed(self.node_id, self.id, &nonce, current.revision, current.generation);
                tracing::debug!(
                    node_id = %self.node_id, revision = current.revision, generation = current.generation,
                    "sending the configuration"
                );
                Some(ControlMessage { message: Some(control_message::Message::Config(current.snapshot(nonce))) })
            }
            message = outbound.recv() => message,
        }
    }
}

fn acknowledge(sequence: u64, failure: String) -> ControlMessage {
    let ack = ProgressAck { sequence, failure };
    ControlMessage { message: Some(control_message::Message::ProgressAck(ack)) }
}

/// What is told of other mappings is shown nowhere, and ids that a node invents must not be kept. Mappings are not known when
/// this version does not understand the configuration.
fn in_force(control: &Control, mut usage: Vec<UsageReport>) -> Vec<UsageReport> {
    let current = control.push.current();
    if !usage.is_empty() && !current.mappings.is_empty() {
        let ids: HashSet<&str> = current.mappings.iter().map(|mapping| mapping.id.as_str()).collect();
        usage.retain(|report| ids.contains(report.mapping_id.as_str()));
    }
    usage
}

fn known_feed(node_id: &str, feed: &swift_s3_proto::v1::FeedProgress) -> Option<KnownFeed> {
    let key = feed.key.as_ref()?;
    Some(KnownFeed {
        mapping_identity: key.mapping_identity.clone(),
        database_id: key.database_id.clone(),
        mapping_id: feed.mapping_id.clone(),
        account: feed.account.clone(),
        container: feed.container.clone(),
        node_id: node_id.to_owned(),
        replicas: feed.replicas.clone(),
        nodes: feed.nodes,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::control::Settings;
    use crate::store::{DataDirectory, Store};

    #[tokio::test]
    async fn a_session_that_panics_leaves_no_node_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDirectory::lock(folder.path()).unwrap()).unwrap();
        let control = Control::start(store, Settings::default()).await.unwrap();
        let hello = Hello {
            node_id: "n".to_owned(),
            instance_id: "p".to_owned(),
            role: swift_s3_proto::v1::Role::Worker.into(),
            version: "0.1.0".to_owned(),
            ..Hello::default()
        };
        let session = control.registry.connect(hello).unwrap().session;
        let of_session = Arc::clone(&control);
        let panicked = tokio::spawn(async move {
            let _registered = Registered { control: &of_session, node_id: "n", id: session };
            panic!("on purpose");
        });
        assert!(panicked.await.is_err());
        assert_eq!(control.registry.is_connected("n"), Some(false));
        control.store.close().await;
    }
}
