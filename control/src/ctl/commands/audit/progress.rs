//! How far a comparison is: one line that is written over on a terminal, a line now and then elsewhere. On standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::ctl::output::tell;
use crate::ctl::text::harmless;
use crate::ctl::units::{row_rate, seconds};

/// Elsewhere than on a terminal, a line comes this often.
const EVERY: Duration = Duration::from_secs(30);
/// Columns of the bar.
const BAR: usize = 20;

/// Tells how far it is.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    began: Instant,
    told: Instant,
    rows: u64,
}

impl Progress {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { is_terminal: std::io::stderr().is_terminal(), began: now, told: now, rows: 0 }
    }

    /// Takes the line off the terminal before something else is written.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            // If standard error is closed, there is nobody to tell.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// A page is done: `more` names of it, `done` of about `total` in the container.
    pub(super) fn tell(&mut self, label: &str, more: u64, done: u64, total: u64, is_done: bool) {
        self.rows += more;
        let line =
            line(label, done, total.max(done), rate(self.rows, self.began.elapsed()), self.is_terminal);
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", harmless(&line));
            let _ = std::io::stderr().flush();
        } else if self.told.elapsed() >= EVERY && !is_done {
            self.told = Instant::now();
            tell(&line);
        }
    }

    pub(super) fn end(&self) {
        self.clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(rows: u64, elapsed: Duration) -> f64 {
    rows as f64 / elapsed.as_secs_f64().max(0.001)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bar and an estimate for people"
)]
fn line(label: &str, done: u64, total: u64, rate: f64, with_bar: bool) -> String {
    let part = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let left = if rate > 0.0 { seconds((total - done) as f64 / rate) } else { "unknown".to_owned() };
    let bar = if with_bar {
        let full = ((part * BAR as f64) as usize).min(BAR);
        format!("[{}{}] ", "#".repeat(full), "-".repeat(BAR - full))
    } else {
        String::new()
    };
    format!("{label}: {bar}{done} of about {total} names, {}, {left} left", row_rate(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(line("a/c", 50, 200, 10.0, false), "a/c: 50 of about 200 names, 10.0/s, 15s left");
        assert!(line("a/c", 50, 200, 10.0, true).contains("[#####---------------]"));
        assert!(line("a/c", 0, 0, 0.0, true).contains("[####################] 0 of about 0 names"));
    }
}
