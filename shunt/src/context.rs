//! What every answer needs, once per process.

use std::sync::Arc;

use crate::exchange::TraceContext;
use crate::listing::Listings;
use crate::metrics::Metrics;
use crate::policy::Policies;
use crate::read::Reads;
use crate::restore::Restores;

/// See the module.
#[derive(Debug)]
pub struct Context {
    /// Which containers are merged.
    pub policies: Arc<Policies>,
    /// Figures.
    pub metrics: Metrics,
    /// Objects that are being written back.
    pub restores: Arc<Restores>,
    /// What reads share.
    pub reads: Reads,
    /// What listings share.
    pub listings: Listings,
    /// Whether clients' traces are gone on with.
    pub trace_context: TraceContext,
    /// Somebody receives traces.
    pub sends_traces: bool,
}

#[cfg(test)]
impl Context {
    /// Nothing is merged.
    pub(crate) fn for_tests(metrics: Metrics) -> Self {
        Self {
            policies: Arc::default(),
            restores: Arc::new(Restores::new(1, metrics.clone())),
            metrics,
            reads: Reads::default(),
            listings: Listings::new(std::time::Duration::from_secs(1)),
            trace_context: TraceContext::Follow,
            sends_traces: false,
        }
    }
}
