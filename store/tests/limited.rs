//! Limits against a server: what arrives is what was sent, only later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use support::{Answer, metadata, open_at, put_of, serve};
use swift_s3_policy::Rates;
use swift_s3_store::{ErrorKind, Limited, Meter, ObjectStore, Permission, PutObject, RateGate, Usage, body};

#[tokio::test]
async fn a_slow_upload_arrives_whole_with_its_length() {
    let server = serve(|_, _| Answer::new(200).header("etag", "\"e\"")).await;
    let gate = RateGate::new(Rates { bytes_per_second: Some(100_000), ..Rates::default() });
    let store = Limited::new(open_at(&server).await, vec![Arc::new(gate)]);
    let content: Vec<u8> = (0..100_000_u32).map(|place| place.to_le_bytes()[1]).collect();
    let frames: Vec<_> =
        content.chunks(65_536).map(|frame| Ok::<_, std::io::Error>(Bytes::copy_from_slice(frame))).collect();
    let put = PutObject {
        length: 100_000,
        content_md5: None,
        metadata: metadata("a/b", &[]),
        body: body::from_stream(stream::iter(frames)),
        storage_class: None,
    };
    let started = Instant::now();
    let receipt = store.put("k", put).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(850), "{:?}", started.elapsed());
    assert_eq!(receipt.etag.as_deref(), Some("e"));
    let request = server.only();
    assert!(request.complete && request.body == content);
    assert_eq!(request.header("content-length"), Some("100000"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(store.requests().put, 1);
}

#[tokio::test]
async fn a_limited_upload_that_is_wrong_never_arrives_in_full() {
    for (length, given) in [(1000, 999), (1000, 1001)] {
        let server = serve(|_, _| Answer::new(200)).await;
        let gate = RateGate::new(Rates { bytes_per_second: Some(100_000), ..Rates::default() });
        let store = Limited::new(open_at(&server).await, vec![Arc::new(gate)]);
        let put = PutObject { length, ..put_of("") };
        let error =
            store.put("k", PutObject { body: body::from_bytes(vec![0; given]), ..put }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body, "{error}");
        assert!(server.captured().iter().all(|request| !request.complete));
    }
}

#[tokio::test]
async fn requests_reach_the_server_no_faster_than_allowed() {
    let server = serve(|_, _| Answer::new(204)).await;
    let gate = RateGate::new(Rates { requests_per_second: Some(20), ..Rates::default() });
    let store = Limited::new(open_at(&server).await, vec![Arc::new(gate)]);
    let started = Instant::now();
    for _ in 0..12 {
        store.delete("k").await.unwrap();
    }
    // Two at once, ten more at 50 ms each.
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(server.captured().len(), 12);
}

/// Permission for so many questions.
#[derive(Debug)]
struct Countdown(AtomicI64);

impl Permission for Countdown {
    fn is_given(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

#[tokio::test]
async fn nothing_is_sent_without_permission_and_no_upload_ends_without_it() {
    for allowed in [0, 1, 3] {
        let server = serve(|_, _| Answer::new(200).header("etag", "\"e\"")).await;
        let permission = Arc::new(Countdown(AtomicI64::new(allowed)));
        let store = Limited::new(open_at(&server).await, Vec::new()).permitted(permission);
        let frames: Vec<_> =
            (0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"))).collect();
        let body = body::from_stream(stream::iter(frames));
        let error = store.put("k", PutObject { length: 100, body, ..put_of("") }).await.unwrap_err();
        let expected = if allowed == 0 { ErrorKind::Withdrawn } else { ErrorKind::Body };
        assert_eq!(error.kind(), expected, "{error}");
        assert!(server.captured().iter().all(|request| !request.complete));
        let error = store.delete("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Withdrawn);
        assert!(server.captured().iter().all(|request| request.method != "DELETE"));
    }
}

#[tokio::test]
async fn of_one_store_each_request_and_byte_counts_for_whoever_asked() {
    // The first answer to each GET is a passing fault, after which it is asked for again.
    let asked = std::sync::atomic::AtomicBool::new(false);
    let server = serve(move |request, _| match request.method.as_str() {
        "GET" if !asked.swap(true, Ordering::Relaxed) => Answer::error(503, "SlowDown", "later"),
        "GET" => Answer::new(200).header("etag", "\"e\"").body("12345"),
        "DELETE" => Answer::new(204),
        _ => Answer::new(200).header("etag", "\"e\""),
    })
    .await;
    let shared = open_at(&server).await;
    let (one, two) = (Arc::new(Meter::default()), Arc::new(Meter::default()));
    let of = |meter: &Arc<Meter>| Limited::new(Arc::clone(&shared), Vec::new()).metered(Arc::clone(meter));
    let (first, second) = (of(&one), of(&two));
    let reading = async {
        let found = second.get("k", None).await.unwrap().unwrap();
        http_body_util::BodyExt::collect(found.body).await.unwrap();
    };
    let writing = async {
        first.put("k", put_of("1234567")).await.unwrap();
        first.delete("k").await.unwrap();
    };
    tokio::join!(writing, reading);
    shared.head("k").await.unwrap();
    assert_eq!(one.total(), Usage { writes: 1, deletes: 1, bytes_sent: 7, ..Usage::default() });
    assert_eq!(two.total(), Usage { reads: 2, bytes_received: 5, ..Usage::default() });
}
