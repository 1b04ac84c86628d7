//! Metadata and content type arrive with the meaning they have in Swift, in the form that old buckets have.

use anyhow::{Context, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_client::S3Object;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mapped;
use crate::worker_state::expect_parked;

async fn remote(site: &Site, name: &str) -> Result<S3Object> {
    let key = KeyMapping::new(site.swift.account(), "c", None).object_key(name);
    site.bucket.head(&key).await?.with_context(|| format!("S3 has no {name}"))
}

/// The header as it was sent to S3: some servers decode such values and encode them anew when asked.
fn sent(site: &Site, name: &str, header: &str) -> Result<String> {
    let ending = format!("/c/{name}");
    let mut puts = site.faults.seen().into_iter();
    let put = puts.rfind(|seen| seen.operation == Operation::Put && seen.key.ends_with(&ending));
    let put = put.with_context(|| format!("no PUT of {name}"))?;
    Ok(put.header(header).with_context(|| format!("no {header} with {name}"))?.to_owned())
}

/// A PUT with one header of any bytes, as no HTTP library lets one send.
async fn put_with_header(site: &Site, name: &str, header: &[u8]) -> Result<()> {
    let url = site.cluster.internal_url()?;
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let path = SwiftClient::encode(format!("{}/c/{name}", site.swift.account()).as_bytes());
    stream
        .write_all(format!("PUT /v1/{path} HTTP/1.1\r\nHost: swift\r\nConnection: close\r\n").as_bytes())
        .await?;
    stream.write_all(b"Content-Length: 1\r\n").await?;
    stream.write_all(header).await?;
    stream.write_all(b"\r\n\r\nx").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 201"), "PUT {name}: {answer}");
    Ok(())
}

#[tokio::test]
async fn metadata_values_are_stored_as_the_python_daemon_stored_them() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let table = [
        ("Bar baz", "Bar baz"),
        ("comma, and %20 ~", "comma, and %20 ~"),
        ("é", "=?UTF-8?B?w6k=?="),
        ("café au lait, tres bon", "=?UTF-8?Q?caf=C3=A9_au_lait=2C_tres_bon?="),
        ("unícodë", "=?UTF-8?B?dW7DrWNvZMOr?="),
    ];
    for (number, (value, _)) in table.iter().enumerate() {
        let headers = [("X-Object-Meta-Some-Value", *value), ("Content-Type", "test/blob")];
        site.swift.put_object("c", &number.to_string(), "x", &headers).await?;
    }
    site.sync().await?;
    for (number, (value, stored)) in table.iter().enumerate() {
        let found = sent(&site, &number.to_string(), "x-amz-meta-some-value")?;
        ensure!(found == *stored, "{value:?}: sent as {found:?}");
        let remote = remote(&site, &number.to_string()).await?;
        ensure!(remote.content_type == "test/blob", "{value:?}: {}", remote.content_type);
    }
    site.expect_equal("c").await
}

#[tokio::test]
async fn long_and_misleading_values_come_back_as_they_were() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        // The longest that Swift takes, in three-byte letters: no line of an encoded word may be folded.
        let long = "語".repeat(85);
        let values = ["=?UTF-8?Q?no_word?=", "=?UTF-8?B?w6k=?=", "%C3%A9", "\u{1F600}", &long];
        for (number, value) in values.iter().enumerate() {
            site.swift.put_object("c", &number.to_string(), "x", &[("X-Object-Meta-V", value)]).await?;
        }
        site.sync().await?;
        for (number, value) in values.iter().enumerate() {
            let stored = sent(&site, &number.to_string(), "x-amz-meta-v")?;
            ensure!(decoded(&stored)? == *value, "{server:?}: {value:?} is sent as {stored:?}");
        }
        site.expect_equal("c").await?;
    }
    Ok(())
}

/// What an RFC 2047 reader, here Python's own, makes of a stored value.
fn decoded(stored: &str) -> Result<String> {
    const READER: &str = "import sys\nfrom email.header import decode_header, make_header\n\
                          sys.stdout.buffer.write(str(make_header(decode_header(sys.argv[1]))).encode())";
    if !stored.starts_with("=?") {
        return Ok(stored.to_owned());
    }
    let output = std::process::Command::new("python3").args(["-c", READER, stored]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn headers_that_no_http_library_reads_hold_only_their_own_object() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    put_with_header(&site, "name", "X-Object-Meta-N\u{e4}me: value".as_bytes()).await?;
    put_with_header(&site, "value", b"X-Object-Meta-V: \x04w").await?;
    site.swift.put_object("c", "plain", "x", &[]).await?;
    for worker in &site.workers {
        worker.run_once().await?.expect_code(1)?;
    }
    let reasons = [("name", "local_unavailable"), ("value", "local_unavailable")];
    expect_parked(&site, "c", &reasons)?;
    remote(&site, "plain").await?;
    Ok(())
}

#[tokio::test]
async fn more_metadata_than_s3_takes_is_set_aside_until_there_is_less() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let value = "v".repeat(250);
    let names: Vec<String> = (0..9).map(|number| format!("X-Object-Meta-Name-{number}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    site.swift.put_object("c", "fat", "x", &headers).await?;
    site.swift.put_object("c", "plain", "x", &[]).await?;
    for worker in &site.workers {
        worker.run_once().await?.expect_code(1)?;
    }
    expect_parked(&site, "c", &[("fat", "metadata_too_large")])?;
    remote(&site, "plain").await?;
    site.swift.post_object("c", "fat", &headers[..3]).await?;
    site.sync().await?;
    expect_parked(&site, "c", &[])?;
    site.expect_equal("c").await
}

#[tokio::test]
async fn headers_that_s3_has_too_are_carried_and_followed() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        let headers = [
            ("Content-Disposition", "attachment; filename=\"x.txt\""),
            ("Content-Encoding", "gzip"),
            ("Cache-Control", "no-store"),
            ("Content-Language", "de"),
            ("X-Delete-At", "4102444800"),
        ];
        site.swift.put_object("c", "described", "content", &headers).await?;
        site.sync().await?;
        let key = KeyMapping::new(site.swift.account(), "c", None).object_key("described");
        let head = || site.bucket.sdk().head_object().bucket(site.bucket.bucket()).key(&key).send();
        let found = head().await?;
        assert_eq!(found.content_disposition(), Some(headers[0].1), "{server:?}");
        assert_eq!(found.content_encoding(), Some("gzip"));
        assert_eq!((found.cache_control(), found.content_language()), (Some("no-store"), Some("de")));
        assert_eq!(
            found.metadata().and_then(|user| user.get("x-delete-at")).map(String::as_str),
            Some("4102444800")
        );
        let changed = [("Content-Disposition", "inline"), ("X-Object-Meta-Mark", "m")];
        site.swift.post_object("c", "described", &changed).await?;
        site.sync().await?;
        let found = head().await?;
        assert_eq!(
            (found.content_disposition(), found.content_language()),
            (Some("inline"), None),
            "{server:?}"
        );
    }
    Ok(())
}
