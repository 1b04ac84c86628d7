//! Companions of large objects, read from S3.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use moka::future::Cache;
use swift_s3_store::RemoteStore;
use tokio::sync::Semaphore;

use super::manifest::{self, Summary};
use super::source;
use crate::body::collect;
use crate::metrics::Metrics;
use crate::remote::Failure;

/// A companion of 100,000 segments with names of ordinary length.
const MAX_COMPANION_BYTES: u32 = 24 << 20;
/// What all requests hold together, in memory, of companions as they are stored.
const ROOM_KIB: u32 = MAX_COMPANION_BYTES / 1024;
/// Summaries that are kept: some 300 bytes each.
const MAX_SUMMARIES: u64 = 20_000;
/// A companion that was missing may be written by a worker.
const KEEP_SUMMARY: Duration = Duration::from_secs(600);

/// What all requests share.
#[derive(Debug)]
pub(super) struct Companions {
    room: Semaphore,
    summaries: Cache<Identity, Option<Arc<Summary>>>,
}

/// An object as it was at one time.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Identity {
    remote: String,
    key: String,
    etag: String,
    length: u64,
    last_modified: Option<SystemTime>,
}

/// A large object whose companion is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) remote: &'a RemoteStore,
    /// The companion's key.
    pub(super) key: &'a str,
    /// Of the object.
    pub(super) etag: &'a str,
    pub(super) length: u64,
    pub(super) last_modified: Option<SystemTime>,
}

impl Default for Companions {
    fn default() -> Self {
        Self {
            room: Semaphore::new(usize::try_from(ROOM_KIB).unwrap_or(usize::MAX)),
            summaries: Cache::builder().max_capacity(MAX_SUMMARIES).time_to_live(KEEP_SUMMARY).build(),
        }
    }
}

impl Companions {
    /// What the companion says in short; `None` when there is none, or it makes no sense.
    pub(super) async fn summary(&self, wanted: Wanted<'_>) -> Result<Option<Arc<Summary>>, Arc<Failure>> {
        let identity = Identity {
            remote: wanted.remote.label.clone(),
            key: wanted.key.to_owned(),
            etag: wanted.etag.to_owned(),
            length: wanted.length,
            last_modified: wanted.last_modified,
        };
        let mut was_there = true;
        let summary = self
            .summaries
            .try_get_with(identity, async {
                was_there = false;
                let read = self.read(wanted, |companion| manifest::summary(companion, wanted.length)).await?;
                Ok(read.map(Arc::new))
            })
            .await;
        wanted.metrics.looked_up("companions", was_there);
        summary
    }

    /// The companion, as `reading` makes it; `None` when there is none, or it makes no sense.
    pub(super) async fn read<T>(
        &self,
        wanted: Wanted<'_>,
        reading: impl FnOnce(&[u8]) -> Result<T, manifest::BadManifest>,
    ) -> Result<Option<T>, Failure> {
        let Wanted { metrics, remote, key, .. } = wanted;
        let Some((found, _)) = source::fetch(metrics, remote, key, None).await? else {
            tracing::warn!(remote = remote.label, key, "a large object has no companion");
            return Ok(None);
        };
        let bytes = u32::try_from(found.content_length).unwrap_or(u32::MAX);
        if bytes > MAX_COMPANION_BYTES {
            tracing::warn!(remote = remote.label, key, bytes, "a companion is too large");
            return Ok(None);
        }
        let _room = self.room.acquire_many(bytes.div_ceil(1024)).await;
        let companion: Bytes = match collect(found.body, usize::try_from(bytes).unwrap_or(usize::MAX)).await {
            Ok(companion) => companion,
            Err(error) => {
                tracing::warn!(remote = remote.label, key, %error, "a companion broke off");
                return Err(Failure::TimedOut);
            }
        };
        match reading(&companion) {
            Ok(read) => Ok(Some(read)),
            Err(error) => {
                tracing::warn!(remote = remote.label, key, %error, "a companion makes no sense");
                Ok(None)
            }
        }
    }
}
