//! What is made from the code for those who install it, and the packages themselves.
//!
//! | module | makes |
//! |---|---|
//! | [`programs`] | the list of all programs, with their command lines |
//! | [`man`] | man pages |
//! | [`completions`] | completions of shells |
//! | [`reference`] | the reference in the handbook |
//! | [`dashboard`] | the dashboard for Grafana |
//!
//! `Cargo.toml` says what is in which package, `debian/` has units and maintainer scripts, `etc/` the samples.

pub mod completions;
pub mod dashboard;
pub mod man;
pub mod programs;
pub mod reference;
