//! How the policy in force came about, for whoever looks after the shunt.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What became of a configuration that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// It is in force, but for mappings or remotes that cannot be served as they are written.
    Partial,
    /// It is wrong as a whole; what was in force stays.
    Refused,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Partial, Self::Refused];

    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Partial => "partial",
            Self::Refused => "refused",
        }
    }
}

/// See the module. The numbers stand on their own.
#[derive(Debug, Default)]
pub struct State {
    revision: AtomicU64,
    since: Mutex<Option<Instant>>,
    applied: AtomicU64,
    partial: AtomicU64,
    refused: AtomicU64,
    /// 0: no control plane is configured, 1: it is away, 2: it is followed.
    control: AtomicUsize,
}

impl State {
    fn counter(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Applied => &self.applied,
            Outcome::Partial => &self.partial,
            Outcome::Refused => &self.refused,
        }
    }

    /// A configuration was put in force; `revision` is the control plane's, or 0.
    pub(super) fn in_force(&self, revision: u64, is_whole: bool) {
        self.revision.store(revision, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.completed(is_whole);
    }

    /// What was in force in parts is so in more of them.
    pub(super) fn completed(&self, is_whole: bool) {
        let outcome = if is_whole { Outcome::Applied } else { Outcome::Partial };
        self.counter(outcome).fetch_add(1, Ordering::Relaxed);
    }

    /// A configuration changed nothing, because it is wrong.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The control plane is followed, or away.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.control.store(if is_connected { 2 } else { 1 }, Ordering::Relaxed);
    }

    /// The control plane's number of what is in force; 0 of a file.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Since when it is in force; `None` before there is any.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// How many configurations ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).load(Ordering::Relaxed)
    }

    /// Whether the control plane is followed now; `None` where there is none to follow.
    #[must_use]
    pub fn is_connected(&self) -> Option<bool> {
        match self.control.load(Ordering::Relaxed) {
            0 => None,
            state => Some(state == 2),
        }
    }
}
