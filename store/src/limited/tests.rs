#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use swift_s3_policy::Rates;
use tokio::time::{Instant, timeout};

use super::*;
use crate::body::{Body, BoxError};
use crate::error::ErrorKind;
use crate::metering::Operation;
use crate::s3::guarded_body::{GuardedBody, while_moving};

fn requests(rate: u32) -> Rates {
    Rates { requests_per_second: Some(rate), ..Rates::default() }
}

fn bytes(rate: u64) -> Rates {
    Rates { bytes_per_second: Some(rate), ..Rates::default() }
}

fn gate(rates: Rates) -> Arc<RateGate> {
    Arc::new(RateGate::new(rates))
}

async fn seconds<F: Future>(work: F) -> f64 {
    let started = Instant::now();
    work.await;
    started.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_their_rate() {
    for (rate, count, expected) in
        [(1, 1, 0.0), (1, 4, 3.0), (5, 10, 1.8), (200, 420, 2.0), (u32::MAX, 1000, 0.0)]
    {
        let gate = gate(requests(rate));
        let took = seconds(async {
            for _ in 0..count {
                gate.request().await;
            }
        })
        .await;
        assert!((expected - 0.02..=expected + 0.05).contains(&took), "{count} at {rate}/s took {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_keep_to_their_rate_whatever_it_is() {
    for rate in [1, 7, 999, 64_000, 1_000_001, 50_000_000, 5_000_000_000, 1 << 60] {
        let gate = gate(bytes(rate));
        let took = seconds(async {
            for _ in 0..4 {
                gate.bytes(usize::try_from(rate).unwrap()).await;
            }
        })
        .await;
        // A tenth of a second's worth, or the first byte, goes at once.
        assert!((2.95..4.06).contains(&took), "4 s of {rate}/s took {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_gate_lets_everything_through_at_once() {
    let gate = gate(Rates { concurrency: Some(1), ..Rates::default() });
    let took = seconds(async {
        for _ in 0..1000 {
            gate.request().await;
            gate.bytes(usize::MAX).await;
        }
    })
    .await;
    assert_eq!(took, 0.0);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_in_the_order_they_came() {
    let gate = gate(bytes(1000));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for place in 0..20_usize {
        let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            // Large and small ones alike.
            gate.bytes(if place % 2 == 0 { 900 } else { 1 }).await;
            order.lock().unwrap().push(place);
        }));
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..20));
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_holds_nobody_up() {
    let gate = gate(requests(1));
    gate.request().await;
    let patient = {
        let gate = Arc::clone(&gate);
        let impatient = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { timeout(Duration::from_millis(500), gate.request()).await }
        });
        tokio::task::yield_now().await;
        let patient = tokio::spawn(async move { seconds(gate.request()).await });
        assert!(impatient.await.unwrap().is_err());
        patient
    };
    let took = patient.await.unwrap();
    assert!((0.9..1.1).contains(&took), "the one who left was counted: {took} s");
}

#[tokio::test(start_paused = true)]
async fn new_rates_hold_for_those_who_wait_already() {
    let gate = gate(bytes(10));
    let waiting = {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { seconds(gate.bytes(1_000_000)).await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.set(bytes(1_000_000));
    let took = waiting.await.unwrap();
    assert!((5.5..7.0).contains(&took), "{took} s");

    let waiting = {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { seconds(gate.bytes(1_000_000_000)).await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.set(Rates::default());
    let took = waiting.await.unwrap();
    assert!((5.0..6.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn the_same_rates_again_change_nothing() {
    let gate = gate(requests(1));
    let took = seconds(async {
        for _ in 0..4 {
            gate.request().await;
            gate.set(requests(1));
        }
    })
    .await;
    assert!((2.9..3.1).contains(&took), "{took} s");
}

/// What [`crate::s3`] does with an upload's body, and nothing else.
#[derive(Debug, Default)]
struct Sink {
    received: Mutex<Vec<u8>>,
}

/// As that of real uploads.
const STALL_LIMIT: Duration = Duration::from_secs(60);

#[async_trait]
impl ObjectStore for Sink {
    async fn put(&self, _key: &str, put: PutObject) -> Result<PutReceipt, StoreError> {
        let (body, watch) = GuardedBody::new(put.body, put.length);
        let fail = |kind| StoreError::new(kind, Operation::Put);
        match while_moving(body.collect(), &watch, STALL_LIMIT).await {
            Ok(Ok(sent)) => self.received.lock().unwrap().extend_from_slice(&sent.to_bytes()),
            Ok(Err(_)) => return Err(fail(ErrorKind::Body)),
            Err(_) => return Err(fail(ErrorKind::Unavailable)),
        }
        Ok(PutReceipt::default())
    }

    async fn head(&self, _key: &str) -> Result<Option<RemoteObject>, StoreError> {
        Ok(None)
    }

    async fn replace_metadata(
        &self,
        _: &str,
        _: &str,
        _: &RemoteMetadata,
        _: Option<&str>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn delete(&self, _key: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, _: &str, _: Option<&str>, _: u16) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    async fn list_entries(&self, _: &crate::EntryQuery<'_>) -> Result<crate::EntryPage, StoreError> {
        Ok(crate::EntryPage::default())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        Ok(Vec::new())
    }

    async fn set_expiration(&self, _: &str, _: u32) -> Result<LifecyclePlan, StoreError> {
        Ok(LifecyclePlan::Keep)
    }

    async fn clear_expiration(&self, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn get(&self, _: &str, _: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        Ok(None)
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }

    fn swift(&self) -> Option<&dyn SwiftAccount> {
        None
    }

    fn requests(&self) -> RequestCounts {
        RequestCounts { head: 7, ..RequestCounts::default() }
    }
}

fn limited(gates: Vec<Arc<RateGate>>) -> (Arc<Sink>, Limited) {
    let sink = Arc::new(Sink::default());
    (Arc::clone(&sink), Limited::new(sink, gates))
}

fn upload(length: usize, body: Body) -> PutObject {
    let metadata = RemoteMetadata::default();
    PutObject {
        length: u64::try_from(length).unwrap(),
        content_md5: None,
        metadata,
        body,
        storage_class: None,
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_waits_for_its_requests_at_every_gate() {
    let (_, store) = limited(vec![gate(requests(1)), gate(requests(2)), gate(Rates::default())]);
    store.head("k").await.unwrap();
    let metadata = RemoteMetadata::default();
    for (name, expected, took) in [
        (
            "head",
            1.0,
            seconds(async {
                store.head("k").await.unwrap();
            })
            .await,
        ),
        (
            "put",
            1.0,
            seconds(async {
                store.put("k", upload(0, body::empty())).await.unwrap();
            })
            .await,
        ),
        (
            "copy",
            1.0,
            seconds(async {
                store.replace_metadata("k", "", &metadata, None).await.unwrap();
            })
            .await,
        ),
        (
            "delete",
            1.0,
            seconds(async {
                store.delete("k").await.unwrap();
            })
            .await,
        ),
        (
            "list",
            1.0,
            seconds(async {
                store.list("", None, 1).await.unwrap();
            })
            .await,
        ),
        (
            "read rules",
            1.0,
            seconds(async {
                store.lifecycle_rules().await.unwrap();
            })
            .await,
        ),
        (
            "write rules",
            2.0,
            seconds(async {
                store.set_expiration("p", 1).await.unwrap();
            })
            .await,
        ),
        (
            "check",
            0.0,
            seconds(async {
                store.check().await.unwrap();
            })
            .await,
        ),
    ] {
        assert!((expected - 0.01..expected + 0.05).contains(&took), "{name} took {took} s");
    }
    assert_eq!(store.requests().head, 7);
}

#[tokio::test(start_paused = true)]
async fn an_upload_keeps_to_the_slowest_gate() {
    let content = vec![7_u8; 100_000];
    let (sink, store) = limited(vec![gate(bytes(50_000)), gate(bytes(10_000)), gate(Rates::default())]);
    let took = seconds(async {
        store.put("k", upload(content.len(), body::from_bytes(content.clone()))).await.unwrap();
    })
    .await;
    assert!((9.8..10.2).contains(&took), "{took} s");
    assert!(*sink.received.lock().unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn uploads_share_a_gate_fairly() {
    let shared = gate(bytes(10_000));
    let one_upload = |length: usize| {
        let (_, store) = limited(vec![Arc::clone(&shared)]);
        tokio::spawn(async move {
            seconds(async {
                store.put("k", upload(length, body::from_bytes(vec![0; length]))).await.unwrap();
            })
            .await
        })
    };
    let (large, small) = (one_upload(100_000), one_upload(10_000));
    let (large, small) = (large.await.unwrap(), small.await.unwrap());
    assert!((1.8..2.3).contains(&small), "the small one had to wait for the large one: {small} s");
    assert!((10.8..11.2).contains(&large), "{large} s");
}

#[tokio::test(start_paused = true)]
async fn a_low_limit_does_not_look_like_a_stall() {
    // A single frame that takes five minutes to go out.
    let (sink, store) = limited(vec![gate(bytes(1))]);
    store.put("k", upload(300, body::from_bytes(vec![7; 300]))).await.unwrap();
    assert_eq!(sink.received.lock().unwrap().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_does_not_look_like_a_stall() {
    let shared = gate(bytes(1));
    let ahead = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { shared.bytes(500).await })
    };
    tokio::task::yield_now().await;
    let (_, store) = limited(vec![shared]);
    let took = seconds(async {
        store.put("k", upload(2, body::from_bytes("ab"))).await.unwrap();
    })
    .await;
    assert!(took > 490.0, "{took} s");
    ahead.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stalls_is_still_noticed() {
    for rates in [Rates::default(), bytes(1000)] {
        let (_, store) = limited(vec![gate(rates)]);
        let silent = body::from_stream(stream::pending::<Result<Bytes, BoxError>>());
        let took = seconds(async {
            store.put("k", upload(10, silent)).await.unwrap_err();
        })
        .await;
        assert_eq!(took.round(), 60.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_or_lifted_holds_for_uploads_under_way() {
    let gate = gate(bytes(1_000));
    let (_, store) = limited(vec![Arc::clone(&gate)]);
    let frames = (0..100).map(|_| Ok::<_, BoxError>(Bytes::from(vec![0; 1_000])));
    let upload = upload(100_000, body::from_stream(stream::iter(Vec::from_iter(frames))));
    let upload = tokio::spawn(async move {
        seconds(async {
            store.put("k", upload).await.unwrap();
        })
        .await
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    gate.set(Rates::default());
    let took = upload.await.unwrap();
    assert!((10.0..11.1).contains(&took), "{took} s");
}

proptest! {
    /// Whatever the source gives, in whatever frames, arrives unchanged, and so does its error.
    #[test]
    fn a_body_arrives_unchanged(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        fails in any::<bool>(),
        rate in proptest::option::of(1_u64..5_000),
    ) {
        let content = frames.concat();
        let mut parts: Vec<Result<Bytes, BoxError>> = frames.into_iter().map(|frame| Ok(frame.into())).collect();
        if fails {
            parts.push(Err("failed".into()));
        }
        let gates: Arc<[_]> = [gate(Rates { bytes_per_second: rate, ..Rates::default() })].into();
        let mut body = PacedBody::new(body::from_stream(stream::iter(parts)), gates);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (received, failed) = runtime.block_on(async {
            let mut received = Vec::new();
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
                    Err(_) => return (received, true),
                }
            }
            (received, false)
        });
        prop_assert_eq!(received, content);
        prop_assert_eq!(failed, fails);
    }

    /// What is left is known at any time if the source knows it.
    #[test]
    fn the_size_that_is_left_stays_exact(length in 0_usize..3_000, rate in 1_u64..2_000) {
        let gates: Arc<[_]> = [gate(bytes(rate))].into();
        let mut body = PacedBody::new(body::from_bytes(vec![0; length]), gates);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut left = u64::try_from(length).unwrap();
            loop {
                assert_eq!(http_body::Body::size_hint(&body).exact(), Some(left));
                assert!(!http_body::Body::is_end_stream(&body) || left == 0);
                let Some(frame) = body.frame().await else { break };
                left -= u64::try_from(frame.unwrap().into_data().unwrap().len()).unwrap();
            }
            assert_eq!(left, 0);
        });
    }
}
