//! What workers and control processes need of etcd: settings, requests that survive a lost member, leases with a deadline of
//! their own, and prefixes that are followed.
//!
//! Needs etcd 3.4 or newer, API v3. Nothing here knows what the keys mean.

pub mod arguments;
mod clock;
pub mod election;
mod error;
pub mod follow;
pub mod lease;
mod requests;
pub mod settings;

pub use arguments::EtcdArguments;
pub use clock::{BootTime, boot_time};
pub use election::Election;
pub use error::{ErrorKind, EtcdError};
pub use etcd_client;
pub use follow::{Change, Entry, Follower, KeyEvent, Snapshot};
pub use lease::{Lease, Term};
pub use requests::{Etcd, Repeat};
pub use settings::{EtcdSettings, SettingsError};
