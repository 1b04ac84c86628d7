//! A control plane that is killed while all nodes report: how fast they are back, and that nothing is lost.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension};
use swift_s3_proto::v1::LoadProgressRequest;

use super::Bench;
use super::fleet::{Cursors, Pace};
use super::node::{self, LANE, REPORT_FEEDS};
use super::sample::Sample;

/// Reports go on for so long before the kill.
const BEFORE: Duration = Duration::from_secs(3);
/// Feeds a second that all nodes together report.
const PACE: usize = 50_000;
const WINDOW: Duration = Duration::from_millis(100);

impl Bench {
    pub(super) async fn restart(&self) -> Result<()> {
        println!("\nbench: control is killed while all nodes report, and started again");
        let every = Duration::from_secs_f64(self.fleet.report_feeds() as f64 / PACE as f64);
        let pace = Pace { reporters: self.fleet.nodes, every, in_flight: 4, ..Pace::default() };
        self.fleet.set_pace(pace);
        tokio::time::sleep(BEFORE).await;
        let killed = Instant::now();
        self.control.kill().await?;
        let at_kill = self.fleet.cursors();
        let disk = self.copy_database()?;
        drop(self.fleet.take_welcomes());
        self.fleet.resent.store(0, Ordering::Release);
        self.control.restart().await?;
        let listening = Instant::now();
        self.fleet.all_connected().await?;
        let back = self.fleet.take_welcomes();
        self.fleet.set_pace(Pace::default());
        self.fleet.all_acknowledged().await?;
        let settled = listening.elapsed();

        let times = Sample::new(back.iter().map(|at| at.saturating_duration_since(listening)).collect());
        println!("it listened again {:.1} s after the kill", (listening - killed).as_secs_f64());
        println!("ms until registered         {times}");
        println!("most registrations in {} ms: {}", WINDOW.as_millis(), most_within(back, WINDOW));
        println!("all reports acknowledged {:.1} s after it listened", settled.as_secs_f64());
        let open = at_kill.iter().filter(|node| node.sent != node.acknowledged).count();
        println!(
            "nodes with reports under way at the kill: {open}; reports sent again: {}",
            self.fleet.resent.load(Ordering::Acquire)
        );
        self.nothing_lost(&at_kill, disk).await
    }

    async fn nothing_lost(&self, at_kill: &[Cursors], disk: Connection) -> Result<()> {
        let nodes = self.fleet.nodes;
        let kept = tokio::task::spawn_blocking(move || cursors_on_disk(&disk, nodes)).await??;
        let mut lost = 0;
        for (index, node) in at_kill.iter().enumerate() {
            let found = kept.get(index).context("each node's cursors")?;
            lost += found.iter().filter(|cursor| **cursor < node.acknowledged).count();
        }
        let now = self.fleet.cursors();
        let mut wrong = 0;
        let mut client = self.control.node()?;
        for (index, node) in now.iter().enumerate() {
            let rows = index * REPORT_FEEDS..(index + 1) * REPORT_FEEDS;
            let keys = rows.map(node::key).collect();
            let request = LoadProgressRequest { node_id: node::node_id(index), keys };
            let feeds = client.load_progress(request).await?.into_inner().feeds;
            let right = feeds.iter().filter(|feed| feed.cursors.get(LANE) == Some(&node.sent)).count();
            wrong += REPORT_FEEDS - right;
        }
        println!(
            "of {} feeds: {lost} acknowledged before the kill and not on the disk",
            self.fleet.report_feeds()
        );
        println!("            {wrong} in the end not at the highest cursor that was sent");
        println!("targets: 0 and 0");
        ensure!(lost == 0 && wrong == 0, "reports were lost");
        Ok(())
    }

    /// What the killed process left on the disk, opened apart from it.
    fn copy_database(&self) -> Result<Connection> {
        let folder = self.folder.path().join("at-kill");
        fs::create_dir_all(&folder)?;
        for name in ["state.db", "state.db-wal"] {
            fs::copy(self.control.data_dir().join(name), folder.join(name))
                .with_context(|| format!("copy {name}"))?;
        }
        Ok(Connection::open(folder.join("state.db"))?)
    }
}

/// By node and feed; 0 for a feed that nothing is known of.
fn cursors_on_disk(database: &Connection, nodes: usize) -> Result<Vec<Vec<i64>>> {
    let mut statement = database.prepare(
        "SELECT json_extract(cursors, '$.' || ?3) FROM progress WHERE mapping_identity = ?1 AND database_id = ?2",
    )?;
    let mut cursor = |row: usize| {
        let (identity, database_id) = (node::mapping_identity(row), node::database_id(row));
        statement.query_row((identity, database_id, LANE), |row| row.get::<_, i64>(0)).optional()
    };
    let mut all = Vec::new();
    for index in 0..nodes {
        let rows = index * REPORT_FEEDS..(index + 1) * REPORT_FEEDS;
        let found: rusqlite::Result<Vec<Option<i64>>> = rows.map(&mut cursor).collect();
        all.push(found?.into_iter().map(Option::unwrap_or_default).collect());
    }
    Ok(all)
}

/// The most of these moments that fall into any window of this length.
fn most_within(mut moments: Vec<Instant>, window: Duration) -> usize {
    moments.sort();
    let last_in = |first: &Instant| moments.partition_point(|moment| *moment < *first + window);
    moments.iter().enumerate().map(|(index, first)| last_in(first) - index).max().unwrap_or(0)
}
