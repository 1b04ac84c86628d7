//! A value that takes a while to make and is asked for again and again: made by one for all, used again for a time in proportion
//! to what it cost, and made beside those who can do with the last one.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::store::StoreError;

/// A value is used again for so many times what it cost.
const REUSE_FACTOR: u32 = 10;
/// Who could do with the last value waits so long for the next one.
const PATIENCE: Duration = Duration::from_millis(50);

/// How old a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// However many ask, it is made anew only so often.
    pub(crate) shortest: Duration,
    /// When it is older, it is made anew, whatever it cost.
    pub(crate) longest: Duration,
    /// When it is older, those who ask wait for the next one.
    pub(crate) oldest: Duration,
}

/// The latest value, and the next one.
pub(crate) struct Refreshed<T> {
    terms: Terms,
    state: Arc<Mutex<State<T>>>,
}

type Making<T> = Shared<BoxFuture<'static, Result<Arc<T>, StoreError>>>;

struct State<T> {
    latest: Option<Made<T>>,
    making: Option<Making<T>>,
}

struct Made<T> {
    value: Arc<T>,
    at: Instant,
    cost: Duration,
}

impl<T> std::fmt::Debug for Refreshed<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Refreshed").field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Refreshed<T> {
    pub(crate) fn new(terms: Terms) -> Self {
        let state = State { latest: None, making: None };
        Self { terms, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that `is_current`: the last one, or the next. `make`, which gets the last value, however old, makes one of what
    /// is so when it is called, so that the second one that is made from now on must be current.
    ///
    /// # Errors
    /// As `make` has them.
    ///
    /// # Cancel safety
    /// What is being made is made to its end, for others.
    pub(crate) async fn get<F>(
        &self,
        is_current: impl Fn(&T) -> bool,
        make: impl Fn(Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        loop {
            let (making, last) = {
                let mut state = self.lock();
                let last = state.latest.as_ref().filter(|made| is_current(&made.value));
                let age = last.map(|made| made.at.elapsed());
                if let (Some(made), Some(age)) = (last, age)
                    && age
                        < made
                            .cost
                            .saturating_mul(REUSE_FACTOR)
                            .clamp(self.terms.shortest, self.terms.longest)
                {
                    return Ok(Arc::clone(&made.value));
                }
                let is_recent = age.is_some_and(|age| age < self.terms.oldest);
                let last = last.filter(|_| is_recent).map(|made| Arc::clone(&made.value));
                // One that has ended and is still here has panicked.
                let under_way = state.making.clone().filter(|making| making.peek().is_none());
                let making = match under_way {
                    Some(making) => making,
                    None => {
                        let before = state.latest.as_ref().map(|made| Arc::clone(&made.value));
                        self.begin(&mut state, make(before))
                    }
                };
                (making, last)
            };
            let made = match last {
                Some(last) => match tokio::time::timeout(PATIENCE, making).await {
                    Ok(made) => made?,
                    Err(_) => return Ok(last),
                },
                None => making.await?,
            };
            if is_current(&made) {
                return Ok(made);
            }
        }
    }

    fn begin(
        &self,
        state: &mut State<T>,
        make: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Making<T> {
        let shared = Arc::clone(&self.state);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let made = make.await.map(Arc::new);
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.making = None;
            if let Ok(value) = &made {
                // As old as what it was made of may be.
                let (value, at, cost) = (Arc::clone(value), began, began.elapsed());
                state.latest = Some(Made { value, at, cost });
            }
            made
        });
        let making: BoxFuture<'static, Result<Arc<T>, StoreError>> =
            async move { task.await.map_err(|error| StoreError::Failed(error.to_string()))? }.boxed();
        let making = making.shared();
        state.making = Some(making.clone());
        making
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    const TERMS: Terms = Terms {
        shortest: Duration::from_millis(1),
        longest: Duration::from_millis(1),
        oldest: Duration::from_secs(3_600),
    };

    /// Makes 1, 2, 3 …, each after `pause`.
    #[derive(Clone)]
    struct Counter {
        made: Arc<AtomicU32>,
        pause: Duration,
    }

    impl Counter {
        fn new(pause: Duration) -> Self {
            Self { made: Arc::default(), pause }
        }

        fn make(&self) -> impl Future<Output = Result<u32, StoreError>> + Send + use<> {
            let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
            let pause = self.pause;
            async move {
                tokio::time::sleep(pause).await;
                Ok(number)
            }
        }
    }

    #[tokio::test]
    async fn one_makes_it_for_all_who_ask_meanwhile() {
        let (refreshed, counter) = (Refreshed::new(TERMS), Counter::new(Duration::from_millis(100)));
        let asked = join_all((0..50).map(|_| refreshed.get(|_| true, |_| counter.make()))).await;
        assert!(asked.into_iter().all(|value| *value.unwrap() == 1));
    }

    #[tokio::test]
    async fn who_can_do_with_the_last_one_does_not_wait_long_for_the_next() {
        let refreshed = Refreshed::new(TERMS);
        let quick = Counter::new(Duration::ZERO);
        assert_eq!(*refreshed.get(|_| true, |_| quick.make()).await.unwrap(), 1);
        let slow = Counter { pause: Duration::from_secs(3_600), ..quick };
        tokio::time::sleep(TERMS.longest).await;
        assert_eq!(*refreshed.get(|_| true, |_| slow.make()).await.unwrap(), 1);
        assert_eq!(slow.made.load(Ordering::SeqCst), 2, "the next one is being made");
        assert_eq!(*refreshed.get(|_| true, |_| slow.make()).await.unwrap(), 1);
        assert_eq!(slow.made.load(Ordering::SeqCst), 2, "once for all");
    }

    #[tokio::test]
    async fn what_is_not_current_is_never_given() {
        let (refreshed, counter) = (Refreshed::new(TERMS), Counter::new(Duration::from_millis(100)));
        let early = refreshed.get(|_| true, |_| counter.make());
        // Begun for the first one, and too early for this one.
        let late = refreshed.get(|value| *value >= 2, |_| counter.make());
        let (early, late) = tokio::join!(early, late);
        assert_eq!((*early.unwrap(), *late.unwrap()), (1, 2));
    }

    #[tokio::test]
    async fn the_time_it_took_counts_as_age() {
        let (refreshed, counter) = (Refreshed::new(TERMS), Counter::new(Duration::from_millis(50)));
        assert_eq!(*refreshed.get(|_| true, |_| counter.make()).await.unwrap(), 1);
        let made = refreshed.lock().latest.as_ref().map(|made| (made.at.elapsed(), made.cost));
        assert!(made.is_some_and(|(age, cost)| age >= cost && cost >= counter.pause), "{made:?}");
    }

    #[tokio::test]
    async fn who_goes_away_leaves_it_to_be_made_for_others() {
        let (refreshed, counter) = (Refreshed::new(TERMS), Counter::new(Duration::from_millis(50)));
        let gone =
            tokio::time::timeout(Duration::from_millis(5), refreshed.get(|_| true, |_| counter.make()));
        assert!(gone.await.is_err());
        assert_eq!(*refreshed.get(|_| true, |_| counter.make()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_the_next_one_tried() {
        let refreshed = Refreshed::<u32>::new(TERMS);
        for panics in [false, true] {
            let fails = |_| async move {
                assert!(!panics, "on purpose");
                Err(StoreError::Stopping)
            };
            assert!(refreshed.get(|_| true, fails).await.is_err());
        }
        let counter = Counter::new(Duration::ZERO);
        assert_eq!(*refreshed.get(|_| true, |_| counter.make()).await.unwrap(), 1);
    }
}
