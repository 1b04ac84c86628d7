//! What the worker does at the moment, for those who report it: the feeds, and the mappings they are of.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

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
}

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

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
