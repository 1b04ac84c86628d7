//! Keeps to rates: requests in a second, and bytes of uploads in a second.
//!
//! A [`RateGate`] lets so much through and no more; several mappings, or all, may share one. [`Limited`] puts gates in
//! front of a store, and the [`Permission`] to send anything at all. An upload waits piece by piece while its body is sent, so that its connection keeps moving.

mod metered_body;
mod paced_body;
mod permitted_body;
mod rate_gate;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};

use crate::body::{self, Body};
use crate::entries::{EntryPage, EntryQuery};
use crate::error::{ErrorKind, StoreError};
use crate::metering::{Meter, RequestCounts};
use crate::multipart::{
    CompletedPart, CopyPart, Multipart, NewUpload, PutPart, StoredPart, UploadMark, UploadPage,
};
use crate::object_store::{
    AnswerNotes, GetObject, ListPage, ObjectStore, PutObject, PutReceipt, RemoteObject, Thaw,
};
use crate::swift_account::{ContainerHead, SloSegment, SwiftAccount};
use metered_body::{Direction, MeteredBody};
use paced_body::PacedBody;
use permitted_body::PermittedBody;

pub use rate_gate::RateGate;

/// A store behind gates. Every request waits at each of them, in their order.
///
/// What the store sends again after a passing fault, or to find the first page of a listing, is not counted.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    gates: Arc<[Arc<RateGate>]>,
    permission: Option<Arc<dyn Permission>>,
    meter: Option<Arc<Meter>>,
}

/// Says whether requests may be sent. Asked right before each request, and before each piece of a body.
pub trait Permission: std::fmt::Debug + Send + Sync {
    /// False once somebody else may be sending in our place.
    fn is_given(&self) -> bool;
}

impl Limited {
    /// Puts `gates` in front of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, gates: Vec<Arc<RateGate>>) -> Self {
        Self { inner, gates: gates.into(), permission: None, meter: None }
    }

    /// The same; once the permission is withdrawn no request begins, and no body comes to its end:
    /// [`ErrorKind::Withdrawn`].
    #[must_use]
    pub fn permitted(self, permission: Arc<dyn Permission>) -> Self {
        Self { permission: Some(permission), ..self }
    }

    /// The same; what is sent and received is counted, repeated requests too.
    #[must_use]
    pub fn metered(self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    async fn counted<T>(&self, request: impl Future<Output = T> + Send) -> T {
        match &self.meter {
            Some(meter) => meter.count(request).await,
            None => request.await,
        }
    }

    async fn request(&self) -> Result<(), StoreError> {
        for gate in &*self.gates {
            gate.request().await;
        }
        match &self.permission {
            Some(permission) if !permission.is_given() => {
                Err(StoreError::named(ErrorKind::Withdrawn, "request"))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Limited {
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError> {
        self.request().await?;
        self.counted(self.inner.head(key)).await
    }

    async fn put(&self, key: &str, put: PutObject) -> Result<PutReceipt, StoreError> {
        self.request().await?;
        let body = self.paced(put.body);
        self.counted(self.inner.put(key, PutObject { body, ..put })).await
    }

    async fn replace_metadata(
        &self,
        key: &str,
        expected_etag: &str,
        metadata: &RemoteMetadata,
        storage_class: Option<&str>,
    ) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner.replace_metadata(key, expected_etag, metadata, storage_class)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner.delete(key)).await
    }

    async fn delete_if(&self, key: &str, expected_etag: &str) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner.delete_if(key, expected_etag)).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError> {
        self.request().await?;
        self.counted(self.inner.list(prefix, start_after, max_keys)).await
    }

    async fn list_entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        self.request().await?;
        self.counted(self.inner.list_entries(query)).await
    }

    /// Waits at no gate: callers ask whether the remote is well, and a queue in front of it must not look like an outage.
    async fn check(&self) -> Result<(), StoreError> {
        self.counted(self.inner.check()).await
    }

    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        self.request().await?;
        self.counted(self.inner.lifecycle_rules()).await
    }

    /// Reads the rules and writes them: two requests.
    async fn set_expiration(&self, key_prefix: &str, days: u32) -> Result<LifecyclePlan, StoreError> {
        self.request().await?;
        self.request().await?;
        self.counted(self.inner.set_expiration(key_prefix, days)).await
    }

    /// As [`Self::set_expiration`].
    async fn clear_expiration(&self, key_prefix: &str) -> Result<bool, StoreError> {
        self.request().await?;
        self.request().await?;
        self.counted(self.inner.clear_expiration(key_prefix)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        self.request().await?;
        Ok(self.counted(self.inner.get(key, range)).await?.map(|found| self.received(found)))
    }

    async fn look(&self, key: &str) -> Result<Option<(RemoteObject, AnswerNotes)>, StoreError> {
        self.request().await?;
        self.counted(self.inner.look(key)).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<(GetObject, AnswerNotes)>, StoreError> {
        self.request().await?;
        let found = self.counted(self.inner.read(key, range)).await?;
        Ok(found.map(|(object, notes)| (self.received(object), notes)))
    }

    async fn thaw(&self, key: &str, days: u32, tier: Option<&str>) -> Result<Thaw, StoreError> {
        self.request().await?;
        self.counted(self.inner.thaw(key, days, tier)).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.inner.multipart().map(|_| self as &dyn Multipart)
    }

    fn swift(&self) -> Option<&dyn SwiftAccount> {
        self.inner.swift().map(|_| self as &dyn SwiftAccount)
    }

    fn requests(&self) -> RequestCounts {
        self.inner.requests()
    }
}

impl Limited {
    fn inner_multipart(&self) -> Result<&dyn Multipart, StoreError> {
        let unsupported = || StoreError::named(ErrorKind::Unsupported, "multipart upload");
        self.inner.multipart().ok_or_else(unsupported)
    }

    fn inner_swift(&self) -> Result<&dyn SwiftAccount, StoreError> {
        let unsupported = || StoreError::named(ErrorKind::Unsupported, "Swift operation");
        self.inner.swift().ok_or_else(unsupported)
    }

    fn paced(&self, body: Body) -> Body {
        let body = match self.gates.is_empty() {
            true => body,
            false => body::from_body(PacedBody::new(body, Arc::clone(&self.gates))),
        };
        let body = match &self.permission {
            Some(permission) => body::from_body(PermittedBody::new(body, Arc::clone(permission))),
            None => body,
        };
        self.metered_body(body, Direction::Sent)
    }

    fn received(&self, found: GetObject) -> GetObject {
        GetObject { body: self.metered_body(found.body, Direction::Received), ..found }
    }

    fn metered_body(&self, body: Body, direction: Direction) -> Body {
        match &self.meter {
            Some(meter) => body::from_body(MeteredBody::new(body, Arc::clone(meter), direction)),
            None => body,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Multipart for Limited {
    async fn create(&self, key: &str, upload: &NewUpload) -> Result<String, StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.create(key, upload)).await
    }

    async fn put_part(&self, key: &str, upload_id: &str, part: PutPart) -> Result<String, StoreError> {
        self.request().await?;
        let body = self.paced(part.body);
        self.counted(self.inner_multipart()?.put_part(key, upload_id, PutPart { body, ..part })).await
    }

    async fn copy_part(&self, key: &str, upload_id: &str, copy: &CopyPart<'_>) -> Result<String, StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.copy_part(key, upload_id, copy)).await
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[CompletedPart],
    ) -> Result<PutReceipt, StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.complete(key, upload_id, parts)).await
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.abort(key, upload_id)).await
    }

    async fn list_uploads(&self, prefix: &str, after: Option<&UploadMark>) -> Result<UploadPage, StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.list_uploads(prefix, after)).await
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<StoredPart>, StoreError> {
        self.request().await?;
        self.counted(self.inner_multipart()?.list_parts(key, upload_id)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SwiftAccount for Limited {
    async fn ensure_container(
        &self,
        container: &str,
        storage_policy: Option<&str>,
    ) -> Result<bool, StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.ensure_container(container, storage_policy)).await
    }

    async fn head_container(&self, container: &str) -> Result<Option<ContainerHead>, StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.head_container(container)).await
    }

    async fn post_container(
        &self,
        container: &str,
        headers: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.post_container(container, headers)).await
    }

    async fn delete_container(&self, container: &str) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.delete_container(container)).await
    }

    async fn list_containers(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.list_containers(prefix, start_after, limit)).await
    }

    async fn put_slo(
        &self,
        key: &str,
        segments: &[SloSegment],
        metadata: &RemoteMetadata,
    ) -> Result<PutReceipt, StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.put_slo(key, segments, metadata)).await
    }

    async fn slo_manifest(&self, key: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.slo_manifest(key, max_bytes)).await
    }

    async fn delete_slo(&self, key: &str) -> Result<(), StoreError> {
        self.request().await?;
        self.counted(self.inner_swift()?.delete_slo(key)).await
    }
}

#[cfg(test)]
mod tests;
