//! The gRPC contract, package `swift_s3_sync.v1`. Within v1 messages, fields and services are only ever added.

/// Messages, clients and servers, as generated from `swift_s3_sync/v1/*.proto`. Their comments are the contract.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("swift_s3_sync.v1");
}

/// The compiled contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message either side accepts, in bytes: a configuration of some ten thousand mappings, or the parked rows of one container.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
