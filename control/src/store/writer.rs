//! The one thread that writes. It takes every job that waits, writes them in one transaction, and answers each only after
//! the commit: a hundred nodes cost one sync of the disk together, not a hundred.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use swift_s3_proto::v1::FeedProgress;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::activity::Line;
use super::mirror::Mirror;
use super::records::{NewRevision, NodeRecord, Prune, Pruned, RevisionRecord, SwitchChange, Switched};
use super::usage::UsageNews;
use crate::metrics::Metrics;
use crate::time;

mod activity;
mod changes;
mod progress;
mod prune;
mod usage;

pub use progress::MAX_PARKED_PER_FEED;
pub(super) use progress::cut;

/// No more jobs are taken into a transaction that has so many feeds, to bound the time until the first is answered.
const FEEDS_PER_TRANSACTION: usize = 5_000;
/// The same where every hundred rows are a transaction of etcd.
const ROWS_PER_MIRRORED: usize = 1_000;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to write.
pub(super) enum Job {
    Progress { node_id: String, feeds: Vec<FeedProgress>, usage: Box<UsageNews>, reply: Reply<()> },
    Apply { revision: Box<NewRevision>, reply: Reply<RevisionRecord> },
    Switch { mapping_id: String, change: SwitchChange, by: String, reply: Reply<Switched> },
    SaveNodes { nodes: Vec<NodeRecord>, reply: Reply<()> },
    ForgetNode { node_id: String, reply: Reply<bool> },
    Record { lines: Vec<Line>, reply: Reply<()> },
    PruneRevisions { keep: u32, reply: Reply<usize> },
    Prune { prune: Prune, reply: Reply<Pruned> },
    NextEpoch { least: u32, reply: Reply<u32> },
    Settle { reply: Reply<()> },
    SetMaxPages { pages: u32, reply: Reply<()> },
    Close { reply: oneshot::Sender<()> },
}

/// The outcome of a job before its transaction is known to be durable.
enum Done {
    Nothing(Reply<()>, Result<(), StoreError>),
    Revision(Reply<RevisionRecord>, Result<RevisionRecord, StoreError>),
    Flag(Reply<bool>, Result<bool, StoreError>),
    Switched(Reply<Switched>, Result<Switched, StoreError>),
    Count(Reply<usize>, Result<usize, StoreError>),
    Pruned(Reply<Pruned>, Result<Pruned, StoreError>),
    Epoch(Reply<u32>, Result<u32, StoreError>),
}

impl Done {
    /// Answers; what `commit` failed with goes before the job's own success.
    fn answer(self, commit: Result<(), &StoreError>) {
        fn tell<T>(reply: Reply<T>, result: Result<T, StoreError>, commit: Result<(), &StoreError>) {
            let answer = result.and_then(|value| commit.map(|()| value).map_err(Clone::clone));
            if reply.send(answer).is_err() {
                tracing::trace!("the caller went away before its answer");
            }
        }
        match self {
            Self::Nothing(reply, result) => tell(reply, result, commit),
            Self::Revision(reply, result) => tell(reply, result, commit),
            Self::Flag(reply, result) => tell(reply, result, commit),
            Self::Switched(reply, result) => tell(reply, result, commit),
            Self::Count(reply, result) => tell(reply, result, commit),
            Self::Pruned(reply, result) => tell(reply, result, commit),
            Self::Epoch(reply, result) => tell(reply, result, commit),
        }
    }
}

/// Starts the thread.
pub(super) fn spawn(
    connection: Connection,
    mirror: Option<Mirror>,
    jobs: mpsc::Receiver<Job>,
    trouble: Arc<Mutex<Option<String>>>,
    metrics: Arc<OnceLock<Metrics>>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || Writer { connection, mirror, trouble, metrics }.run(jobs))
}

struct Writer {
    connection: Connection,
    mirror: Option<Mirror>,
    trouble: Arc<Mutex<Option<String>>>,
    metrics: Arc<OnceLock<Metrics>>,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            let mut weight = batch.first().map_or(0, Job::weight);
            let most = if self.mirror.is_some() { ROWS_PER_MIRRORED } else { FEEDS_PER_TRANSACTION };
            while weight < most
                && !batch.last().is_some_and(Job::ends_batch)
                && let Ok(job) = jobs.try_recv()
            {
                weight = weight.saturating_add(job.weight());
                batch.push(job);
            }
            let last = if batch.last().is_some_and(Job::ends_batch) { batch.pop() } else { None };
            self.write(batch);
            match last {
                Some(Job::Close { reply }) => {
                    self.checkpoint();
                    let _ended = reply.send(());
                    return;
                }
                Some(Job::SetMaxPages { pages, reply }) => {
                    let set = self.connection.pragma_update(None, "max_page_count", pages);
                    drop(reply.send(set.map_err(StoreError::from)));
                }
                Some(Job::Settle { reply }) => drop(reply.send(Ok(()))),
                Some(job) => self.write(vec![job]),
                None => {}
            }
        }
        self.checkpoint();
    }

    fn write(&mut self, batch: Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let mut done = Vec::with_capacity(batch.len());
        let began = Instant::now();
        let committed = transact(&mut self.connection, self.mirror.as_mut(), batch, &mut done);
        if let Some(metrics) = self.metrics.get() {
            let store = if self.mirror.is_some() { "etcd" } else { "sqlite" };
            metrics.committed(store, committed.as_ref().copied(), began.elapsed());
        }
        self.remember_trouble(committed.as_ref().err());
        for job in done {
            job.answer(committed.as_ref().copied());
        }
    }

    /// Told once when it begins and once when it ends, not for each of thousands of jobs.
    fn remember_trouble(&self, failure: Option<&StoreError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (failure, trouble.is_some()) {
            (Some(error), false) => {
                tracing::error!(%error, "cannot store; workers keep their progress and send it again")
            }
            (None, true) => tracing::info!("can store again"),
            _ => {}
        }
        *trouble = failure.map(ToString::to_string);
    }

    /// Leaves one file behind that any tool can copy.
    fn checkpoint(&self) {
        let result = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = result {
            tracing::warn!(%error, "could not bring the write-ahead log into the database; the next start does");
        }
    }
}

/// Runs jobs in one transaction. Each job has a savepoint: one that is refused takes nothing else with it. When the disk or
/// the database fails, nothing of any job is stored.
fn transact(
    connection: &mut Connection,
    mirror: Option<&mut Mirror>,
    batch: Vec<Job>,
    done: &mut Vec<Done>,
) -> Result<(), StoreError> {
    let mut failure = None;
    match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(mut transaction) => {
            for job in batch {
                let outcome = job.run(&mut transaction, failure.as_ref());
                failure = failure.or_else(|| outcome.disk_failure());
                done.push(outcome);
            }
            match failure {
                None => commit(transaction, mirror),
                Some(error) => {
                    // An I/O error may have rolled it back already.
                    drop(transaction.rollback());
                    Err(error)
                }
            }
        }
        Err(error) => {
            let error = StoreError::from(error);
            done.extend(batch.into_iter().map(|job| job.fail(&error)));
            Err(error)
        }
    }
}

/// With a mirror, what changed is there before it is committed here.
fn commit(transaction: Transaction<'_>, mirror: Option<&mut Mirror>) -> Result<(), StoreError> {
    let Some(mirror) = mirror else { return transaction.commit().map_err(StoreError::from) };
    // Dropped without a commit, the transaction is undone.
    let stored = mirror.store(&transaction)?;
    let committed = transaction.commit();
    mirror.ended(stored, committed.is_ok());
    committed.map_err(|error| StoreError::Unclear(error.to_string()))
}

impl Done {
    fn disk_failure(&self) -> Option<StoreError> {
        let error = match self {
            Self::Nothing(_, result) => result.as_ref().err(),
            Self::Revision(_, result) => result.as_ref().err(),
            Self::Flag(_, result) => result.as_ref().err(),
            Self::Switched(_, result) => result.as_ref().err(),
            Self::Count(_, result) => result.as_ref().err(),
            Self::Pruned(_, result) => result.as_ref().err(),
            Self::Epoch(_, result) => result.as_ref().err(),
        };
        error.filter(|error| error.is_disk()).cloned()
    }
}

impl Job {
    fn weight(&self) -> usize {
        match self {
            Self::Progress { feeds, usage, .. } => {
                let rows = |feed: &FeedProgress| 1 + feed.parked.len() + feed.unparked.len();
                feeds.iter().map(rows).sum::<usize>() + usage.reports.len()
            }
            Self::Record { lines, .. } => lines.len(),
            _ => 1,
        }
    }

    /// These are not part of a transaction with others. Lines of activity have one of their own: whatever is wrong with them
    /// must not fail the reports of nodes.
    fn ends_batch(&self) -> bool {
        matches!(
            self,
            Self::Close { .. } | Self::SetMaxPages { .. } | Self::Settle { .. } | Self::Record { .. }
        )
    }

    /// Runs in a savepoint of its own; not at all after `failure`.
    fn run(self, transaction: &mut Transaction<'_>, failure: Option<&StoreError>) -> Done {
        if let Some(error) = failure {
            return self.fail(error);
        }
        let now = time::now_ms();
        match self {
            Self::Progress { node_id, feeds, usage, reply } => Done::Nothing(
                reply,
                in_savepoint(transaction, |t| {
                    progress::save(t, &node_id, &feeds, now)?;
                    usage::add(t, &node_id, &time::month(now), &usage, now)
                }),
            ),
            Self::Apply { revision, reply } => {
                Done::Revision(reply, in_savepoint(transaction, |t| changes::apply(t, &revision)))
            }
            Self::Switch { mapping_id, change, by, reply } => Done::Switched(
                reply,
                in_savepoint(transaction, |t| changes::switch(t, &mapping_id, change, &by, now)),
            ),
            Self::SaveNodes { nodes, reply } => {
                Done::Nothing(reply, in_savepoint(transaction, |t| changes::save_nodes(t, &nodes)))
            }
            Self::ForgetNode { node_id, reply } => Done::Flag(
                reply,
                in_savepoint(transaction, |t| {
                    Ok(t.execute("DELETE FROM nodes WHERE node_id = ?", [&node_id])? > 0)
                }),
            ),
            Self::Record { lines, reply } => {
                Done::Nothing(reply, in_savepoint(transaction, |t| activity::add(t, &lines)))
            }
            Self::PruneRevisions { keep, reply } => {
                Done::Count(reply, in_savepoint(transaction, |t| prune::revisions(t, keep)))
            }
            Self::Prune { prune, reply } => {
                Done::Pruned(reply, in_savepoint(transaction, |t| prune::nodes_and_feeds(t, &prune)))
            }
            Self::NextEpoch { least, reply } => {
                Done::Epoch(reply, in_savepoint(transaction, |t| changes::next_epoch(t, least)))
            }
            // Never part of a batch, see `ends_batch`; a dropped reply says that the process is stopping.
            Self::SetMaxPages { reply, .. } | Self::Settle { reply } => {
                Done::Nothing(reply, Err(StoreError::Stopping))
            }
            Self::Close { .. } => Done::Nothing(oneshot::channel().0, Ok(())),
        }
    }

    fn fail(self, error: &StoreError) -> Done {
        let error = error.clone();
        match self {
            Self::Progress { reply, .. }
            | Self::SaveNodes { reply, .. }
            | Self::Record { reply, .. }
            | Self::SetMaxPages { reply, .. }
            | Self::Settle { reply } => Done::Nothing(reply, Err(error)),
            Self::Apply { reply, .. } => Done::Revision(reply, Err(error)),
            Self::Switch { reply, .. } => Done::Switched(reply, Err(error)),
            Self::ForgetNode { reply, .. } => Done::Flag(reply, Err(error)),
            Self::PruneRevisions { reply, .. } => Done::Count(reply, Err(error)),
            Self::Prune { reply, .. } => Done::Pruned(reply, Err(error)),
            Self::NextEpoch { reply, .. } => Done::Epoch(reply, Err(error)),
            Self::Close { .. } => Done::Nothing(oneshot::channel().0, Err(error)),
        }
    }
}

fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let savepoint = transaction.savepoint()?;
    // Dropping an uncommitted savepoint undoes it.
    let value = work(&savepoint)?;
    savepoint.commit()?;
    Ok(value)
}

/// Does what must not fail what it comes with: a failure of it is undone and told in the log, and the rest goes on. Only a
/// failure that ended the whole transaction is passed on.
fn beside(
    connection: &Connection,
    what: &'static str,
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.execute_batch("SAVEPOINT beside")?;
    match work() {
        Ok(()) => Ok(connection.execute_batch("RELEASE beside")?),
        Err(error) if connection.is_autocommit() => Err(error),
        Err(error) => {
            tracing::warn!(what, %error, "could not write this down; what it came with is stored without it");
            Ok(connection.execute_batch("ROLLBACK TO beside; RELEASE beside")?)
        }
    }
}

pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// A violated constraint is the fault of what was sent, not of the disk.
fn refused(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            StoreError::Refused(error.to_string())
        }
        _ => StoreError::from(error),
    }
}
