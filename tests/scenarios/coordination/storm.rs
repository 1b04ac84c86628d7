//! A short storm; `swift-bench coordination` has long ones.

use swift_s3_tests::mixed_load::{SEED_VARIABLE, seed};
use swift_s3_tests::storm::{self, StormOptions};

use super::*;

#[tokio::test]
async fn a_short_storm_loses_nothing_and_resurrects_nothing() -> Result<()> {
    let seed = seed()?;
    eprintln!("{SEED_VARIABLE}={seed}");
    let report = storm::run(StormOptions {
        seed,
        operations: 1_000,
        faults: 2,
        explicit: true,
        controls: 2,
        lease: LEASE,
        slack: 60.0,
        times_lost_share: false,
        pause: Duration::from_millis(50),
    })
    .await?;
    eprintln!("{report:#?}");
    ensure!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    Ok(())
}
