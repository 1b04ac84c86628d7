//! A gate that a test keeps closed for as long as it wants: what waits at it goes on when the test says so, not after a time
//! that was long enough on the machine on which the test was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;

use crate::wait;

/// Closed until it is opened; its clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: watch::Sender<bool>,
    held: AtomicUsize,
}

/// Counts one that waits for as long as it lives: a connection that is cut ends the wait too.
struct Held<'a>(&'a AtomicUsize);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.shared.open.send_replace(true);
    }

    /// How many wait now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Waits until `number` wait at the gate.
    ///
    /// # Errors
    /// When they do not within `limit`.
    pub async fn wait_held(&self, number: usize, limit: Duration) -> Result<()> {
        wait::until("requests at the gate", limit, async || {
            let held = self.held();
            ensure!(held == number, "{held} of {number}");
            Ok(())
        })
        .await
    }

    /// Returns when the gate is open.
    pub(super) async fn pass(&self) {
        let mut opened = self.shared.open.subscribe();
        self.shared.held.fetch_add(1, Ordering::SeqCst);
        let _held = Held(&self.shared.held);
        // The sender lives as long as the gate: this ends by an open gate only.
        let _ = opened.wait_for(|open| *open).await;
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Gate {}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
