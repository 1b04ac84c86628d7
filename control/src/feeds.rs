//! How far every feed is, as nodes told it last, and what that makes for containers and mappings. In memory only: what a
//! silent node would know is unknown, never zero.
//!
//! **When a container is complete.** A container has several databases: replicas, and those of its shards. Each feed says
//! which replica indexes its node holds and how many there are. A container is complete when every index is reported by a
//! live node, and no feed that was ever reported for it is of a silent node or without a lag.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use swift_s3_proto::v1::{FeedKey, FeedStatus, Heartbeat, Lag};

use crate::store::{KnownFeed, StaleFeed};
use crate::time;

mod rates;
mod sum;
mod totals;

pub use rates::Rate;
pub use sum::{ContainerSum, MappingIndex};
pub use totals::{ContainerTotal, add_lag};

/// The most feeds one node may have.
pub const MAX_FEEDS_PER_NODE: usize = 1_000_000;
/// Identities, ids, accounts, containers.
const MAX_NAME_BYTES: usize = 1_024;
/// Longer texts are cut before they are kept.
const MAX_TEXT_BYTES: usize = 2_000;

type Key = (Arc<str>, Arc<str>);

/// All feeds of all nodes.
#[derive(Debug, Default)]
pub struct Feeds {
    nodes: HashMap<Arc<str>, NodeFeeds>,
    words: Words,
    /// Of mappings in force only.
    rates: HashMap<Arc<str>, Rate>,
    /// The first since they were taken, of mappings in force only.
    holds: HashMap<Arc<str>, Hold>,
}

/// The delete limit began to hold deletes of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The mapping.
    pub mapping_id: String,
    /// Since then, by the node's clock.
    pub since_ms: i64,
    /// The node that tells it.
    pub node_id: String,
    /// Account and container.
    pub place: String,
    /// Why, in words.
    pub because: String,
}

#[derive(Debug, Default)]
struct NodeFeeds {
    feeds: HashMap<Key, Feed>,
    instance_id: String,
    /// Since the node connected, all of its feeds were told.
    is_complete: bool,
    /// Counts heartbeats.
    beat: u64,
    /// The node's clock at the last heartbeat.
    sent_at_ms: i64,
}

#[derive(Debug)]
struct Feed {
    mapping_id: Arc<str>,
    account: Arc<str>,
    container: Arc<str>,
    /// One bit for each replica index that the node holds.
    replicas: u64,
    nodes: u32,
    /// Unset until the node tells it, in this connection.
    status: Option<Status>,
    /// Counts of the process that told them last, to see what it did since.
    done: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Status {
    lag: Option<Lag>,
    trouble: Option<Box<str>>,
    held_since_ms: Option<i64>,
    held_because: Option<Box<str>>,
    /// The heartbeat that told it.
    beat: u64,
}

/// Each account, container and mapping is in memory once, however many feeds it has.
#[derive(Debug, Default)]
struct Words {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Words {
    fn get(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.known.get(word) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.sweep_at = self.known.len().saturating_mul(2).max(4_096);
        }
        let word: Arc<str> = Arc::from(word);
        self.known.insert(Arc::clone(&word));
        word
    }
}

impl Feeds {
    /// Feeds that progress was stored of. They are unknown until their nodes tell. Once a node told all, only its
    /// heartbeats say what it follows: a report of a feed that ended may come late.
    pub fn know(&mut self, feeds: Vec<KnownFeed>) {
        for feed in feeds {
            let key = (Arc::from(feed.mapping_identity.as_str()), Arc::from(feed.database_id.as_str()));
            let (mapping_id, account, container) = (
                self.words.get(&feed.mapping_id),
                self.words.get(&feed.account),
                self.words.get(&feed.container),
            );
            let node = self.node(&feed.node_id);
            if !node.is_complete && node.feeds.len() < MAX_FEEDS_PER_NODE {
                node.feeds.entry(key).or_insert(Feed {
                    mapping_id,
                    account,
                    container,
                    replicas: bits(&feed.replicas),
                    nodes: feed.nodes,
                    status: None,
                    done: None,
                });
            }
        }
    }

    /// A node connected: what it told before is out of date.
    pub fn connected(&mut self, node_id: &str, instance_id: &str) {
        let node = self.node(node_id);
        let is_same_process = node.instance_id == instance_id;
        instance_id.clone_into(&mut node.instance_id);
        node.is_complete = false;
        for feed in node.feeds.values_mut() {
            feed.status = None;
            if !is_same_process {
                feed.done = None;
            }
        }
    }

    /// Takes a heartbeat.
    ///
    /// # Errors
    /// When the node would have too many feeds; then nothing of it is taken.
    pub fn heartbeat(&mut self, node_id: &str, heartbeat: Heartbeat, now_ms: i64) -> Result<(), String> {
        let Heartbeat { sent_at, feeds, ended, is_complete, .. } = heartbeat;
        let node_id = self.words.get(node_id);
        // Taken out, because words and rates are changed on the way.
        let mut node = self.nodes.remove(&node_id).unwrap_or_default();
        let is_new = |status: &FeedStatus| !status.key.as_ref().is_some_and(|key| node.follows(key));
        let starts_anew = is_complete && node.is_complete;
        let more = feeds.iter().filter(|status| starts_anew || is_new(status)).count();
        let before = if starts_anew { 0 } else { node.feeds.len() };
        if before.saturating_add(more) > MAX_FEEDS_PER_NODE {
            self.nodes.insert(node_id, node);
            return Err(format!("more than {MAX_FEEDS_PER_NODE} feeds"));
        }
        node.beat += 1;
        node.sent_at_ms = sent_at.as_ref().map_or(now_ms, time::milliseconds);
        for status in feeds {
            self.note_hold(&node_id, &node, &status);
            self.take(&mut node, status, now_ms);
        }
        for key in ended {
            node.feeds.remove(&(Arc::from(key.mapping_identity), Arc::from(key.database_id)));
        }
        if is_complete {
            // The first since it connected may come in parts, of which this is the last.
            let (beat, is_first) = (node.beat, !node.is_complete);
            node.feeds
                .retain(|_, feed| feed.status.as_ref().is_some_and(|status| is_first || status.beat == beat));
            node.is_complete = true;
        }
        self.nodes.insert(node_id, node);
        Ok(())
    }

    fn take(&mut self, node: &mut NodeFeeds, status: FeedStatus, now_ms: i64) {
        let Some(FeedKey { mapping_identity, database_id }) = status.key else { return };
        let key: Key = (Arc::from(mapping_identity), Arc::from(database_id));
        let mapping_id = self.words.get(&status.mapping_id);
        let (account, container) = (self.words.get(&status.account), self.words.get(&status.container));
        let done = (status.rows_done, status.bytes_sent);
        let before = node.feeds.get(&key).and_then(|feed| feed.done);
        // Counts that are told for the first time may be of long ago.
        if let (Some((rows, bytes)), Some(rate)) = (before, self.rates.get_mut(&mapping_id)) {
            rate.add(now_ms, done.0.saturating_sub(rows), done.1.saturating_sub(bytes));
        }
        let text = |text: String| (!text.is_empty()).then(|| cut(&text).into());
        let new = Status {
            lag: status.lag,
            trouble: text(status.trouble),
            held_since_ms: status.deletes_held_at.as_ref().map(time::milliseconds),
            held_because: text(status.deletes_held_because),
            beat: node.beat,
        };
        let feed = Feed {
            mapping_id,
            account,
            container,
            replicas: bits(&status.replicas),
            nodes: status.nodes,
            status: Some(new),
            done: Some(done),
        };
        node.feeds.insert(key, feed);
    }

    /// Notes that deletes are held, if that was not told before.
    fn note_hold(&mut self, node_id: &str, node: &NodeFeeds, status: &FeedStatus) {
        let (Some(held_at), Some(key)) = (&status.deletes_held_at, &status.key) else { return };
        let since_ms = time::milliseconds(held_at);
        let key: Key = (Arc::from(key.mapping_identity.as_str()), Arc::from(key.database_id.as_str()));
        let before = node.feeds.get(&key).and_then(|feed| feed.status.as_ref()?.held_since_ms);
        let Some((mapping_id, _)) = self.rates.get_key_value(status.mapping_id.as_str()) else { return };
        if before == Some(since_ms) {
            return;
        }
        self.holds.entry(Arc::clone(mapping_id)).or_insert_with(|| Hold {
            mapping_id: status.mapping_id.clone(),
            since_ms,
            node_id: node_id.to_owned(),
            place: format!("{}/{}", status.account, status.container),
            because: cut(&status.deletes_held_because).to_owned(),
        });
    }

    /// Holds that were told since they were taken last; one of each mapping, at most so many.
    #[must_use]
    pub fn take_holds(&mut self, most: usize) -> Vec<Hold> {
        let ids: Vec<Arc<str>> = self.holds.keys().take(most).cloned().collect();
        ids.iter().filter_map(|id| self.holds.remove(id)).collect()
    }

    /// Forgets a node's feeds.
    pub fn forget(&mut self, node_id: &str) {
        self.nodes.remove(node_id);
    }

    /// How many feeds nodes follow, each once for each node.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.values().map(|node| node.feeds.len()).sum()
    }

    /// True once the node told all its feeds since it connected.
    #[must_use]
    pub fn has_told_all(&self, node_id: &str) -> bool {
        self.nodes.get(node_id).is_some_and(|node| node.is_complete)
    }

    /// What was carried of a mapping over the last minute, per second: rows and bytes.
    #[must_use]
    pub fn rate(&self, mapping_id: &str, now_ms: i64) -> (f64, f64) {
        self.rates.get(mapping_id).map_or((0.0, 0.0), |rate| rate.per_second(now_ms))
    }

    /// These mappings are in force from now on: rates are kept of them.
    pub fn set_mappings<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        let mut before = std::mem::take(&mut self.rates);
        self.rates = ids.map(|id| (self.words.get(id), before.remove(id).unwrap_or_default())).collect();
    }

    /// Leaves only feeds that no connected node follows.
    pub fn keep_unfollowed(&self, feeds: &mut Vec<StaleFeed>, connected: &HashSet<String>) {
        let nodes: Vec<&NodeFeeds> =
            self.nodes.iter().filter(|(id, _)| connected.contains(&***id)).map(|(_, node)| node).collect();
        feeds.retain(|feed| {
            let key = (Arc::from(feed.mapping_identity.as_str()), Arc::from(feed.database_id.as_str()));
            !nodes.iter().any(|node| node.feeds.contains_key(&key))
        });
    }

    /// When deletes of a mapping that live nodes hold were held last, by the clocks of the nodes.
    #[must_use]
    pub fn held_last_ms(&self, mapping_id: &str, is_live: impl Fn(&str) -> bool) -> Option<i64> {
        let live = self.nodes.iter().filter(|(node_id, _)| is_live(node_id)).map(|(_, node)| node);
        live.flat_map(|node| node.feeds.values())
            .filter(|feed| &*feed.mapping_id == mapping_id)
            .filter_map(|feed| feed.status.as_ref()?.held_since_ms)
            .max()
    }

    /// Nodes that follow a container.
    #[must_use]
    pub fn followers(&self, account: &str, container: &str) -> Vec<String> {
        let follows = |node: &NodeFeeds| {
            node.feeds.values().any(|feed| &*feed.container == container && &*feed.account == account)
        };
        let mut nodes: Vec<String> =
            self.nodes.iter().filter(|(_, node)| follows(node)).map(|(id, _)| id.to_string()).collect();
        nodes.sort();
        nodes
    }

    fn node(&mut self, node_id: &str) -> &mut NodeFeeds {
        let node_id = self.words.get(node_id);
        self.nodes.entry(node_id).or_default()
    }
}

impl NodeFeeds {
    fn follows(&self, key: &FeedKey) -> bool {
        let key = (Arc::from(key.mapping_identity.as_str()), Arc::from(key.database_id.as_str()));
        self.feeds.contains_key(&key)
    }
}

/// Names that are too long are refused: cut, they would be others. Texts are cut.
///
/// # Errors
/// What is too long.
pub fn check(heartbeat: &Heartbeat) -> Result<(), String> {
    let keys = heartbeat.feeds.iter().filter_map(|status| status.key.as_ref()).chain(&heartbeat.ended);
    let of_keys = keys.flat_map(|key| [&key.mapping_identity, &key.database_id]);
    let of_feeds =
        heartbeat.feeds.iter().flat_map(|status| [&status.mapping_id, &status.account, &status.container]);
    let of_mappings = heartbeat.mappings.iter().map(|mapping| &mapping.mapping_id);
    match of_keys.chain(of_feeds).chain(of_mappings).find(|name| name.len() > MAX_NAME_BYTES) {
        Some(name) => Err(format!("a name of {} bytes; at most {MAX_NAME_BYTES} are taken", name.len())),
        None => Ok(()),
    }
}

fn bits(replicas: &[u32]) -> u64 {
    replicas.iter().filter(|index| **index < 64).fold(0, |bits, index| bits | 1 << index)
}

pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
