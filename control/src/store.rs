//! What control remembers: one SQLite database in the data directory.
//!
//! | remembered | why |
//! |---|---|
//! | revisions of the configuration | history, rollback, and the document that nodes work by |
//! | progress and parked rows of feeds | workers keep no state of their own |
//! | switches of mappings | what operators paused or released |
//! | nodes | a node that went silent must stay visible |
//! | activity | who changed what, and what happened at night |
//! | usage | what a month has cost so far; nobody else adds it up |
//!
//! Lag is not remembered: it is out of date within seconds. One thread writes (`writer`), every reader has a
//! connection of its own (`reader`). Nothing here knows gRPC services; messages of the contract are its data types.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mirror::Mirror;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

mod activity;
mod cursors;
mod directories;
pub mod mirror;
mod parked;
mod reader;
mod records;
mod schema;
mod usage;
mod writer;

pub use activity::{ActivityFilter, Line, Repeat};
pub use cursors::{CursorFilter, CursorPage, CursorPosition};
pub use directories::{CopyDirectory, DataDirectory, IdleDirectory};
pub use parked::{FailureFilter, FailurePage, FailurePosition, MAX_REASONS};
pub use reader::Reader;
pub use records::{
    KnownFeed, NewRevision, NodeRecord, Prune, Pruned, RevisionRecord, StaleFeed, StoredSwitch, SwitchChange,
    Switched, switches_for_nodes,
};
pub use schema::{OpenError, backup, upgrade};
pub use usage::UsageNews;
pub use writer::MAX_PARKED_PER_FEED;

use crate::metrics::Metrics;
use swift_s3_proto::v1::FeedProgress;
use tracing::{Instrument, Span};
use writer::Job;

/// Jobs that wait for the writer. Each holds at most one report, so that this bounds memory; senders wait when it is full.
const WRITER_QUEUE: usize = 1_024;

/// Why something was not stored or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The caller saw another revision than the one in force.
    #[error(
        "the revision in force is {current}, not {expected}: another change came first; look at it, then apply again"
    )]
    Conflict {
        /// The one in force; 0: none.
        current: i64,
        /// What the caller saw.
        expected: i64,
    },
    /// There is no room for it.
    #[error("the disk of the data directory is full: {0}; nothing of this was stored")]
    Full(String),
    /// What was sent cannot be stored.
    #[error("{0}")]
    Refused(String),
    /// What changed in a feed was told, but nothing is known that it could be a change of.
    #[error("nothing is known of database {database_id} of {account}/{container}; send all of it")]
    Unknown {
        /// The account.
        account: String,
        /// The container.
        container: String,
        /// The database.
        database_id: String,
    },
    /// The database or the disk fails.
    #[error("the database failed: {0}; nothing of this was stored")]
    Failed(String),
    /// etcd does not take it.
    #[error("{0}; nothing of this was stored")]
    Etcd(String),
    /// etcd may have taken it.
    #[error("{0}; it may have been stored all the same")]
    Unclear(String),
    /// Another process leads.
    #[error("this control process does not lead any more; nothing of this was stored, try again")]
    Deposed,
    /// The process is stopping.
    #[error("this control process is stopping")]
    Stopping,
}

impl StoreError {
    /// True when the disk, not the request, is at fault.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Failed(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A handle to the database. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    reader: Reader,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
    is_mirrored: bool,
    /// Who wants to know how long commits take.
    metrics: Arc<OnceLock<Metrics>>,
}

impl Store {
    /// Opens the database of a data directory, creates or upgrades it, and starts its writer.
    ///
    /// # Errors
    /// When it is not a sound database of this program in a version it knows, or cannot be written.
    pub fn open(directory: &DataDirectory) -> Result<Self, OpenError> {
        Self::open_limited(directory, None)
    }

    /// As [`Store::open`]; the database takes at most so many pages, as if the disk were full beyond them.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_limited(directory: &DataDirectory, max_pages: Option<u32>) -> Result<Self, OpenError> {
        let connection = schema::open_writer(directory)?;
        if let Some(pages) = max_pages {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        Self::begin(connection, directory.database(), None)
    }

    /// With a working copy whose every change is put into etcd before it counts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn mirrored(path: &Path, connection: Connection, mirror: Mirror) -> Result<Self, OpenError> {
        schema::set_up_writer(&connection)?;
        Mirror::watch(&connection)?;
        Self::begin(connection, path, Some(mirror))
    }

    fn begin(connection: Connection, path: &Path, mirror: Option<Mirror>) -> Result<Self, OpenError> {
        let (jobs, waiting) = mpsc::channel(WRITER_QUEUE);
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let is_mirrored = mirror.is_some();
        let metrics = Arc::<OnceLock<Metrics>>::default();
        let thread = writer::spawn(connection, mirror, waiting, Arc::clone(&trouble), Arc::clone(&metrics))
            .map_err(OpenError::Thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { jobs, reader: Reader::new(path), trouble, thread, is_mirrored, metrics })
    }

    /// Has commits measured from now on.
    pub(crate) fn measure(&self, metrics: Metrics) {
        // Of a store there is one owner, who says it once.
        drop(self.metrics.set(metrics));
    }

    /// Changes that wait for the writer.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.jobs.max_capacity().saturating_sub(self.jobs.capacity())
    }

    /// Bytes on disk, with the write-ahead log. `None`: the disk does not say.
    pub async fn size(&self) -> Option<u64> {
        let path = self.reader.path();
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let database = tokio::fs::metadata(path).await.ok()?.len();
        // Without writes there is none.
        let log = tokio::fs::metadata(log).await.map_or(0, |log| log.len());
        Some(database.saturating_add(log))
    }

    /// For questions.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// True if others may have written this state before, and will again.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.is_mirrored
    }

    /// Why the last write failed, if it did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the database grow to so many pages from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_max_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.submit(|reply| Job::SetMaxPages { pages, reply }).await
    }

    /// Makes progress of feeds durable.
    ///
    /// # Errors
    /// When a part of the report is not acceptable, or cannot be stored: then nothing of it is.
    pub async fn save_progress(&self, node_id: &str, feeds: Vec<FeedProgress>) -> Result<(), StoreError> {
        self.save_report(node_id, feeds, UsageNews::default()).await
    }

    /// The same, with what was asked of remotes meanwhile.
    ///
    /// # Errors
    /// As [`Store::save_progress`].
    pub async fn save_report(
        &self,
        node_id: &str,
        feeds: Vec<FeedProgress>,
        usage: UsageNews,
    ) -> Result<(), StoreError> {
        let (node_id, usage) = (node_id.to_owned(), Box::new(usage));
        self.submit(|reply| Job::Progress { node_id, feeds, usage, reply }).await
    }

    /// Writes lines of activity.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub async fn record(&self, lines: Vec<Line>) -> Result<(), StoreError> {
        self.submit(|reply| Job::Record { lines, reply }).await
    }

    /// Puts a document in force if the revision in force is the expected one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not; others when it cannot be stored.
    pub async fn apply(&self, revision: NewRevision) -> Result<RevisionRecord, StoreError> {
        self.submit(|reply| Job::Apply { revision: Box::new(revision), reply }).await
    }

    /// Changes a switch of a mapping.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn switch(
        &self,
        mapping_id: &str,
        change: SwitchChange,
        by: &str,
    ) -> Result<Switched, StoreError> {
        let (mapping_id, by) = (mapping_id.to_owned(), by.to_owned());
        self.submit(|reply| Job::Switch { mapping_id, change, by, reply }).await
    }

    /// Remembers a node.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn save_nodes(&self, nodes: Vec<NodeRecord>) -> Result<(), StoreError> {
        self.submit(|reply| Job::SaveNodes { nodes, reply }).await
    }

    /// Forgets a node; its cursors stay. False: it was not known.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn forget_node(&self, node_id: &str) -> Result<bool, StoreError> {
        let node_id = node_id.to_owned();
        self.submit(|reply| Job::ForgetNode { node_id, reply }).await
    }

    /// Removes revisions beyond the newest so many.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn prune_revisions(&self, keep: u32) -> Result<usize, StoreError> {
        self.submit(|reply| Job::PruneRevisions { keep, reply }).await
    }

    /// Removes nodes and feeds that were not heard of for too long.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn prune(&self, prune: Prune) -> Result<Pruned, StoreError> {
        self.submit(|reply| Job::Prune { prune, reply }).await
    }

    /// Comes back when everything that was handed in before is written.
    ///
    /// # Errors
    /// When the process is stopping.
    pub async fn settle(&self) -> Result<(), StoreError> {
        self.submit(|reply| Job::Settle { reply }).await
    }

    /// Reserves the next epoch of generations: each start of the process has a higher one, and it is at least `least`.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn next_epoch(&self, least: u32) -> Result<u32, StoreError> {
        self.submit(|reply| Job::NextEpoch { least, reply }).await
    }

    /// Writes what waits, brings the write-ahead log into the database, and ends the writer. Later calls answer
    /// [`StoreError::Stopping`].
    pub async fn close(&self) {
        self.reader.close();
        let (reply, done) = oneshot::channel();
        if self.jobs.send(Job::Close { reply }).await.is_ok() {
            drop(done.await);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let submitted = async {
            self.jobs.send(job(reply)).await.map_err(|_| StoreError::Stopping)?;
            answer.await.map_err(|_| StoreError::Stopping)?
        };
        // What nobody asked for is not worth a trace of its own.
        if Span::current().is_none() {
            return submitted.await;
        }
        let span = tracing::info_span!(
            "commit",
            swift_s3_control.store = if self.is_mirrored { "etcd" } else { "sqlite" },
            otel.status_code = tracing::field::Empty,
        );
        let stored = submitted.instrument(span.clone()).await;
        if stored.as_ref().is_err_and(|error| {
            error.is_disk() || matches!(error, StoreError::Etcd(_) | StoreError::Unclear(_))
        }) {
            span.record("otel.status_code", "ERROR");
        }
        stored
    }
}
