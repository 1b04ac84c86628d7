//! What the worker asks of a remote store, and what it gets back.
//!
//! Every method stands for one remote request (a listing page, an upload, …) and says how that request ended.
//! Reads, copies and deletes may be repeated inside after a passing fault; an upload never is, because its body can be
//! read once only.

use std::fmt::Debug;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};

use crate::body::Body;
use crate::entries::{EntryPage, EntryQuery};
use crate::error::StoreError;
use crate::metering::RequestCounts;
use crate::multipart::Multipart;
use crate::swift_account::SwiftAccount;

/// One bucket of a remote store.
///
/// # Cancel safety
/// Dropping a future of a writing method leaves it unknown whether the remote carried the request out.
#[async_trait]
pub trait ObjectStore: Send + Sync + Debug {
    /// Asks for what is stored under `key`; `None` when there is nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BucketMissing`] only if the remote says so: many answer a bare 404, which is `None`
    /// ([`ObjectStore::check`] tells the two apart).
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError>;

    /// Stores `put` under `key` in a single attempt, streaming its body.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Body`] when the body fails, or ends before or goes on after `put.length` bytes; the remote
    /// then keeps what it had. [`crate::ErrorKind::BadDigest`] when the remote found other content than `content_md5`.
    async fn put(&self, key: &str, put: PutObject) -> Result<PutReceipt, StoreError>;

    /// Gives the object new metadata and content type by copying it onto itself, into `storage_class` (`None` stands for
    /// the remote's standard class, whatever class the object is in now: as [`RemoteObject::storage_class`] has it).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Precondition`] when its ETag is no longer `expected_etag` (no quotes), as far as the remote
    /// checks that; [`crate::ErrorKind::TooLarge`] for objects above the remote's limit for copies.
    async fn replace_metadata(
        &self,
        key: &str,
        expected_etag: &str,
        metadata: &RemoteMetadata,
        storage_class: Option<&str>,
    ) -> Result<(), StoreError>;

    /// Removes the object; it being gone already is success.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// As [`ObjectStore::delete`], if the object still has this ETag (no quotes), as far as the remote checks that: many do not, so whoever
    /// calls this has looked right before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Precondition`] when the object has another ETag.
    async fn delete_if(&self, key: &str, expected_etag: &str) -> Result<(), StoreError> {
        let _ = expected_etag;
        self.delete(key).await
    }

    /// One page of the keys that start with `prefix` and sort after `start_after` (not including it), in the order of
    /// their UTF-8 bytes. `max_keys` is at least 1; remotes give 1000 at most.
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError>;

    /// One page of entries, by folder if a delimiter is given.
    ///
    /// Keys that are not UTF-8 are left out, without an end of the listing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] for what only Swift can do.
    async fn list_entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError>;

    /// Makes sure that the bucket is there and may be read with these credentials.
    async fn check(&self) -> Result<(), StoreError>;

    /// The bucket's lifecycle rules in the order the remote keeps them; empty when it has none.
    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError>;

    /// Lets the remote remove what lies under `key_prefix` after `days` days; rules of others stay as they are.
    /// Writes only when the plan is [`LifecyclePlan::Write`].
    async fn set_expiration(&self, key_prefix: &str, days: u32) -> Result<LifecyclePlan, StoreError>;

    /// Removes the rule that [`ObjectStore::set_expiration`] wrote for exactly `key_prefix`; answers whether there was one. A rule
    /// of another name, and whatever else its owner added to ours, stays.
    async fn clear_expiration(&self, key_prefix: &str) -> Result<bool, StoreError>;

    /// Opens an object for reading, whole or in part; `None` when there is nothing under `key`.
    ///
    /// A failure after the headers, and a content that ends early, come out of the body as an error.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError>;

    /// As [`ObjectStore::head`], with what the answer says beside.
    async fn look(&self, key: &str) -> Result<Option<(RemoteObject, AnswerNotes)>, StoreError> {
        Ok(self.head(key).await?.map(|object| (object, AnswerNotes::default())))
    }

    /// As [`ObjectStore::get`], with what the answer says beside. A range that ends at [`u64::MAX`] goes to the end of the object.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with status 416 when no byte of the object is in `range`; with the code
    /// [`IN_ARCHIVE`] when the object is in an archive and must be thawed first.
    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<(GetObject, AnswerNotes)>, StoreError> {
        Ok(self.get(key, range).await?.map(|object| (object, AnswerNotes::default())))
    }

    /// Asks for an archived object to be readable for `days` days; the copy is there hours later. `tier` is the remote's word for
    /// how quickly (`Standard`, `Bulk`, `Expedited`). This costs money. Asking again for an object that can be read sets the days anew.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`]; [`crate::ErrorKind::Invalid`] when the object is in no archive, or the remote
    /// does not take `days` or `tier`; [`crate::ErrorKind::Unsupported`] where the remote has no archive.
    async fn thaw(&self, key: &str, days: u32, tier: Option<&str>) -> Result<Thaw, StoreError> {
        let _ = (days, tier);
        Err(StoreError::named(crate::ErrorKind::Unsupported, "thaw").with_key(key))
    }

    /// Uploads in parts; `None` where the remote has none.
    fn multipart(&self) -> Option<&dyn Multipart>;

    /// What only Swift has; `None` elsewhere.
    fn swift(&self) -> Option<&dyn SwiftAccount>;

    /// Requests sent so far.
    fn requests(&self) -> RequestCounts;
}

/// The code of a refusal to give out an object that is in an archive. Source: Amazon S3 API Reference, "Error responses".
pub const IN_ARCHIVE: &str = "InvalidObjectState";

/// What an answer about an object says beside what the object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerNotes {
    /// The value of `x-amz-restore`: whether a copy of an archived object is being fetched (`ongoing-request="true"`), or until
    /// when it is there. `None` when nobody asked for one.
    pub restore: Option<String>,
    /// The remote's ids of the request, to quote to its operators: names of headers in lower case, and values.
    pub request_ids: Vec<(&'static str, String)>,
}

/// What became of the wish to read an archived object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thaw {
    /// It was taken, or an earlier one was prolonged.
    Accepted,
    /// An earlier wish is being fulfilled.
    UnderWay,
}

/// An object that is being read.
#[derive(Debug)]
pub struct GetObject {
    /// What it is. `length` is that of the whole object, whatever range is read.
    pub object: RemoteObject,
    /// Bytes that `body` gives.
    pub content_length: u64,
    /// The content. Dropping it early closes the connection.
    pub body: Body,
}

/// What a remote holds under one key.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteObject {
    /// Without quotes and without a weak mark; empty when the remote gives none.
    pub etag: String,
    /// Bytes.
    pub length: u64,
    /// Content type and user metadata, as they were on the wire.
    pub metadata: RemoteMetadata,
    /// `None` stands for the remote's standard class.
    pub storage_class: Option<String>,
    /// It is in an archive, or a copy restored from one for a time: to read or to copy it may take hours, or fail.
    pub archived: bool,
    /// When the remote stored it.
    pub last_modified: Option<SystemTime>,
    /// Encrypted with a key of a key management service; its ETag is then not the MD5 of its content.
    pub kms: bool,
}

/// An upload.
#[derive(Debug)]
pub struct PutObject {
    /// Bytes that `body` gives, exactly.
    pub length: u64,
    /// MD5 of the content, for the remote to check; `None` sends none.
    pub content_md5: Option<[u8; 16]>,
    /// Content type and user metadata; keys and values are ASCII, fit for the wire as they are.
    pub metadata: RemoteMetadata,
    /// The content.
    pub body: Body,
    /// The class to store it in; `None` leaves that to the bucket. Swift has none.
    pub storage_class: Option<String>,
}

/// The remote's answer to an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutReceipt {
    /// Without quotes; `None` when the remote gave none.
    pub etag: Option<String>,
    /// As [`RemoteObject::kms`].
    pub kms: bool,
    /// The version written, in a bucket that keeps versions.
    pub version_id: Option<String>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// Ascending by the UTF-8 bytes of the key, each once.
    pub entries: Vec<ListEntry>,
    /// More keys follow the last entry. Never `true` with `entries` empty.
    pub truncated: bool,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ListEntry {
    /// The whole key, prefix included.
    pub key: String,
    /// Without quotes; some clones leave it out.
    pub etag: Option<String>,
    /// Bytes.
    pub length: u64,
    /// When the remote stored it.
    pub last_modified: Option<SystemTime>,
    /// As [`RemoteObject::storage_class`], though listings name the standard class too.
    pub storage_class: Option<String>,
}
