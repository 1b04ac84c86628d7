//! Looks at every feed now and then, and keeps what it saw for the next heartbeat.

mod looks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use swift_s3_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;

use super::wire;
use crate::board::Board;
use crate::coordination::{Coordination, Log, View};
use crate::lag::Backlog;

pub use looks::{Audience, run};

/// After this long without a look, what was seen is not true any more.
const OUTDATED: Duration = Duration::from_secs(120);

/// (mapping identity, database id)
type Key = (String, String);

/// The last look at every feed.
#[derive(Debug, Default)]
pub struct Statuses {
    state: Mutex<State>,
    lag: ArcSwap<LagSeen>,
}

/// How far mappings are behind, and when that was seen.
#[derive(Debug, Default)]
struct LagSeen {
    lag: Arc<BTreeMap<String, MappingLag>>,
    at: Option<Instant>,
    /// When all feeds had been looked at.
    complete: Option<Instant>,
}

impl LagSeen {
    fn still_true(&self, now: Instant) -> Arc<BTreeMap<String, MappingLag>> {
        let is_true = self.at.is_some_and(|at| now.duration_since(at) <= OUTDATED);
        if is_true { Arc::clone(&self.lag) } else { Arc::default() }
    }
}

/// How far all feeds of one mapping are behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MappingLag {
    /// Rows that are due.
    pub rows: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// For how long the first of them has been due.
    pub seconds: f64,
    /// Rows that are not old enough yet.
    pub rows_waiting: u64,
    /// Deletes that the delete limit holds.
    pub deletes_held: u64,
    /// Rows set aside, by the word of their reason.
    pub parked: BTreeMap<&'static str, u64>,
    /// Feeds of which it is not known how far they are behind now; what was last known of them is in the sums.
    pub unread: u64,
}

impl MappingLag {
    fn of(backlog: &Backlog) -> Self {
        Self {
            rows: backlog.rows,
            bytes: backlog.bytes,
            seconds: backlog.seconds,
            rows_waiting: backlog.rows_waiting,
            deletes_held: backlog.deletes_held,
            ..Self::default()
        }
    }

    /// Adds what is behind in another feed.
    pub fn add(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.seconds = self.seconds.max(other.seconds);
        self.rows_waiting = self.rows_waiting.saturating_add(other.rows_waiting);
        self.deletes_held = self.deletes_held.saturating_add(other.deletes_held);
        for (reason, rows) in &other.parked {
            *self.parked.entry(reason).or_default() += rows;
        }
        self.unread = self.unread.saturating_add(other.unread);
    }
}

#[derive(Debug, Default)]
struct State {
    /// With the time of the look.
    feeds: HashMap<Key, (v1::FeedStatus, Instant)>,
    sharing: Option<(watch::Receiver<Arc<View>>, Arc<Log>)>,
    load: Option<v1::NodeLoad>,
}

/// What was sent on one connection.
#[derive(Debug, Default)]
pub struct Sent {
    feeds: Option<HashMap<Key, v1::FeedStatus>>,
    coordination: Option<v1::Coordination>,
    load: Option<v1::NodeLoad>,
}

impl Statuses {
    /// What has changed since the last heartbeat of a connection; everything, on its first.
    pub fn heartbeat(&self, sent: &mut Sent, now: Instant) -> v1::Heartbeat {
        let state = self.lock();
        let is_complete = sent.feeds.is_none();
        let known = sent.feeds.get_or_insert_default();
        let mut feeds = Vec::new();
        for (key, (status, looked_at)) in &state.feeds {
            let mut status = status.clone();
            if now.duration_since(*looked_at) > OUTDATED {
                status.lag = None;
                "this node could not look at the database for two minutes".clone_into(&mut status.trouble);
            }
            if known.get(key) != Some(&status) {
                feeds.push(status.clone());
                known.insert(key.clone(), status);
            }
        }
        let mut ended = Vec::new();
        known.retain(|key, status| {
            let is_followed = state.feeds.contains_key(key);
            if !is_followed {
                ended.extend(status.key.take());
            }
            is_followed
        });
        v1::Heartbeat {
            sent_at: Some(std::time::SystemTime::now().into()),
            feeds,
            ended,
            is_complete,
            mappings: Vec::new(),
            coordination: state.news_of_sharing(&mut sent.coordination),
            load: state.news_of_load(&mut sent.load),
        }
    }

    /// From now on heartbeats tell how the work is shared.
    pub fn watch_sharing(&self, coordination: &Coordination) {
        self.lock().sharing = Some(coordination.watch());
    }

    /// How far mappings are behind, by id, as was last seen; nothing when that was long ago.
    #[must_use]
    pub fn lag(&self) -> Arc<BTreeMap<String, MappingLag>> {
        self.lag.load().still_true(Instant::now())
    }

    /// Since when all feeds have been looked at. `None` before the first look has ended.
    #[must_use]
    pub fn looked_at_all(&self) -> Option<Instant> {
        self.lag.load().complete
    }

    fn put_lag(&self, lag: BTreeMap<String, MappingLag>, is_complete: bool) {
        let now = Instant::now();
        let complete = if is_complete { Some(now) } else { self.looked_at_all() };
        self.lag.store(Arc::new(LagSeen { lag: Arc::new(lag), at: Some(now), complete }));
    }

    /// What the process takes of its machine now.
    pub(super) fn put_load(&self, load: Option<v1::NodeLoad>) {
        self.lock().load = load;
    }

    fn put(&self, key: Key, status: v1::FeedStatus, looked_at: Instant) {
        self.lock().feeds.insert(key, (status, looked_at));
    }

    fn retain(&self, keys: &HashSet<Key>) {
        self.lock().feeds.retain(|key, _| keys.contains(key));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the process takes, if that was looked at since it was sent last.
    fn news_of_load(&self, sent: &mut Option<v1::NodeLoad>) -> Option<v1::NodeLoad> {
        if *sent == self.load {
            return None;
        }
        sent.clone_from(&self.load);
        *sent
    }

    /// How the work is shared, if that is something else than was sent.
    fn news_of_sharing(&self, sent: &mut Option<v1::Coordination>) -> Option<v1::Coordination> {
        let (view, log) = self.sharing.as_ref()?;
        let current = wire::coordination(&view.borrow(), &log.list());
        if sent.as_ref() == Some(&current) {
            return None;
        }
        Some(sent.insert(current).clone())
    }
}

/// How each mapping fares on this node.
#[must_use]
pub fn mapping_health(board: &Board, refused: &BTreeMap<String, String>) -> Vec<v1::MappingHealth> {
    let problems = board.problems();
    let mut troubled: HashMap<String, String> = HashMap::new();
    for feed in board.feeds() {
        if let Some(until) = feed.remote.health.paused_until(Instant::now()) {
            troubled.entry(feed.mapping.id.clone()).or_insert_with(|| {
                let seconds = until.duration_since(Instant::now()).as_secs() + 1;
                format!("{} fails, and is asked again in {seconds} s", feed.remote.label)
            });
        }
    }
    for (id, trouble) in board.troubles() {
        troubled.entry(id).or_insert(trouble);
    }
    let mut paused: BTreeMap<String, bool> =
        board.mappings().iter().map(|mapping| (mapping.id.clone(), mapping.is_paused())).collect();
    for id in refused.keys() {
        paused.entry(id.clone()).or_default();
    }
    paused
        .into_iter()
        .map(|(id, is_paused)| v1::MappingHealth {
            is_paused,
            refused: refused.get(&id).or_else(|| problems.get(&id)).cloned().unwrap_or_default(),
            remote_trouble: troubled.remove(&id).unwrap_or_default(),
            mapping_id: id,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn status(database: &str, rows: u64) -> v1::FeedStatus {
        let key = v1::FeedKey { mapping_identity: "m".into(), database_id: database.into() };
        let lag = Some(v1::Lag { rows, ..v1::Lag::default() });
        v1::FeedStatus { key: Some(key), lag, ..v1::FeedStatus::default() }
    }

    fn show(statuses: &Statuses, feeds: &[(&str, u64)]) {
        let keys = feeds.iter().map(|(name, _)| ("m".to_owned(), (*name).to_owned())).collect();
        for (name, rows) in feeds {
            statuses.put(("m".to_owned(), (*name).to_owned()), status(name, *rows), Instant::now());
        }
        statuses.retain(&keys);
    }

    #[test]
    fn a_heartbeat_says_what_changed_since_the_last_one() {
        let (statuses, mut sent) = (Statuses::default(), Sent::default());
        show(&statuses, &[("a", 1), ("b", 2)]);
        let first = statuses.heartbeat(&mut sent, Instant::now());
        assert!(first.is_complete);
        assert_eq!(first.feeds.len(), 2);
        show(&statuses, &[("a", 1)]);
        let second = statuses.heartbeat(&mut sent, Instant::now());
        assert_eq!((second.is_complete, second.feeds.len(), second.ended.len()), (false, 0, 1));
        assert_eq!(second.ended[0].database_id, "b");
        let third = statuses.heartbeat(&mut sent, Instant::now());
        assert!(third.feeds.is_empty() && third.ended.is_empty());
    }

    #[test]
    fn the_load_is_told_once_for_each_look_and_anew_on_each_connection() {
        let (statuses, mut sent) = (Statuses::default(), Sent::default());
        let load = |transfers| Some(v1::NodeLoad { transfers, ..v1::NodeLoad::default() });
        let told = |sent: &mut Sent| statuses.heartbeat(sent, Instant::now()).load;
        assert_eq!(told(&mut sent), None);
        statuses.put_load(load(1));
        assert_eq!((told(&mut sent), told(&mut sent)), (load(1), None));
        statuses.put_load(load(2));
        assert_eq!((told(&mut sent), told(&mut Sent::default())), (load(2), load(2)));
    }

    #[test]
    fn lag_that_nobody_looks_at_any_more_is_not_told() {
        let statuses = Statuses::default();
        let lag = || BTreeMap::from([("m".to_owned(), MappingLag { rows: 1, ..MappingLag::default() })]);
        assert!(statuses.lag().is_empty() && statuses.looked_at_all().is_none());
        statuses.put_lag(lag(), true);
        let complete = statuses.looked_at_all();
        assert!(complete.is_some());
        let later = |after| statuses.lag.load().still_true(Instant::now() + after).len();
        assert_eq!((later(Duration::ZERO), later(OUTDATED + Duration::from_secs(1))), (1, 0));
        statuses.put_lag(lag(), false);
        assert_eq!((statuses.lag().len(), statuses.looked_at_all()), (1, complete));
    }

    #[test]
    fn what_was_not_looked_at_for_long_is_unknown() {
        let (statuses, mut sent) = (Statuses::default(), Sent::default());
        show(&statuses, &[("a", 1)]);
        statuses.heartbeat(&mut sent, Instant::now());
        let later = Instant::now() + OUTDATED + Duration::from_secs(1);
        let late = statuses.heartbeat(&mut sent, later);
        assert_eq!(late.feeds[0].lag, None);
    }
}
