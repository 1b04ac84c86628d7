//! Places where a test lets the process die, as `kill -9` would.
//!
//! `SWIFT_S3_SYNC_KILL_AT=name` kills at the first pass of that place, `name:3` at the third. Release builds have none of this.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLACE: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let place = std::env::var("SWIFT_S3_SYNC_KILL_AT").ok()?;
        Some(match place.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (place, 1),
        })
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn reached(place: &str) {
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
}

/// Dies here if this is the place that was asked for.
pub(crate) fn reached(place: &str) {
    #[cfg(debug_assertions)]
    armed::reached(place);
    #[cfg(not(debug_assertions))]
    let _ = place;
}
