//! A real etcd on loopback addresses: one member or three, with TLS and users if asked for, to break at will.
//!
//! Members are Debian's `etcd`, each with an address of its own and its data on the memory file system. They end with the test
//! run. Nothing here belongs to an async runtime but the client's calls.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Certificate, Client, CompactionOptions, ConnectOptions, Identity, Permission,
    RoleRevokePermissionOptions, TlsOptions,
};
use nix::sys::signal::Signal;

use crate::ports::{Neighbourhood, free_port};
use crate::process::{Process, ProcessOptions, read_log, tail};
use crate::run_directory::RunDirectory;
use crate::wait;

mod certificates;
mod follower;

use certificates::Certificates;
pub use follower::{Change, Follower};

/// An election takes a second on an idle machine; several things may start at once on a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// A frozen or partitioned member must not hold a test up.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// What a majority answers in the end, it answers within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a cluster has.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// 1 to 5; three survive the loss of one.
    pub members: usize,
    /// Clients talk TLS; the servers' certificates come from [`EtcdCluster::authority_file`].
    pub tls: bool,
    /// Clients also need a certificate of that authority; see [`EtcdCluster::client_certificate_files`].
    pub client_certificates: bool,
    /// Enables authentication: `root` has this password, others come by [`EtcdCluster::add_user`].
    pub root_password: Option<String>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self { members: 3, tls: false, client_certificates: false, root_password: None }
    }
}

impl EtcdOptions {
    /// One member: enough for everything but the loss of one, and the fastest.
    pub fn single() -> Self {
        Self { members: 1, ..Self::default() }
    }
}

#[derive(Debug)]
struct Member {
    name: String,
    folder: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    /// `new` at first; `existing` once it was wiped alone and added again.
    state: Mutex<&'static str>,
    is_frozen: AtomicBool,
    process: Mutex<Option<Process>>,
}

/// One key as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Its value; bytes that are not UTF-8 are replaced.
    pub value: String,
    /// The lease that it hangs on, or 0.
    pub lease: i64,
}

/// A running cluster. Dropping it ends its processes and removes its files.
#[derive(Debug)]
pub struct EtcdCluster {
    options: EtcdOptions,
    token: String,
    members: Vec<Member>,
    certificates: Option<Certificates>,
    /// Grows with every wipe: revisions begin anew.
    wipes: Arc<AtomicU64>,
    directory: RunDirectory,
}

impl EtcdCluster {
    /// Starts all members and waits until they have a leader; then sets users up if asked for.
    pub async fn start(options: EtcdOptions) -> Result<Self> {
        ensure!((1..=5).contains(&options.members), "1 to 5 members");
        let directory = RunDirectory::create("etcd")?;
        let network = Neighbourhood::random();
        let mut members = Vec::new();
        for (index, last) in (0..options.members).zip(1u8..) {
            let ip = IpAddr::V4(network.address(last));
            members.push(Member {
                name: format!("m{index}"),
                folder: directory.folder(format!("m{index}"))?,
                client: SocketAddr::new(ip, free_port(ip)?),
                peer: SocketAddr::new(ip, free_port(ip)?),
                state: Mutex::new("new"),
                is_frozen: AtomicBool::new(false),
                process: Mutex::new(None),
            });
        }
        let certificates = if options.tls {
            let ips: Vec<IpAddr> = members.iter().map(|member| member.client.ip()).collect();
            Some(Certificates::create(&directory.folder("tls")?, &ips)?)
        } else {
            None
        };
        let token = directory.path().display().to_string();
        let cluster = Self { options, token, members, certificates, wipes: Arc::default(), directory };
        cluster.start_all().await?;
        cluster.set_up_users().await?;
        Ok(cluster)
    }

    /// The options it was started with.
    pub fn options(&self) -> &EtcdOptions {
        &self.options
    }

    /// How many members there are, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where the members listen for clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// `http://address:port` of every member, or `https://`.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member.client)).collect()
    }

    /// The certificate of the authority that signed everybody's, PEM.
    ///
    /// # Errors
    /// When it was started without TLS.
    pub fn authority_file(&self) -> Result<PathBuf> {
        Ok(self.tls()?.authority.clone())
    }

    /// A client's certificate and key, PEM; its common name is `client`.
    ///
    /// # Errors
    /// When it was started without TLS.
    pub fn client_certificate_files(&self) -> Result<(PathBuf, PathBuf)> {
        let tls = self.tls()?;
        Ok((tls.client_certificate.clone(), tls.client_key.clone()))
    }

    /// Process id of a member.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, index: usize) -> Result<u32> {
        Ok(self.member(index)?.lock().as_ref().context("the member does not run")?.pid())
    }

    /// True while the member's process is there, frozen or not.
    pub fn is_running(&self, index: usize) -> bool {
        self.member(index).is_ok_and(|member| member.lock().as_ref().is_some_and(Process::is_running))
    }

    /// Starts every member that does not run and waits until all answer.
    pub async fn start_all(&self) -> Result<()> {
        for index in 0..self.members.len() {
            if !self.is_running(index) {
                self.spawn(index)?;
            }
        }
        for index in 0..self.members.len() {
            self.wait_member(index).await?;
        }
        Ok(())
    }

    /// Starts a member that does not run, and waits until it answers. It answers only with a majority.
    pub async fn start_member(&self, index: usize) -> Result<()> {
        self.spawn(index)?;
        self.wait_member(index).await
    }

    /// Starts a member that does not run, and does not wait.
    pub fn spawn(&self, index: usize) -> Result<()> {
        ensure!(!self.is_running(index), "member {index} runs already");
        let member = self.member(index)?;
        let process = Process::start(self.command(member)?)?;
        member.is_frozen.store(false, Ordering::SeqCst);
        *member.lock() = Some(process);
        Ok(())
    }

    /// Kills a member, as a power cut would.
    pub async fn kill_member(&self, index: usize) -> Result<()> {
        let process = self.member(index)?.lock().take().context("the member does not run")?;
        process.sigkill()?;
        process.wait(STOP_LIMIT).await?;
        Ok(())
    }

    /// Asks a member to end, and waits for that.
    pub async fn stop_member(&self, index: usize) -> Result<()> {
        let process = self.member(index)?.lock().take().context("the member does not run")?;
        process.stop(STOP_LIMIT).await?;
        Ok(())
    }

    /// Kills every member.
    pub async fn kill_all(&self) -> Result<()> {
        for index in 0..self.members.len() {
            if self.is_running(index) {
                self.kill_member(index).await?;
            }
        }
        Ok(())
    }

    /// Freezes a member: the kernel accepts connections, and nothing answers.
    pub fn freeze_member(&self, index: usize) -> Result<()> {
        self.member(index)?.is_frozen.store(true, Ordering::SeqCst);
        self.signal(index, Signal::SIGSTOP)
    }

    /// Lets a frozen member go on.
    pub fn thaw_member(&self, index: usize) -> Result<()> {
        self.member(index)?.is_frozen.store(false, Ordering::SeqCst);
        self.signal(index, Signal::SIGCONT)
    }

    /// Kills everything, removes all data and starts again: an etcd that was lost and made anew.
    pub async fn wipe(&self) -> Result<()> {
        self.kill_all().await?;
        for member in &self.members {
            remove(&member.data())?;
            *member.state.lock().unwrap_or_else(PoisonError::into_inner) = "new";
        }
        self.wipes.fetch_add(1, Ordering::SeqCst);
        self.start_all().await?;
        self.set_up_users().await
    }

    /// Kills one member, removes its data and lets it join anew, as an operator does after the loss of a disk.
    pub async fn wipe_member(&self, index: usize) -> Result<()> {
        ensure!(self.members.len() > 1, "the only member: use wipe");
        if self.is_running(index) {
            self.kill_member(index).await?;
        }
        let member = self.member(index)?;
        self.patiently("the removal of a member", async |mut client| {
            let listed = limited(client.member_list()).await?;
            let old = listed.members().iter().find(|listed| listed.name() == member.name);
            match old {
                Some(old) => limited(client.member_remove(old.id())).await.map(|_| ()),
                None => Ok(()),
            }
        })
        .await?;
        remove(&member.data())?;
        let peer = format!("http://{}", member.peer);
        self.patiently("the addition of a member", async |mut client| {
            match limited(client.member_add([&peer], None)).await {
                Err(error) if format!("{error:#}").contains("already exists") => Ok(()),
                answer => answer.map(|_| ()),
            }
        })
        .await?;
        *member.state.lock().unwrap_or_else(PoisonError::into_inner) = "existing";
        self.start_member(index).await
    }

    /// Which member leads.
    pub async fn leader(&self) -> Result<usize> {
        for index in 0..self.members.len() {
            let Ok(mut client) = self.client_of(&[index], self.root()).await else { continue };
            let Ok(status) = limited(client.status()).await else { continue };
            let Ok(listed) = limited(client.member_list()).await else { continue };
            let name = listed.members().iter().find(|member| member.id() == status.leader());
            let name = name.map(|member| member.name().to_owned());
            if let Some(leader) = self.members.iter().position(|member| Some(&member.name) == name.as_ref()) {
                return Ok(leader);
            }
        }
        anyhow::bail!("no member knows a leader")
    }

    /// A client of all members that run and are not frozen, as `root` if there are users.
    pub async fn client(&self) -> Result<Client> {
        let is_frozen =
            |index: usize| self.member(index).is_ok_and(|member| member.is_frozen.load(Ordering::SeqCst));
        let able = |index: &usize| self.is_running(*index) && !is_frozen(*index);
        let all: Vec<usize> = (0..self.members.len()).filter(able).collect();
        self.client_of(&all, self.root()).await
    }

    /// Asks until there is an answer: during an election there is none for a second or two.
    async fn patiently<T>(&self, what: &str, ask: impl AsyncFn(Client) -> Result<T>) -> Result<T> {
        wait::until(what, ANSWER_LIMIT, async || ask(self.client().await?).await).await
    }

    /// A client of all members as somebody else.
    pub async fn client_as(&self, user: &str, password: &str) -> Result<Client> {
        let all: Vec<usize> = (0..self.members.len()).collect();
        self.client_of(&all, Some((user, password))).await
    }

    /// Adds a user who may read and write below `prefix` and nothing else.
    pub async fn add_user(&self, name: &str, password: &str, prefix: &str) -> Result<()> {
        let mut client = self.client().await?;
        client.role_add(name).await?;
        client.role_grant_permission(name, Permission::read_write(prefix).with_prefix()).await?;
        client.user_add(name, password, None).await?;
        client.user_grant_role(name, name).await?;
        Ok(())
    }

    /// Takes what [`Self::add_user`] gave away again.
    pub async fn revoke(&self, name: &str, prefix: &str) -> Result<()> {
        let mut client = self.client().await?;
        let range = RoleRevokePermissionOptions::new().with_prefix();
        client.role_revoke_permission(name, prefix, Some(range)).await?;
        Ok(())
    }

    /// All keys that start with `prefix`, sorted.
    pub async fn entries(&self, prefix: &str) -> Result<Vec<Entry>> {
        let options = etcd_client::GetOptions::new().with_prefix();
        let found = self
            .patiently("a listing of etcd", async |mut client| {
                limited(client.get(prefix, Some(options.clone()))).await
            })
            .await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entry = |kv: &etcd_client::KeyValue| Entry {
            key: text(kv.key()),
            value: text(kv.value()),
            lease: kv.lease(),
        };
        Ok(found.kvs().iter().map(entry).collect())
    }

    /// The names of [`Self::entries`].
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.entries(prefix).await?.into_iter().map(|entry| entry.key).collect())
    }

    /// Writes a key, waiting for a leader if there is none.
    pub async fn put(&self, key: &str, value: &str) -> Result<()> {
        self.patiently("a write to etcd", async |mut client| {
            limited(client.put(key, value, None)).await?;
            Ok(())
        })
        .await
    }

    /// Deletes all keys that start with `prefix`.
    pub async fn delete(&self, prefix: &str) -> Result<()> {
        let options = etcd_client::DeleteOptions::new().with_prefix();
        self.patiently("a deletion in etcd", async |mut client| {
            limited(client.delete(prefix, Some(options.clone()))).await?;
            Ok(())
        })
        .await
    }

    /// The revision now.
    pub async fn revision(&self) -> Result<i64> {
        self.patiently("the revision of etcd", async |mut client| {
            let found = limited(client.get("/", None)).await?;
            Ok(found.header().context("no header")?.revision())
        })
        .await
    }

    /// Forgets the history up to now: watches that are behind must read everything anew.
    pub async fn compact(&self) -> Result<()> {
        let revision = self.revision().await?;
        self.patiently("a compaction", async |mut client| {
            match limited(client.compact(revision, None::<CompactionOptions>)).await {
                // An earlier try that got no answer did it.
                Err(error) if format!("{error:#}").contains("has been compacted") => Ok(()),
                answer => answer.map(|_| ()),
            }
        })
        .await
    }

    /// Follows every change below `prefix` from now on, with the time at which it was seen. It watches each member, so it sees what
    /// any of them applied, and goes on over kills, wipes and compactions.
    pub async fn follow(&self, prefix: &str) -> Result<Follower> {
        let from = self.revision().await? + 1;
        let mut sources = Vec::new();
        for index in 0..self.members.len() {
            sources.push((vec![self.url(self.member(index)?.client)], self.connect_options(self.root())?));
        }
        Follower::start(sources, prefix, from, Arc::clone(&self.wipes))
    }

    /// What a member wrote to its log.
    pub fn log_text(&self, index: usize) -> String {
        self.member(index).map_or_else(|_| String::new(), |member| read_log(&member.log()))
    }

    /// The last lines of every log, for a failure's message.
    pub fn log_tails(&self) -> String {
        (0..self.members.len())
            .map(|index| format!("--- m{index}\n{}\n", tail(&self.log_text(index))))
            .collect()
    }

    /// A folder for whatever a test needs; it goes away with the cluster.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    fn member(&self, index: usize) -> Result<&Member> {
        self.members.get(index).with_context(|| format!("there is no member {index}"))
    }

    fn tls(&self) -> Result<&Certificates> {
        self.certificates.as_ref().context("started without TLS")
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    fn root(&self) -> Option<(&str, &str)> {
        self.options.root_password.as_deref().map(|password| ("root", password))
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        self.member(index)?.lock().as_ref().context("the member does not run")?.signal(signal)
    }

    fn command(&self, member: &Member) -> Result<ProcessOptions> {
        let peers: Vec<String> =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer)).collect();
        let (client, peer) = (self.url(member.client), format!("http://{}", member.peer));
        let state = *member.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = ProcessOptions::new(format!("etcd {}", member.name), "etcd", member.log())
            .arguments(["--name", &member.name, "--logger", "zap", "--log-outputs", "stderr"])
            .argument("--data-dir")
            .argument(member.data())
            .arguments(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .arguments(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arguments(["--initial-cluster", &peers.join(","), "--initial-cluster-state", state])
            .arguments(["--initial-cluster-token", &self.token, "--bcrypt-cost", "4"]);
        if let Some(tls) = &self.certificates {
            options = options
                .argument("--cert-file")
                .argument(&tls.server_certificate)
                .argument("--key-file")
                .argument(&tls.server_key);
            if self.options.client_certificates {
                options = options.argument("--client-cert-auth").argument("--trusted-ca-file");
                options = options.argument(&tls.authority);
            }
        }
        Ok(options)
    }

    async fn wait_member(&self, index: usize) -> Result<()> {
        let member = self.member(index)?;
        let what = format!("etcd member {index} to answer");
        let answered = wait::until(&what, START_LIMIT, async || {
            ensure!(self.is_running(index), "it ended");
            // Whether users are set up is not known at the first start and after a wipe; both are answers.
            let mut client = match self.client_of(&[index], self.root()).await {
                Ok(client) => client,
                Err(_) => self.client_of(&[index], None).await?,
            };
            let status = limited(client.status()).await?;
            ensure!(status.leader() != 0, "no leader");
            Ok(())
        })
        .await;
        answered.with_context(|| format!("its log ends:\n{}", tail(&read_log(&member.log()))))
    }

    async fn set_up_users(&self) -> Result<()> {
        let Some((_, password)) = self.root() else { return Ok(()) };
        let all: Vec<usize> = (0..self.members.len()).collect();
        let mut client = self.client_of(&all, None).await?;
        client.user_add("root", password, None).await?;
        client.user_grant_role("root", "root").await?;
        client.auth_enable().await?;
        Ok(())
    }

    async fn client_of(&self, members: &[usize], user: Option<(&str, &str)>) -> Result<Client> {
        let mut urls = Vec::new();
        for index in members {
            urls.push(self.url(self.member(*index)?.client));
        }
        let options = self.connect_options(user)?;
        limited(Client::connect(urls, Some(options))).await
    }

    fn connect_options(&self, user: Option<(&str, &str)>) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new().with_timeout(CALL_LIMIT).with_connect_timeout(CALL_LIMIT);
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        if let Some(tls) = &self.certificates {
            let mut trust =
                TlsOptions::new().ca_certificate(Certificate::from_pem(fs::read(&tls.authority)?));
            if self.options.client_certificates {
                let identity =
                    Identity::from_pem(fs::read(&tls.client_certificate)?, fs::read(&tls.client_key)?);
                trust = trust.identity(identity);
            }
            options = options.with_tls(trust);
        }
        Ok(options)
    }
}

impl Member {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("etcd.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an answer of etcd, not for ever.
async fn limited<T>(call: impl Future<Output = std::result::Result<T, etcd_client::Error>>) -> Result<T> {
    Ok(tokio::time::timeout(CALL_LIMIT * 2, call).await.context("no answer of etcd")??)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
