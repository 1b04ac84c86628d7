//! The test ground: real Swift clusters, real S3 servers, faults between them, and the product's workers as processes.
//!
//! Nothing is mocked and nothing is left behind: every child dies with the test process, however that ends, and the files go
//! with it. `SWIFT_S3_TESTS_KEEP=1` keeps the files with all logs and prints where they are. A scenario usually reads
//!
//! ```no_run
//! # use std::time::Duration;
//! # use anyhow::Result;
//! use swift_s3_tests::fault_proxy::{Fault, Rule};
//! use swift_s3_tests::operation::Operation;
//! use swift_s3_tests::s3_servers::S3ServerKind;
//! use swift_s3_tests::site::Site;
//! use swift_s3_tests::swift_cluster::{SharedCluster, SwiftOptions};
//!
//! static CLUSTER: SharedCluster = SharedCluster::new(SwiftOptions::default);
//!
//! # async fn scenario() -> Result<()> {
//! let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
//! site.swift.put_container("photos").await?;
//! site.swift.put_object("photos", "a b", "content", &[("X-Object-Meta-Colour", "grün")]).await?;
//! site.map([site.mapping("photos").set("copy_after", 0)])?;
//! site.faults.inject(Rule::new(Fault::slow_down()).on(Operation::Put).times(1));
//! let failed = site.workers[0].run_once().await?;
//! site.sync().await?; // --once on every node, each must exit with 0
//! site.expect_equal("photos").await?;
//! assert_eq!(site.faults.requests().of(Operation::Put), 2);
//! # Ok(()) }
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`site`] | everything for one scenario in one call; sites on a shared cluster have an account each |
//! | [`swift_cluster`] | a cluster, its nodes, daemons, databases; stop, freeze, shard, copy, redirect |
//! | [`swift_remote`] | a second cluster as the remote, behind a fault proxy |
//! | [`keystone`] | a Keystone, with projects and users |
//! | [`swift_client`] | byte-exact requests to proxies and storage servers |
//! | [`s3_servers`], [`s3_client`] | four S3 servers by different authors, and what tests ask them |
//! | [`fault_proxy`] | counts requests and breaks them: by rule, or the network as a whole |
//! | [`etcd_cluster`] | an etcd of one member or three; to kill, freeze, wipe, compact and follow |
//! | [`tcp_gate`] | cuts or holds connections of any protocol |
//! | [`etcd_fleet`], [`mixed_load`] | workers with an etcd, each by a way of its own; clients that know what must come out |
//! | [`storm`] | everything breaks while clients write |
//! | [`shunt_process`], [`shunt_doors`] | the product's shunt; its two doors, with users |
//! | [`simulated_fleet`] | nodes that are only told of, as many as wanted |
//! | [`worker_process`], [`sync_json`] | the product's worker and its configuration |
//! | [`previous_version`] | the programs of the version that is upgraded from |
//! | [`compare`] | where a bucket differs from a container |
//! | [`browser`] | a headless Chromium, driven by roles, labels and visible text |
//! | [`web_ui`] | the pages of a control plane, with somebody signed in |
//! | [`otlp_collector`], [`figures`] | receives traces and metrics; reads what a process tells on `/metrics` |
//! | [`wait`], [`process`], [`usage`] | polling with a reason, children with logs, CPU time and memory |
//! | [`run_directory`], [`leash`], [`ports`], [`python`] | what the above stand on |
//! | [`operation`] | which S3 operation a request is |
//!
//! Programs for people and benchmarks: `s3-test-server` (an S3 server) and `swift-ground` (a cluster and a server in the
//! foreground, see `--help`).

pub mod browser;
pub mod compare;
pub mod control_process;
pub mod etcd_cluster;
pub mod etcd_fleet;
pub mod fault_proxy;
pub mod figures;
pub mod keystone;
pub mod leash;
pub mod mixed_load;
pub mod operation;
pub mod otlp_collector;
pub mod ports;
pub mod previous_version;
pub mod process;
pub mod python;
pub mod run_directory;
pub mod s3_client;
pub mod s3_servers;
pub mod shunt_doors;
pub mod shunt_process;
pub mod simulated_fleet;
pub mod site;
pub mod storm;
pub mod swift_client;
pub mod swift_cluster;
pub mod swift_remote;
pub mod sync_json;
pub mod tcp_gate;
pub mod usage;
pub mod wait;
pub mod web_ui;
pub mod worker_process;
