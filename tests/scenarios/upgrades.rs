//! One version after the other, and from the Python daemon to this program, while clients go on.

mod archive;
mod python;
mod rolling;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::control_process::Control;
use swift_s3_tests::mixed_load::{MixedLoad, Outcome, SEED_VARIABLE, seed};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::previous_version::Version;
use swift_s3_tests::site::Site;
use swift_s3_tests::wait;

/// What happens by itself happens within this time.
const SOON: Duration = Duration::from_secs(60);

/// Fails unless a process runs this program.
async fn expect_program(process: u32, program: &Path) -> Result<()> {
    let program = program.canonicalize()?;
    wait::until("the other version to run", SOON, async || {
        let runs = std::fs::read_link(format!("/proc/{process}/exe"))?;
        ensure!(runs == program, "it runs {}", runs.display());
        Ok::<(), anyhow::Error>(())
    })
    .await
}

/// Fails if an object was sent more often than clients wrote it; what is not among `writes` was written once. Restarted workers that sent
/// again what their predecessors had sent would show here.
fn expect_nothing_repeated(site: &Site, writes: &BTreeMap<String, u64>) -> Result<()> {
    let seen = site.faults.seen();
    let mut sent = BTreeMap::<&str, u64>::new();
    for one in seen.iter().filter(|one| one.operation == Operation::Put) {
        *sent.entry(&one.key).or_default() += 1;
    }
    sent.retain(|key, times| *times > writes.get(*key).copied().unwrap_or(1));
    for key in sent.keys() {
        eprintln!("{key} was sent too often; everything about it:");
        for one in seen.iter().filter(|one| one.key == *key) {
            eprintln!("  {} {:?} {:?}", one.operation, one.header("x-amz-meta-marker"), one.status);
        }
    }
    ensure!(sent.is_empty(), "sent more often than written: {sent:?}");
    Ok(())
}
