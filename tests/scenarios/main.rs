//! What operators see: real Swift clusters, real S3 servers, the real daemon.

mod copies_objects;

use swift_s3_tests::swift_cluster::{SharedCluster, SwiftOptions};

/// Three nodes, three replicas; shared by every scenario that does not break its cluster.
static CLUSTER: SharedCluster = SharedCluster::new(SwiftOptions::default);
