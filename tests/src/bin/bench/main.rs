//! `swift-bench`: the worker against `rclone`, the control plane against a thousand nodes, both against raw limits, side by side
//! on this machine.
//!
//! A raw limit does the same transfers or writes and nothing else: it decides, checks and remembers nothing. Absolute figures depend
//! on the machine and on what else it does; the ratios of one run say more. Everything, servers included, shares the same cores.

use anyhow::{Context, Result, bail, ensure};
use swift_s3_tests::simulated_fleet::World;

mod audit;
mod carry;
mod control;
mod coordination;
mod shunt;
mod tracing;
mod web_ui;

const HELP: &str = "\
swift-bench [carry|control|audit|shunt|tracing|web-ui|coordination] [--names N] [--objects N] [--large N] [--segments N] [--containers N] [--changes N] [--no-rclone] [--nodes N] [--etcd URL] [--updates N]

  carry           only what the worker carries
  control         only the control plane; needs neither Swift nor S3
  audit           only the comparison of a whole container with its bucket
  shunt           only the shunt, against nginx and against Swift and S3 asked directly
  tracing         only what tracing costs the worker
  web-ui          only the pages in a browser: --nodes, as many mappings, a hundred times as many containers
  coordination    only storms: everything breaks while clients write, with etcd and without. Hours; not part of the rest

  --names N       names in the container that is compared (100000)
  --objects N     small objects of 1 KiB (10000)
  --large N       large objects of 64 MiB (12)
  --segments N    segments of 64 MiB of one static large object (20)
  --containers N  containers watched by the idle worker (1000)
  --changes N     single changes whose way to S3 is timed (200)
  --no-rclone     leave rclone out
  --nodes N       nodes at the control plane (1000)
  --updates N     updates of the overview over which the browser's memory is watched (3600)
  --etcd URL      control with its state in this etcd, on whose disk everything depends: only how many cursors a second are durable

of coordination:
  --seeds N       storms with etcd, and as many without (20)
  --first-seed N  the first of them (1)
  --operations N  operations of each storm (10000)
  --faults N      the most faults of each storm (1000)
  --controls N    control processes; 0: workers with files (2)
  --lease N       seconds until a silent worker's shares are taken (10)
  --only WAY      etcd or implicit";
/// Ten of them stop reading, and the others still have a 99th percentile.
const FEWEST_NODES: usize = 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Carry,
    Control,
    Audit,
    Shunt,
    Tracing,
    WebUi,
    Coordination,
}

struct Arguments {
    part: Part,
    objects: usize,
    large: usize,
    segments: usize,
    containers: usize,
    changes: usize,
    rclone: bool,
    nodes: usize,
    etcd: Option<String>,
    updates: Option<u64>,
    names: usize,
    storms: coordination::Storms,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut parsed = Arguments {
        part: Part::All,
        objects: 10_000,
        large: 12,
        segments: 20,
        containers: 1_000,
        changes: 200,
        rclone: true,
        nodes: 1_000,
        etcd: None,
        updates: None,
        names: 100_000,
        storms: coordination::Storms::default(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || -> Result<usize> { Ok(given.next().context("a number is missing")?.parse()?) };
        match name.as_str() {
            "carry" => parsed.part = Part::Carry,
            "control" => parsed.part = Part::Control,
            "audit" => parsed.part = Part::Audit,
            "shunt" => parsed.part = Part::Shunt,
            "tracing" => parsed.part = Part::Tracing,
            "web-ui" => parsed.part = Part::WebUi,
            "--updates" => parsed.updates = Some(u64::try_from(number()?)?),
            "coordination" => parsed.part = Part::Coordination,
            "--seeds" => parsed.storms.seeds = u64::try_from(number()?)?,
            "--first-seed" => parsed.storms.first_seed = u64::try_from(number()?)?,
            "--operations" => parsed.storms.operations = u64::try_from(number()?)?,
            "--faults" => parsed.storms.faults = number()?,
            "--controls" => parsed.storms.controls = number()?,
            "--lease" => parsed.storms.lease_seconds = u64::try_from(number()?)?,
            "--only" => match given.next().as_deref() {
                Some("etcd") => parsed.storms.implicit = false,
                Some("implicit") => parsed.storms.explicit = false,
                _ => bail!("--only etcd or --only implicit"),
            },
            "--names" => parsed.names = number()?,
            "--objects" => parsed.objects = number()?,
            "--large" => parsed.large = number()?,
            "--segments" => parsed.segments = number()?,
            "--containers" => parsed.containers = number()?,
            "--changes" => parsed.changes = number()?,
            "--no-rclone" => parsed.rclone = false,
            "--nodes" => parsed.nodes = number()?,
            "--etcd" => parsed.etcd = Some(given.next().context("a URL is missing")?),
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown argument {other}\n{HELP}"),
        }
    }
    ensure!(parsed.nodes >= FEWEST_NODES, "--nodes {}: at least {FEWEST_NODES}", parsed.nodes);
    Ok(Some(parsed))
}

#[tokio::main]
async fn main() -> Result<()> {
    let Some(arguments) = arguments()? else {
        println!("{HELP}");
        return Ok(());
    };
    if matches!(arguments.part, Part::All | Part::Carry) {
        carry::run(&arguments).await?;
    }
    if matches!(arguments.part, Part::All | Part::Control) {
        control::run(arguments.nodes, arguments.etcd.as_deref()).await?;
    }
    if matches!(arguments.part, Part::All | Part::Audit) {
        audit::run(arguments.names).await?;
    }
    if matches!(arguments.part, Part::All | Part::Shunt) {
        shunt::run().await?;
    }
    if matches!(arguments.part, Part::All | Part::Tracing) {
        tracing::run(arguments.objects).await?;
    }
    if matches!(arguments.part, Part::All | Part::WebUi) {
        let nodes = arguments.nodes;
        let world = World { nodes, mappings: nodes, containers: nodes * 100 };
        web_ui::run(world, arguments.updates).await?;
    }
    if arguments.part == Part::Coordination {
        coordination::run(&arguments.storms).await?;
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
