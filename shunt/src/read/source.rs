//! One object on its remote, read piece by piece: what breaks is taken up again where it broke, as long as the object is the same.
//!
//! A content that cannot be given in full ends with an error, which breaks the client's connection: never with a clean end.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use swift_s3_store::{AnswerNotes, Body, BoxError, GetObject, RemoteObject, RemoteStore, StoreError};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::lanes::{self, Lanes, Room};
use crate::metrics::Metrics;
use crate::remote::{self, Failure};

/// A remote that sends nothing for this long is asked again.
const STALL_LIMIT: Duration = Duration::from_secs(20);
/// Attempts in a row that bring less than [`PROGRESS_BYTES`].
const MAX_FRUITLESS: u32 = 5;
/// What an attempt must bring for another series of attempts to be worth it.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Attempts for one content. At 5 TiB it is one for every 50 GiB.
const MAX_RESUMES: u32 = 100;
/// Before the first further attempt; each one after it waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// As long as a remote that fails is left alone; not longer than a client waits.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) remote: Arc<RemoteStore>,
    pub(super) key: Arc<str>,
    pub(super) metrics: Metrics,
    /// The remote's ETag of the object that is being read.
    pub(super) etag: Arc<str>,
    /// Bytes of the whole object.
    pub(super) length: u64,
    /// When the remote stored it.
    pub(super) last_modified: Option<SystemTime>,
    /// Where what is read ahead finds room; `None` where one connection is all there is to be.
    pub(super) room: Option<Room>,
}

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the object is gone from the remote")]
    Gone,
    #[error("the object was replaced on the remote")]
    Changed,
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A content broke for good.
#[derive(Debug, thiserror::Error)]
enum ReadFault {
    #[error("the remote sent more than it announced")]
    Long,
    #[error("nothing came for {} s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("the remote ended the content early")]
    Short,
    #[error("given up after {0} attempts")]
    GivenUp(u32),
}

impl Source {
    /// Opens a part of the object; never an empty one.
    pub(super) async fn open(&self, range: Range<u64>) -> Result<(Body, AnswerNotes), OpenError> {
        let asked = (range.start > 0 || range.end < self.length).then(|| range.clone());
        let found = fetch(&self.metrics, &self.remote, &self.key, asked.clone()).await?;
        let (object, notes) = found.ok_or(OpenError::Gone)?;
        if !self.is_same(&object.object) || object.content_length != range.end.saturating_sub(range.start) {
            return Err(OpenError::Changed);
        }
        Ok((object.body, notes))
    }

    fn is_same(&self, object: &RemoteObject) -> bool {
        let times = self.last_modified.zip(object.last_modified);
        object.etag == *self.etag
            && object.length == self.length
            && times.is_none_or(|(then, now)| then == now)
    }

    /// Whether pieces of several answers are known to be of one object.
    fn can_join(&self) -> bool {
        !self.etag.is_empty()
    }

    /// As [`Self::open`], in a task of its own: the client may pause, and its time is not the remote's.
    async fn open_apart(&self, range: Range<u64>) -> Result<(Body, AnswerNotes), OpenError> {
        let source = self.clone();
        let opening =
            AbortOnDropHandle::new(tokio::spawn(async move { source.open(range).await }.in_current_span()));
        opening.await.unwrap_or(Err(OpenError::Failed(Failure::TimedOut)))
    }
}

/// One GET.
pub(super) async fn fetch(
    metrics: &Metrics,
    remote: &RemoteStore,
    key: &str,
    range: Option<Range<u64>>,
) -> Result<Option<(GetObject, AnswerNotes)>, Failure> {
    remote::ask(metrics, remote, "get", remote.store.read(key, range)).await
}

/// A content on its way.
#[derive(Debug)]
pub(super) struct Reading {
    source: Source,
    at: u64,
    end: u64,
    body: Option<Body>,
    /// Where the current attempt began.
    since: u64,
    fruitless: u32,
    resumes: u32,
    pace: Pace,
    /// Once they are open, everything comes from them.
    lanes: Option<Box<Lanes>>,
}

/// How quickly a window of the content came.
#[derive(Debug)]
struct Pace {
    began: Instant,
    from: u64,
    waited: Duration,
}

impl Pace {
    fn new(from: u64) -> Self {
        Self { began: Instant::now(), from, waited: Duration::ZERO }
    }
}

impl Reading {
    /// Of `range`, which `body` gives if it is open already.
    pub(super) fn new(source: Source, range: Range<u64>, body: Option<Body>) -> Self {
        let Range { start, end } = range;
        let pace = Pace::new(start);
        Self { source, at: start, end, body, since: start, fruitless: 0, resumes: 0, pace, lanes: None }
    }

    /// The next piece, never empty; `None` when all is read.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            if let Some(lanes) = &mut self.lanes {
                return lanes.next().await;
            }
            if self.at >= self.end {
                self.body = None;
                return Ok(None);
            }
            if self.widened() {
                continue;
            }
            let Some(body) = &mut self.body else {
                self.body = Some(self.source.open_apart(self.at..self.end).await?.0);
                self.since = self.at;
                continue;
            };
            let asked = Instant::now();
            let polled = tokio::time::timeout(STALL_LIMIT, body.frame()).await;
            self.pace.waited += asked.elapsed();
            let fault: BoxError = match polled {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return self.taken(data).map(Some),
                    _ => continue,
                },
                Ok(Some(Err(error))) => error,
                Ok(None) => ReadFault::Short.into(),
                Err(_) => ReadFault::Stalled.into(),
            };
            self.resume(fault).await?;
        }
    }

    /// Goes over to several connections, if the one is slow; looks at it once for each window.
    fn widened(&mut self) -> bool {
        let bytes = self.at.saturating_sub(self.pace.from);
        let Some(room) =
            self.source.room.as_ref().filter(|_| bytes >= lanes::WINDOW_BYTES && self.source.can_join())
        else {
            return false;
        };
        let pace = std::mem::replace(&mut self.pace, Pace::new(self.at));
        let left = self.end.saturating_sub(self.at);
        if !lanes::is_worth_it(bytes, pace.began.elapsed(), pace.waited, left) {
            return false;
        }
        let source = Source { room: None, ..self.source.clone() };
        let Some(lanes) = Lanes::open(&source, room, self.at, self.end) else { return false };
        tracing::debug!(key = %source.key, at = self.at, "several ranges are read at once");
        self.body = None;
        self.lanes = Some(Box::new(lanes));
        true
    }

    fn taken(&mut self, data: Bytes) -> Result<Bytes, BoxError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.at = self.at.saturating_add(length);
        if self.at > self.end {
            return Err(ReadFault::Long.into());
        }
        self.source.metrics.remote_content.add(length, &[]);
        Ok(data)
    }

    /// Opens the rest, or gives up.
    async fn resume(&mut self, mut fault: BoxError) -> Result<(), BoxError> {
        self.body = None;
        loop {
            if self.at.saturating_sub(self.since) >= PROGRESS_BYTES {
                self.fruitless = 0;
            }
            self.since = self.at;
            self.fruitless += 1;
            self.resumes += 1;
            let source = &self.source;
            tracing::debug!(key = %source.key, at = self.at, error = %fault, "a content broke");
            if !source.can_join() || self.fruitless > MAX_FRUITLESS || self.resumes > MAX_RESUMES {
                tracing::warn!(remote = source.remote.label, key = %source.key, at = self.at, error = %fault,
                    "a content broke and cannot be taken up again");
                return Err(ReadFault::GivenUp(self.resumes).into());
            }
            let pause =
                FIRST_PAUSE.saturating_mul(1 << self.fruitless.saturating_sub(1).min(8)).min(LAST_PAUSE);
            tokio::time::sleep(pause).await;
            match source.open_apart(self.at..self.end).await {
                Ok((body, _)) => {
                    source.metrics.resumed.add(1, &[]);
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error @ (OpenError::Gone | OpenError::Changed)) => {
                    tracing::warn!(remote = source.remote.label, key = %source.key, at = self.at, %error,
                        "a content broke and cannot be taken up again");
                    return Err(error.into());
                }
                Err(OpenError::Failed(Failure::Resting(left))) => {
                    tokio::time::sleep(left.min(LONGEST_REST)).await;
                    fault = Failure::Resting(left).into();
                }
                Err(OpenError::Failed(error)) => fault = error.into(),
            }
        }
    }
}

/// Whether a refusal says that no byte of the object is in the range asked for.
pub(super) fn is_unsatisfiable(error: &StoreError) -> bool {
    error.status() == Some(416)
}
