//! What operators see: real Swift clusters, real S3 servers, the real daemon.

mod archives_large_objects;
mod archives_objects;
mod coordination;
mod copies_objects;
mod follows_containers;
mod follows_deletes;
mod follows_shards;
mod large_objects;
mod operates;
mod own_copies;
mod refuses_bad_configuration;
mod remembers_progress;
mod shunt_filter;
mod shunt_listings;
mod shunt_proxy;
mod shunt_reads;
mod shunt_writes;
mod strict_server;
mod survives_bad_input;
mod survives_faults;
mod swift_provider;
mod swift_remote;
mod telemetry;
mod trial;
mod under_control;
mod upgrades;
mod verifies_remotes;
mod web_ui;
mod worker_state;

use swift_s3_tests::swift_cluster::{SharedCluster, SwiftOptions};

/// Three nodes, three replicas; shared by every scenario that does not break its cluster.
static CLUSTER: SharedCluster = SharedCluster::new(SwiftOptions::default);
