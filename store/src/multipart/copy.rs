//! New metadata for an object that was uploaded in parts: it is copied onto itself part by part, so that its ETag stays what it is.

use std::ops::Range;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use swift_s3_policy::RemoteMetadata;
use swift_s3_policy::large_object::Part;

use super::{CompletedPart, CopyPart, Multipart, NewUpload};
use crate::error::{ErrorKind, StoreError};
use crate::object_store::{PutReceipt, RemoteObject};

/// Parts that are copied at the same time.
const AT_ONCE: usize = 4;

/// Gives `object`, which lies under `key` and was made of `parts`, new metadata. No content is sent.
///
/// # Errors
/// [`ErrorKind::Precondition`] when the object is another one by now; [`ErrorKind::BadDigest`] when a part or the whole is not what the
/// parts say. Nothing has changed then, unless the copy of the whole came out wrong.
///
/// # Cancel safety
/// Dropping it may leave an upload that is not completed; sweeping removes it.
pub async fn copy_by_parts(
    multipart: &dyn Multipart,
    key: &str,
    parts: &[Part],
    object: &RemoteObject,
    metadata: &RemoteMetadata,
) -> Result<(), StoreError> {
    let new = NewUpload { metadata: metadata.clone(), storage_class: object.storage_class.clone() };
    let upload_id = multipart.create(key, &new).await?;
    let copied = copy_all(multipart, key, parts, object, &upload_id).await;
    if copied.is_err()
        && let Err(error) = multipart.abort(key, &upload_id).await
    {
        tracing::warn!(key, upload_id, %error, "could not abort a copy; its parts stay until they are swept");
    }
    copied
}

async fn copy_all(
    multipart: &dyn Multipart,
    key: &str,
    parts: &[Part],
    object: &RemoteObject,
    upload_id: &str,
) -> Result<(), StoreError> {
    let mut waiting = parts.iter();
    let mut start = 0u64;
    let mut copying: FuturesOrdered<BoxFuture<'_, Result<CompletedPart, StoreError>>> = FuturesOrdered::new();
    let mut completed = Vec::with_capacity(parts.len());
    loop {
        while copying.len() < AT_ONCE
            && let Some(part) = waiting.next()
        {
            let range = start..start.saturating_add(part.length);
            start = range.end;
            copying.push_back(copy_one(multipart, key, part, range, object, upload_id).boxed());
        }
        let Some(copied) = copying.next().await else { break };
        completed.push(copied?);
    }
    let receipt = multipart.complete(key, upload_id, &completed).await?;
    check_assembled(key, &object.etag, &receipt)
}

async fn copy_one(
    multipart: &dyn Multipart,
    key: &str,
    part: &Part,
    range: Range<u64>,
    object: &RemoteObject,
    upload_id: &str,
) -> Result<CompletedPart, StoreError> {
    let copy = CopyPart { number: part.number, source_key: key, range, expected_etag: &object.etag };
    let etag = multipart.copy_part(key, upload_id, &copy).await?;
    if let Some(md5) = part.md5()
        && !etag.eq_ignore_ascii_case(&hex::encode(md5))
    {
        let expected = hex::encode(md5);
        let message =
            format!("part {} of the remote object has ETag {etag}, expected {expected}", part.number);
        return Err(bad_digest(key, &message));
    }
    Ok(CompletedPart { number: part.number, etag })
}

/// The remote's own word on what it made of the parts, where its ETags are made as S3 makes them.
fn check_assembled(key: &str, expected: &str, receipt: &PutReceipt) -> Result<(), StoreError> {
    let Some(etag) = receipt.etag.as_deref().filter(|_| !receipt.kms) else { return Ok(()) };
    let is_like_s3 = etag.split_once('-').is_some_and(|(digest, _)| digest.len() == 32);
    if is_like_s3 && !etag.eq_ignore_ascii_case(expected) {
        let message = format!("the remote answered ETag {etag} for parts that make {expected}");
        return Err(bad_digest(key, &message));
    }
    Ok(())
}

fn bad_digest(key: &str, message: &str) -> StoreError {
    StoreError::named(ErrorKind::BadDigest, "copy parts").with_key(key).with_message(Some(message))
}
