//! Everything the services share, and the changes that go through it: stored first, then pushed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use swift_s3_proto::v1::Problem;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::activity::Activities;
use crate::audits::Audits;
use crate::documents::{self, Checked, Lookups};
use crate::feeds::Feeds;
use crate::history::History;
use crate::house::House;
use crate::metrics::{ChangeOutcome, Metrics};
use crate::overview::OverviewCache;
use crate::prefixes::Parsed;
use crate::prices::Prices;
use crate::push::{NewDocument, Push};
use crate::registry::Registry;
use crate::store::{
    NewRevision, RevisionRecord, Store, StoreError, SwitchChange, Switched, switches_for_nodes,
};
use crate::time;
use crate::usage::Usages;
use crate::workers;

/// What can be chosen. Tests choose shorter times than operators get.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nodes are asked to send heartbeats this often.
    pub heartbeat: Duration,
    /// A node that gives no sign of life for so long is silent.
    pub silence: Duration,
    /// The configuration is not pushed more often than this because workers come and go.
    pub worker_count_pause: Duration,
    /// A worker that went, or did not come back after a start, still counts for so long when limits are divided.
    pub worker_absence: Duration,
    /// A node that does not read for so long is cut off.
    pub slow_node: Duration,
    /// How long nodes may think about a question.
    pub explain: Duration,
    /// How long a worker may take for a page of a comparison, a count or a repair.
    pub audit: Duration,
    /// Numbers of nodes and mappings are added up so often.
    pub figures: Duration,
    /// Revisions that are kept.
    pub history: u32,
    /// Nodes and feeds not seen for so long are forgotten.
    pub retention: Duration,
    /// What requests cost.
    pub prices: Arc<Prices>,
    /// Where numbers are counted.
    pub metrics: Metrics,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            silence: Duration::from_secs(15),
            worker_count_pause: Duration::from_secs(2),
            worker_absence: Duration::from_secs(60),
            slow_node: Duration::from_secs(30),
            explain: Duration::from_secs(10),
            audit: Duration::from_secs(60),
            figures: Duration::from_secs(5),
            history: 1_000,
            retention: Duration::from_secs(90 * 24 * 3_600),
            prices: Arc::new(Prices::built_in()),
            metrics: Metrics::default(),
        }
    }
}

/// Everything the services share.
#[derive(Debug)]
pub struct Control {
    /// What is remembered.
    pub store: Store,
    /// Nodes.
    pub registry: Registry,
    /// What nodes work by.
    pub push: Push,
    /// The latest status.
    pub overview: OverviewCache,
    /// What happens, to be written down.
    pub activities: Activities,
    /// What mappings have cost this month.
    pub usages: Usages,
    /// Comparisons, counts and repairs under way.
    pub audits: Audits,
    /// What is in force, for questions about prefixes.
    pub parsed: Parsed,
    /// The past.
    pub history: History,
    /// Choices.
    pub settings: Settings,
    /// When this process started.
    pub started_at_ms: i64,
    /// Names this process.
    pub id: String,
    /// Fires when the process is to end.
    pub stopping: CancellationToken,
    pub(crate) lookups: Lookups,
    feeds: Mutex<Feeds>,
    changes: tokio::sync::Mutex<()>,
    pub(crate) house: House,
}

impl Control {
    /// Begins with what the store remembers. Keeps no history.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(store: Store, settings: Settings) -> Result<Arc<Self>, StoreError> {
        Self::start_with(store, settings, History::off()).await
    }

    /// The same with a history, which is only read here: whoever serves sees to its samples.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start_with(
        store: Store,
        settings: Settings,
        history: History,
    ) -> Result<Arc<Self>, StoreError> {
        store.measure(settings.metrics.clone());
        let epoch = begin_epoch(&store).await?;
        let reader = store.reader();
        let document = match reader.revision(0).await? {
            None => NewDocument { revision: 0, document: Bytes::new(), mappings: Arc::from([]) },
            Some((record, text)) => {
                let mappings = match documents::check(&text) {
                    Ok(checked) => checked.mappings,
                    Err(problems) => {
                        tracing::error!(
                            revision = record.revision, problems = problems.len(), first = %problems.first().map(shown).unwrap_or_default(),
                            "this version would refuse the configuration in force; it is pushed as it is, mappings are not listed"
                        );
                        Arc::from([])
                    }
                };
                NewDocument { revision: record.revision, document: Bytes::from(text), mappings }
            }
        };
        let switches = switches_for_nodes(&reader.switches().await?);
        let nodes = reader.nodes().await?;
        let house = House::begin(reader.house_clock().await?, &nodes);
        let workers = workers::remembered(&nodes);
        let registry = Registry::new(nodes, settings.silence);
        let mut feeds = Feeds::default();
        feeds.set_mappings(document.mappings.iter().map(|mapping| mapping.id.as_str()));
        feeds.know(reader.known_feeds().await?);
        Ok(Arc::new(Self {
            push: Push::new(epoch, document, switches, workers),
            registry,
            overview: OverviewCache::default(),
            activities: Activities::default(),
            usages: Usages::default(),
            audits: Audits::default(),
            parsed: Parsed::default(),
            history,
            settings,
            started_at_ms: time::now_ms(),
            id: format!("control-{:016x}", rand::random::<u64>()),
            stopping: CancellationToken::new(),
            lookups: Lookups::default(),
            feeds: Mutex::new(feeds),
            changes: tokio::sync::Mutex::new(()),
            house,
            store,
        }))
    }

    /// All feeds. Hold it shortly.
    pub fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a revision, then pushes it. Goes on to the end even if the caller goes away in between.
    ///
    /// # Errors
    /// When another revision is in force than expected, or it cannot be stored.
    pub async fn apply(
        self: &Arc<Self>,
        revision: NewRevision,
        checked: Checked,
    ) -> Result<RevisionRecord, StoreError> {
        let control = Arc::clone(self);
        uninterrupted(async move {
            let _order = control.changes.lock().await;
            let document = Bytes::from(revision.document.clone());
            // Counted here, because it happens also when whoever asked has gone.
            let stored = control.store.apply(revision).await;
            control.settings.metrics.applied(match &stored {
                Ok(_) => ChangeOutcome::Applied,
                Err(StoreError::Conflict { .. }) => ChangeOutcome::Conflict,
                Err(_) => ChangeOutcome::Failed,
            });
            let record = stored?;
            control.feeds().set_mappings(checked.mappings.iter().map(|mapping| mapping.id.as_str()));
            control.push.publish_document(NewDocument {
                revision: record.revision,
                document,
                mappings: checked.mappings,
            });
            tracing::info!(
                revision = record.revision, author = %record.author, mappings = record.mappings,
                rolled_back_to = record.rolled_back_to, comment = %record.comment, "configuration applied"
            );
            Ok(record)
        })
        .await
    }

    /// Stores a switch, then pushes it. False: it was so already.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn switch(
        self: &Arc<Self>,
        mapping_id: &str,
        change: SwitchChange,
        by: &str,
    ) -> Result<bool, StoreError> {
        let (control, mapping_id, by) = (Arc::clone(self), mapping_id.to_owned(), by.to_owned());
        uninterrupted(async move {
            let _order = control.changes.lock().await;
            let Switched { changed, switches } = control.store.switch(&mapping_id, change, &by).await?;
            // Published even if it was so already: nodes always get what is stored.
            control.push.publish_switches(switches_for_nodes(&switches));
            if changed {
                tracing::info!(%mapping_id, ?change, %by, "mapping switched");
            }
            Ok(changed)
        })
        .await
    }
}

/// Generations must grow even over a backup that was restored, so that they begin with the time. A full disk must not keep
/// nodes from their configuration. Of several processes each has a clock of its own, so that there only what is stored counts.
async fn begin_epoch(store: &Store) -> Result<u32, StoreError> {
    let least = u32::try_from(time::now_ms() / 1_000).unwrap_or(u32::MAX);
    match store.next_epoch(least).await {
        Err(error) if error.is_disk() && !store.is_mirrored() => {
            tracing::error!(%error, "could not note this start; going on by the clock");
            Ok(least.max(1))
        }
        reserved => reserved,
    }
}

/// Runs to the end whatever becomes of the caller: what was stored must also be pushed.
pub(crate) async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| StoreError::Failed(error.to_string()))?
}

/// A problem in one line.
#[must_use]
pub fn shown(problem: &Problem) -> String {
    let Problem { path, found, allowed, .. } = problem;
    match allowed.is_empty() {
        true => format!("{path}: {found}"),
        false => format!("{path}: found {found}; allowed: {allowed}"),
    }
}
