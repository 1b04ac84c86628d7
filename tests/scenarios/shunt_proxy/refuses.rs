//! Requests that are two requests to some, too large, or too slow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_client::{S3Access, S3Client};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::{ClientProxy, ClientProxyOptions};
use swift_s3_tests::sync_json::SyncJson;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Front, unique};
use crate::CLUSTER;

/// Sends bytes, and answers everything that comes back until the connection ends or nothing more comes for a second.
async fn exchange(front: &Front, request: &[u8]) -> Result<String> {
    let url = front.shunt.url()?;
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    // The shunt may refuse before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut piece = vec![0; 65536];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_secs(2), stream.read(&mut piece)).await
    {
        answer.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn no_request_hides_in_another() -> Result<()> {
    let front = Front::new().await?;
    let container = unique("refuses");
    front.direct.put_container(&container).await?;
    front.direct.put_object(&container, "victim", "x", &[]).await?;
    let token = front.direct.token().context("token")?;
    let account = front.direct.account();
    let put = format!("PUT /v1/{account}/{container}/o HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n");
    let hidden = format!(
        "DELETE /v1/{account}/{container}/victim HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n"
    );
    let length = hidden.len();
    let attempts = [
        // The length says: a body. The coding says: nothing, and then a request.
        format!("{put}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", length + 5),
        format!("{put}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{hidden}", length + 5),
        // The length says: nothing. The coding says: a body.
        format!("{put}Content-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n{hidden}"),
        format!("{put}Content-Length: 0\r\n Transfer-Encoding: chunked\r\n\r\n{hidden}"),
        format!("{put}Transfer-Encoding: xchunked\r\n\r\n{hidden}"),
        format!("{put}Transfer-Encoding: chunked, identity\r\n\r\n{hidden}"),
        format!("{put}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{put}Content-Length: 0, {length}\r\n\r\n{hidden}"),
        format!("{put}Content-Length: +0\r\n\r\n{hidden}"),
        format!("{put}X-Object-Meta-A: b\rContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{put}Content-Length: 0\0\r\n\r\n{hidden}"),
        format!("{put}Connection: Content-Length\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("{put}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}"),
        format!("{put}Transfer-Encoding: chunked\r\n\r\n-1\r\n{hidden}"),
        format!(
            "{put}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
    ];
    for attempt in &attempts {
        let answer = exchange(&front, attempt.as_bytes()).await?;
        let status = front.direct.head_object(&container, "victim").await?.status;
        assert_eq!(status, 200, "{attempt:?} removed the victim; {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_that_are_no_requests_are_refused() -> Result<()> {
    let front = Front::new().await?;
    let long = "a".repeat(70_000);
    let many: String = (0..400).map(|number| format!("X-{number}: y\r\n")).collect();
    let table: Vec<(String, &[&str])> = vec![
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), &["400"]),
        ("CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["400"]),
        ("GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n".into(), &["400"]),
        ("GET /\u{1}x HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["400"]),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), &["414", "431"]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"), &["431"]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), &["431"]),
        ("nonsense\r\n\r\n".into(), &["400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &["400", "505", ""]),
    ];
    for (request, statuses) in table {
        let answer = exchange(&front, request.as_bytes()).await?;
        let shown: String = request.chars().take(60).collect();
        let is_expected = statuses.iter().any(|status| match *status {
            "" => answer.is_empty(),
            status => answer.starts_with(&format!("HTTP/1.1 {status}")),
        });
        ensure!(is_expected, "{shown:?}: {answer:?}");
    }
    // It still serves.
    let answer =
        exchange(&front, b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn clients_that_dawdle_lose_their_connection() -> Result<()> {
    let front =
        Front::with(|options| options.arguments.extend(["--client-timeout".into(), "1".into()])).await?;
    let container = unique("refuses-slow");
    front.direct.put_container(&container).await?;
    let token = front.direct.token().context("token")?;
    let path = format!("/v1/{}/{container}/o", front.direct.account());
    let starts = [
        String::new(),
        "GET /health".to_owned(),
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Length: 10\r\n\r\nabc"),
    ];
    for start in starts {
        let url = front.shunt.url()?;
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
        stream.write_all(start.as_bytes()).await?;
        let begun = Instant::now();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        ensure!(ended.is_ok(), "{start:?} was not ended");
        ensure!(begun.elapsed() > Duration::from_millis(500), "{start:?} was ended at once");
        ensure!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"));
    }
    assert_eq!(front.direct.head_object(&container, "o").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn there_is_a_bound_to_connections_and_room_again_after_it() -> Result<()> {
    let front =
        Front::with(|options| options.arguments.extend(["--max-connections".into(), "3".into()])).await?;
    let address = front.shunt.url()?.trim_start_matches("http://").to_owned();
    // The login's connection may still be open.
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(TcpStream::connect(&address).await?);
    }
    let answer = exchange(&front, b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    ensure!(answer.is_empty(), "{answer}");
    drop(open);
    swift_s3_tests::wait::until("room for a connection", Duration::from_secs(20), async || {
        let answer =
            exchange(&front, b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        Ok(())
    })
    .await
}

/// An archived object of somebody else, and a shunt in front of a proxy that also speaks S3.
async fn somebody_elses() -> Result<(Site, ClientProxy, Shunt)> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let keys = KeyMapping::new(site.swift.account(), "c", None);
    site.bucket.put(&keys.object_key("secret"), b"theirs".to_vec(), &[], None).await?;
    let proxy = site.cluster.start_client_proxy(&ClientProxyOptions::default()).await?;
    let config =
        SyncJson::new().mapping(site.mapping("c").set("merge_namespaces", true).set("merge_writes", true));
    let folder = site.directory().folder("shunt")?;
    let shunt = Shunt::start(folder, ShuntOptions::new(&proxy.url(), config)).await?;
    Ok((site, proxy, shunt))
}

#[tokio::test]
async fn a_request_that_swift_reads_in_another_way_gets_nothing_of_others() -> Result<()> {
    let (site, _proxy, shunt) = somebody_elses().await?;
    let account = site.swift.account().to_owned();
    // To s3api this is the caller's own bucket "v1.0"; to the shunt it would be somebody else's account.
    let access = S3Access {
        endpoint: shunt.url()?,
        identity: "test:tester".into(),
        secret: "testing".into(),
        region: "us-east-1".into(),
    };
    let bucket = S3Client::new(&access, "v1.0");
    let answer = bucket.get(&format!("{account}/c/secret")).await;
    ensure!(!matches!(&answer, Ok(Some(_))), "{answer:?}");
    let _ = bucket.delete(&format!("{account}/c/secret")).await;

    // Somebody else's token, no token, and a token in the name of another host.
    let other = SwiftClient::log_in(&shunt.url()?, "test:tester", "testing").await?;
    let token = other.token().context("token")?;
    let path = format!("/v1/{account}/c/secret");
    let listing = format!("/v1/{account}/c?format=json");
    for headers in [
        vec![("X-Auth-Token", token)],
        vec![],
        vec![("X-Auth-Token", token), ("Host", "c.AUTH-test.example.com")],
        vec![("X-Auth-Token", "AUTH_tk0000"), ("X-Storage-Token", token)],
    ] {
        for (method, path) in [
            ("GET", path.clone()),
            ("HEAD", path.clone()),
            ("DELETE", path.clone()),
            ("POST", path.clone()),
            ("GET", listing.clone()),
            ("GET", format!("/v1/{account}/c%2Fsecret")),
            ("GET", format!("/v1/AUTH_test/..%2F{account}/c/secret")),
            ("GET", format!("/v1/AUTH_test/../{account}/c/secret")),
            ("GET", format!("//v1/{account}/c/secret")),
            ("GET", format!("/v1/{account}/c/secret%00")),
            ("GET", format!("/v1/{account}/c/./secret")),
            ("GET", format!("/v1/{account}/c/{}", "a".repeat(1100))),
        ] {
            let answer = other.send_raw(method, &path, &headers, None).await?;
            ensure!(answer.status >= 400, "{method} {path} {headers:?}: {}", answer.status);
            ensure!(!answer.body.windows(6).any(|window| window == b"theirs"), "{method} {path} leaks");
        }
    }
    assert_eq!(site.bucket.list("").await?.len(), 1, "somebody removed what is not theirs");
    Ok(())
}
