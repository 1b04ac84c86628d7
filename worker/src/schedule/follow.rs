//! Brings the feeds in line with the configuration and with the databases that are there.

use swift_s3_policy::CoordinationChoice as Choice;
use swift_s3_store::{Limited, ObjectStore, Permission};

use super::*;
use crate::coordination::plan::{HomeDevice, PlaceId, ShareId};
use crate::coordination::{Mode, Regime, View, Wish};
use crate::feed::{self, Source};
use crate::mapping_state::MappingState;

impl Scheduler {
    /// Looks for databases and brings the feeds in line with what is there.
    pub(super) async fn discover(&mut self) {
        let (metrics, due) = (self.shared.metrics.clone(), self.due.len());
        let progress = move || metrics.turned(due);
        let discovered = self.discovery.look(&Arc::clone(&self.config), &progress).await;
        let mut problems: BTreeSet<String> = discovered.problems.iter().cloned().collect();
        let mut wanted: HashSet<FeedKey> = HashSet::with_capacity(discovered.found.len());
        let complete = discovered.listings.values().all(Option::is_some) && problems.is_empty();
        let mut unserved = BTreeMap::new();
        let view = self.coordination.view();
        self.view = Arc::clone(&view);
        if self.regime != view.regime.as_ref().map(|regime| regime.serial) {
            // Stores send only with the permission of the regime that they were opened under.
            self.regime = view.regime.as_ref().map(|regime| regime.serial);
            self.routes.clear();
        }
        for found in &discovered.found {
            progress();
            match self.follow(found, &view, &wanted).await {
                Ok(Some(key)) => {
                    wanted.insert(key);
                }
                // It is not known yet who handles which of its names.
                Ok(None) => {}
                Err(problem) => {
                    if let Some(id) = self.mapping_ids.get(found.mapping) {
                        unserved.insert(id.clone(), problem.clone());
                    }
                    problems.insert(problem);
                }
            }
        }
        self.board.set_problems(unserved);
        self.keep_expirations();
        self.note_problems(problems);
        let gone: Vec<FeedKey> = self.entries.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in gone {
            self.retire(&key);
        }
        self.tell_what_is_here(&discovered);
        self.note_containers(&discovered, complete);
        if let Some(watcher) = &mut self.watcher {
            for folder in self.by_folder.keys() {
                watcher.add(folder);
            }
            let by_folder = &self.by_folder;
            watcher.retain(|folder| by_folder.contains_key(folder));
        }
    }

    /// Tells problems once, when they begin, and when they are over.
    fn note_problems(&mut self, problems: BTreeSet<String>) {
        for problem in problems.difference(&self.known_problems) {
            tracing::error!("{problem}");
        }
        if problems.is_empty() && !self.known_problems.is_empty() {
            tracing::info!("the problems with finding containers are over");
        }
        self.once_failed |= !problems.is_empty();
        self.known_problems = problems;
    }

    fn note_containers(&mut self, discovered: &Discovered, complete: bool) {
        for (account, listing) in &discovered.listings {
            let Some(listing) = listing else { continue };
            if self.known_containers.get(account) != Some(listing) {
                self.known_containers.insert(account.clone(), listing.clone());
                self.prune = true;
            }
        }
        // Nothing is removed on the word of a look that did not see everything.
        self.prune &= complete;
    }

    /// Tells who shares the work out what there is on this machine.
    fn tell_what_is_here(&self, discovered: &Discovered) {
        if !self.coordination.is_shared() {
            return;
        }
        let mut devices = BTreeSet::new();
        let mut places = HashMap::new();
        for found in &discovered.found {
            let place = &found.source.place;
            let local = place.replicas.iter().filter(|replica| replica.is_local);
            devices.extend(local.map(|replica| HomeDevice::of(&replica.device)));
            places.entry(PlaceId::of(place)).or_insert_with(|| {
                let replicas = place.replicas.iter();
                replicas.map(|replica| (replica.index, HomeDevice::of(&replica.device))).collect::<Vec<_>>()
            });
        }
        let (is_explicit, in_use) = (self.config.coordination != Choice::Implicit, self.shares_in_use());
        self.coordination.wish(|wish| {
            let new = Wish { is_explicit, devices, places: Arc::new(places), in_use: Arc::new(in_use) };
            let is_new = *wish != new;
            *wish = new;
            is_new
        });
    }

    /// True when feeds are to be brought in line with what is in force now.
    pub(super) fn is_other_view(&self) -> bool {
        !self.view.owns_the_same(&self.coordination.view())
    }

    fn shares_in_use(&self) -> HashSet<ShareId> {
        let sources = self.entries.values().map(|entry| &entry.feed.source);
        let shares = |source: &Source| {
            let place = PlaceId::of(&source.place);
            source.own.clone().into_iter().map(move |index| ShareId { place, index })
        };
        sources.flat_map(shares).collect()
    }

    /// Makes sure that a database is followed; answers its key. `None`: it cannot be said yet whose names are this worker's.
    async fn follow(
        &mut self,
        found: &Found,
        view: &View,
        followed: &HashSet<FeedKey>,
    ) -> Result<Option<FeedKey>, String> {
        let Some((regime, own)) = view.regime.clone().zip(view.own(&found.source.place)) else {
            return Ok(None);
        };
        let source = Source { own, ..found.source.clone() };
        let mapping = self.config.mappings.get(found.mapping).cloned().ok_or("a mapping went away")?;
        let identity = self.identity(&mapping, found);
        let key = (identity.clone(), found.container.clone(), found.source.database.clone());
        if followed.contains(&key) {
            // Two mappings that do the same to one container: the first of them does it.
            return Ok(Some(key));
        }
        let id = self.mapping_ids.get(found.mapping).cloned().ok_or("a mapping went away")?;
        let state = self.board.mapping(&id);
        let (remote, route) = self.route(&mapping, &identity, &found.container, &state, &regime).await?;
        if let Some(entry) = self.entries.get(&key) {
            let same = Arc::ptr_eq(&entry.feed.remote, &remote)
                && entry.feed.mapping.id == id
                && entry.feed.route.mapping.delete_limit == mapping.delete_limit
                && entry.feed.route.mapping.remote == mapping.remote
                && entry.feed.regime.serial == regime.serial
                && entry.feed.source.own == source.own
                && entry.feed.source.place == source.place;
            if same && !entry.retired {
                return Ok(Some(key));
            }
            if entry.running {
                // A long transfer must not keep shares waiting: those that are let go, and those that have come.
                let is_other_share =
                    entry.feed.regime.serial != regime.serial || entry.feed.source.own != source.own;
                if is_other_share && regime.mode == Mode::Explicit {
                    entry.feed.give_way();
                }
                self.retire(&key);
                // The next look puts the new one in its place, when the old pass has ended.
                return Ok(Some(key));
            }
            self.remove(&key);
        }
        let (status, account, container) =
            (Arc::clone(&self.status), mapping.account.clone(), found.container.clone());
        let file = tokio::task::spawn_blocking(move || status.file(&account, &container))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| {
                format!("could not read the status file of {}/{}: {error}", mapping.account, found.container)
            })?;
        let sole = self.sole.contains(&found.mapping);
        let memory = match &self.link {
            Some(link) => Memory::Control(ControlMemory::new(link.clone(), file)),
            None => Memory::Files(file),
        };
        let records = self.coordination.records().filter(|_| regime.mode == Mode::Explicit).cloned();
        let feed = Arc::new(Feed::new(feed::Parts {
            route,
            remote,
            identity,
            source,
            sole,
            mapping: state,
            memory,
            regime,
            records,
        }));
        let place = self.board.add(&feed);
        if let Some(folder) = feed.source.pending.parent() {
            self.by_folder.entry(folder.to_owned()).or_default().push(key.clone());
        }
        let entry = Entry { feed, running: false, due: None, last_start: None, retired: false, place };
        self.entries.insert(key.clone(), entry);
        if !self.settings.once {
            self.schedule(&key, Instant::now());
        }
        Ok(Some(key))
    }

    /// The mapping's identity for a container: a digest, so it is made once per configuration.
    fn identity(&mut self, mapping: &Mapping, found: &Found) -> String {
        let of_mapping = self.identities.entry(found.mapping).or_default();
        if let Some(identity) = of_mapping.get(&found.container) {
            return identity.clone();
        }
        let identity = mapping.identity(&found.container);
        of_mapping.insert(found.container.clone(), identity.clone());
        identity
    }

    async fn route(
        &mut self,
        mapping: &Arc<Mapping>,
        identity: &str,
        container: &str,
        state: &MappingState,
        regime: &Arc<Regime>,
    ) -> Result<(Arc<RemoteStore>, Arc<Route>), String> {
        let name = (identity.to_owned(), container.to_owned());
        if let Some((remote, route)) = self.routes.get(&name) {
            return Ok((Arc::clone(remote), Arc::clone(route)));
        }
        let proxies = (self.config.http_proxy.as_deref(), self.config.https_proxy.as_deref());
        let remote = self
            .remotes
            .open(&mapping.remote, proxies, self.config.workers)
            .await
            .map_err(|error| format!("{} cannot be served: {error}", mapping.path))?;
        let gates = vec![Arc::clone(&state.gate), Arc::clone(&self.cluster_gate)];
        let limited = Limited::new(Arc::clone(&remote.store), gates).metered(self.board.meter(&state.id));
        let store: Arc<dyn ObjectStore> = match regime.mode {
            Mode::Explicit => Arc::new(limited.permitted(Arc::clone(regime) as Arc<dyn Permission>)),
            Mode::Implicit | Mode::Fallback => Arc::new(limited),
        };
        let route = Arc::new(Route::new(Arc::clone(mapping), container, store, &self.counters));
        self.expirations.wish(&state.id, &remote, &route, &self.config);
        self.routes.insert(name, (Arc::clone(&remote), Arc::clone(&route)));
        Ok((remote, route))
    }

    pub(super) fn retire(&mut self, key: &FeedKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.retired = true;
        entry.feed.retire();
        if !entry.running {
            self.remove(key);
        }
    }

    pub(super) fn remove(&mut self, key: &FeedKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.board.remove(entry.place);
        let database = entry.feed.view().database;
        if self.link.is_some() && !database.is_empty() && self.past.len() < MAX_PAST {
            self.past.push(entry.feed.name(&database));
            self.prune = true;
        }
        if self.coordination.is_shared() && self.past_records.len() < MAX_PAST {
            self.past_records.push((entry.feed.name(""), entry.feed.record_name()));
        }
        entry.feed.close();
        if let Some(at) = entry.due {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(folder) = entry.feed.source.pending.parent()
            && let Some(keys) = self.by_folder.get_mut(folder)
        {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_folder.remove(folder);
            }
        }
    }
}

/// The mappings that are the only ones of their container with their bucket's name: cursors of the original, which knew
/// buckets by name only, can be trusted for them.
pub(super) fn sole_targets(config: &SyncConfig) -> HashSet<usize> {
    let mut by_target: HashMap<(&str, &str), Vec<(usize, &ContainerSelector)>> = HashMap::new();
    for (index, mapping) in config.mappings.iter().enumerate() {
        let target = (mapping.account.as_str(), mapping.remote.bucket());
        by_target.entry(target).or_default().push((index, &mapping.container));
    }
    let mut sole = HashSet::new();
    for group in by_target.values() {
        if let [(index, _)] = group.as_slice() {
            sole.insert(*index);
            continue;
        }
        if group.iter().any(|(_, container)| **container == ContainerSelector::All) {
            continue;
        }
        let mut by_container: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, container) in group {
            if let ContainerSelector::One(container) = container {
                by_container.entry(container).or_default().push(*index);
            }
        }
        sole.extend(by_container.values().filter(|indexes| indexes.len() == 1).flatten());
    }
    sole
}
