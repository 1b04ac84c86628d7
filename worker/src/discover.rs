//! Which container databases on this machine belong to which mapping.
//!
//! Mappings name containers; `/*` mappings name all containers of an account, which an account server lists. A container that
//! is split is followed through its shards, which the root itself names, so that shards of a sibling with a similar name are never touched.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swift_s3_policy::{ContainerSelector, SyncConfig};
use tokio::time::Instant;

use crate::feed::Source;
use crate::swift::container_db::{ContainerDb, OwnRange, locate};
use crate::swift::container_server::ContainerServers;
use crate::swift::file_stamp::FileStamp;
use crate::swift::topology::{ContainerPlace, SwiftTopology};

/// Account servers are asked for a page of this many names.
const LISTING_PAGE: u32 = 10_000;
/// Containers whose databases are looked for at once, in a blocking thread.
const LOCATED_AT_ONCE: usize = 1_000;
/// An account is listed again after this long at the earliest: a listing costs the account server more than a poll costs us.
const LISTING_INTERVAL: Duration = Duration::from_secs(10);
/// Containers whose root is on other machines are asked for shards this often.
const REMOTE_SHARDS_INTERVAL: Duration = Duration::from_secs(60);

/// Is called now and then by what takes long.
pub type Progress<'a> = &'a (dyn Fn() + Send + Sync);

/// A database to follow for a mapping.
#[derive(Clone, Debug)]
pub struct Found {
    /// Index of the mapping in the configuration.
    pub mapping: usize,
    /// The container as users see it.
    pub container: String,
    /// The database.
    pub source: Source,
}

/// The outcome of one look.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Databases to follow.
    pub found: Vec<Found>,
    /// The containers of each account with a `/*` mapping; `None` when they could not all be listed.
    pub listings: BTreeMap<String, Option<HashSet<String>>>,
    /// What could not be looked at.
    pub problems: Vec<String>,
}

/// Looks for databases, and remembers what it saw so that the next look costs little.
#[derive(Debug)]
pub struct Discovery {
    topology: SwiftTopology,
    servers: ContainerServers,
    locator: Arc<Mutex<Locator>>,
    listings: HashMap<String, (Instant, HashSet<String>)>,
    remote_shards: HashMap<(String, String), (Instant, Vec<Name>)>,
}

/// An account and a container.
type Name = (String, String);

impl Discovery {
    /// Nothing has been looked at yet.
    #[must_use]
    pub fn new(devices: &Path, topology: SwiftTopology, servers: ContainerServers) -> Self {
        let locator =
            Locator { devices: devices.to_owned(), topology: topology.clone(), seen: HashMap::new() };
        Self {
            topology,
            servers,
            locator: Arc::new(Mutex::new(locator)),
            listings: HashMap::new(),
            remote_shards: HashMap::new(),
        }
    }

    /// Finds what `config` asks for. Calls `progress` on its way, which may take minutes.
    pub async fn look(&mut self, config: &SyncConfig, progress: Progress<'_>) -> Discovered {
        let mut discovered = Discovered::default();
        let mut wanted: Vec<(usize, String)> = Vec::new();
        for (index, mapping) in config.mappings.iter().enumerate() {
            match &mapping.container {
                ContainerSelector::One(container) => wanted.push((index, container.clone())),
                ContainerSelector::All => {
                    let listing = self.list(&mapping.account, &mut discovered.problems, progress).await;
                    // A listing that failed leaves what is known already in place.
                    let names = listing.clone().or_else(|| self.known_listing(&mapping.account));
                    discovered.listings.insert(mapping.account.clone(), listing);
                    wanted.extend(names.into_iter().flatten().map(|container| (index, container)));
                }
            }
        }
        let names: Vec<Name> = wanted
            .iter()
            .filter_map(|(index, container)| {
                config.mappings.get(*index).map(|mapping| (mapping.account.clone(), container.clone()))
            })
            .collect();
        let located = self.locate(names.clone(), &mut discovered.problems, progress).await;
        let mut shards: Vec<(usize, String, Vec<Name>)> = Vec::new();
        for (((mapping, container), name), place) in wanted.into_iter().zip(names).zip(located) {
            match place {
                Located::Here { sources, shards: children } => {
                    discovered.found.extend(sources.into_iter().map(|source| Found {
                        mapping,
                        container: container.clone(),
                        source,
                    }));
                    if !children.is_empty() {
                        shards.push((mapping, container, children));
                    }
                }
                Located::Elsewhere => {
                    let children = self.shards_of_remote_root(&name, &mut discovered.problems).await;
                    progress();
                    if !children.is_empty() {
                        shards.push((mapping, container, children));
                    }
                }
            }
        }
        for (mapping, container, children) in shards {
            for place in self.locate(children, &mut discovered.problems, progress).await {
                if let Located::Here { sources, .. } = place {
                    discovered.found.extend(sources.into_iter().map(|source| Found {
                        mapping,
                        container: container.clone(),
                        source,
                    }));
                }
            }
        }
        discovered
    }

    fn known_listing(&self, account: &str) -> Option<HashSet<String>> {
        self.listings.get(account).map(|(_, names)| names.clone())
    }

    /// Every container of an account, or `None` when not all could be listed.
    async fn list(
        &mut self,
        account: &str,
        problems: &mut Vec<String>,
        progress: Progress<'_>,
    ) -> Option<HashSet<String>> {
        if let Some((at, names)) = self.listings.get(account)
            && at.elapsed() < LISTING_INTERVAL
        {
            return Some(names.clone());
        }
        let mut names = HashSet::new();
        let mut marker = String::new();
        loop {
            progress();
            match self.servers.list_containers(account, &marker, LISTING_PAGE).await {
                Ok(page) => {
                    let Some(last) = page.last().cloned() else { break };
                    // A server that repeats itself must not hold us for ever.
                    if last <= marker {
                        break;
                    }
                    marker = last;
                    names.extend(page);
                }
                Err(error) => {
                    problems.push(format!("could not list the containers of {account}: {error}"));
                    return None;
                }
            }
        }
        self.listings.insert(account.to_owned(), (Instant::now(), names.clone()));
        Some(names)
    }

    async fn locate(
        &self,
        names: Vec<Name>,
        problems: &mut Vec<String>,
        progress: Progress<'_>,
    ) -> Vec<Located> {
        let mut located = Vec::with_capacity(names.len());
        for some in names.chunks(LOCATED_AT_ONCE) {
            progress();
            located.extend(self.locate_some(some.to_vec(), problems).await);
        }
        located
    }

    async fn locate_some(&self, names: Vec<Name>, problems: &mut Vec<String>) -> Vec<Located> {
        let locator = Arc::clone(&self.locator);
        let count = names.len();
        let located = tokio::task::spawn_blocking(move || {
            let mut locator = locator.lock().unwrap_or_else(PoisonError::into_inner);
            // Here, where reading files may take its time, so that lookups elsewhere do not have to.
            locator.topology.refresh();
            let mut problems = Vec::new();
            let located: Vec<Located> = names
                .iter()
                .map(|(account, container)| locator.locate(account, container, &mut problems))
                .collect();
            (located, problems)
        })
        .await;
        match located {
            Ok((located, found)) => {
                problems.extend(found);
                located
            }
            Err(error) => {
                problems.push(format!("could not look for databases: {error}"));
                (0..count).map(|_| Located::nothing()).collect()
            }
        }
    }

    /// Shards may lie on this machine although their root does not.
    async fn shards_of_remote_root(&mut self, name: &Name, problems: &mut Vec<String>) -> Vec<Name> {
        if let Some((at, shards)) = self.remote_shards.get(name)
            && at.elapsed() < REMOTE_SHARDS_INTERVAL
        {
            return shards.clone();
        }
        let (account, container) = name;
        let known = self.remote_shards.get(name).map(|(_, shards)| shards.clone()).unwrap_or_default();
        let shards = match self.topology.container(account, container) {
            Ok(place) => match self.servers.shard_ranges(&place, account, container).await {
                Ok(Some(listing)) => {
                    listing.ranges.into_iter().map(|range| (range.account, range.container)).collect()
                }
                Ok(None) => Vec::new(),
                Err(error) => {
                    problems.push(format!("could not ask for the shards of {account}/{container}: {error}"));
                    known
                }
            },
            Err(error) => {
                problems.push(format!("could not find {account}/{container} in the ring: {error}"));
                known
            }
        };
        self.remote_shards.insert(name.clone(), (Instant::now(), shards.clone()));
        shards
    }
}

/// Where a container is, seen from here.
#[derive(Clone, Debug)]
enum Located {
    /// A primary replica is on this machine, though perhaps without any file yet.
    Here { sources: Vec<Source>, shards: Vec<Name> },
    /// All its replicas are on other machines.
    Elsewhere,
}

impl Located {
    fn nothing() -> Self {
        Self::Here { sources: Vec::new(), shards: Vec::new() }
    }
}

#[derive(Debug)]
struct Locator {
    devices: PathBuf,
    topology: SwiftTopology,
    seen: HashMap<Name, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Folder of the database with its stamp: files come and go in it only when it changes.
    folders: Vec<(PathBuf, Option<FileStamp>)>,
    place: ContainerPlace,
    sources: Vec<Source>,
    /// The newest database of a split container, and what it said.
    root: Option<(PathBuf, Option<FileStamp>)>,
    shards: Vec<Name>,
}

impl Locator {
    fn locate(&mut self, account: &str, container: &str, problems: &mut Vec<String>) -> Located {
        let place = match self.topology.container(account, container) {
            Ok(place) => place,
            Err(error) => {
                problems.push(error.to_string());
                return Located::nothing();
            }
        };
        let own: Vec<u32> = place.local_indexes().collect();
        if own.is_empty() {
            return Located::Elsewhere;
        }
        let name = (account.to_owned(), container.to_owned());
        if let Some(seen) = self.seen.get_mut(&name)
            && seen.place == place
            && seen.folders.iter().all(|(folder, stamp)| stamp_of(folder) == *stamp)
        {
            seen.refresh_shards(problems);
            return Located::Here { sources: seen.sources.clone(), shards: seen.shards.clone() };
        }
        let mut seen = Seen {
            folders: Vec::new(),
            place: place.clone(),
            sources: Vec::new(),
            root: None,
            shards: Vec::new(),
        };
        let mut failed = false;
        for replica in place.replicas.iter().filter(|replica| replica.is_local) {
            let suffix = place.hash.get(place.hash.len().saturating_sub(3)..).unwrap_or_default();
            let folder = self
                .devices
                .join(&replica.device.device)
                .join("containers")
                .join(place.partition.to_string())
                .join(suffix)
                .join(&place.hash);
            // Stamped before it is listed: what comes afterwards is then seen by the next look.
            let stamp = stamp_of(&folder);
            match locate(&self.devices, &replica.device.device, place.partition, &place.hash) {
                Ok(files) if seen.sources.is_empty() => {
                    seen.root = files
                        .files
                        .iter()
                        .rfind(|file| file.epoch.is_some())
                        .map(|file| (file.path.clone(), None));
                    seen.sources = files
                        .files
                        .iter()
                        .map(|file| Source {
                            account: account.to_owned(),
                            container: container.to_owned(),
                            place: place.clone(),
                            database: file.path.clone(),
                            pending: files.pending.clone(),
                            own: own.clone(),
                        })
                        .collect();
                }
                Ok(_) => {}
                Err(error) => {
                    failed = true;
                    problems
                        .push(format!("could not look for the database of {account}/{container}: {error}"));
                }
            }
            seen.folders.push((folder, stamp));
        }
        seen.refresh_shards(problems);
        let located = Located::Here { sources: seen.sources.clone(), shards: seen.shards.clone() };
        // What could not be read is looked at again next time.
        if failed {
            self.seen.remove(&name);
        } else {
            self.seen.insert(name, seen);
        }
        located
    }
}

impl Seen {
    /// Asks the root for its shards when it has changed.
    fn refresh_shards(&mut self, problems: &mut Vec<String>) {
        let Some((path, known)) = &mut self.root else { return };
        let stamp = stamp_of(path);
        if stamp.is_some() && stamp == *known {
            return;
        }
        match ContainerDb::open_read_only(path).and_then(|database| database.shard_ranges(OwnRange::Exclude))
        {
            Ok(ranges) => {
                *known = stamp;
                self.shards = ranges
                    .ranges
                    .into_iter()
                    .filter(|range| !range.deleted)
                    .map(|range| (range.account, range.container))
                    .collect();
            }
            Err(error) => {
                problems.push(format!("could not read the shard ranges in {}: {error}", path.display()))
            }
        }
    }
}

fn stamp_of(path: &Path) -> Option<FileStamp> {
    FileStamp::of(path).ok().flatten()
}
