//! One container database followed for one mapping.
//!
//! A feed remembers how far it has come and which rows are set aside; a *pass* ([`pass`]) walks what is new. Passes of one feed
//! never overlap. The scheduler decides when a pass runs.

pub mod again;
mod container_headers;
mod pass;
mod shares;
mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use swift_s3_etcd::EtcdError;
use swift_s3_policy::{Mapping, Timestamp};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::coordination::records::Records;
use crate::coordination::{Mode, Regime};
use crate::lane::{Lane, Rows, Waits, lanes};
use crate::mapping_state::MappingState;
use crate::memory::{FeedName, Memory, Origin};
use crate::metrics::{Ending, Metrics};
use crate::parked::Parked;
use crate::progress::Progress;
use crate::status_file::SavedFeed;
use crate::swift::container_db::{ContainerDb, ContainerInfo, DbError, DbErrorKind, Row};
use crate::swift::container_server::ContainerServers;
use crate::swift::file_stamp::FileStamp;
use crate::swift::topology::ContainerPlace;
use crate::transfer::{Hint, Route, Transfer};
use crate::valve::Valve;
use swift_s3_store::remotes::RemoteStore;
pub use view::{Tried, View};

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
    /// Counts rows and passes.
    pub metrics: Metrics,
}

/// Settings that a reload may change between two passes.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Bounds the rows in flight over all mappings.
    pub permits: Arc<ArcSwap<Semaphore>>,
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
    /// The replica indexes whose names this node handles first: those that it holds, or, with explicit coordination, owns.
    pub own: Vec<u32>,
}

/// What a feed is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where objects go.
    pub route: Arc<Route>,
    /// The remote's health.
    pub remote: Arc<RemoteStore>,
    /// The mapping's identity.
    pub identity: String,
    /// Where rows come from.
    pub source: Source,
    /// No other mapping of the container goes to a bucket of the same name.
    pub sole: bool,
    /// The mapping's switches and limits.
    pub mapping: Arc<MappingState>,
    /// Where progress is kept.
    pub memory: Memory,
    /// The way of sharing out work.
    pub regime: Arc<Regime>,
    /// Where owners of shares leave how far they are.
    pub records: Option<Arc<Records>>,
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
    /// The mapping's switches and limits.
    pub mapping: Arc<MappingState>,
    /// The way of sharing out work that the feed was made for.
    pub regime: Arc<Regime>,
    records: Option<Arc<Records>>,
    /// When it was made; what it owns is owned since then at least.
    made_at: Timestamp,
    memory: Memory,
    state: Mutex<Option<State>>,
    view: std::sync::Mutex<View>,
    /// What an operator wants tried again.
    retries: std::sync::Mutex<Vec<Tried>>,
    /// Names to handle again.
    again: std::sync::Mutex<Vec<again::Again>>,
    rows_done: AtomicU64,
    bytes_sent: AtomicU64,
    wake: Notify,
    dirty: AtomicBool,
    retired: AtomicBool,
    /// Cancelled when other shares are this worker's from now on.
    gives_way: CancellationToken,
    /// The database as it was when the last pass began to read.
    seen: std::sync::Mutex<Option<FileStamp>>,
    /// The container's headers that the remote is known to have.
    headers_carried: std::sync::Mutex<Option<BTreeMap<String, String>>>,
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
    valve: Valve,
    shares: shares::Shares,
    /// Of each own lane, for whoever counts what is left.
    starts: Arc<Vec<(Rows, shares::Starts)>>,
    /// Objects of the container, as the database last said.
    objects: u64,
    saved: Option<Arc<SavedFeed>>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    /// With explicit coordination: rows of each share that need no look.
    starts: shares::Starts,
    /// Rows of others up to here are looked at, whatever their owners say of them: a former life of this worker may have had them in flight.
    looked_at_until: i64,
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
    /// Deletes that are held have lanes of their own, so that live rows can pass them.
    fn has_deletes_apart(&self) -> bool {
        self.lanes.iter().all(|state| state.lane.rows != Rows::All)
    }

    /// Ages come from settings that a reload may change.
    fn keep_lanes_current(&mut self, mapping: &Mapping, waits: Waits) {
        let current = lanes(mapping, waits, self.nodes, self.has_deletes_apart());
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

/// Why a feed could not begin.
#[derive(Debug)]
enum StartError {
    Database(DbError),
    Records(EtcdError),
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
    /// How far it came, for metrics.
    pub ending: Ending,
}

impl Feed {
    /// A feed that continues from what its memory knows.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            route: parts.route,
            remote: parts.remote,
            identity: parts.identity,
            source: parts.source,
            sole: parts.sole,
            mapping: parts.mapping,
            regime: parts.regime,
            records: parts.records,
            made_at: now(),
            memory: parts.memory,
            state: Mutex::default(),
            view: std::sync::Mutex::default(),
            retries: std::sync::Mutex::default(),
            again: std::sync::Mutex::default(),
            rows_done: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            wake: Notify::new(),
            dirty: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            gives_way: CancellationToken::new(),
            seen: std::sync::Mutex::default(),
            headers_carried: std::sync::Mutex::default(),
        }
    }

    fn waits(&self, settings: &PassSettings) -> Waits {
        Waits { own: self.regime.own_wait, others: settings.verification_slack }
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

    /// The same, but soon: what is not finished shortly is abandoned, and read again by whoever handles it next.
    pub fn give_way(&self) {
        self.retire();
        self.gives_way.cancel();
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
        if self.is_retired() || !self.regime.is_valid() {
            return PassEnd { more: true, ..PassEnd::default() };
        }
        self.dirty.store(false, Ordering::Release);
        let flushed = self.flush_pending(&shared.container_servers).await;
        let info = match self.read(|database| database.info()).await {
            Ok(info) => info,
            Err(error) => return self.database_trouble(&error),
        };
        if self.memory.is_stale() {
            *guard = None;
        }
        let before = guard.as_ref().filter(|state| state.database != info.id).map(|state| state.objects);
        if guard.as_ref().is_none_or(|state| state.database != info.id) {
            if let Some(replaced) = guard.take() {
                self.memory.forget(self.name(&replaced.database)).await;
            }
            let started = self.start(&info, settings).await;
            match started {
                Ok(state) => *guard = Some(state),
                Err(trouble) => return self.records_trouble(trouble),
            }
        }
        // Known even if nothing is to be done now, so that it can be told how far behind this is.
        if let Some(state) = guard.as_ref() {
            self.publish(state);
        }
        if self.mapping.is_paused() {
            // Whoever resumes meanwhile finds that there is more to do.
            return PassEnd { more: true, ..PassEnd::default() };
        }
        if let Some(until) = self.remote.health.paused_until(tokio::time::Instant::now()) {
            let rest = until.duration_since(tokio::time::Instant::now());
            return PassEnd {
                again_at: Some(now().plus(rest)),
                broken: true,
                ending: Ending::Broken,
                ..PassEnd::default()
            };
        }
        self.note_seen();
        // Taken out for the walk: after a panic in it, the next one starts from what was saved.
        let Some(mut state) = guard.take() else { return PassEnd::default() };
        let must_save = self.obey(&mut state, &info, before, settings)
            || std::mem::take(&mut state.shares.has_handed_over);
        state.keep_lanes_current(&self.route.mapping, self.waits(settings));
        let headers_owed_until = self.carry_container_headers(&info).await;
        let mut end = pass::Pass::new(self, &mut state, shared, settings, &info, must_save).drive(stop).await;
        *guard = Some(state);
        // A single round that left rows in the pending file has not handled everything.
        end.broken |= (settings.once && !flushed) || headers_owed_until.is_some();
        if end.broken {
            end.ending = Ending::Broken;
        }
        end.again_at = end.again_at.into_iter().chain(headers_owed_until).min();
        end
    }

    /// Takes over what operators asked for since the last pass, and what the delete limit says of a database that replaced another. True when
    /// that is to be saved.
    fn obey(
        &self,
        state: &mut State,
        info: &ContainerInfo,
        objects_before: Option<u64>,
        settings: &PassSettings,
    ) -> bool {
        let limit = self.route.mapping.delete_limit.as_ref();
        state.objects = info.object_count;
        let valve_before = state.valve.clone();
        // What another feed of this database held (under another policy, or of the database that was replaced) is still held.
        if let Some(held) = self.mapping.held(&self.source.database) {
            state.valve.hold(held);
        }
        if let Some(before) = objects_before {
            state.valve.note_replacement(limit, before, info.object_count, seconds(now()));
        }
        if let Some(held) = state.valve.held()
            && valve_before.held().is_none()
        {
            tracing::error!(account = %self.route.account, container = %self.route.container, because = held.because,
                "deletes are held until an operator releases them; everything else goes on");
        }
        let released_at = if limit.is_none() { u64::MAX } else { self.mapping.released_at() };
        if state.valve.release(released_at, info.max_row) {
            tracing::warn!(account = %self.route.account, container = %self.route.container,
                "deletes that were held are carried now");
        }
        for wanted in self.retries.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            state.parked.retry_now(|name, row| wanted.matches(name, row.reason));
        }
        self.mapping.set_held(&self.source.database, state.valve.held().cloned());
        let must_save = state.valve != valve_before;
        if state.valve.held().is_some() && !state.has_deletes_apart() && self.route.mapping.propagate_delete {
            let saved = state.saved.take().map(|saved| SavedFeed::clone(&saved));
            let shares = std::mem::take(&mut state.shares);
            let apart = self.start_from(info, settings, saved, true, shares);
            let (parked, valve) = (std::mem::take(&mut state.parked), std::mem::take(&mut state.valve));
            *state = State { parked, valve, ..apart };
        }
        must_save
    }

    /// A database that went away is somebody's decision; anything else is worth a warning. Either way the poll comes back to it.
    fn database_trouble(&self, error: &DbError) -> PassEnd {
        if error.kind() == DbErrorKind::Missing {
            tracing::info!(account = %self.source.account, container = %self.source.container, "the container database is gone");
            return PassEnd::default();
        }
        tracing::warn!(account = %self.source.account, container = %self.source.container,
            path = %self.source.database.display(), %error, "could not read the container database");
        PassEnd {
            again_at: Some(now().plus(Duration::from_secs(10))),
            broken: true,
            ending: Ending::Broken,
            ..PassEnd::default()
        }
    }

    /// How this feed is called towards its memory.
    pub(crate) fn name(&self, database: &str) -> FeedName {
        FeedName {
            identity: self.identity.clone(),
            database: database.to_owned(),
            mapping_id: self.mapping.id.clone(),
            account: self.route.account.clone(),
            container: self.route.container.clone(),
        }
    }

    async fn start(&self, info: &ContainerInfo, settings: &PassSettings) -> Result<State, StartError> {
        let mut shares = shares::Shares::default();
        self.read_shares(&mut shares).await.map_err(StartError::Records)?;
        // Read after the records, whose marks are true of rows that are there by now.
        let fresh = match &self.records {
            Some(_) => self.read(|database| database.info()).await.map_err(StartError::Database)?,
            None => info.clone(),
        };
        let info = if fresh.id == info.id { fresh } else { info.clone() };
        let mapping = &*self.route.mapping;
        let (own, nodes) = (&self.source.own, self.source.place.nodes);
        let lanes = lanes(mapping, self.waits(settings), nodes, false);
        let origin = Origin { mapping, lanes: &lanes, own, nodes, sole: self.sole };
        let saved = self.memory.load(&self.name(&info.id), origin).await;
        let apart = saved.as_ref().is_some_and(|saved| {
            saved.is_split() || saved.valve.as_ref().is_some_and(|valve| valve.held().is_some())
        });
        let mut state = self.start_from(&info, settings, saved, apart, shares);
        self.hand_over(&mut state);
        Ok(state)
    }

    /// What a former owner left is not known: beginning without it would lose what it had set aside.
    fn records_trouble(&self, trouble: StartError) -> PassEnd {
        match trouble {
            StartError::Database(error) => self.database_trouble(&error),
            StartError::Records(error) => {
                tracing::warn!(account = %self.source.account, container = %self.source.container, %error,
                    "could not read how far the last owner was; trying again");
                let again_at = Some(now().plus(Duration::from_secs(1)));
                PassEnd { again_at, broken: true, ending: Ending::Broken, ..PassEnd::default() }
            }
        }
    }

    fn start_from(
        &self,
        info: &ContainerInfo,
        settings: &PassSettings,
        saved: Option<SavedFeed>,
        deletes_apart: bool,
        shares: shares::Shares,
    ) -> State {
        let (own, nodes) = (&self.source.own, self.source.place.nodes);
        let lanes = lanes(&self.route.mapping, self.waits(settings), nodes, deletes_apart);
        let cursors =
            saved.as_ref().map_or_else(|| vec![0; lanes.len()], |saved| saved.start(&lanes, own, nodes));
        let starts: Vec<shares::Starts> =
            lanes.iter().map(|lane| self.starts(*lane, info, saved.as_ref(), &shares)).collect();
        let cursors: Vec<i64> = cursors
            .into_iter()
            .zip(&starts)
            .map(|(cursor, starts)| starts.values().map(|start| start.cursor).min().unwrap_or(cursor))
            .collect();
        let told = lanes.iter().map(|lane| lane.rows).zip(starts.iter().cloned());
        let told = told.filter(|(_, starts)| !starts.is_empty()).collect();
        let parked = saved.as_ref().map(|saved| saved.parked.clone()).unwrap_or_default();
        let mut valve = saved.as_ref().and_then(|saved| saved.valve.clone()).unwrap_or_default();
        if saved.as_ref().is_some_and(|saved| saved.replicas != *own) {
            // Which rows were counted depends on whose they were.
            valve.count_anew();
        }
        // Without a cursor nothing is known of any row; with one, of those that may have been under way when it was saved.
        let fresh_after = match &saved {
            // Another node may have handled whatever is there by now.
            Some(saved) if self.regime.mode == Mode::Explicit && saved.replicas != *own => info.max_row,
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
                .zip(starts)
                .map(|((lane, cursor), starts)| LaneState {
                    lane,
                    starts,
                    looked_at_until: cursor.saturating_add(WINDOW).min(info.max_row),
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
            valve,
            shares,
            starts: Arc::new(told),
            objects: info.object_count,
            saved: saved.map(Arc::new),
        }
    }

    /// Notes the database's stamp before it is read, so that whatever comes later shows.
    fn note_seen(&self) {
        let stamp = FileStamp::of(&self.source.database).ok().flatten();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// Makes the container server move rows that it has set down in the pending file into the database.
    /// True when no row was left there.
    pub(crate) async fn flush_pending(&self, servers: &ContainerServers) -> bool {
        if !self.has_pending() {
            return true;
        }
        let mut flushed = false;
        let source = &self.source;
        for replica in source.place.replicas.iter().filter(|replica| replica.is_local) {
            match servers.flush_pending(&source.place, replica, &source.account, &source.container).await {
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

/// Whole seconds since the epoch.
pub(crate) fn seconds(at: Timestamp) -> u64 {
    at.units() / 100_000
}

/// The wall clock in Swift's units.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
