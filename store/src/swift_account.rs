//! What a Swift account can do beside [`crate::ObjectStore`]: containers and static large objects.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use swift_s3_policy::RemoteMetadata;

use crate::error::StoreError;
use crate::object_store::PutReceipt;

/// One account of a Swift cluster.
///
/// The keys of its [`crate::ObjectStore`] are `container/object`; the object's name may hold further slashes. A listing's prefix
/// is `container/` or `container/start-of-name`.
///
/// # Cancel safety
/// As of [`crate::ObjectStore`].
#[async_trait]
pub trait SwiftAccount: Send + Sync + Debug {
    /// Makes sure that a container is there, and creates it otherwise, in `storage_policy` if one is given. Answers whether it was
    /// created.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with the server's text when it does not know the policy; nothing is created then.
    async fn ensure_container(
        &self,
        container: &str,
        storage_policy: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// The container's headers; `None` when it is not there.
    async fn head_container(&self, container: &str) -> Result<Option<ContainerHead>, StoreError>;

    /// Changes headers of a container: an empty value removes one, those not named stay.
    async fn post_container(
        &self,
        container: &str,
        headers: &BTreeMap<String, String>,
    ) -> Result<(), StoreError>;

    /// Removes an empty container; it being gone already is success.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Precondition`] when it holds objects.
    async fn delete_container(&self, container: &str) -> Result<(), StoreError>;

    /// Names of containers that start with `prefix` and sort after `start_after`, at most `limit` of them (the server may give
    /// fewer than there are; an empty page is the end).
    async fn list_containers(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// Stores the manifest of a static large object.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with the server's text when a segment is missing or does not match.
    async fn put_slo(
        &self,
        key: &str,
        segments: &[SloSegment],
        metadata: &RemoteMetadata,
    ) -> Result<PutReceipt, StoreError>;

    /// The manifest of a static large object as the cluster keeps it (`?multipart-manifest=get`): JSON. `None` when there is no
    /// object; [`crate::ErrorKind::Invalid`] when it is no such manifest or larger than `max_bytes`.
    async fn slo_manifest(&self, key: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes a static large object with all its segments, whoever else uses them; what is gone already is success.
    ///
    /// # Errors
    /// When any of it is left, with the first such segment. The manifest goes last, so that this can be repeated.
    /// [`crate::ErrorKind::Invalid`] when it is no such object.
    async fn delete_slo(&self, key: &str) -> Result<(), StoreError>;
}

/// A container's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerHead {
    /// Objects, as far as the server has counted.
    pub objects: u64,
    /// Bytes, likewise.
    pub bytes: u64,
    /// All headers: lower-case names, bytes that are not UTF-8 replaced.
    pub headers: BTreeMap<String, String>,
}

/// One segment of a static large object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SloSegment {
    /// `container/object`, without a leading slash.
    pub key: String,
    /// What its ETag must be, if that is to be checked.
    pub etag: Option<String>,
    /// What its size must be, if that is to be checked.
    pub bytes: Option<u64>,
    /// The bytes wanted of it, first and last both included (`"0-99"`), if not all.
    pub range: Option<String>,
}
