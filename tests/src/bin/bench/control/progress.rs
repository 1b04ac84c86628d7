//! How many cursors a second become durable, and how long a report waits for that.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use swift_s3_tests::usage::Usage;

use super::fleet::Pace;
use super::node::REPORT_FEEDS;
use super::sample::Sample;
use super::{Bench, limits};
use crate::mebibytes;

const DURATION: Duration = Duration::from_secs(10);
/// Reports and acknowledgements are in balance by then.
const WARM_UP: Duration = Duration::from_secs(2);
/// Feeds a second that all nodes together report in the paced part.
const PACE: usize = 50_000;
/// The same where each feed is a key of etcd.
const PACE_WITH_ETCD: usize = 2_000;
/// Nodes that report as fast as they may in the other part, and how many reports each has under way.
const FAST_NODES: usize = 50;
const IN_FLIGHT: usize = 4;

impl Bench {
    pub(super) async fn progress(&self) -> Result<()> {
        let feeds = self.fleet.report_feeds();
        println!(
            "\nbench: reports of {REPORT_FEEDS} feeds each, for {} s; {feeds} feeds in all",
            DURATION.as_secs()
        );
        let folder = self.folder.path().join("limits");
        fs::create_dir_all(&folder)?;
        let measured = tokio::task::spawn_blocking(move || {
            anyhow::Ok((limits::rows_per_second(&folder, feeds)?, limits::syncs_per_second(&folder)?))
        });
        let (rows, syncs) = measured.await??;
        println!(
            "raw limit: {rows:.0} rows/s by one SQLite connection in transactions of 1000, WAL, synchronous=FULL"
        );
        println!("           {syncs:.0} appends with fdatasync/s");
        // The first report of a feed makes its row; this is about what comes after.
        let offered = if self.has_etcd { PACE_WITH_ETCD } else { PACE };
        let every = Duration::from_secs_f64(feeds as f64 / offered as f64);
        let all = Pace { reporters: self.fleet.nodes, every, in_flight: IN_FLIGHT, ..Pace::default() };
        self.reports("first", &Pace { every: every * 2, ..all }, every * 2).await?;
        println!(
            "{:<28} {:>10} {:>9} {:>12}   ms until acknowledged",
            "", "feeds/s", "its CPU %", "nodes' CPU %"
        );
        self.measured(&format!("{} nodes, {offered} offered", self.fleet.nodes), &all).await?;
        let fast = Pace { reporters: FAST_NODES.min(self.fleet.nodes), every: Duration::ZERO, ..all };
        let acknowledged = self.measured(&format!("{} nodes, at full speed", fast.reporters), &fast).await?;
        println!("full speed: {:.2} of the raw limit", acknowledged / rows);
        if self.has_etcd {
            return Ok(());
        }
        let data = self.control.data_dir();
        let bytes = |name: &str| fs::metadata(data.join(name)).map_or(0, |found| found.len());
        let (database, log) = (bytes("state.db"), bytes("state.db-wal"));
        println!(
            "database: {:.1} MiB ({:.0} bytes a feed), its log {:.1} MiB",
            mebibytes(database),
            database as f64 / feeds as f64,
            mebibytes(log)
        );
        println!("targets: >= {PACE} feeds/s acknowledged");
        Ok(())
    }

    async fn measured(&self, name: &str, pace: &Pace) -> Result<f64> {
        let own = || anyhow::Ok(Usage::of(std::process::id())?.cpu);
        let (cpu, own_cpu, began) = (self.usage()?.cpu, own()?, Instant::now());
        let (per_second, latencies) = self.reports(name, pace, DURATION).await?;
        let share = |used: Duration| used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        let (cpu, own_cpu) = (share(self.usage()?.cpu - cpu), share(own()? - own_cpu));
        println!("{name:<28} {per_second:>10.0} {cpu:>9.0} {own_cpu:>12.0}   {latencies}");
        Ok(per_second)
    }

    /// Feeds acknowledged a second while nodes report so, and the times until then.
    async fn reports(&self, name: &str, pace: &Pace, duration: Duration) -> Result<(f64, Sample)> {
        self.fleet.set_pace(*pace);
        tokio::time::sleep(WARM_UP).await;
        drop(self.fleet.take_latencies());
        let began = Instant::now();
        tokio::time::sleep(duration).await;
        let latencies = self.fleet.take_latencies();
        let per_second = (latencies.len() * REPORT_FEEDS) as f64 / began.elapsed().as_secs_f64();
        self.fleet.set_pace(Pace::default());
        self.fleet.all_acknowledged().await.map_err(|error| error.context(name.to_owned()))?;
        Ok((per_second, Sample::new(latencies)))
    }
}
