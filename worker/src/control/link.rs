//! What the rest of the worker sees of the control plane: whether it is there, and two questions to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use swift_s3_proto::v1;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::memory::ControlMemory;
use super::wire;
use crate::memory::FeedName;
use crate::status_file::SavedFeed;
use swift_s3_daemon::control_client::Authorized;

/// Reports that wait to be sent; each feed has one at most, and whoever waits longer waits for the channel.
pub(super) const REPORTS: usize = 1_024;
/// A report that is not acknowledged by then is kept in the node's file: work must not wait longer.
const REPORT_LIMIT: Duration = Duration::from_secs(2);
/// After such a report, others go to files at once for this long.
const REST_AFTER_LATE: Duration = Duration::from_secs(10);
/// An answer about progress takes no longer.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// The client of a connected control plane.
pub(super) type Client = NodeServiceClient<Authorized>;

/// Why the control plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    /// There is no contact.
    #[error("the control plane is away")]
    NotConnected,
    /// It did not answer in time.
    #[error("the control plane did not answer in time")]
    Timeout,
    /// It could not store the report, or answer the question.
    #[error("the control plane answered: {0}")]
    Refused(String),
}

/// A report and who waits for its end.
#[derive(Debug)]
pub(super) struct Report {
    /// The contact that it was made for: what it says may be a difference to what was acknowledged then.
    pub(super) contact: u64,
    pub(super) progress: v1::FeedProgress,
    pub(super) done: oneshot::Sender<Result<(), String>>,
}

/// A handle on the control plane; clones share it.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node_id: String,
    reports: mpsc::Sender<Report>,
    client: ArcSwapOption<Client>,
    contact: AtomicU64,
    /// When a report was not acknowledged in time.
    late: Mutex<Option<Instant>>,
    memories: Mutex<Vec<Weak<ControlMemory>>>,
}

impl Link {
    pub(super) fn new(node_id: String) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let shared = Shared {
            node_id,
            reports,
            client: ArcSwapOption::empty(),
            contact: AtomicU64::new(0),
            late: Mutex::default(),
            memories: Mutex::default(),
        };
        (Self(Arc::new(shared)), receiver)
    }

    /// The id under which this node is registered.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.0.node_id
    }

    /// True while this node is registered.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.client.load().is_some()
    }

    /// Counts registrations. Each may be with another control process, which knows other things.
    #[must_use]
    pub fn contact(&self) -> u64 {
        self.0.contact.load(Ordering::Acquire)
    }

    pub(super) fn connected(&self, client: Client) {
        self.0.contact.fetch_add(1, Ordering::AcqRel);
        self.0.client.store(Some(Arc::new(client)));
    }

    pub(super) fn disconnected(&self) {
        self.0.client.store(None);
    }

    /// Has a report stored.
    pub(super) async fn report(&self, contact: u64, progress: v1::FeedProgress) -> Result<(), Away> {
        if !self.is_connected() {
            return Err(Away::NotConnected);
        }
        if self.lock_late().is_some_and(|at| at.elapsed() < REST_AFTER_LATE) {
            return Err(Away::Timeout);
        }
        let (done, answer) = oneshot::channel();
        let stored = async {
            self.0.reports.send(Report { contact, progress, done }).await.map_err(|_| Away::NotConnected)?;
            answer.await.map_err(|_| Away::NotConnected)?.map_err(Away::Refused)
        };
        let ended = tokio::time::timeout(REPORT_LIMIT, stored).await.unwrap_or(Err(Away::Timeout));
        *self.lock_late() = matches!(ended, Err(Away::Timeout)).then(Instant::now);
        ended
    }

    fn lock_late(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has feeds forgotten that no mapping asks for any more. Those that cannot be told now are told about by nobody later: they are dropped
    /// with their node's retention.
    pub async fn forget(&self, names: Vec<FeedName>) {
        let contact = self.contact();
        let reports = names.into_iter().map(|name| {
            self.report(
                contact,
                v1::FeedProgress {
                    key: Some(wire::key(&name)),
                    mapping_id: name.mapping_id,
                    account: name.account,
                    container: name.container,
                    is_complete: true,
                    ..v1::FeedProgress::default()
                },
            )
        });
        let untold = join_all(reports).await.into_iter().filter(Result::is_err).count();
        if untold > 0 {
            tracing::warn!(
                feeds = untold,
                "could not tell the control plane of feeds that are not followed any more"
            );
        }
    }

    /// What the control plane remembers of a feed.
    pub(super) async fn load(&self, name: &FeedName) -> Result<Option<SavedFeed>, Away> {
        let Some(client) = self.0.client.load_full() else { return Err(Away::NotConnected) };
        let request =
            v1::LoadProgressRequest { node_id: self.0.node_id.clone(), keys: vec![wire::key(name)] };
        let mut client = Client::clone(&client);
        let answer = tokio::time::timeout(LOAD_LIMIT, client.load_progress(request))
            .await
            .map_err(|_| Away::Timeout)?
            .map_err(|status| Away::Refused(status.message().to_owned()))?;
        let wanted = wire::key(name);
        let found = answer.into_inner().feeds.into_iter().find(|feed| feed.key.as_ref() == Some(&wanted));
        Ok(found.map(wire::saved))
    }

    /// Remembers whose unreported progress to hand over at the next contact.
    pub(super) fn enlist(&self, memory: &Arc<ControlMemory>) {
        let mut memories = self.0.memories.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone are dropped in passing, so that the list stays as long as there are feeds.
        if memories.len().is_power_of_two() {
            memories.retain(|memory| memory.strong_count() > 0);
        }
        memories.push(Arc::downgrade(memory));
    }

    /// Hands over what was kept in files.
    pub(super) async fn flush(&self) {
        let memories: Vec<Arc<ControlMemory>> = self
            .0
            .memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for memory in memories {
            if !self.is_connected() {
                return;
            }
            memory.flush().await;
        }
    }
}
