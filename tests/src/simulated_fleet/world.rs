//! A made-up installation: mostly well, somewhere behind, with failures of every kind.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use swift_s3_proto::v1::{
    FeedKey, FeedProgress, FeedStatus, Hello, Lag, ListMappingsRequest, MappingHealth, MappingStatus,
    NodeLoad, ParkedRow, Problem, Role,
};

use super::Script;
use crate::control_process::Control;
use crate::s3_client::S3Access;
use crate::sync_json::{MappingJson, SyncJson};

/// As Swift's default.
const REPLICAS: usize = 3;
/// One container in so many has rows behind.
const BEHIND: usize = 40;
/// One container in so many has failures.
const FAILING: usize = 500;
const FAILURES: usize = 5;
/// One node in so many refuses a mapping.
const REFUSING: usize = 250;
const REASONS: [(&str, &str); 4] = [
    (
        "remote_refused",
        "PUT https://s3.example.com/bench/x: 400 InvalidArgument: the name is not allowed here",
    ),
    ("remote_denied", "PUT https://s3.example.com/bench/x: 403 AccessDenied: not with these credentials"),
    ("local_missing", "no replica of the object is on any object server, and no tombstone"),
    (
        "remote_unavailable",
        "PUT https://s3.example.com/bench/x: 503 SlowDown: please reduce your request rate",
    ),
];

/// How much of everything there is. Each mapping is of a whole account.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Nodes.
    pub nodes: usize,
    /// Mappings, each of an account of its own.
    pub mappings: usize,
    /// Containers over all accounts; each has three replicas on three nodes.
    pub containers: usize,
}

impl World {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> SyncJson {
        let access = S3Access {
            endpoint: "https://s3.example.com".to_owned(),
            identity: "world-access-key-id".to_owned(),
            secret: "world-secret-access-key-0123456789abcdef".to_owned(),
            region: "us-east-1".to_owned(),
        };
        (0..self.mappings).fold(SyncJson::new(), |config, mapping| {
            let bucket = format!("bucket-{mapping:04}");
            config.mapping(MappingJson::new(&account(mapping), "/*", &access, &bucket))
        })
    }

    /// Puts the configuration in force and writes what each node tells under it.
    ///
    /// # Errors
    /// When control does not take it.
    pub async fn scripts(&self, control: &Control) -> Result<Vec<Script>> {
        control.apply(&self.config()).await?;
        let mappings = all_mappings(control).await?;
        ensure!(mappings.len() == self.mappings, "{} mappings", mappings.len());
        let mut scripts: Vec<Script> = (0..self.nodes).map(|node| self.script(node, &mappings)).collect();
        for container in 0..self.containers {
            for replica in 0..REPLICAS.min(self.nodes) {
                let node = (container + replica * (self.nodes / REPLICAS).max(1)) % self.nodes;
                let mapping = &mappings[container % self.mappings];
                let feed = feed(container, replica, mapping);
                if container.is_multiple_of(FAILING) && replica == 0 {
                    scripts[node].progress.push(progress(&feed, container));
                }
                scripts[node].feeds.push(feed);
            }
        }
        Ok(scripts)
    }

    fn script(&self, node: usize, mappings: &[MappingStatus]) -> Script {
        let mut script = Script {
            hello: Hello {
                node_id: format!("storage{node:04}"),
                role: Role::Worker.into(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                addresses: vec![format!("10.0.{}.{}", node / 250, node % 250 + 1)],
                capabilities: ["explain", "retry", "delete_limit"].map(str::to_owned).to_vec(),
                instance_id: format!("{:032x}", rand::random::<u128>()),
                revision: 0,
                host: format!("storage{node:04}.example.com"),
            },
            health: mappings.iter().map(health).collect(),
            load: Some(NodeLoad {
                cpu_seconds: 1_000.0 + node as f64,
                memory_bytes: (120 << 20) + ((node as u64) << 12),
                open_files: 300,
                max_open_files: 65_536,
                transfers: (node % 40) as u64,
                max_transfers: 64,
                uptime_seconds: 86_400.0,
            }),
            ..Script::default()
        };
        if node % REFUSING == 7 {
            let mapping = node % self.mappings;
            let refused = "403 AccessDenied from https://s3.example.com: not with these credentials";
            script.health[mapping].refused = refused.to_owned();
            script.problems.push(Problem {
                path: format!("containers[{mapping}].aws_bucket"),
                found: refused.to_owned(),
                allowed: "a bucket that these credentials may write to".to_owned(),
                mapping_id: mappings[mapping].mapping_id.clone(),
            });
        }
        script
    }
}

/// All pages of them.
async fn all_mappings(control: &Control) -> Result<Vec<MappingStatus>> {
    let mut client = control.status()?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListMappingsRequest { page_size: 1_000, page_token, ..ListMappingsRequest::default() };
        let page = client.list_mappings(request).await?.into_inner();
        all.extend(page.mappings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn account(mapping: usize) -> String {
    format!("AUTH_customer{mapping:04}")
}

fn health(mapping: &MappingStatus) -> MappingHealth {
    MappingHealth { mapping_id: mapping.mapping_id.clone(), ..MappingHealth::default() }
}

fn feed(container: usize, replica: usize, mapping: &MappingStatus) -> FeedStatus {
    let number = container * REPLICAS + replica;
    // Digests and ids of databases are random.
    let mixed = (container as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);
    let is_behind = container.is_multiple_of(BEHIND);
    let rows = if is_behind { (container as u64 * 37) % 900 + 1 } else { 0 };
    FeedStatus {
        key: Some(FeedKey {
            mapping_identity: format!("{mixed:032x}"),
            database_id: format!("{number:08x}-0000-4000-8000-{number:012x}"),
        }),
        mapping_id: mapping.mapping_id.clone(),
        account: mapping.account.clone(),
        container: format!("container{container:06}"),
        lag: Some(Lag {
            rows,
            bytes: rows << 20,
            seconds: if is_behind { (container % 3_000) as f64 + 1.5 } else { 0.0 },
            observed_at: Some(SystemTime::now().into()),
            ..Lag::default()
        }),
        rows_done: container as u64,
        bytes_sent: (container as u64) << 20,
        replicas: vec![replica as u32],
        nodes: REPLICAS as u32,
        ..FeedStatus::default()
    }
}

fn progress(feed: &FeedStatus, container: usize) -> FeedProgress {
    let parked = (0..FAILURES).map(|index| {
        let (reason, message) = REASONS[(container / FAILING + index / 2) % REASONS.len()];
        ParkedRow {
            object: format!("reports/2026/{index:02}/summary-{container:06}.pdf"),
            rowid: 100 + index as i64,
            share: "own".to_owned(),
            deleted: false,
            timestamp: "1790000000.00000".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            attempts: 3 + index as u32,
            next_try: next_try(index),
        }
    });
    FeedProgress {
        key: feed.key.clone(),
        mapping_id: feed.mapping_id.clone(),
        account: feed.account.clone(),
        container: feed.container.clone(),
        cursors: [("own".to_owned(), 99), ("others".to_owned(), 90)].into(),
        replicas: feed.replicas.clone(),
        nodes: feed.nodes,
        parked: parked.collect(),
        is_complete: true,
        ..FeedProgress::default()
    }
}

/// Within the next quarter of an hour, as it is with workers.
fn next_try(index: usize) -> u64 {
    let soon = SystemTime::now() + Duration::from_secs(60 + 120 * index as u64);
    soon.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
