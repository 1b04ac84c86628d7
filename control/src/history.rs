//! The past, for charts: a sample each minute for a day, each 15 minutes for 60 days, of all mappings together and of each of the
//! first 1,000.
//!
//! It is kept in a file of its own, `history.db` in the data directory, and is no part of the state: not in backups, not in etcd.
//! Of several control processes each keeps its own, from what the leader answers, so that whoever leads next has it. Where
//! nobody looked there is a gap. Nothing else may suffer from it: a file that cannot be used is moved aside, a disk that is full
//! costs samples and a warning, one that hangs costs one thread.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::{GetHistoryResponse, GetStatusRequest, ListMappingsRequest};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Request, Status};
use tower_service::Service;

use crate::access::{Caller, Role};
use crate::time;

mod file;
mod series;

use file::File;
use series::{MAX_MAPPINGS, Step};

/// The file's name in the data directory.
const FILE: &str = "history.db";
/// Whoever asks waits so long for its turn.
const TURN: Duration = Duration::from_secs(5);
/// The status is known by then, or there is no sample.
const ANSWER: Duration = Duration::from_secs(20);
/// Trouble that stays is told again after this time.
const TOLD_AGAIN: Duration = Duration::from_secs(3_600);
const MINUTE_MS: i64 = 60_000;
/// Of mappings; more than any configuration has.
const MAX_PAGES: usize = 100;

/// Tells the time in milliseconds since the epoch.
type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Why the past is not known.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// None is kept.
    #[error("this control process keeps no history")]
    Off,
    /// The disk does not answer.
    #[error("the history's file is busy; try again")]
    Busy,
    /// The file cannot be used, or is full.
    #[error("the history's file failed: {0}")]
    Failed(String),
    /// The status is not known now.
    #[error("the status is not known: {0}")]
    NoStatus(String),
}

/// The past. Clones share it.
#[derive(Clone)]
pub struct History(Option<Arc<Inner>>);

struct Inner {
    /// Of the file.
    path: PathBuf,
    file: Mutex<File>,
    /// One at a time: a disk that hangs must not take a thread for each who asks.
    room: Arc<Semaphore>,
    clock: Clock,
    /// When trouble was told last; `None` while all is well.
    told_at: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("History").field("is_kept", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl History {
    /// Keeps nothing, knows nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// In this data directory, which the process holds. The file is opened when it is first needed.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self::with_clock(data_dir, time::now_ms)
    }

    /// The same by another clock, which tells milliseconds since the epoch. It may go backwards: a sample of a minute that
    /// there is replaces the one before.
    #[must_use]
    pub fn with_clock(data_dir: &Path, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        let path = data_dir.join(FILE);
        Self(Some(Arc::new(Inner {
            file: Mutex::new(File::new(path.clone())),
            path,
            room: Arc::new(Semaphore::new(1)),
            clock: Arc::new(clock),
            told_at: Mutex::new(None),
        })))
    }

    /// Bytes on disk. `None`: nothing is kept, or not yet.
    pub async fn size(&self) -> Option<u64> {
        let inner = self.0.as_ref()?;
        Some(tokio::fs::metadata(&inner.path).await.ok()?.len())
    }

    /// The samples of a mapping, or with an empty id of all together, so many seconds back from now; 0: a day. Up to a day there
    /// is one for each minute, beyond it one for each 15 minutes, for at most 60 days.
    ///
    /// # Errors
    /// When none are kept, or the file fails.
    pub async fn read(&self, mapping_id: &str, seconds: u32) -> Result<GetHistoryResponse, HistoryError> {
        let inner = self.0.as_ref().ok_or(HistoryError::Off)?;
        let (step, numbers) = Step::asked(seconds, (inner.clock)());
        let mapping_id = mapping_id.to_owned();
        let found = inner.ask(move |file| file.read(&mapping_id, step, numbers)).await?;
        let samples = found.iter().map(|(number, point)| series::sample(step, *number, point)).collect();
        Ok(GetHistoryResponse { step_seconds: step.seconds(), samples })
    }

    /// Asks a status service how it is, and writes it down for this minute.
    ///
    /// # Errors
    /// When the service does not answer, or the file fails; then there is no sample.
    pub async fn sample<S>(&self, service: S) -> Result<(), HistoryError>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let inner = self.0.as_ref().ok_or(HistoryError::Off)?;
        let mut client = StatusServiceClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let asking = async {
            let status = client.get_status(of_viewer(GetStatusRequest {})).await?.into_inner();
            // All of them: the rates of all together are their sum.
            let page_size = u32::try_from(MAX_MAPPINGS).unwrap_or(u32::MAX);
            let mut mappings = Vec::new();
            let mut page_token = String::new();
            for _ in 0..MAX_PAGES {
                let request = ListMappingsRequest { page_size, page_token, ..ListMappingsRequest::default() };
                let page = client.list_mappings(of_viewer(request)).await?.into_inner();
                mappings.extend(page.mappings);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            Ok::<_, Status>((status, mappings))
        };
        let asked = tokio::time::timeout(ANSWER, asking).await;
        let (status, mappings) = asked
            .map_err(|_| HistoryError::NoStatus("no answer in time".to_owned()))?
            .map_err(|status| HistoryError::NoStatus(status.message().to_owned()))?;
        let (at_ms, points) = ((inner.clock)(), series::points(&status, &mappings));
        inner.ask(move |file| file.record(at_ms, &points)).await
    }

    /// Takes a sample at the beginning of each minute, until `stopping` fires. What fails leaves a gap.
    pub(crate) async fn keep<S>(self, service: S, stopping: CancellationToken)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let Some(inner) = &self.0 else { return };
        loop {
            let rest = MINUTE_MS - (inner.clock)().rem_euclid(MINUTE_MS);
            let pause = Duration::from_millis(u64::try_from(rest).unwrap_or(1_000));
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let sampled = tokio::select! {
                () = stopping.cancelled() => return,
                sampled = self.sample(service.clone()) => sampled,
            };
            inner.tell(sampled);
        }
    }
}

/// Asked by the process itself, for nobody.
fn of_viewer<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { name: String::new(), role: Some(Role::Viewer) });
    request
}

impl Inner {
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut File) -> Result<T, file::FileError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.room).acquire_owned()).await;
        let turn = turn.map_err(|_| HistoryError::Busy)?.map_err(|_| HistoryError::Busy)?;
        let inner = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&mut inner.file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let answered = asked.await.map_err(|error| HistoryError::Failed(error.to_string()))?;
        answered.map_err(|error| HistoryError::Failed(error.to_string()))
    }

    /// Tells trouble of the file once, and again each hour while it lasts.
    fn tell(&self, sampled: Result<(), HistoryError>) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        match sampled {
            Ok(()) => {
                if told_at.take().is_some() {
                    tracing::info!("the history is kept again");
                }
            }
            // Others say so: nobody leads, or the store fails.
            Err(error @ (HistoryError::NoStatus(_) | HistoryError::Off)) => {
                tracing::debug!(%error, "no sample for the history");
            }
            Err(error) if told_at.is_none_or(|told_at| told_at.elapsed() >= TOLD_AGAIN) => {
                *told_at = Some(Instant::now());
                tracing::warn!(%error, "no sample for the history");
            }
            Err(error) => tracing::debug!(%error, "no sample for the history"),
        }
    }
}
