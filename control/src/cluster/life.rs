//! The life of one of several control processes: it follows who leads, and stands for election when nobody does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swift_s3_etcd::election::campaign;
use swift_s3_etcd::{Change, Election, Entry, Etcd, EtcdError, Follower, KeyEvent, Lease};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::board::{Board, Role};
use super::lead;
use super::relay::Leader;
use crate::control::Settings;
use crate::history::History;
use crate::store::CopyDirectory;
use crate::store::mirror::{Keys, MetaError, read_meta};
use crate::time;

/// The leader's key and nothing else; more under its name is a fault of others.
const MOST_LEADERS: usize = 16;
/// The pause after etcd did not answer, or a term that ended at once: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A term that lasted for so long was no failure.
const LONG_TERM: Duration = Duration::from_secs(60);

/// What this process needs to be one of several.
#[derive(Debug)]
pub struct Cluster {
    /// Where the state is.
    pub etcd: Etcd,
    /// Where in it.
    pub keys: Keys,
    /// Names this process.
    pub id: String,
    /// Where other processes reach this one: a URL.
    pub address: String,
    /// How it reaches others, with TLS.
    pub tls: Option<PeerTls>,
    /// Where working copies are.
    pub directory: CopyDirectory,
    /// For the time when it leads.
    pub settings: Settings,
    /// The past, as this process saw it.
    pub history: History,
    /// A configuration to begin with: its text.
    pub initial: Option<String>,
    /// Who leads.
    pub board: Board,
    /// Fires when the process is to end.
    pub stopping: CancellationToken,
}

/// Files for connections to other control processes. They are read again for each leader.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// Who signs their certificates, PEM. `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate and key to show, PEM, where the others ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl PeerTls {
    fn load(&self) -> Result<ClientTlsConfig, String> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| format!("could not read {}: {error}", path.display()))
        };
        let mut tls = match &self.ca {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

/// The value of the leader's key, and of each process's.
#[derive(Clone, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Names the process.
    pub id: String,
    /// Its address for other processes: a URL.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: i64,
    /// What others prove themselves with to the leader; empty in the key of a process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
}

impl std::fmt::Debug for LeaderRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LeaderRecord").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why the process ends though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The state in etcd is not for this program.
    #[error("{0}")]
    State(MetaError),
}

/// Follows and leads until [`Cluster::stopping`] fires.
///
/// # Errors
/// When the state in etcd is not for this program, which is looked at once, at the start.
pub async fn run(cluster: Cluster) -> Result<(), ClusterError> {
    match read_meta(&cluster.etcd, &cluster.keys).await {
        Err(error @ (MetaError::Foreign { .. } | MetaError::Newer { .. })) => {
            return Err(ClusterError::State(error));
        }
        Err(MetaError::Etcd(error)) => tracing::warn!(%error, "no contact with etcd; trying on"),
        Ok(_) => {}
    }
    let mut life = Life::new(Arc::new(cluster));
    let stopping = life.cluster.stopping.clone();
    let mut pause = FIRST_PAUSE;
    while !stopping.is_cancelled() {
        let began = std::time::Instant::now();
        let ended = life.one_lease().await;
        if began.elapsed() > LONG_TERM || !matches!(ended, Err(Ended::CannotLead(_))) {
            pause = FIRST_PAUSE;
        }
        match ended {
            Ok(()) => {}
            Err(Ended::Etcd(error)) => {
                let why = error.to_string();
                if life.is_news(&why) {
                    tracing::warn!(%error, "cannot stand for election; trying again");
                }
                life.show_nobody(&why);
            }
            Err(Ended::CannotLead(why)) => {
                if life.is_news(&why) {
                    tracing::error!(%why, "elected, but cannot lead; trying again");
                }
                life.show_nobody(&why);
            }
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = life.follow_for(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    life.leave();
    life.cluster.board.set(Role::Nobody(Arc::from("this control process is stopping")));
    Ok(())
}

/// Why the time of a lease ended before the lease did.
enum Ended {
    Etcd(EtcdError),
    CannotLead(String),
}

impl From<EtcdError> for Ended {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

struct Life {
    cluster: Arc<Cluster>,
    leaders: Follower,
    /// Another process that leads; no way to it if its key does not say where it is.
    leader: Option<(i64, Option<Arc<Leader>>)>,
    /// False until it was told once who leads.
    is_known: bool,
    /// True if it led with the lease of now.
    has_led: bool,
    /// The trouble that was told last, and whether the watch of who leads is lost: told once, not every second.
    told: String,
    is_lost: bool,
}

impl Life {
    fn new(cluster: Arc<Cluster>) -> Self {
        let leaders = Follower::start(&cluster.etcd, cluster.keys.leader(), MOST_LEADERS);
        Self {
            cluster,
            leaders,
            leader: None,
            is_known: false,
            has_led: false,
            told: String::new(),
            is_lost: false,
        }
    }

    fn is_news(&mut self, trouble: &str) -> bool {
        let is_news = self.told != trouble;
        trouble.clone_into(&mut self.told);
        is_news
    }

    /// Stands for election with one lease, until that is over or the process stops.
    async fn one_lease(&mut self) -> Result<(), Ended> {
        let lease = Lease::grant(&self.cluster.etcd).await?;
        let ended = self.with_lease(&lease).await;
        lease.revoke().await;
        if self.has_led {
            // What was told meanwhile is about the own key.
            let told = std::mem::take(&mut self.told);
            *self = Self { told, ..Self::new(Arc::clone(&self.cluster)) };
        }
        ended
    }

    async fn with_lease(&mut self, lease: &Lease) -> Result<(), Ended> {
        let cluster = Arc::clone(&self.cluster);
        let mut record = LeaderRecord {
            id: cluster.id.clone(),
            address: cluster.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since_ms: time::now_ms(),
            secret: String::new(),
        };
        let bytes = |record: &LeaderRecord| {
            serde_json::to_vec(record).map_err(|error| Ended::CannotLead(error.to_string()))
        };
        let own = format!("{}{}", cluster.keys.processes(), cluster.id);
        cluster.etcd.put(&own, bytes(&record)?, Some(lease.id())).await?;
        loop {
            while self.leader.is_some() || !self.is_known {
                tokio::select! {
                    () = cluster.stopping.cancelled() => return Ok(()),
                    () = lease.term().over() => return Ok(()),
                    change = self.leaders.next() => self.take(change),
                }
            }
            record.secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
            record.since_ms = time::now_ms();
            match campaign(&cluster.etcd, &cluster.keys.leader(), &bytes(&record)?, lease).await? {
                Election::Lost(entry) => self.follow(&entry),
                Election::Won(created) => {
                    tracing::info!(control = %cluster.id, "elected; taking over");
                    let led = lead::lead(&cluster, lease, created, &record.secret).await;
                    self.has_led = true;
                    return led.map_err(|error| Ended::CannotLead(error.to_string()));
                }
            }
        }
    }

    /// Keeps an eye on who leads.
    async fn follow_for(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        while let Ok(change) = tokio::time::timeout_at(end, self.leaders.next()).await {
            self.take(change);
        }
    }

    fn take(&mut self, change: Change) {
        let key = self.cluster.keys.leader();
        match change {
            Change::Snapshot(snapshot) => {
                self.is_known = true;
                self.is_lost = false;
                match snapshot.entries.iter().find(|entry| entry.key == key) {
                    Some(entry) => self.follow(entry),
                    None => self.leave(),
                }
            }
            Change::Events(events) => {
                // A campaign may have told of a later leader already.
                for event in events {
                    let known = self.leader.as_ref().map_or(0, |(created, _)| *created);
                    match event {
                        KeyEvent::Put(entry) if entry.key == key && entry.created > known => {
                            self.follow(&entry);
                        }
                        KeyEvent::Deleted(deleted, revision) if deleted == key && revision > known => {
                            self.leave();
                        }
                        KeyEvent::Put(_) | KeyEvent::Deleted(..) => {}
                    }
                }
            }
            // Whoever leads, leads on: it knows itself when it must not.
            Change::Lost(error) if !self.is_lost => {
                self.is_lost = true;
                tracing::warn!(%error, "lost sight of who leads; calls go to the last leader");
            }
            Change::Lost(_) => {}
        }
    }

    fn leave(&mut self) {
        if let Some((_, leader)) = self.leader.take() {
            if let Some(leader) = leader {
                leader.leave();
            }
            self.show_nobody("the leader is gone");
            tracing::info!("the leader is gone");
        }
    }

    fn follow(&mut self, entry: &Entry) {
        if self.leader.as_ref().is_some_and(|(created, _)| *created == entry.created) {
            return;
        }
        self.leave();
        match self.connect(entry) {
            Ok((record, leader)) => {
                tracing::info!(leader = %record.id, address = %record.address, "following");
                let leader = Arc::new(leader);
                self.cluster.board.set(Role::Following(Arc::clone(&leader)));
                self.leader = Some((entry.created, Some(leader)));
            }
            Err(why) => {
                tracing::error!(key = %entry.key, %why, "cannot hand calls on to the leader");
                self.show_nobody(&why);
                // It leads all the same.
                self.leader = Some((entry.created, None));
            }
        }
    }

    fn connect(&self, entry: &Entry) -> Result<(LeaderRecord, Leader), String> {
        let record: LeaderRecord = serde_json::from_slice(&entry.value)
            .map_err(|error| format!("the leader's key does not say where it is: {error}"))?;
        if record.address == self.cluster.address {
            return Err(format!(
                "the leader has the address {} of this process: it is an earlier process here whose lease is not over yet, or \
                 --advertise is the same for both",
                record.address
            ));
        }
        let tls = self.cluster.tls.as_ref().map(PeerTls::load).transpose()?;
        let leader = Leader::new(&record.address, &record.secret, tls)?;
        Ok((record, leader))
    }

    /// Unless somebody is known to lead: then calls still go there.
    fn show_nobody(&self, why: &str) {
        if !matches!(self.leader, Some((_, Some(_)))) {
            self.cluster.board.set(Role::Nobody(Arc::from(why)));
        }
    }
}
