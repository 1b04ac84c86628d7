//! What each replica of a container or an account lists by itself.
//!
//! For questions where one replica that is behind must not decide: whoever asks puts the answers together.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::{
    ContainerServerError, ContainerServers, MAX_ACCOUNT_LISTING_BYTES, POLICY_INDEX, SHARDING_STATE, failed,
    target,
};
use crate::swift::backend::push_query_value;
use crate::swift::container_db::ShardingState;
use crate::swift::topology::{ContainerPlace, Replica};

/// Hidden containers, such as those of old versions, are listed only to who asks for them.
/// Source: `get_reserved_name` and `container_server.py` of Swift 2.30.1.
const RESERVED_NAMES: HeaderName = HeaderName::from_static("x-backend-allow-reserved-names");

/// One page of what one replica lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaPage {
    /// Ascending by name.
    pub entries: Vec<ReplicaEntry>,
    /// The storage policy of a container's objects.
    pub policy_index: Option<u32>,
    /// How far a container is split.
    pub sharding: Option<ShardingState>,
}

/// An object of a container, or a container of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReplicaEntry {
    /// Its name.
    pub name: String,
    /// An object's ETag with whatever parameters the row has; empty for a container.
    #[serde(default)]
    pub hash: String,
    /// Bytes.
    #[serde(default)]
    pub bytes: u64,
    /// When it was written, as the server words it.
    #[serde(default)]
    pub last_modified: String,
}

impl ContainerServers {
    /// The storage policy of a container; `None` when the replicas that answer do not know the container.
    ///
    /// # Errors
    /// The last failure, when no replica answers.
    pub async fn policy_index(
        &self,
        place: &ContainerPlace,
        account: &str,
        container: &str,
    ) -> Result<Option<u32>, ContainerServerError> {
        let mut failure = None;
        let mut has_answer = false;
        for replica in &place.replicas {
            match self.flush_pending(place, replica, account, container).await {
                Ok(head) if head.policy_index.is_some() => return Ok(head.policy_index),
                Ok(_) => has_answer = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !has_answer => Err(error),
            _ => Ok(None),
        }
    }

    /// One page of a replica: names that start with `prefix`, behind `marker`, as many as Swift gives at once; an empty page is the end.
    /// `None` when the replica has no such container or account.
    ///
    /// # Errors
    /// When the replica does not answer, or not with a list.
    pub async fn list_replica(
        &self,
        place: &ContainerPlace,
        replica: &Replica,
        account: &str,
        container: Option<&str>,
        prefix: &str,
        marker: &str,
    ) -> Result<Option<ReplicaPage>, ContainerServerError> {
        let mut target = target(place, replica, account, container);
        target.push_str("?format=json");
        for (name, value) in [("prefix", prefix), ("marker", marker)] {
            if !value.is_empty() {
                target.push_str(&format!("&{name}="));
                push_query_value(&mut target, value);
            }
        }
        let server = &replica.device.authority;
        let reserved = |headers: &mut HeaderMap| {
            headers.insert(RESERVED_NAMES, HeaderValue::from_static("true"));
        };
        let response = self.backend.send(Method::GET, server, &target, reserved).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            self.backend.finish(response, server).await;
            return Ok(None);
        }
        if !status.is_success() {
            self.backend.finish(response, server).await;
            return Err(failed(server, status, account, container));
        }
        let headers = response.headers();
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let policy_index = text(&POLICY_INDEX).and_then(|index| index.parse().ok());
        let sharding = text(&SHARDING_STATE).and_then(ShardingState::from_header);
        let content = self.backend.read(response, server, MAX_ACCOUNT_LISTING_BYTES).await?;
        let mut entries: Vec<ReplicaEntry> = if content.is_empty() {
            Vec::new()
        } else {
            serde_json::from_slice(&content).map_err(|error| ContainerServerError::Content {
                server: server.to_string(),
                expected: "a JSON list".to_owned(),
                got: error.to_string(),
            })?
        };
        // A page that does not move on would be asked for again and again.
        entries.retain(|entry| entry.name.as_str() > marker);
        Ok(Some(ReplicaPage { entries, policy_index, sharding }))
    }
}

/// Goes through the pages of all replicas of a place, one replica after the other. Names come once for each replica that has them.
pub(crate) struct Walk<'a> {
    place: &'a ContainerPlace,
    replica: usize,
    prefix: &'a str,
    marker: String,
    unreachable: usize,
    is_split: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(place: &'a ContainerPlace, prefix: &'a str) -> Self {
        Self { place, replica: 0, prefix, marker: String::new(), unreachable: 0, is_split: false }
    }

    /// Whether a replica said that the container is split, or being split: its objects are then in shards too. The page that says so may
    /// be empty.
    pub(crate) const fn is_split(&self) -> bool {
        self.is_split
    }

    /// The next page, or `None` at the end.
    ///
    /// # Errors
    /// The last failure, when more than half of the replicas failed.
    pub(crate) async fn next(
        &mut self,
        servers: &ContainerServers,
        account: &str,
        container: Option<&str>,
    ) -> Result<Option<ReplicaPage>, ContainerServerError> {
        while let Some(replica) = self.place.replicas.get(self.replica) {
            let page = servers
                .list_replica(self.place, replica, account, container, self.prefix, &self.marker)
                .await;
            if let Ok(Some(page)) = &page {
                self.is_split |= page.sharding.is_some_and(|state| state != ShardingState::Unsharded);
            }
            match page {
                Ok(Some(page)) if !page.entries.is_empty() => {
                    self.marker = page.entries.last().map(|entry| entry.name.clone()).unwrap_or_default();
                    return Ok(Some(page));
                }
                Ok(_) => {}
                Err(error) => {
                    self.unreachable = self.unreachable.saturating_add(1);
                    if self.unreachable.saturating_mul(2) > self.place.replicas.len() {
                        return Err(error);
                    }
                }
            }
            self.replica = self.replica.saturating_add(1);
            self.marker.clear();
        }
        Ok(None)
    }
}
