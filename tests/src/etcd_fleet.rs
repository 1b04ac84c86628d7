//! Workers that coordinate through an etcd, each by a way of its own that can be cut, and who owns what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use swift_s3_policy::owner_index;

use crate::control_process::Control;
use crate::etcd_cluster::{Change, EtcdCluster, Follower};
use crate::fault_proxy::Network;
use crate::site::Site;
use crate::swift_cluster::ServerKind;
use crate::tcp_gate::TcpGate;
use crate::wait;

/// What was registered once is there within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// A site whose workers have `--etcd`. Dropping it ends everything.
#[derive(Debug)]
pub struct EtcdFleet {
    /// Swift, S3 and the workers.
    pub site: Site,
    /// By worker, then by member.
    gates: Vec<Vec<TcpGate>>,
    /// The etcd.
    pub etcd: Arc<EtcdCluster>,
    prefix: String,
    lease: Duration,
}

/// One share: a partition of the container ring and a replica index.
pub type Share = (u32, u32);

/// For how long shares had nobody, as etcd's keys tell.
#[derive(Debug, Clone, Default)]
pub struct Ownership {
    /// The longest time without an owner and whose it was.
    pub longest_gap: Option<(Duration, Share)>,
    /// How often a share changed hands.
    pub takeovers: usize,
}

impl EtcdFleet {
    /// Gives every worker a way to each member of `etcd`, and the flags for it. Nothing is started.
    pub async fn new(site: Site, etcd: Arc<EtcdCluster>, lease: Duration) -> Result<Self> {
        let prefix = "/fleet/".to_owned();
        let mut gates = Vec::new();
        for worker in &site.workers {
            let mut ways = Vec::new();
            for address in etcd.addresses() {
                ways.push(TcpGate::start(address).await?);
            }
            let urls: Vec<String> = ways.iter().map(|gate| format!("http://{}", gate.address())).collect();
            gates.push(ways);
            worker.set_arguments(arguments(&urls, &prefix, lease));
        }
        Ok(Self { site, gates, etcd, prefix, lease })
    }

    /// Under which keys this fleet is.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `--etcd-lease-seconds`.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// The flags of a process that talks to etcd directly.
    pub fn arguments(&self) -> Vec<String> {
        arguments(&self.etcd.endpoints(), &self.prefix, self.lease)
    }

    /// Starts so many control processes on the etcd. Each serves; one of them leads.
    pub async fn start_controls(&self, number: usize) -> Result<Vec<Control>> {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut controls = Vec::new();
        for index in 0..number {
            let folder = self.site.directory().folder(format!("control{index}"))?;
            controls.push(Control::start_with(folder, &arguments).await?);
        }
        Ok(controls)
    }

    /// Starts all workers under the controls, each with another one preferred.
    pub fn start_workers_under(&self, controls: &[Control]) -> Result<()> {
        for worker in &self.site.workers {
            self.start_worker_under(worker.node(), controls)?;
        }
        Ok(())
    }

    /// Starts one of them.
    pub fn start_worker_under(&self, worker: usize, controls: &[Control]) -> Result<()> {
        let mut urls: Vec<String> = controls.iter().map(Control::url).collect();
        let first = worker.checked_rem(urls.len()).context("no control process")?;
        urls.rotate_left(first);
        self.site.workers.get(worker).context("no such worker")?.start_under(&urls, &[])
    }

    /// Changes what the network between one worker and etcd does.
    pub fn set_network(&self, worker: usize, network: Network) {
        for gate in self.gates.get(worker).into_iter().flatten() {
            gate.set_network(network);
        }
    }

    /// Lets a worker reach etcd again.
    pub fn heal(&self, worker: usize) {
        self.set_network(worker, Network::Up);
    }

    /// Follows every key of the fleet.
    pub async fn follow(&self) -> Result<Follower> {
        self.etcd.follow(&self.prefix).await
    }

    /// The start of the keys that say that a worker's devices have their home.
    pub fn home_prefix(&self, worker: usize) -> String {
        let node = self.site.cluster.node(worker);
        format!("{}workers/live/homes/{}:{}/", self.prefix, node.ip(), node.port(ServerKind::Container))
    }

    /// The start of the keys of shares that somebody took.
    pub fn shares_prefix(&self) -> String {
        format!("{}workers/live/shares/", self.prefix)
    }

    /// Home keys that are there.
    pub async fn homes(&self) -> Result<Vec<String>> {
        self.etcd.keys(&format!("{}workers/live/homes/", self.prefix)).await
    }

    /// Shares that somebody took, and by whom as the key's value says.
    pub async fn taken(&self) -> Result<BTreeMap<Share, String>> {
        let prefix = self.shares_prefix();
        let entries = self.etcd.entries(&prefix).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| Some((share_of(&prefix, &entry.key)?, entry.value)))
            .collect())
    }

    /// Waits until every worker has its home and nobody holds a share of somebody else's.
    pub async fn wait_settled(&self) -> Result<()> {
        let wanted: usize = self.site.cluster.nodes().iter().map(|node| node.device_names().len()).sum();
        wait::until("every share at home", SETTLE_LIMIT, async || {
            let (homes, taken) = (self.homes().await?, self.taken().await?);
            ensure!(homes.len() == wanted && taken.is_empty(), "homes {homes:?}, taken {taken:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a worker's shares of these containers are somebody else's; how long after `since` that was.
    pub async fn wait_taken(
        &self,
        follower: &Follower,
        worker: usize,
        containers: &[&str],
        since: Instant,
        limit: Duration,
    ) -> Result<Duration> {
        let prefix = self.shares_prefix();
        let mut latest = Duration::ZERO;
        for share in self.shares_of(worker, containers).await? {
            let what = format!("an owner of share {share:?}");
            let is_it = |change: &Change| {
                change.at >= since && change.value.is_some() && share_of(&prefix, &change.key) == Some(share)
            };
            let taken = follower.wait_for(&what, limit, is_it).await?;
            latest = latest.max(taken.at - since);
        }
        Ok(latest)
    }

    /// The home shares of a worker that containers of the site's account have.
    pub async fn shares_of(&self, worker: usize, containers: &[&str]) -> Result<Vec<Share>> {
        let cluster = &self.site.cluster;
        let mut shares = Vec::new();
        for container in containers {
            let names = [self.site.swift.account(), container];
            for (index, node) in (0..).zip(cluster.container_nodes(&names).await?) {
                if node == worker {
                    shares.push((cluster.partition(&names), index));
                }
            }
        }
        shares.sort_unstable();
        shares.dedup();
        Ok(shares)
    }

    /// The node whose worker owns a name when all are at home.
    pub async fn home_of(&self, container: &str, name: &str) -> Result<usize> {
        let nodes = self.site.cluster.container_nodes(&[self.site.swift.account(), container]).await?;
        let index = owner_index(name, u32::try_from(nodes.len())?);
        nodes.get(usize::try_from(index)?).copied().context("no such replica")
    }

    /// The same as [`names_of`] the site.
    pub async fn names_of(
        &self,
        worker: usize,
        container: &str,
        stem: &str,
        many: usize,
    ) -> Result<Vec<String>> {
        names_of(&self.site, worker, container, stem, many).await
    }

    /// Who owned the shares of these containers when, by the keys that a follower saw since all were at home.
    pub async fn ownership(&self, follower: &Follower, containers: &[&str]) -> Result<Ownership> {
        let (prefix, changes) = (self.shares_prefix(), follower.changes());
        let mut found = Ownership::default();
        for worker in 0..self.site.workers.len() {
            let home = self.home_prefix(worker);
            for share in self.shares_of(worker, containers).await? {
                // At first it is at home; later it is whoever has a key.
                let (mut at_home, mut taken, mut since) = (true, false, None::<Instant>);
                for change in &changes {
                    let is_there = change.value.is_some();
                    if change.key.starts_with(&home) {
                        at_home = is_there;
                    } else if share_of(&prefix, &change.key) == Some(share) {
                        found.takeovers += usize::from(is_there && !taken);
                        taken = is_there;
                    } else {
                        continue;
                    }
                    match (at_home || taken, since) {
                        (false, None) => since = Some(change.at),
                        (true, Some(begun)) => {
                            let gap = change.at - begun;
                            if found.longest_gap.is_none_or(|(longest, _)| gap > longest) {
                                found.longest_gap = Some((gap, share));
                            }
                            since = None;
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(found)
    }
}

/// So many names of a container that a worker owns when all are at home; they start with `stem`.
pub async fn names_of(
    site: &Site,
    worker: usize,
    container: &str,
    stem: &str,
    many: usize,
) -> Result<Vec<String>> {
    let nodes = site.cluster.container_nodes(&[site.swift.account(), container]).await?;
    let replicas = u32::try_from(nodes.len())?;
    let index = nodes.iter().position(|node| *node == worker).context("the worker has no replica")?;
    let owns = |name: &String| usize::try_from(owner_index(name, replicas)).is_ok_and(|owner| owner == index);
    Ok((0..).map(|number| format!("{stem}{number}")).filter(owns).take(many).collect())
}

/// Waits until a new object of each worker costs one request: what was written before a worker owned the name for a while is asked for
/// first, since clocks differ.
pub async fn wait_fresh(site: &Site, container: &str) -> Result<()> {
    for worker in 0..site.workers.len() {
        let mut names = names_of(site, worker, container, "warm", 200).await?.into_iter();
        wait::until("an object that costs one request", SETTLE_LIMIT, async || {
            let name = names.next().context("none did")?;
            site.swift.put_object(container, &name, "x", &[]).await?;
            site.wait_equal(container, SETTLE_LIMIT).await?;
            let seen = site.faults.seen();
            let asked = seen.iter().filter(|seen| seen.key.ends_with(&format!("/{name}"))).count();
            ensure!(asked == 1, "{asked} requests");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn arguments(urls: &[String], prefix: &str, lease: Duration) -> Vec<String> {
    ["--etcd", &urls.join(","), "--etcd-prefix", prefix, "--etcd-lease-seconds", &lease.as_secs().to_string()]
        .map(str::to_owned)
        .to_vec()
}

/// The share in a key `<prefix><replicas>/<partition>/<index>`.
fn share_of(prefix: &str, key: &str) -> Option<Share> {
    let mut parts = key.strip_prefix(prefix)?.split('/').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
