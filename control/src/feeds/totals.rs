//! Feeds added up: by container, and by node.

use std::collections::HashSet;
use std::sync::Arc;

use swift_s3_proto::v1::Lag;

use super::{Feed, Feeds, NodeFeeds, Status};
use crate::time;

/// One container of one mapping, over all its replicas and shards.
#[derive(Clone, Debug)]
pub struct ContainerTotal {
    /// The account.
    pub account: Arc<str>,
    /// The container.
    pub container: Arc<str>,
    /// The mapping.
    pub mapping_id: Arc<str>,
    /// Unset: nothing is known.
    pub lag: Option<Lag>,
    /// See the head of [`crate::feeds`].
    pub is_complete: bool,
    /// Who handles which names first: replica index and live node.
    pub owners: Vec<(u32, Arc<str>)>,
    /// Live nodes that follow it.
    pub node_ids: Vec<Arc<str>>,
    /// The earliest time since which a live node holds its deletes.
    pub held_since_ms: Option<i64>,
    /// Why deletes are held.
    pub held_because: String,
    /// Why it does not go on, on some live node.
    pub trouble: String,
    /// Rows set aside after failures.
    pub failures: u64,
}

/// A container while its feeds are added.
#[derive(Debug, Default)]
pub(super) struct Builder {
    lag: Option<Lag>,
    has_unknown: bool,
    covered: u64,
    replicas: u32,
    /// In the order in which nodes are added.
    node_ids: Vec<Arc<str>>,
    /// Any may be there twice.
    owners: Vec<(u32, Arc<str>)>,
    /// Databases that live nodes follow, and that only silent ones do.
    live: u32,
    silent: u32,
    /// Shares that live nodes handle, over all databases.
    shares: u32,
    held: Option<(i64, String)>,
    trouble: String,
}

impl Feeds {
    /// What one node told of its own feeds: how many containers, and their lag; unset if it is unknown.
    #[must_use]
    pub fn of_node(&self, node_id: &str) -> (u64, Option<Lag>) {
        let Some(node) = self.nodes.get(node_id) else { return (0, None) };
        let mut lag = None;
        let mut containers = HashSet::new();
        for feed in node.feeds.values() {
            containers.insert((&feed.account, &feed.container));
            if let Some(seen) = feed.status.as_ref().and_then(|status| node.lag_of(status)) {
                add_lag(&mut lag, &seen);
            }
        }
        if containers.is_empty() && node.is_complete {
            lag = Some(Lag { observed_at: Some(time::timestamp(node.sent_at_ms)), ..Lag::default() });
        }
        (containers.len() as u64, lag)
    }
}

impl NodeFeeds {
    /// A feed that the last heartbeat did not mention was looked at then, and was as before.
    fn lag_of(&self, status: &Status) -> Option<Lag> {
        let mut lag = status.lag?;
        if status.beat != self.beat || lag.observed_at.is_none() {
            lag.observed_at = Some(time::timestamp(self.sent_at_ms));
        }
        Some(lag)
    }
}

impl Builder {
    /// True if some node follows it, live or silent.
    pub(super) fn is_followed(&self) -> bool {
        self.live > 0 || self.silent > 0
    }

    /// A database that so many silent nodes follow, and no live one.
    pub(super) fn add_silent(&mut self, nodes: u32) {
        self.silent += nodes;
    }

    /// A feed of a live node. Feeds of one node come one after the other.
    pub(super) fn add(&mut self, node_id: &Arc<str>, node: &NodeFeeds, feed: &Feed) {
        if self.node_ids.last() != Some(node_id) {
            self.node_ids.push(Arc::clone(node_id));
        }
        self.live += 1;
        self.shares += feed.replicas.count_ones();
        for index in (0..feed.nodes.min(64)).filter(|index| feed.replicas & (1 << index) != 0) {
            self.owners.push((index, Arc::clone(node_id)));
        }
        let Some(status) = &feed.status else {
            self.has_unknown = true;
            return;
        };
        match node.lag_of(status) {
            Some(lag) => {
                add_lag(&mut self.lag, &lag);
                self.covered |= feed.replicas;
                self.replicas = self.replicas.max(feed.nodes);
            }
            None => self.has_unknown = true,
        }
        if let Some(since) = status.held_since_ms
            && self.held.as_ref().is_none_or(|(earlier, _)| since < *earlier)
        {
            self.held = Some((since, status.held_because.as_deref().unwrap_or_default().to_owned()));
        }
        if let Some(trouble) = &status.trouble
            && self.trouble.is_empty()
        {
            self.trouble = format!("{node_id}: {trouble}");
        }
    }

    pub(super) fn finish(
        mut self,
        account: Arc<str>,
        container: Arc<str>,
        mapping_id: Arc<str>,
    ) -> ContainerTotal {
        self.owners.sort_unstable();
        self.owners.dedup();
        let all = match self.replicas {
            0 => None,
            replicas @ 1..64 => Some((1 << replicas) - 1),
            _ => Some(u64::MAX),
        };
        // What a silent node handled is known only if live ones have taken it over: each database has an owner for each share then.
        // Shards of one container are several databases, of which this cannot be told.
        let is_one_database = self.node_ids.len() == self.live as usize;
        let is_taken_over =
            self.silent == 0 || (is_one_database && self.shares >= self.live.saturating_add(self.silent));
        let (held_since_ms, held_because) =
            self.held.map_or((None, String::new()), |(at, why)| (Some(at), why));
        ContainerTotal {
            account,
            container,
            mapping_id,
            is_complete: !self.has_unknown
                && is_taken_over
                && all.is_some_and(|all| self.covered & all == all),
            lag: self.lag,
            owners: self.owners,
            node_ids: self.node_ids,
            held_since_ms,
            held_because,
            trouble: self.trouble,
            failures: 0,
        }
    }
}

impl ContainerTotal {
    /// Where it stands in the order of all.
    #[must_use]
    pub fn position(&self) -> (&str, &str, &str) {
        (&self.account, &self.container, &self.mapping_id)
    }
}

/// Adds one lag to a sum: counts are added, the age is the oldest's, the time the earliest.
pub fn add_lag(total: &mut Option<Lag>, lag: &Lag) {
    let Some(total) = total else {
        *total = Some(*lag);
        return;
    };
    total.rows = total.rows.saturating_add(lag.rows);
    total.bytes = total.bytes.saturating_add(lag.bytes);
    total.seconds = total.seconds.max(lag.seconds);
    total.rows_waiting = total.rows_waiting.saturating_add(lag.rows_waiting);
    total.rows_parked = total.rows_parked.saturating_add(lag.rows_parked);
    total.deletes_held = total.deletes_held.saturating_add(lag.deletes_held);
    total.is_estimate |= lag.is_estimate;
    let at = |lag: &Lag| lag.observed_at.as_ref().map(time::milliseconds);
    total.observed_at = match (at(total), at(lag)) {
        (Some(one), Some(other)) => Some(time::timestamp(one.min(other))),
        (one, other) => one.or(other).map(time::timestamp),
    };
}
