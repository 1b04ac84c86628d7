//! One merged container and where its archived objects are.

use std::sync::Arc;

use swift_s3_policy::{KeyMapping, Mapping, Merge};
use swift_s3_store::{ObjectStore, RemoteStore};

/// See the module.
#[derive(Clone, Debug)]
pub struct Route {
    /// The mapping. Its `merge` is there.
    pub mapping: Arc<Mapping>,
    /// Its id.
    pub id: Arc<str>,
    /// The local container.
    pub container: String,
    /// The keys of its objects.
    pub keys: KeyMapping,
    /// The remote, shared with others that go there.
    pub remote: Arc<RemoteStore>,
}

impl Route {
    /// Of a mapping that merges.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, id: Arc<str>, container: &str, remote: Arc<RemoteStore>) -> Self {
        let keys = mapping.key_mapping(container);
        Self { mapping, id, container: container.to_owned(), keys, remote }
    }

    /// What is done for the container.
    #[must_use]
    pub fn merge(&self) -> Merge {
        self.mapping.merge.unwrap_or_default()
    }

    /// The remote.
    #[must_use]
    pub fn store(&self) -> &dyn ObjectStore {
        self.remote.store.as_ref()
    }

    /// The local account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.mapping.account
    }
}
