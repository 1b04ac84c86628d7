//! Uploads: sent once, as their body arrives.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::body;
use crate::error::{ErrorKind, StoreError};
use crate::object_store::{PutObject, PutReceipt};
use crate::observing::Patience;
use crate::s3::guarded_body::{GuardedBody, StopOnDrop, Watch, while_moving};
use crate::swift::classify::{self, failure};
use crate::swift::listing::bare_etag;
use crate::swift::request::{Call, metadata_headers};
use crate::swift::session::Session;
use crate::swift::wire::WireError;

/// An upload fails when nothing moved for this long: no byte out, no answer in.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Swift's answer to an upload has no body to speak of.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends `put` in a single attempt.
pub(crate) async fn put(session: &Session, mut call: Call, put: PutObject) -> Result<PutReceipt, StoreError> {
    debug_assert_eq!(call.method, Method::PUT);
    call.headers =
        headers(&put).map_err(|error| failure(&call, ErrorKind::Invalid).with_message(Some(&error)))?;
    let access = session.access(&call).await?;

    let (mut guarded, watch) = GuardedBody::new(put.body, put.length);
    let _stop = StopOnDrop(Arc::clone(&watch));
    if put.length == 0 {
        let drained = while_moving(guarded.drain_empty(), &watch, STALL_LIMIT).await;
        if !matches!(drained, Ok(Ok(()))) {
            return Err(body_error(&watch, failure(&call, ErrorKind::Body)));
        }
    }
    let request_body = if put.length == 0 { body::empty() } else { body::from_body(guarded) };
    let request = access.request(&call, request_body)?;

    let exchange = async {
        let answer =
            session.exchange(&call, request, Patience::WhileMoving(Arc::clone(&watch), STALL_LIMIT)).await?;
        if answer.status().is_success() {
            let (parts, body) = answer.into_parts();
            let end = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            return Ok::<_, WireError>(Answer::Success(
                parts.headers,
                end.map(|_| ()).map_err(|error| {
                    let mut text = String::from("answer broke off: ");
                    let _ = write!(text, "{}", classify::root_cause(&*error));
                    text
                }),
            ));
        }
        Ok(Answer::Refusal(answer))
    };
    let answer = match while_moving(exchange, &watch, STALL_LIMIT).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(body_error(&watch, classify::unanswered(&call, error))),
        Err(stalled) => {
            let stalled = failure(&call, ErrorKind::Unavailable).with_message(Some(&stalled.to_string()));
            return Err(body_error(&watch, stalled));
        }
    };
    if let Some(fault) = watch.take_fault() {
        // The server answered before it had everything. Whatever it says, it cannot have stored the object.
        return Err(failure(&call, ErrorKind::Body)
            .with_message(Some(&fault.to_string()))
            .with_source(fault));
    }
    let (headers, end) = match answer {
        Answer::Success(headers, end) => (headers, end),
        Answer::Refusal(answer) => {
            let was_refused = answer.status() == StatusCode::UNAUTHORIZED;
            let error = classify::refused(&call, answer).await;
            // The body is gone, so only the caller can try again; it will then have a new token.
            return Err(if was_refused && session.refuse(&access) {
                error.into_kind(ErrorKind::Unavailable)
            } else {
                access.prove();
                error
            });
        }
    };
    access.prove();
    // No server can have stored what it was not sent, and none says so with an answer that breaks off.
    let doubt = if !watch.is_complete() {
        Some("the server answered before it had the whole body".to_owned())
    } else {
        end.err()
    };
    match doubt {
        Some(doubt) => Err(failure(&call, ErrorKind::Unavailable).with_message(Some(&doubt))),
        None => Ok(receipt(&headers)),
    }
}

/// What came back for an upload.
enum Answer {
    /// Headers, and whether the answer ended well.
    Success(HeaderMap, Result<(), String>),
    Refusal(Response<Incoming>),
}

/// What an answer says about the object that was stored.
pub(crate) fn receipt(headers: &HeaderMap) -> PutReceipt {
    let etag = headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(bare_etag);
    PutReceipt { etag: etag.filter(|etag| !etag.is_empty()), ..PutReceipt::default() }
}

fn headers(put: &PutObject) -> Result<HeaderMap, String> {
    let mut headers = metadata_headers(&put.metadata)?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(put.length));
    if let Some(md5) = put.content_md5 {
        let etag = HeaderValue::from_str(&hex::encode(md5)).map_err(|error| error.to_string())?;
        headers.insert(header::ETAG, etag);
    }
    Ok(headers)
}

/// `otherwise`, unless the body broke off: that is then the cause of everything else.
fn body_error(watch: &Watch, otherwise: StoreError) -> StoreError {
    match watch.take_fault() {
        Some(fault) => {
            otherwise.into_kind(ErrorKind::Body).with_message(Some(&fault.to_string())).with_source(fault)
        }
        None => otherwise,
    }
}
