//! The test ground.
pub mod compare;
pub mod fault_proxy;
pub mod leash;
pub mod operation;
pub mod ports;
pub mod process;
pub mod python;
pub mod run_directory;
pub mod s3_client;
pub mod s3_servers;
pub mod site;
pub mod swift_client;
pub mod swift_cluster;
pub mod sync_json;
pub mod usage;
pub mod wait;
pub mod worker_process;
