//! Segments where they lie: found by name, in the storage policy of their container.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body::Body;
use http_body_util::BodyExt;
use md5::{Digest, Md5};
use swift_s3_policy::large_object::manifest::Nested;
use swift_s3_policy::large_object::{Entry, MAX_DEPTH, Manifest, ManifestError, ObjectEntry};
use tokio::time::Instant;

use crate::swift::backend::LocalBody;
use crate::swift::container_server::ContainerServers;
use crate::swift::local_objects::{Content, LocalError, LocalObjects, ObjectName, Wanted};
use crate::swift::topology::SwiftTopology;

/// The most bytes of a manifest. Swift's own `max_manifest_size` is 8 MiB; its operators may raise it.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// The most manifests that are read for one object, each counted once.
const MAX_NESTED: usize = 1_000;
/// A container keeps its policy for as long as it lives; it may be deleted and made anew with another one.
const POLICY_FRESH: Duration = Duration::from_secs(60);
/// Containers whose policy is remembered.
const MAX_POLICIES: usize = 10_000;

/// Policies by account and container, and when they were asked for.
type Policies = Arc<Mutex<HashMap<(String, String), (u32, Instant)>>>;

/// Opens segments. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    pub(super) topology: SwiftTopology,
    pub(super) servers: ContainerServers,
    local: LocalObjects,
    policies: Policies,
}

/// Why a segment, or a manifest, cannot be had. The text names it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    /// The object itself.
    #[error("segment {name}: {problem}")]
    Object {
        /// `/container/object`.
        name: String,
        /// Why.
        problem: LocalError,
    },
    /// The manifest cannot be carried.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest did not come as it is stored.
    #[error("{name}: {problem}")]
    Content {
        /// `/container/object`.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Replicas do not agree about a container.
    #[error("container {name}: {problem}")]
    Disagreement {
        /// The container.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A container could not be asked.
    #[error("container {name}: {problem}")]
    Container {
        /// The container.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Segments {
    /// Opens segments through `local`, with the policies that `servers` tell.
    pub(crate) fn new(local: LocalObjects, topology: SwiftTopology, servers: ContainerServers) -> Self {
        Self { local, topology, servers, policies: Arc::default() }
    }

    /// Opens an object of `account`. See [`LocalObjects::open_named`].
    pub(crate) async fn open(
        &self,
        account: &str,
        container: &str,
        object: &str,
        wanted: &Wanted,
    ) -> Result<LocalBody, SegmentError> {
        Ok(self.open_with_etag(account, container, object, wanted).await?.1)
    }

    async fn open_with_etag(
        &self,
        account: &str,
        container: &str,
        object: &str,
        wanted: &Wanted,
    ) -> Result<(String, LocalBody), SegmentError> {
        let mut remembered = true;
        loop {
            let (policy_index, known) = self.policy_of(account, container, remembered).await?;
            let name = ObjectName { account, container, object, policy_index };
            match self.local.open_named(&name, wanted).await {
                Ok((head, body)) => return Ok((head.etag, body)),
                // The container may have been made anew since it was asked.
                Err(LocalError::Missing | LocalError::Topology(_)) if known => remembered = false,
                Err(problem) => {
                    let name = format!("/{container}/{object}");
                    return Err(SegmentError::Object { name, problem });
                }
            }
        }
    }

    /// The policy of a container, and whether it was known before.
    async fn policy_of(
        &self,
        account: &str,
        container: &str,
        remembered: bool,
    ) -> Result<(u32, bool), SegmentError> {
        let key = (account.to_owned(), container.to_owned());
        let lock = || self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered
            && let Some((index, at)) = lock().get(&key).copied()
            && at.elapsed() < POLICY_FRESH
        {
            return Ok((index, true));
        }
        let failed = |problem: String| SegmentError::Container { name: container.to_owned(), problem };
        let place = self.topology.container(account, container).map_err(|error| failed(error.to_string()))?;
        let index = self.servers.policy_index(&place, account, container).await;
        let index = index
            .map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("no replica has it".to_owned()))?;
        let mut policies = lock();
        if policies.len() >= MAX_POLICIES {
            policies.clear();
        }
        policies.insert(key, (index, Instant::now()));
        Ok((index, false))
    }

    /// Puts the nested manifests of `manifest` in their places, to any depth.
    pub(crate) async fn load_nested(
        &self,
        account: &str,
        manifest: &mut Manifest,
    ) -> Result<(), SegmentError> {
        let mut loaded = HashMap::new();
        self.fill(account, manifest, &mut loaded, MAX_DEPTH).await
    }

    fn fill<'a>(
        &'a self,
        account: &'a str,
        manifest: &'a mut Manifest,
        loaded: &'a mut HashMap<(String, String, String), (Arc<Manifest>, String)>,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), SegmentError>> {
        Box::pin(async move {
            let depth = depth.checked_sub(1).ok_or(ManifestError::TooDeep)?;
            for entry in &mut manifest.entries {
                let Entry::Object(entry) = entry else { continue };
                if entry.nested.is_none() {
                    continue;
                }
                let key = (entry.container.clone(), entry.object.clone(), entry.etag.clone());
                let (inner, object_etag) = match loaded.get(&key) {
                    Some(known) => known.clone(),
                    None if loaded.len() >= MAX_NESTED => return Err(ManifestError::TooMany.into()),
                    None => {
                        let (mut inner, object_etag) = self.load(account, entry).await?;
                        self.fill(account, &mut inner, loaded, depth).await?;
                        let inner = Arc::new(inner);
                        loaded.insert(key, (Arc::clone(&inner), object_etag.clone()));
                        (inner, object_etag)
                    }
                };
                entry.nested = Some(Nested { manifest: Some(inner), object_etag });
            }
            Ok(())
        })
    }

    async fn load(&self, account: &str, entry: &ObjectEntry) -> Result<(Manifest, String), SegmentError> {
        let wanted = Wanted { content: Content::Manifest(entry.etag.clone()), range: None };
        let (etag, body) = self.open_with_etag(account, &entry.container, &entry.object, &wanted).await?;
        let json = read_manifest(&entry.path(), body, &etag).await?;
        Ok((Manifest::parse(&json)?, etag))
    }
}

/// Reads a manifest to its end and checks it against the ETag of the object that holds it.
pub(crate) async fn read_manifest(
    name: &str,
    mut body: LocalBody,
    etag: &str,
) -> Result<Bytes, SegmentError> {
    let failed = |problem: String| SegmentError::Content { name: name.to_owned(), problem };
    let length = body.size_hint().lower();
    if length > MAX_MANIFEST_BYTES {
        return Err(failed(format!(
            "the manifest has {length} bytes, expected {MAX_MANIFEST_BYTES} at most"
        )));
    }
    let mut json = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    json.extend_from_slice(&data);
                }
            }
            Err(error) => return Err(failed(format!("reading the manifest: {error}"))),
        }
    }
    let found = hex::encode(Md5::digest(&json));
    if !found.eq_ignore_ascii_case(etag) {
        return Err(failed(format!("the manifest has MD5 {found}, its ETag says {etag}")));
    }
    Ok(json.freeze())
}
