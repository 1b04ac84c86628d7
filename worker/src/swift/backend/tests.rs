#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::AtomicBool;

use http_body::Body;

use super::*;
use crate::swift::testing::{FakeServer, Reply, wire};

fn quick() -> Backend {
    Backend::new(BackendTimeouts {
        connect: Duration::from_millis(500),
        response: Duration::from_millis(200),
        stall: Duration::from_millis(200),
    })
}

fn none(_: &mut HeaderMap) {}

async fn get(backend: &Backend, server: &FakeServer, target: &str) -> Response<Incoming> {
    backend.send(Method::GET, &server.authority(), target, none).await.unwrap()
}

fn body(response: Response<Incoming>) -> LocalBody {
    let length = content_length(response.headers()).unwrap();
    LocalBody::new(response.into_body(), length, Duration::from_millis(200))
}

#[tokio::test]
async fn a_path_goes_out_byte_for_byte() {
    let server = FakeServer::start("127.0.0.1", |_| Reply::new("204 No Content", &[], b"")).await;
    let backend = Backend::default();
    // As Python's quote() gives it.
    let table = [
        ("plain", "/plain"),
        ("a/../b", "/a/../b"),
        ("./.", "/./."),
        ("//x//", "///x//"),
        ("%2F", "/%252F"),
        ("a+b c", "/a%2Bb%20c"),
        ("line\nbreak\r\n", "/line%0Abreak%0D%0A"),
        ("\u{e9}\u{4e2d}\u{1f600}", "/%C3%A9%E4%B8%AD%F0%9F%98%80"),
        ("?#&=;:@!$'()*,[]", "/%3F%23%26%3D%3B%3A%40%21%24%27%28%29%2A%2C%5B%5D"),
        ("-_.~", "/-_.~"),
        ("\"<>\\^`{|}\0\x7f", "/%22%3C%3E%5C%5E%60%7B%7C%7D%00%7F"),
    ];
    for (name, _) in table {
        let mut target = String::new();
        push_encoded(&mut target, name);
        get(&backend, &server, &target).await;
    }
    let targets: Vec<String> = server.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, table.map(|(_, expected)| expected));
    let longest = "\u{4e2d}".repeat(2000);
    let mut target = String::new();
    push_encoded(&mut target, &longest);
    get(&backend, &server, &target).await;
    assert_eq!(server.seen().last().unwrap().target().len(), 1 + 2000 * 9);
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server =
        FakeServer::start("127.0.0.1", |_| Reply::new("200 OK", &[("X-A", "1")], b"some content")).await;
    let backend = Backend::default();
    for _ in 0..5 {
        let response = get(&backend, &server, "/x").await;
        assert_eq!(backend.read(response, &server.authority(), 100).await.unwrap().as_ref(), b"some content");
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
    assert!(server.seen()[0].header("User-Agent").unwrap().starts_with("swift-s3-sync/"));
    assert_eq!(server.seen()[0].header("Host").unwrap(), server.authority().as_str());
}

#[tokio::test]
async fn the_body_of_an_error_is_read_so_that_its_connection_serves_again() {
    let server =
        FakeServer::start("127.0.0.1", |_| Reply::new("404 Not Found", &[], b"<html>not found</html>")).await;
    let backend = Backend::default();
    for _ in 0..3 {
        let response = get(&backend, &server, "/x").await;
        backend.finish(response, &server.authority()).await;
    }
    assert_eq!(server.seen().last().unwrap().connection, 0);
}

#[tokio::test]
async fn a_body_dropped_early_never_leaves_its_rest_to_the_next_answer() {
    // Each answer is far larger than what is read of it; the next request must not see the rest.
    let content = vec![b'z'; 4 << 20];
    let server = FakeServer::start("127.0.0.1", move |seen| {
        if seen.target() == "/large" {
            Reply::new("200 OK", &[], &content)
        } else {
            Reply::new("200 OK", &[], b"small")
        }
    })
    .await;
    let backend = Backend::default();
    for take_one in [false, true] {
        let mut large = body(get(&backend, &server, "/large").await);
        if take_one {
            large.frame().await.unwrap().unwrap();
        }
        drop(large);
        let small = get(&backend, &server, "/small").await;
        assert_eq!(small.status(), 200);
        assert_eq!(backend.read(small, &server.authority(), 100).await.unwrap().as_ref(), b"small");
    }
    let connections: Vec<(String, usize)> =
        server.seen().iter().map(|seen| (seen.target().to_owned(), seen.connection)).collect();
    assert_ne!(connections[0].1, connections[1].1, "{connections:?}");
    assert_ne!(connections[2].1, connections[3].1, "{connections:?}");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    // Answers one request on each connection and then closes it, without saying so.
    let server = FakeServer::start("127.0.0.1", |_| Reply::Close(wire("200 OK", &[], b"once"))).await;
    let backend = Backend::default();
    for _ in 0..20 {
        let response = get(&backend, &server, "/x").await;
        assert_eq!(backend.read(response, &server.authority(), 100).await.unwrap().as_ref(), b"once");
    }
    assert_eq!(server.seen().len(), 20);
}

#[tokio::test]
async fn a_server_that_always_hangs_up_is_asked_twice_and_no_more() {
    let server = FakeServer::start("127.0.0.1", |_| Reply::Close(Vec::new())).await;
    let backend = Backend::default();
    let error = backend.send(Method::GET, &server.authority(), "/x", none).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Closed, "{error}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_server_that_does_not_answer_rests_until_it_does() {
    let is_silent = Arc::new(AtomicBool::new(true));
    let silent = Arc::clone(&is_silent);
    let server = FakeServer::start("127.0.0.1", move |_| {
        if silent.load(Ordering::SeqCst) { Reply::Hang(Vec::new()) } else { Reply::new("200 OK", &[], b"") }
    })
    .await;
    let backend = quick();
    let authority = server.authority();
    let error = backend.send(Method::GET, &authority, "/x", none).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains(authority.as_str()), "{error}");
    assert!(backend.is_resting(&authority));
    is_silent.store(false, Ordering::SeqCst);
    backend.send(Method::GET, &authority, "/x", none).await.unwrap();
    assert!(!backend.is_resting(&authority));
}

#[tokio::test]
async fn a_refused_connection_rests_for_a_while_only() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority: Authority = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let backend = quick();
    let error = backend.send(Method::GET, &authority, "/x", none).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Connect, "{error}");
    assert!(backend.is_resting(&authority));
    assert!(!backend.resting.contains(&authority, Instant::now() + REST));
}

#[tokio::test]
async fn answers_that_are_no_http_are_errors() {
    for nonsense in
        ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nbad header\r\n\r\n"]
    {
        let server = FakeServer::start("127.0.0.1", move |_| Reply::Hang(nonsense.into())).await;
        let error = quick().send(Method::GET, &server.authority(), "/x", none).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Protocol, "{nonsense:?}: {error}");
    }
}

#[tokio::test]
async fn many_headers_and_raw_bytes_in_them_come_through() {
    let server = FakeServer::start("127.0.0.1", |_| {
        let mut bytes =
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Object-Meta-Raw: \xc3\xa9\xff\r\n".to_vec();
        for number in 0..500 {
            bytes.extend(format!("X-Object-Meta-{number}: {number}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        Reply::Keep(bytes)
    })
    .await;
    let response = get(&quick(), &server, "/x").await;
    assert_eq!(response.headers().len(), 502);
    assert_eq!(response.headers()["x-object-meta-raw"].as_bytes(), b"\xc3\xa9\xff");
}

async fn first_error(mut body: LocalBody) -> Option<LocalBodyError> {
    while let Some(frame) = body.frame().await {
        if let Err(error) = frame {
            assert!(body.frame().await.is_none(), "nothing follows an error");
            return Some(error);
        }
    }
    None
}

#[tokio::test]
async fn a_body_is_whole_or_an_error() {
    let answer = |headers: &'static [(&str, &str)], content: &'static [u8], then: fn(Vec<u8>) -> Reply| async move {
        let server = FakeServer::start("127.0.0.1", move |_| then(wire("200 OK", headers, content))).await;
        body(get(&quick(), &server, "/x").await)
    };
    assert!(first_error(answer(&[], b"", Reply::Keep).await).await.is_none());
    assert!(first_error(answer(&[], b"whole", Reply::Close).await).await.is_none());
    let short = first_error(answer(&[("Content-Length", "10")], b"half", Reply::Close).await).await;
    assert!(matches!(short, Some(LocalBodyError::Broken { expected: 10, got: 4, .. })), "{short:?}");
    let stalled = first_error(answer(&[("Content-Length", "10")], b"half", Reply::Hang).await).await;
    assert!(matches!(stalled, Some(LocalBodyError::Stalled(_))), "{stalled:?}");
    let hint = answer(&[("Content-Length", "10")], b"half", Reply::Hang).await.size_hint();
    assert_eq!(hint.exact(), Some(10));
}

#[tokio::test]
async fn a_body_without_length_is_held_to_the_one_expected() {
    // An answer that ends with its connection cannot be told from a broken one but by its length.
    for (content, expected, is_whole) in
        [(&b"four"[..], 4, true), (&b"four"[..], 5, false), (&b"four"[..], 3, false), (&b""[..], 1, false)]
    {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.extend(content);
        let server = FakeServer::start("127.0.0.1", move |_| Reply::Close(answer.clone())).await;
        let response = get(&quick(), &server, "/x").await;
        let error = first_error(LocalBody::new(response.into_body(), expected, Duration::from_secs(1))).await;
        assert_eq!(error.is_none(), is_whole, "{expected}: {error:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_is_bounded() {
    let server = FakeServer::start("127.0.0.1", |_| Reply::new("200 OK", &[], &[b'x'; 1000])).await;
    let backend = quick();
    let response = get(&backend, &server, "/x").await;
    let error = backend.read(response, &server.authority(), 999).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Protocol, "{error}");
    let response = get(&backend, &server, "/x").await;
    assert_eq!(backend.read(response, &server.authority(), 1000).await.unwrap().len(), 1000);
}
