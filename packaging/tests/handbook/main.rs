//! What is written about the programs agrees with the programs: pages made from the code are fresh, commands and links in the handbook
//! work, and rules and dashboard ask for metrics that exist.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod commands;
mod links;
mod pages;
mod promql;
mod queries;
mod reload;
mod root;
mod rules;
