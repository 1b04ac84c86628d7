//! The segments of a dynamic large object: what its container lists below a prefix.
//!
//! Swift takes the word of one replica. What is sent to a remote stays there, so here all replicas that answer must list the same, and
//! they must be more than half. Of a split container that holds for each of its shards.

use swift_s3_policy::large_object::{MAX_PIECES, ManifestError, ObjectEntry};

use super::segments::{SegmentError, Segments};
use crate::swift::container_db::ShardingState;
use crate::swift::container_server::ReplicaEntry;
use crate::swift::topology::{ContainerPlace, Replica};

impl Segments {
    /// The segments below exactly `prefix`, in order. A container that is not there has none.
    pub(crate) async fn list(
        &self,
        account: &str,
        container: &str,
        prefix: &str,
    ) -> Result<Vec<ObjectEntry>, SegmentError> {
        let parts = self.servers.shard_parts(account, container).await;
        let parts = parts.map_err(|error| SegmentError::Container {
            name: container.to_owned(),
            problem: error.to_string(),
        })?;
        let listed = match parts {
            None => self.agreed(account, container, prefix).await?,
            Some(parts) => {
                let mut listed = Vec::new();
                for part in parts.iter().filter(|part| part.may_hold(prefix)) {
                    let found = self.agreed(&part.account, &part.container, prefix).await?;
                    listed.extend(found.into_iter().filter(|entry| part.covers(&entry.name)));
                    if listed.len() > MAX_PIECES {
                        return Err(ManifestError::TooMany.into());
                    }
                }
                listed
            }
        };
        listed.into_iter().enumerate().map(|(index, entry)| segment(container, index, entry)).collect()
    }

    /// What more than half of the replicas of one container list, if all that answer list the same.
    async fn agreed(
        &self,
        account: &str,
        container: &str,
        prefix: &str,
    ) -> Result<Vec<ReplicaEntry>, SegmentError> {
        let failed = |problem: String| SegmentError::Container { name: container.to_owned(), problem };
        let place = self.topology.container(account, container).map_err(|error| failed(error.to_string()))?;
        let mut agreed: Option<Vec<ReplicaEntry>> = None;
        let mut failures = 0usize;
        let mut trouble = String::new();
        for replica in &place.replicas {
            match self.list_at(&place, replica, account, container, prefix).await {
                Ok(listed) => match &agreed {
                    Some(known) if !same(known, &listed) => {
                        let problem = format!("its replicas list different segments below {prefix:?}");
                        return Err(SegmentError::Disagreement { name: container.to_owned(), problem });
                    }
                    Some(_) => {}
                    None => agreed = Some(listed),
                },
                Err(SegmentError::Container { problem, .. }) => {
                    failures = failures.saturating_add(1);
                    trouble = problem;
                }
                Err(error) => return Err(error),
            }
        }
        agreed.filter(|_| failures.saturating_mul(2) < place.replicas.len()).ok_or_else(|| failed(trouble))
    }

    async fn list_at(
        &self,
        place: &ContainerPlace,
        replica: &Replica,
        account: &str,
        container: &str,
        prefix: &str,
    ) -> Result<Vec<ReplicaEntry>, SegmentError> {
        let failed = |problem: String| SegmentError::Container { name: container.to_owned(), problem };
        let mut listed: Vec<ReplicaEntry> = Vec::new();
        loop {
            let marker = listed.last().map(|entry| entry.name.clone()).unwrap_or_default();
            let page =
                self.servers.list_replica(place, replica, account, Some(container), prefix, &marker).await;
            let Some(page) = page.map_err(|error| failed(error.to_string()))? else { return Ok(listed) };
            if matches!(page.sharding, Some(ShardingState::Sharding | ShardingState::Sharded)) {
                return Err(failed("it is being split; its segments cannot be listed now".to_owned()));
            }
            if page.entries.is_empty() {
                return Ok(listed);
            }
            listed.extend(page.entries.into_iter().filter(|entry| entry.name.starts_with(prefix)));
            if listed.len() > MAX_PIECES {
                return Err(ManifestError::TooMany.into());
            }
        }
    }
}

fn same(one: &[ReplicaEntry], other: &[ReplicaEntry]) -> bool {
    let essence = |entry: &ReplicaEntry| (entry.name.clone(), entry.hash.clone(), entry.bytes);
    one.len() == other.len() && one.iter().map(essence).eq(other.iter().map(essence))
}

fn segment(container: &str, index: usize, entry: ReplicaEntry) -> Result<ObjectEntry, SegmentError> {
    let (etag, parameters) = entry.hash.split_once(';').unwrap_or((entry.hash.as_str(), ""));
    if parameters.contains("slo_etag=") {
        // Swift itself answers with the JSON of such a segment, cut off or filled up to another length.
        let problem = format!("segment {} is itself a large object", entry.name);
        return Err(ManifestError::Entry { index, problem }.into());
    }
    Ok(ObjectEntry {
        container: container.to_owned(),
        etag: etag.trim().trim_matches('"').to_owned(),
        bytes: entry.bytes,
        range: None,
        content_type: None,
        last_modified: Some(entry.last_modified),
        nested: None,
        object: entry.name,
    })
}
