//! Who owns which share of a container's names. Pure.
//!
//! A *home share* belongs to the worker on the device that the ring names for it, as long as that worker is alive. A share whose home is
//! gone is taken by one of the workers that hold another replica: the one that a hash of share and device chooses, so that all of them come
//! to the same answer, and the shares of a lost node are spread over the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sha1::{Digest, Sha1};

use crate::swift::topology::ContainerPlace;

/// A device of the container ring, named by its server and its name: `10.0.0.1:6201/sdb1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HomeDevice(pub String);

impl HomeDevice {
    /// The device of a replica.
    #[must_use]
    pub fn of(device: &crate::swift::ring::Device) -> Self {
        Self(format!("{}/{}", device.authority, device.device))
    }
}

/// A partition of the container ring, and how many replicas it has: with another number, names are shared out differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceId {
    /// Replicas.
    pub nodes: u32,
    /// The partition.
    pub partition: u32,
}

impl PlaceId {
    /// The place of a container.
    #[must_use]
    pub fn of(place: &ContainerPlace) -> Self {
        Self { nodes: place.nodes, partition: place.partition }
    }
}

/// One share of the names of all containers in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareId {
    /// The partition.
    pub place: PlaceId,
    /// The replica whose names these are.
    pub index: u32,
}

/// Who lives on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// It shares out work by the implicit rules, and its shares are to be left alone.
    pub is_implicit: bool,
}

/// Where the replicas of a partition are: the device of each index.
pub type Replicas = Vec<(u32, HomeDevice)>;

/// What is known when shares are given out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// This run of this worker.
    pub me: String,
    /// The devices whose home this worker has announced.
    pub devices: BTreeSet<HomeDevice>,
    /// Workers that are alive, by device.
    pub homes: BTreeMap<HomeDevice, Home>,
    /// Shares that were taken, and by which run of which worker.
    pub shares: BTreeMap<ShareId, String>,
    /// The partitions that this worker has databases of.
    pub places: Arc<HashMap<PlaceId, Replicas>>,
    /// Devices whose worker is known to be gone; others may just be starting.
    pub gone: HashSet<HomeDevice>,
    /// Everybody who is there has had the time to say so.
    pub is_settled: bool,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The replica indexes whose names this worker handles, by partition.
    pub own: BTreeMap<PlaceId, Vec<u32>>,
    /// Shares to take, and the home that must still be gone then.
    pub take: Vec<(ShareId, HomeDevice)>,
    /// Shares to let go, once nothing of them is in flight.
    pub release: Vec<ShareId>,
}

/// Gives out the shares of all partitions that this worker has databases of.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    for (place, replicas) in &*facts.places {
        let own = plan.own.entry(*place).or_default();
        for (index, device) in replicas {
            let id = ShareId { place: *place, index: *index };
            let holder = facts.shares.get(&id);
            let is_mine = holder.is_some_and(|holder| *holder == facts.me);
            if facts.devices.contains(device) {
                // Somebody who took it finishes first what is in flight.
                if holder.is_none() || is_mine {
                    own.push(*index);
                }
                if is_mine {
                    plan.release.push(id);
                }
                continue;
            }
            if facts.homes.contains_key(device) {
                if is_mine {
                    plan.release.push(id);
                }
            } else if is_mine {
                own.push(*index);
            } else if holder.is_none()
                && (facts.is_settled || facts.gone.contains(device))
                && chosen(facts, id, replicas).is_some_and(|chosen| facts.devices.contains(chosen))
            {
                plan.take.push((id, device.clone()));
            }
        }
        own.sort_unstable();
    }
    // A share of a partition that is not here any more: the ring has moved it.
    let elsewhere = facts
        .shares
        .iter()
        .filter(|(id, holder)| **holder == facts.me && !facts.places.contains_key(&id.place));
    plan.release.extend(elsewhere.map(|(id, _)| *id));
    plan.take.sort();
    plan.release.sort_unstable();
    plan
}

/// The device whose worker is to take a share: the highest of the hashes of those that are alive.
fn chosen<'a>(facts: &Facts, id: ShareId, replicas: &'a [(u32, HomeDevice)]) -> Option<&'a HomeDevice> {
    let is_able = |device: &HomeDevice| facts.homes.get(device).is_some_and(|home| !home.is_implicit);
    replicas
        .iter()
        .map(|(_, device)| device)
        .filter(|device| is_able(device))
        .max_by_key(|device| (weight(id, device), *device))
}

fn weight(id: ShareId, device: &HomeDevice) -> [u8; 20] {
    let mut hash = Sha1::new();
    for number in [id.place.nodes, id.place.partition, id.index] {
        hash.update(number.to_be_bytes());
    }
    hash.update(device.0.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(node: usize) -> HomeDevice {
        HomeDevice(format!("10.0.0.{node}:6201/d"))
    }

    fn place(partition: u32) -> (PlaceId, Replicas) {
        let replicas = (0..3).map(|index: u32| (index, device((index as usize + partition as usize) % 4)));
        (PlaceId { nodes: 3, partition }, replicas.collect())
    }

    /// What worker `me` knows when `alive` are there and shares are taken like this.
    fn facts(me: usize, alive: &[usize], shares: &BTreeMap<ShareId, String>) -> Facts {
        let home = |node: &usize| (device(*node), Home { is_implicit: false });
        let here = |(_, replicas): &(PlaceId, Replicas)| replicas.iter().any(|(_, at)| *at == device(me));
        Facts {
            me: me.to_string(),
            devices: if alive.contains(&me) { BTreeSet::from([device(me)]) } else { BTreeSet::new() },
            homes: alive.iter().map(home).collect(),
            shares: shares.clone(),
            places: Arc::new((0..40).map(place).filter(here).collect()),
            gone: HashSet::new(),
            is_settled: true,
        }
    }

    /// Lets everybody who is alive act until nothing changes any more.
    fn settle(alive: &[usize], shares: &mut BTreeMap<ShareId, String>) -> Vec<(ShareId, usize)> {
        for _ in 0..4 {
            for me in alive {
                let plan = plan(&facts(*me, alive, shares));
                for id in plan.release {
                    shares.remove(&id);
                }
                for (id, _) in plan.take {
                    shares.entry(id).or_insert_with(|| me.to_string());
                }
            }
        }
        let mut owned = Vec::new();
        for me in alive {
            for (place, indexes) in plan(&facts(*me, alive, shares)).own {
                owned.extend(indexes.into_iter().map(|index| (ShareId { place, index }, *me)));
            }
        }
        owned.sort_unstable();
        owned
    }

    proptest! {
        #[test]
        fn every_share_has_exactly_one_owner_whoever_is_alive(
            alive in prop::sample::subsequence((0..4).collect::<Vec<usize>>(), 1..=4),
            before in prop::sample::subsequence((0..4).collect::<Vec<usize>>(), 1..=4),
        ) {
            let mut shares = BTreeMap::new();
            settle(&before, &mut shares);
            // Whoever died took its keys along.
            shares.retain(|_, node| alive.iter().any(|one| one.to_string() == *node));
            let owned = settle(&alive, &mut shares);
            let owners: BTreeSet<ShareId> = owned.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(owners.len(), owned.len(), "two owners of one share");
            for partition in 0..40 {
                let (place, replicas) = place(partition);
                let can = replicas.iter().any(|(_, at)| alive.iter().any(|node| *at == device(*node)));
                for index in 0..3 {
                    prop_assert_eq!(owners.contains(&ShareId { place, index }), can, "partition {}", partition);
                }
            }
        }
    }

    #[test]
    fn the_shares_of_a_lost_node_are_spread() {
        let mut shares = BTreeMap::new();
        settle(&[0, 1, 2], &mut shares);
        let by_node = |node: &str| shares.values().filter(|holder| *holder == node).count();
        let counts = [by_node("0"), by_node("1"), by_node("2")];
        assert_eq!(counts.iter().sum::<usize>(), 30, "node 3 has a replica of 30 of 40 partitions");
        assert!(counts.iter().all(|count| *count >= 4), "{counts:?}");
    }

    #[test]
    fn a_home_that_returns_waits_until_the_share_is_let_go() {
        let (place, _) = place(0);
        let id = ShareId { place, index: 0 };
        let shares = BTreeMap::from([(id, "1".to_owned())]);
        let returned = plan(&facts(0, &[0, 1, 2], &shares));
        assert!(!returned.own[&place].contains(&0));
        assert_eq!(plan(&facts(1, &[0, 1, 2], &shares)).release, [id]);
        assert!(plan(&facts(0, &[0, 1, 2], &BTreeMap::new())).own[&place].contains(&0));
    }

    #[test]
    fn who_was_not_seen_yet_may_be_starting() {
        let mut early = facts(1, &[1, 2], &BTreeMap::new());
        early.is_settled = false;
        assert!(plan(&early).take.is_empty());
        early.gone.insert(device(0));
        assert!(!plan(&early).take.is_empty());
        assert!(plan(&early).take.iter().all(|(_, home)| *home == device(0)));
    }

    #[test]
    fn shares_of_implicit_workers_are_left_alone_and_not_given_to_them() {
        let mut facts = facts(1, &[1, 2], &BTreeMap::new());
        facts.homes.insert(device(0), Home { is_implicit: true });
        assert!(plan(&facts).take.iter().all(|(_, home)| *home != device(0)));
        facts.homes.insert(device(2), Home { is_implicit: true });
        facts.homes.remove(&device(0));
        let taken: Vec<_> = plan(&facts).take;
        // Partitions of node 0 that node 1 has too.
        assert_eq!(taken.iter().filter(|(_, home)| *home == device(0)).count(), 20);
    }

    #[test]
    fn a_share_of_a_partition_that_moved_away_is_let_go() {
        let id = ShareId { place: PlaceId { nodes: 3, partition: 7_000 }, index: 0 };
        let shares = BTreeMap::from([(id, "1".to_owned())]);
        assert_eq!(plan(&facts(1, &[1, 2, 3, 0], &shares)).release, [id]);
    }
}
