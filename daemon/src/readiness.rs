//! Whether a process does its work, for whoever asks on its admin endpoint.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones share the state. Not ready at first.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Err("starting".to_owned()))))
    }
}

impl Readiness {
    /// It does its work.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// It does not, for this reason.
    pub fn not_ready(&self, reason: &str) {
        self.set(Err(reason.to_owned()));
    }

    /// What was said last.
    ///
    /// # Errors
    /// The reason why it is not ready.
    pub fn state(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
