//! One container database followed for one mapping.
//!
//! A feed remembers how far it has come and which rows are set aside; a *pass* ([`pass`]) walks what is new. Passes of one feed
//! never overlap. The scheduler decides when a pass runs.

mod pass;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swift_s3_policy::{Mapping, Timestamp};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::lane::{Lane, lanes};
use crate::parked::Parked;
use crate::progress::Progress;
use crate::remote::RemoteStore;
use crate::status_file::{SavedFeed, StatusFile};
use crate::swift::container_db::{ContainerDb, ContainerInfo, DbError, DbErrorKind, Row};
use crate::swift::container_server::ContainerServers;
use crate::swift::file_stamp::FileStamp;
use crate::swift::topology::ContainerPlace;
use crate::transfer::{Hint, Route, Transfer};

/// How far, in ROWIDs, work may run ahead of the saved cursor. After a crash, rows within this distance may have been carried already, so they
/// are checked before they are sent.
pub const WINDOW: i64 = 20_000;
/// Names whose newer write was carried while an older row was handled; the newer row then needs no second transfer.
const MAX_CARRIED: usize = 10_000;

/// What all feeds of the process share.
#[derive(Debug)]
pub struct Shared {
    /// Handles rows.
    pub transfer: Transfer,
    /// Talks to container servers.
    pub container_servers: ContainerServers,
    /// How many feeds wait for their turn.
    pub waiting: AtomicUsize,
}

/// Settings that a reload may change between two passes.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Bounds the rows in flight over all mappings.
    pub permits: Arc<Semaphore>,
    /// Rows in flight per feed.
    pub in_flight: usize,
    /// Rows of other nodes are left alone for this long.
    pub verification_slack: Duration,
    /// Rows read from a database at once.
    pub items_chunk: u32,
    /// Handle what is there now, once, and parked rows too.
    pub once: bool,
}

/// Where a feed's rows come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The account the database is of; a shard account for shards.
    pub account: String,
    /// The container the database is of.
    pub container: String,
    /// Where the ring puts its replicas.
    pub place: ContainerPlace,
    /// The database file.
    pub database: PathBuf,
    /// Where the container server leaves new rows first.
    pub pending: PathBuf,
    /// The replica indexes that this node holds.
    pub own: Vec<u32>,
}

/// One database of one mapping.
#[derive(Debug)]
pub struct Feed {
    /// Where objects go.
    pub route: Arc<Route>,
    /// The remote's health.
    pub remote: Arc<RemoteStore>,
    /// The mapping's identity, for the status file.
    pub identity: String,
    /// Where rows come from.
    pub source: Source,
    /// No other mapping of the container goes to a bucket of the same name.
    pub sole: bool,
    status: Arc<StatusFile>,
    state: Mutex<Option<State>>,
    wake: Notify,
    dirty: AtomicBool,
    retired: AtomicBool,
    /// The database as it was when the last pass began to read.
    seen: std::sync::Mutex<Option<FileStamp>>,
}

#[derive(Debug)]
struct State {
    database: String,
    lanes: Vec<LaneState>,
    nodes: u32,
    parked: Parked,
    /// Rows at or below this ROWID may have been carried by somebody before.
    fresh_after: i64,
    carried: Carried,
    saved: Option<SavedFeed>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    progress: Progress,
    buffer: VecDeque<(Row, Hint)>,
    /// Nothing more to read until something changes.
    exhausted: bool,
    wait_until: Option<Timestamp>,
    /// Verification is done in batches: the lane is not read before this time.
    not_before: Option<Timestamp>,
}

/// The last names that were carried ahead of their row.
#[derive(Debug, Default)]
struct Carried {
    by_name: HashMap<String, Timestamp>,
    order: VecDeque<String>,
}

impl State {
    /// Ages come from settings that a reload may change.
    fn keep_lanes_current(&mut self, mapping: &Mapping, verification_slack: Duration) {
        let current = lanes(mapping, verification_slack, self.nodes);
        for (state, lane) in self.lanes.iter_mut().zip(current) {
            if state.lane != lane {
                state.lane = lane;
                state.not_before = None;
            }
        }
    }
}

impl Carried {
    fn insert(&mut self, name: &str, timestamp: Timestamp) {
        if self.by_name.insert(name.to_owned(), timestamp).is_none() {
            self.order.push_back(name.to_owned());
        }
        while self.order.len() > MAX_CARRIED {
            if let Some(oldest) = self.order.pop_front() {
                self.by_name.remove(&oldest);
            }
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassEnd {
    /// When there is something to do without a change of the database.
    pub again_at: Option<Timestamp>,
    /// There is more to do right now.
    pub more: bool,
    /// Rows set aside as failures.
    pub failures: usize,
    /// The pass could not do its work: the database or the remote failed, or progress cannot be saved.
    pub broken: bool,
}

impl Feed {
    /// A feed that continues from `status`.
    #[must_use]
    pub fn new(
        route: Arc<Route>,
        remote: Arc<RemoteStore>,
        identity: String,
        source: Source,
        sole: bool,
        status: Arc<StatusFile>,
    ) -> Self {
        Self {
            route,
            remote,
            identity,
            source,
            sole,
            status,
            state: Mutex::default(),
            wake: Notify::new(),
            dirty: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            seen: std::sync::Mutex::default(),
        }
    }

    /// Tells the feed that its database has changed. A pass that is under way takes notice.
    pub fn touch(&self) {
        self.dirty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// True when the feed was touched since the last pass looked.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Lets a pass under way finish what is in flight and end. The feed is not used again.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// True when there may be rows that no pass has read: the database differs from when it was last read, or rows wait beside it.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        if self.has_pending() {
            return true;
        }
        let stamp = FileStamp::of(&self.source.database).ok().flatten();
        stamp != *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_pending(&self) -> bool {
        std::fs::metadata(&self.source.pending).is_ok_and(|file| file.len() > 0)
    }

    /// Walks what is new. See [`pass`].
    pub async fn run(&self, shared: &Shared, settings: &PassSettings, stop: &CancellationToken) -> PassEnd {
        let mut guard = self.state.lock().await;
        if let Some(until) = self.remote.health.paused_until(tokio::time::Instant::now()) {
            let rest = until.duration_since(tokio::time::Instant::now());
            return PassEnd { again_at: Some(now().plus(rest)), broken: true, ..PassEnd::default() };
        }
        self.dirty.store(false, Ordering::Release);
        let flushed = self.flush_pending(shared).await;
        self.note_seen();
        let info = match self.read(|database| database.info()).await {
            Ok(info) => info,
            Err(error) => return self.database_trouble(&error),
        };
        if guard.as_ref().is_none_or(|state| state.database != info.id) {
            *guard = Some(self.start(&info, settings));
        }
        // Taken out for the walk: after a panic in it, the next one starts from what was saved.
        let Some(mut state) = guard.take() else { return PassEnd::default() };
        state.keep_lanes_current(&self.route.mapping, settings.verification_slack);
        let mut end = pass::Pass::new(self, &mut state, shared, settings, &info).drive(stop).await;
        *guard = Some(state);
        // A single round that left rows in the pending file has not handled everything.
        end.broken |= settings.once && !flushed;
        end
    }

    /// A database that went away is somebody's decision; anything else is worth a warning. Either way the poll comes back to it.
    fn database_trouble(&self, error: &DbError) -> PassEnd {
        if error.kind() == DbErrorKind::Missing {
            tracing::info!(account = %self.source.account, container = %self.source.container, "the container database is gone");
            return PassEnd::default();
        }
        tracing::warn!(account = %self.source.account, container = %self.source.container,
            path = %self.source.database.display(), %error, "could not read the container database");
        PassEnd { again_at: Some(now().plus(Duration::from_secs(10))), broken: true, ..PassEnd::default() }
    }

    fn start(&self, info: &ContainerInfo, settings: &PassSettings) -> State {
        let nodes = self.source.place.nodes;
        let lanes = lanes(&self.route.mapping, settings.verification_slack, nodes);
        let own = &self.source.own;
        let saved =
            self.status.saved(&self.identity, &info.id, &self.route.mapping, &lanes, (own, nodes), self.sole);
        let (cursors, parked) = match &saved {
            Some(saved) => (saved.start(&lanes, own, nodes), saved.parked.clone()),
            None => (vec![0; lanes.len()], Parked::default()),
        };
        // Without a cursor nothing is known of any row; with one, of those that may have been under way when it was saved.
        let fresh_after = match &saved {
            Some(saved) => saved.cursors.values().copied().max().unwrap_or(0).saturating_add(WINDOW),
            None => info.max_row,
        };
        tracing::info!(
            account = %self.route.account, container = %self.route.container, database = %info.id, ?cursors,
            rows = info.max_row, parked = parked.len(), "following a container"
        );
        State {
            database: info.id.clone(),
            nodes,
            lanes: lanes
                .into_iter()
                .zip(cursors)
                .map(|(lane, cursor)| LaneState {
                    lane,
                    progress: Progress::at(cursor),
                    buffer: VecDeque::new(),
                    exhausted: false,
                    wait_until: None,
                    not_before: None,
                })
                .collect(),
            parked,
            fresh_after: fresh_after.min(info.max_row),
            carried: Carried::default(),
            saved,
        }
    }

    /// Notes the database's stamp before it is read, so that whatever comes later shows.
    fn note_seen(&self) {
        let stamp = FileStamp::of(&self.source.database).ok().flatten();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// Makes the container server move rows that it has set down in the pending file into the database.
    /// True when no row was left there.
    async fn flush_pending(&self, shared: &Shared) -> bool {
        if !self.has_pending() {
            return true;
        }
        let mut flushed = false;
        let source = &self.source;
        for replica in source.place.replicas.iter().filter(|replica| replica.is_local) {
            match shared
                .container_servers
                .flush_pending(&source.place, replica, &source.account, &source.container)
                .await
            {
                Ok(_) => flushed = true,
                // The rows reach the database anyway, when the server next reads it.
                Err(error) => {
                    tracing::debug!(container = %source.container, %error, "could not have pending rows merged");
                }
            }
        }
        flushed
    }

    /// Runs a query on a freshly opened database in a blocking thread: the file may be replaced at any time, and an open handle would go on
    /// reading the old one.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ContainerDb) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let path = self.source.database.clone();
        tokio::task::spawn_blocking(move || read_blocking(&path, query)).await.unwrap_or_else(|error| {
            Err(DbError::new(DbErrorKind::Io, format!("the read broke off: {error}")))
        })
    }
}

fn read_blocking<T>(
    path: &Path,
    query: impl FnOnce(&ContainerDb) -> Result<T, DbError>,
) -> Result<T, DbError> {
    query(&ContainerDb::open_read_only(path)?)
}

/// The wall clock in Swift's units.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
