//! What no mapping concerns is as it is without the shunt.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use swift_s3_tests::swift_client::{Response, generated_md5};
use swift_s3_tests::usage::Usage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Front, unique};

const MIB: u64 = 1024 * 1024;

/// Headers that differ from answer to answer.
const CHANGING: [&str; 5] = ["date", "x-trans-id", "x-openstack-request-id", "connection", "keep-alive"];

fn comparable(response: &Response) -> (u16, Vec<(String, Vec<u8>)>, Bytes) {
    // Swift gives a length or an encoding to answers that have no content by definition; HTTP libraries take it off.
    let has_content = !matches!(response.status, 204 | 304);
    let headers = response.headers.iter().filter(|(name, _)| {
        !CHANGING.contains(&name.as_str())
            && (has_content || !["content-length", "transfer-encoding"].contains(&name.as_str()))
    });
    let mut headers: Vec<(String, Vec<u8>)> =
        headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    headers.sort();
    (response.status, headers, response.body.clone())
}

#[tokio::test]
async fn answers_are_those_of_swift_header_by_header() -> Result<()> {
    let front = Front::new().await?;
    let container = unique("passes");
    front.through.put_container_with(&container, &[("X-Container-Meta-Colour", "grün")]).await?;
    let name = "a b/é+%41?&";
    let headers = [
        ("X-Object-Meta-Colour", "grün"),
        ("Content-Type", "text/x-odd; a=\"b\""),
        ("Content-Encoding", "x"),
    ];
    front.through.put_object(&container, name, "0123456789", &headers).await?;
    front.through.post_object(&container, name, &[("X-Object-Meta-More", "ü")]).await?;
    front.through.put_object(&container, "empty", "", &[("Content-Length", "0")]).await?;

    let account = format!("/v1/{}", front.direct.account());
    let object = format!("{account}/{container}/a%20b/%C3%A9+%2541%3F&");
    let container = format!("{account}/{container}");
    type Asked<'a> = (&'a str, String, Vec<(&'a str, &'a str)>);
    let requests: Vec<Asked<'_>> = vec![
        ("GET", object.clone(), vec![]),
        ("HEAD", object.clone(), vec![]),
        ("GET", object.clone(), vec![("Range", "bytes=2-4")]),
        ("GET", object.clone(), vec![("Range", "bytes=20-")]),
        ("GET", object.clone(), vec![("If-None-Match", "*")]),
        ("GET", object.clone(), vec![("If-Match", "other")]),
        ("GET", format!("{container}/empty"), vec![]),
        ("HEAD", format!("{container}/absent"), vec![]),
        ("GET", format!("{container}/absent"), vec![]),
        ("GET", container.clone(), vec![]),
        ("GET", format!("{container}?format=json&prefix=a%20"), vec![]),
        ("GET", format!("{container}?format=xml&limit=1"), vec![]),
        ("GET", container.clone(), vec![("Accept", "application/json")]),
        ("GET", format!("{container}?limit=x"), vec![]),
        ("GET", format!("{container}?limit=10001"), vec![]),
        ("HEAD", container.clone(), vec![]),
        ("GET", account.clone(), vec![]),
        ("HEAD", account, vec![]),
        ("GET", "/info".into(), vec![]),
        ("GET", "/healthcheck".into(), vec![]),
        ("GET", "/v1/%00".into(), vec![]),
        ("GET", "/v1/a%ff/c/o".into(), vec![]),
        ("GET", "/nothing//here".into(), vec![]),
        (
            "OPTIONS",
            container,
            vec![("Origin", "http://example.org"), ("Access-Control-Request-Method", "GET")],
        ),
    ];
    let token = front.direct.token().context("token")?.to_owned();
    for (method, path, more) in requests {
        let mut headers = vec![("X-Auth-Token", token.as_str())];
        headers.extend(more);
        let direct = front.direct.send_raw(method, &path, &headers, None).await?;
        let through = front.through.send_raw(method, &path, &headers, None).await?;
        let (mut through_it, mut directly) = (comparable(&through), comparable(&direct));
        if !path.starts_with(&object) {
            // Each replica of a container has a time of its own.
            for (_, headers, _) in [&mut through_it, &mut directly] {
                headers.retain(|(name, _)| name != "x-timestamp");
            }
        }
        assert_eq!(through_it, directly, "{method} {path} {headers:?}");
        ensure!(through.header("x-trans-id").is_some() == direct.header("x-trans-id").is_some());
    }
    Ok(())
}

#[tokio::test]
async fn large_bodies_stream_both_ways_in_little_memory() -> Result<()> {
    let front = Front::new().await?;
    let container = unique("passes-large");
    front.through.put_container(&container).await?;
    let length = 256 * MIB;
    let etag = front.through.put_object_stream(&container, "o", length, 5, &[]).await?;
    assert_eq!(etag, generated_md5(length, 5));
    let path = format!("/v1/{}/{container}/o", front.through.account());
    let token = front.through.token().context("token")?.to_owned();
    let mut stream = open(&front).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").context("a header block")? + 4;
    ensure!(answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(md5_hex(answer.get(start..).unwrap_or_default()), generated_md5(length, 5));
    let peak = Usage::of(front.shunt.pid()?)?.peak_rss_bytes;
    ensure!(peak < 64 * MIB, "peak memory {peak}");
    Ok(())
}

fn md5_hex(bytes: &[u8]) -> String {
    use md5::{Digest as _, Md5};
    hex::encode(Md5::digest(bytes))
}

async fn open(front: &Front) -> Result<TcpStream> {
    let url = front.shunt.url()?;
    Ok(TcpStream::connect(url.trim_start_matches("http://")).await?)
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    tokio::time::timeout(Duration::from_secs(20), async {
        while !all.windows(end.len()).any(|window| window == end) {
            let count = stream.read(&mut piece).await?;
            ensure!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
        Ok(all)
    })
    .await
    .context("nothing more came")?
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_swift_wants_it() -> Result<()> {
    let front = Front::new().await?;
    let container = unique("passes-expect");
    front.through.put_container(&container).await?;
    let path = format!("/v1/{}/{container}/o", front.through.account());
    let head = |token: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };

    let mut refused = open(&front).await?;
    refused.write_all(head("wrong").as_bytes()).await?;
    let answer = read_until(&mut refused, b"\r\n\r\n").await?;
    ensure!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));

    let mut taken = open(&front).await?;
    taken.write_all(head(front.through.token().context("token")?).as_bytes()).await?;
    let answer = read_until(&mut taken, b"\r\n\r\n").await?;
    ensure!(answer.starts_with(b"HTTP/1.1 100 Continue\r\n"), "{}", String::from_utf8_lossy(&answer));
    taken.write_all(b"hello").await?;
    let answer = read_until(&mut taken, b"\r\n\r\n").await?;
    ensure!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(front.direct.get_object(&container, "o").await?.body, "hello");
    Ok(())
}

#[tokio::test]
async fn uploads_of_unknown_length_arrive_and_half_ones_do_not() -> Result<()> {
    let front = Front::new().await?;
    let container = unique("passes-chunked");
    front.through.put_container(&container).await?;
    let token = front.through.token().context("token")?.to_owned();
    let head = |name: &str| {
        format!(
            "PUT /v1/{}/{container}/{name} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n",
            front.through.account()
        )
    };
    let mut whole = open(&front).await?;
    whole.write_all(head("whole").as_bytes()).await?;
    for piece in ["5\r\nhello\r\n", "1\r\n \r\n", "5\r\nworld\r\n", "0\r\n\r\n"] {
        whole.write_all(piece.as_bytes()).await?;
        whole.flush().await?;
    }
    let answer = read_until(&mut whole, b"\r\n\r\n").await?;
    ensure!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(front.direct.get_object(&container, "whole").await?.body, "hello world");

    let mut half = open(&front).await?;
    half.write_all(head("half").as_bytes()).await?;
    half.write_all(b"5\r\nhello\r\n").await?;
    half.shutdown().await?;
    // Ends without an answer of success, whatever else it says.
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), half.read_to_end(&mut answer)).await?;
    ensure!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(front.direct.head_object(&container, "half").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn many_requests_share_a_connection() -> Result<()> {
    let front = Front::new().await?;
    let mut stream = open(&front).await?;
    for _ in 0..20 {
        stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let answer = read_until(&mut stream, b"OK").await?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"));
    }
    // Two at once: answered in order.
    stream
        .write_all(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    let answer = String::from_utf8(read_until(&mut stream, b"Bad URL").await?)?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 412"), "{answer}");
    Ok(())
}
