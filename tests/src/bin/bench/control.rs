//! The control plane with a thousand nodes: real processes and streams, the nodes simulated by this program.
//!
//! Each node has a connection, a stream and a greeting of its own, and otherwise does what a worker does. The data directory is
//! in the temporary directory, which should be on a disk: on a memory file system a sync costs nothing.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use swift_s3_proto::v1::{ApplyConfigRequest, GetStatusRequest, NodeState};
use swift_s3_tests::control_process::Control;
use swift_s3_tests::s3_client::S3Access;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::usage::Usage;
use swift_s3_tests::wait;
use tokio::task::JoinSet;

use crate::mebibytes;
use fleet::Fleet;

mod fleet;
mod limits;
mod node;
mod progress;
mod push;
mod restart;
pub(crate) mod sample;

/// Mappings of the configuration.
const MAPPINGS: usize = 500;
const ACCOUNT: &str = "AUTH_bench";
/// Connections of this process, of the raw limit twice over, and room for the rest.
const FILES_PER_NODE: usize = 3;
/// Control tells the nodes anew how many they are 2 s after the last one came. Then comes nothing until something happens.
const CALM: Duration = Duration::from_secs(4);
const SYNCED_LIMIT: Duration = Duration::from_secs(60);

/// A control plane and its nodes.
struct Bench {
    control: Control,
    fleet: Arc<Fleet>,
    /// Dropped, the nodes end.
    _tasks: JoinSet<()>,
    folder: tempfile::TempDir,
    has_etcd: bool,
}

/// Measures all of it, one after the other.
pub async fn run(nodes: usize, etcd: Option<&str>) -> Result<()> {
    println!("\nbench: the control plane with {nodes} nodes, a connection each, simulated by this process");
    allow_files(nodes * FILES_PER_NODE + 512)?;
    let folder = tempfile::Builder::new().prefix("swift-s3-bench-").tempdir()?;
    let mut flags = vec!["--log-format", "json"];
    // What another run left there is not of this one.
    let prefix = format!("/swift-s3-bench-{}/", std::process::id());
    if let Some(url) = etcd {
        println!("its state is in etcd at {url}, under {prefix}");
        flags.extend(["--etcd", url, "--etcd-prefix", &prefix]);
    }
    let control = Control::start_with(folder.path().join("control"), &flags).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let empty = Usage::of(control.pid()?)?.rss_bytes;
    let (fleet, tasks) = Fleet::start(control.url(), nodes)?;
    let bench = Bench { control, fleet, _tasks: tasks, folder, has_etcd: etcd.is_some() };
    bench.fleet.all_connected().await?;
    if bench.has_etcd {
        return bench.progress().await;
    }
    tokio::time::sleep(CALM).await;
    let connected = bench.usage()?.rss_bytes;
    bench.push().await?;
    let pushed = bench.usage()?.rss_bytes;
    bench.stuck().await?;
    bench.progress().await?;
    let reported = bench.usage()?;
    bench.restart().await?;
    bench.memory(&[
        ("no nodes", empty),
        ("with nodes", connected),
        ("after the pushes", pushed),
        ("after the reports", reported.rss_bytes),
        ("at most, ever", reported.peak_rss_bytes),
    ]);
    ensure!(bench.control.stop().await? == 0, "control did not end as it should");
    Ok(())
}

impl Bench {
    fn memory(&self, moments: &[(&str, u64)]) {
        let nodes = self.fleet.nodes as u64;
        let empty = moments.first().map_or(0, |(_, bytes)| *bytes);
        println!(
            "\nbench: memory of control; each of {nodes} nodes tells of {} feeds, after the reports {} feeds each are known",
            node::STATUS_FEEDS,
            node::STATUS_FEEDS.max(node::REPORT_FEEDS)
        );
        println!("{:<20} {:>10} {:>16}", "", "MiB", "KiB per node");
        for (moment, bytes) in moments {
            let per_node = bytes.saturating_sub(empty) as f64 / nodes as f64 / 1024.0;
            println!("{moment:<20} {:>10.1} {per_node:>16.1}", mebibytes(*bytes));
        }
    }

    fn usage(&self) -> Result<Usage> {
        Usage::of(self.control.pid()?)
    }

    /// Puts the document of [`MAPPINGS`] mappings in force that this number names. Answers its revision.
    async fn apply(&self, number: usize, expected_revision: i64) -> Result<i64> {
        let request = ApplyConfigRequest {
            document: document(number),
            expected_revision,
            ..ApplyConfigRequest::default()
        };
        let applied = self.control.config()?.apply_config(request).await?.into_inner();
        let revision = applied.revision.context("no revision in the answer")?.revision;
        ensure!(revision == expected_revision + 1, "revision {revision} after {expected_revision}");
        Ok(revision)
    }

    async fn synced(&self, nodes: usize) -> Result<()> {
        wait::until("the nodes to be synced", SYNCED_LIMIT, async || {
            let synced = self.count(NodeState::Synced).await?;
            ensure!(synced == nodes, "{synced} of {nodes}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// Nodes in a state, as control sees it.
    async fn count(&self, state: NodeState) -> Result<usize> {
        let status = self.control.status()?.get_status(GetStatusRequest {}).await?.into_inner();
        let count = status.nodes.iter().find(|count| count.state() == state);
        Ok(count.map_or(0, |count| count.count as usize))
    }
}

fn document(number: usize) -> String {
    let access = S3Access {
        endpoint: "https://s3.example.com".to_owned(),
        identity: "bench-access-key-id".to_owned(),
        secret: "bench-secret-access-key-0123456789abcdef".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let config = (0..MAPPINGS).fold(SyncJson::new().set("items_chunk", 1_000 + number), |config, mapping| {
        config.mapping(MappingJson::new(ACCOUNT, &container(mapping), &access, "bench"))
    });
    config.document(&[]).to_string()
}

fn container(number: usize) -> String {
    format!("container{number:05}")
}

/// Raises the limit of open files of this process and those that it starts, if it is too low.
pub(crate) fn allow_files(needed: usize) -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of files")?;
    let number = |index| line.split_whitespace().nth(index).and_then(|word| word.parse::<usize>().ok());
    let (soft, hard) = (number(3).unwrap_or(usize::MAX), number(4).unwrap_or(usize::MAX));
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        bail!(
            "{needed} open files are needed, and at most {hard} are allowed; raise the limit (ulimit -Hn) or take fewer --nodes"
        );
    }
    let status = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={needed}:")])
        .status()
        .context("could not run prlimit (util-linux)")?;
    ensure!(status.success(), "prlimit failed: {status}");
    Ok(())
}
