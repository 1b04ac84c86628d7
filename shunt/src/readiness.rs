//! Whether the shunt may be sent requests.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Whether the shunt may be sent requests.
#[derive(Debug, Default)]
pub struct Readiness {
    has_policy: watch::Sender<bool>,
    is_stopping: AtomicBool,
}

impl Readiness {
    /// A policy is in force.
    pub fn policy_in_force(&self) {
        self.has_policy.send_replace(true);
    }

    /// Waits for a policy.
    pub async fn has_policy(&self) {
        // The sender is part of this.
        let _ = self.has_policy.subscribe().wait_for(|has_policy| *has_policy).await;
    }

    /// No new requests, please.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// A policy is in force, and the process is not about to end.
    ///
    /// # Errors
    /// What is missing.
    pub fn state(&self) -> Result<(), String> {
        match (*self.has_policy.borrow(), self.is_stopping.load(Ordering::Relaxed)) {
            (_, true) => Err("stopping".to_owned()),
            (false, false) => Err("no policy yet".to_owned()),
            (true, false) => Ok(()),
        }
    }
}
