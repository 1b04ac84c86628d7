//! How fast a configuration reaches every node, and whether nodes that do not read harm the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use swift_s3_proto::v1::NodeState;
use swift_s3_tests::wait;

use super::fleet::{Pace, STUCK};
use super::sample::Sample;
use super::{Bench, MAPPINGS, limits};
use crate::mebibytes;

const PUSHES: usize = 20;
const PUSHES_WHILE_STUCK: usize = 5;
const PUSH_LIMIT: Duration = Duration::from_secs(30);
/// Control cuts off who does not read for 30 s.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(45);
const CUT_OFF: &str = "ended the stream of a node that does not read";

/// Times from the sending of ApplyConfig, over nodes and pushes.
struct Pushed {
    answered: Sample,
    received: Sample,
    applied: Sample,
    bytes: usize,
}

impl Bench {
    pub(super) async fn push(&self) -> Result<()> {
        let nodes = self.fleet.nodes;
        println!(
            "\nbench: {PUSHES} configurations of {MAPPINGS} mappings to {nodes} nodes, one after the other"
        );
        let cpu = self.usage()?.cpu;
        let pushed = self.pushes(PUSHES, nodes).await?;
        let cpu = self.usage()?.cpu - cpu;
        let raw = limits::fan_out(pushed.bytes, nodes, PUSHES).await?;
        println!("ms from the sending of ApplyConfig; a document has {} KiB", pushed.bytes / 1024);
        println!("{:<28} {}", "raw limit, received", raw.received);
        println!("{:<28} {}", "raw limit, answered", raw.answered);
        println!("{:<28} {}", "ApplyConfig answered", pushed.answered);
        println!("{:<28} {}", "nodes received it", pushed.received);
        println!("{:<28} {}", "control has the answers", pushed.applied);
        println!("CPU of control: {:.0} ms a push", cpu.as_secs_f64() * 1e3 / PUSHES as f64);
        println!("targets: p99 <= 1000");
        Ok(())
    }

    /// The last nodes are not read from for a while.
    pub(super) async fn stuck(&self) -> Result<()> {
        let others = self.fleet.nodes - STUCK;
        println!(
            "\nbench: {STUCK} nodes do not read; {PUSHES_WHILE_STUCK} configurations to the other {others}"
        );
        let before = self.usage()?.rss_bytes;
        self.fleet.set_pace(Pace { is_stuck: true, ..Pace::default() });
        let pushed = self.pushes(PUSHES_WHILE_STUCK, others).await?;
        let during = self.usage()?.rss_bytes;
        let began = Instant::now();
        wait::until("control to cut the stuck nodes off", CUT_OFF_LIMIT, async || {
            // They send heartbeats all the time, so that nothing else makes them silent.
            let ended = self.count(NodeState::NotSeen).await?;
            ensure!(ended == STUCK, "{ended} of {STUCK}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let told = self.control.log_text().matches(CUT_OFF).count();
        ensure!(told == STUCK, "the log tells of {told} nodes that were cut off, not {STUCK}");
        println!("{:<28} {}", "nodes received it", pushed.received);
        println!("{:<28} {}", "control has the answers", pushed.applied);
        println!("the stuck nodes were cut off {:.0} s later", began.elapsed().as_secs_f64());
        let after = self.usage()?.rss_bytes;
        let freed = Instant::now();
        self.fleet.set_pace(Pace::default());
        self.synced(self.fleet.nodes).await?;
        println!("reading again, they had the latest {:.1} s later", freed.elapsed().as_secs_f64());
        println!(
            "memory of control: {:.1} MiB before, {:.1} during, {:.1} after",
            mebibytes(before),
            mebibytes(during),
            mebibytes(after)
        );
        println!("targets: p99 <= 1000 as without them");
        Ok(())
    }

    /// Each is waited for until `nodes` have it and control knows.
    async fn pushes(&self, count: usize, nodes: usize) -> Result<Pushed> {
        let (mut answered, mut received, mut sent_at) = (Vec::new(), Vec::new(), HashMap::new());
        let mut bytes = 0;
        let mut revision = self.control.revision().await?;
        for _ in 0..count {
            let (began, began_at) = (Instant::now(), Timestamp::now());
            revision = self.apply(usize::try_from(revision)? + 1, revision).await?;
            answered.push(began.elapsed());
            sent_at.insert(revision, began_at);
            let receptions = wait::until("all nodes to have the configuration", PUSH_LIMIT, async || {
                let receptions = self.fleet.receptions(revision);
                ensure!(receptions.len() >= nodes, "{} of {nodes}", receptions.len());
                Ok::<_, anyhow::Error>(receptions)
            })
            .await?;
            bytes = receptions.first().context("no nodes")?.bytes;
            received.extend(receptions.iter().map(|received| received.at - began));
            self.synced(nodes).await?;
        }
        let applied = wait::until("the log to tell of all answers", PUSH_LIMIT, async || {
            let applied = self.applied(&sent_at)?;
            ensure!(applied.len() >= count * nodes, "{} of {}", applied.len(), count * nodes);
            Ok::<_, anyhow::Error>(applied)
        })
        .await?;
        Ok(Pushed {
            answered: Sample::new(answered),
            received: Sample::new(received),
            applied: Sample::new(applied),
            bytes,
        })
    }

    /// When control had each answer to these revisions. Its log says so; no call does.
    fn applied(&self, sent_at: &HashMap<i64, Timestamp>) -> Result<Vec<Duration>> {
        let mut times = HashMap::new();
        for line in
            self.control.log_text().lines().filter(|line| line.contains("node applied the configuration"))
        {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let text = |key: &str| line.get(key).and_then(serde_json::Value::as_str);
            let revision = line.get("revision").and_then(serde_json::Value::as_i64).context("no revision")?;
            let Some(sent_at) = sent_at.get(&revision) else { continue };
            let at: Timestamp = text("timestamp").context("no timestamp")?.parse()?;
            let took = Duration::try_from(at.duration_since(*sent_at)).unwrap_or_default();
            let node_id = text("node_id").context("no node")?.to_owned();
            // A node that came back answers the same revision again.
            times.entry((node_id, revision)).or_insert(took);
        }
        Ok(times.into_values().collect())
    }
}
