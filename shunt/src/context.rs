//! What every answer needs, once per process.

use std::sync::Arc;

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
}
