#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;

use super::*;
use crate::swift::backend::BackendTimeouts;
use crate::swift::testing::{FakeCluster, FakeServer, Reply, Seen, wire};

/// A replica written at second `second`; its content names it.
fn replica(second: u32) -> Vec<u8> {
    stored(&[("X-Timestamp", &time(second)), ("X-Backend-Timestamp", &time(second))], b"content")
}

fn time(second: u32) -> String {
    format!("{second:010}.00000")
}

fn at(second: u32) -> Timestamp {
    time(second).parse().unwrap()
}

/// Any content, as long as data or metadata are of that time.
fn metadata(time: Timestamp) -> AtLeast {
    AtLeast { metadata: time, ..AtLeast::default() }
}

fn stored(more: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut headers = vec![("Content-Type", "text/plain"), ("ETag", "\"9a0364b9e99bb480dd25e1f0284c8555\"")];
    headers.extend(more);
    wire("200 OK", &headers, content)
}

fn without_content(answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    answer[..end + 4].to_vec()
}

/// What a fake object server does.
#[derive(Clone)]
enum Does {
    Has(Vec<u8>),
    Says(&'static str, Vec<(&'static str, String)>),
    BreaksOff(Vec<u8>),
    Hangs,
    Refuses,
}

struct Setup {
    _cluster: FakeCluster,
    topology: SwiftTopology,
    objects: LocalObjects,
    servers: Vec<Option<FakeServer>>,
}

impl Setup {
    /// Object servers in ring order; the last one is the local one, so it is asked first.
    async fn new(does: &[Does]) -> Self {
        Self::with_proxy(does, None).await
    }

    async fn with_proxy(does: &[Does], proxy: Option<&FakeServer>) -> Self {
        let mut servers = Vec::new();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for (number, does) in does.iter().enumerate() {
            let ip = format!("127.0.0.{}", number + 2);
            if let Does::Refuses = does {
                let listener = std::net::TcpListener::bind((ip.as_str(), 0)).unwrap();
                addresses.push(listener.local_addr().unwrap());
                servers.push(None);
                continue;
            }
            let does = does.clone();
            let server = FakeServer::start(&ip, move |seen| answer(&does, seen)).await;
            addresses.push(server.address);
            servers.push(Some(server));
        }
        let cluster = FakeCluster::new(&addresses);
        let local = addresses.last().unwrap().ip();
        let topology = SwiftTopology::new(cluster.folder.path(), &[local]).unwrap();
        let quick = Duration::from_millis(300);
        let backend = Backend::new(BackendTimeouts { connect: quick, response: quick, stall: quick });
        let url = proxy.map(|proxy| format!("http://{}/", proxy.address).parse().unwrap());
        let objects = LocalObjects::new(topology.clone(), backend, url);
        Self { _cluster: cluster, topology, objects, servers }
    }

    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.as_ref().map_or(0, |server| server.seen().len())).collect()
    }

    fn seen(&self, server: usize) -> Vec<Seen> {
        self.servers[server].as_ref().unwrap().seen()
    }
}

fn answer(does: &Does, seen: &Seen) -> Reply {
    match does {
        Does::Has(answer) if seen.method() == "HEAD" => Reply::Keep(without_content(answer.clone())),
        Does::Has(answer) => Reply::Keep(answer.clone()),
        Does::Says(status, headers) => {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let content = if seen.method() == "HEAD" { &b""[..] } else { b"<html/>" };
            Reply::new(status, &headers, content)
        }
        Does::BreaksOff(answer) => Reply::Close(answer.clone()),
        Does::Hangs => Reply::Hang(Vec::new()),
        Does::Refuses => unreachable!("it does not listen"),
    }
}

fn missing() -> Does {
    Does::Says("404 Not Found", vec![])
}

fn deleted(second: u32) -> Does {
    Does::Says("404 Not Found", vec![("X-Backend-Timestamp", time(second))])
}

const NAME: ObjectName<'_> =
    ObjectName { account: "AUTH_a", container: "c", object: "a/../b %2F\n\u{e9}", policy_index: 0 };
const EC: ObjectName<'_> = ObjectName { policy_index: 1, ..NAME };

async fn read(object: LocalObject) -> Result<Vec<u8>, crate::swift::backend::LocalBodyError> {
    Ok(object.body.collect().await?.to_bytes().to_vec())
}

#[tokio::test]
async fn the_local_replica_is_read_and_no_other() {
    let setup = Setup::new(&[Does::Has(replica(5)), Does::Has(replica(5)), Does::Has(replica(5))]).await;
    let object = setup.objects.open(&NAME, metadata(at(5))).await.unwrap();
    assert_eq!(object.head.length, 7);
    assert_eq!(object.head.etag, "9a0364b9e99bb480dd25e1f0284c8555");
    assert_eq!(object.head.content_type, "text/plain");
    assert_eq!(object.head.timestamp, at(5));
    assert_eq!(object.head.kind, LocalKind::Plain);
    assert_eq!(read(object).await.unwrap(), b"content");
    assert_eq!(setup.asked(), [0, 0, 1]);
    let seen = &setup.seen(2)[0];
    assert_eq!(seen.method(), "GET");
    assert_eq!(seen.target(), "/sd2/0/AUTH_a/c/a/../b%20%252F%0A%C3%A9");
    assert_eq!(seen.header("X-Backend-Storage-Policy-Index"), Some("0"));

    let head = setup.objects.head(&NAME, metadata(at(5))).await.unwrap();
    assert_eq!(head.length, 7);
    assert_eq!(setup.seen(2)[1].method(), "HEAD");
}

#[tokio::test]
async fn falls_back_until_a_replica_is_new_enough() {
    let good = || Does::Has(replica(9));
    let table: Vec<(&str, Does)> = vec![
        ("stale", Does::Has(replica(8))),
        ("missing", missing()),
        ("deleted", deleted(20)),
        ("a server error", Does::Says("500 Internal Error", vec![])),
        ("an unmounted device", Does::Says("507 Insufficient Storage", vec![])),
        ("a refused connection", Does::Refuses),
        ("silence", Does::Hangs),
        ("no answer at all", Does::BreaksOff(Vec::new())),
        ("half a header", Does::BreaksOff(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec())),
        ("no timestamp", Does::Has(stored(&[], b"content"))),
        ("a wrong timestamp", Does::Has(stored(&[("X-Backend-Timestamp", "soon")], b"content"))),
        (
            "no length",
            Does::BreaksOff(b"HTTP/1.1 200 OK\r\nX-Timestamp: 9\r\nETag: x\r\n\r\ncontent".to_vec()),
        ),
    ];
    for (name, first) in table {
        let setup = Setup::new(&[missing(), good(), first]).await;
        let object = setup
            .objects
            .open(&NAME, metadata(at(9)))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(object.head.timestamp, at(9), "{name}");
        assert_eq!(read(object).await.unwrap(), b"content", "{name}");
        assert_eq!(setup.asked()[..2], [1, 1], "{name}");
        assert_eq!(setup.objects.head(&NAME, metadata(at(9))).await.unwrap().timestamp, at(9), "{name}");
    }
}

#[tokio::test]
async fn every_failure_has_its_reason() {
    let error = || Does::Says("503 Service Unavailable", vec![]);
    let stale = |second| Does::Has(replica(second));
    let table: Vec<(&str, [Does; 3], &str)> = vec![
        ("missing everywhere", [missing(), deleted(3), missing()], "local_missing"),
        ("stale everywhere", [stale(3), stale(5), stale(4)], "local_stale"),
        ("stale here, missing there", [missing(), missing(), stale(5)], "local_stale"),
        ("stale here, broken there", [error(), missing(), stale(5)], "local_stale"),
        ("one unreachable", [missing(), Does::Refuses, missing()], "local_unavailable"),
        ("all broken", [error(), error(), error()], "local_unavailable"),
    ];
    for (name, does, reason) in table {
        let setup = Setup::new(&does).await;
        let found = setup.objects.open(&NAME, metadata(at(9))).await.unwrap_err();
        assert_eq!(found.as_str(), reason, "{name}: {found}");
        if let LocalError::Stale { newest } = found {
            assert_eq!(newest, at(5), "{name}");
        }
        assert_eq!(setup.objects.head(&NAME, metadata(at(9))).await.unwrap_err().as_str(), reason, "{name}");
    }
    let setup = Setup::new(&[missing()]).await;
    let unknown = ObjectName { policy_index: 9, ..NAME };
    assert_eq!(setup.objects.open(&unknown, metadata(at(9))).await.unwrap_err().as_str(), "topology");
}

#[tokio::test]
async fn a_post_makes_a_replica_new_enough_and_an_offset_counts() {
    let posted = stored(
        &[
            ("X-Timestamp", &time(9)),
            ("X-Backend-Timestamp", &format!("{}_0000000000000002", time(9))),
            ("X-Backend-Data-Timestamp", &time(4)),
            ("X-Object-Meta-Color", "blue"),
        ],
        b"content",
    );
    let setup = Setup::new(&[Does::Has(posted)]).await;
    let head = setup.objects.head(&NAME, metadata(at(9).with_offset(2))).await.unwrap();
    assert_eq!((head.timestamp, head.data_timestamp), (at(9).with_offset(2), at(4)));
    assert!(head.headers.contains(&("x-object-meta-color".to_owned(), b"blue".to_vec())));
    let newer = setup.objects.head(&NAME, metadata(at(9).with_offset(3))).await.unwrap_err();
    assert_eq!(newer.as_str(), "local_stale");
}

#[tokio::test]
async fn a_post_makes_old_content_no_newer() {
    let posted = |written: u32| {
        let times = [
            ("X-Timestamp", time(9)),
            ("X-Backend-Timestamp", time(9)),
            ("X-Backend-Data-Timestamp", time(written)),
        ];
        let headers: Vec<(&str, &str)> = times.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Does::Has(stored(&headers, b"content"))
    };
    let wanted = AtLeast { data: at(6), metadata: at(9) };
    let setup = Setup::new(&[posted(4), posted(6), missing()]).await;
    assert_eq!(setup.objects.head(&NAME, wanted).await.unwrap().data_timestamp, at(6));
    assert_eq!(setup.objects.open(&NAME, wanted).await.unwrap().head.data_timestamp, at(6));
    let setup = Setup::new(&[posted(4), missing(), missing()]).await;
    assert_eq!(setup.objects.open(&NAME, wanted).await.unwrap_err().as_str(), "local_stale");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_and_never_a_short_object() {
    let mut answer = stored(&[("X-Timestamp", &time(9)), ("Content-Length", "100")], b"");
    answer.extend(b"only this");
    let setup = Setup::new(&[Does::BreaksOff(answer)]).await;
    let object = setup.objects.open(&NAME, metadata(at(9))).await.unwrap();
    assert_eq!(object.head.length, 100);
    assert!(read(object).await.is_err());
}

#[tokio::test]
async fn what_an_object_is_shows_in_its_headers() {
    let table = [
        ("X-Static-Large-Object", "True", LocalKind::StaticLargeObject),
        ("X-Static-Large-Object", "false", LocalKind::Plain),
        ("X-Object-Manifest", "c/prefix", LocalKind::DynamicLargeObject),
        ("X-Object-Sysmeta-Symlink-Target", "c/o", LocalKind::Symlink),
        ("X-Symlink-Target", "c/o", LocalKind::Symlink),
        ("X-Object-Meta-X-Static-Large-Object", "True", LocalKind::Plain),
    ];
    for (name, value, kind) in table {
        let setup = Setup::new(&[Does::Has(stored(&[("X-Timestamp", &time(9)), (name, value)], b"x"))]).await;
        assert_eq!(setup.objects.head(&NAME, metadata(at(1))).await.unwrap().kind, kind, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_server_that_did_not_answer_is_asked_last_for_a_while() {
    let setup = Setup::new(&[Does::Has(replica(9)), Does::Has(replica(9)), Does::Hangs]).await;
    setup.objects.head(&NAME, metadata(at(9))).await.unwrap();
    assert_eq!(setup.asked(), [1, 0, 1]);
    setup.objects.head(&NAME, metadata(at(9))).await.unwrap();
    assert_eq!(setup.asked(), [2, 0, 1]);
}

#[tokio::test]
async fn the_newest_of_all_replicas_is_told_with_what_is_missing() {
    let posted = stored(
        &[
            ("X-Timestamp", &time(9)),
            ("X-Backend-Timestamp", &time(9)),
            ("X-Backend-Data-Timestamp", &time(3)),
        ],
        b"old",
    );
    let setup = Setup::new(&[Does::Has(posted), Does::Has(replica(5)), deleted(4), Does::Refuses]).await;
    let newest = setup.objects.newest(&NAME).await.unwrap();
    let found = newest.found.unwrap();
    // The newest data, and the newest time that any replica has.
    assert_eq!((found.data_timestamp, found.timestamp, found.length), (at(5), at(9), 7));
    assert_eq!(newest.deleted_at, Some(at(4)));
    assert_eq!((newest.unreachable, newest.asked), (1, 4));

    let setup = Setup::new(&[missing(), deleted(4), deleted(6)]).await;
    let newest = setup.objects.newest(&NAME).await.unwrap();
    assert_eq!(newest, Newest { found: None, deleted_at: Some(at(6)), unreachable: 0, asked: 3 });
}

#[tokio::test]
async fn a_delete_goes_to_every_replica_with_the_time_and_the_container() {
    let setup = Setup::new(&[
        Does::Says("204 No Content", vec![]),
        missing(),
        Does::Says("409 Conflict", vec![]),
        Does::Says("503 Service Unavailable", vec![]),
    ])
    .await;
    let place = setup.topology.container("AUTH_a", "c").unwrap();
    let outcome = setup.objects.delete_exactly(&NAME, at(9).with_offset(1), &place).await.unwrap();
    assert_eq!(outcome, DeleteOutcome { removed: 2, newer: 1, failed: 1, asked: 4 });
    assert!(!outcome.is_durable());
    assert!(outcome.is_decided());
    let transaction = setup.seen(0)[0].header("X-Trans-Id").unwrap().to_owned();
    for number in 0..4 {
        let seen = setup.seen(number);
        assert_eq!(seen.len(), 1);
        let seen = &seen[0];
        assert_eq!(seen.method(), "DELETE");
        assert_eq!(seen.target(), format!("/sd{number}/0/AUTH_a/c/a/../b%20%252F%0A%C3%A9"));
        assert_eq!(seen.header("X-Timestamp"), Some("0000000009.00000_0000000000000001"));
        assert_eq!(seen.header("X-Backend-Storage-Policy-Index"), Some("0"));
        assert_eq!(seen.header("X-Container-Partition"), Some("0"));
        let container = &place.replicas[number].device;
        assert_eq!(seen.header("X-Container-Host"), Some(container.authority.as_str()));
        assert_eq!(seen.header("X-Container-Device"), Some(container.device.as_str()));
        assert_eq!(seen.header("X-Trans-Id"), Some(transaction.as_str()));
        let cleans = if number < 2 { "t" } else { "f" };
        assert_eq!(seen.header("X-Backend-Clean-Expiring-Object-Queue"), Some(cleans));
    }
}

#[tokio::test]
async fn a_delete_survives_servers_that_are_away() {
    let gone = || Does::Says("204 No Content", vec![]);
    let setup = Setup::new(&[gone(), Does::Refuses, gone()]).await;
    let place = setup.topology.container("AUTH_a", "c").unwrap();
    let outcome = setup.objects.delete_exactly(&EC, at(9), &place).await.unwrap();
    assert_eq!(outcome, DeleteOutcome { removed: 2, newer: 0, failed: 1, asked: 3 });
    assert!(outcome.is_durable());
    assert_eq!(setup.seen(0)[0].header("X-Backend-Storage-Policy-Index"), Some("1"));
}

fn encrypted(second: u32) -> Does {
    Does::Has(stored(
        &[
            ("X-Timestamp", &time(second)),
            ("X-Object-Sysmeta-Crypto-Body-Meta", "{}"),
            ("X-Object-Transient-Sysmeta-Crypto-Meta-Color", "secret"),
        ],
        b"cyphers",
    ))
}

fn fragment(second: u32) -> Does {
    Does::Has(stored(
        &[
            ("X-Timestamp", &time(second)),
            ("X-Object-Sysmeta-Ec-Etag", "whole"),
            ("X-Object-Sysmeta-Ec-Content-Length", "1000"),
        ],
        b"fragment",
    ))
}

async fn proxy(answers: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> FakeServer {
    FakeServer::start("127.0.0.1", move |seen| {
        let answer = answers(seen);
        Reply::Keep(if seen.method() == "HEAD" { without_content(answer) } else { answer })
    })
    .await
}

/// As a proxy gives it: no backend headers, another ETag.
fn clear(second: u32) -> Vec<u8> {
    wire(
        "200 OK",
        &[("X-Timestamp", &time(second)), ("ETag", "clear"), ("X-Object-Meta-Color", "blue")],
        b"in the clear",
    )
}

#[tokio::test]
async fn what_object_servers_cannot_give_comes_through_the_proxy() {
    let proxy = proxy(|_| clear(9)).await;
    for (name, does) in [(NAME, encrypted(9)), (EC, fragment(9))] {
        let setup = Setup::with_proxy(&[does], Some(&proxy)).await;
        // The proxy does not tell offsets.
        let object = setup.objects.open(&name, metadata(at(9))).await.unwrap();
        assert_eq!(object.head.etag, "clear");
        assert_eq!(read(object).await.unwrap(), b"in the clear");
    }
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2);
    let target = "/v1/AUTH_a/c/a/../b%20%252F%0A%C3%A9?multipart-manifest=get&symlink=get";
    assert!(seen.iter().all(|seen| seen.target() == target && seen.method() == "GET"), "{seen:?}");
    assert_eq!(seen[1].header("X-Backend-Storage-Policy-Index"), Some("1"));
    assert_eq!(seen[0].header("X-Newest"), None);
    // A shunt on the way must not answer for what is not here.
    assert!(seen.iter().all(|seen| seen.header("X-Cloud-Sync-Shunt-Bypass") == Some("true")), "{seen:?}");

    let setup = Setup::with_proxy(&[encrypted(9)], Some(&proxy)).await;
    assert_eq!(setup.objects.head(&NAME, metadata(at(9))).await.unwrap().etag, "clear");
    assert_eq!(proxy.seen()[2].method(), "HEAD");
}

#[tokio::test]
async fn the_headers_of_a_fragment_tell_the_whole() {
    let setup = Setup::new(&[fragment(9)]).await;
    let head = setup.objects.head(&EC, metadata(at(9))).await.unwrap();
    assert_eq!((head.etag.as_str(), head.length), ("whole", 1000));
    assert_eq!(setup.objects.newest(&EC).await.unwrap().found.unwrap().length, 1000);
}

#[tokio::test]
async fn without_a_proxy_it_is_said_what_is_missing() {
    for (name, does, what) in [(NAME, encrypted(9), "encrypted"), (EC, fragment(9), "erasure-coded")] {
        let setup = Setup::new(&[does]).await;
        let error = setup.objects.open(&name, metadata(at(9))).await.unwrap_err();
        assert_eq!(error.as_str(), "needs_proxy");
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("internal_url"), "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_behind_is_asked_for_the_newest() {
    let catching_up = proxy(|seen| if seen.header("X-Newest").is_some() { clear(9) } else { clear(3) }).await;
    let setup = Setup::with_proxy(&[encrypted(9)], Some(&catching_up)).await;
    let object = setup.objects.open(&NAME, metadata(at(9))).await.unwrap();
    assert_eq!(object.head.timestamp, at(9));

    let behind = proxy(|_| clear(3)).await;
    let setup = Setup::with_proxy(&[encrypted(9)], Some(&behind)).await;
    let error = setup.objects.open(&NAME, metadata(at(9))).await.unwrap_err();
    assert!(matches!(error, LocalError::Stale { newest } if newest == at(3)), "{error}");
    assert_eq!(behind.seen().len(), 2);
}

#[tokio::test]
async fn a_proxy_that_does_not_decrypt_is_not_believed() {
    let same_etag = |color: bool| {
        let mut headers =
            vec![("X-Timestamp", time(9)), ("ETag", "9a0364b9e99bb480dd25e1f0284c8555".to_owned())];
        if color {
            headers.push(("X-Object-Meta-Color", "blue".to_owned()));
        }
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        wire("200 OK", &headers, b"cyphers")
    };
    let no_metadata = wire("200 OK", &[("X-Timestamp", &time(9)), ("ETag", "clear")], b"in the clear");
    for answer in [same_etag(true), same_etag(false), no_metadata] {
        let proxy = proxy(move |_| answer.clone()).await;
        let setup = Setup::with_proxy(&[encrypted(9)], Some(&proxy)).await;
        let error = setup.objects.open(&NAME, metadata(at(9))).await.unwrap_err();
        assert_eq!(error.as_str(), "needs_proxy", "{error}");
        assert!(error.to_string().contains("does not decrypt"), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_or_fails_has_its_reason() {
    let table = [
        ("401 Unauthorized", "needs_proxy"),
        ("403 Forbidden", "needs_proxy"),
        ("404 Not Found", "local_missing"),
        ("503 Service Unavailable", "local_unavailable"),
    ];
    for (status, reason) in table {
        let proxy = proxy(move |_| wire(status, &[], b"<html/>")).await;
        let setup = Setup::with_proxy(&[fragment(9)], Some(&proxy)).await;
        assert_eq!(setup.objects.open(&EC, metadata(at(9))).await.unwrap_err().as_str(), reason, "{status}");
    }
}

#[test]
fn an_internal_url_is_plain_http_to_a_host() {
    for text in ["http://127.0.0.1:8081", "http://proxy/", "http://[::1]:8081/v1", "http://proxy/v1/"] {
        text.parse::<InternalUrl>().unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for text in [
        "",
        "proxy",
        "proxy:8081",
        "https://proxy",
        "ftp://proxy",
        "http://",
        "http://u:secret@proxy",
        "http://p/?x",
    ] {
        let error = text.parse::<InternalUrl>().expect_err(text);
        assert!(!error.to_string().contains("secret"));
    }
}
