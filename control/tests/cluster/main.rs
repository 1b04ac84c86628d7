//! Several control processes on a real etcd, killed, stopped and cut off as it may happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod copying;
mod doors;
mod etcd;
mod failover;
mod gate;
mod history;
mod mirror;
mod observing;
mod processes;
mod relaying;
#[path = "../server/support.rs"]
#[allow(dead_code)]
mod support;
mod troubles;
mod upgrading;
