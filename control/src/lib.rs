//! The control plane: configuration, status, and the push to every node; and the operator's command line.
//!
//! | module | job |
//! |---|---|
//! | [`cli`] | the command line of `swift-s3-control`, and the life of its process |
//! | [`server`], [`transport`], [`gate`], [`access`] | connections, TLS, who may do what |
//! | [`observed`], [`metrics`] | a span and a measurement around each call and page; what is told in numbers |
//! | [`services`] | the gRPC services: translation only |
//! | [`cluster`] | several processes: who leads, and how the others hand calls on |
//! | [`control`] | what services share; changes are stored first, then pushed |
//! | [`push`] | the state that nodes work by |
//! | [`registry`], [`workers`] | nodes, sessions, answers; over how many workers limits are divided |
//! | `house` | nodes are remembered, and what is too old is forgotten |
//! | [`feeds`], [`overview`], `refreshed`, [`alerts`], [`verdict`] | status: added up, kept for a moment, judged, put in words |
//! | [`history`] | the past, for charts: a sample each minute |
//! | [`store`] | SQLite: one writer with group commit, readers beside it; the same in etcd |
//! | [`copy`] | moving the state between SQLite and etcd |
//! | [`documents`] | configuration documents in the words of the contract |
//! | [`ctl`] | the command line `swift-s3ctl` |
//! | [`verify`] | proving that a remote can be used, for `swift-s3ctl` and `swift-s3-verify` |

pub mod access;
pub mod activity;
pub mod alerts;
pub mod audits;
pub mod cli;
pub mod cluster;
pub mod control;
pub mod copy;
pub mod ctl;
pub mod documents;
pub mod feeds;
pub mod gate;
pub mod history;
mod house;
pub mod metrics;
pub mod observed;
pub mod overview;
pub mod prefixes;
pub mod prices;
pub mod push;
mod refreshed;
pub mod registry;
pub mod server;
pub mod services;
pub mod store;
pub mod time;
pub mod transport;
pub mod usage;
pub mod verdict;
pub mod verify;
pub mod web;
pub mod workers;
