//! How a process reaches its control plane, and the last configuration that it had from there.
//!
//! Used by the worker and the shunt.

mod access;
mod last_good;
mod settings;

pub use access::{Authorized, ShowToken};
pub use last_good::LastGood;
pub use settings::{ControlSettings, SettingsError};
