//! Keeps one cause from filling the log: of the warnings and errors that come from one place of the program, a burst is written, then
//! so many in each second, and the next line of that place says how many were left out. Lines less important than that are never left
//! out: they are the record of what was done. What is told of single objects is kept elsewhere too: in the rows set aside.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Lines of one place that are written however fast they come: enough for every problem of a configuration.
const BURST: u32 = 200;
/// After the burst, one line in so long.
const INTERVAL: Duration = Duration::from_millis(20);
/// Of what sends traces and metrics away one line is written in so long: a collector that is away would be told of for ever.
const EXPORTER_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How often lines of a place are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was done.
    Record,
    /// Warnings and errors.
    Trouble,
    /// Of what sends traces and metrics away.
    Exporter,
}

impl Kind {
    pub(super) fn of(level: Level) -> Self {
        if level > Level::WARN { Self::Record } else { Self::Trouble }
    }

    fn burst(self) -> u32 {
        if self == Self::Exporter { 1 } else { BURST }
    }

    fn interval(self) -> Duration {
        if self == Self::Exporter { EXPORTER_INTERVAL } else { INTERVAL }
    }
}

/// What each place has written. There is an entry for each place of the program that ever warned: a bounded number.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<Place, Bucket>>);

/// A place of the program. Libraries that use the `log` crate share one, and are told apart by their targets.
type Place = (Identifier, u64);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Lines that may be written at once.
    room: u32,
    /// Up to when `room` has been refilled.
    refilled: Instant,
    left_out: u64,
}

impl Bucket {
    fn admit(&mut self, kind: Kind, now: Instant) -> Option<u64> {
        let (burst, interval) = (kind.burst(), kind.interval());
        let passed = now.saturating_duration_since(self.refilled);
        let earned = u32::try_from(passed.as_millis() / interval.as_millis()).unwrap_or(u32::MAX);
        self.room = self.room.saturating_add(earned).min(burst);
        self.refilled = if self.room == burst { now } else { self.refilled + interval * earned };
        if self.room == 0 {
            self.left_out += 1;
            return None;
        }
        self.room -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Repeats {
    /// How many lines of this place were left out since its last one; `None`: this one is left out too.
    pub(super) fn admit(&self, metadata: &Metadata<'_>, kind: Kind, now: Instant) -> Option<u64> {
        if kind == Kind::Record {
            return Some(0);
        }
        let mut target = DefaultHasher::new();
        metadata.target().hash(&mut target);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((metadata.callsite(), target.finish()));
        bucket.or_insert(Bucket { room: kind.burst(), refilled: now, left_out: 0 }).admit(kind, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_burst_and_a_trickle_that_counts_the_rest() {
        let begin = Instant::now();
        let mut bucket = Bucket { room: BURST, refilled: begin, left_out: 0 };
        let written = (0..1_000).filter(|_| bucket.admit(Kind::Trouble, begin).is_some()).count();
        assert_eq!(written, 200);
        assert_eq!(bucket.admit(Kind::Trouble, begin + INTERVAL / 2), None);
        assert_eq!(
            bucket.admit(Kind::Trouble, begin + INTERVAL),
            Some(801),
            "the next line tells of all that were left out"
        );
        assert_eq!(bucket.admit(Kind::Trouble, begin + INTERVAL), None);
        assert_eq!(bucket.admit(Kind::Trouble, begin + INTERVAL * 2), Some(1));
        // After a quiet time there is room for a whole burst again, and no more than that.
        let later = begin + Duration::from_secs(86_400 * 400);
        assert_eq!((0..1_000).filter(|_| bucket.admit(Kind::Trouble, later).is_some()).count(), 200);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_admits_no_more() {
        let begin = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket { room: 0, refilled: begin, left_out: 0 };
        assert_eq!(bucket.admit(Kind::Trouble, begin), None);
        assert_eq!(
            bucket.admit(Kind::Trouble, begin.checked_sub(Duration::from_secs(5)).unwrap_or(begin)),
            None
        );
    }
}
