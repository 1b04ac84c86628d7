//! What every process of swift-s3-sync needs once: logs, traces, metrics, its admin endpoint, statsd counters, signals.
//!
//! Knows nothing of the product's rules. Binaries call it at start; libraries use only `tracing`.

pub mod admin;
pub mod control_client;
pub mod logging;
pub mod metrics;
pub mod process_load;
pub mod readiness;
pub mod service_manager;
pub mod signals;
pub mod statsd;
pub mod telemetry;
