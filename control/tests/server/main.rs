//! A real server on a free port, and real gRPC clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod activity;
mod answers;
mod audits;
mod configuration;
mod cursors;
mod database;
mod history;
mod house;
mod metrics;
mod nodes;
mod process;
mod progress;
mod secrets;
mod status;
mod streams;
mod support;
mod usage;
