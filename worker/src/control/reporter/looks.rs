//! The looks: how far each feed is behind, found out without holding anybody up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swift_s3_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::wire;
use super::{Key, MappingLag, Statuses};
use crate::board::Board;
use crate::feed::{Feed, View};
use crate::lag::Backlog;
use crate::lane::Share;
use crate::parked::Parked;
use crate::swift::container_server::ContainerServers;

/// A look at all feeds begins this long after the one before has ended, under a control plane, where people watch.
const PAUSE: Duration = Duration::from_secs(2);
/// The same where nothing but metrics is made of it.
const PAUSE_ALONE: Duration = Duration::from_secs(15);
/// There it is longer after a long look, up to this, so that looks take the disks' time now and then only.
const LONGEST_PAUSE_ALONE: Duration = Duration::from_secs(60);
/// A look that takes longer goes on by itself, and its device is left alone until it has ended.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// What was seen is told this often during a long look.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// A feed with nothing to do is counted again after this long, though nothing seems to have changed.
const RECOUNT: Duration = Duration::from_secs(60);
/// Rows that only wait for their age change slowly.
const RECOUNT_WAITING: Duration = Duration::from_secs(15);
#[derive(Clone)]
struct Looked {
    cursors: Vec<i64>,
    at: Instant,
    status: v1::FeedStatus,
    behind: MappingLag,
}

/// For whom the looks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The control plane, and through it people.
    Control,
    /// Whoever reads metrics.
    Metrics,
}

impl Audience {
    /// How long after a look at all feeds the next begins.
    fn pause(self, taken: Duration) -> Duration {
        match self {
            Self::Control => PAUSE,
            Self::Metrics => (taken * 4).clamp(PAUSE_ALONE, LONGEST_PAUSE_ALONE),
        }
    }
}

/// Looks until told to stop.
pub async fn run(
    board: Arc<Board>,
    statuses: Arc<Statuses>,
    servers: ContainerServers,
    audience: Audience,
    stop: CancellationToken,
) {
    let mut looker = Looker { servers, audience, looked: HashMap::new(), stuck: HashMap::new() };
    loop {
        let begun = Instant::now();
        let mut told = begun;
        let mut seen = HashSet::new();
        for feed in board.feeds() {
            if stop.is_cancelled() {
                return;
            }
            let (key, looked_at) = looker.look(&feed).await;
            if let Some(looked) = looker.looked.get(&key) {
                statuses.put(key.clone(), looked.status.clone(), looked_at.unwrap_or(looked.at));
            }
            seen.insert(key);
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                statuses.put_lag(by_mapping(looker.looked.values()), false);
            }
        }
        looker.looked.retain(|key, _| seen.contains(key));
        statuses.retain(&seen);
        statuses.put_lag(by_mapping(looker.looked.values()), true);
        tokio::select! {
            () = tokio::time::sleep(audience.pause(begun.elapsed())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A look that has not ended in time.
type Stuck = JoinHandle<Looked>;

struct Looker {
    servers: ContainerServers,
    audience: Audience,
    looked: HashMap<Key, Looked>,
    /// By the folder of their device. A disk that does not answer holds one thread, not one for every feed and look.
    stuck: HashMap<PathBuf, Stuck>,
}

impl Looker {
    /// Looks at a feed, and answers when; unless the look takes too long: then what was last seen of it stands.
    async fn look(&mut self, feed: &Arc<Feed>) -> (Key, Option<Instant>) {
        let (key, view) = key_of(feed);
        let device = device(feed);
        if self.stuck.get(&device).is_some_and(|look| !look.is_finished()) {
            self.leave_alone(&key, feed);
            return (key, None);
        }
        self.stuck.remove(&device);
        let known = self.looked.get(&key).cloned();
        let is_for_people = self.audience == Audience::Control;
        let (feed_looked_at, servers, key_looked_at) = (Arc::clone(feed), self.servers.clone(), key.clone());
        let mut look = tokio::spawn(async move {
            let servers = is_for_people.then_some(&servers);
            look(&feed_looked_at, view, &key_looked_at, known, servers).await
        });
        match tokio::time::timeout(LOOK_LIMIT, &mut look).await {
            Ok(Ok(looked)) => {
                self.looked.insert(key.clone(), looked);
                return (key, Some(Instant::now()));
            }
            Ok(Err(_)) => {}
            Err(_) => drop(self.stuck.insert(device, look)),
        }
        self.leave_alone(&key, feed);
        (key, None)
    }

    /// Nothing new is known. The time of the last look stays, so that heartbeats tell it after a while.
    fn leave_alone(&mut self, key: &Key, feed: &Feed) {
        let looked = self.looked.entry(key.clone()).or_insert_with(|| unread(feed, key));
        looked.behind.unread = 1;
    }
}

/// The folder of the device that a feed's database is on: it lies five folders deep in it.
fn device(feed: &Feed) -> PathBuf {
    let path = feed.source.database.as_path();
    path.ancestors().nth(5).unwrap_or(path).to_owned()
}

fn by_mapping<'a>(looked: impl Iterator<Item = &'a Looked>) -> BTreeMap<String, MappingLag> {
    let mut sums: BTreeMap<String, MappingLag> = BTreeMap::new();
    for looked in looked {
        match sums.get_mut(&looked.status.mapping_id) {
            Some(sum) => sum.add(&looked.behind),
            None => drop(sums.insert(looked.status.mapping_id.clone(), looked.behind.clone())),
        }
    }
    sums
}

/// Rows set aside as failures; those that wait for their time are counted with what is not old enough.
fn parked_by_reason(parked: Option<&Parked>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let rows = parked.into_iter().flat_map(Parked::iter).map(|(_, row)| row);
    for row in rows.filter(|row| row.share == Share::Own && !row.reason.is_waiting()) {
        *counts.entry(row.reason.as_str()).or_default() += 1;
    }
    counts
}

/// What stands for a feed here. A database that no pass has read yet has no id; its file's name stands for it.
fn key_of(feed: &Feed) -> (Key, View) {
    let view = feed.view();
    let database = if view.database.is_empty() {
        let file = feed.source.database.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        format!("unread {}", file.unwrap_or_default())
    } else {
        view.database.clone()
    };
    ((feed.identity.clone(), database), view)
}

/// Looks at a feed; at what is `known` if that is still true. With `servers`, rows that wait beside a database are merged first.
async fn look(
    feed: &Feed,
    view: View,
    key: &Key,
    known: Option<Looked>,
    servers: Option<&ContainerServers>,
) -> Looked {
    if view.database.is_empty() {
        return unread(feed, key);
    }
    // No pass sees to it while the mapping is paused or its remote is down, and what is there must count all the same.
    if let Some(servers) = servers
        && (feed.mapping.is_paused() || feed.remote.health.paused_until(Instant::now()).is_some())
    {
        feed.flush_pending(servers).await;
    }
    let cursors: Vec<i64> = view.lanes.iter().map(|(_, cursor)| *cursor).collect();
    let is_current = |known: &Looked| {
        let lag = known.status.lag.as_ref();
        let is_quiet = lag.is_some_and(|lag| lag.rows == 0 && lag.deletes_held == 0);
        let patience = if lag.is_some_and(|lag| lag.rows_waiting > 0) { RECOUNT_WAITING } else { RECOUNT };
        is_quiet
            && known.behind.unread == 0
            && known.cursors == cursors
            && known.at.elapsed() < patience
            && !feed.has_changed()
    };
    let known = match known {
        Some(known) if is_current(&known) => return known,
        known => known.map(|known| known.behind),
    };
    let (mut behind, lag, trouble) = match feed.backlog().await {
        Ok(Some(backlog)) => (MappingLag::of(&backlog), Some(lag(&backlog)), String::new()),
        Ok(None) => (unknown(known), None, "the database was replaced and is being read".to_owned()),
        Err(error) => (unknown(known), None, format!("could not read the database: {error}")),
    };
    behind.parked = parked_by_reason(view.parked());
    let (rows_done, bytes_sent) = feed.totals();
    let status = v1::FeedStatus {
        key: Some(v1::FeedKey { mapping_identity: key.0.clone(), database_id: key.1.clone() }),
        mapping_id: feed.mapping.id.clone(),
        account: feed.route.account.clone(),
        container: feed.route.container.clone(),
        lag,
        rows_done,
        bytes_sent,
        trouble,
        replicas: feed.source.own.clone(),
        nodes: view.nodes,
        deletes_held_at: view.held.as_ref().map(|held| wire::time(held.since)),
        deletes_held_because: view.held.map(|held| held.because).unwrap_or_default(),
    };
    Looked { cursors, at: Instant::now(), status, behind }
}

/// A backlog that cannot be counted does not go away: what was last known of it stands.
fn unknown(known: Option<MappingLag>) -> MappingLag {
    MappingLag { unread: 1, ..known.unwrap_or_default() }
}

/// A feed of which nothing is known.
fn unread(feed: &Feed, key: &Key) -> Looked {
    let status = v1::FeedStatus {
        key: Some(v1::FeedKey { mapping_identity: key.0.clone(), database_id: key.1.clone() }),
        mapping_id: feed.mapping.id.clone(),
        account: feed.route.account.clone(),
        container: feed.route.container.clone(),
        trouble: "not read yet".to_owned(),
        replicas: feed.source.own.clone(),
        nodes: feed.source.place.nodes,
        ..v1::FeedStatus::default()
    };
    Looked { cursors: Vec::new(), at: Instant::now(), status, behind: unknown(None) }
}

fn lag(backlog: &Backlog) -> v1::Lag {
    v1::Lag {
        rows: backlog.rows,
        bytes: backlog.bytes,
        seconds: backlog.seconds,
        rows_waiting: backlog.rows_waiting,
        rows_parked: backlog.rows_parked,
        deletes_held: backlog.deletes_held,
        is_estimate: backlog.is_estimate,
        // The heartbeat says when.
        observed_at: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn looked(mapping: &str, behind: MappingLag) -> Looked {
        let status = v1::FeedStatus { mapping_id: mapping.to_owned(), ..v1::FeedStatus::default() };
        Looked { cursors: Vec::new(), at: Instant::now(), status, behind }
    }

    #[test]
    fn a_backlog_that_cannot_be_counted_any_more_stays_in_the_sum() {
        let known = MappingLag { rows: 7, bytes: 70, seconds: 9.0, ..MappingLag::default() };
        let feeds = [
            looked("a", unknown(Some(known))),
            looked("a", MappingLag { rows: 1, bytes: 5, seconds: 20.0, ..MappingLag::default() }),
            looked("b", unknown(None)),
        ];
        let sums = by_mapping(feeds.iter());
        let of = |id: &str| sums.get(id).map(|lag| (lag.rows, lag.bytes, lag.seconds, lag.unread)).unwrap();
        assert_eq!(of("a"), (8, 75, 20.0, 1));
        assert_eq!(of("b"), (0, 0, 0.0, 1));
    }

    #[test]
    fn looks_for_metrics_alone_leave_the_disks_most_of_the_time() {
        let pause = |seconds| Audience::Metrics.pause(Duration::from_secs(seconds));
        assert_eq!((pause(0), pause(10), pause(600)), (PAUSE_ALONE, PAUSE * 20, LONGEST_PAUSE_ALONE));
        assert_eq!(Audience::Control.pause(Duration::from_secs(600)), PAUSE);
    }
}
