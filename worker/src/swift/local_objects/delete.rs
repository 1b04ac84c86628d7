//! Removing exactly one write of an object.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use swift_s3_policy::Timestamp;

use super::{LocalError, LocalObjects, ObjectName, POLICY_INDEX, object_path, target};
use crate::swift::topology::{ContainerPlace, Replica};

/// How the replicas took a delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOutcome {
    /// Replicas that hold the tombstone now, whether or not they had the object.
    pub removed: u32,
    /// Replicas that kept a newer write.
    pub newer: u32,
    /// Replicas that did not answer, or failed.
    pub failed: u32,
    /// Replicas that were asked.
    pub asked: u32,
}

impl DeleteOutcome {
    /// Tells whether more than half of the replicas hold the tombstone. Swift's replicators see to the rest.
    pub const fn is_durable(&self) -> bool {
        self.removed.saturating_mul(2) > self.asked
    }

    /// Tells whether more than half of the replicas gave a definite answer.
    pub const fn is_decided(&self) -> bool {
        self.removed.saturating_add(self.newer).saturating_mul(2) > self.asked
    }
}

const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const TRANS_ID: HeaderName = HeaderName::from_static("x-trans-id");
const CONTAINER_PARTITION: HeaderName = HeaderName::from_static("x-container-partition");
const CONTAINER_HOST: HeaderName = HeaderName::from_static("x-container-host");
const CONTAINER_DEVICE: HeaderName = HeaderName::from_static("x-container-device");
const CLEAN_EXPIRY: HeaderName = HeaderName::from_static("x-backend-clean-expiring-object-queue");
/// How many replicas tell the queue of expiring objects; Swift's proxies ask for as many.
const EXPIRY_UPDATES: usize = 2;

impl LocalObjects {
    /// Writes a tombstone of the time `at` to every primary replica, and lets each tell the container.
    ///
    /// A replica whose data is of `at` or newer keeps it and answers so. With `at` one offset above a row's timestamp
    /// exactly that write goes, and nothing that a client wrote later can. `container_place` is where the container
    /// (for a sharded one: the root) has its databases.
    ///
    /// # Errors
    /// [`LocalError::Topology`] only; replicas that fail are counted.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown which replicas were reached; asking again is harmless.
    pub async fn delete_exactly(
        &self,
        name: &ObjectName<'_>,
        at: Timestamp,
        container_place: &ContainerPlace,
    ) -> Result<DeleteOutcome, LocalError> {
        let mut place = self.place(name)?;
        // In ring order, as a proxy pairs object servers with container replicas.
        place.replicas.sort_by_key(|replica| replica.index);
        let path = object_path(&place, name);
        let updates = container_updates(place.replicas.len(), &container_place.replicas);
        let common = common_headers(name, at, container_place);
        let requests = place.replicas.iter().zip(&updates).enumerate().map(|(number, (replica, update))| {
            let headers = request_headers(&common, update, number);
            let target = target(replica, &path);
            async move {
                let server = &replica.device.authority;
                let add = |to: &mut HeaderMap| to.extend(headers.clone());
                let response = match self.backend.send(Method::DELETE, server, &target, add).await {
                    Ok(response) => response,
                    Err(error) => {
                        tracing::debug!(%error, "an object server did not take a delete");
                        return None;
                    }
                };
                let status = response.status();
                self.backend.finish(response, server).await;
                Some(status)
            }
        });
        let mut outcome = DeleteOutcome::default();
        for status in join_all(requests).await {
            outcome.asked = outcome.asked.saturating_add(1);
            let counter = match status {
                Some(status) if status.is_success() || status == StatusCode::NOT_FOUND => {
                    &mut outcome.removed
                }
                Some(StatusCode::CONFLICT) => &mut outcome.newer,
                _ => &mut outcome.failed,
            };
            *counter = counter.saturating_add(1);
        }
        Ok(outcome)
    }
}

/// Which container replicas each object server tells.
///
/// As Swift's proxy does it: as many updates as are needed for the container to learn of the delete even if only a
/// quorum of object servers succeeds, and every container replica at least once.
///
/// Source: `num_container_updates` and `_backend_requests` in `swift/proxy/controllers/obj.py`.
fn container_updates(object_servers: usize, containers: &[Replica]) -> Vec<Vec<&Replica>> {
    let mut updates = vec![Vec::new(); object_servers];
    if object_servers == 0 || containers.is_empty() {
        return updates;
    }
    let quorum = |count: usize| count.div_ceil(2);
    let needed = (quorum(containers.len()) + object_servers - quorum(object_servers)).max(containers.len());
    for (number, container) in containers.iter().cycle().take(needed).enumerate() {
        if let Some(update) = updates.get_mut(number % object_servers) {
            update.push(container);
        }
    }
    updates
}

fn common_headers(name: &ObjectName<'_>, at: Timestamp, container_place: &ContainerPlace) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(POLICY_INDEX, HeaderValue::from(name.policy_index));
    headers.insert(CONTAINER_PARTITION, HeaderValue::from(container_place.partition));
    headers.insert(header::REFERER, HeaderValue::from_static("swift-s3-sync"));
    let texts = [(TIMESTAMP, at.to_string()), (TRANS_ID, transaction_id())];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    headers
}

fn request_headers(common: &HeaderMap, update: &[&Replica], number: usize) -> HeaderMap {
    let mut headers = common.clone();
    let cleans = if number < EXPIRY_UPDATES { "t" } else { "f" };
    headers.insert(CLEAN_EXPIRY, HeaderValue::from_static(cleans));
    let list = |text: fn(&Replica) -> &str| -> Option<HeaderValue> {
        let all: Vec<&str> = update.iter().map(|replica| text(replica)).collect();
        HeaderValue::try_from(all.join(",")).ok().filter(|value| !value.is_empty())
    };
    let hosts = list(|replica| replica.device.authority.as_str());
    let devices = list(|replica| &replica.device.device);
    // One without the other would be refused; the container then learns of the delete from another server.
    if let (Some(hosts), Some(devices)) = (hosts, devices) {
        headers.insert(CONTAINER_HOST, hosts);
        headers.insert(CONTAINER_DEVICE, devices);
    } else {
        headers.remove(CONTAINER_PARTITION);
    }
    headers
}

/// An id in the form of Swift's own, so that one delete can be followed through all servers' logs.
fn transaction_id() -> String {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let number = |keys: &RandomState| {
        let mut hasher = keys.build_hasher();
        hasher.write_u64(count);
        hasher.finish()
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let random = format!("{:016x}{:016x}", number(&KEYS.0), number(&KEYS.1));
    let random: String = random.chars().take(21).collect();
    format!("tx{random}-{seconds:010x}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::swift::testing::device;

    fn replicas(count: u32) -> Vec<Replica> {
        (0..count)
            .map(|index| Replica {
                index,
                device: Arc::new(device(index, "10.0.0.1", 6201)),
                is_local: false,
            })
            .collect()
    }

    #[test]
    fn every_container_replica_is_told_as_swift_does() {
        // (object servers, container replicas, updates per object server)
        let table: &[(usize, u32, &[&[u32]])] = &[
            (3, 3, &[&[0], &[1], &[2]]),
            (1, 3, &[&[0, 1, 2]]),
            (2, 3, &[&[0, 2], &[1]]),
            (3, 2, &[&[0], &[1], &[]]),
            (6, 3, &[&[0], &[1], &[2], &[0], &[1], &[]]),
            (3, 0, &[&[], &[], &[]]),
        ];
        for (servers, containers, expected) in table {
            let containers = replicas(*containers);
            let updates = container_updates(*servers, &containers);
            let indexes: Vec<Vec<u32>> =
                updates.iter().map(|update| update.iter().map(|replica| replica.index).collect()).collect();
            assert_eq!(indexes, *expected, "{servers} object servers, {} containers", containers.len());
        }
    }

    #[test]
    fn transaction_ids_have_swifts_form_and_differ() {
        let first = transaction_id();
        assert_eq!(first.len(), 2 + 21 + 1 + 10, "{first}");
        assert!(first.starts_with("tx"));
        assert!(first[2..23].bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(first, transaction_id());
    }
}
