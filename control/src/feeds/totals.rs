//! Feeds added up: by container, and by node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use swift_s3_proto::v1::Lag;

use super::{Feed, Feeds, Key, NodeFeeds, Status};
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

/// Account, container, mapping: in the order of totals.
type Place<'a> = (&'a Arc<str>, &'a Arc<str>, &'a Arc<str>);

#[derive(Default)]
struct Builder {
    lag: Option<Lag>,
    has_unknown: bool,
    covered: u64,
    replicas: u32,
    node_ids: BTreeSet<Arc<str>>,
    owners: BTreeSet<(u32, Arc<str>)>,
    /// Databases that live nodes follow, and that only silent ones do.
    live: u32,
    silent: u32,
    /// Shares that live nodes handle, over all databases.
    shares: u32,
    held: Option<(i64, String)>,
    trouble: String,
}

impl Feeds {
    /// All containers of the mappings in force, by account, container and mapping.
    #[must_use]
    pub fn containers(
        &self,
        is_in_force: impl Fn(&str) -> bool,
        is_live: impl Fn(&str) -> bool,
    ) -> Vec<ContainerTotal> {
        let mut builders: HashMap<Place<'_>, Builder> = HashMap::new();
        let (live, silent): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|(id, _)| is_live(id));
        // A database that moved from a silent node to a live one is the live one's.
        let mut orphans: HashSet<&Key> = silent.iter().flat_map(|(_, node)| node.feeds.keys()).collect();
        for (node_id, node) in live {
            for (key, feed) in node.feeds.iter().filter(|(_, feed)| is_in_force(&feed.mapping_id)) {
                orphans.remove(key);
                builders
                    .entry((&feed.account, &feed.container, &feed.mapping_id))
                    .or_default()
                    .add(node_id, node, feed);
            }
        }
        for (_, node) in silent {
            for (key, feed) in node.feeds.iter().filter(|(_, feed)| is_in_force(&feed.mapping_id)) {
                if orphans.contains(key) {
                    builders.entry((&feed.account, &feed.container, &feed.mapping_id)).or_default().silent +=
                        1;
                }
            }
        }
        let mut totals: Vec<ContainerTotal> = builders
            .into_iter()
            .map(|((account, container, mapping_id), builder)| {
                builder.finish(Arc::clone(account), Arc::clone(container), Arc::clone(mapping_id))
            })
            .collect();
        totals.sort_by(|a, b| a.position().cmp(&b.position()));
        totals
    }

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
    fn add(&mut self, node_id: &Arc<str>, node: &NodeFeeds, feed: &Feed) {
        self.node_ids.insert(Arc::clone(node_id));
        self.live += 1;
        self.shares += feed.replicas.count_ones();
        for index in (0..feed.nodes.min(64)).filter(|index| feed.replicas & (1 << index) != 0) {
            self.owners.insert((index, Arc::clone(node_id)));
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

    fn finish(self, account: Arc<str>, container: Arc<str>, mapping_id: Arc<str>) -> ContainerTotal {
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
            owners: self.owners.into_iter().collect(),
            node_ids: self.node_ids.into_iter().collect(),
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
