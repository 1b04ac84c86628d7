//! Keeps this worker's part in etcd: its lease, its homes, the shares that it takes and lets go; and publishes what is in force.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use swift_s3_etcd::etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use swift_s3_etcd::{Change, Etcd, EtcdError, Follower, KeyEvent, Lease, Repeat, Term};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::keys::{self, Holder, LiveKey};
use super::plan::{Facts, Home, HomeDevice, Plan, ShareId, plan};
use super::takeovers::{Log, Takeover, TakeoverKind};
use super::{Mode, Regime, View, Wish};
use crate::feed::now;

/// Without a lease, one is asked for again after this pause.
const PAUSE: Duration = Duration::from_secs(1);
/// What could not be done is tried again this often.
const TICK: Duration = Duration::from_millis(500);
/// Shares that are taken or let go at the same time.
const AT_ONCE: usize = 256;
/// News are gathered for so long before anything follows from them: the shares of a lost node come one by one.
const GATHER: Duration = Duration::from_millis(30);
/// Live keys that are followed: devices, and shares of lost nodes.
const MOST_KEYS: usize = 2_000_000;
/// Shares of one device that are taken within this time are one takeover.
const TOGETHER: Duration = Duration::from_secs(60);
/// Shares of one device follow each other within this time, nearly always.
const UNTIL_TOLD: Duration = Duration::from_secs(5);
/// More takeovers of a day are not read at a start.
const MOST_TAKEOVERS: usize = 10_000;
/// Takeovers stay in etcd for a day.
const TAKEOVER_SECONDS: i64 = 86_400;

/// The one task that talks to etcd about shares.
pub(super) struct Session {
    etcd: Etcd,
    me: Holder,
    publish: watch::Sender<Arc<View>>,
    wish: watch::Receiver<Wish>,
    log: Arc<Log>,
    stop: CancellationToken,
    serial: u64,
}

/// What is known under one lease.
struct Serving {
    lease: i64,
    term: Term,
    began: Instant,
    is_known: bool,
    homes: BTreeMap<HomeDevice, Holder>,
    shares: BTreeMap<ShareId, Holder>,
    /// Homes whose end was seen, with the worker that was there.
    gone: HashMap<HomeDevice, (Instant, String)>,
    /// Shares of ours that were there at the last look.
    mine: HashSet<ShareId>,
    /// Requests under way, so that nothing is asked for twice.
    busy: HashSet<ShareId>,
    requests: JoinSet<ShareId>,
    /// When something is to follow from the news.
    due: Option<Instant>,
}

/// Why a lease is not served any more.
enum Ended {
    Lost,
    Stopped,
}

impl Session {
    pub(super) fn new(
        etcd: Etcd,
        node: &str,
        publish: watch::Sender<Arc<View>>,
        wish: watch::Receiver<Wish>,
        log: Arc<Log>,
        stop: CancellationToken,
    ) -> Self {
        let me = Holder { node: node.to_owned(), instance: String::new(), implicit: false };
        Self { etcd, me, publish, wish, log, stop, serial: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut told = String::new();
        loop {
            let granted = tokio::select! {
                granted = Lease::grant(&self.etcd) => granted,
                () = self.stop.cancelled() => return,
            };
            match granted {
                Ok(lease) => {
                    told.clear();
                    let ended = self.serve(&lease).await;
                    if matches!(ended, Ended::Stopped) {
                        lease.revoke().await;
                        return;
                    }
                    self.fall_back("the lease was lost: etcd did not answer in time, or lost it");
                }
                Err(error) => {
                    if error.to_string() != told {
                        tracing::warn!(%error, "etcd cannot be used");
                        told = error.to_string();
                    }
                    self.fall_back(&told);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Serves a lease until it is lost, or the process stops.
    async fn serve(&mut self, lease: &Lease) -> Ended {
        // What an earlier lease holds goes with it, and is not ours under this one.
        self.me.instance = format!("{:032x}", rand::random::<u128>());
        let mut serving = Serving {
            lease: lease.id(),
            term: lease.term().clone(),
            began: Instant::now(),
            is_known: false,
            homes: BTreeMap::new(),
            shares: BTreeMap::new(),
            gone: HashMap::new(),
            mine: HashSet::new(),
            busy: HashSet::new(),
            requests: JoinSet::new(),
            due: None,
        };
        let node_key = self.etcd.key(&keys::node(&self.me.node));
        if let Err(error) = self.etcd.put(&node_key, self.me.to_value(), Some(serving.lease)).await {
            tracing::debug!(%error, "could not announce this worker");
        }
        if self.log.is_empty() {
            remember(&self.etcd, &self.me.node, &self.log).await;
        }
        let mut follower = Follower::start(&self.etcd, self.etcd.key(keys::LIVE), MOST_KEYS);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = serving.term.over() => return Ended::Lost,
                () = self.stop.cancelled() => return Ended::Stopped,
                // Before further news: a stream of them must not put off what follows from the first.
                () = sleep_until(serving.due) => {
                    serving.due = None;
                    if serving.is_known {
                        self.bring_in_line(&mut serving);
                    }
                    continue;
                }
                change = follower.next() => self.note(&mut serving, change),
                changed = self.wish.changed() => {
                    if changed.is_err() {
                        return Ended::Stopped;
                    }
                    self.announce(&serving).await;
                }
                Some(done) = serving.requests.join_next() => {
                    if let Ok(id) = done {
                        serving.busy.remove(&id);
                    }
                }
                _ = tick.tick() => self.announce(&serving).await,
            }
            serving.due.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Makes the homes of this machine known, as they are wished now.
    async fn announce(&self, serving: &Serving) {
        let wish = self.wish.borrow().clone();
        let holder = Holder { implicit: !wish.is_explicit, ..self.me.clone() };
        for device in &wish.devices {
            if serving.homes.get(device) == Some(&holder) {
                continue;
            }
            if let Some(other) = serving.homes.get(device).filter(|known| known.node != self.me.node) {
                // After a change of names it goes with its lease; otherwise two workers hold one disk.
                tracing::warn!(device = %device.0, node = %other.node, "another worker has announced this device; waiting until it is gone");
                continue;
            }
            let key = self.etcd.key(&keys::home(device));
            if let Err(error) = self.etcd.put(&key, holder.to_value(), Some(serving.lease)).await {
                tracing::debug!(%error, "could not announce a device");
                return;
            }
        }
        let left = serving
            .homes
            .iter()
            .filter(|(device, known)| known.instance == self.me.instance && !wish.devices.contains(*device));
        for (device, _) in left {
            if let Err(error) = self.etcd.delete(&self.etcd.key(&keys::home(device)), false).await {
                tracing::debug!(%error, "could not take a device back");
                return;
            }
        }
    }

    fn note(&self, serving: &mut Serving, change: Change) {
        match change {
            Change::Snapshot(snapshot) => {
                let known = std::mem::take(&mut serving.homes);
                serving.shares.clear();
                for entry in snapshot.entries {
                    self.put(serving, &entry.key, &entry.value);
                }
                for (device, holder) in known {
                    if !serving.homes.contains_key(&device) {
                        serving.gone.entry(device).or_insert((Instant::now(), holder.node));
                    }
                }
                serving.is_known = true;
            }
            Change::Events(events) => {
                for event in events {
                    match event {
                        KeyEvent::Put(entry) => self.put(serving, &entry.key, &entry.value),
                        KeyEvent::Deleted(key, _) => self.deleted(serving, &key),
                    }
                }
            }
            Change::Lost(error) => tracing::debug!(%error, "lost sight of etcd's keys; looking again"),
        }
    }

    fn put(&self, serving: &mut Serving, key: &str, value: &[u8]) {
        let Some(holder) = Holder::from_value(value) else { return };
        match self.parse(key) {
            Some(LiveKey::Home(device)) => {
                serving.gone.remove(&device);
                serving.homes.insert(device, holder);
            }
            Some(LiveKey::Share(id)) => {
                serving.shares.insert(id, holder);
            }
            None => {}
        }
    }

    fn deleted(&self, serving: &mut Serving, key: &str) {
        match self.parse(key) {
            Some(LiveKey::Home(device)) => {
                let node = serving.homes.remove(&device).map(|holder| holder.node).unwrap_or_default();
                tracing::info!(%node, device = %device.0, "a worker is gone");
                serving.gone.insert(device, (Instant::now(), node));
            }
            Some(LiveKey::Share(id)) => {
                serving.shares.remove(&id);
            }
            None => {}
        }
    }

    fn parse(&self, key: &str) -> Option<LiveKey> {
        LiveKey::parse(key.strip_prefix(&self.etcd.settings().prefix)?)
    }

    /// Publishes what is in force, and asks for what follows from it.
    fn bring_in_line(&mut self, serving: &mut Serving) {
        let wish = self.wish.borrow().clone();
        if !serving.term.is_valid() {
            return;
        }
        if !wish.is_explicit {
            self.enter(Mode::Implicit, None, BTreeMap::new(), 0, None);
            // What was taken is let go when nothing of it is in flight.
            let taken: Vec<ShareId> = self.held(serving).collect();
            self.release(serving, &wish, &taken);
            return;
        }
        let facts = self.facts(serving, &wish);
        let Plan { mut own, take, release } = plan(&facts);
        // Owning begins when everybody can know it.
        own.retain(|place, _| {
            let mut here = wish.places.get(place).into_iter().flatten().map(|(_, device)| device);
            here.all(|device| !wish.devices.contains(device) || facts.devices.contains(device))
        });
        self.note_takeovers(serving);
        let term = Some((serving.lease, serving.term.clone()));
        self.enter(Mode::Explicit, term, own, serving.mine.len(), None);
        self.take(serving, take);
        self.release(serving, &wish, &release);
    }

    fn facts(&self, serving: &Serving, wish: &Wish) -> Facts {
        let me = Holder { implicit: false, ..self.me.clone() };
        let homes: BTreeMap<HomeDevice, Home> = serving
            .homes
            .iter()
            .map(|(device, holder)| (device.clone(), Home { is_implicit: holder.implicit }))
            .collect();
        let devices: BTreeSet<HomeDevice> =
            wish.devices.iter().filter(|device| serving.homes.get(*device) == Some(&me)).cloned().collect();
        Facts {
            // Not the node: an earlier run's shares are not ours, and go with its lease.
            me: self.me.instance.clone(),
            devices,
            homes,
            shares: serving.shares.iter().map(|(id, holder)| (*id, holder.instance.clone())).collect(),
            places: Arc::clone(&wish.places),
            gone: serving.gone.keys().cloned().collect(),
            is_settled: serving.began.elapsed() >= self.etcd.settings().lease,
        }
    }

    fn held<'a>(&'a self, serving: &'a Serving) -> impl Iterator<Item = ShareId> + 'a {
        let is_ours = |holder: &Holder| holder.instance == self.me.instance;
        serving.shares.iter().filter(move |(_, holder)| is_ours(holder)).map(|(id, _)| *id)
    }

    /// Notes which shares came and went since the last look.
    fn note_takeovers(&self, serving: &mut Serving) {
        let held: HashSet<ShareId> = self.held(serving).collect();
        let wish = self.wish.borrow();
        let home = |id: &ShareId| {
            let replicas = wish.places.get(&id.place)?;
            replicas.iter().find(|(index, _)| *index == id.index).map(|(_, device)| device.clone())
        };
        for id in held.difference(&serving.mine) {
            let Some(device) = home(id) else { continue };
            let (since, node) = match serving.gone.get(&device) {
                Some((at, node)) => (at.elapsed().as_secs_f64(), node.clone()),
                None => (0.0, String::new()),
            };
            self.record(TakeoverKind::Taken, &device, node, since);
        }
        for id in serving.mine.difference(&held) {
            let Some(device) = home(id) else { continue };
            let node = serving.homes.get(&device).map(|holder| holder.node.clone()).unwrap_or_default();
            self.record(TakeoverKind::Returned, &device, node, 0.0);
        }
        drop(wish);
        serving.mine = held;
    }

    fn record(&self, kind: TakeoverKind, device: &HomeDevice, node: String, seconds: f64) {
        let one = Takeover { at: now(), kind, home: device.0.clone(), node, shares: 1, seconds };
        self.log.count(kind, one.shares);
        let takeover = self.log.add(one, TOGETHER);
        if takeover.shares > 1 {
            return;
        }
        tracing::warn!(device = %device.0, node = %takeover.node, seconds, "shares were {}", kind.as_str());
        let (etcd, me, log) = (self.etcd.clone(), self.me.node.clone(), Arc::clone(&self.log));
        // For the next run of this worker, and for those who look into etcd; what is shown elsewhere comes from this run.
        tokio::spawn(async move {
            tokio::time::sleep(UNTIL_TOLD).await;
            let takeover = log.now(&takeover);
            if let Err(error) = tell(&etcd, &me, &takeover).await {
                tracing::debug!(%error, "could not note a takeover in etcd");
            }
        });
    }

    fn take(&self, serving: &mut Serving, wanted: Vec<(ShareId, HomeDevice)>) {
        for (id, device) in wanted {
            if serving.busy.len() >= AT_ONCE {
                return;
            }
            if !serving.busy.insert(id) {
                continue;
            }
            let (etcd, value, lease) = (self.etcd.clone(), self.me.to_value(), serving.lease);
            serving.requests.spawn(async move {
                let (home, share) = (etcd.key(&keys::home(&device)), etcd.key(&keys::share(id)));
                let is_absent = |key: &str| Compare::create_revision(key, CompareOp::Equal, 0);
                let options = Some(PutOptions::new().with_lease(lease));
                let txn = Txn::new()
                    .when([is_absent(&home), is_absent(&share)])
                    .and_then([TxnOp::put(share, value, options)]);
                // Twice is as good as once: the second finds the key there.
                if let Err(error) = etcd.transaction(txn, Repeat::Freely).await {
                    tracing::debug!(%error, "could not take a share");
                }
                id
            });
        }
    }

    /// Lets shares go of which nothing is in flight here.
    fn release(&self, serving: &mut Serving, wish: &Wish, shares: &[ShareId]) {
        for id in shares {
            if wish.in_use.contains(id) || serving.busy.len() >= AT_ONCE || !serving.busy.insert(*id) {
                continue;
            }
            let (etcd, lease, id) = (self.etcd.clone(), serving.lease, *id);
            serving.requests.spawn(async move {
                let share = etcd.key(&keys::share(id));
                let txn = Txn::new()
                    .when([Compare::lease(share.as_str(), CompareOp::Equal, lease)])
                    .and_then([TxnOp::delete(share, None)]);
                if let Err(error) = etcd.transaction(txn, Repeat::Freely).await {
                    tracing::debug!(%error, "could not let a share go");
                }
                id
            });
        }
    }

    fn fall_back(&mut self, trouble: &str) {
        if self.wish.borrow().is_explicit {
            self.enter(Mode::Fallback, None, BTreeMap::new(), 0, Some(trouble.to_owned()));
        } else {
            self.enter(Mode::Implicit, None, BTreeMap::new(), 0, None);
        }
    }

    /// Publishes what is in force, if that is something else than before.
    fn enter(
        &mut self,
        mode: Mode,
        term: Option<(i64, Term)>,
        own: BTreeMap<super::plan::PlaceId, Vec<u32>>,
        taken: usize,
        trouble: Option<String>,
    ) {
        let before = Arc::clone(&self.publish.borrow());
        let is_same =
            |regime: &&Arc<Regime>| regime.mode == mode && regime.term.as_ref().is_none_or(Term::is_valid);
        let regime = match before.regime.as_ref().filter(is_same) {
            Some(regime) => Arc::clone(regime),
            None => {
                self.serial += 1;
                let own_wait = match mode {
                    Mode::Fallback => self.etcd.settings().lease.saturating_mul(2),
                    Mode::Implicit | Mode::Explicit => Duration::ZERO,
                };
                tell_change(before.regime.as_deref(), mode, trouble.as_deref());
                let (lease, term) = term.unzip();
                Arc::new(Regime { serial: self.serial, mode, term, lease, since: now(), own_wait })
            }
        };
        let is_new = before.regime.as_ref().is_none_or(|known| known.serial != regime.serial);
        if is_new || before.own != own || before.trouble != trouble || before.taken != taken {
            self.publish.send_replace(Arc::new(View { regime: Some(regime), own, taken, trouble }));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn tell_change(before: Option<&Regime>, mode: Mode, trouble: Option<&str>) {
    match (before, mode) {
        (_, Mode::Fallback) => tracing::error!(
            because = trouble.unwrap_or_default(),
            "etcd cannot be used; going on by the implicit rules: rows wait a little, and the remote is asked first"
        ),
        (Some(before), mode) => {
            tracing::warn!(
                before = before.mode.as_str(),
                now = mode.as_str(),
                "the way of sharing out work has changed"
            );
        }
        (None, mode) => tracing::info!(mode = mode.as_str(), "sharing out work"),
    }
}

/// Reads what earlier runs of this worker told of the last day.
async fn remember(etcd: &Etcd, me: &str, log: &Log) {
    let told = match etcd.list(&etcd.key(keys::TAKEOVERS), MOST_TAKEOVERS).await {
        Ok(told) => told,
        Err(error) => return tracing::debug!(%error, "could not read the takeovers of the last day"),
    };
    for entry in told.entries {
        if let Some(takeover) = Takeover::from_value(&entry.value, me) {
            log.add(takeover, Duration::ZERO);
        }
    }
}

async fn tell(etcd: &Etcd, me: &str, takeover: &Takeover) -> Result<(), EtcdError> {
    let lease = etcd
        .call("taking a lease", Repeat::Freely, PAUSE, |mut client| async move {
            client.lease_grant(TAKEOVER_SECONDS, None).await
        })
        .await?;
    let at_ms = takeover.at.units() / 100;
    let key = etcd.key(&keys::takeover(at_ms, me, rand::random::<u32>().into()));
    etcd.put(&key, takeover.to_value(me), Some(lease.id())).await
}
