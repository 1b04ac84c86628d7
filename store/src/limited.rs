//! Keeps to rates: requests in a second, and bytes of uploads in a second.
//!
//! A [`RateGate`] lets so much through and no more; several mappings, or all, may share one. [`Limited`] puts gates in
//! front of a store. An upload waits piece by piece while its body is sent, so that its connection keeps moving.

mod paced_body;
mod rate_gate;

use std::sync::Arc;

use async_trait::async_trait;
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};

use crate::body;
use crate::error::StoreError;
use crate::metering::RequestCounts;
use crate::object_store::{ListPage, ObjectStore, PutObject, PutReceipt, RemoteObject};
use paced_body::PacedBody;

pub use rate_gate::RateGate;

/// A store behind gates. Every request waits at each of them, in their order.
///
/// What the store sends again after a passing fault, or to find the first page of a listing, is not counted.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    gates: Arc<[Arc<RateGate>]>,
}

impl Limited {
    /// Puts `gates` in front of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, gates: Vec<Arc<RateGate>>) -> Self {
        Self { inner, gates: gates.into() }
    }

    async fn request(&self) {
        for gate in &*self.gates {
            gate.request().await;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Limited {
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError> {
        self.request().await;
        self.inner.head(key).await
    }

    async fn put(&self, key: &str, put: PutObject) -> Result<PutReceipt, StoreError> {
        self.request().await;
        if self.gates.is_empty() {
            return self.inner.put(key, put).await;
        }
        let body = body::from_body(PacedBody::new(put.body, Arc::clone(&self.gates)));
        self.inner.put(key, PutObject { body, ..put }).await
    }

    async fn replace_metadata(
        &self,
        key: &str,
        expected_etag: &str,
        metadata: &RemoteMetadata,
    ) -> Result<(), StoreError> {
        self.request().await;
        self.inner.replace_metadata(key, expected_etag, metadata).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.request().await;
        self.inner.delete(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError> {
        self.request().await;
        self.inner.list(prefix, start_after, max_keys).await
    }

    /// Waits at no gate: callers ask whether the remote is well, and a queue in front of it must not look like an outage.
    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        self.request().await;
        self.inner.lifecycle_rules().await
    }

    /// Reads the rules and writes them: two requests.
    async fn set_expiration(&self, key_prefix: &str, days: u32) -> Result<LifecyclePlan, StoreError> {
        self.request().await;
        self.request().await;
        self.inner.set_expiration(key_prefix, days).await
    }

    fn requests(&self) -> RequestCounts {
        self.inner.requests()
    }
}

#[cfg(test)]
mod tests;
