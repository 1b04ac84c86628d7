//! Container databases of a cluster: where they are, what is in them, and how they are copied or sharded.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::{Node, ServerKind, SwiftCluster};
use crate::swift_client::{Response, SwiftClient};

/// Rounds of the sharder on every node until a container must be sharded.
const SHARDER_ROUNDS: usize = 6;

/// One row of a container database as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// ROWID.
    pub rowid: i64,
    /// Object name.
    pub name: String,
    /// Up to three timestamps in Swift's encoding.
    pub created_at: String,
    /// Bytes.
    pub size: i64,
    /// Content type, perhaps with Swift's own parameters.
    pub content_type: String,
    /// MD5 in hex.
    pub etag: String,
    /// True for a tombstone.
    pub deleted: bool,
    /// Storage policy.
    pub policy_index: i64,
}

impl SwiftCluster {
    /// The nodes of a container's replicas, in the order of their indexes.
    pub async fn container_nodes(&self, names: &[&str; 2]) -> Result<Vec<usize>> {
        let target = self.directory.path().join("container-ring-nodes.json");
        if !target.exists() {
            let ring = self.swift_dir.join("container.ring.gz");
            self.host.call("write_ring_nodes", json!({"ring": ring, "target": target})).await?;
        }
        let rows: Vec<Vec<IpAddr>> = serde_json::from_slice(&std::fs::read(&target)?)?;
        let row = rows.get(usize::try_from(self.partition(names))?).context("no such partition")?;
        let node_at = |ip: &IpAddr| self.nodes.iter().position(|node| IpAddr::V4(node.ip()) == *ip);
        row.iter().map(|ip| node_at(ip).context("no node has the address")).collect()
    }

    /// The databases of a container on one node, oldest file first: one, or two while it is being sharded, or none.
    pub fn container_databases(&self, account: &str, container: &str, node: usize) -> Vec<PathBuf> {
        let node = self.node(node);
        let mut found = Vec::new();
        for device in node.device_names() {
            let folder =
                self.placement.folder(&node.devices().join(device), "containers", &[account, container]);
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|extension| extension == "db")),
            );
        }
        found.sort();
        found
    }

    /// The newest database of a container on one node.
    ///
    /// # Errors
    /// When the node has none.
    pub fn container_db_path(&self, account: &str, container: &str, node: usize) -> Result<PathBuf> {
        self.container_databases(account, container, node)
            .pop()
            .with_context(|| format!("node {node} has no database of {account}/{container}"))
    }

    /// The rows of a container on one node, in ROWID order, after merging what the server had pending.
    pub async fn container_rows(
        &self,
        account: &str,
        container: &str,
        node: usize,
    ) -> Result<Vec<StoredRow>> {
        self.direct_container_head(account, container, node).await?;
        read_rows(&self.container_db_path(account, container, node)?)
    }

    /// HEAD of a container at one node's container server, which also merges pending rows into the database.
    pub async fn direct_container_head(
        &self,
        account: &str,
        container: &str,
        node: usize,
    ) -> Result<Response> {
        let node = self.node(node);
        let path = format!(
            "/{}/{}/{}",
            self.primary_device(node, &[account, container]),
            self.partition(&[account, container]),
            SwiftClient::encode(format!("{account}/{container}").as_bytes())
        );
        self.direct_client(node, ServerKind::Container)?.send_raw("HEAD", &path, &[], None).await
    }

    /// One request about an object to one node's object server, for example `("HEAD", …)`.
    pub async fn direct_object(
        &self,
        method: &str,
        node: usize,
        names: [&str; 3],
        policy: u32,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let node = self.node(node);
        let path = format!(
            "/{}/{}/{}",
            self.primary_device(node, &names),
            self.partition(&names),
            SwiftClient::encode(names.join("/").as_bytes())
        );
        let policy = policy.to_string();
        let mut all = vec![("X-Backend-Storage-Policy-Index", policy.as_str())];
        all.extend_from_slice(headers);
        self.direct_client(node, ServerKind::Object)?.send_raw(method, &path, &all, None).await
    }

    /// Copies a container's database from one node to another, as replication does when a node lacks it or is far behind:
    /// the target gets the rows, and with `new_id` an id of its own. The target's former database is replaced.
    pub async fn copy_container_db(
        &self,
        account: &str,
        container: &str,
        from: usize,
        to: usize,
        new_id: bool,
    ) -> Result<PathBuf> {
        let source = self.container_db_path(account, container, from)?;
        let node = self.node(to);
        let device = node.device_names().first().context("the node has no device")?;
        let names = [account, container];
        let folder = self.placement.folder(&node.devices().join(device), "containers", &names);
        let file = source.file_name().context("a database has a file name")?;
        let target = folder.join(file);
        let arguments = json!({"source": source, "target": target, "new_id": new_id});
        self.host.call("copy_container_db", arguments).await?;
        Ok(target)
    }

    /// Puts rows `o00000000`, `o00000001` … into a container's database on every node, as of objects with this content that were
    /// written at `timestamp`. The objects themselves are not there.
    pub async fn insert_rows(
        &self,
        account: &str,
        container: &str,
        count: usize,
        content: (u64, &str),
        timestamp: &str,
    ) -> Result<()> {
        let (size, etag) = content;
        for node in 0..self.nodes.len() {
            let database = self.container_db_path(account, container, node)?;
            let arguments = json!({"database": database, "count": count, "size": size, "etag": etag, "timestamp": timestamp});
            self.host.call("insert_rows", arguments).await?;
        }
        Ok(())
    }

    /// Lists a container at one node's container server, page by page; answers how many objects it has.
    pub async fn direct_listing(&self, account: &str, container: &str, node: usize) -> Result<usize> {
        let node = self.node(node);
        let client = self.direct_client(node, ServerKind::Container)?;
        let (mut marker, mut count) = (String::new(), 0);
        loop {
            let path = format!(
                "/{}/{}/{}?format=json&marker={}",
                self.primary_device(node, &[account, container]),
                self.partition(&[account, container]),
                SwiftClient::encode(format!("{account}/{container}").as_bytes()),
                SwiftClient::encode(marker.as_bytes())
            );
            let page = client.send_raw("GET", &path, &[], None).await?.success()?;
            let entries: Vec<serde_json::Value> = serde_json::from_slice(&page.body)?;
            let Some(last) = entries.last() else { return Ok(count) };
            count += entries.len();
            marker = last["name"].as_str().context("no name")?.to_owned();
        }
    }

    /// Shards a container into pieces of `rows_per_shard` rows and waits until the shards are listed in
    /// `.shards_<account>`.
    pub async fn shard_container(&self, account: &str, container: &str, rows_per_shard: u32) -> Result<()> {
        self.begin_sharding(account, container, rows_per_shard).await?;
        for _ in 0..SHARDER_ROUNDS {
            self.run_everywhere("container-sharder").await?;
            if self.is_sharded(account, container).await? {
                return self.run_everywhere("container-updater").await;
            }
        }
        bail!("{account}/{container} is not sharded after {SHARDER_ROUNDS} rounds")
    }

    /// Whether all replicas of a container say that it is sharded.
    pub async fn is_sharded(&self, account: &str, container: &str) -> Result<bool> {
        let mut sharded = true;
        for node in 0..self.nodes.len() {
            if self.container_databases(account, container, node).is_empty() {
                continue;
            }
            let head = self.direct_container_head(account, container, node).await?;
            sharded &= head.header("x-backend-sharding-state") == Some("sharded");
        }
        Ok(sharded)
    }

    /// Decides on the shards of a container, for sharders to make.
    pub async fn begin_sharding(&self, account: &str, container: &str, rows_per_shard: u32) -> Result<()> {
        for node in 0..self.nodes.len() {
            self.direct_container_head(account, container, node).await?;
        }
        let holder = (0..self.nodes.len())
            .find(|node| !self.container_databases(account, container, *node).is_empty())
            .with_context(|| format!("no node has {account}/{container}"))?;
        let database = self.container_db_path(account, container, holder)?;
        let arguments = [
            database.display().to_string(),
            "find_and_replace".to_owned(),
            rows_per_shard.to_string(),
            "--enable".to_owned(),
        ];
        self.host.call("manage_shard_ranges", json!({"arguments": arguments})).await?;
        Ok(())
    }

    /// The device of a node that has the item: the one with a folder for it, else the first.
    fn primary_device<'node>(&self, node: &'node Node, names: &[&str]) -> &'node str {
        let kinds: &[&str] = match names.len() {
            1 => &["accounts"],
            2 => &["containers"],
            _ => &["objects", "objects-1", "objects-2"],
        };
        node.device_names()
            .iter()
            .find(|device| {
                kinds
                    .iter()
                    .any(|kind| self.placement.folder(&node.devices().join(device), kind, names).exists())
            })
            .or(node.device_names().first())
            .map_or("", String::as_str)
    }

    fn direct_client(&self, node: &Node, kind: ServerKind) -> Result<SwiftClient> {
        let address = SocketAddr::new(IpAddr::V4(node.ip()), node.port(kind));
        SwiftClient::new(&format!("http://{address}"), "none", None)
    }
}

/// The rows of a container database file, in ROWID order.
pub(crate) fn read_rows(path: &Path) -> Result<Vec<StoredRow>> {
    ensure!(path.exists(), "{} does not exist", path.display());
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare(
        "SELECT ROWID, name, created_at, size, content_type, etag, deleted, storage_policy_index \
         FROM object ORDER BY ROWID",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(StoredRow {
            rowid: row.get(0)?,
            name: row.get(1)?,
            created_at: row.get(2)?,
            size: row.get(3)?,
            content_type: row.get(4)?,
            etag: row.get(5)?,
            deleted: row.get::<_, i64>(6)? != 0,
            policy_index: row.get(7)?,
        })
    })?;
    rows.collect::<rusqlite::Result<Vec<_>>>().with_context(|| format!("read {}", path.display()))
}
