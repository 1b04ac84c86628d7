//! All restores of this process: a bounded number at once, one per object.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use swift_s3_store::RemoteObject;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::SwiftWriter;
use super::job::{GivenUp, Job};
use super::source::Source;
use super::tee::{Tee, tee};
use crate::metrics::Metrics;
use crate::policy::Route;

/// Restores at once, unless configured: each holds a connection to Swift and a buffer of [`super::tee`].
pub const DEFAULT_LIMIT: usize = 16;

/// An archived object whose content is about to be read from its first byte to its last.
#[derive(Clone, Debug)]
pub struct Archived {
    /// The container, and where its objects are archived.
    pub route: Arc<Route>,
    /// The object.
    pub object: String,
    /// The remote copy, as the answer that gives its content says.
    pub remote: RemoteObject,
    /// The way into Swift.
    pub writer: Arc<dyn SwiftWriter>,
}

/// See the module.
#[derive(Debug)]
pub struct Restores {
    limit: usize,
    under_way: Mutex<HashSet<Name>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
}

type Name = (String, String, String);

/// Gives an object's place back.
struct Place {
    restores: Arc<Restores>,
    name: Name,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.restores.lock().remove(&self.name);
    }
}

impl Default for Restores {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT, Metrics::default())
    }
}

impl Restores {
    /// At most `limit` at once; none with 0.
    #[must_use]
    pub fn new(limit: usize, metrics: Metrics) -> Self {
        Self {
            limit,
            under_way: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metrics,
        }
    }

    /// Begins to restore an object if its mapping wants that; the answer must wrap the body that the client gets.
    ///
    /// `None` when there is nothing to do: another client's GET restores the object already, or too many restores are under way.
    #[must_use]
    pub fn begin(self: &Arc<Self>, archived: Archived) -> Option<Tee> {
        if !archived.route.merge().restores || self.stop.is_cancelled() {
            return None;
        }
        let route = &archived.route;
        let name = (route.account().to_owned(), route.container.clone(), archived.object.clone());
        let place = self.take_place(name)?;
        let length = archived.remote.length;
        let (tee, copy, broken) = tee(length);
        let restores = Arc::clone(self);
        let span = restore_span(&archived);
        let restoring = async move {
            let began = Instant::now();
            let job = Job::new(archived, restores.metrics.clone());
            let source =
                Source::new(copy, Arc::clone(&job.store), job.key(), job.remote.etag.clone(), length);
            let ended = tokio::select! {
                ended = job.run(source) => Some(ended),
                () = broken.cancelled() => None,
                () = restores.stop.cancelled() => None,
            };
            restores.note(&job, ended, began.elapsed());
            drop(place);
        };
        self.tasks.spawn(restoring.instrument(span));
        Some(tee)
    }

    fn take_place(self: &Arc<Self>, name: Name) -> Option<Place> {
        let mut under_way = self.lock();
        if under_way.contains(&name) {
            return None;
        }
        if under_way.len() >= self.limit {
            self.metrics.restored("too_many", None);
            return None;
        }
        under_way.insert(name.clone());
        drop(under_way);
        Some(Place { restores: Arc::clone(self), name })
    }

    fn note(&self, job: &Job, ended: Option<Result<u64, GivenUp>>, took: Duration) {
        let (account, container, object) = (&job.account, &job.container, &job.object);
        let outcome = match &ended {
            Some(Ok(_)) => "restored",
            Some(Err(error)) => error.as_str(),
            None => "client_gone",
        };
        self.metrics.restored(outcome, Some(took));
        let span = Span::current();
        span.record("swift_s3_sync.outcome", outcome);
        match ended {
            Some(Ok(bytes)) => {
                self.metrics.restored_content.add(bytes, &[]);
                tracing::debug!(%account, %container, %object, bytes, "restored");
            }
            Some(Err(error)) if error.is_expected() => {
                tracing::debug!(%account, %container, %object, reason = outcome, %error, "not restored");
            }
            Some(Err(error)) => {
                span.record("error.type", outcome);
                span.record("otel.status_code", "ERROR");
                tracing::warn!(%account, %container, %object, reason = outcome, %error,
                    "could not restore an object; its readers got it from the remote");
            }
            None => {
                tracing::debug!(%account, %container, %object, reason = outcome, "not restored");
            }
        }
    }

    /// How many at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Restores that are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.lock().len()
    }

    /// Begins no more, and waits up to `grace` for those under way; the rest is broken off, and Swift stores nothing of it.
    pub async fn shut_down(&self, grace: Duration) {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::info!(restores = self.under_way(), "breaking off restores that did not end in time");
        }
        self.stop.cancel();
        self.tasks.wait().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Name>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trace of its own, as it may go on long after its request; that one is named in it.
fn restore_span(archived: &Archived) -> Span {
    let route = &archived.route;
    let span = tracing::info_span!(
        parent: None,
        "restore",
        otel.status_code = Empty,
        swift_s3_sync.mapping.id = &*route.id,
        swift.account = route.account(),
        swift.container = &*route.container,
        swift.object = &*archived.object,
        swift_s3_sync.outcome = Empty,
        "error.type" = Empty,
    );
    span.follows_from(Span::current());
    span
}
