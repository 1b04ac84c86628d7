//! The objects themselves: read, examined and removed, straight at the object servers.
//!
//! A replica is used only if it is at least as new as the row that asks for it; the next one is asked otherwise. What
//! an object server cannot give in the clear (ciphertext, fragments of an erasure code) comes through a proxy of the
//! cluster's own, if one is configured.
//!
//! Objects come as they are stored: the manifest of a large object, a symbolic link itself.
//!
//! Source: `swift/obj/server.py` and `swift/proxy/controllers/obj.py` of Swift 2.30.1.

mod delete;
mod head;
mod proxy;
mod segment;

use std::sync::Arc;

use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use swift_s3_policy::{RowTimestamps, Timestamp};

use super::backend::{Backend, BackendError, LocalBody, push_encoded};
use super::swift_conf::PolicyKind;
use super::topology::{ObjectPlace, Replica, SwiftTopology, TopologyError};

pub use delete::DeleteOutcome;
pub use head::{LocalHead, LocalKind};
pub use proxy::{InternalUrl, InternalUrlError};
pub(crate) use segment::{Content, Wanted};

pub(crate) const POLICY_INDEX: HeaderName = HeaderName::from_static("x-backend-storage-policy-index");

/// Reads and removes objects of the cluster. Clones share their connections.
#[derive(Clone, Debug)]
pub struct LocalObjects {
    topology: SwiftTopology,
    backend: Backend,
    proxy: Option<Arc<InternalUrl>>,
}

/// Which object, and under which policy its row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'a> {
    /// The account.
    pub account: &'a str,
    /// The container that a client names, not a shard.
    pub container: &'a str,
    /// The object.
    pub object: &'a str,
    /// The storage policy of the row.
    pub policy_index: u32,
}

/// How new a replica must be. A POST also goes to a replica that missed the PUT before it, which then is as new as the POST and has old
/// content: so both times count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtLeast {
    /// The content.
    pub data: Timestamp,
    /// The newest of content and metadata.
    pub metadata: Timestamp,
}

impl From<RowTimestamps> for AtLeast {
    fn from(row: RowTimestamps) -> Self {
        Self { data: row.data, metadata: row.metadata }
    }
}

impl From<&LocalHead> for AtLeast {
    fn from(head: &LocalHead) -> Self {
        Self { data: head.data_timestamp, metadata: head.timestamp }
    }
}

/// An object that is being read.
#[derive(Debug)]
pub struct LocalObject {
    /// Its headers.
    pub head: LocalHead,
    /// Its content, exactly `head.length` bytes or an error. Dropping it early closes the connection.
    pub body: LocalBody,
}

/// What all replicas together say of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The replica with the newest data; its `timestamp` is the newest that any replica has. Read straight from the
    /// object servers, so an encrypted object's ETag is that of its ciphertext.
    pub found: Option<LocalHead>,
    /// The newest tombstone. It may be older than what was found.
    pub deleted_at: Option<Timestamp>,
    /// Replicas that did not answer, or not usefully.
    pub unreachable: u32,
    /// Replicas that were asked.
    pub asked: u32,
}

/// Why an object cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Every replica says that there is no such object.
    #[error("no replica has the object")]
    Missing,
    /// Every replica that answers is older than what was asked for.
    #[error("the newest replica that answers is of {newest}, which is older than the row")]
    Stale {
        /// The time of the newest.
        newest: Timestamp,
    },
    /// Only a proxy could give it, and none can; the text says what is missing.
    #[error("{0}")]
    NeedsProxy(String),
    /// Every replica that answers holds other content than was asked for.
    #[error("its ETag should be {expected}, but is {found}")]
    Differs {
        /// What was asked for.
        expected: String,
        /// What a replica has.
        found: String,
    },
    /// It is of a kind that cannot serve as a segment.
    #[error("it is {0}, which cannot serve as a segment")]
    NoSegment(&'static str),
    /// Too few replicas answer; the text has the last failure.
    #[error("{0}")]
    Unavailable(String),
    /// Where the object lies is not known.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl LocalError {
    /// The reason class for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "local_missing",
            Self::Stale { .. } => "local_stale",
            Self::NeedsProxy(_) => "needs_proxy",
            Self::Differs { .. } => "local_differs",
            Self::NoSegment(_) => "no_segment",
            Self::Unavailable(_) => "local_unavailable",
            Self::Topology(_) => "topology",
        }
    }
}

impl LocalObjects {
    /// Reads at the servers that `topology` names; through `internal_url` what they cannot give.
    pub fn new(topology: SwiftTopology, backend: Backend, internal_url: Option<InternalUrl>) -> Self {
        Self { topology, backend: backend.to("object"), proxy: internal_url.map(Arc::new) }
    }

    /// Opens an object for reading, from a replica that is at least as new as `at_least`. Replicas on this machine are
    /// asked first.
    ///
    /// # Errors
    /// [`LocalError`]; a failure after the headers comes out of the body.
    ///
    /// # Cancel safety
    /// Cancel-safe; a connection in use is closed.
    pub async fn open(&self, name: &ObjectName<'_>, at_least: AtLeast) -> Result<LocalObject, LocalError> {
        let place = self.place(name)?;
        let method = match place.kind {
            PolicyKind::Replication => Method::GET,
            // A fragment's content is of no use, its headers are.
            PolicyKind::ErasureCoding => Method::HEAD,
        };
        let (mut head, mut response) = self.first_new_enough(&method, &place, name, at_least).await?;
        if let Some(why) = hindrance(&head, place.kind) {
            drop(response);
            (head, response) =
                self.through_proxy(Method::GET, name, at_least.metadata, &head, &why, None).await?;
        }
        let body = LocalBody::new(response.into_body(), head.length, self.backend.timeouts().stall);
        Ok(LocalObject { head, body })
    }

    /// The headers of an object, chosen as [`Self::open`] does.
    ///
    /// # Errors
    /// [`LocalError`].
    pub async fn head(&self, name: &ObjectName<'_>, at_least: AtLeast) -> Result<LocalHead, LocalError> {
        let place = self.place(name)?;
        let (head, _) = self.first_new_enough(&Method::HEAD, &place, name, at_least).await?;
        // Every fragment carries the ETag and the length of the whole, so only ciphertext is in the way.
        if let Some(why) = hindrance(&head, PolicyKind::Replication) {
            return Ok(self.through_proxy(Method::HEAD, name, at_least.metadata, &head, &why, None).await?.0);
        }
        Ok(head)
    }

    /// Asks every primary replica for its headers.
    ///
    /// # Errors
    /// [`LocalError::Topology`] only; replicas that fail are counted.
    pub async fn newest(&self, name: &ObjectName<'_>) -> Result<Newest, LocalError> {
        let place = self.place(name)?;
        let path = object_path(&place, name);
        let answers = join_all(place.replicas.iter().map(|replica| async {
            let response = self.ask(&Method::HEAD, replica, &path, name.policy_index).await.ok()?;
            Some((response.status(), LocalHead::read(response.headers()), tombstone_time(response.headers())))
        }))
        .await;
        let mut newest = Newest::default();
        for answer in answers {
            newest.asked = newest.asked.saturating_add(1);
            match answer {
                Some((StatusCode::OK, Ok(head), _)) => newest.add(head),
                Some((StatusCode::NOT_FOUND, _, time)) => newest.deleted_at = newest.deleted_at.max(time),
                _ => newest.unreachable = newest.unreachable.saturating_add(1),
            }
        }
        Ok(newest)
    }

    fn place(&self, name: &ObjectName<'_>) -> Result<ObjectPlace, LocalError> {
        Ok(self.topology.object(name.policy_index, name.account, name.container, name.object)?)
    }

    async fn first_new_enough(
        &self,
        method: &Method,
        place: &ObjectPlace,
        name: &ObjectName<'_>,
        at_least: AtLeast,
    ) -> Result<(LocalHead, Response<Incoming>), LocalError> {
        let path = object_path(place, name);
        let mut stale: Option<Timestamp> = None;
        let mut trouble = None;
        for replica in self.in_order(&place.replicas) {
            let response = match self.ask(method, replica, &path, name.policy_index).await {
                Ok(response) => response,
                Err(error) => {
                    trouble = Some(error.to_string());
                    continue;
                }
            };
            let server = &replica.device.authority;
            match response.status() {
                StatusCode::OK => match LocalHead::read(response.headers()) {
                    Ok(head)
                        if head.timestamp >= at_least.metadata && head.data_timestamp >= at_least.data =>
                    {
                        return Ok((head, response));
                    }
                    // The content is not wanted: its connection is closed rather than read to the end.
                    Ok(head) => stale = stale.max(Some(head.data_timestamp)),
                    Err(problem) => trouble = Some(format!("{server}: {problem}")),
                },
                StatusCode::NOT_FOUND => self.backend.finish(response, server).await,
                status => {
                    trouble = Some(format!("{server} answered {status}"));
                    self.backend.finish(response, server).await;
                }
            }
        }
        match (stale, trouble) {
            (Some(newest), _) => Err(LocalError::Stale { newest }),
            (None, Some(trouble)) => Err(LocalError::Unavailable(trouble)),
            (None, None) => Err(LocalError::Missing),
        }
    }

    /// Replicas on this machine first, and servers that did not answer a moment ago last.
    fn in_order<'r>(&self, replicas: &'r [Replica]) -> impl Iterator<Item = &'r Replica> + use<'r> {
        let (resting, awake): (Vec<_>, Vec<_>) =
            replicas.iter().partition(|replica| self.backend.is_resting(&replica.device.authority));
        awake.into_iter().chain(resting)
    }

    async fn ask(
        &self,
        method: &Method,
        replica: &Replica,
        path: &str,
        policy_index: u32,
    ) -> Result<Response<Incoming>, BackendError> {
        let target = target(replica, path);
        self.backend
            .send(method.clone(), &replica.device.authority, &target, |headers: &mut HeaderMap| {
                headers.insert(POLICY_INDEX, HeaderValue::from(policy_index));
            })
            .await
    }
}

impl Newest {
    fn add(&mut self, head: LocalHead) {
        let Some(found) = &mut self.found else {
            self.found = Some(head);
            return;
        };
        let timestamp = found.timestamp.max(head.timestamp);
        if (head.data_timestamp, head.timestamp) > (found.data_timestamp, found.timestamp) {
            *found = head;
        }
        found.timestamp = timestamp;
    }
}

/// What keeps an object server's own answer from being used.
fn hindrance(head: &LocalHead, kind: PolicyKind) -> Option<String> {
    if head.is_encrypted() {
        return Some("the object is encrypted at rest".to_owned());
    }
    (kind == PolicyKind::ErasureCoding).then(|| "the object is erasure-coded".to_owned())
}

/// `/partition/account/container/object`, which is the same on every device.
fn object_path(place: &ObjectPlace, name: &ObjectName<'_>) -> String {
    let mut path = String::with_capacity(64 + name.container.len() + name.object.len());
    push_encoded(&mut path, &place.partition.to_string());
    push_encoded(&mut path, name.account);
    push_encoded(&mut path, name.container);
    push_encoded(&mut path, name.object);
    path
}

fn target(replica: &Replica, path: &str) -> String {
    let mut target = String::with_capacity(path.len() + 16);
    push_encoded(&mut target, &replica.device.device);
    target.push_str(path);
    target
}

/// When the object was deleted, in the headers of a 404.
fn tombstone_time(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get("x-backend-timestamp")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
