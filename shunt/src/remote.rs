//! Requests to remotes: under their breaker, in time, counted; and what clients are told when they fail.
//!
//! Clients never see the remote's 401 or 403: they would take it for a lack of rights of their own.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use swift_s3_store::{AnswerNotes, ErrorKind, RemoteStore, StoreError};
use tokio::time::Instant;

use crate::body::{BoxError, Response, text};
use crate::metrics::Metrics;

/// A remote that has not begun to answer by then is taken to be away. Its client has tried again already.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// What clients are told to wait when a remote asks for fewer requests and does not say for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A remote that could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It failed a moment ago, and is left alone for so long.
    #[error("the remote is left alone for {} ms after it failed", .0.as_millis())]
    Resting(Duration),
    /// It refused, or could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_LIMIT.as_secs())]
    TimedOut,
    /// Swift did not say whether the client may have it.
    #[error("Swift does not tell who may read it: {0}")]
    Swift(#[source] BoxError),
    /// What should hold the objects is missing.
    #[error("the bucket or container is missing, or cannot be asked for")]
    NoPlace,
    /// The object was replaced while it was looked at, again and again.
    #[error("the object is being replaced on the remote")]
    Changing,
}

/// Sends a request to a remote unless it is resting; `operation` is for the figures.
///
/// # Errors
/// [`Failure`].
pub async fn ask<T>(
    metrics: &Metrics,
    remote: &RemoteStore,
    operation: &'static str,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Failure> {
    let now = Instant::now();
    if let Some(until) = remote.health.paused_until(now) {
        metrics.asked_remote(operation, "resting");
        return Err(Failure::Resting(until.duration_since(now)));
    }
    let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, request).await else {
        metrics.asked_remote(operation, ErrorKind::Unavailable.as_str());
        note_failure(remote);
        return Err(Failure::TimedOut);
    };
    match answer {
        Ok(answer) => {
            metrics.asked_remote(operation, "ok");
            if remote.health.succeeded() {
                tracing::info!(remote = remote.label, "the remote answers again");
            }
            Ok(answer)
        }
        Err(error) => {
            metrics.asked_remote(operation, error.kind().as_str());
            // A refusal may be about this object alone.
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Throttled) {
                note_failure(remote);
            } else if error.status().is_some() {
                remote.health.succeeded();
            }
            Err(error.into())
        }
    }
}

fn note_failure(remote: &RemoteStore) {
    if let Some(pause) = remote.health.failed(false, Instant::now()) {
        tracing::warn!(
            remote = remote.label,
            seconds = pause.as_secs(),
            "the remote fails, and is left alone"
        );
    }
}

impl Failure {
    /// Seconds that the client is to wait, where waiting helps.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Resting(pause) => Some(*pause),
            Self::Store(error) if error.kind() == ErrorKind::Throttled => {
                Some(error.retry_after().unwrap_or(DEFAULT_RETRY_AFTER))
            }
            Self::Changing => Some(DEFAULT_RETRY_AFTER),
            Self::Store(_) | Self::TimedOut | Self::Swift(_) | Self::NoPlace => None,
        }
    }

    /// What the client is told: 503 with `Retry-After`, or 502.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut response = match self.retry_after() {
            None => text(StatusCode::BAD_GATEWAY, "Bad Gateway"),
            Some(pause) => {
                let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
                let seconds = pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                response
            }
        };
        if let Self::Store(error) = self {
            let ids = error.request_id().map(|id| ("request-id", id.to_owned()));
            put_ids(&mut response, ids.iter().map(|(name, id)| (*name, id.as_str())));
        }
        response
    }
}

/// What clients are told about a container whose remote cannot be used as it is configured.
#[must_use]
pub fn unusable() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, "the remote store of this container cannot be used at the moment\n")
}

/// Hands on the remote's ids of a request: `Remote-x-amz-request-id`, for instance.
pub fn put_request_ids(response: &mut Response, notes: &AnswerNotes) {
    put_ids(response, notes.request_ids.iter().map(|(name, id)| (*name, id.as_str())));
}

fn put_ids<'a>(response: &mut Response, ids: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, id) in ids {
        let name = HeaderName::from_bytes(format!("remote-{name}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(id)) {
            response.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_soon_is_told_with_a_time_and_never_with_a_refusal() {
        let table = [
            (Failure::Resting(Duration::from_millis(1_500)), 503, Some("2")),
            (Failure::Resting(Duration::from_millis(0)), 503, Some("1")),
            (Failure::Changing, 503, Some("5")),
            (Failure::TimedOut, 502, None),
            (Failure::NoPlace, 502, None),
        ];
        for (failure, status, retry_after) in table {
            let response = failure.response();
            assert_eq!(response.status().as_u16(), status, "{failure}");
            let told = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            assert_eq!(told, retry_after, "{failure}");
        }
    }
}
