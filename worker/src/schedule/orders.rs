//! What the control plane, or the operator's SIGHUP, changes while the worker runs.

use jiff::Zoned;
use swift_s3_policy::{CoordinationChoice, Limits, WeekMinute};
use tokio::sync::oneshot;

use super::*;
use crate::feed::Tried;

/// Something to change now.
#[derive(Debug)]
pub enum Order {
    /// Work by this configuration from now on.
    Config {
        /// It; what it names on this machine was checked.
        config: Arc<SyncConfig>,
        /// False when mappings were left out because something is wrong with them.
        is_complete: bool,
        /// Answered when it is in force.
        done: oneshot::Sender<()>,
    },
    /// The switches of all mappings; those that are not named are neither paused nor released.
    Switches {
        /// What operators switched, by mapping id.
        switches: HashMap<String, Switch>,
        /// Over how many workers the cluster's limits are divided.
        worker_count: u32,
    },
    /// Try rows again that were set aside.
    Retry {
        /// Of this mapping; of all if there is none.
        mapping_id: Option<String>,
        /// Of this account; of all if there is none.
        account: Option<String>,
        /// Of this container; of all if there is none.
        container: Option<String>,
        /// Which rows.
        rows: Tried,
    },
    /// Run the feeds of a mapping's container: they have something to do.
    Look {
        /// The mapping.
        mapping_id: String,
        /// The account.
        account: String,
        /// The container.
        container: String,
    },
    /// The control plane is there (again).
    Connected,
}

/// What operators switched for one mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// Nothing is to be carried.
    pub paused: bool,
    /// Deletes held before this time may go; in seconds since the epoch, 0 for none.
    pub released_at: u64,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obeyed {
    /// It is done.
    Done,
    /// Another configuration is in force.
    Reconfigured,
    /// The process was told to stop meanwhile.
    Stop,
}

impl Scheduler {
    /// Does what an order says.
    pub(super) async fn obey(&mut self, order: Order, signals: &mut Signals) -> Obeyed {
        match order {
            // A slow account server must not keep a stop signal waiting.
            Order::Config { config, is_complete, done } => tokio::select! {
                () = async {
                    self.is_complete = is_complete;
                    self.apply(config).await;
                } => {
                    // Whoever gave the order may be gone.
                    let _ = done.send(());
                    return Obeyed::Reconfigured;
                }
                () = signals.stop_requested() => return Obeyed::Stop,
            },
            Order::Switches { switches, worker_count } => self.switch(switches, worker_count),
            Order::Retry { mapping_id, account, container, rows } => {
                let wanted =
                    |wish: &Option<String>, found: &str| wish.as_deref().is_none_or(|wish| wish == found);
                self.touch_where(|feed| {
                    let is_meant = wanted(&mapping_id, &feed.mapping.id)
                        && wanted(&account, &feed.route.account)
                        && wanted(&container, &feed.route.container);
                    if is_meant {
                        feed.try_again(rows.clone());
                    }
                    is_meant
                });
            }
            Order::Look { mapping_id, account, container } => self.touch_where(|feed| {
                feed.mapping.id == mapping_id
                    && feed.route.account == account
                    && feed.route.container == container
            }),
            Order::Connected => self.touch_where(|_| true),
        }
        Obeyed::Done
    }

    /// Puts a new configuration in force. Transfers under way go on with what they started with.
    pub(super) async fn apply(&mut self, config: Arc<SyncConfig>) {
        // Passes under way share the permits with those to come; how many there are follows with the rates.
        let (permits, in_flight) = (Arc::clone(&self.settings.permits), self.settings.in_flight);
        self.settings = PassSettings { permits, in_flight, ..settings(&config, false) };
        self.enumerators = Arc::new(Semaphore::new(config.enumerator_workers));
        self.mapping_ids = config.mapping_ids();
        if config.coordination == CoordinationChoice::Etcd && !self.coordination.is_shared() {
            tracing::error!(
                "\"coordination\" is \"etcd\", but this worker was started without --etcd; going on by the implicit rules"
            );
        }
        self.config = config;
        self.telling.in_force(&self.config, &self.mapping_ids);
        self.routes.clear();
        self.identities.clear();
        self.sole = follow::sole_targets(&self.config);
        self.expirations = Expirations::default();
        self.sweeping.keep_current(self.config.stale_upload_age);
        self.prune = true;
        self.board.retain_mappings(&self.mapping_ids);
        self.keep_switches_current();
        self.keep_rates_current();
        self.discover().await;
        self.remotes.tidy();
        self.check_all();
    }

    fn switch(&mut self, switches: HashMap<String, Switch>, worker_count: u32) {
        self.worker_count = worker_count.max(1);
        self.switches = switches;
        self.keep_rates_current();
        let awake = self.keep_switches_current();
        self.touch_where(|feed| awake.contains(&feed.mapping.id));
    }

    /// Puts the operators' switches in force. Answers the mappings that have something to do because of it.
    pub(super) fn keep_switches_current(&mut self) -> HashSet<String> {
        let mut awake = HashSet::new();
        for id in &self.mapping_ids {
            let (state, switch) =
                (self.board.mapping(id), self.switches.get(id).copied().unwrap_or_default());
            if state.set_paused(switch.paused) {
                tracing::info!(mapping = id, paused = switch.paused, "an operator switched a mapping");
                if !switch.paused {
                    awake.insert(id.clone());
                }
            }
            if state.set_released_at(switch.released_at) {
                awake.insert(id.clone());
            }
        }
        awake
    }

    /// Puts the limits of this minute in force, by the clock on this machine's wall.
    pub(super) fn keep_rates_current(&mut self) {
        let now = Zoned::now();
        let weekday = u8::try_from(now.weekday().to_monday_zero_offset()).unwrap_or_default();
        let at = |limits: &Limits| {
            let hour = u8::try_from(now.hour()).unwrap_or_default();
            let minute = u8::try_from(now.minute()).unwrap_or_default();
            limits.at(WeekMinute::new(weekday, hour, minute))
        };
        for (mapping, id) in self.config.mappings.iter().zip(&self.mapping_ids) {
            self.board.mapping(id).set_rates(at(&mapping.limits));
        }
        let cluster = at(&self.config.limits).share(self.worker_count);
        self.cluster_gate.set(cluster);
        let most =
            cluster.concurrency.map_or(self.config.workers, |most| self.config.workers.min(most as usize));
        if self.settings.in_flight != most {
            self.settings.in_flight = most;
            self.settings.permits.store(Arc::new(Semaphore::new(most)));
            self.show_places();
        }
    }

    /// Shows where objects take their places. Those that still have one of before a change are not counted any more.
    pub(super) fn show_places(&self) {
        let rows = (self.settings.permits.load_full(), self.settings.in_flight);
        self.board.show_places(vec![rows, self.shared.transfer.large_places()]);
    }
}
