//! Questions to container and account servers, past the proxy.

pub mod objects;
mod replicas;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backend::{Backend, BackendError, push_encoded, push_query_value};
use super::container_db::{RawShardRange, ShardRange, ShardingState};
use super::topology::{ContainerPlace, Replica, SwiftTopology, TopologyError};

pub(crate) use replicas::Walk;
pub use replicas::{ReplicaEntry, ReplicaPage};

/// The most that a list of shard ranges may hold: a hundred thousand of them, at some 400 bytes each.
const MAX_SHARD_LISTING_BYTES: usize = 64 << 20;
/// The most that a page of containers may hold: 10,000 of them with names of 256 bytes, all escaped.
const MAX_ACCOUNT_LISTING_BYTES: usize = 32 << 20;

const RECORD_TYPE: HeaderName = HeaderName::from_static("x-backend-record-type");
const SHARDING_STATE: HeaderName = HeaderName::from_static("x-backend-sharding-state");
const POLICY_INDEX: HeaderName = HeaderName::from_static("x-backend-storage-policy-index");

/// Asks container and account servers. Clones share everything.
#[derive(Clone, Debug)]
pub struct ContainerServers {
    topology: SwiftTopology,
    backend: Backend,
    turn: Arc<AtomicUsize>,
}

/// What a container server says of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerHead {
    /// The replica has the container, and it is not deleted.
    pub exists: bool,
    /// The container's storage policy, when the server knows the container.
    pub policy_index: Option<u32>,
    /// How far the container is split; `None` when it does not exist.
    pub sharding: Option<ShardingState>,
}

/// The shards of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardListing {
    /// How far the container is split.
    pub state: ShardingState,
    /// Its shards, without the container itself and without deleted ones, in the order of their names' ranges.
    pub ranges: Vec<ShardRange>,
    /// What is wrong with those that were left out.
    pub problems: Vec<String>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ContainerServerError {
    /// Where to ask is not known.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Every replica failed; this is the last failure.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A server answered with an error.
    #[error("{server} answered {status} for {what}")]
    Status {
        /// The server.
        server: String,
        /// Its answer.
        status: StatusCode,
        /// What was asked.
        what: String,
    },
    /// A server's answer is not what was asked for.
    #[error("{server}: expected {expected}, got {got}")]
    Content {
        /// The server.
        server: String,
        /// What belongs there.
        expected: String,
        /// What came.
        got: String,
    },
}

impl ContainerServers {
    /// Asks the servers that `topology` names, over the connections of `backend`.
    pub fn new(topology: SwiftTopology, backend: Backend) -> Self {
        Self { topology, backend: backend.to("container"), turn: Arc::default() }
    }

    /// Makes a replica's server move the rows of its `.pending` file into its database, and says what it knows.
    ///
    /// The server does so whenever it is asked for the container; it gives up after 0.1 s if another process holds the
    /// folder's lock, so rows may stay behind now and then.
    ///
    /// # Errors
    /// [`ContainerServerError::Backend`]; [`ContainerServerError::Status`] for anything but success and 404.
    pub async fn flush_pending(
        &self,
        place: &ContainerPlace,
        replica: &Replica,
        account: &str,
        container: &str,
    ) -> Result<ContainerHead, ContainerServerError> {
        let target = target(place, replica, account, Some(container));
        let server = &replica.device.authority;
        let response = self.backend.send(Method::HEAD, server, &target, |_| {}).await?;
        let status = response.status();
        let exists = status.is_success();
        if !exists && status != StatusCode::NOT_FOUND {
            return Err(failed(server, status, account, Some(container)));
        }
        let headers = response.headers();
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(ContainerHead {
            exists,
            policy_index: text(&POLICY_INDEX).and_then(|index| index.parse().ok()),
            sharding: text(&SHARDING_STATE).and_then(ShardingState::from_header),
        })
    }

    /// The shards of a container, from the first replica that answers; `None` when the replicas say that there is no
    /// such container.
    ///
    /// Replicas take turns in being asked first, so that one that is behind does not decide for ever.
    ///
    /// # Errors
    /// The last failure, when too few replicas answer.
    pub async fn shard_ranges(
        &self,
        place: &ContainerPlace,
        account: &str,
        container: &str,
    ) -> Result<Option<ShardListing>, ContainerServerError> {
        let shard = |headers: &mut HeaderMap| {
            headers.insert(RECORD_TYPE, HeaderValue::from_static("shard"));
        };
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let answer = self
            .ask_in_turn(
                place,
                first,
                MAX_SHARD_LISTING_BYTES,
                account,
                Some(container),
                "?format=json",
                shard,
            )
            .await?;
        let Some(ListAnswer { server, headers, content }) = answer else { return Ok(None) };
        let unexpected = |expected: &str, got: String| ContainerServerError::Content {
            server: server.clone(),
            expected: expected.to_owned(),
            got,
        };
        let state = headers.get(SHARDING_STATE).and_then(|value| value.to_str().ok());
        let Some(state) = state.map_or(Some(ShardingState::Unsharded), ShardingState::from_header) else {
            return Err(unexpected("a sharding state", format!("{state:?}")));
        };
        if headers.get(RECORD_TYPE).is_none_or(|kind| kind != "shard") {
            return Err(unexpected("a list of shard ranges", "another kind of list".to_owned()));
        }
        let entries: Vec<ShardEntry> = serde_json::from_slice(&content)
            .map_err(|error| unexpected("a JSON list of shard ranges", error.to_string()))?;
        let mut listing = ShardListing { state, ranges: Vec::new(), problems: Vec::new() };
        for entry in &entries {
            match entry.checked() {
                Ok(range) if range.deleted || (range.account == account && range.container == container) => {}
                Ok(range) => listing.ranges.push(range),
                Err(problem) => listing.problems.push(format!("shard range {:?}: {problem}", entry.name)),
            }
        }
        Ok(Some(listing))
    }

    /// One page of an account's containers: those behind `marker`, ascending, at most `limit` (the cluster may give
    /// fewer; 10,000 is its usual maximum). An account that is not there, or deleted, has none.
    ///
    /// # Errors
    /// The last failure, when too few replicas answer. A failure is never an empty list.
    pub async fn list_containers(
        &self,
        account: &str,
        marker: &str,
        limit: u32,
    ) -> Result<Vec<String>, ContainerServerError> {
        let place = self.topology.account(account)?;
        let mut query = format!("?format=json&limit={limit}");
        if !marker.is_empty() {
            query.push_str("&marker=");
            push_query_value(&mut query, marker);
        }
        let answer =
            self.ask_in_turn(&place, 0, MAX_ACCOUNT_LISTING_BYTES, account, None, &query, |_| {}).await?;
        let Some(ListAnswer { server, content, .. }) = answer else { return Ok(Vec::new()) };
        if content.is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<ContainerEntry> =
            serde_json::from_slice(&content).map_err(|error| ContainerServerError::Content {
                server,
                expected: "a JSON list of containers".to_owned(),
                got: error.to_string(),
            })?;
        // A page that does not move on would be asked for again and again.
        Ok(entries.into_iter().map(|entry| entry.name).filter(|name| name.as_str() > marker).collect())
    }

    /// The first good answer; `None` when at least half of the replicas answer 404 and none has it.
    #[allow(clippy::too_many_arguments, reason = "one private caller for each kind of list")]
    async fn ask_in_turn(
        &self,
        place: &ContainerPlace,
        first: usize,
        most_bytes: usize,
        account: &str,
        container: Option<&str>,
        query: &str,
        headers: impl Fn(&mut HeaderMap),
    ) -> Result<Option<ListAnswer>, ContainerServerError> {
        let count = place.replicas.len();
        let turned = place.replicas.iter().cycle().skip(first.checked_rem(count).unwrap_or(0)).take(count);
        let (awake, resting): (Vec<_>, Vec<_>) =
            turned.partition(|replica| !self.backend.is_resting(&replica.device.authority));
        let backend = self.backend.to(if container.is_some() { "container" } else { "account" });
        let mut missing = 0usize;
        let mut last = None;
        for replica in awake.into_iter().chain(resting) {
            let server = &replica.device.authority;
            let mut target = target(place, replica, account, container);
            target.push_str(query);
            let response = match backend.send(Method::GET, server, &target, &headers).await {
                Ok(response) => response,
                Err(error) => {
                    last = Some(error.into());
                    continue;
                }
            };
            let status = response.status();
            if !status.is_success() {
                self.backend.finish(response, server).await;
                if status == StatusCode::NOT_FOUND {
                    missing += 1;
                } else {
                    last = Some(failed(server, status, account, container));
                }
                continue;
            }
            let headers = response.headers().clone();
            match self.backend.read(response, server, most_bytes).await {
                Ok(content) => return Ok(Some(ListAnswer { server: server.to_string(), headers, content })),
                Err(error) => last = Some(error.into()),
            }
        }
        match last {
            Some(error) if missing * 2 < count => Err(error),
            _ => Ok(None),
        }
    }
}

struct ListAnswer {
    server: String,
    headers: HeaderMap,
    content: bytes::Bytes,
}

#[derive(Deserialize)]
struct ContainerEntry {
    name: String,
}

#[derive(Deserialize)]
struct ShardEntry {
    name: String,
    timestamp: String,
    lower: String,
    upper: String,
    state: i64,
    /// Swift writes 0 or 1.
    #[serde(default)]
    deleted: u8,
    epoch: Option<String>,
}

impl ShardEntry {
    fn checked(&self) -> Result<ShardRange, String> {
        ShardRange::checked(RawShardRange {
            name: &self.name,
            timestamp: &self.timestamp,
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            deleted: self.deleted != 0,
            state: self.state,
            epoch: self.epoch.as_deref().unwrap_or_default(),
        })
    }
}

fn target(place: &ContainerPlace, replica: &Replica, account: &str, container: Option<&str>) -> String {
    let mut target = String::with_capacity(128);
    push_encoded(&mut target, &replica.device.device);
    push_encoded(&mut target, &place.partition.to_string());
    push_encoded(&mut target, account);
    if let Some(container) = container {
        push_encoded(&mut target, container);
    }
    target
}

fn failed(
    server: &http::uri::Authority,
    status: StatusCode,
    account: &str,
    container: Option<&str>,
) -> ContainerServerError {
    let what = container.map_or_else(|| account.to_owned(), |container| format!("{account}/{container}"));
    ContainerServerError::Status { server: server.to_string(), status, what }
}

#[cfg(test)]
mod tests;
