//! What the worker does at the moment, for those who report it: the feeds, and the mappings they are of.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use swift_s3_store::Meter;
use tokio::sync::Semaphore;

use crate::feed::Feed;
use crate::mapping_state::MappingState;

/// Written by the scheduler, read by whoever reports.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    feeds: HashMap<u64, Arc<Feed>>,
    next: u64,
    mappings: BTreeMap<String, Arc<MappingState>>,
    /// Why mappings cannot be served, by id.
    problems: BTreeMap<String, String>,
    /// What goes wrong beside the copying, by mapping id and by what it is about.
    troubles: BTreeMap<(String, String), String>,
    /// Where objects take a place while they are carried, and how many places there are.
    places: Vec<(Arc<Semaphore>, usize)>,
    /// What is asked of remotes, by mapping id. Those of mappings that are gone stay: their last requests are to be told too.
    meters: BTreeMap<String, Arc<Meter>>,
}

/// Troubles that are shown at most: one for every lifecycle rule that a bucket may have.
const MAX_TROUBLES: usize = 1000;

/// Mappings that are counted for in the life of a process. What is asked for later ones is not told.
const MAX_METERS: usize = 100_000;

/// A feed's place on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Board {
    /// Shows a feed.
    pub fn add(&self, feed: &Arc<Feed>) -> Place {
        let mut state = self.lock();
        state.next += 1;
        let place = state.next;
        state.feeds.insert(place, Arc::clone(feed));
        Place(place)
    }

    /// Takes a feed down.
    pub fn remove(&self, place: Place) {
        self.lock().feeds.remove(&place.0);
    }

    /// Every feed, in no particular order.
    #[must_use]
    pub fn feeds(&self) -> Vec<Arc<Feed>> {
        self.lock().feeds.values().cloned().collect()
    }

    /// How many feeds there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().feeds.len()
    }

    /// The state of a mapping, made when it is first asked for.
    pub fn mapping(&self, id: &str) -> Arc<MappingState> {
        let mut state = self.lock();
        let mapping =
            state.mappings.entry(id.to_owned()).or_insert_with(|| Arc::new(MappingState::new(id.to_owned())));
        Arc::clone(mapping)
    }

    /// All mappings.
    #[must_use]
    pub fn mappings(&self) -> Vec<Arc<MappingState>> {
        self.lock().mappings.values().cloned().collect()
    }

    /// Forgets mappings that are not in `ids`.
    pub fn retain_mappings(&self, ids: &[String]) {
        let mut state = self.lock();
        state.mappings.retain(|id, _| ids.contains(id));
        state.problems.retain(|id, _| ids.contains(id));
        state.troubles.clear();
    }

    /// Replaces what is wrong with mappings.
    pub fn set_problems(&self, problems: BTreeMap<String, String>) {
        self.lock().problems = problems;
    }

    /// Why mappings cannot be served, by id.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<String, String> {
        self.lock().problems.clone()
    }

    /// Notes what goes wrong beside the copying with `subject` of a mapping, or that nothing does. True when that is news.
    pub fn set_trouble(&self, id: &str, subject: &str, trouble: Option<&str>) -> bool {
        let troubles = &mut self.lock().troubles;
        let name = (id.to_owned(), subject.to_owned());
        match trouble {
            None => troubles.remove(&name).is_some(),
            Some(trouble) if troubles.get(&name).is_some_and(|known| known == trouble) => false,
            Some(_) if troubles.len() >= MAX_TROUBLES && !troubles.contains_key(&name) => true,
            Some(trouble) => {
                troubles.insert(name, trouble.to_owned());
                true
            }
        }
    }

    /// One trouble of each mapping that has any, by id.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<String, String> {
        let state = self.lock();
        state.troubles.iter().rev().map(|((id, _), trouble)| (id.clone(), trouble.clone())).collect()
    }

    /// Counts what is asked of a mapping's remote, from the first time it is asked for on.
    #[must_use]
    pub fn meter(&self, id: &str) -> Arc<Meter> {
        let mut state = self.lock();
        if let Some(meter) = state.meters.get(id) {
            return Arc::clone(meter);
        }
        let meter = Arc::<Meter>::default();
        if state.meters.len() < MAX_METERS {
            state.meters.insert(id.to_owned(), Arc::clone(&meter));
        }
        meter
    }

    /// All that count, by mapping id.
    #[must_use]
    pub fn meters(&self) -> Vec<(String, Arc<Meter>)> {
        self.lock().meters.iter().map(|(id, meter)| (id.clone(), Arc::clone(meter))).collect()
    }

    /// Replaces where objects take a place while they are carried, each with the number of its places.
    pub fn show_places(&self, places: Vec<(Arc<Semaphore>, usize)>) {
        self.lock().places = places;
    }

    /// How many objects are being carried, and how many there can be at a time.
    #[must_use]
    pub fn transfers(&self) -> (usize, usize) {
        let state = self.lock();
        let taken =
            |(places, most): &(Arc<Semaphore>, usize)| most.saturating_sub(places.available_permits());
        (state.places.iter().map(taken).sum(), state.places.iter().map(|(_, most)| most).sum())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
