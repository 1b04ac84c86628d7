//! `swift-s3ctl` as operators run it: the binary, against a server with canned answers and against the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod audits;
mod canned;
mod canned_audit;
mod canned_config;
mod canned_status;
mod configuration;
mod connection;
mod lists;
mod program;
mod real;
mod watching;
