//! Which worker handles which names: by the implicit rules alone, or by shares that are owned through etcd.
//!
//! | mode | own names | rows of others |
//! |---|---|---|
//! | implicit | those of this node's replicas | checked after `verification_slack` |
//! | explicit | those whose shares are owned, see [`plan`] | passed over as far as their owner says that they are done; checked after `verification_slack` otherwise |
//! | fallback | as implicit, but somebody may own them explicitly: rows wait a little, and the remote is asked first | as implicit |
//!
//! [`session`] keeps this worker's part in etcd; the scheduler tells it what there is on this machine, and brings the feeds in line with what
//! it publishes. An explicit regime ends with its lease, by the local clock: see [`swift_s3_etcd::Term`].

mod keys;
pub mod plan;
pub mod records;
mod session;
mod takeovers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use swift_s3_etcd::{Etcd, Term};
use swift_s3_policy::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::feed::now;
use crate::swift::topology::ContainerPlace;
use plan::{HomeDevice, PlaceId, Replicas, ShareId};
use records::Records;
pub use takeovers::{Log, Takeover, TakeoverKind};

/// How names are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the ring and the names' hashes.
    Implicit,
    /// By shares that are owned through etcd.
    Explicit,
    /// As implicit, because etcd cannot be used.
    Fallback,
}

impl Mode {
    /// The word for logs and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::Explicit => "explicit",
            Self::Fallback => "fallback",
        }
    }
}

/// A time under one mode. Feeds are made for one regime, and made anew for the next.
#[derive(Clone, Debug)]
pub struct Regime {
    /// Tells it from others.
    pub serial: u64,
    /// How names are shared out.
    pub mode: Mode,
    /// In explicit mode: how long shares are owned. Nothing may be sent after it.
    pub term: Option<Term>,
    /// In explicit mode: the lease that holds what is owned.
    pub lease: Option<i64>,
    /// When it began, by this node's clock.
    pub since: Timestamp,
    /// Rows wait for so long, because somebody else may be about to handle them.
    pub own_wait: Duration,
}

impl Regime {
    /// Implicit coordination from now on.
    #[must_use]
    pub fn implicit() -> Self {
        Self {
            serial: 0,
            mode: Mode::Implicit,
            term: None,
            lease: None,
            since: now(),
            own_wait: Duration::ZERO,
        }
    }

    /// False once nothing may be sent any more.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.term.as_ref().is_none_or(Term::is_valid)
    }

    /// Comes back when nothing may be sent any more.
    pub async fn over(&self) {
        match &self.term {
            Some(term) => term.over().await,
            None => std::future::pending().await,
        }
    }
}

impl swift_s3_store::Permission for Regime {
    fn is_given(&self) -> bool {
        self.is_valid()
    }
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct View {
    /// The regime; none while it is not known yet.
    pub regime: Option<Arc<Regime>>,
    /// In explicit mode: whose names this worker handles, by partition.
    own: BTreeMap<PlaceId, Vec<u32>>,
    /// How many of them were taken from others.
    pub taken: usize,
    /// Why etcd cannot be used.
    pub trouble: Option<String>,
}

impl View {
    /// The replica indexes whose names this worker handles first. `None` while that is not known.
    #[must_use]
    pub fn own(&self, place: &ContainerPlace) -> Option<Vec<u32>> {
        match self.regime.as_ref()?.mode {
            Mode::Implicit | Mode::Fallback => Some(place.local_indexes().collect()),
            Mode::Explicit => self.own.get(&PlaceId::of(place)).cloned(),
        }
    }

    /// True when both leave the same names to this worker, under the same regime.
    pub(crate) fn owns_the_same(&self, other: &Self) -> bool {
        let serial = |view: &Self| view.regime.as_ref().map(|regime| regime.serial);
        serial(self) == serial(other) && self.own == other.own
    }

    /// How many shares this worker owns in explicit mode.
    #[must_use]
    pub fn shares(&self) -> usize {
        self.own.values().map(Vec::len).sum()
    }
}

/// What there is on this machine, and what is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    /// Shares are to be owned through etcd.
    pub(crate) is_explicit: bool,
    /// Devices of this machine that hold databases.
    pub(crate) devices: BTreeSet<HomeDevice>,
    /// Partitions with databases on this machine.
    pub(crate) places: Arc<HashMap<PlaceId, Replicas>>,
    /// Shares whose names may be in somebody's hands here.
    pub(crate) in_use: Arc<HashSet<ShareId>>,
}

/// This worker's part in sharing out the work.
#[derive(Debug)]
pub struct Coordination {
    view: watch::Receiver<Arc<View>>,
    wish: watch::Sender<Wish>,
    records: Option<Arc<Records>>,
    takeovers: Arc<Log>,
    session: Option<(CancellationToken, JoinHandle<()>)>,
    /// Keeps the channel of a coordination without etcd open.
    _own: Option<watch::Sender<Arc<View>>>,
}

impl Coordination {
    /// Implicit coordination. With `asks_first` others may own shares explicitly, and nothing is taken to be fresh.
    #[must_use]
    pub fn without_etcd(asks_first: bool) -> Self {
        let mode = if asks_first { Mode::Fallback } else { Mode::Implicit };
        let regime = Regime { mode, ..Regime::implicit() };
        let view = View { regime: Some(Arc::new(regime)), own: BTreeMap::new(), taken: 0, trouble: None };
        let (sender, view) = watch::channel(Arc::new(view));
        let (wish, takeovers) = (watch::Sender::default(), Arc::default());
        Self { view, wish, records: None, takeovers, session: None, _own: Some(sender) }
    }

    /// Coordination through etcd, as `node`, which tells workers apart. `is_explicit` may be changed later.
    #[must_use]
    pub fn start(etcd: &Etcd, node: &str, is_explicit: bool) -> Self {
        let nothing = View { regime: None, own: BTreeMap::new(), taken: 0, trouble: None };
        let (publish, view) = watch::channel(Arc::new(nothing));
        let wish = watch::Sender::new(Wish { is_explicit, ..Wish::default() });
        let takeovers = Arc::<Log>::default();
        let stop = CancellationToken::new();
        let session = session::Session::new(
            etcd.clone(),
            node,
            publish,
            wish.subscribe(),
            Arc::clone(&takeovers),
            stop.clone(),
        );
        let records = Arc::new(Records::new(etcd.clone(), node));
        let session = Some((stop, tokio::spawn(session.run())));
        Self { view, wish, records: Some(records), takeovers, session, _own: None }
    }

    /// What is in force.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// True when etcd is there to be used, whatever the mode.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.session.is_some()
    }

    /// For whoever shows it.
    #[must_use]
    pub fn watch(&self) -> (watch::Receiver<Arc<View>>, Arc<Log>) {
        (self.view.clone(), Arc::clone(&self.takeovers))
    }

    /// Where owners leave how far they are; none without etcd.
    #[must_use]
    pub fn records(&self) -> Option<&Arc<Records>> {
        self.records.as_ref()
    }

    /// Comes back when something else is in force.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            // The session ends with the process.
            std::future::pending().await
        }
    }

    /// Says what there is on this machine now.
    pub(crate) fn wish(&self, change: impl FnOnce(&mut Wish) -> bool) {
        self.wish.send_if_modified(change);
    }

    /// Gives everything back, so that others need not wait. Nothing may be in flight any more.
    pub async fn leave(self) {
        if let Some((stop, session)) = self.session {
            stop.cancel();
            // The lease ends by itself if that cannot be told.
            drop(tokio::time::timeout(Duration::from_secs(4), session).await);
        }
    }
}
