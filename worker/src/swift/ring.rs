//! Swift's rings: which devices hold an account, a container or an object.
//!
//! Reads the files that `swift-ring-builder` writes, versions 1 and 2. Only primaries are known here; handoff devices
//! are Swift's own business.
//!
//! Source: `swift/common/ring/ring.py` of Swift 2.30.1 and 2.38.3.

mod reader;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::uri::Authority;

use super::swift_conf::HashPath;

pub use reader::RingError;

/// One ring, as compact in memory as on disk.
#[derive(Debug)]
pub struct Ring {
    devices: Vec<Option<Arc<Device>>>,
    assignments: Assignments,
    part_shift: u32,
}

/// Device ids by replica and partition. The last replica's row is shorter when the replica count is fractional.
#[derive(Debug)]
pub(crate) enum Assignments {
    /// Two bytes for each id: version 1, and version 2 below 65,535 devices.
    Short(Vec<Vec<u16>>),
    /// Four bytes for each id.
    Long(Vec<Vec<u32>>),
}

/// One device of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its place in the ring's list of devices.
    pub id: u32,
    /// The address its servers listen on: an IP address, or a host name in some clusters.
    pub ip: String,
    /// The port its server listens on.
    pub port: u16,
    /// The folder name below `devices`, for instance `sdb1`. Not trusted: see [`super::container_db::locate`].
    pub device: String,
    /// Region number.
    pub region: u32,
    /// Zone number.
    pub zone: u32,
    /// `ip:port`, ready for a request; IPv6 addresses are in brackets.
    pub authority: Authority,
}

impl Device {
    /// The address, when the ring gives one and not a host name.
    pub fn address(&self) -> Option<IpAddr> {
        self.ip.parse().ok()
    }
}

impl Ring {
    /// Reads a ring file.
    ///
    /// The whole file is read and checked: its checksums, every length and every device id. Blocking.
    ///
    /// # Errors
    /// [`RingError`] says what was expected and what was found.
    pub fn load(path: &Path) -> Result<Self, RingError> {
        reader::load(path)
    }

    pub(crate) const fn new(
        devices: Vec<Option<Arc<Device>>>,
        assignments: Assignments,
        part_shift: u32,
    ) -> Self {
        Self { devices, assignments, part_shift }
    }

    /// The partition of an account, a container or an object.
    pub fn partition(
        &self,
        account: &str,
        container: Option<&str>,
        object: Option<&str>,
        hash: &HashPath,
    ) -> u32 {
        self.partition_of_digest(&hash.digest(account, container, object))
    }

    /// The partition that a digest of [`HashPath::digest`] falls into.
    pub fn partition_of_digest(&self, digest: &[u8; 16]) -> u32 {
        let [first, second, third, fourth, ..] = *digest;
        let number = u32::from_be_bytes([first, second, third, fourth]);
        // A ring with a single partition shifts by 32, which would overflow a 32-bit shift.
        number.checked_shr(self.part_shift).unwrap_or(0)
    }

    /// The devices that hold `partition`, in ring order, each with its index as Swift counts it.
    ///
    /// A device that holds several replicas is given once. A device that was removed keeps its index but is not given,
    /// so the others' indexes do not depend on it. Empty for a partition that the ring does not have.
    pub fn primaries(&self, partition: u32) -> Vec<(u32, &Arc<Device>)> {
        let mut seen = self.distinct_ids(partition);
        let mut primaries = Vec::with_capacity(seen.len());
        for (index, id) in (0u32..).zip(seen.drain(..)) {
            let device = usize::try_from(id).ok().and_then(|id| self.devices.get(id));
            if let Some(Some(device)) = device {
                primaries.push((index, device));
            }
        }
        primaries
    }

    /// How many distinct devices the ring names for `partition`, removed ones included: the modulus of a share.
    pub fn replicas_of(&self, partition: u32) -> u32 {
        u32::try_from(self.distinct_ids(partition).len()).unwrap_or(u32::MAX)
    }

    /// How many replicas the ring keeps, rounded up when it is fractional.
    pub fn replica_count(&self) -> u32 {
        let rows = match &self.assignments {
            Assignments::Short(rows) => rows.len(),
            Assignments::Long(rows) => rows.len(),
        };
        u32::try_from(rows).unwrap_or(u32::MAX)
    }

    /// How many partitions the ring has.
    pub fn partition_count(&self) -> u64 {
        1u64 << (32 - self.part_shift)
    }

    /// Every device of the ring by id; `None` where one was removed.
    pub fn devices(&self) -> &[Option<Arc<Device>>] {
        &self.devices
    }

    fn distinct_ids(&self, partition: u32) -> Vec<u32> {
        let Ok(place) = usize::try_from(partition) else {
            return Vec::new();
        };
        let mut ids = Vec::with_capacity(4);
        let mut add = |id: u32| {
            if !ids.contains(&id) {
                ids.push(id);
            }
        };
        match &self.assignments {
            Assignments::Short(rows) => {
                for id in rows.iter().filter_map(|row| row.get(place)) {
                    add(u32::from(*id));
                }
            }
            Assignments::Long(rows) => {
                for id in rows.iter().filter_map(|row| row.get(place)) {
                    add(*id);
                }
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests;
