//! New metadata for a large object that is remote already: it is copied onto itself, and no content is sent.

use std::ops::Range;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use swift_s3_policy::large_object::Part;
use swift_s3_store::{CompletedPart, CopyPart, ErrorKind, Multipart, NewUpload, RemoteObject, StoreError};

use super::{Carrying, Layout};
use crate::large::PARTS_OF_ONE;
use crate::large::upload::check_assembled;
use crate::reason::{Failure, Reason};
use crate::transfer::{Transfer, Trouble};

impl Transfer {
    /// Answers the ETag that the object has then; `None` when the remote cannot do it, or the object changed meanwhile: then the content
    /// must be sent.
    pub(super) async fn update_in_place(
        &self,
        carrying: &Carrying<'_>,
        object: &RemoteObject,
    ) -> Result<Option<String>, Trouble> {
        let store = &carrying.route.store;
        let parts = match (&carrying.layout, store.multipart()) {
            // A copy in one piece would change an ETag that is made of parts.
            (Layout::Parts { parts, .. }, Some(multipart)) if object.etag.contains('-') => {
                if !object.etag.ends_with(&format!("-{}", parts.len())) {
                    return Ok(None);
                }
                Some((parts, multipart))
            }
            _ => None,
        };
        let updated = match parts {
            Some((parts, multipart)) => copy_by_parts(carrying, multipart, parts, object).await,
            None => store
                .replace_metadata(
                    carrying.key,
                    &object.etag,
                    &carrying.metadata,
                    object.storage_class.as_deref(),
                )
                .await
                .map_err(Problem::Store),
        };
        match updated {
            Ok(()) => Ok(Some(object.etag.clone())),
            Err(Problem::Trouble(trouble)) => Err(trouble),
            Err(Problem::Store(error)) => match error.kind() {
                ErrorKind::Unsupported
                | ErrorKind::TooLarge
                | ErrorKind::Precondition
                | ErrorKind::NotFound => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}

enum Problem {
    Store(StoreError),
    Trouble(Trouble),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One part of the copy for each part of the original, so that the ETag stays what it is.
async fn copy_by_parts(
    carrying: &Carrying<'_>,
    multipart: &dyn Multipart,
    parts: &[Part],
    object: &RemoteObject,
) -> Result<(), Problem> {
    let key = carrying.key;
    let new = NewUpload { metadata: carrying.metadata.clone(), storage_class: object.storage_class.clone() };
    let upload_id = multipart.create(key, &new).await?;
    let copied = copy_all(key, multipart, parts, object, &upload_id).await;
    if copied.is_err()
        && let Err(error) = multipart.abort(key, &upload_id).await
    {
        tracing::warn!(key, upload_id, %error, "could not abort a copy; its parts stay until they are swept");
    }
    copied
}

async fn copy_all(
    key: &str,
    multipart: &dyn Multipart,
    parts: &[Part],
    object: &RemoteObject,
    upload_id: &str,
) -> Result<(), Problem> {
    let mut waiting = parts.iter();
    let mut start = 0u64;
    let mut copying: FuturesOrdered<BoxFuture<'_, Result<CompletedPart, Problem>>> = FuturesOrdered::new();
    let mut completed = Vec::with_capacity(parts.len());
    loop {
        while copying.len() < PARTS_OF_ONE
            && let Some(part) = waiting.next()
        {
            let range = start..start.saturating_add(part.length);
            start = range.end;
            copying.push_back(copy_one(key, multipart, part, range, object, upload_id).boxed());
        }
        let Some(copied) = copying.next().await else { break };
        completed.push(copied?);
    }
    let receipt = multipart.complete(key, upload_id, &completed).await?;
    check_assembled(&object.etag, &receipt).map_err(Problem::Trouble)
}

async fn copy_one(
    key: &str,
    multipart: &dyn Multipart,
    part: &Part,
    range: Range<u64>,
    object: &RemoteObject,
    upload_id: &str,
) -> Result<CompletedPart, Problem> {
    let copy = CopyPart { number: part.number, source_key: key, range, expected_etag: &object.etag };
    let etag = multipart.copy_part(key, upload_id, &copy).await?;
    if let Some(md5) = part.md5()
        && !etag.eq_ignore_ascii_case(&hex::encode(md5))
    {
        let expected = hex::encode(md5);
        let message =
            format!("part {} of the remote object has ETag {etag}, expected {expected}", part.number);
        return Err(Problem::Trouble(Trouble::Row(Failure::new(Reason::RemoteMismatch, message))));
    }
    Ok(CompletedPart { number: part.number, etag })
}
