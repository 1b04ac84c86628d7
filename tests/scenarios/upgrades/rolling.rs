//! Control, workers and shunts are replaced one at a time, forth and back, while clients write, delete and read.

use swift_s3_tests::etcd_cluster::{EtcdCluster, EtcdOptions};
use swift_s3_tests::etcd_fleet::EtcdFleet;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::sync_json::SyncJson;

use super::archive::{ARCHIVE, Shunts};
use super::*;
use crate::CLUSTER;

/// Containers with a copy in S3.
const MIRRORED: [&str; 2] = ["a", "b"];
/// Objects that show after each step that everybody works.
const PROBES: usize = 6;
/// Short enough for a scenario, long enough for a busy machine.
const LEASE: Duration = Duration::from_secs(10);

/// How workers work together, and where their configuration and progress are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Files of their own.
    Standalone,
    /// A control plane.
    Controlled,
    /// Two control processes and the workers share an etcd.
    Coordinated,
}

enum Workers {
    Alone(Box<Site>),
    Coordinated(Box<EtcdFleet>),
}

impl Workers {
    fn site(&self) -> &Site {
        match self {
            Self::Alone(site) => site,
            Self::Coordinated(fleet) => &fleet.site,
        }
    }
}

/// Everything that has a version.
struct Installation {
    shunts: Shunts,
    workers: Workers,
    controls: Vec<Control>,
}

fn config(site: &Site) -> SyncJson {
    let archived = site.mapping(ARCHIVE).set("retain_local", false).set("propagate_delete", false);
    // An hour of slack: nobody verifies what others carried, so each upload is somebody's own.
    let config =
        SyncJson::new().set("verification_slack", 60).mapping(archived.set("merge_namespaces", true));
    MIRRORED.iter().fold(config, |config, container| config.mapping(site.mapping(container)))
}

impl Installation {
    async fn start(kind: Kind, version: &Version) -> Result<Self> {
        let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
        for container in MIRRORED.iter().chain([&ARCHIVE]) {
            site.swift.put_container(container).await?;
        }
        let config = config(&site);
        site.configure(&config)?;
        for worker in &site.workers {
            worker.set_program(version.program("swift-s3-sync")?);
        }
        let program = version.program("swift-s3-control")?;
        let folder = |index: usize| site.directory().folder(format!("control{index}"));
        let (workers, controls) = match kind {
            Kind::Standalone => (Workers::Alone(Box::new(site)), Vec::new()),
            Kind::Controlled => {
                let control = Control::start_program(program, folder(0)?, &[]).await?;
                (Workers::Alone(Box::new(site)), vec![control])
            }
            Kind::Coordinated => {
                let etcd = EtcdCluster::start(EtcdOptions::single()).await?;
                let folders = [folder(0)?, folder(1)?];
                let fleet = EtcdFleet::new(site, Arc::new(etcd), LEASE).await?;
                let arguments = fleet.arguments();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let mut controls = Vec::new();
                for folder in folders {
                    controls.push(Control::start_program(program.clone(), folder, &arguments).await?);
                }
                (Workers::Coordinated(Box::new(fleet)), controls)
            }
        };
        if let Some(control) = controls.first() {
            wait::until("a configuration to be applied", SOON, async || control.apply(&config).await).await?;
        }
        let shunts = Shunts::start(workers.site(), version, controls.first(), &config).await?;
        let installation = Self { shunts, workers, controls };
        for index in 0..installation.workers.site().workers.len() {
            installation.start_worker(index).await?;
        }
        installation.settle().await?;
        Ok(installation)
    }

    async fn start_worker(&self, index: usize) -> Result<()> {
        let worker = self.workers.site().workers.get(index).context("no such worker")?;
        match &self.workers {
            Workers::Coordinated(fleet) => fleet.start_worker_under(index, &self.controls),
            Workers::Alone(_) if self.controls.is_empty() => worker.start(),
            Workers::Alone(_) => {
                worker.start_under(&self.controls.iter().map(Control::url).collect::<Vec<_>>(), &[])
            }
        }
    }

    async fn settle(&self) -> Result<()> {
        for control in &self.controls {
            control.wait_synced(self.workers.site().workers.len()).await?;
        }
        match &self.workers {
            Workers::Coordinated(fleet) => fleet.wait_settled().await,
            Workers::Alone(_) => Ok(()),
        }
    }

    /// What is written now arrives, also while old and new are mixed. Each step has a name of its own.
    async fn probe(&self, step: &str) -> Result<()> {
        self.settle().await.with_context(|| format!("after {step}"))?;
        let site = self.workers.site();
        let names: Vec<String> = (0..PROBES).map(|number| format!("probe/{step}/{number}")).collect();
        for name in &names {
            site.swift.put_object(MIRRORED[0], name, name.clone(), &[]).await?;
        }
        wait::until("probes", SOON, async || {
            let keys = site.bucket.keys("").await?;
            for name in &names {
                ensure!(keys.iter().any(|key| key.ends_with(name.as_str())), "{name} is missing");
            }
            Ok::<(), anyhow::Error>(())
        })
        .await
        .with_context(|| format!("after {step}"))
    }

    async fn replace_controls(&self, version: &Version, way: &str) -> Result<()> {
        let program = version.program("swift-s3-control")?;
        for (index, control) in self.controls.iter().enumerate() {
            ensure!(control.stop().await? == 0, "control did not stop well");
            control.set_program(program.clone());
            control.restart().await?;
            expect_program(control.pid()?, &program).await?;
            self.probe(&format!("control{index} {way}")).await?;
        }
        Ok(())
    }

    async fn replace_workers(&self, version: &Version, way: &str) -> Result<()> {
        let program = version.program("swift-s3-sync")?;
        for (index, worker) in self.workers.site().workers.iter().enumerate() {
            ensure!(worker.stop().await? == 0, "worker {index} did not stop well");
            worker.set_program(program.clone());
            self.start_worker(index).await?;
            expect_program(worker.pid()?, &program).await?;
            self.probe(&format!("worker{index} {way}")).await?;
        }
        Ok(())
    }

    /// A configuration that is applied while old and new are mixed is everybody's.
    async fn configure_anew(&self, workers: i64) -> Result<()> {
        let Some(control) = self.controls.first() else { return Ok(()) };
        let config = config(self.workers.site()).set("workers", workers);
        wait::until("a configuration to be applied", SOON, async || control.apply(&config).await).await?;
        self.settle().await
    }

    /// Forth in the order of the handbook: control, workers, shunts.
    async fn upgrade(&self, version: &Version) -> Result<()> {
        self.replace_controls(version, "forth").await?;
        self.configure_anew(5).await?;
        self.replace_workers(version, "forth").await?;
        self.shunts.replace(version).await?;
        self.probe("upgraded").await
    }

    /// Back in the other order.
    async fn roll_back(&self, version: &Version) -> Result<()> {
        self.shunts.replace(version).await?;
        self.replace_workers(version, "back").await?;
        self.configure_anew(6).await?;
        self.replace_controls(version, "back").await?;
        self.probe("rolled back").await
    }

    async fn expect_nothing_lost_and_nothing_repeated(&self, outcome: &Outcome) -> Result<()> {
        let site = self.workers.site();
        for container in MIRRORED {
            site.wait_equal(container, SOON).await?;
        }
        outcome.expect(site.swift.account(), &site.bucket).await?;
        let (archived, reads) = self.shunts.expect_everything().await?;
        let counts = site.faults.requests();
        eprintln!(
            "{} changes ({} PUT, {} POST, {} DELETE), {archived} archived, {reads} reads: {counts}",
            outcome.changes(),
            outcome.puts,
            outcome.posts,
            outcome.deletes
        );
        ensure!(outcome.changes() > 100 && outcome.posts > 0 && outcome.deletes > 0, "too little was done");
        ensure!(reads > 100, "only {reads} reads");
        expect_nothing_repeated(site, &outcome.writes(site.swift.account()))?;
        // The object, and the companion that it may have.
        ensure!(counts.of(Operation::Delete) <= 2 * outcome.deletes, "deletes were invented: {counts}");
        Ok(())
    }
}

async fn forth_and_back(kind: Kind) -> Result<()> {
    let (previous, present) = (Version::previous()?, Version::present());
    let seed = seed()?;
    eprintln!("{SEED_VARIABLE}={seed}, {kind:?}");
    let installation = Installation::start(kind, &previous).await?;
    let site = installation.workers.site();
    installation.shunts.fill(site).await?;
    let enough = Arc::new(AtomicBool::new(false));
    let load = MixedLoad {
        clients: 6,
        names: 10,
        posts: 100,
        pause: Duration::from_millis(150),
        enough: Arc::clone(&enough),
        ..MixedLoad::new(seed, 1_000_000, &MIRRORED)
    };
    let replace = async {
        let replaced = async {
            installation.upgrade(&present).await.context("upgrade")?;
            installation.roll_back(&previous).await.context("rollback")
        }
        .await;
        enough.store(true, Ordering::SeqCst);
        replaced
    };
    let (outcome, (), ()) =
        tokio::try_join!(load.run(&site.swift), installation.shunts.use_them(&enough), replace)?;
    installation.expect_nothing_lost_and_nothing_repeated(&outcome).await
}

#[tokio::test]
async fn workers_and_shunts_with_their_own_files_are_upgraded_and_rolled_back_under_load() -> Result<()> {
    forth_and_back(Kind::Standalone).await
}

#[tokio::test]
async fn a_fleet_under_a_control_plane_is_upgraded_and_rolled_back_under_load() -> Result<()> {
    forth_and_back(Kind::Controlled).await
}

#[tokio::test]
async fn a_fleet_that_shares_an_etcd_is_upgraded_and_rolled_back_under_load() -> Result<()> {
    forth_and_back(Kind::Coordinated).await
}
