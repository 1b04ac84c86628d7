//! Proves with a handful of requests that a remote can be used: that the credentials are good for everything the worker does.
//!
//! Called by `swift-s3ctl verify` and `swift-s3-verify`. Whatever is written is removed again, also when a step in between
//! fails.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use md5::{Digest as _, Md5};
use swift_s3_policy::{KeyMapping, RemoteMetadata};

use crate::body;
use crate::error::{ErrorKind, StoreError};
use crate::object_store::{ObjectStore, PutObject};

/// Content of the test object.
const CONTENT: &[u8] = b"1space-test";
/// Metadata that the test object gets: Swift knows it as `X-Object-Meta-Cloud-Sync`.
const METADATA: (&str, &str) = ("cloud-sync", "fabcab");
/// Container that is made when no other is meant.
const TEST_CONTAINER: &str = ".cloudsync_test_container-ï";
/// The mapping that keys on S3 are made for.
const ACCOUNT: &str = "verify-auth";
const CONTAINER: &str = "testing-ï";

/// A remote as a whole: its containers, or buckets.
#[async_trait]
pub trait Service: Send + Sync {
    /// Names of some containers, at least one if there is any.
    async fn containers(&self) -> Result<Vec<String>, StoreError>;

    /// Opens a container. Sends nothing.
    async fn open(&self, container: &str) -> Result<Arc<dyn ObjectStore>, StoreError>;
}

/// What is to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where.
    pub scope: Scope,
    /// Nothing is written.
    pub read_only: bool,
    /// How keys are made.
    pub layout: Layout,
    /// The policy of a container that is made.
    pub storage_policy: Option<String>,
}

/// What a remote is tried on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The list of containers only.
    Service,
    /// Any container: one that is made for it or, when nothing may be written, the first.
    All,
    /// The container of this name.
    One(String),
}

/// How keys of a remote are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As of a mapping to S3 with this `custom_prefix`.
    S3 {
        /// As [`swift_s3_policy::Mapping::custom_prefix`].
        custom_prefix: Option<String>,
    },
    /// As of a mapping to Swift.
    Swift,
}

impl Layout {
    fn test_key(&self, container: &str) -> String {
        match self {
            Self::Swift => format!("{container}/cloud_sync_test_object"),
            Self::S3 { custom_prefix } => {
                let name = if custom_prefix.is_some() { "cloud_sync_test" } else { "fabcab/cloud_sync_test" };
                KeyMapping::new(ACCOUNT, CONTAINER, custom_prefix.as_deref()).object_key(name)
            }
        }
    }

    /// What existing keys begin with. Without a prefix that is anything: the keys of one mapping say nothing of those of others.
    fn listing_prefix(&self, container: &str) -> String {
        match self {
            Self::Swift => format!("{container}/"),
            Self::S3 { custom_prefix: None } => String::new(),
            Self::S3 { custom_prefix } => {
                KeyMapping::new(ACCOUNT, CONTAINER, custom_prefix.as_deref()).key_prefix().to_owned()
            }
        }
    }
}

/// One step, after it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub name: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Takes the steps of a plan, one after the other, and reports each as it ends.
///
/// # Errors
/// The first failure.
pub async fn run(service: &dyn Service, plan: &Plan, report: &mut dyn FnMut(&Step)) -> Result<(), String> {
    let mut steps = Steps { report };
    match (&plan.scope, plan.read_only) {
        (Scope::Service, _) => steps.list_containers(service).await.map(|_| ()),
        (scope, true) => steps.read(service, scope, &plan.layout).await,
        (Scope::All, false) => steps.write_to_new_container(service, plan).await,
        (Scope::One(container), false) => steps.write_to(service, container, &plan.layout).await,
    }
}

/// Runs steps and reports them.
struct Steps<'a> {
    report: &'a mut dyn FnMut(&Step),
}

impl Steps<'_> {
    async fn step<T>(
        &mut self,
        name: impl Into<String>,
        outcome: impl Future<Output = Result<T, String>> + Send,
    ) -> Result<T, String> {
        let outcome = outcome.await;
        (self.report)(&Step { name: name.into(), failure: outcome.as_ref().err().cloned() });
        outcome
    }

    async fn list_containers(&mut self, service: &dyn Service) -> Result<Vec<String>, String> {
        let list = async {
            let listed = service.containers().await;
            listed.map_err(|error| format!("Failed to list containers/buckets: {}", status(&error)))
        };
        self.step("list containers or buckets", list).await
    }

    async fn read(&mut self, service: &dyn Service, scope: &Scope, layout: &Layout) -> Result<(), String> {
        let container = match scope {
            Scope::One(name) => name.clone(),
            Scope::All | Scope::Service => {
                let first = self.list_containers(service).await?.into_iter().next();
                first.ok_or("No buckets/containers found")?
            }
        };
        let store = open(service, &container).await?;
        let prefix = layout.listing_prefix(&container);
        let key = self.step(format!("list objects of {container}"), first_key(&*store, &prefix)).await?;
        let key = key.ok_or_else(|| match layout {
            Layout::S3 { custom_prefix: Some(prefix) } if !prefix.is_empty() => {
                format!("No objects found in {container} under prefix {prefix}")
            }
            _ => format!("No objects found in {container}"),
        })?;
        let head = async {
            match store.head(&key).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("Unexpected status code checking HEAD: 404 Not Found".to_owned()),
                Err(error) => Err(format!("Unexpected status code checking HEAD: {}", status(&error))),
            }
        };
        self.step(format!("read the metadata of {key}"), head).await?;
        let get = async {
            // Its body is dropped unread, which closes the connection.
            match store.get(&key, None).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("Unexpected status code checking GET: 404 Not Found".to_owned()),
                Err(error) => Err(format!("Unexpected status code checking GET: {}", status(&error))),
            }
        };
        self.step(format!("read {key}"), get).await
    }

    async fn write_to_new_container(&mut self, service: &dyn Service, plan: &Plan) -> Result<(), String> {
        let store = open(service, TEST_CONTAINER).await?;
        let account = store.swift().ok_or("Containers are made and removed with the swift protocol only")?;
        let create = async {
            let created = account.ensure_container(TEST_CONTAINER, plan.storage_policy.as_deref()).await;
            created.map_err(|error| match (error.status(), error.message()) {
                (Some(_), Some(message)) => {
                    format!("Failed to create container: {}: {message}", status(&error))
                }
                _ => format!("Failed to create container: {}", status(&error)),
            })
        };
        let created = self.step(format!("create container {TEST_CONTAINER}"), create).await?;
        let written = self.write_to(service, TEST_CONTAINER, &plan.layout).await;
        if !created {
            return written;
        }
        let remove = async {
            let removed = account.delete_container(TEST_CONTAINER).await;
            removed.map_err(|error| {
                format!("Failed to delete container {TEST_CONTAINER}, it is left behind: {}", status(&error))
            })
        };
        let removed = self.step(format!("delete container {TEST_CONTAINER}"), remove).await;
        written.and(removed)
    }

    async fn write_to(
        &mut self,
        service: &dyn Service,
        container: &str,
        layout: &Layout,
    ) -> Result<(), String> {
        let store = open(service, container).await?;
        let key = layout.test_key(container);
        // Only what an earlier run may have left is overwritten and removed. Credentials that may not look are still
        // good for the steps to come, or these say why not.
        if let Ok(Some(found)) = store.head(&key).await
            && found.length != CONTENT.len() as u64
        {
            return Err(format!(
                "An object {key} exists already and is not of this program: nothing was tried"
            ));
        }
        let put = async {
            match store.put(&key, test_object()).await {
                Ok(receipt) => Ok(receipt.etag.unwrap_or_else(|| hex::encode(Md5::digest(CONTENT)))),
                Err(error) => Err((
                    format!("Unexpected status code checking PUT: {}", status(&error)),
                    may_have_worked(&error),
                )),
            }
        };
        let put = put.await;
        let failure = put.as_ref().err().map(|(message, _)| message.clone());
        (self.report)(&Step { name: format!("write {key}"), failure });
        let etag = match put {
            Ok(etag) => etag,
            Err((message, false)) => return Err(message),
            Err((message, true)) => {
                // Nobody knows whether it is there.
                let removed = self.delete(&*store, &key, "may be").await;
                return Err(removed.err().map_or(message.clone(), |error| format!("{message}\n{error}")));
            }
        };
        let tried = self.try_object(&*store, &key, &etag, &layout.listing_prefix(container)).await;
        let deleted = self.delete(&*store, &key, "is").await;
        match (tried, deleted) {
            (Err(tried), Err(deleted)) => Err(format!("{tried}\n{deleted}")),
            (tried, deleted) => tried.and(deleted),
        }
    }

    /// Everything between the first and the last step with the test object.
    async fn try_object(
        &mut self,
        store: &dyn ObjectStore,
        key: &str,
        etag: &str,
        prefix: &str,
    ) -> Result<(), String> {
        let post = async {
            let changed = store.replace_metadata(key, etag, &test_metadata(), None).await;
            changed.map_err(|error| format!("Unexpected status code checking POST: {}", status(&error)))
        };
        self.step(format!("change the metadata of {key}"), post).await?;
        let head = async {
            let found = store.head(key).await;
            let found =
                found.map_err(|error| format!("Unexpected status code checking HEAD: {}", status(&error)))?;
            let found = found.ok_or("Unexpected status code checking HEAD: 404 Not Found")?;
            let (name, expected) = METADATA;
            match found.metadata.user.get(name).map(String::as_str) {
                Some(value) if value == expected => Ok(()),
                Some(value) => Err(format!("Unexpected metadata: expected {name}: {expected}, got {value}")),
                None => Err(format!("Unexpected metadata: expected {name}: {expected}, got none")),
            }
        };
        self.step(format!("read the metadata of {key}"), head).await?;
        self.step("list objects", first_key(store, prefix)).await.map(|_| ())
    }

    /// `left` says how sure it is that a failure leaves the object behind.
    async fn delete(&mut self, store: &dyn ObjectStore, key: &str, left: &str) -> Result<(), String> {
        let delete = async {
            let deleted = store.delete(key).await;
            deleted.map_err(|error| {
                format!(
                    "Unexpected status code checking DELETE: {}; {key} {left} left behind",
                    status(&error)
                )
            })
        };
        self.step(format!("delete {key}"), delete).await
    }
}

async fn open(service: &dyn Service, container: &str) -> Result<Arc<dyn ObjectStore>, String> {
    service.open(container).await.map_err(|error| error.to_string())
}

async fn first_key(store: &dyn ObjectStore, prefix: &str) -> Result<Option<String>, String> {
    match store.list(prefix, None, 1).await {
        Ok(page) => Ok(page.entries.into_iter().next().map(|entry| entry.key)),
        Err(error) => Err(format!("Unexpected status code when listing objects: {}", status(&error))),
    }
}

/// Whether the remote may have done what it did not confirm.
fn may_have_worked(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Other) || error.status().is_none()
}

/// `404 Not Found`, or what went wrong when there was no answer.
fn status(error: &StoreError) -> String {
    if let Some(status) = error.status().and_then(|status| StatusCode::from_u16(status).ok()) {
        return status.to_string();
    }
    match error.message() {
        Some(message) => format!("no answer: {message}"),
        None => error.to_string(),
    }
}

fn test_metadata() -> RemoteMetadata {
    let (name, value) = METADATA;
    RemoteMetadata { user: [(name.to_owned(), value.to_owned())].into(), ..bare_metadata() }
}

fn bare_metadata() -> RemoteMetadata {
    RemoteMetadata { content_type: "text/plain".to_owned(), ..RemoteMetadata::default() }
}

fn test_object() -> PutObject {
    PutObject {
        length: CONTENT.len() as u64,
        content_md5: Some(Md5::digest(CONTENT).into()),
        metadata: bare_metadata(),
        body: body::from_bytes(CONTENT),
        storage_class: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_they_have_always_been() {
        let s3 = |prefix: Option<&str>| Layout::S3 { custom_prefix: prefix.map(str::to_owned) };
        let native = s3(None);
        assert_eq!(native.test_key("b"), "4dbbd/verify-auth/testing-ï/fabcab/cloud_sync_test");
        assert_eq!(native.listing_prefix("b"), "");
        assert_eq!(s3(Some("")).test_key("b"), "cloud_sync_test");
        assert_eq!(s3(Some("")).listing_prefix("b"), "");
        assert_eq!(s3(Some("p/q")).test_key("b"), "p/q/cloud_sync_test");
        assert_eq!(s3(Some("p/q/")).listing_prefix("b"), "p/q/");
        assert_eq!(Layout::Swift.test_key("c"), "c/cloud_sync_test_object");
    }
}
