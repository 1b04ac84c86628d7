//! Compiles the `.proto` files without needing `protoc` on the machine.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=swift_s3_sync");
    let files = ["types", "audit", "node", "policy", "config", "status"]
        .map(|name| format!("swift_s3_sync/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["."])?;
    let folder = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(folder.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".swift_s3_sync.v1.Snapshot.document")
        .btree_map(".swift_s3_sync.v1.FeedProgress.cursors")
        .compile_fds(descriptors)?;
    Ok(())
}
