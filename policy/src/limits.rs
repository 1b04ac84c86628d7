//! How fast the remote may be used, and when: base rates, and a timetable that changes them by the hour.
//!
//! Times are local; callers say which minute of the week it is. An entry of the timetable belongs to the days it
//! starts on, so `fri 22:00` to `06:00` ends on Saturday morning.

use crate::sentences::{bytes, thousands};

const MINUTES_PER_DAY: u16 = 24 * 60;
const MINUTES_PER_WEEK: u16 = 7 * MINUTES_PER_DAY;
/// From the first of [`Window::days`] on.
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The limits of a mapping, or of everything together. The default limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    base: Rates,
    timetable: Vec<Window>,
}

/// Rates at one moment; `None` stands for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    /// Objects carried at the same time.
    pub concurrency: Option<u32>,
    /// Bytes of bodies sent in a second.
    pub bytes_per_second: Option<u64>,
    /// Requests sent in a second.
    pub requests_per_second: Option<u32>,
}

/// A minute of the week, counted from Monday 00:00 local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeekMinute(u16);

/// One entry of the timetable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Whether the entry starts on this day, from Monday on.
    pub(crate) days: [bool; 7],
    /// Minute of the day at which it starts.
    pub(crate) from: u16,
    /// Minute at which it is over, 1440 for midnight; on the next day unless it is after `from`.
    pub(crate) to: u16,
    pub(crate) change: Change,
}

/// What an entry makes of the base: `None` keeps it, `Some(None)` lifts the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) concurrency: Option<Option<u32>>,
    pub(crate) bytes_per_second: Option<Option<u64>>,
    pub(crate) requests_per_second: Option<Option<u32>>,
}

impl Limits {
    pub(crate) fn new(base: Rates, timetable: Vec<Window>) -> Self {
        Self { base, timetable }
    }

    /// Whether nothing is limited at any time.
    pub fn is_unlimited(&self) -> bool {
        let mut windows = self.timetable.iter();
        self.base.is_unlimited() && windows.all(|window| window.change.to(self.base).is_unlimited())
    }

    /// The rates at a moment: those of the first entry that covers it, else the base.
    pub fn at(&self, moment: WeekMinute) -> Rates {
        let window = self.timetable.iter().find(|window| window.covers(moment));
        window.map_or(self.base, |window| window.change.to(self.base))
    }

    /// For people: the base rates, then each entry of the timetable, of which there may be 168.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.base.is_unlimited() {
            all.push(format!("All workers together carry {}.", self.base.in_words()));
        }
        for window in &self.timetable {
            all.push(format!(
                "{}, they carry {}.",
                window.in_words(),
                window.change.to(self.base).in_words()
            ));
        }
        all
    }
}

impl Window {
    fn in_words(&self) -> String {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let names = DAYS.iter().zip(self.days).filter(|(_, starts)| *starts).map(|(name, _)| *name);
        let days = match self.days.iter().all(|starts| *starts) {
            true => "day".to_owned(),
            false => names.collect::<Vec<_>>().join(", "),
        };
        format!("From {} to {} on every {days}", time(self.from), time(self.to))
    }
}

impl Rates {
    /// Whether nothing is limited.
    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }

    fn in_words(self) -> String {
        let limits = [
            self.concurrency.map(|count| format!("{} objects at a time", thousands(count.into()))),
            self.bytes_per_second.map(|rate| format!("{} a second", bytes(rate))),
            self.requests_per_second.map(|rate| format!("{} requests a second", thousands(rate.into()))),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        match limits.as_slice() {
            [] => "as much as they can".to_owned(),
            [most] => format!("at most {most}"),
            [first @ .., last] => format!("at most {} and {last}", first.join(", ")),
        }
    }

    /// What each of `workers` may use of these rates: an equal part, but always something.
    pub fn share(self, workers: u32) -> Self {
        let workers = workers.max(1);
        Self {
            concurrency: self.concurrency.map(|all| (all / workers).max(1)),
            bytes_per_second: self.bytes_per_second.map(|all| (all / u64::from(workers)).max(1)),
            requests_per_second: self.requests_per_second.map(|all| (all / workers).max(1)),
        }
    }
}

impl WeekMinute {
    /// A minute of a day (Monday is 0). What lies beyond the week counts on from its start.
    pub fn new(weekday: u8, hour: u8, minute: u8) -> Self {
        let minutes = (u32::from(weekday) * 24 + u32::from(hour)) * 60 + u32::from(minute);
        Self(u16::try_from(minutes % u32::from(MINUTES_PER_WEEK)).unwrap_or_default())
    }
}

impl Window {
    fn covers(&self, moment: WeekMinute) -> bool {
        let length =
            if self.to > self.from { self.to - self.from } else { self.to + MINUTES_PER_DAY - self.from };
        let starts = (0..).zip(self.days).filter(|(_, starts)| *starts);
        let mut starts = starts.map(|(day, _): (u16, bool)| day * MINUTES_PER_DAY + self.from);
        starts.any(|start| (moment.0 + MINUTES_PER_WEEK - start) % MINUTES_PER_WEEK < length)
    }
}

impl Change {
    fn to(self, base: Rates) -> Rates {
        Rates {
            concurrency: self.concurrency.unwrap_or(base.concurrency),
            bytes_per_second: self.bytes_per_second.unwrap_or(base.bytes_per_second),
            requests_per_second: self.requests_per_second.unwrap_or(base.requests_per_second),
        }
    }
}

#[cfg(test)]
mod tests;
