//! Takes a pushed configuration, checks what is new in it, puts it in force, and answers.
//!
//! Switches act at once. A mapping whose remote or credentials are new is put in force when its bucket has answered to them; until then
//! the mapping's last good form stays, or it is left out if it never had one, and the check is repeated. What is in force is on disk before
//! it is answered for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use swift_s3_policy::document::{NodeConfig, RefusedMapping, parse_for_node};
use swift_s3_policy::{ConfigProblem, Mapping, SyncConfig};
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::{self, ConfigOutcome};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::effective::effective;
use crate::metrics::{Metrics, Reloaded};
use crate::schedule::{Order, Switch};
use crate::startup::{keep_fixed, secrets};
use swift_s3_daemon::control_client::LastGood;
use swift_s3_store::remotes::{Remotes, check};

/// Remotes that are checked at the same time.
const CHECKS: usize = 8;
/// A remote that does not answer to a check within this time has failed it.
const CHECK_LIMIT: Duration = Duration::from_secs(15);
/// Mappings that were refused are checked again this often.
const RECHECK: Duration = Duration::from_secs(30);

/// What is needed to put configurations in force.
#[derive(Debug)]
pub struct Configuration {
    /// The node's own file, for keys that belong to the node.
    pub local: Option<String>,
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Option<v1::Snapshot>>,
    /// The scheduler.
    pub orders: mpsc::Sender<Order>,
    /// Answers to the control plane.
    pub answers: mpsc::Sender<Message>,
    /// Mappings that are not in force as the control plane wants them, and why.
    pub refused: watch::Sender<BTreeMap<String, String>>,
    /// The revision in force.
    pub revision: Arc<AtomicI64>,
    /// Where the last good snapshot is kept.
    pub last_good: LastGood,
    /// The remote stores.
    pub remotes: Arc<Remotes>,
    /// What is in force.
    pub running: Arc<SyncConfig>,
    /// The worker was told of an etcd.
    pub has_etcd: bool,
    /// Is told what becomes of configurations.
    pub metrics: Metrics,
}

/// Everything that an answer says.
#[derive(Clone, Debug)]
struct Answer {
    outcome: ConfigOutcome,
    problems: Vec<v1::Problem>,
}

/// A configuration of the control plane's for this node.
///
/// # Errors
/// Every problem, if nothing of it can be used.
pub fn read(
    snapshot: &v1::Snapshot,
    local: Option<&str>,
    has_etcd: bool,
) -> Result<NodeConfig, Vec<ConfigProblem>> {
    let document = std::str::from_utf8(&snapshot.document).map_err(|error| {
        vec![ConfigProblem { path: String::new(), found: error.to_string(), allowed: "UTF-8 text".into() }]
    })?;
    // Before the first configuration there is nothing to do.
    let read = parse_for_node(if document.is_empty() { r#"{"containers":[]}"# } else { document }, local)?;
    match crate::startup::coordination_problem(&read.config, has_etcd) {
        Some(problem) => Err(vec![problem]),
        None => Ok(read),
    }
}

/// The switches of a snapshot.
#[must_use]
pub fn switches(snapshot: &v1::Snapshot) -> HashMap<String, Switch> {
    let switch = |switch: &v1::MappingSwitch| Switch {
        paused: switch.is_paused,
        released_at: switch
            .deletes_released_at
            .as_ref()
            .and_then(|at| u64::try_from(at.seconds).ok())
            .unwrap_or_default(),
    };
    snapshot.switches.iter().map(|found| (found.mapping_id.clone(), switch(found))).collect()
}

/// What became of a snapshot.
enum End {
    /// It was answered for.
    Done(Answer),
    /// A newer one has come.
    Overtaken,
    /// The process ends.
    Gone,
}

/// Mappings that cannot be put in force as they are, by index in the configuration read, and why.
type Failures = BTreeMap<usize, String>;

impl Configuration {
    /// Runs until told to stop. `in_force` is the snapshot that the process began with.
    pub async fn run(mut self, in_force: v1::Snapshot, stop: CancellationToken) {
        tokio::select! {
            () = self.follow(in_force) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow(&mut self, mut in_force: v1::Snapshot) {
        self.metrics.set_revision(in_force.revision);
        self.trust().await;
        // Whatever has come meanwhile is to be answered.
        self.snapshots.mark_changed();
        let mut answered: Option<(v1::Snapshot, Answer)> = None;
        // The newest snapshot that this version can read; its refused mappings are tried again.
        let mut target = in_force.clone();
        let mut recheck: Option<Instant> = None;
        loop {
            let far = Instant::now() + Duration::from_secs(86_400);
            let is_recheck = tokio::select! {
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(recheck.unwrap_or(far)), if recheck.is_some() => true,
            };
            // Without one the process has begun from its disk, and the control plane has not spoken yet.
            let Some(snapshot) = self.snapshots.borrow_and_update().clone() else { continue };
            if self.send_switches(&snapshot).await.is_none() {
                return;
            }
            if snapshot.revision == 0 && in_force.revision != 0 {
                self.answer(&snapshot, &nothing_to_apply(in_force.revision));
                continue;
            }
            let known = answered.as_ref().filter(|(before, _)| same_document(before, &snapshot));
            let end = match known {
                Some((_, answer)) if !is_recheck => End::Done(answer.clone()),
                Some(_) => self.put_in_force(&target, &mut in_force, false).await,
                None => self.put_in_force(&snapshot, &mut in_force, true).await,
            };
            let answer = match end {
                End::Done(answer) => answer,
                End::Overtaken => continue,
                End::Gone => return,
            };
            // A document that was rejected leaves the one before to be checked again.
            if answer.outcome != ConfigOutcome::Rejected {
                recheck = (answer.outcome == ConfigOutcome::PartlyApplied).then(|| Instant::now() + RECHECK);
                if !is_recheck {
                    target = snapshot.clone();
                }
            }
            self.keep_switches(&snapshot, &mut in_force).await;
            // A recheck of an older document says nothing about a newer one that was rejected.
            let answer = match &answered {
                Some((before, old)) if is_recheck && !same_document(before, &target) => old.clone(),
                _ => answer,
            };
            self.answer(&snapshot, &answer);
            answered = Some((snapshot, answer));
        }
    }

    async fn send_switches(&self, snapshot: &v1::Snapshot) -> Option<()> {
        let order = Order::Switches { switches: switches(snapshot), worker_count: snapshot.worker_count };
        self.orders.send(order).await.ok()
    }

    /// Checks and applies.
    async fn put_in_force(
        &mut self,
        snapshot: &v1::Snapshot,
        in_force: &mut v1::Snapshot,
        is_new: bool,
    ) -> End {
        let NodeConfig { mut config, warnings, refused } =
            match read(snapshot, self.local.as_deref(), self.has_etcd) {
                Ok(read) => read,
                Err(problems) => {
                    for problem in &problems {
                        tracing::error!(revision = snapshot.revision, "configuration refused: {problem}");
                    }
                    self.metrics.reloaded(Reloaded::Refused);
                    return End::Done(Answer::rejected(problems));
                }
            };
        if is_new {
            for warning in &warnings {
                tracing::warn!(revision = snapshot.revision, "configuration: {warning}");
            }
            self.answer(snapshot, &Answer { outcome: ConfigOutcome::Applying, problems: Vec::new() });
        }
        keep_fixed(&self.running, &mut config);
        let mut snapshots = self.snapshots.clone();
        let failures = tokio::select! {
            failures = self.check(&config) => failures,
            changed = snapshots.changed() => return if changed.is_ok() { End::Overtaken } else { End::Gone },
        };
        let mut problems = content_problems(refused);
        problems.extend(self.replace_failed(&mut config, &failures));
        self.add_last_good(&mut config, &problems);
        let refused: BTreeMap<String, String> =
            problems.iter().map(|problem| (problem.mapping_id.clone(), problem.found.clone())).collect();
        let outcome = if problems.is_empty() { ConfigOutcome::Applied } else { ConfigOutcome::PartlyApplied };
        if !is_new && self.refused.borrow().keys().eq(refused.keys()) {
            return End::Done(Answer { outcome, problems });
        }
        self.keep_effective(snapshot, in_force, &refused).await;
        let config = Arc::new(config);
        let (done, applied) = oneshot::channel();
        let order = Order::Config { config: Arc::clone(&config), is_complete: problems.is_empty(), done };
        if self.orders.send(order).await.is_err() || applied.await.is_err() {
            return End::Gone;
        }
        self.running = config;
        self.revision.store(snapshot.revision, Ordering::Release);
        for problem in &problems {
            tracing::error!(
                revision = snapshot.revision,
                mapping = problem.mapping_id,
                path = problem.path,
                "mapping refused: {}",
                problem.found
            );
        }
        self.metrics.set_revision(snapshot.revision);
        self.metrics.set_refused(refused.keys().cloned().collect());
        self.metrics.reloaded(if problems.is_empty() { Reloaded::Applied } else { Reloaded::PartlyApplied });
        self.refused.send_replace(refused);
        tracing::info!(
            revision = snapshot.revision,
            mappings = self.running.mappings.len(),
            refused = problems.len(),
            "configuration in force"
        );
        End::Done(Answer { outcome, problems })
    }

    /// What the process began with was in force before, here or on other nodes.
    async fn trust(&self) {
        let proxies = (self.running.http_proxy.as_deref(), self.running.https_proxy.as_deref());
        for mapping in &self.running.mappings {
            // What cannot be opened shows when it is used.
            if let Ok(remote) = self.remotes.open(&mapping.remote, proxies, self.running.workers).await {
                remote.proven.store(true, Ordering::Release);
            }
        }
    }

    /// Asks the remotes of what is new.
    async fn check(&self, config: &SyncConfig) -> Failures {
        let workers = config.workers;
        stream::iter(config.mappings.clone().into_iter().enumerate())
            .map(|(index, mapping)| {
                let (http, https) = (config.http_proxy.clone(), config.https_proxy.clone());
                async move {
                    let proven = self.prove(&mapping, (http.as_deref(), https.as_deref()), workers).await;
                    proven.err().map(|reason| (index, reason))
                }
            })
            .buffer_unordered(CHECKS)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Takes mappings out whose remote did not answer.
    fn replace_failed(&self, config: &mut SyncConfig, failures: &Failures) -> Vec<v1::Problem> {
        let ids = config.mapping_ids();
        let known = self.running.mapping_ids();
        let mut problems = Vec::new();
        let mut kept = Vec::with_capacity(config.mappings.len());
        for (index, (mapping, id)) in config.mappings.drain(..).zip(ids).enumerate() {
            let Some(reason) = failures.get(&index) else {
                kept.push(mapping);
                continue;
            };
            let instead =
                if known.contains(&id) { "its last good form stays in force" } else { "it is not in force" };
            problems.push(v1::Problem {
                path: mapping.path.clone(),
                found: format!("{reason}; {instead}, and is checked again in {} s", RECHECK.as_secs()),
                allowed: "a bucket that answers to these credentials from this node".to_owned(),
                mapping_id: id,
            });
        }
        config.mappings = kept;
        problems
    }

    /// Puts the last good form of refused mappings in.
    fn add_last_good(&self, config: &mut SyncConfig, problems: &[v1::Problem]) {
        let ids = self.running.mapping_ids();
        let wanted: BTreeSet<&str> = problems.iter().map(|problem| problem.mapping_id.as_str()).collect();
        let known = self.running.mappings.iter().zip(&ids);
        config.mappings.extend(
            known.filter(|(_, id)| wanted.contains(id.as_str())).map(|(mapping, _)| Arc::clone(mapping)),
        );
    }

    /// True once a remote has answered to the credentials of a mapping.
    async fn prove(
        &self,
        mapping: &Mapping,
        proxies: (Option<&str>, Option<&str>),
        workers: usize,
    ) -> Result<(), String> {
        if let Some(problem) = secrets(mapping).into_iter().next() {
            return Err(problem.to_string());
        }
        let remote =
            self.remotes.open(&mapping.remote, proxies, workers).await.map_err(|error| error.to_string())?;
        if remote.proven.load(Ordering::Acquire) {
            return Ok(());
        }
        match tokio::time::timeout(CHECK_LIMIT, check(&*remote.store, mapping)).await {
            Ok(Ok(())) => {
                remote.proven.store(true, Ordering::Release);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("{}: {error}", remote.label)),
            Err(_) => Err(format!("{}: no answer within {} s", remote.label, CHECK_LIMIT.as_secs())),
        }
    }

    /// Keeps what is going to be in force, with the last good form of what is refused.
    async fn keep_effective(
        &self,
        snapshot: &v1::Snapshot,
        in_force: &mut v1::Snapshot,
        refused: &BTreeMap<String, String>,
    ) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let refused: BTreeSet<String> = refused.keys().cloned().collect();
        let document = effective(&text(&snapshot.document), &text(&in_force.document), &refused)
            .map_or_else(|| snapshot.document.clone(), Into::into);
        *in_force = v1::Snapshot { document, nonce: String::new(), ..snapshot.clone() };
        self.keep(in_force).await;
    }

    /// Keeps the newest switches beside what is in force.
    async fn keep_switches(&self, snapshot: &v1::Snapshot, in_force: &mut v1::Snapshot) {
        if in_force.switches != snapshot.switches || in_force.worker_count != snapshot.worker_count {
            in_force.switches.clone_from(&snapshot.switches);
            in_force.worker_count = snapshot.worker_count;
            self.keep(in_force).await;
        }
    }

    async fn keep(&self, snapshot: &v1::Snapshot) {
        let (last_good, snapshot) = (self.last_good.clone(), snapshot.clone());
        let stored = tokio::task::spawn_blocking(move || last_good.store(&snapshot)).await;
        if let Ok(Err(error)) = stored {
            tracing::error!(%error, "could not keep the configuration on this node; a start without the control plane would use the one before");
        }
    }

    fn answer(&self, snapshot: &v1::Snapshot, answer: &Answer) {
        // Without contact the answers pile up; the next contact begins with a snapshot that is answered anew.
        drop(self.answers.try_send(answer.to(snapshot)));
    }
}

impl Answer {
    fn rejected(problems: Vec<ConfigProblem>) -> Self {
        let problems = problems.into_iter().map(|problem| self::problem(problem, "")).collect();
        Self { outcome: ConfigOutcome::Rejected, problems }
    }

    fn to(&self, snapshot: &v1::Snapshot) -> Message {
        Message::ConfigAnswer(v1::ConfigAnswer {
            nonce: snapshot.nonce.clone(),
            revision: snapshot.revision,
            outcome: self.outcome.into(),
            problems: self.problems.clone(),
        })
    }
}

fn same_document(one: &v1::Snapshot, other: &v1::Snapshot) -> bool {
    one.revision == other.revision && one.document == other.document
}

fn content_problems(refused: Vec<RefusedMapping>) -> Vec<v1::Problem> {
    let of_mapping = |refused: RefusedMapping| {
        let id = refused.mapping_id.unwrap_or_default();
        refused.problems.into_iter().map(move |problem| self::problem(problem, &id))
    };
    refused.into_iter().flat_map(of_mapping).collect()
}

/// The answer to a snapshot that this node cannot even begin with.
#[must_use]
pub fn refusal(snapshot: &v1::Snapshot, problems: Vec<ConfigProblem>) -> Message {
    Answer::rejected(problems).to(snapshot)
}

fn nothing_to_apply(revision: i64) -> Answer {
    tracing::error!(revision, "the control plane has no configuration; the last one that was in force stays");
    let problem = v1::Problem {
        path: String::new(),
        found: format!(
            "no configuration, where this node runs revision {revision} of another or a lost control plane"
        ),
        allowed: "a configuration: apply one, or restore the control plane's data".to_owned(),
        mapping_id: String::new(),
    };
    Answer { outcome: ConfigOutcome::Rejected, problems: vec![problem] }
}

fn problem(problem: ConfigProblem, mapping_id: &str) -> v1::Problem {
    v1::Problem {
        path: problem.path,
        found: problem.found,
        allowed: problem.allowed,
        mapping_id: mapping_id.to_owned(),
    }
}
