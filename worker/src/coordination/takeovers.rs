//! The shares that changed hands during the last day, as this worker saw it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swift_s3_policy::Timestamp;

use crate::feed::now;

/// Older ones are not shown any more.
const KEPT: Duration = Duration::from_secs(86_400);
/// Values that are longer are not ours.
const MAX_VALUE: usize = 4_096;
/// The newest of so many are kept.
const MOST: usize = 1_000;

/// What happened to shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverKind {
    /// Taken, because the worker at their home was gone.
    Taken,
    /// Given back to the worker at their home.
    Returned,
}

impl TakeoverKind {
    /// The word for logs and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Returned => "returned",
        }
    }
}

/// Shares of one device that changed hands together.
#[derive(Clone, Debug, PartialEq)]
pub struct Takeover {
    /// When the first of them did.
    pub at: Timestamp,
    /// What happened.
    pub kind: TakeoverKind,
    /// The device that is their home.
    pub home: String,
    /// The worker there, if it was known.
    pub node: String,
    /// How many.
    pub shares: u32,
    /// From the news that the worker was gone to the last of them, in seconds; 0 for returned ones.
    pub seconds: f64,
}

/// As it is told in etcd.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    at_ms: u64,
    by: String,
    is_returned: bool,
    device: String,
    node: String,
    shares: u32,
    seconds: f64,
}

impl Takeover {
    pub(super) fn to_value(&self, by: &str) -> Vec<u8> {
        let told = Told {
            at_ms: self.at.units() / 100,
            by: by.to_owned(),
            is_returned: self.kind == TakeoverKind::Returned,
            device: self.home.clone(),
            node: self.node.clone(),
            shares: self.shares,
            seconds: self.seconds,
        };
        serde_json::to_vec(&told).unwrap_or_default()
    }

    /// What `by` told; nothing, if it is somebody else's or cannot be read.
    pub(super) fn from_value(value: &[u8], by: &str) -> Option<Self> {
        if value.len() > MAX_VALUE {
            return None;
        }
        let told: Told = serde_json::from_slice(value).ok()?;
        (told.by == by).then(|| Self {
            at: Timestamp::from_units(told.at_ms.saturating_mul(100)),
            kind: if told.is_returned { TakeoverKind::Returned } else { TakeoverKind::Taken },
            home: told.device,
            node: told.node,
            shares: told.shares,
            seconds: told.seconds,
        })
    }
}

/// What is remembered of them.
#[derive(Debug, Default)]
pub struct Log {
    takeovers: Mutex<VecDeque<Takeover>>,
    taken: AtomicU64,
    returned: AtomicU64,
}

impl Log {
    /// Adds one; returns it as it stands now: shares of one device that follow each other within `together` are one takeover.
    pub(super) fn add(&self, takeover: Takeover, together: Duration) -> Takeover {
        let mut log = self.takeovers.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = now().units().saturating_sub(KEPT.as_secs().saturating_mul(100_000));
        while log.len() >= MOST || log.front().is_some_and(|first| first.at.units() < oldest) {
            log.pop_front();
        }
        let same = log.iter_mut().rev().find(|known| {
            known.kind == takeover.kind
                && known.home == takeover.home
                && takeover.at.since(known.at) <= together
        });
        if let Some(known) = same {
            known.shares = known.shares.saturating_add(takeover.shares);
            known.seconds = known.seconds.max(takeover.seconds);
            return known.clone();
        }
        log.push_back(takeover.clone());
        takeover
    }

    /// A takeover as it stands by now.
    pub(super) fn now(&self, begun: &Takeover) -> Takeover {
        let log = self.takeovers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |one: &&Takeover| one.at == begun.at && one.kind == begun.kind && one.home == begun.home;
        log.iter().find(is_it).unwrap_or(begun).clone()
    }

    /// Counts shares that this worker took, or gave back, just now.
    pub(super) fn count(&self, kind: TakeoverKind, shares: u32) {
        self.counter(kind).fetch_add(u64::from(shares), Ordering::Relaxed);
    }

    /// How many were taken or given back since the start.
    #[must_use]
    pub fn shares(&self, kind: TakeoverKind) -> u64 {
        self.counter(kind).load(Ordering::Relaxed)
    }

    fn counter(&self, kind: TakeoverKind) -> &AtomicU64 {
        match kind {
            TakeoverKind::Taken => &self.taken,
            TakeoverKind::Returned => &self.returned,
        }
    }

    /// True when nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.takeovers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Those of the last day, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Takeover> {
        let oldest = now().units().saturating_sub(KEPT.as_secs().saturating_mul(100_000));
        let log = self.takeovers.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|takeover| takeover.at.units() >= oldest).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_go_together_are_one_takeover() {
        let log = Log::default();
        let one = |seconds, home: &str| Takeover {
            at: now(),
            kind: TakeoverKind::Taken,
            home: home.to_owned(),
            node: "a".to_owned(),
            shares: 1,
            seconds,
        };
        log.add(one(0.5, "x"), Duration::from_secs(60));
        let both = log.add(one(0.7, "x"), Duration::from_secs(60));
        assert_eq!((both.shares, both.seconds), (2, 0.7));
        log.add(one(0.1, "y"), Duration::from_secs(60));
        assert_eq!(log.list().len(), 2);
        log.add(one(0.1, "y"), Duration::ZERO);
        assert!(log.list().len() <= 3);
    }

    #[test]
    fn a_takeover_is_read_as_it_was_told() {
        let told = Takeover {
            at: Timestamp::from_units(1_700_000_000 * 100_000),
            kind: TakeoverKind::Returned,
            home: "10.0.0.1:6201/d".to_owned(),
            node: "a".to_owned(),
            shares: 3,
            seconds: 0.5,
        };
        assert_eq!(Takeover::from_value(&told.to_value("me"), "me"), Some(told.clone()));
        assert_eq!(Takeover::from_value(&told.to_value("me"), "somebody else"), None);
        assert_eq!(Takeover::from_value(b"{}", "me"), None);
    }

    #[test]
    fn what_is_older_than_a_day_is_forgotten() {
        let log = Log::default();
        let old = Timestamp::from_units(now().units() - 90_000 * 100_000);
        let takeover = Takeover {
            at: old,
            kind: TakeoverKind::Returned,
            home: String::new(),
            node: String::new(),
            shares: 1,
            seconds: 0.0,
        };
        log.add(takeover, Duration::ZERO);
        assert!(log.list().is_empty());
    }
}
