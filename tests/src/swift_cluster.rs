//! A real Swift cluster on loopback addresses: Debian's Swift, real rings, real databases.
//!
//! Started by scenarios and by `swift-ground`. Several clusters run side by side, each with hash prefix, policies and
//! addresses of its own. Nothing here belongs to an async runtime, so that a cluster can be shared by tests that
//! each have one: see [`SharedCluster`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::ports::{Neighbourhood, free_port};
use crate::process::{Process, ProcessOptions, tail};
use crate::run_directory::RunDirectory;
use crate::swift_client::SwiftClient;
use crate::wait;

mod client_proxy;
mod configuration;
mod databases;
mod host;
mod keystone_proxy;
mod node;
mod placement;
mod shared;

pub use client_proxy::{ClientProxy, ClientProxyOptions, filter_sources};
use configuration::{Context, ProxyKind};
use host::Host;
pub use node::{Node, ServerKind};
use placement::Placement;
pub use shared::SharedCluster;

/// The last byte of the address of everything that is not a storage node.
const FRONT: u8 = 200;
/// A server answers within a second on an idle machine.
const SERVER_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster has.
#[derive(Debug, Clone)]
pub struct SwiftOptions {
    /// Storage nodes, 1 to 9.
    pub nodes: usize,
    /// Devices of each node.
    pub devices_per_node: usize,
    /// Replicas of accounts, containers and objects; at most the number of devices.
    pub replicas: usize,
    /// The rings have 2^`part_power` partitions.
    pub part_power: u32,
    /// Adds policy 1, `silver`: replicated.
    pub second_policy: bool,
    /// Adds policy 2, `coded`: erasure coding, 2 data fragments and 1 of parity. Needs three devices.
    pub erasure_coding: bool,
    /// Starts a second proxy without authentication that honours its callers' timestamps.
    pub internal_proxy: bool,
    /// The public proxy also speaks S3.
    pub s3api: bool,
    /// Servers log every request. Benchmarks turn it off.
    pub log_requests: bool,
    /// `swift_hash_path_prefix`.
    pub hash_prefix: String,
    /// `swift_hash_path_suffix`.
    pub hash_suffix: String,
}

impl Default for SwiftOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            devices_per_node: 1,
            replicas: 3,
            part_power: 6,
            second_policy: false,
            erasure_coding: false,
            internal_proxy: true,
            s3api: false,
            log_requests: true,
            hash_prefix: "ground-prefix".to_owned(),
            hash_suffix: "ground-suffix".to_owned(),
        }
    }
}

impl SwiftOptions {
    /// One node, one replica: enough for everything but coordination and failing nodes, and the fastest.
    pub fn single_node() -> Self {
        Self { nodes: 1, replicas: 1, ..Self::default() }
    }
}

/// A running cluster. Dropping it ends its processes and removes its files.
#[derive(Debug)]
pub struct SwiftCluster {
    options: SwiftOptions,
    swift_dir: PathBuf,
    nodes: Vec<Node>,
    placement: Placement,
    proxy: SocketAddr,
    internal_proxy: Option<SocketAddr>,
    rsync_port: u16,
    // Dropped in this order: processes first, their files last.
    rsync_daemons: Mutex<Vec<Process>>,
    _memcached: Process,
    host: Host,
    directory: RunDirectory,
}

impl SwiftCluster {
    /// Starts everything and waits until it answers.
    pub async fn start(options: SwiftOptions) -> Result<Self> {
        ensure!((1..=9).contains(&options.nodes), "1 to 9 nodes");
        let directory = RunDirectory::create("swift")?;
        let swift_dir = directory.folder("etc")?;
        let logs = directory.folder("logs")?;
        fs::write(swift_dir.join("swift.conf"), configuration::swift_conf(&options))?;
        let network = Neighbourhood::random();
        let front = network.address(FRONT);
        let front_port = || free_port(IpAddr::V4(front));
        let user = user_name()?;

        let memcached_address = (front, front_port()?);
        let memcached = start_memcached(&logs, memcached_address, &user)?;
        let nodes = make_nodes(&options, &directory, network)?;
        let first_ip = nodes.first().map_or(front, |node| node.ip);
        let rsync_port = free_port(IpAddr::V4(first_ip))?;
        let proxy = SocketAddr::new(IpAddr::V4(front), front_port()?);
        let internal_proxy = if options.internal_proxy {
            Some(SocketAddr::new(IpAddr::V4(front), front_port()?))
        } else {
            None
        };
        let context = Context {
            options: &options,
            swift_dir: &swift_dir,
            user: &user,
            memcached: memcached_address,
            rsync_port,
        };
        write_configuration(&context, &nodes, front, proxy, internal_proxy)?;

        let host = Host::start(&swift_dir, &logs).await?;
        let cluster = Self {
            placement: Placement {
                prefix: options.hash_prefix.clone(),
                suffix: options.hash_suffix.clone(),
                part_power: options.part_power,
            },
            options,
            swift_dir,
            nodes,
            proxy,
            internal_proxy,
            rsync_port,
            rsync_daemons: Mutex::default(),
            _memcached: memcached,
            host,
            directory,
        };
        cluster.build_rings().await?;
        cluster.start_servers().await?;
        Ok(cluster)
    }

    /// The options it was started with.
    pub fn options(&self) -> &SwiftOptions {
        &self.options
    }

    /// The folder of `swift.conf` and the rings.
    pub fn swift_dir(&self) -> &Path {
        &self.swift_dir
    }

    /// A folder for whatever a test needs; it goes away with the cluster.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// The storage nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One storage node.
    ///
    /// # Panics
    /// When there is none of that number.
    #[expect(clippy::indexing_slicing, reason = "a wrong number is a mistake in the test itself")]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// `http://address:port` of the clients' proxy.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.proxy)
    }

    /// `http://address:port` of the proxy without authentication.
    ///
    /// # Errors
    /// When the options left it out.
    pub fn internal_url(&self) -> Result<String> {
        let address = self.internal_proxy.context("started without an internal proxy")?;
        Ok(format!("http://{address}"))
    }

    /// A client of account `AUTH_test`, logged in through tempauth.
    pub async fn client(&self) -> Result<SwiftClient> {
        SwiftClient::log_in(&self.proxy_url(), "test:tester", "testing").await
    }

    /// A client of any account, by the internal proxy. The name may have any characters.
    pub fn internal_client(&self, account: &str) -> Result<SwiftClient> {
        SwiftClient::new(&self.internal_url()?, account, None)
    }

    /// Kills the servers of a node, as if it had lost power.
    pub async fn stop_node(&self, index: usize) -> Result<()> {
        let pids = std::mem::take(&mut *self.node(index).pids());
        try_join_all(pids.iter().map(|(_, pid)| self.host.signal(*pid, Signal::SIGKILL, true))).await?;
        Ok(())
    }

    /// Starts the servers of a node that was stopped.
    pub async fn start_node(&self, index: usize) -> Result<()> {
        let node = self.node(index);
        ensure!(!node.is_running(), "node {index} runs already");
        try_join_all(ServerKind::ALL.map(|kind| self.start_storage_server(node, kind))).await?;
        Ok(())
    }

    /// Stops one kind of server of a node only.
    pub async fn stop_server(&self, index: usize, kind: ServerKind) -> Result<()> {
        let pid = {
            let mut pids = self.node(index).pids();
            let place = pids
                .iter()
                .position(|(running, _)| *running == kind)
                .with_context(|| format!("the {} server of node {index} is stopped", kind.name()))?;
            pids.remove(place).1
        };
        self.host.signal(pid, Signal::SIGKILL, true).await
    }

    /// Starts one kind of server of a node.
    pub async fn start_server(&self, index: usize, kind: ServerKind) -> Result<()> {
        self.start_storage_server(self.node(index), kind).await
    }

    /// Freezes the servers of a node: connections are accepted by the kernel, and nothing answers.
    pub async fn freeze_node(&self, index: usize) -> Result<()> {
        self.signal_node(index, Signal::SIGSTOP).await
    }

    /// Lets a frozen node go on.
    pub async fn thaw_node(&self, index: usize) -> Result<()> {
        self.signal_node(index, Signal::SIGCONT).await
    }

    /// Runs one daemon of a node once, for example `container-replicator`, and answers its log.
    ///
    /// # Errors
    /// When it ends otherwise than with 0.
    pub async fn run_once(&self, daemon: &str, index: usize) -> Result<String> {
        let node = self.node(index);
        let server = daemon.split('-').next().unwrap_or_default();
        let kind = ServerKind::ALL
            .into_iter()
            .find(|kind| kind.name() == server)
            .with_context(|| format!("{daemon} is not a daemon of a storage node"))?;
        if daemon.ends_with("replicator") || daemon.ends_with("sharder") {
            self.start_rsync_daemons().await?;
        }
        self.host.run_once(daemon, &node.conf(kind), &node.log(daemon)).await
    }

    /// Runs one daemon once on every node, one after the other.
    pub async fn run_everywhere(&self, daemon: &str) -> Result<()> {
        for node in &self.nodes {
            self.run_once(daemon, node.index()).await?;
        }
        Ok(())
    }

    /// Writes a copy of [`Self::swift_dir`] to `target` in which servers are reached at other ports of the same
    /// addresses: for a fault proxy between a worker and the servers. `ports` maps a server to its stand-in.
    pub async fn redirect(&self, target: &Path, ports: &[(SocketAddr, u16)]) -> Result<()> {
        fs::create_dir_all(target)?;
        fs::copy(self.swift_dir.join("swift.conf"), target.join("swift.conf"))?;
        let ports: serde_json::Map<String, Value> =
            ports.iter().map(|(address, port)| (address.to_string(), (*port).into())).collect();
        let arguments = json!({"source": self.swift_dir, "target": target, "ports": ports});
        self.host.call("redirect_rings", arguments).await?;
        Ok(())
    }

    /// The partition of an account (one name), container (two) or object (three). All rings have the same size.
    pub fn partition(&self, names: &[&str]) -> u32 {
        self.placement.partition(names)
    }

    /// The last lines of every log, for a failure's message.
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        let mut names: Vec<PathBuf> = fs::read_dir(self.directory.path().join("logs"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        names.sort();
        for path in names {
            let log = crate::process::read_log(&path);
            if !log.is_empty() {
                text.push_str(&format!("--- {}\n{}\n", path.display(), tail(&log)));
            }
        }
        text
    }

    async fn signal_node(&self, index: usize, signal: Signal) -> Result<()> {
        let pids = self.node(index).pids().clone();
        for (_, pid) in pids {
            self.host.signal(pid, signal, false).await?;
        }
        Ok(())
    }

    async fn build_rings(&self) -> Result<()> {
        let ring = |name: &str, kind: ServerKind, replicas: usize| {
            let devices: Vec<Value> = self
                .nodes
                .iter()
                .flat_map(|node| node.device_names.iter().map(move |device| (node, device)))
                .map(|(node, device)| {
                    json!({"ip": node.ip, "port": node.port(kind), "device": device, "region": 1, "zone": node.index + 1})
                })
                .collect();
            json!({
                "path": self.swift_dir.join(format!("{name}.ring.gz")), "part_power": self.options.part_power,
                "replicas": replicas.min(devices.len()), "devices": devices, "seed": 1,
            })
        };
        let replicas = self.options.replicas;
        let mut rings = vec![
            ring("account", ServerKind::Account, replicas),
            ring("container", ServerKind::Container, replicas),
            ring("object", ServerKind::Object, replicas),
        ];
        if self.options.second_policy {
            rings.push(ring("object-1", ServerKind::Object, replicas));
        }
        if self.options.erasure_coding {
            rings.push(ring("object-2", ServerKind::Object, 3));
        }
        self.host.call("build_rings", json!({"rings": rings})).await?;
        Ok(())
    }

    async fn start_servers(&self) -> Result<()> {
        let storage = self.nodes.iter().flat_map(|node| {
            ServerKind::ALL.into_iter().map(move |kind| self.start_storage_server(node, kind))
        });
        let storage = try_join_all(storage);
        let public = self.start_proxy(ProxyKind::Public, self.proxy);
        let internal = async {
            match self.internal_proxy {
                Some(address) => self.start_proxy(ProxyKind::Internal, address).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(storage, public, internal)?;
        Ok(())
    }

    async fn start_storage_server(&self, node: &Node, kind: ServerKind) -> Result<()> {
        let log = node.log(kind.name());
        let pid = self.host.serve(kind.application(), &node.conf(kind), &log).await?;
        node.pids().push((kind, pid));
        let address = SocketAddr::new(IpAddr::V4(node.ip), node.port(kind));
        self.wait_for_server(address, pid, &log).await
    }

    async fn start_proxy(&self, kind: ProxyKind, address: SocketAddr) -> Result<()> {
        let name = proxy_name(kind);
        let log = format!("{name}.log");
        let conf = self.swift_dir.join(format!("{name}.conf"));
        // Debian's Swift does not have the filter of the internal proxy.
        let packages = self.directory.path().join("python");
        if kind == ProxyKind::Internal {
            client_proxy::install_filter(&packages)?;
        }
        let packages = (kind == ProxyKind::Internal).then_some(packages.as_path());
        let pid = self.host.serve_with("proxy-server", &conf, &log, packages).await?;
        self.wait_for_server(address, pid, &log).await
    }

    async fn wait_for_server(&self, address: SocketAddr, pid: u32, log: &str) -> Result<()> {
        let url = format!("http://{address}");
        let process = PathBuf::from(format!("/proc/{pid}"));
        let answers = async || {
            let client = SwiftClient::new(&url, "none", None)?;
            let response = client.get_raw("/healthcheck").await?;
            ensure!(response.status == 200, "status {}", response.status);
            Ok(())
        };
        let what = format!("answer of {address}");
        wait::until(&what, SERVER_LIMIT, async || match answers().await {
            Ok(()) => Ok(Ok(())),
            // The host reaps its children, so an ended server has no entry.
            Err(_) if !process.exists() => Ok(Err(anyhow!("the server ended"))),
            Err(error) => Err(error),
        })
        .await
        .and_then(|outcome| outcome)
        .with_context(|| format!("{log} ends:\n{}", tail(&self.host.log_text(log))))
    }

    async fn start_rsync_daemons(&self) -> Result<()> {
        let started = {
            let mut running = self.rsync_daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if !running.is_empty() {
                return Ok(());
            }
            for node in &self.nodes {
                let log = self.directory.path().join("logs").join(node.log("rsyncd"));
                let options = ProcessOptions::new(format!("rsync of node {}", node.index), "rsync", log)
                    .arguments(["--daemon", "--no-detach"])
                    .argument(format!("--config={}", node.root.join("rsyncd.conf").display()));
                running.push(Process::start(options)?);
            }
            self.nodes.iter().map(|node| node.ip).collect::<Vec<_>>()
        };
        for ip in started {
            let address = SocketAddr::new(IpAddr::V4(ip), self.rsync_port);
            wait::until("rsync daemon", SERVER_LIMIT, async || tokio::net::TcpStream::connect(address).await)
                .await?;
        }
        Ok(())
    }
}

fn start_memcached(logs: &Path, (ip, port): (Ipv4Addr, u16), user: &str) -> Result<Process> {
    let options = ProcessOptions::new("memcached", "memcached", logs.join("memcached.log"))
        .arguments(["-l", &ip.to_string(), "-p", &port.to_string()])
        .arguments(["-U", "0", "-m", "32", "-t", "1", "-u", user]);
    Process::start(options)
}

fn make_nodes(options: &SwiftOptions, directory: &RunDirectory, network: Neighbourhood) -> Result<Vec<Node>> {
    let device_names: Vec<String> =
        (1..=options.devices_per_node).map(|number| format!("d{number}")).collect();
    let mut nodes = Vec::new();
    for (index, last) in (0..options.nodes).zip(1u8..) {
        let ip = network.address(last);
        let root = directory.folder(format!("node{index}"))?;
        for device in &device_names {
            // The replicators' rsync makes no parents, so a device that never had an object could not receive one.
            for kind in ["objects", "objects-1", "objects-2"] {
                fs::create_dir_all(root.join("devices").join(device).join(kind))?;
            }
        }
        fs::create_dir_all(root.join("cache"))?;
        let port = || free_port(IpAddr::V4(ip));
        nodes.push(Node {
            index,
            root,
            ip,
            ports: [port()?, port()?, port()?],
            device_names: device_names.clone(),
            pids: Mutex::default(),
        });
    }
    Ok(nodes)
}

fn write_configuration(
    context: &Context<'_>,
    nodes: &[Node],
    front: Ipv4Addr,
    proxy: SocketAddr,
    internal_proxy: Option<SocketAddr>,
) -> Result<()> {
    for node in nodes {
        for kind in ServerKind::ALL {
            fs::write(node.conf(kind), configuration::storage_conf(context, node, kind))?;
        }
        fs::write(node.root.join("rsyncd.conf"), configuration::rsync_conf(context, node))?;
    }
    let proxies = [(ProxyKind::Public, Some(proxy)), (ProxyKind::Internal, internal_proxy)];
    for (kind, address) in proxies {
        if let Some(address) = address {
            let text = configuration::proxy_conf(context, kind, front, address.port());
            let name = proxy_name(kind);
            fs::write(context.swift_dir.join(format!("{name}.conf")), text)?;
        }
    }
    fs::write(context.swift_dir.join("internal-client.conf"), configuration::internal_client_conf(context))?;
    Ok(())
}

const fn proxy_name(kind: ProxyKind) -> &'static str {
    match kind {
        ProxyKind::Public => "proxy",
        ProxyKind::Internal => "internal-proxy",
    }
}

fn user_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("run id -un")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
