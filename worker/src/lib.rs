//! The worker: follows Swift's container databases and carries every change to the remote store.
//!
//! The way of a change, and the module that knows about it:
//!
//! 1. [`watch`] and the poll of [`schedule`] notice that a database changed; [`discover`] knows which databases there are.
//! 2. [`feed`] follows one database for one mapping: [`lane`] says whose turn a row is, [`progress`] how far the cursor is,
//!    [`parked`] which rows are set aside, and [`status_file`] keeps all of it.
//! 3. [`probe`] asks the remote about many rows with few requests, [`decide`] says what a row asks for, and [`transfer`] does it, with
//!    [`hashing_body`] proving the bytes on their way. `large` reads segments and uploads in parts.
//! 4. [`memory`] keeps progress on this node or in the control plane, [`lag`] counts what is left, [`valve`] holds a burst of deletes,
//!    [`board`] shows what is going on, and [`control`] talks to the control plane.
//! 5. [`coordination`] shares the work out between workers, by the ring alone or through etcd.
//! 6. [`sweep`] gives up uploads that killed workers left.
//! 7. [`metrics`] is what the worker counts, [`telling`] what the configuration says of that.
//! 8. [`swift`] is everything that touches the local cluster, what is shared of the remote stores is in the crate `store`.

pub mod audit;
pub mod board;
pub mod cli;
pub mod control;
pub mod coordination;
pub mod decide;
pub mod discover;
pub(crate) mod failpoint;
pub mod feed;
pub mod hashing_body;
pub mod lag;
pub mod lane;
mod large;
pub mod mapping_state;
pub mod marks;
pub mod memory;
pub mod metrics;
pub mod parked;
pub mod probe;
pub mod progress;
pub mod reason;
pub mod schedule;
pub mod segment_use;
pub mod startup;
pub mod status_file;
pub mod sweep;
pub mod swift;
pub mod telling;
pub mod transfer;
pub mod valve;
pub mod watch;
