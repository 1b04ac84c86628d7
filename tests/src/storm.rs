//! Everything breaks while clients write: then S3 must hold what Swift holds, and nothing may be lost or come back.
//!
//! One fault at a time, drawn from a seed: a worker, an etcd member, a control process or the servers of a Swift node are killed or frozen, or
//! a worker is cut off from etcd. The same seed runs without etcd, too, where only the faults that exist there are done.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::compare::{Depth, compare};
use crate::control_process::Control;
use crate::etcd_cluster::{EtcdCluster, EtcdOptions, Follower};
use crate::etcd_fleet::{EtcdFleet, Ownership, names_of, wait_fresh};
use crate::fault_proxy::Network;
use crate::mixed_load::{Dice, MixedLoad, Outcome};
use crate::operation::{Operation, RequestCounts};
use crate::s3_servers::S3ServerKind;
use crate::site::Site;
use crate::swift_cluster::SwiftOptions;
use crate::sync_json::SyncJson;
use crate::wait;

/// What clients write to while everything works, and while it does not.
const CALM: &str = "calm";
const STORMY: [&str; 3] = ["storm0", "storm1", "storm2"];
/// A row that failed is tried again after a minute at first.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(600);
const CALM_LIMIT: Duration = Duration::from_secs(300);
/// Objects of the lost worker whose way is timed.
const TIMED: usize = 20;

/// What to do.
#[derive(Debug, Clone)]
pub struct StormOptions {
    /// Decides on operations and faults.
    pub seed: u64,
    /// Operations during the storm; a tenth as many come before it.
    pub operations: u64,
    /// The most faults, however long the operations take.
    pub faults: usize,
    /// Through etcd, else by each container's own database.
    pub explicit: bool,
    /// Control processes; none: every worker has its own file. Without etcd there can be one only.
    pub controls: usize,
    /// `--etcd-lease-seconds`.
    pub lease: Duration,
    /// `verification_slack` in minutes.
    pub slack: f64,
    /// Also times how long the share of a lost worker takes.
    pub times_lost_share: bool,
    /// Rest of each client after each operation: stretches the storm.
    pub pause: Duration,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub struct StormReport {
    /// What is wrong in the end; must be empty.
    pub violations: Vec<String>,
    /// What was done, in order.
    pub faults: Vec<String>,
    /// Operations that changed something during the storm.
    pub changes: u64,
    /// Requests of the workers while everything worked.
    pub calm_counts: RequestCounts,
    /// Changes then.
    pub calm_changes: u64,
    /// The same per change.
    pub calm_requests: f64,
    /// Requests of the workers per change from the storm's beginning to the end of the repair.
    pub stormy_requests: f64,
    /// By etcd's keys; nothing without etcd.
    pub ownership: Option<Ownership>,
    /// From the kill of a worker until everything of its share was in S3.
    pub lost_share: Option<Duration>,
    /// From the end of the operations until everything was right.
    pub convergence: Duration,
    /// All of it.
    pub elapsed: Duration,
}

#[derive(Debug)]
enum Ground {
    Explicit(Box<EtcdFleet>),
    Implicit(Box<Site>),
}

impl Ground {
    fn site(&self) -> &Site {
        match self {
            Self::Explicit(fleet) => &fleet.site,
            Self::Implicit(site) => site,
        }
    }

    fn fleet(&self) -> Option<&EtcdFleet> {
        match self {
            Self::Explicit(fleet) => Some(fleet),
            Self::Implicit(_) => None,
        }
    }
}

/// A fault that was begun and can be ended.
#[derive(Debug, Clone, Copy)]
enum Harm {
    WorkerKilled(usize),
    WorkerFrozen(usize),
    WorkerCutOff(usize, Network),
    EtcdKilled(usize),
    EtcdFrozen(usize),
    ControlKilled(usize),
    ControlFrozen(usize),
    NodeKilled(usize),
    NodeFrozen(usize),
}

impl Harm {
    /// Workers are hit as often as everything else together.
    fn draw(dice: &mut Dice) -> Self {
        let (kind, three, two) = (dice.throw(12), dice.throw(3), dice.throw(2));
        let (three, two) =
            (usize::try_from(three).unwrap_or_default(), usize::try_from(two).unwrap_or_default());
        match kind {
            0..=1 => Self::WorkerKilled(three),
            2..=3 => Self::WorkerFrozen(three),
            4 => Self::WorkerCutOff(three, Network::Stall),
            5 => Self::WorkerCutOff(three, Network::Refuse),
            6 => Self::EtcdKilled(three),
            7 => Self::EtcdFrozen(three),
            8 => Self::ControlKilled(two),
            9 => Self::ControlFrozen(two),
            10 => Self::NodeKilled(three),
            _ => Self::NodeFrozen(three),
        }
    }
}

struct Storm {
    options: StormOptions,
    // Dropped in this order.
    controls: Vec<Control>,
    ground: Ground,
}

/// Runs one storm with everything of its own.
///
/// # Errors
/// When something that is not tested does not work; what is tested and wrong is in the report.
pub async fn run(options: StormOptions) -> Result<StormReport> {
    let started = Instant::now();
    let storm = Storm::start(options).await?;
    let mut report = StormReport::default();
    let follower = match storm.ground.fleet() {
        Some(fleet) => Some(fleet.follow().await?),
        None => None,
    };
    storm.calm(&mut report).await?;
    let outcome = storm.blow(&mut report).await?;
    storm.repair().await.context("repair")?;
    storm.converge(&outcome, &mut report).await?;
    storm.judge(&follower, &mut report).await?;
    if storm.options.times_lost_share {
        report.lost_share = Some(storm.time_lost_share().await?);
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

impl Storm {
    async fn start(options: StormOptions) -> Result<Self> {
        let swift = SwiftOptions { log_requests: false, ..SwiftOptions::default() };
        let site = Site::start(swift, S3ServerKind::Memory).await?;
        for container in [CALM].iter().chain(&STORMY) {
            site.swift.put_container(container).await?;
        }
        let config = [CALM]
            .iter()
            .chain(&STORMY)
            .fold(SyncJson::new().set("verification_slack", options.slack), |config, container| {
                config.mapping(site.mapping(container))
            });
        site.configure(&config)?;
        let (ground, controls) = if options.explicit {
            let etcd = Arc::new(EtcdCluster::start(EtcdOptions::default()).await?);
            let fleet = EtcdFleet::new(site, etcd, options.lease).await?;
            let controls = fleet.start_controls(options.controls).await?;
            (Ground::Explicit(Box::new(fleet)), controls)
        } else {
            let mut controls = Vec::new();
            if options.controls > 0 {
                controls.push(Control::start(site.directory().folder("control")?).await?);
            }
            (Ground::Implicit(Box::new(site)), controls)
        };
        let storm = Self { options, controls, ground };
        if let Some(control) = storm.controls.first() {
            wait::until("a configuration", CALM_LIMIT, async || control.apply(&config).await).await?;
        }
        for worker in 0..storm.ground.site().workers.len() {
            storm.start_worker(worker)?;
        }
        storm.settle().await?;
        Ok(storm)
    }

    fn start_worker(&self, index: usize) -> Result<()> {
        let site = self.ground.site();
        let worker = site.workers.get(index).context("no such worker")?;
        match (self.controls.as_slice(), self.ground.fleet()) {
            ([], _) => worker.start(),
            (controls, Some(fleet)) => fleet.start_worker_under(index, controls),
            (controls, None) => {
                worker.start_under(&controls.iter().map(Control::url).collect::<Vec<_>>(), &[])
            }
        }
    }

    async fn settle(&self) -> Result<()> {
        if let Some(control) = self.controls.first() {
            control.wait_synced(self.ground.site().workers.len()).await?;
        }
        if let Some(fleet) = self.ground.fleet() {
            fleet.wait_settled().await?;
        }
        Ok(())
    }

    fn requests(&self) -> u64 {
        let requests = self.ground.site().faults.requests();
        requests.about_objects() - requests.of(Operation::Bucket)
    }

    async fn calm(&self, report: &mut StormReport) -> Result<()> {
        let site = self.ground.site();
        wait_fresh(site, CALM).await?;
        // What a worker asks once, at its start, is not what changes cost.
        let before = site.faults.requests();
        let load = MixedLoad::new(self.options.seed, self.options.operations / 10, &[CALM]);
        let outcome = load.run(&site.swift).await?;
        wait::until("calm operations to arrive", CALM_LIMIT, async || {
            outcome.expect(site.swift.account(), &site.bucket).await
        })
        .await?;
        report.calm_counts = site.faults.requests().since(&before);
        report.calm_changes = outcome.changes();
        let asked = report.calm_counts.about_objects() - report.calm_counts.of(Operation::Bucket);
        report.calm_requests = asked as f64 / outcome.changes().max(1) as f64;
        Ok(())
    }

    async fn blow(&self, report: &mut StormReport) -> Result<Outcome> {
        let site = self.ground.site();
        let before = self.requests();
        let load = MixedLoad {
            pause: self.options.pause,
            ..MixedLoad::new(!self.options.seed, self.options.operations, &STORMY)
        };
        let finished = Cell::new(false);
        let done = RefCell::new(Vec::new());
        let write = async {
            let outcome = load.run(&site.swift).await;
            finished.set(true);
            outcome
        };
        let (outcome, ()) = tokio::try_join!(write, self.break_things(&finished, &done))?;
        report.changes = outcome.changes();
        report.faults = done.into_inner();
        // The rest is added when everything is right.
        report.stormy_requests = before as f64;
        Ok(outcome)
    }

    async fn break_things(&self, finished: &Cell<bool>, done: &RefCell<Vec<String>>) -> Result<()> {
        let mut dice = Dice::new(self.options.seed.wrapping_add(0x5707));
        let started = Instant::now();
        let mut count = 0;
        while !finished.get() && count < self.options.faults {
            let harm = Harm::draw(&mut dice);
            // Sometimes over before the lease is, sometimes long after.
            let hold = dice.pause(Duration::from_millis(300), self.options.lease * 5 / 2);
            let rest = dice.pause(Duration::from_millis(300), self.options.lease);
            // Not a wait for something: the moment itself is what is drawn.
            tokio::time::sleep(rest).await;
            if !self.begin(harm).await.with_context(|| format!("begin {harm:?}"))? {
                continue;
            }
            count += 1;
            done.borrow_mut().push(format!(
                "{:.1} s {harm:?} for {:.1} s",
                started.elapsed().as_secs_f64(),
                hold.as_secs_f64()
            ));
            tokio::time::sleep(hold).await;
            self.end(harm).await.with_context(|| format!("end {harm:?}"))?;
        }
        Ok(())
    }

    /// Whether there is such a thing to break.
    async fn begin(&self, harm: Harm) -> Result<bool> {
        let site = self.ground.site();
        let fleet = self.ground.fleet();
        match harm {
            Harm::WorkerKilled(index) => {
                let worker = site.workers.get(index).context("no such worker")?;
                ensure!(
                    worker.is_running(),
                    "the worker of node {index} ended by itself: {}",
                    worker.log_text()
                );
                worker.kill().await?;
            }
            Harm::WorkerFrozen(index) => site.workers.get(index).context("no such worker")?.freeze()?,
            Harm::WorkerCutOff(index, network) => match fleet {
                Some(fleet) => fleet.set_network(index, network),
                None => return Ok(false),
            },
            Harm::EtcdKilled(index) => match fleet {
                Some(fleet) => fleet.etcd.kill_member(index).await?,
                None => return Ok(false),
            },
            Harm::EtcdFrozen(index) => match fleet {
                Some(fleet) => fleet.etcd.freeze_member(index)?,
                None => return Ok(false),
            },
            Harm::ControlKilled(index) => match self.controls.get(index) {
                Some(control) => control.kill().await?,
                None => return Ok(false),
            },
            Harm::ControlFrozen(index) => match self.controls.get(index) {
                Some(control) => control.freeze()?,
                None => return Ok(false),
            },
            Harm::NodeKilled(index) => site.cluster.stop_node(index).await?,
            Harm::NodeFrozen(index) => site.cluster.freeze_node(index).await?,
        }
        Ok(true)
    }

    async fn end(&self, harm: Harm) -> Result<()> {
        let site = self.ground.site();
        let fleet = || self.ground.fleet().context("no etcd");
        match harm {
            Harm::WorkerKilled(index) => self.start_worker(index),
            Harm::WorkerFrozen(index) => site.workers.get(index).context("no such worker")?.thaw(),
            Harm::WorkerCutOff(index, _) => {
                fleet()?.heal(index);
                Ok(())
            }
            Harm::EtcdKilled(index) => fleet()?.etcd.spawn(index),
            Harm::EtcdFrozen(index) => fleet()?.etcd.thaw_member(index),
            Harm::ControlKilled(index) => self.controls.get(index).context("no control")?.restart().await,
            Harm::ControlFrozen(index) => self.controls.get(index).context("no control")?.thaw(),
            Harm::NodeKilled(index) => site.cluster.start_node(index).await,
            Harm::NodeFrozen(index) => site.cluster.thaw_node(index).await,
        }
    }

    /// What Swift's own daemons do all the time.
    async fn repair(&self) -> Result<()> {
        let cluster = &self.ground.site().cluster;
        for daemon in [
            "object-updater",
            "object-replicator",
            "object-updater",
            "container-replicator",
            "container-replicator",
        ] {
            cluster.run_everywhere(daemon).await?;
        }
        Ok(())
    }

    async fn converge(&self, outcome: &Outcome, report: &mut StormReport) -> Result<()> {
        let site = self.ground.site();
        let started = Instant::now();
        let right = wait::until("S3 to hold what Swift holds", CONVERGENCE_LIMIT, async || {
            for container in [CALM].iter().chain(&STORMY) {
                compare(&site.swift, container, &site.bucket, None, Depth::Names).await?.none()?;
            }
            let wrong = outcome.violations(site.swift.account(), &site.bucket).await?;
            if !wrong.is_empty() {
                // Much is compared each time, on the cores that the workers need.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            ensure!(wrong.is_empty(), "{} wrong, such as {:?}", wrong.len(), wrong.first());
            Ok::<(), anyhow::Error>(())
        })
        .await;
        if let Err(error) = right {
            report.violations.push(format!("{error:#}"));
            report.violations.extend(outcome.violations(site.swift.account(), &site.bucket).await?);
        }
        report.convergence = started.elapsed();
        let since = self.requests() as f64 - report.stormy_requests;
        report.stormy_requests = since / report.changes.max(1) as f64;
        Ok(())
    }

    async fn judge(&self, follower: &Option<Follower>, report: &mut StormReport) -> Result<()> {
        let site = self.ground.site();
        for container in [CALM].iter().chain(&STORMY) {
            let differences = site.differences(container).await?;
            report.violations.extend(differences.0.iter().map(|one| format!("{container}: {one}")));
        }
        for worker in site.workers.iter().filter(|worker| !worker.is_running()) {
            report.violations.push(format!("the worker of node {} ended by itself", worker.node()));
        }
        if let Err(error) = self.settle().await {
            report.violations.push(format!("not settled: {error:#}"));
        }
        if let (Some(fleet), Some(follower)) = (self.ground.fleet(), follower) {
            report.ownership = Some(fleet.ownership(follower, &STORMY).await?);
        }
        Ok(())
    }

    async fn time_lost_share(&self) -> Result<Duration> {
        let site = self.ground.site();
        let victim = usize::try_from(self.options.seed % 3)?;
        let names = names_of(site, victim, CALM, "timed", TIMED).await?;
        site.workers.get(victim).context("no such worker")?.kill().await?;
        let started = Instant::now();
        for name in &names {
            site.swift.put_object(CALM, name, name.clone(), &[]).await?;
        }
        site.wait_equal(CALM, CONVERGENCE_LIMIT).await?;
        Ok(started.elapsed())
    }
}
