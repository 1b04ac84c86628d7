//! What parts of the worker say of themselves, kept until somebody asks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Debug)]
pub(super) struct Told {
    config: Mutex<(i64, Instant)>,
    control: Mutex<Option<Control>>,
    /// In microseconds since 1970.
    last_pass: AtomicU64,
    /// Likewise.
    last_turn: AtomicU64,
    /// The same by a clock that nobody sets.
    turned_at: Mutex<Option<Instant>>,
    due: AtomicU64,
    refused: Mutex<BTreeSet<String>>,
}

/// The connection to the control plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    pub(super) is_connected: bool,
    /// Since when that is so.
    pub(super) since: Instant,
    /// Reports wait for their acknowledgement, or were refused.
    is_waiting: bool,
    /// When the first report was sent that came after the last acknowledged one.
    unacknowledged: Option<Instant>,
}

impl Control {
    /// For how long a report has waited to be acknowledged.
    pub(super) fn waits(&self) -> Duration {
        let since = self.unacknowledged.filter(|_| self.is_waiting);
        since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl Default for Told {
    fn default() -> Self {
        Self {
            config: Mutex::new((0, Instant::now())),
            control: Mutex::default(),
            last_pass: AtomicU64::new(0),
            last_turn: AtomicU64::new(0),
            turned_at: Mutex::default(),
            due: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }
}

impl Told {
    /// A configuration is in force from now on.
    pub(super) fn configured(&self) {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).1 = Instant::now();
    }

    pub(super) fn set_revision(&self, revision: i64) {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).0 = revision;
    }

    pub(super) fn revision(&self) -> u64 {
        u64::try_from(self.config.lock().unwrap_or_else(PoisonError::into_inner).0).unwrap_or_default()
    }

    pub(super) fn config_age(&self) -> Duration {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).1.elapsed()
    }

    /// There is a control plane, and this is how it stands with it.
    pub(super) fn set_connected(&self, is_connected: bool) {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let control = control.get_or_insert(Control {
            is_connected,
            since: now,
            is_waiting: false,
            unacknowledged: None,
        });
        if control.is_connected != is_connected {
            (control.is_connected, control.since) = (is_connected, now);
            // Whatever waited is sent again on the next connection, and has waited since it was sent first.
            control.is_waiting = false;
        }
    }

    /// A report was sent.
    pub(super) fn reported(&self) {
        if let Some(control) = &mut *self.control.lock().unwrap_or_else(PoisonError::into_inner) {
            control.is_waiting = true;
            control.unacknowledged.get_or_insert_with(Instant::now);
        }
    }

    /// A report was acknowledged; of those that still wait the first was sent then.
    pub(super) fn acknowledged(&self, oldest: Option<Instant>) {
        if let Some(control) = &mut *self.control.lock().unwrap_or_else(PoisonError::into_inner) {
            control.is_waiting = oldest.is_some();
            control.unacknowledged = oldest;
        }
    }

    pub(super) fn control(&self) -> Option<Control> {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pass_succeeded(&self) {
        self.last_pass.store(now(), Ordering::Relaxed);
    }

    pub(super) fn turned(&self, due: usize) {
        self.last_turn.store(now(), Ordering::Relaxed);
        *self.turned_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.due.store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn last_pass(&self) -> f64 {
        seconds(self.last_pass.load(Ordering::Relaxed))
    }

    /// `None` before the first.
    pub(super) fn last_turn(&self) -> Option<f64> {
        Some(self.last_turn.load(Ordering::Relaxed)).filter(|turn| *turn > 0).map(seconds)
    }

    /// For how long the scheduler has done nothing. `None` before its first turn.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.turned_at.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    pub(super) fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    /// Mappings that are not in force as the control plane wants them.
    pub(super) fn set_refused(&self, ids: BTreeSet<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    pub(super) fn refused(&self) -> BTreeSet<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_stays_has_been_there_since_it_began() {
        let told = Told::default();
        assert!(told.control().is_none(), "without a control plane nothing is said of it");
        told.set_connected(true);
        let first = told.control().map(|control| control.since);
        told.set_connected(true);
        assert_eq!(told.control().map(|control| control.since), first);
        told.set_connected(false);
        assert!(told.control().is_some_and(|control| !control.is_connected && Some(control.since) >= first));
    }

    #[test]
    fn reports_wait_from_when_the_first_was_sent_until_one_is_acknowledged() {
        let told = Told::default();
        told.reported();
        assert!(told.control().is_none(), "without a control plane nothing is said of it");
        told.set_connected(true);
        let waits = || told.control().is_some_and(|control| control.waits() > Duration::ZERO);
        assert!(!waits(), "who has nothing to report waits for nothing");
        told.reported();
        let first = told.control().and_then(|control| control.unacknowledged);
        told.reported();
        assert!(waits());
        told.set_connected(false);
        assert!(!waits());
        told.set_connected(true);
        told.reported();
        assert_eq!(told.control().and_then(|control| control.unacknowledged), first);
        told.acknowledged(Some(Instant::now()));
        assert!(waits());
        told.acknowledged(None);
        assert!(!waits());
    }

    #[test]
    fn a_scheduler_that_has_not_begun_has_no_last_turn() {
        let told = Told::default();
        assert_eq!(told.last_turn(), None);
        told.turned(3);
        assert!(told.last_turn().is_some_and(|turn| turn > 1e9));
        assert!(told.idle().is_some_and(|idle| idle < Duration::from_secs(60)));
    }

    #[test]
    fn revisions_are_never_negative() {
        let told = Told::default();
        told.set_revision(-3);
        assert_eq!(told.revision(), 0);
        told.set_revision(7);
        assert_eq!(told.revision(), 7);
    }
}
