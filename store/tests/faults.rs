//! Remotes and sources that fail: what the caller is told, what is sent again, and what is never stored.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use support::{Answer, SECRET, SESSION_TOKEN, metadata, open, open_at, put_of, serve, settings};
use swift_s3_store::{ErrorKind, ObjectStore, PutObject, StoreError, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Everything an error says, in all its forms.
fn everything(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

/// Accepts connections and lets `talk` do the rest with each.
async fn raw_server<F, T>(talk: F) -> String
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    url
}

/// Reads up to the end of a request's head.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn put_of_stream(
    length: u64,
    chunks: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> PutObject {
    PutObject {
        length,
        content_md5: None,
        metadata: metadata("a/b", &[]),
        body: body::from_stream(chunks),
        storage_class: None,
    }
}

#[tokio::test]
async fn refusals_of_an_upload_are_told_by_kind_and_never_sent_again() {
    let table = [
        (400, "BadDigest", ErrorKind::BadDigest),
        (400, "InvalidDigest", ErrorKind::BadDigest),
        (400, "ExpiredToken", ErrorKind::Denied),
        (400, "KeyTooLongError", ErrorKind::Invalid),
        (400, "MetadataTooLarge", ErrorKind::Invalid),
        (400, "EntityTooLarge", ErrorKind::TooLarge),
        (400, "RequestTimeout", ErrorKind::Unavailable),
        (403, "AccessDenied", ErrorKind::Denied),
        (403, "RequestTimeTooSkewed", ErrorKind::Denied),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied),
        (404, "NoSuchBucket", ErrorKind::BucketMissing),
        (412, "PreconditionFailed", ErrorKind::Precondition),
        (429, "TooManyRequests", ErrorKind::Throttled),
        (500, "InternalError", ErrorKind::Unavailable),
        (501, "NotImplemented", ErrorKind::Unsupported),
        (503, "SlowDown", ErrorKind::Throttled),
        (200, "InternalError", ErrorKind::Unavailable),
    ];
    for (status, code, kind) in table {
        let server = serve(move |_, _| Answer::error(status, code, "no")).await;
        let store = open_at(&server).await;
        let error = store.put("k", put_of("x")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.request_id(), Some("REQ1"));
        assert_eq!(error.key(), Some("k"));
        assert_eq!(error.operation(), "put");
        assert_eq!(server.captured().len(), 1, "{code} was sent again");
    }
}

#[tokio::test]
async fn a_refusal_without_a_document_is_told_by_its_status() {
    for (status, kind) in [
        (401, ErrorKind::Denied),
        (413, ErrorKind::TooLarge),
        (429, ErrorKind::Throttled),
        (502, ErrorKind::Unavailable),
        (503, ErrorKind::Throttled),
        (507, ErrorKind::Unavailable),
    ] {
        let server = serve(move |_, _| Answer::new(status).body("<html>Bad <b>gateway</html>")).await;
        let store = open_at(&server).await;
        let error = store.put("k", put_of("x")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let error = store.list("", None, 1).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let error = store.delete("k").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn a_forbidden_head_is_denied() {
    let server = serve(|_, _| Answer::new(403)).await;
    let error = open_at(&server).await.head("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.status(), Some(403));
}

#[tokio::test]
async fn a_passing_fault_of_a_read_is_tried_three_times_at_most() {
    let server = serve(|_, number| match number {
        0 | 1 => Answer::error(503, "SlowDown", "wait"),
        _ => Answer::new(200).header("etag", "\"e\""),
    })
    .await;
    let store = open_at(&server).await;
    assert_eq!(store.head("k").await.unwrap().unwrap().etag, "e");
    assert_eq!(store.requests().head, 3);

    let server = serve(|_, _| Answer::error(500, "InternalError", "broken")).await;
    let store = open_at(&server).await;
    let error = store.delete("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(server.captured().len(), 3);
    assert_eq!(store.requests().delete, 3);
}

#[tokio::test]
async fn a_copy_that_fails_after_its_200_is_a_failure() {
    let server = serve(|_, _| Answer::error(200, "InternalError", "broke in the middle")).await;
    let store = open_at(&server).await;
    let error = store.replace_metadata("k", "e", &metadata("a/b", &[]), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.code(), Some("InternalError"));
}

#[tokio::test]
async fn a_copy_of_what_has_changed_is_a_failed_precondition() {
    let server = serve(|_, _| Answer::error(412, "PreconditionFailed", "changed")).await;
    let store = open_at(&server).await;
    let error = store.replace_metadata("k", "e", &metadata("a/b", &[]), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);
}

#[tokio::test]
async fn a_check_tells_a_missing_bucket_from_one_that_may_not_be_read() {
    for (answer, kind) in [
        (Answer::error(404, "NoSuchBucket", "no"), ErrorKind::BucketMissing),
        (Answer::new(404), ErrorKind::BucketMissing),
        (Answer::error(403, "AccessDenied", "no"), ErrorKind::Denied),
    ] {
        let server = serve(move |_, _| answer.clone()).await;
        let error = open_at(&server).await.check().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.kind().is_remote_wide());
    }
}

#[tokio::test]
async fn a_remote_that_cannot_be_reached_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = open(&settings(&url)).await;
    for error in [
        store.put("k", put_of("x")).await.unwrap_err(),
        store.head("k").await.unwrap_err(),
        store.check().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_or_speaks_nonsense_is_a_failure() {
    let answers: [&[u8]; 3] = [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"];
    for answer in answers {
        let url = raw_server(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let store = open(&settings(&url)).await;
        for error in [store.put("k", put_of("")).await.unwrap_err(), store.head("k").await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_listing() {
    let url = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        let text = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len() + 1);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
    })
    .await;
    let store = open(&settings(&url)).await;
    let error = store.list("", None, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_listing_that_is_none_or_was_cut_short_is_a_failure() {
    for text in ["", "<ListBucketResult><KeyCount>2</KeyCount><Contents><Key>a</Key>", "<html></html>", "{}"]
    {
        let server = serve(move |_, _| Answer::new(200).body(text)).await;
        let store = open_at(&server).await;
        let error = store.list("", None, 10).await.expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Other, "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_source_that_ends_early_late_or_badly_stores_nothing() {
    fn chunks(
        chunks: Vec<Result<&'static str, std::io::Error>>,
    ) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
        stream::iter(chunks).map(|chunk| chunk.map(Bytes::from))
    }
    let broken = || Err(std::io::Error::other("disk on fire"));
    let sources: Vec<(&str, Vec<_>, &str)> = vec![
        ("ends early", vec![Ok("abc"), Ok("de")], "ended early: expected 6 bytes, got 5"),
        ("is empty", vec![], "expected 6 bytes, got 0"),
        ("breaks at the start", vec![broken()], "disk on fire"),
        ("breaks in the middle", vec![Ok("abc"), broken()], "disk on fire"),
        ("breaks after its last byte", vec![Ok("abc"), Ok("def"), broken()], "disk on fire"),
        ("goes on", vec![Ok("abcdef"), Ok("g")], "expected 6 bytes, got more"),
        ("has a chunk too long", vec![Ok("abcdefg")], "expected 6 bytes, got more"),
    ];
    for (what, source, told) in sources {
        let server = serve(|_, _| Answer::new(200)).await;
        let store = open_at(&server).await;
        let error = store.put("k", put_of_stream(6, chunks(source))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body, "{what}: {error}");
        assert!(error.to_string().contains(told), "{what}: {error}");
        // The connection is closed by now or will be; the server must not see a whole body at any time.
        for request in server.captured() {
            assert!(!request.complete, "{what}");
            assert!(request.body.len() < 6, "{what}");
        }
    }
}

#[tokio::test]
async fn a_source_that_should_be_empty_and_is_not_stores_nothing() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    let source = stream::iter([Ok(Bytes::from("x"))]);
    let error = store.put("k", put_of_stream(0, source)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Body);
    assert!(server.captured().is_empty());
}

/// Counts polls and ends, so that tests see when a source is let go.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An endless, slow or silent source, and a count that is 1 once it is dropped.
fn watched_source(
    chunk: Option<&'static [u8]>,
) -> (impl futures_util::Stream<Item = Result<Bytes, std::io::Error>>, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let guard = Dropped(Arc::clone(&dropped));
    let source = stream::unfold(guard, move |guard| async move {
        match chunk {
            Some(chunk) => Some((Ok(Bytes::from_static(chunk)), guard)),
            None => std::future::pending().await,
        }
    });
    (source, dropped)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

/// Puts a silent source to `url` and moves the clock on once the request's head is there.
async fn put_and_wait(store: Arc<dyn ObjectStore>, put: PutObject, arrived: impl Future) -> StoreError {
    let upload = tokio::spawn(async move { store.put("k", put).await });
    arrived.await;
    // Lets the upload reach its last byte: everything runs on this one thread.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    upload.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_source_that_falls_silent_fails_the_upload_as_its_own_fault() {
    let server = serve(|_, _| Answer::new(200)).await;
    let (source, dropped) = watched_source(None);
    let first = stream::iter([Ok(Bytes::from("abc"))]);
    let put = put_of_stream(6, first.chain(source));
    let error = put_and_wait(open_at(&server).await, put, server.head_arrived.notified()).await;
    assert_eq!(error.kind(), ErrorKind::Body, "{error}");
    assert!(error.to_string().contains("nothing for 60 s after 3 of 6"), "{error}");
    eventually("the source is let go", || dropped.load(Ordering::SeqCst) == 1).await;
    eventually("the server sees the end", || !server.captured().is_empty()).await;
    assert!(!server.only().complete);
}

#[tokio::test]
async fn a_remote_that_never_answers_fails_the_upload_as_unavailable() {
    let arrived = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&arrived);
    let url = raw_server(move |mut stream| {
        let notify = Arc::clone(&notify);
        async move {
            read_head(&mut stream).await;
            notify.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let store = open(&settings(&url)).await;
    let error = put_and_wait(store, put_of("x"), arrived.notified()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("nothing moved for 60 s"), "{error}");
}

#[tokio::test]
async fn a_remote_that_stops_reading_fails_the_upload_as_unavailable() {
    let arrived = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&arrived);
    let url = raw_server(move |mut stream| {
        let notify = Arc::clone(&notify);
        async move {
            read_head(&mut stream).await;
            notify.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    static CHUNK: [u8; 65_536] = [7; 65_536];
    let (source, dropped) = watched_source(Some(&CHUNK));
    let put = put_of_stream(1 << 40, source);
    let error = put_and_wait(open(&settings(&url)).await, put, arrived.notified()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    eventually("the source is let go", || dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_slow_upload_that_keeps_moving_is_let_finish() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
    let source = stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|chunk| (Ok(chunk), receive))
    });
    let upload = tokio::spawn(async move { store.put("k", put_of_stream(10, source)).await });
    server.head_arrived.notified().await;
    for _ in 0..10 {
        send.send(Bytes::from("x")).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(45)).await;
        tokio::time::resume();
    }
    drop(send);
    upload.await.unwrap().unwrap();
    assert_eq!(server.only().body, b"xxxxxxxxxx");
}

#[tokio::test]
async fn an_early_refusal_ends_the_upload_and_lets_the_source_go() {
    let url = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        let document = "<Error><Code>AccessDenied</Code></Error>";
        let answer =
            format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{document}", document.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Keeps reading, as a patient server would: the client has to stop by itself.
        let mut sink = vec![0; 65_536];
        while let Ok(1..) = stream.read(&mut sink).await {}
    })
    .await;
    static CHUNK: [u8; 1024] = [7; 1024];
    let (source, dropped) = watched_source(Some(&CHUNK));
    let store = open(&settings(&url)).await;
    let error = store.put("k", put_of_stream(1 << 40, source)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    eventually("the source is let go", || dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_success_that_comes_before_the_whole_body_or_breaks_off_is_none() {
    let answers: [&[u8]; 2] = [
        b"HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 9\r\n\r\nhalf",
    ];
    for (answer, put) in [(answers[0], put_of_stream(5, watched_source(None).0)), (answers[1], put_of(""))] {
        let url = raw_server(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let store = open(&settings(&url)).await;
        let error = store.put("k", put).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.status(), Some(200));
    }
}

#[tokio::test]
async fn an_early_refusal_with_a_silent_source_lets_it_go_too() {
    let server = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let mut sink = vec![0; 65_536];
        while let Ok(1..) = stream.read(&mut sink).await {}
    })
    .await;
    let (source, dropped) = watched_source(None);
    let store = open(&settings(&server)).await;
    let error = store.put("k", put_of_stream(5, source)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    eventually("the source is let go", || dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_lets_its_source_go_and_stores_nothing() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    let (source, dropped) = watched_source(None);
    let upload = tokio::spawn(async move { store.put("k", put_of_stream(5, source)).await });
    server.head_arrived.notified().await;
    upload.abort();
    eventually("the source is let go", || dropped.load(Ordering::SeqCst) == 1).await;
    eventually("the server sees the end", || !server.captured().is_empty()).await;
    assert!(!server.only().complete);
}

#[tokio::test]
async fn metadata_that_no_header_can_hold_is_refused_unsent() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    for (content_type, user) in [
        ("a/b\r\nx-evil: 1", vec![]),
        ("a/b", vec![("name", "value\r\nx-evil: 1")]),
        ("a/b", vec![("na me", "v")]),
        ("a/b", vec![("na:me", "v")]),
        ("a/b", vec![("na\nme", "v")]),
    ] {
        let mut put = put_of("x");
        put.metadata = metadata(content_type, &user);
        let error = store.put("k", put).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let error = store.replace_metadata("k", "e", &metadata(content_type, &user), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert!(server.captured().is_empty());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    let good = settings("http://clone.example");
    let mut cases = Vec::new();
    for endpoint in ["", "clone.example:80", "ftp://clone.example", "http://", "nonsense", "http://a b"] {
        let mut bad = settings(endpoint);
        bad.remote.region = Some("r".to_owned());
        if !endpoint.is_empty() {
            cases.push(bad);
        }
    }
    let mut bad = good.clone();
    bad.remote.bucket = String::new();
    cases.push(bad);
    let mut bad = good.clone();
    bad.http_proxy = Some("http://user:sesame@ho st".to_owned());
    cases.push(bad);
    for bad in cases {
        let error = swift_s3_store::open(&bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
        assert!(!everything(&error).contains("sesame"));
    }
}

#[tokio::test]
async fn no_secret_is_in_any_error_or_debug_text() {
    let server = serve(|request, _| match request.method.as_str() {
        "HEAD" => Answer::new(403),
        _ => Answer::error(403, "SignatureDoesNotMatch", "no"),
    })
    .await;
    let unreachable = "http://127.0.0.1:1";
    for url in [server.url.as_str(), unreachable] {
        let mut settings = settings(url);
        settings.credentials.as_mut().unwrap().session_token = Some(SESSION_TOKEN.to_owned());
        let store = open(&settings).await;
        let mut text = format!("{settings:?} {store:?} {store:#?}");
        for error in [
            store.put("k", put_of("x")).await.unwrap_err(),
            store.head("k").await.unwrap_err(),
            store.delete("k").await.unwrap_err(),
            store.list("p", None, 1).await.unwrap_err(),
            store.lifecycle_rules().await.unwrap_err(),
            store.replace_metadata("k", "e", &metadata("a/b", &[]), None).await.unwrap_err(),
        ] {
            text.push_str(&everything(&error));
        }
        for secret in [SECRET, SESSION_TOKEN, "Signature="] {
            assert!(!text.contains(secret), "{secret} is shown");
        }
    }
}

#[tokio::test]
async fn an_error_says_what_the_remote_said_but_not_more_than_a_line() {
    let server =
        serve(|_, _| Answer::error(403, "AccessDenied", &format!("line\n\u{1b}[31m{}", "x".repeat(5000))))
            .await;
    let error = open_at(&server).await.put("a\nb", put_of("x")).await.unwrap_err();
    let text = error.to_string();
    for part in ["put failed", "\"a\\nb\"", "denied", "AccessDenied", "HTTP status 403", "request id REQ1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.chars().count() < 500, "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
