//! Uploads in parts, as S3 has them: begun, filled part by part in any order, and then completed or aborted.

mod copy;

use std::fmt::Debug;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use swift_s3_policy::RemoteMetadata;

use crate::body::Body;
use crate::error::StoreError;
use crate::object_store::PutReceipt;

pub use copy::copy_by_parts;

/// What a remote with multipart uploads can do beside [`crate::ObjectStore`].
///
/// An upload that is neither completed nor aborted keeps its parts, and costs money, until somebody aborts it.
///
/// # Cancel safety
/// As of [`crate::ObjectStore`]: dropping a future leaves it unknown whether the remote carried the request out.
#[async_trait]
pub trait Multipart: Send + Sync + Debug {
    /// Begins an upload; answers its id.
    async fn create(&self, key: &str, upload: &NewUpload) -> Result<String, StoreError>;

    /// Sends one part in a single attempt, streaming its body; answers its ETag without quotes.
    ///
    /// # Errors
    /// As of [`crate::ObjectStore::put`]; [`crate::ErrorKind::NotFound`] when the upload is gone.
    async fn put_part(&self, key: &str, upload_id: &str, part: PutPart) -> Result<String, StoreError>;

    /// Takes a part from an object of the same bucket; answers its ETag without quotes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Precondition`] when the source's ETag is no longer `copy.expected_etag`.
    async fn copy_part(&self, key: &str, upload_id: &str, copy: &CopyPart<'_>) -> Result<String, StoreError>;

    /// Makes the object of its parts, in the order given.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when the upload is gone: an earlier attempt may have completed it.
    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[CompletedPart],
    ) -> Result<PutReceipt, StoreError>;

    /// Gives an upload up; it being gone already is success.
    async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StoreError>;

    /// Uploads in progress of keys that start with `prefix`, behind `after`, in the order of key and id.
    async fn list_uploads(&self, prefix: &str, after: Option<&UploadMark>) -> Result<UploadPage, StoreError>;

    /// Parts that an upload has already, all of them, by number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when the upload is gone.
    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<StoredPart>, StoreError>;
}

/// What is settled when an upload begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUpload {
    /// Content type and user metadata of the object to be.
    pub metadata: RemoteMetadata,
    /// As [`crate::PutObject::storage_class`].
    pub storage_class: Option<String>,
}

/// One part.
#[derive(Debug)]
pub struct PutPart {
    /// From 1 to 10,000.
    pub number: u16,
    /// Bytes that `body` gives, exactly.
    pub length: u64,
    /// MD5 of the content, for the remote to check.
    pub content_md5: Option<[u8; 16]>,
    /// The content.
    pub body: Body,
}

/// One part that is a piece of another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPart<'a> {
    /// From 1 to 10,000.
    pub number: u16,
    /// Where the bytes are, in the same bucket.
    pub source_key: &'a str,
    /// Which of them.
    pub range: Range<u64>,
    /// What the source's ETag must be, without quotes.
    pub expected_etag: &'a str,
}

/// A part for [`Multipart::complete`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// From 1 to 10,000.
    pub number: u16,
    /// Without quotes.
    pub etag: String,
}

/// A part that an upload in progress holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// From 1 to 10,000.
    pub number: u16,
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub length: u64,
    /// When it arrived, if the remote tells.
    pub last_modified: Option<SystemTime>,
}

/// Where a listing of uploads goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadMark {
    /// The last key.
    pub key: String,
    /// The last upload's id.
    pub upload_id: String,
}

/// One page of uploads in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads.
    pub uploads: Vec<PendingUpload>,
    /// Where the next page begins, if there is one.
    pub next: Option<UploadMark>,
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpload {
    /// Its key.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun, if the remote tells.
    pub initiated: Option<SystemTime>,
}
