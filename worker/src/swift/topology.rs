//! Where everything of a cluster lies: `swift.conf`, the rings, and which of their devices are on this machine.
//!
//! Files are read when they are first needed and looked at again every few seconds, as Swift's own servers do. A new
//! file that cannot be used is logged once, and what was known before stays in force.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::file_stamp::FileStamp;
use super::ring::{Device, Ring, RingError};
use super::swift_conf::{HashPath, PolicyKind, StoragePolicy, SwiftConf, SwiftConfError};

/// How often a file may be looked at; between two looks a lookup costs no system call.
const RECHECK: Duration = Duration::from_secs(5);

/// The cluster as this machine sees it. Clones share everything.
#[derive(Clone, Debug)]
pub struct SwiftTopology {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    swift_dir: PathBuf,
    addresses: HashSet<IpAddr>,
    recheck: Duration,
    conf: RwLock<Option<Watched<SwiftConf, SwiftConfError>>>,
    rings: RwLock<HashMap<RingName, Watched<PlacedRing, RingError>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RingName {
    Account,
    Container,
    Object(u32),
}

/// A ring with the ids of the devices on this machine.
#[derive(Debug)]
struct PlacedRing {
    ring: Ring,
    local: HashSet<u32>,
}

/// A file's content as last read, and when it was last looked at.
#[derive(Debug)]
struct Watched<T, E> {
    content: Result<Arc<T>, Arc<E>>,
    stamp: Option<FileStamp>,
    looked: Instant,
}

// Not derived: that would ask for `T: Clone`.
impl<T, E> Clone for Watched<T, E> {
    fn clone(&self) -> Self {
        Self { content: self.content.clone(), stamp: self.stamp, looked: self.looked }
    }
}

/// One place where a replica lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its number among the primaries, as Swift counts them.
    pub index: u32,
    /// Its device.
    pub device: Arc<Device>,
    /// It is on this machine.
    pub is_local: bool,
}

/// Where an account or a container lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlace {
    /// The partition of the ring.
    pub partition: u32,
    /// The hash in lower-case hex, which names the folder on disk.
    pub hash: String,
    /// The primaries, in ring order.
    pub replicas: Vec<Replica>,
    /// How many primaries the ring names for this partition, removed ones included.
    pub nodes: u32,
}

impl ContainerPlace {
    /// The indexes of the replicas on this machine, ascending.
    pub fn local_indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.replicas.iter().filter(|replica| replica.is_local).map(|replica| replica.index)
    }
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The partition of the policy's ring.
    pub partition: u32,
    /// The primaries: those on this machine first, then the others, both in ring order.
    pub replicas: Vec<Replica>,
    /// Whether a replica is the object or a fragment of it.
    pub kind: PolicyKind,
}

/// Why a place is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopologyError {
    /// `swift.conf` cannot be used, and never could since the start.
    #[error("{}", chain(.0.as_ref()))]
    Conf(Arc<SwiftConfError>),
    /// A ring cannot be used, and never could since the start.
    #[error("{}", chain(.0.as_ref()))]
    Ring(Arc<RingError>),
    /// An object's storage policy is not in `swift.conf`.
    #[error("storage policy {0} is not in swift.conf")]
    UnknownPolicy(u32),
    /// The ring names no device for the partition.
    #[error("the {ring} ring names no device for partition {partition}")]
    NoDevice {
        /// Which ring.
        ring: String,
        /// The partition.
        partition: u32,
    },
}

impl SwiftTopology {
    /// A topology over the files of `swift_dir`; nothing is read yet.
    ///
    /// `bind` are the addresses that count as this machine; empty, or any unspecified address (`0.0.0.0`, `::`), means
    /// every address of every interface, as they are now.
    ///
    /// # Errors
    /// When the system does not tell its addresses.
    pub fn new(swift_dir: &Path, bind: &[IpAddr]) -> io::Result<Self> {
        Self::rechecking(swift_dir, bind, RECHECK)
    }

    fn rechecking(swift_dir: &Path, bind: &[IpAddr], recheck: Duration) -> io::Result<Self> {
        let addresses = if bind.is_empty() || bind.iter().any(IpAddr::is_unspecified) {
            interface_addresses()?
        } else {
            bind.iter().map(IpAddr::to_canonical).collect()
        };
        Ok(Self {
            shared: Arc::new(Shared {
                swift_dir: swift_dir.to_owned(),
                addresses,
                recheck,
                conf: RwLock::default(),
                rings: RwLock::default(),
            }),
        })
    }

    /// Where a container lies. May read files.
    ///
    /// # Errors
    /// [`TopologyError`], but never [`TopologyError::UnknownPolicy`].
    pub fn container(&self, account: &str, container: &str) -> Result<ContainerPlace, TopologyError> {
        self.place(RingName::Container, account, Some(container))
    }

    /// Where an account lies. May read files.
    ///
    /// # Errors
    /// As [`Self::container`].
    pub fn account(&self, account: &str) -> Result<ContainerPlace, TopologyError> {
        self.place(RingName::Account, account, None)
    }

    fn place(
        &self,
        name: RingName,
        account: &str,
        container: Option<&str>,
    ) -> Result<ContainerPlace, TopologyError> {
        let hash = &self.conf()?.hash;
        let placed = self.ring(name)?;
        let digest = hash.digest(account, container, None);
        let partition = placed.ring.partition_of_digest(&digest);
        let replicas = placed.replicas(name, partition)?;
        let nodes = placed.ring.replicas_of(partition);
        Ok(ContainerPlace { partition, hash: hex::encode(digest), replicas, nodes })
    }

    /// Where an object of a storage policy lies. May read files.
    ///
    /// # Errors
    /// [`TopologyError`].
    pub fn object(
        &self,
        policy_index: u32,
        account: &str,
        container: &str,
        object: &str,
    ) -> Result<ObjectPlace, TopologyError> {
        let conf = self.conf()?;
        let kind = conf.policy(policy_index).ok_or(TopologyError::UnknownPolicy(policy_index))?.kind;
        let name = RingName::Object(policy_index);
        let placed = self.ring(name)?;
        let partition = placed.ring.partition(account, Some(container), Some(object), &conf.hash);
        let mut replicas = placed.replicas(name, partition)?;
        replicas.sort_by_key(|replica| !replica.is_local);
        Ok(ObjectPlace { partition, replicas, kind })
    }

    /// The storage policies of the cluster.
    ///
    /// # Errors
    /// [`TopologyError::Conf`].
    pub fn policies(&self) -> Result<Vec<StoragePolicy>, TopologyError> {
        Ok(self.conf()?.policies.clone())
    }

    /// The salt of the cluster's hashes.
    ///
    /// # Errors
    /// [`TopologyError::Conf`].
    pub fn hash_path(&self) -> Result<HashPath, TopologyError> {
        Ok(self.conf()?.hash.clone())
    }

    /// Looks at every file that was needed so far, unless that happened a moment ago.
    ///
    /// For a blocking thread that calls this every second or so: lookups elsewhere then never read a file.
    pub fn refresh(&self) {
        // What goes wrong is logged, or reported by the lookup that needs it.
        let _ = self.conf();
        let names: Vec<RingName> =
            self.shared.rings.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for name in names {
            let _ = self.ring(name);
        }
    }

    /// Tells whether an address of a ring is this machine's.
    pub fn is_local(&self, device: &Device) -> bool {
        self.shared.is_local(device)
    }

    fn conf(&self) -> Result<Arc<SwiftConf>, TopologyError> {
        let shared = &*self.shared;
        let known = shared.conf.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.as_ref().filter(|known| known.looked.elapsed() < shared.recheck) {
            return known.content.clone().map_err(TopologyError::Conf);
        }
        // Read outside of the lock: others go on with what is known.
        let fresh = renewed(known, &shared.swift_dir.join("swift.conf"), SwiftConf::load);
        let content = fresh.content.clone();
        *shared.conf.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        content.map_err(TopologyError::Conf)
    }

    fn ring(&self, name: RingName) -> Result<Arc<PlacedRing>, TopologyError> {
        let shared = &*self.shared;
        let known = shared.rings.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.looked.elapsed() < shared.recheck) {
            return known.content.clone().map_err(TopologyError::Ring);
        }
        let fresh = renewed(known, &shared.swift_dir.join(format!("{name}.ring.gz")), |path| {
            let ring = Ring::load(path)?;
            let local = ring.devices().iter().flatten().filter(|device| shared.is_local(device));
            let local = local.map(|device| device.id).collect();
            Ok(PlacedRing { ring, local })
        });
        let content = fresh.content.clone();
        shared.rings.write().unwrap_or_else(PoisonError::into_inner).insert(name, fresh);
        content.map_err(TopologyError::Ring)
    }
}

impl Shared {
    fn is_local(&self, device: &Device) -> bool {
        if let Some(address) = device.address() {
            return self.addresses.contains(&address.to_canonical());
        }
        // Host names are rare in rings, and are looked up only when a ring is read.
        (device.ip.as_str(), device.port).to_socket_addrs().is_ok_and(|mut addresses| {
            addresses.any(|found| self.addresses.contains(&found.ip().to_canonical()))
        })
    }
}

impl PlacedRing {
    fn replicas(&self, name: RingName, partition: u32) -> Result<Vec<Replica>, TopologyError> {
        let replicas: Vec<Replica> = self
            .ring
            .primaries(partition)
            .into_iter()
            .map(|(index, device)| Replica {
                index,
                device: Arc::clone(device),
                is_local: self.local.contains(&device.id),
            })
            .collect();
        if replicas.is_empty() {
            return Err(TopologyError::NoDevice { ring: name.to_string(), partition });
        }
        Ok(replicas)
    }
}

impl std::fmt::Display for RingName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account => formatter.write_str("account"),
            Self::Container => formatter.write_str("container"),
            Self::Object(0) => formatter.write_str("object"),
            Self::Object(index) => write!(formatter, "object-{index}"),
        }
    }
}

/// What is in force after looking at a file: what was known, or its new content, or why there is none.
fn renewed<T, E: std::error::Error>(
    known: Option<Watched<T, E>>,
    path: &Path,
    load: impl FnOnce(&Path) -> Result<T, E>,
) -> Watched<T, E> {
    let looked = Instant::now();
    // Taken before reading: a file that is replaced meanwhile is then read again at the next look.
    let stamp = FileStamp::of(path).ok().flatten();
    let Some(known) = known else {
        return Watched { content: load(path).map(Arc::new).map_err(Arc::new), stamp, looked };
    };
    if known.stamp == stamp && (stamp.is_some() || known.content.is_ok()) {
        return Watched { looked, ..known };
    }
    let content = match load(path) {
        Ok(content) => Ok(Arc::new(content)),
        Err(error) if known.content.is_ok() => {
            tracing::warn!(path = %path.display(), error = %chain(&error), "keeping the old file in force");
            known.content
        }
        Err(error) => Err(Arc::new(error)),
    };
    Watched { content, stamp, looked }
}

/// The error and its cause in one line: whoever shows it shows one line only.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn interface_addresses() -> io::Result<HashSet<IpAddr>> {
    let mut addresses = HashSet::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else { continue };
        if let Some(address) = address.as_sockaddr_in() {
            addresses.insert(IpAddr::V4(address.ip()));
        } else if let Some(address) = address.as_sockaddr_in6() {
            addresses.insert(IpAddr::V6(address.ip()).to_canonical());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests;
