//! What changes about a mapping while its feeds run: the operator's switches and the limits of the hour.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use swift_s3_policy::Rates;
use swift_s3_store::RateGate;
use tokio::sync::Semaphore;

use crate::valve::Held;

/// Shared by all feeds of one mapping.
#[derive(Debug)]
pub struct MappingState {
    /// Names the mapping towards operators.
    pub id: String,
    /// Bytes and requests per second.
    pub gate: Arc<RateGate>,
    paused: AtomicBool,
    released_at: AtomicU64,
    /// Whose deletes are held, by database file.
    held: Mutex<HashMap<PathBuf, Held>>,
    permits: ArcSwap<(Option<u32>, Arc<Semaphore>)>,
}

impl MappingState {
    /// A mapping that is not paused and has no limits.
    #[must_use]
    pub fn new(id: String) -> Self {
        Self {
            id,
            gate: Arc::new(RateGate::new(Rates::default())),
            paused: AtomicBool::new(false),
            released_at: AtomicU64::new(0),
            held: Mutex::default(),
            permits: ArcSwap::from_pointee((None, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)))),
        }
    }

    /// True while nothing is to be carried.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Pauses or resumes. True when that is a change.
    pub fn set_paused(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::AcqRel) != paused
    }

    /// Deletes that were held before this time may go; in seconds since the epoch, 0 for none.
    #[must_use]
    pub fn released_at(&self) -> u64 {
        self.released_at.load(Ordering::Acquire)
    }

    /// Lets deletes go that were held before `at`. True when that is news.
    pub fn set_released_at(&self, at: u64) -> bool {
        self.released_at.fetch_max(at, Ordering::AcqRel) < at
    }

    /// What is held of a database, by whatever feed found it.
    #[must_use]
    pub fn held(&self, database: &Path) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(database).cloned()
    }

    /// Remembers what is held of a database for the feed that comes after this one.
    pub fn set_held(&self, database: &Path, held: Option<Held>) {
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held {
            Some(held) => {
                known.insert(database.to_owned(), held);
            }
            None => {
                known.remove(database);
            }
        }
    }

    /// Puts limits in force, also for transfers under way, except for the number of them: those go on.
    pub fn set_rates(&self, rates: Rates) {
        self.gate.set(rates);
        if self.permits.load().0 != rates.concurrency {
            let permits = rates.concurrency.map_or(Semaphore::MAX_PERMITS, |most| most as usize);
            self.permits.store(Arc::new((rates.concurrency, Arc::new(Semaphore::new(permits)))));
        }
    }

    /// Bounds the rows of this mapping in flight.
    #[must_use]
    pub fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits.load().1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_news_once_and_never_goes_back() {
        let state = MappingState::new("id".into());
        assert!(state.set_released_at(10));
        assert!(!state.set_released_at(10) && !state.set_released_at(9));
        assert_eq!(state.released_at(), 10);
    }

    #[test]
    fn concurrency_follows_the_limit() {
        let state = MappingState::new("id".into());
        state.set_rates(Rates { concurrency: Some(2), ..Rates::default() });
        assert_eq!(state.permits().available_permits(), 2);
        state.set_rates(Rates::default());
        assert!(state.permits().available_permits() > 1_000_000);
    }
}
