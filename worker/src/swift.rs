//! Swift as it lies on the disks and answers on the backend ports of one cluster.
//!
//! The rest of the worker asks this module where things are ([`topology`]), what a container's database says
//! ([`container_db`]) and for the objects themselves ([`local_objects`]). Nothing here knows about remote stores,
//! cursors or mappings, and nothing here ever writes to a file of Swift's.

pub mod backend;
pub mod container_db;
pub mod container_server;
pub mod file_stamp;
pub mod local_objects;
pub mod ring;
pub mod swift_conf;
pub mod topology;

#[cfg(test)]
mod testing;
