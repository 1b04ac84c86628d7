//! The content as the restore reads it: the copy of what the client gets, and from the remote itself once the client is ahead.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use swift_s3_store::{Body, ObjectStore, StoreError};

use super::tee::{Copy, End};

/// Why there are no more bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The client went away, or the body it got broke off.
    #[error("the client did not get the whole content")]
    Broken,
    /// The remote has another object by now.
    #[error("the remote object was replaced meanwhile")]
    Replaced,
    /// It could not be read on.
    #[error("could not read on: {0}")]
    Remote(#[from] StoreError),
    /// The body failed, or was too short.
    #[error("could not read on: {0}")]
    Body(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    from: From,
    /// The content's next byte that is handed out.
    offset: u64,
    left_over: Bytes,
    store: Arc<dyn ObjectStore>,
    key: String,
    etag: String,
    length: u64,
}

#[derive(Debug)]
enum From {
    Client(Copy),
    Remote(Body),
}

impl Source {
    /// A source of the `length` bytes that `store` has under `key` with this ETag.
    pub(super) fn new(
        copy: Copy,
        store: Arc<dyn ObjectStore>,
        key: String,
        etag: String,
        length: u64,
    ) -> Self {
        Self { from: From::Client(copy), offset: 0, left_over: Bytes::new(), store, key, etag, length }
    }

    /// Throws away what lies before `offset`.
    pub(super) async fn skip_to(&mut self, offset: u64) -> Result<(), SourceError> {
        while self.offset < offset {
            let wanted = offset.saturating_sub(self.offset);
            self.next(wanted).await?;
        }
        Ok(())
    }

    /// The next bytes, at least one and at most `most`, which is not zero.
    pub(super) async fn next(&mut self, most: u64) -> Result<Bytes, SourceError> {
        while self.left_over.is_empty() {
            self.left_over = self.read().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.left_over.len());
        let piece = self.left_over.split_to(most);
        self.offset = self.offset.saturating_add(piece.len() as u64);
        Ok(piece)
    }

    async fn read(&mut self) -> Result<Bytes, SourceError> {
        match &mut self.from {
            From::Client(copy) => match copy.next().await {
                Ok(piece) => Ok(piece),
                Err(End::Overflow) => {
                    self.from = From::Remote(self.open().await?);
                    Ok(Bytes::new())
                }
                Err(End::Broken) => Err(SourceError::Broken),
                Err(End::Whole) => Err(SourceError::Body("the content is too short".to_owned())),
            },
            From::Remote(body) => match body.frame().await {
                Some(Ok(frame)) => Ok(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => Err(SourceError::Body(error.to_string())),
                None => Err(SourceError::Body("the content is too short".to_owned())),
            },
        }
    }

    /// Reads on where the copy ended.
    async fn open(&mut self) -> Result<Body, SourceError> {
        let opened = self.store.get(&self.key, Some(self.offset..self.length)).await?;
        let opened = opened.ok_or(SourceError::Replaced)?;
        if opened.object.etag != self.etag || opened.object.length != self.length {
            return Err(SourceError::Replaced);
        }
        Ok(opened.body)
    }
}
