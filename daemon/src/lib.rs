//! What every process of swift-s3-sync needs once: logging, statsd counters, signals.
//!
//! Knows nothing of the product's rules. Binaries call it at start; libraries use only `tracing`.

pub mod control_client;
pub mod logging;
pub mod process_load;
pub mod signals;
pub mod statsd;
