//! Which nodes there are, which are connected, and how they answered. Knows no streams: a session hands in what its node
//! said, and takes out what the node is to be told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swift_s3_proto::v1::{
    ConfigAnswer, ConfigOutcome, ControlMessage, Coordination, Heartbeat, Hello, MappingHealth, NodeLoad,
    RetryCommand, Role, control_message,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::feeds::cut;
use crate::store::NodeRecord;
use crate::time;

mod greeting;
mod news;
mod questions;
mod view;

pub use news::{Arrival, NodeNews};
use questions::Asker;
pub use questions::Question;
pub use view::{Answer, NodeView, state};

/// Messages that wait for one node; the configuration is not among them.
const OUTBOUND_QUEUE: usize = 64;
/// Sendings of the configuration that an answer may still come for.
const REMEMBERED_PUSHES: usize = 16;
/// Problems kept of one answer.
const MAX_PROBLEMS: usize = 1_000;
/// Takeovers kept of one worker.
const MAX_TAKEOVERS: usize = 1_000;
/// Mappings kept of one heartbeat.
const MAX_MAPPINGS: usize = 100_000;

/// Nodes tell their load with many heartbeats; what was not told for so long is not known.
const LOAD_HOLDS: Duration = Duration::from_secs(60);

/// All nodes.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    workers: watch::Sender<u32>,
    silence: Duration,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    next_session: u64,
    next_question: u64,
    questions: HashMap<u64, Asker>,
    slow_nodes_ended: u64,
    news: Vec<NodeNews>,
    forgotten: u64,
    /// Taken and returned, as workers told since the start.
    takeovers: (u64, u64),
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Takeovers that workers told: taken, returned.
    pub takeovers: (u64, u64),
    /// Streams that were ended because the node did not read.
    pub slow_nodes_ended: u64,
}

/// One node.
#[derive(Debug)]
struct Node {
    record: NodeRecord,
    session: Option<Session>,
    answer: Option<Answer>,
    health: Arc<[MappingHealth]>,
    clock_skew_seconds: Option<f64>,
    coordination: Option<Coordination>,
    /// What it told last, and when.
    load: Option<(Instant, NodeLoad)>,
    /// Why its latest report was refused, if it was.
    refused_report: Option<String>,
    /// The reason that was last told in the log.
    told_refusal: Option<String>,
    is_unsaved: bool,
    /// The process that connected last; `None`: none since this one of control started.
    instance_id: Option<String>,
    /// When its connection ended, or it was remembered.
    gone_at: Instant,
}

#[derive(Debug)]
struct Session {
    id: u64,
    instance_id: String,
    connected_at_ms: i64,
    seen_at: Instant,
    outbound: mpsc::Sender<ControlMessage>,
    end: oneshot::Sender<Status>,
    pushes: VecDeque<Push>,
}

#[derive(Debug)]
struct Push {
    nonce: String,
    revision: i64,
    generation: u64,
    sent_at: Instant,
}

/// A registered session.
#[derive(Debug)]
pub struct Connected {
    /// Names it towards the registry.
    pub session: u64,
    /// What the node is to be told.
    pub outbound: mpsc::Receiver<ControlMessage>,
    /// For messages that must not be lost.
    pub queue: mpsc::Sender<ControlMessage>,
    /// Fires when the session must end.
    pub end: oneshot::Receiver<Status>,
}

impl Registry {
    /// Begins with the nodes that were known. A node that gives no sign of life for `silence` is silent.
    #[must_use]
    pub fn new(nodes: Vec<NodeRecord>, silence: Duration) -> Self {
        let nodes = nodes.into_iter().map(|record| (record.node_id.clone(), Node::new(record))).collect();
        let state = State { nodes, ..State::default() };
        Self { state: Mutex::new(state), workers: watch::Sender::new(0), silence }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection. A newer connection of the same process replaces its older one.
    ///
    /// # Errors
    /// When the greeting is not right, or another process is connected under this id.
    pub fn connect(&self, hello: Hello) -> Result<Connected, Status> {
        greeting::check(&hello)?;
        let mut state = self.lock();
        if let Some(node) = state.nodes.get_mut(&hello.node_id)
            && let Some(session) = node.session.take()
        {
            if session.instance_id != hello.instance_id {
                let message = format!(
                    "node {:?} is connected since {} by another process on host {:?}; stop that one, or give this one \
                     another node id",
                    hello.node_id,
                    time::shown(session.connected_at_ms),
                    node.record.host
                );
                node.session = Some(session);
                return Err(Status::already_exists(message));
            }
            drop(session.end.send(Status::aborted("a newer connection of the same process took over")));
        }
        if let Some(why) = news::arrival(state.nodes.get(&hello.node_id), &hello.instance_id) {
            let (node_id, version, host) = (hello.node_id.clone(), hello.version.clone(), hello.host.clone());
            state.tell(NodeNews::Connected { node_id, why, version, host });
        }
        let (queue, outbound) = mpsc::channel(OUTBOUND_QUEUE);
        let (end, ended) = oneshot::channel();
        state.next_session += 1;
        let id = state.next_session;
        let record = NodeRecord {
            node_id: hello.node_id.clone(),
            role: hello.role,
            version: hello.version,
            host: hello.host,
            addresses: hello.addresses,
            capabilities: hello.capabilities,
            revision: hello.revision,
            last_seen_at_ms: time::now_ms(),
            is_lost: false,
        };
        let mut node = Node::new(record);
        node.is_unsaved = true;
        node.instance_id = Some(hello.instance_id.clone());
        node.session = Some(Session {
            id,
            instance_id: hello.instance_id,
            connected_at_ms: time::now_ms(),
            seen_at: Instant::now(),
            outbound: queue.clone(),
            end,
            pushes: VecDeque::new(),
        });
        state.nodes.insert(hello.node_id, node);
        self.count_workers(&state);
        Ok(Connected { session: id, outbound, queue, end: ended })
    }

    /// Takes a session off. False: it was not the node's any more.
    pub fn disconnect(&self, node_id: &str, session: u64) -> bool {
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(node_id).filter(|node| node.is_session(session)) else {
            return false;
        };
        node.session = None;
        node.gone_at = Instant::now();
        node.is_unsaved = true;
        self.count_workers(&state);
        true
    }

    /// How many workers are connected, now and from now on.
    #[must_use]
    pub fn workers(&self) -> watch::Receiver<u32> {
        self.workers.subscribe()
    }

    fn count_workers(&self, state: &State) {
        let is_worker = |node: &&Node| node.session.is_some() && node.record.role == i32::from(Role::Worker);
        let count = u32::try_from(state.nodes.values().filter(is_worker).count()).unwrap_or(u32::MAX);
        self.workers.send_if_modified(|known| std::mem::replace(known, count) != count);
    }

    /// Any message of a node is a sign of life. False: the session is not the node's any more.
    pub fn seen(&self, node_id: &str, session: u64) -> bool {
        self.with_session(node_id, session, |node| node.see()).is_some()
    }

    /// Takes what a heartbeat says of the node itself. False: the session is not the node's any more.
    #[allow(clippy::cast_precision_loss, reason = "a clock's difference, for people")]
    pub fn heartbeat(&self, node_id: &str, session: u64, heartbeat: &mut Heartbeat) -> bool {
        let mut health = std::mem::take(&mut heartbeat.mappings);
        health.truncate(MAX_MAPPINGS);
        // Most fare well, of which there is nothing to say.
        health.retain(|mapping| {
            mapping.is_paused || !mapping.refused.is_empty() || !mapping.remote_trouble.is_empty()
        });
        for text in health.iter_mut().flat_map(|mapping| [&mut mapping.refused, &mut mapping.remote_trouble])
        {
            text.truncate(cut(text).len());
        }
        let load = heartbeat.load.take().map(plain_numbers);
        let mut coordination = heartbeat.coordination.take();
        if let Some(told) = &mut coordination {
            told.takeovers.truncate(MAX_TAKEOVERS);
            let names = told.takeovers.iter_mut().flat_map(|one| [&mut one.device, &mut one.home_node_id]);
            for text in names.chain([&mut told.trouble]) {
                text.truncate(cut(text).len());
            }
        }
        let ahead_ms = |at| time::milliseconds(at).saturating_sub(time::now_ms());
        let skew = heartbeat.sent_at.as_ref().map(|at| ahead_ms(at) as f64 / 1_000.0);
        let takeovers = self.with_session(node_id, session, |node| {
            node.see();
            node.health = health.into();
            node.clock_skew_seconds = skew;
            node.load = load.map(|load| (Instant::now(), load)).or(node.load);
            let Some(told) = coordination else { return Vec::new() };
            let new = news::new_takeovers(node.coordination.as_ref(), &told);
            node.coordination = Some(told);
            new
        });
        let Some(takeovers) = takeovers else { return false };
        if !takeovers.is_empty() {
            self.tell_takeovers(node_id, takeovers);
        }
        true
    }

    /// Remembers whether the latest report was refused, and why. True: the reason is new.
    pub fn reported(&self, node_id: &str, session: u64, refusal: Option<String>) -> bool {
        let is_new = self.with_session(node_id, session, |node| {
            node.see();
            let is_new = refusal.is_some() && refusal != node.told_refusal;
            if is_new {
                node.told_refusal.clone_from(&refusal);
            }
            node.refused_report = refusal;
            is_new
        });
        is_new.unwrap_or(false)
    }

    /// Remembers that a configuration is being sent.
    pub fn pushed(&self, node_id: &str, session: u64, nonce: &str, revision: i64, generation: u64) {
        self.with_session(node_id, session, |node| {
            let Some(session) = &mut node.session else { return };
            if session.pushes.len() >= REMEMBERED_PUSHES {
                session.pushes.pop_front();
            }
            let sent_at = Instant::now();
            session.pushes.push_back(Push { nonce: nonce.to_owned(), revision, generation, sent_at });
        });
    }

    /// Takes an answer to a configuration. `None`: it answers nothing that was sent lately.
    pub fn answered(&self, node_id: &str, session: u64, answer: ConfigAnswer) -> Option<Answer> {
        self.with_session(node_id, session, |node| {
            node.see();
            let push = node.session.as_ref()?.pushes.iter().find(|push| push.nonce == answer.nonce)?;
            let outcome = answer.outcome();
            let mut problems = answer.problems;
            problems.truncate(MAX_PROBLEMS);
            let answer = Answer {
                revision: push.revision,
                generation: push.generation,
                outcome,
                problems: problems.into(),
                took: push.sent_at.elapsed(),
            };
            if node.answer.as_ref().is_none_or(|known| known.generation <= answer.generation) {
                if matches!(outcome, ConfigOutcome::Applied | ConfigOutcome::PartlyApplied) {
                    node.record.revision = answer.revision;
                }
                node.answer = Some(answer.clone());
            }
            Some(answer)
        })
        .flatten()
    }

    /// Tells one live node something. False: it is not there, or does not read.
    pub fn tell(&self, node_id: &str, message: control_message::Message) -> bool {
        let state = self.lock();
        state.nodes.get(node_id).is_some_and(|node| node.is_live(self.silence) && node.tell(message))
    }

    /// Tells nodes to try rows again. Returns how many were told.
    pub fn retry(&self, node_ids: &[String], command: &RetryCommand) -> u32 {
        let state = self.lock();
        let told = node_ids
            .iter()
            .filter_map(|node_id| state.nodes.get(node_id))
            .filter(|node| node.is_live(self.silence))
            .filter(|node| node.tell(control_message::Message::Retry(command.clone())))
            .count();
        u32::try_from(told).unwrap_or(u32::MAX)
    }

    /// All nodes, by id.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        self.lock().nodes.values().map(|node| node.view(self.silence)).collect()
    }

    /// True while it is connected. `None`: it is not known.
    #[must_use]
    pub fn is_connected(&self, node_id: &str) -> Option<bool> {
        self.lock().nodes.get(node_id).map(|node| node.session.is_some())
    }

    /// Removes a node from the lists. `None`: it is not known; false: it is connected, and stays.
    pub fn forget(&self, node_id: &str) -> Option<bool> {
        let mut state = self.lock();
        let is_connected = state.nodes.get(node_id)?.session.is_some();
        if !is_connected {
            state.nodes.remove(node_id);
            state.forgotten += 1;
        }
        Some(!is_connected)
    }

    /// How many nodes were forgotten since the start.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// What was counted since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let state = self.lock();
        Tally { takeovers: state.takeovers, slow_nodes_ended: state.slow_nodes_ended }
    }

    /// Nodes whose records changed since they were last taken.
    #[must_use]
    pub fn take_unsaved(&self) -> Vec<NodeRecord> {
        let mut state = self.lock();
        let take = |node: &mut Node| std::mem::take(&mut node.is_unsaved).then(|| node.record.clone());
        state.nodes.values_mut().filter_map(take).collect()
    }

    /// Counts a node whose stream was ended because it did not read. Returns how often that happened.
    pub fn ended_slow_node(&self) -> u64 {
        let mut state = self.lock();
        state.slow_nodes_ended += 1;
        state.slow_nodes_ended
    }

    fn with_session<T>(&self, node_id: &str, session: u64, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let mut state = self.lock();
        let node = state.nodes.get_mut(node_id).filter(|node| node.is_session(session))?;
        let was_lost = node.record.is_lost;
        let changed = change(node);
        if was_lost && !node.record.is_lost {
            let (version, host) = (node.record.version.clone(), node.record.host.clone());
            let (node_id, why) = (node_id.to_owned(), Arrival::Back);
            state.tell(NodeNews::Connected { node_id, why, version, host });
        }
        Some(changed)
    }
}

impl Node {
    fn new(record: NodeRecord) -> Self {
        Self {
            record,
            session: None,
            answer: None,
            health: Arc::default(),
            clock_skew_seconds: None,
            coordination: None,
            load: None,
            refused_report: None,
            told_refusal: None,
            is_unsaved: false,
            instance_id: None,
            gone_at: Instant::now(),
        }
    }

    fn is_session(&self, id: u64) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == id)
    }

    fn is_live(&self, silence: Duration) -> bool {
        self.session.as_ref().is_some_and(|session| session.seen_at.elapsed() <= silence)
    }

    fn see(&mut self) {
        if let Some(session) = &mut self.session {
            session.seen_at = Instant::now();
        }
        self.record.last_seen_at_ms = time::now_ms();
        self.record.is_lost = false;
        self.is_unsaved = true;
    }

    /// False: the node does not read what it was told before.
    fn tell(&self, message: control_message::Message) -> bool {
        let message = ControlMessage { message: Some(message) };
        self.session.as_ref().is_some_and(|session| session.outbound.try_send(message).is_ok())
    }

    fn view(&self, silence: Duration) -> NodeView {
        let is_live = self.is_live(silence);
        NodeView {
            record: self.record.clone(),
            is_live,
            connected_at_ms: self.session.as_ref().map(|session| session.connected_at_ms),
            answer: self.answer.clone(),
            health: if is_live { Arc::clone(&self.health) } else { Arc::default() },
            clock_skew_seconds: self.clock_skew_seconds.filter(|_| is_live),
            coordination: self.coordination.clone().filter(|_| is_live),
            load: self.load.filter(|(at, _)| is_live && at.elapsed() < LOAD_HOLDS).map(|(_, load)| load),
            refused_report: self.refused_report.clone().filter(|_| is_live),
        }
    }
}

/// Without what JSON and people have no number for.
fn plain_numbers(load: NodeLoad) -> NodeLoad {
    let plain = |number: f64| if number.is_finite() { number.max(0.0) } else { 0.0 };
    NodeLoad { cpu_seconds: plain(load.cpu_seconds), uptime_seconds: plain(load.uptime_seconds), ..load }
}

#[cfg(test)]
mod tests;
