//! Places where a test lets the process die, as `kill -9` would, or wait.
//!
//! `SWIFT_S3_SYNC_KILL_AT=name` kills at the first pass of that place, `name:3` at the third. `SWIFT_S3_SYNC_PAUSE_AT=name=/path` makes
//! `/path.reached` there and waits for as long as `/path` exists. Release builds have none of this.

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLACE: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let place = std::env::var("SWIFT_S3_SYNC_KILL_AT").ok()?;
        Some(match place.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (place, 1),
        })
    });
    static PAUSE: LazyLock<Option<(String, PathBuf)>> = LazyLock::new(|| {
        let place = std::env::var("SWIFT_S3_SYNC_PAUSE_AT").ok()?;
        let (name, path) = place.split_once('=')?;
        Some((name.to_owned(), PathBuf::from(path)))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn reached(place: &str) {
        pause(place);
        let Some((name, count)) = &*PLACE else { return };
        if name == place && PASSED.fetch_add(1, Ordering::Relaxed).saturating_add(1) == *count {
            let own = nix::unistd::Pid::this();
            let _killed = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
            // The signal is on its way: nothing may happen after this place.
            loop {
                std::thread::park();
            }
        }
    }

    /// Waits by polling: the thread does nothing else meanwhile, as in a process that is stopped.
    fn pause(place: &str) {
        let Some((_, path)) = PAUSE.as_ref().filter(|(name, _)| name == place) else { return };
        let _written = std::fs::write(path.with_extension("reached"), "");
        while path.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Dies here if this is the place that was asked for.
pub(crate) fn reached(place: &str) {
    #[cfg(debug_assertions)]
    armed::reached(place);
    #[cfg(not(debug_assertions))]
    let _ = place;
}
