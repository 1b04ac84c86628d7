//! The clock that leases are measured by: it runs on while the machine sleeps and while the process is stopped.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment, as time since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(Duration);

impl BootTime {
    /// So much later.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Now. Linux always has this clock; should a system refuse it, the answer is so far ahead that every lease is over.
#[must_use]
pub fn boot_time() -> BootTime {
    let read = clock_gettime(ClockId::CLOCK_BOOTTIME);
    BootTime(read.map_or(Duration::MAX, Duration::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let earlier = boot_time();
        assert!(boot_time() >= earlier);
        assert!(earlier.plus(Duration::from_secs(1)).since(earlier) == Duration::from_secs(1));
        assert_eq!(earlier.since(earlier.plus(Duration::from_secs(1))), Duration::ZERO);
    }
}
