//! Reading an object: one request, whose body is checked while it is handed on.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::{RequestId, RequestIdExt};
use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, Tier};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{self, BoxError};
use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::object_store::{AnswerNotes, GetObject, RemoteObject, Thaw};
use crate::s3::{Described, classify, remote_object};

/// A body from which nothing comes for this long, though it is asked, is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// See [`crate::ObjectStore::read`].
pub(crate) async fn get(
    client: &Client,
    bucket: &str,
    key: &str,
    range: Option<Range<u64>>,
) -> Result<Option<(GetObject, AnswerNotes)>, StoreError> {
    let header = match &range {
        None => None,
        Some(range) if range.end == u64::MAX => Some(format!("bytes={}-", range.start)),
        Some(range) if range.start < range.end => Some(format!("bytes={}-{}", range.start, range.end - 1)),
        Some(_) => return Err(refused(key, "expected a range of at least one byte")),
    };
    let answer = client.get_object().bucket(bucket).key(key).set_range(header).send().await;
    let mut found = match answer {
        Ok(found) => found,
        Err(error) => {
            return super::absent_is_none(classify::sdk_error(Operation::Get, Some(key), error));
        }
    };
    let notes = notes(&found, found.restore.as_deref());
    let announced = found
        .content_length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| nonsense(key, "expected a length, got none"))?;
    let content = std::mem::take(&mut found.body).into_inner();
    let told = found.content_range.take();
    let object = described(found, announced);
    let (wanted, length) = match (range, told.as_deref().map(parse_content_range)) {
        (None, None) => (announced, announced),
        (Some(range), Some(Some((first, last, length)))) if first == range.start => {
            // A range that reaches over the end is cut there.
            let wanted = range.end.min(length).checked_sub(range.start).filter(|wanted| *wanted > 0);
            let is_right = last.checked_add(1) == Some(range.end.min(length));
            match wanted.filter(|wanted| is_right && *wanted == announced) {
                Some(wanted) => (wanted, length),
                None => return Err(nonsense(key, "expected the range that was asked for, got another")),
            }
        }
        // Some remotes ignore a range that covers the whole object, or all ranges.
        (Some(range), None) if range.start == 0 && range.end >= announced => (announced, announced),
        _ => return Err(nonsense(key, "expected the range that was asked for, got none or another")),
    };
    let opened = GetObject {
        object: RemoteObject { length, ..object },
        content_length: wanted,
        body: body::from_body(CheckedBody::new(content, wanted)),
    };
    Ok(Some((opened, notes)))
}

/// What an answer says beside the object.
pub(crate) fn notes(answer: &(impl RequestId + RequestIdExt), restore: Option<&str>) -> AnswerNotes {
    let ids = [("x-amz-request-id", answer.request_id()), ("x-amz-id-2", answer.extended_request_id())];
    AnswerNotes {
        restore: restore.map(str::to_owned),
        request_ids: ids.into_iter().filter_map(|(name, id)| Some((name, id?.to_owned()))).collect(),
    }
}

/// See [`crate::ObjectStore::thaw`].
pub(crate) async fn thaw(
    client: &Client,
    bucket: &str,
    key: &str,
    days: u32,
    tier: Option<&str>,
) -> Result<Thaw, StoreError> {
    let days = i32::try_from(days).map_err(|_| {
        StoreError::new(ErrorKind::Invalid, Operation::Thaw).with_key(key).with_message(Some("too many days"))
    })?;
    let tier = tier.map(|tier| GlacierJobParameters::builder().tier(Tier::from(tier)).build());
    let job = tier.transpose().map_err(|error| {
        StoreError::new(ErrorKind::Invalid, Operation::Thaw)
            .with_key(key)
            .with_message(Some(&error.to_string()))
    })?;
    let wish = RestoreRequest::builder().days(days).set_glacier_job_parameters(job).build();
    let answer = client.restore_object().bucket(bucket).key(key).restore_request(wish).send().await;
    match answer {
        Ok(_) => Ok(Thaw::Accepted),
        Err(error) => {
            let error = classify::sdk_error(Operation::Thaw, Some(key), error);
            match error.code() {
                Some("RestoreAlreadyInProgress") => Ok(Thaw::UnderWay),
                _ => Err(error),
            }
        }
    }
}

fn described(found: GetObjectOutput, length: u64) -> RemoteObject {
    remote_object(Described {
        etag: found.e_tag,
        length: Some(length),
        content_type: found.content_type,
        headers: [
            found.cache_control,
            found.content_disposition,
            found.content_encoding,
            found.content_language,
        ],
        metadata: found.metadata,
        storage_class: found.storage_class,
        archived: found.restore.is_some(),
        last_modified: found.last_modified,
        encryption: found.server_side_encryption,
    })
}

fn refused(key: &str, message: &str) -> StoreError {
    StoreError::new(ErrorKind::Invalid, Operation::Get).with_key(key).with_message(Some(message))
}

fn nonsense(key: &str, message: &str) -> StoreError {
    StoreError::new(ErrorKind::Other, Operation::Get).with_key(key).with_message(Some(message))
}

/// First byte, last byte and length of the whole, of `bytes 0-4/11`.
///
/// Source: RFC 9110, section 14.4.
fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, length.parse().ok()?))
}

/// Why a content did not arrive as announced.
#[derive(Debug, thiserror::Error)]
enum ReadFault {
    #[error("remote sent {got} of {expected} bytes")]
    Short { expected: u64, got: u64 },
    #[error("remote sent more than the {expected} bytes it announced")]
    Long { expected: u64 },
    #[error("remote sent nothing for {} s after {got} of {expected} bytes", STALL_LIMIT.as_secs())]
    Stalled { expected: u64, got: u64 },
}

/// A content of a known length, or an error.
struct CheckedBody {
    source: SdkBody,
    expected: u64,
    got: u64,
    is_done: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl CheckedBody {
    fn new(source: SdkBody, expected: u64) -> Self {
        Self { source, expected, got: 0, is_done: false, alarm: None }
    }

    fn fail(&mut self, fault: impl Into<BoxError>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_done = true;
        self.source = SdkBody::empty();
        Poll::Ready(Some(Err(fault.into())))
    }
}

impl http_body::Body for CheckedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let (expected, got) = (this.expected, this.got);
        loop {
            if this.is_done {
                return Poll::Ready(None);
            }
            let Poll::Ready(polled) = Pin::new(&mut this.source).poll_frame(context) else {
                let alarm = this
                    .alarm
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL_LIMIT)));
                if alarm.as_mut().poll(context).is_ready() {
                    return this.fail(ReadFault::Stalled { expected, got });
                }
                return Poll::Pending;
            };
            this.alarm = None;
            let data = match polled {
                None if got < expected => return this.fail(ReadFault::Short { expected, got }),
                None => {
                    this.is_done = true;
                    continue;
                }
                Some(Err(error)) => return this.fail(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => data,
                    _ => continue,
                },
            };
            this.got = got.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            if this.got > expected {
                return this.fail(ReadFault::Long { expected });
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.expected.saturating_sub(self.got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        let table = [
            ("bytes 0-4/11", Some((0, 4, 11))),
            ("bytes 5-5/6", Some((5, 5, 6))),
            ("bytes */11", None),
            ("bytes 0-4/*", None),
            ("0-4/11", None),
            ("", None),
            ("bytes 0-99999999999999999999/1", None),
        ];
        for (text, range) in table {
            assert_eq!(parse_content_range(text), range, "{text}");
        }
    }
}
