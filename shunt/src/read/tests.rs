//! Contents from a remote with habits of its own, in a time that the test makes.

#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{poll, stream};
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};
use swift_s3_store::remotes::Health;
use swift_s3_store::{
    BoxError, EntryPage, EntryQuery, GetObject, ListPage, Multipart, ObjectStore, PutObject, PutReceipt,
    RemoteObject, RemoteStore, RequestCounts, StoreError, SwiftAccount, body,
};
use tokio::time::{Instant, sleep};

use super::lanes::{Lanes, Room};
use super::source::{Reading, Source};
use crate::metrics::Metrics;

const LENGTH: u64 = 20 << 20;

/// One object of zeroes.
#[derive(Debug, Default)]
struct Remote {
    etag: &'static str,
    /// Answers begin after two waits of this length.
    delay: Duration,
    /// The first answer breaks off in its midst.
    breaks: bool,
    /// Answers given.
    answers: AtomicU32,
    is_replaced: AtomicBool,
}

#[async_trait]
impl ObjectStore for Remote {
    async fn get(&self, _: &str, range: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        for _ in 0..2 {
            sleep(self.delay).await;
        }
        let range = range.unwrap_or(0..LENGTH);
        let content_length = range.end - range.start;
        let bytes = usize::try_from(content_length).unwrap();
        let broken = self.breaks && self.answers.fetch_add(1, Ordering::Relaxed) == 0;
        let mut pieces = vec![Ok(Bytes::from(vec![0; if broken { bytes / 2 } else { bytes }]))];
        if broken {
            pieces.push(Err(BoxError::from("broken")));
        }
        let seconds = 100 + u64::from(self.is_replaced.load(Ordering::Relaxed));
        let object = RemoteObject {
            etag: self.etag.to_owned(),
            length: LENGTH,
            metadata: RemoteMetadata::default(),
            storage_class: None,
            archived: false,
            last_modified: Some(stored_at(seconds)),
            kms: false,
        };
        Ok(Some(GetObject { object, content_length, body: body::from_stream(stream::iter(pieces)) }))
    }
    async fn head(&self, _: &str) -> Result<Option<RemoteObject>, StoreError> {
        unreachable!()
    }
    async fn list_entries(&self, _: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        unreachable!()
    }
    async fn list(&self, _: &str, _: Option<&str>, _: u16) -> Result<ListPage, StoreError> {
        unreachable!()
    }
    async fn put(&self, _: &str, _: PutObject) -> Result<PutReceipt, StoreError> {
        unreachable!()
    }
    async fn replace_metadata(
        &self,
        _: &str,
        _: &str,
        _: &RemoteMetadata,
        _: Option<&str>,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn check(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        unreachable!()
    }
    async fn set_expiration(&self, _: &str, _: u32) -> Result<LifecyclePlan, StoreError> {
        unreachable!()
    }
    async fn clear_expiration(&self, _: &str) -> Result<bool, StoreError> {
        unreachable!()
    }
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }
    fn swift(&self) -> Option<&dyn SwiftAccount> {
        None
    }
    fn requests(&self) -> RequestCounts {
        unreachable!()
    }
}

fn stored_at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn source(remote: &Arc<Remote>) -> Source {
    let store: Arc<dyn ObjectStore> = Arc::<Remote>::clone(remote);
    Source {
        remote: Arc::new(RemoteStore {
            store,
            health: Health::default(),
            proven: AtomicBool::new(true),
            label: "remote".to_owned(),
            lifecycle: tokio::sync::Mutex::default(),
        }),
        key: Arc::from("key"),
        metrics: Metrics::default(),
        etag: Arc::from(remote.etag),
        length: LENGTH,
        last_modified: Some(stored_at(100)),
        room: None,
    }
}

async fn rest(reading: &mut Reading) -> Result<u64, BoxError> {
    let mut bytes = 0;
    while let Some(piece) = reading.next().await? {
        bytes += u64::try_from(piece.len()).unwrap();
    }
    Ok(bytes)
}

/// What a client that takes nothing for ten minutes makes of a read is not the remote's fault.
async fn paused<T>(next: impl Future<Output = T>) -> T {
    let mut next = pin!(next);
    assert!(poll!(next.as_mut()).is_pending());
    sleep(Duration::from_secs(600)).await;
    next.await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_is_no_failure_of_the_remote() {
    let remote = Arc::new(Remote { etag: "e", delay: Duration::from_secs(5), ..Remote::default() });
    let source = source(&remote);
    for _ in 0..3 {
        let mut reading = Reading::new(source.clone(), 0..100, None);
        assert!(paused(reading.next()).await.unwrap().is_some());
        let mut lanes = Lanes::open(&source, &Room::default(), 0, LENGTH).unwrap();
        assert!(paused(lanes.next()).await.unwrap().is_some());
    }
    assert_eq!(source.remote.health.paused_until(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn a_content_is_taken_up_again_only_of_the_very_object() {
    let open = |etag| {
        let remote = Arc::new(Remote { etag, breaks: true, ..Remote::default() });
        (Reading::new(source(&remote), 0..LENGTH, None), remote)
    };
    let (mut same, _) = open("e");
    assert_eq!(rest(&mut same).await.unwrap(), LENGTH);
    let (mut replaced, remote) = open("e");
    assert!(replaced.next().await.unwrap().is_some());
    remote.is_replaced.store(true, Ordering::Relaxed);
    assert!(rest(&mut replaced).await.is_err(), "stored again, with the same ETag and length");
    let (mut unnamed, _) = open("");
    assert!(rest(&mut unnamed).await.is_err(), "nothing says that it is the same object");
}
