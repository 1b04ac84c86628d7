//! What the configuration says of telling: which mappings are told apart and how many of their objects are traced, and how much is
//! logged. Followed whenever a configuration comes into force, at the start, by SIGHUP or by a push.

use std::sync::{Arc, Mutex, PoisonError};

use swift_s3_daemon::logging::LevelSwitch;
use swift_s3_daemon::telemetry::Sampling;
use swift_s3_policy::{LogLevel, SyncConfig};

use crate::metrics::Metrics;

/// See the module. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// What is counted.
    pub metrics: Metrics,
    sampling: Option<Sampling>,
    /// None when the command line says how much is logged.
    level: Option<LevelSwitch>,
    /// Of the configuration before.
    last_level: Arc<Mutex<Option<LogLevel>>>,
}

impl Telling {
    /// Follows the configuration. Without `level` that stays as it is.
    #[must_use]
    pub fn new(metrics: Metrics, sampling: Sampling, level: Option<LevelSwitch>) -> Self {
        Self { metrics, sampling: Some(sampling), level, last_level: Arc::default() }
    }

    /// `config`, whose mappings have these ids, is in force from now on.
    pub fn in_force(&self, config: &SyncConfig, ids: &[String]) {
        self.metrics.keep_mappings(ids);
        self.metrics.configured();
        if let Some(sampling) = &self.sampling {
            let mappings = ids.iter().zip(&config.mappings);
            let chosen = mappings.filter_map(|(id, mapping)| Some((id.clone(), mapping.trace_sample_ratio?)));
            sampling.set(chosen.collect());
        }
        if let Some(level) = &self.level
            && self.is_news(config.log_level)
        {
            level.set(config.log_level);
        }
    }

    /// What somebody chose on this machine meanwhile holds until the configuration says something else than before.
    fn is_news(&self, level: LogLevel) -> bool {
        self.last_level.lock().unwrap_or_else(PoisonError::into_inner).replace(level) != Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_does_not_change_the_level_leaves_it() {
        let telling = Telling::default();
        assert!(telling.is_news(LogLevel::Info));
        assert!(!telling.is_news(LogLevel::Info));
        assert!(telling.is_news(LogLevel::Debug));
        assert!(telling.is_news(LogLevel::Info));
    }
}
