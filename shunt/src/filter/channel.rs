//! Requests into Swift through the filter: what a restore sends is handed to the filter, which runs it below the authentication.
//!
//! A job is made with the answer to a miss. The filter then asks for one request after the other; with each question it reports what became of
//! the one before. Whoever knows a job's name (128 random bits) gets its requests, one asker at a time.

use std::collections::HashMap;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::protocol::{REQUEST, STATUS, decode_report, encode_request};
use crate::body::{self, Body, BoxError, boxed, text};
use crate::restore::SwiftWriter;

/// Jobs at a time. Restores have a far lower bound of their own; more would be a leak.
const MAX_JOBS: usize = 4096;
/// The filter comes for the first request at once, unless it has no place for another job.
const PICK_UP_LIMIT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(20) };
/// Swift may take this long to answer once it has the whole body.
const REPORT_LIMIT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(120) };
/// The filter gives up an answer that does not begin for 60 s, so it is told in time that there is nothing yet.
const POLL_LIMIT: Duration = Duration::from_secs(20);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum ChannelError {
    #[error("the filter has no place for another restore")]
    NotPickedUp,
    #[error("the filter did not report what became of a request")]
    NotReported,
    #[error("the filter gave the restore up")]
    GivenUp,
}

/// A way into Swift through the filter, for one job.
#[derive(Debug)]
pub struct FilterChannel {
    name: String,
    requests: mpsc::Sender<Handed>,
    has_executor: Arc<AtomicBool>,
    jobs: Weak<Jobs>,
}

/// A request on its way to the filter.
struct Handed {
    request: Request<Body>,
    answer: oneshot::Sender<Result<Response<Body>, BoxError>>,
}

/// The jobs of all connections.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<HashMap<String, Arc<Job>>>);

/// One job, as the filter sees it.
#[derive(Debug)]
struct Job {
    has_executor: Arc<AtomicBool>,
    inner: tokio::sync::Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: mpsc::Receiver<Handed>,
    /// Who waits for the report on the last request.
    waiting: Option<oneshot::Sender<Result<Response<Body>, BoxError>>>,
}

impl Jobs {
    /// A new job; `None` when there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Arc<FilterChannel>> {
        let name = format!("{:032x}", rand::random::<u128>());
        let (requests, receiver) = mpsc::channel(1);
        let inner = tokio::sync::Mutex::new(Inner { requests: receiver, waiting: None });
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= MAX_JOBS {
            return None;
        }
        let has_executor = Arc::new(AtomicBool::new(false));
        jobs.insert(name.clone(), Arc::new(Job { has_executor: Arc::clone(&has_executor), inner }));
        Some(Arc::new(FilterChannel { name, requests, has_executor, jobs: Arc::downgrade(self) }))
    }

    /// Answers the filter's question for the next request; `content` is the body of its report.
    pub(super) async fn next(&self, name: &str, headers: &HeaderMap, content: Bytes) -> Response<Body> {
        let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let Some(job) = job else { return text(StatusCode::NOT_FOUND, "no such job\n") };
        let Ok(mut inner) = job.inner.try_lock() else {
            return text(StatusCode::CONFLICT, "the job is taken\n");
        };
        job.has_executor.store(true, Ordering::Relaxed);
        if headers.contains_key(STATUS)
            && let Some(waiting) = inner.waiting.take()
        {
            // Whoever waited may have given up meanwhile.
            let _ = waiting.send(decode_report(headers, content));
        }
        match timeout(POLL_LIMIT, inner.requests.recv()).await {
            Ok(Some(handed)) => {
                let (answer, waiting) = hand_out(handed);
                inner.waiting = waiting;
                answer
            }
            Ok(None) => bare(StatusCode::NO_CONTENT),
            Err(_) => bare(StatusCode::ACCEPTED),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

type Waiting = Option<oneshot::Sender<Result<Response<Body>, BoxError>>>;

/// A request as the answer to the filter's question.
fn hand_out(handed: Handed) -> (Response<Body>, Waiting) {
    let (parts, content) = handed.request.into_parts();
    let Some(encoded) = encode_request(&parts.method, &parts.uri, &parts.headers) else {
        let _ = handed.answer.send(Err(ChannelError::GivenUp.into()));
        return (text(StatusCode::INTERNAL_SERVER_ERROR, "a request cannot be told\n"), None);
    };
    let mut answer = Response::new(content);
    answer.headers_mut().insert(REQUEST, encoded);
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::clone(length));
    }
    (answer, Some(handed.answer))
}

impl FilterChannel {
    /// The name of its job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl SwiftWriter for FilterChannel {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (answer, answered) = oneshot::channel();
        let sent = Arc::new(Notify::new());
        // A caller that no longer waits wants nothing stored.
        let wanted = CancellationToken::new();
        let unwanted = Box::pin(wanted.clone().cancelled_owned());
        let _wanted = wanted.drop_guard();
        let request = request.map(|content| boxed(Told { content, unwanted, sent: Arc::clone(&sent) }));
        // The one before may still be under way; it has a limit of its own.
        let place = timeout(REPORT_LIMIT, self.requests.reserve()).await;
        let place = place.map_err(|_| ChannelError::NotPickedUp)?.map_err(|_| ChannelError::GivenUp)?;
        place.send(Handed { request, answer });
        let late = async {
            sent.notified().await;
            tokio::time::sleep(REPORT_LIMIT).await;
        };
        let not_picked_up = async {
            tokio::time::sleep(PICK_UP_LIMIT).await;
            if self.has_executor.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            answered = answered => answered.map_err(|_| ChannelError::GivenUp)?,
            () = late => Err(ChannelError::NotReported.into()),
            () = not_picked_up => Err(ChannelError::NotPickedUp.into()),
        }
    }
}

impl Drop for FilterChannel {
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.upgrade() {
            jobs.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        }
    }
}

/// A body that tells when it has been sent, or is no longer wanted.
struct Told {
    content: Body,
    unwanted: Pin<Box<WaitForCancellationFutureOwned>>,
    sent: Arc<Notify>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.sent.notify_one();
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.unwanted.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(ChannelError::GivenUp.into())));
        }
        Pin::new(&mut self.content).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::body::{collect, full};

    fn put(path: &str, content: &'static str) -> Request<Body> {
        let request = Request::put(path).header("content-length", content.len());
        request.body(full(content)).unwrap()
    }

    fn report(status: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(STATUS, HeaderValue::from_str(status).unwrap());
        headers
            .insert("x-shunt-headers", HeaderValue::from_str(&STANDARD.encode(r#"[["Etag","e"]]"#)).unwrap());
        headers
    }

    #[tokio::test]
    async fn requests_go_out_one_by_one_and_their_reports_come_back() {
        let jobs = Arc::new(Jobs::default());
        let channel = jobs.begin().unwrap();
        let name = channel.name().to_owned();
        let sending = tokio::spawn(async move {
            let first = channel.send(put("/v1/a/c/1", "one")).await.unwrap();
            let second = channel.send(put("/v1/a/c/2", "two")).await.unwrap();
            (first, second)
        });
        let first = jobs.next(&name, &HeaderMap::new(), Bytes::new()).await;
        assert_eq!(first.headers().get("content-length").unwrap(), "3");
        assert_eq!(collect(first.into_body(), 10).await.unwrap(), "one");
        let second = jobs.next(&name, &report("201"), Bytes::new()).await;
        assert_eq!(collect(second.into_body(), 10).await.unwrap(), "two");
        let end = jobs.next(&name, &report("412"), Bytes::from_static(b"why")).await;
        assert_eq!(end.status(), 204);
        let (first, second) = sending.await.unwrap();
        assert_eq!((first.status().as_u16(), second.status().as_u16()), (201, 412));
        assert_eq!(first.headers().get("etag").unwrap(), "e");
        assert_eq!(collect(second.into_body(), 10).await.unwrap(), "why");
        assert_eq!(jobs.len(), 0);
        assert_eq!(jobs.next(&name, &HeaderMap::new(), Bytes::new()).await.status(), 404);
    }

    #[tokio::test]
    async fn a_filter_that_never_comes_or_goes_away_is_not_waited_for() {
        let jobs = Arc::new(Jobs::default());
        let channel = jobs.begin().unwrap();
        let error = channel.send(put("/v1/a/c/1", "one")).await.unwrap_err();
        assert!(error.to_string().contains("no place"), "{error}");

        let channel = jobs.begin().unwrap();
        let name = channel.name().to_owned();
        let sending = tokio::spawn(async move { channel.send(put("/v1/a/c/1", "one")).await.map(|_| ()) });
        drop(jobs.next(&name, &HeaderMap::new(), Bytes::new()).await);
        let error = sending.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("did not report"), "{error}");
    }

    #[tokio::test]
    async fn a_job_has_one_executor() {
        let jobs = Arc::new(Jobs::default());
        let channel = jobs.begin().unwrap();
        let nothing = HeaderMap::new();
        let first = jobs.next(channel.name(), &nothing, Bytes::new());
        tokio::pin!(first);
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert_eq!(jobs.next(channel.name(), &nothing, Bytes::new()).await.status(), 409);
    }
}
