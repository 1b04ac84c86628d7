//! Adds feeds up to containers, node by node, so that nobody waits long for the lock of all feeds: with 1,000 nodes there are
//! hundreds of heartbeats in each second.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::totals::{Builder, ContainerTotal};
use super::{Feed, Feeds, Key};

/// Account, container and mapping. Each word is in memory once (see [`super::Words`]), and stays there as long as a sum or the
/// totals before it hold it: where it is tells which it is.
type Place = (usize, usize, usize);

/// A sum under way.
#[derive(Debug)]
pub struct ContainerSum {
    slots: Vec<Slot>,
    places: HashMap<Place, usize, BuildHasherDefault<PlaceHasher>>,
    /// Databases that only silent nodes followed so far: where they belong, and how many nodes.
    orphans: HashMap<Key, (usize, u32)>,
    /// Keeps the words of the totals before.
    _before: Arc<[ContainerTotal]>,
}

#[derive(Debug)]
struct Slot {
    account: Arc<str>,
    container: Arc<str>,
    mapping_id: Arc<str>,
    builder: Builder,
}

impl ContainerSum {
    /// Begins one. The totals before only make it faster: mostly the same containers come again, and their order is known.
    #[must_use]
    pub fn new(before: Arc<[ContainerTotal]>) -> Self {
        let mut sum = Self {
            slots: Vec::with_capacity(before.len()),
            places: HashMap::with_capacity_and_hasher(before.len(), BuildHasherDefault::default()),
            orphans: HashMap::new(),
            _before: Arc::clone(&before),
        };
        for total in before.iter() {
            sum.slot(&total.account, &total.container, &total.mapping_id);
        }
        sum
    }

    fn slot(&mut self, account: &Arc<str>, container: &Arc<str>, mapping_id: &Arc<str>) -> usize {
        let place = (address(account), address(container), address(mapping_id));
        let slots = &mut self.slots;
        *self.places.entry(place).or_insert_with(|| {
            slots.push(Slot {
                account: Arc::clone(account),
                container: Arc::clone(container),
                mapping_id: Arc::clone(mapping_id),
                builder: Builder::default(),
            });
            slots.len() - 1
        })
    }

    fn slot_of(&mut self, feed: &Feed) -> usize {
        self.slot(&feed.account, &feed.container, &feed.mapping_id)
    }

    /// All containers that some node follows, by account, container and mapping.
    #[must_use]
    pub fn finish(mut self) -> Vec<ContainerTotal> {
        for (slot, nodes) in self.orphans.into_values() {
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.builder.add_silent(nodes);
            }
        }
        let followed = self.slots.into_iter().filter(|slot| slot.builder.is_followed());
        let mut totals: Vec<ContainerTotal> = followed
            .map(|Slot { account, container, mapping_id, builder }| {
                builder.finish(account, container, mapping_id)
            })
            .collect();
        // Those of before are in order; such a sort is quick when few are new.
        totals.sort_by(|a, b| a.position().cmp(&b.position()));
        totals
    }
}

impl Feeds {
    /// The nodes that have feeds, those that are silent first, each group by id: the order in which they are to be added.
    #[must_use]
    pub fn in_order(&self, is_live: impl Fn(&str) -> bool) -> Vec<(Arc<str>, bool)> {
        let mut nodes: Vec<_> = self.nodes.keys().map(|id| (Arc::clone(id), is_live(id))).collect();
        nodes.sort_by(|(one, one_is_live), (other, other_is_live)| {
            one_is_live.cmp(other_is_live).then_with(|| one.cmp(other))
        });
        nodes
    }

    /// Adds a node's feeds to a sum. A database that moved from a silent node to a live one is the live one's.
    pub fn add_node(
        &self,
        sum: &mut ContainerSum,
        node_id: &Arc<str>,
        is_live: bool,
        mut is_in_force: impl FnMut(&Arc<str>) -> bool,
    ) {
        let Some(node) = self.nodes.get(node_id) else { return };
        for (key, feed) in &node.feeds {
            if !is_in_force(&feed.mapping_id) {
                continue;
            }
            let slot = sum.slot_of(feed);
            if is_live {
                if !sum.orphans.is_empty() {
                    sum.orphans.remove(key);
                }
                if let Some(slot) = sum.slots.get_mut(slot) {
                    slot.builder.add(node_id, node, feed);
                }
            } else {
                sum.orphans.entry(key.clone()).or_insert((slot, 0)).1 += 1;
            }
        }
    }
}

/// Where mappings stand in the configuration. Each word is looked up by its text once, which is most of the work otherwise.
#[derive(Debug)]
pub struct MappingIndex<'a> {
    by_id: &'a HashMap<&'a str, usize>,
    /// With the words, so that no other one comes to be where they are.
    seen: HashMap<usize, (Arc<str>, Option<usize>), BuildHasherDefault<PlaceHasher>>,
}

impl<'a> MappingIndex<'a> {
    /// Mappings by their ids.
    #[must_use]
    pub fn new(by_id: &'a HashMap<&'a str, usize>) -> Self {
        Self { by_id, seen: HashMap::default() }
    }

    /// Where the mapping of this id stands. `None`: it is not in force.
    pub fn of(&mut self, id: &Arc<str>) -> Option<usize> {
        let by_id = self.by_id;
        let look = || (Arc::clone(id), by_id.get(&**id).copied());
        self.seen.entry(address(id)).or_insert_with(look).1
    }
}

fn address(word: &Arc<str>) -> usize {
    Arc::as_ptr(word).addr()
}

/// For addresses, which nobody outside can choose.
#[derive(Debug, Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        // An odd number without a pattern in its bits: 2^64 divided by the golden ratio.
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
