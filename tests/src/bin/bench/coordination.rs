//! Storms: everything breaks while clients write, with etcd and without, the same seeds side by side.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::storm::{self, StormOptions, StormReport};

/// As long as operators have it by default.
const LEASE: Duration = Duration::from_secs(10);
/// Rests of each client, so that the operations last for several leases.
const PAUSE: Duration = Duration::from_millis(60);
/// Nobody verifies within a storm that has etcd: what arrives, its owners carried. In minutes.
const EXPLICIT_SLACK: f64 = 60.0;
/// Without etcd, others carry what a lost worker left after this time; an hour by default, too long to wait here.
const IMPLICIT_SLACK: f64 = 1.0;

/// What to run.
pub(crate) struct Storms {
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    pub(crate) operations: u64,
    pub(crate) faults: usize,
    pub(crate) controls: usize,
    pub(crate) lease_seconds: u64,
    pub(crate) explicit: bool,
    pub(crate) implicit: bool,
}

impl Default for Storms {
    fn default() -> Self {
        Self {
            first_seed: 1,
            seeds: 20,
            operations: 10_000,
            faults: 1_000,
            controls: 2,
            lease_seconds: LEASE.as_secs(),
            explicit: true,
            implicit: true,
        }
    }
}

/// Runs them all and prints a line for each.
///
/// # Errors
/// When anything was lost, resurrected or different in the end.
pub(crate) async fn run(storms: &Storms) -> Result<()> {
    println!("storms: {} operations of 12 clients each, three nodes, three workers", storms.operations);
    println!(
        "without etcd verification_slack is {IMPLICIT_SLACK} min, with etcd {EXPLICIT_SLACK} min; leases of {} s",
        storms.lease_seconds
    );
    println!(
        "{:>5} {:>8} {:>7} {:>8} {:>9} {:>10} {:>10} {:>11} {:>10} {:>8} {:>10}",
        "seed",
        "way",
        "faults",
        "changes",
        "calm r/c",
        "storm r/c",
        "takeovers",
        "no owner s",
        "lost share",
        "right s",
        "violations"
    );
    let mut violations = 0;
    for seed in storms.first_seed..storms.first_seed + storms.seeds {
        for explicit in [true, false] {
            if if explicit { storms.explicit } else { storms.implicit } {
                violations += one(storms, seed, explicit).await;
            }
        }
    }
    ensure!(violations == 0, "{violations} violations");
    println!("no violations");
    Ok(())
}

async fn one(storms: &Storms, seed: u64, explicit: bool) -> usize {
    let way = if explicit { "etcd" } else { "implicit" };
    let options = StormOptions {
        seed,
        operations: storms.operations,
        faults: storms.faults,
        explicit,
        controls: storms.controls,
        lease: Duration::from_secs(storms.lease_seconds),
        slack: if explicit { EXPLICIT_SLACK } else { IMPLICIT_SLACK },
        times_lost_share: true,
        pause: PAUSE,
    };
    match storm::run(options).await {
        Ok(report) => {
            print_line(seed, way, &report);
            report.violations.len()
        }
        Err(error) => {
            println!("{seed:>5} {way:>8} did not run: {error:#}");
            1
        }
    }
}

fn print_line(seed: u64, way: &str, report: &StormReport) {
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    let gap = report.ownership.as_ref().and_then(|ownership| ownership.longest_gap);
    println!(
        "{seed:>5} {way:>8} {:>7} {:>8} {:>9.3} {:>10.3} {:>10} {:>11} {:>10} {:>8} {:>10}",
        report.faults.len(),
        report.changes,
        report.calm_requests,
        report.stormy_requests,
        report.ownership.as_ref().map_or_else(String::new, |ownership| ownership.takeovers.to_string()),
        gap.map_or_else(String::new, |(gap, _)| seconds(gap)),
        report.lost_share.map_or_else(String::new, seconds),
        seconds(report.convergence),
        report.violations.len(),
    );
    println!("      calm: {} changes, {}", report.calm_changes, report.calm_counts);
    for violation in report.violations.iter().take(20) {
        println!("      {violation}");
    }
    if !report.violations.is_empty() {
        println!("      faults: {:#?}", report.faults);
    }
}
