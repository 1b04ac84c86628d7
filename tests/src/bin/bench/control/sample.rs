//! Percentiles of times.

use std::fmt;
use std::time::Duration;

/// Times, sorted.
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Of times in any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that this share of them does not exceed; zero if there are none.
    pub fn at(&self, share: f64) -> Duration {
        let index = (self.0.len().saturating_sub(1) as f64 * share).round() as usize;
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |share| self.at(share).as_secs_f64() * 1e3;
        write!(
            formatter,
            "p50 {:>7.1}   p99 {:>7.1}   max {:>7.1}",
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(1.0)
        )
    }
}
