//! Rows of large objects leave the places that rows have, and queue for places of their own: hours of upload must not keep small objects
//! waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A large object of more bytes changes lanes. Up to here it takes no longer than a few plain objects.
pub(crate) const LARGE_FROM: u64 = 64 << 20;
/// Rows of one feed that have changed lanes, working or waiting. One that waits holds its name and no content.
pub(crate) const MAX_APART: usize = 256;

/// The place of one row.
#[derive(Clone, Debug)]
pub(crate) struct Lane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Given back at the latest when the row is done.
    held: Mutex<Vec<OwnedSemaphorePermit>>,
    of_mapping: Arc<Semaphore>,
    /// Rows of the feed that have changed lanes.
    apart: Arc<AtomicUsize>,
    is_apart: std::sync::atomic::AtomicBool,
}

impl Lane {
    /// A row that holds `held`; of these, places of its mapping are in `of_mapping`.
    pub(crate) fn new(
        held: Vec<OwnedSemaphorePermit>,
        of_mapping: Arc<Semaphore>,
        apart: Arc<AtomicUsize>,
    ) -> Self {
        Self(Arc::new(Inner { held: Mutex::new(held), of_mapping, apart, is_apart: false.into() }))
    }

    /// Gives the row's place back and waits for one of `large`. At once where that was done already.
    pub(crate) async fn change(&self, large: &Arc<Semaphore>) {
        if self.0.is_apart.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.apart.fetch_add(1, Ordering::AcqRel);
        self.hold(Vec::new());
        // Never closed; without a permit there would merely be no bound. The mapping's limit holds for large objects too, and comes last:
        // its small rows need not wait while this one only waits for its turn.
        let turn = Arc::clone(large).acquire_owned().await;
        let of_mapping = Arc::clone(&self.0.of_mapping).acquire_owned().await;
        self.hold(turn.into_iter().chain(of_mapping).collect());
    }

    fn hold(&self, permits: Vec<OwnedSemaphorePermit>) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = permits;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.is_apart.get_mut() {
            self.apart.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_row_that_changes_lanes_gives_its_place_to_others() {
        let (rows, large) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let (mapping, apart) = (Arc::new(Semaphore::new(9)), Arc::new(AtomicUsize::new(0)));
        let held = vec![Arc::clone(&rows).acquire_owned().await.unwrap()];
        let lane = Lane::new(held, Arc::clone(&mapping), Arc::clone(&apart));
        lane.change(&large).await;
        lane.change(&large).await;
        assert_eq!((rows.available_permits(), large.available_permits()), (1, 0));
        assert_eq!(apart.load(Ordering::Relaxed), 1);
        let second = Lane::new(Vec::new(), mapping, Arc::clone(&apart));
        let waiting = second.clone();
        let queue = Arc::clone(&large);
        let task = tokio::spawn(async move { waiting.change(&queue).await });
        tokio::task::yield_now().await;
        assert!(!task.is_finished(), "the lane is full");
        drop(lane);
        task.await.unwrap();
        drop(second);
        assert_eq!((large.available_permits(), apart.load(Ordering::Relaxed)), (1, 0));
    }
}
