//! What is archived answers as it did in Swift.

use anyhow::{Result, ensure};
use bytes::Bytes;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::Response;
use swift_s3_tests::swift_cluster::SharedCluster;
use swift_s3_tests::swift_remote::{SwiftRemote, remote_options};

use super::{Reads, content, expect};
use crate::CLUSTER;

static REMOTE: SharedCluster = SharedCluster::new(remote_options);

/// Headers that speak of the request, and of the time when the copy was written.
const OF_THE_MOMENT: [&str; 5] =
    ["date", "x-trans-id", "x-openstack-request-id", "x-timestamp", "last-modified"];

const REQUESTS: &[&[(&str, &str)]] = &[
    &[],
    &[("Range", "bytes=0-4")],
    &[("Range", "bytes=5-")],
    &[("Range", "bytes=-7")],
    &[("Range", "bytes=-0")],
    &[("Range", "bytes=99999999-")],
    &[("Range", "bytes=0-99999999")],
    &[("Range", "bytes=0-1,3-4,-2")],
    &[("Range", "bytes=0-1,99999999-")],
    &[("Range", "bytes=0-9,1-8,2-7,3-6")],
    &[("Range", "nonsense")],
    &[("Range", "bytes=9-3")],
    &[("If-None-Match", "*")],
    &[("If-None-Match", "\"abc\", def")],
    &[("If-Match", "\"abc\", def")],
    &[("If-Match", "*")],
    &[("If-Modified-Since", "Sun, 06 Nov 2044 08:49:37 GMT")],
    &[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
    &[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
    &[("If-Unmodified-Since", "Sun, 06 Nov 2044 08:49:37 GMT"), ("Range", "bytes=2-3")],
    &[("If-Modified-Since", "yesterday")],
];

/// An answer as far as it does not depend on the moment; boundaries are random.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

fn told(answer: &Response, ignored: &[&str]) -> Told {
    let boundary = answer
        .header("content-type")
        .and_then(|kind| kind.strip_prefix("multipart/byteranges;boundary="))
        .map(str::to_owned);
    let fixed = |text: &str| match &boundary {
        Some(boundary) => text.replace(boundary.as_str(), "BOUNDARY"),
        None => text.to_owned(),
    };
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), fixed(&String::from_utf8_lossy(value.as_bytes()))))
        .filter(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()) && !ignored.contains(&name.as_str()))
        // Of the pipeline without authentication, for what is written back.
        .filter(|(name, _)| !name.starts_with("remote-") && !name.starts_with("cloud-sync-"))
        // Of a refusal without a body Swift does not tell how long it would be.
        .filter(|(name, _)| !(answer.status == 416 && answer.body.is_empty() && name == "content-length"))
        .collect();
    headers.sort();
    let body = match &boundary {
        Some(boundary) => {
            // Only the frame may be text.
            let latin: String = answer.body.iter().map(|byte| char::from(*byte)).collect();
            let latin = latin.replace(boundary.as_str(), "BOUNDARY");
            latin.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect::<Vec<_>>().into()
        }
        None => answer.body.clone(),
    };
    Told { status: answer.status, headers, body }
}

async fn all(reads: &Reads, names: &[&str], query: &str, ignored: &[&str]) -> Result<Vec<(String, Told)>> {
    let mut answers = Vec::new();
    for name in names {
        let etag = reads.client.object_request("HEAD", "c", name, query, &[], None).await?;
        let etag = etag.header("etag").unwrap_or_default().to_owned();
        let own: [&[(&str, &str)]; 4] = [
            &[("If-Match", &etag)],
            &[("If-None-Match", &etag)],
            &[("If-Match", &etag), ("Range", "bytes=1-2")],
            &[("If-None-Match", &etag), ("If-Match", "x")],
        ];
        for method in ["GET", "HEAD"] {
            for headers in REQUESTS.iter().chain(&own) {
                // Swift breaks on the one, and gives the wrong content type to the other.
                let is_odd = |(name, value): &(&str, &str)| *value == "bytes=-0" || *name == "If-Match";
                if *name == "dynamic" && headers.iter().any(is_odd) {
                    continue;
                }
                // Swift answers several ranges of a manifest with the wrong content type.
                if query.contains("manifest") && headers.iter().any(|(_, value)| value.contains(',')) {
                    continue;
                }
                let answer = reads.client.object_request(method, "c", name, query, headers, None).await?;
                answers.push((format!("{method} {name}?{query} {headers:?}"), told(&answer, ignored)));
            }
        }
    }
    Ok(answers)
}

fn compare(before: Vec<(String, Told)>, after: Vec<(String, Told)>) -> Result<()> {
    ensure!(before.len() == after.len());
    for ((request, before), (_, after)) in before.iter().zip(&after) {
        ensure!(
            (before.status, &before.headers) == (after.status, &after.headers),
            "{request}:\nlocal:    {} {:#?}\narchived: {} {:#?}",
            before.status,
            before.headers,
            after.status,
            after.headers
        );
        ensure!(before.body == after.body, "{request}: another body");
    }
    Ok(())
}

const METADATA: [(&str, &str); 6] = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Object-Meta-Colour", "grün"),
    ("X-Object-Meta-Swift-Slo-Etag", "mine"),
    ("Content-Encoding", "x-none"),
    ("Content-Disposition", "attachment; filename=\"a b\""),
    ("X-Delete-After", "86400"),
];

/// Some names, and where requests for manifests are compared too.
async fn write_plain(reads: &Reads) -> Result<()> {
    let swift = &reads.site.swift;
    for name in ["plain", "unicodé/ö &%41?.txt"] {
        let body = content(1_000).into();
        swift.object_request("PUT", "c", name, "", &METADATA, Some(body)).await?.success()?;
    }
    let headers = [("X-Object-Meta-A", "1"), ("Content-Length", "0")];
    swift.object_request("PUT", "c", "empty", "", &headers, None).await?.success()?;
    Ok(())
}

const PLAIN: [&str; 3] = ["plain", "unicodé/ö &%41?.txt", "empty"];

#[tokio::test]
async fn archived_objects_answer_as_they_did_in_swift() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let reads = Reads::on(server).await?;
        write_plain(&reads).await?;
        let before = all(&reads, &PLAIN, "", &[]).await?;
        let manifests = all(&reads, &PLAIN, "multipart-manifest=get", &[]).await?;
        reads.carry().await?;
        ensure!(reads.site.swift.list("c").await?.is_empty(), "not all is archived");
        compare(before, all(&reads, &PLAIN, "", &[]).await?)?;
        compare(manifests, all(&reads, &PLAIN, "multipart-manifest=get", &[]).await?)?;
    }
    Ok(())
}

#[tokio::test]
async fn archived_large_objects_answer_as_they_did_in_swift() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let headers = [("Content-Type", "a/b; charset=utf-8"), ("X-Object-Meta-Colour", "grün")];
    // Its segments are parts of a multipart upload, those of the other one are too small for that.
    let parts = [("big/1", content(5 << 20)), ("big/2", content(1_000))];
    reads.put_slo("parts", &parts, &headers).await?;
    reads.put_slo("cut", &[("small/1", content(100)), ("small/é2", content(200))], &headers).await?;
    let manifest = [("X-Object-Manifest", "s/s%6dall"), ("Content-Type", "x/y"), ("Content-Length", "0")];
    reads.site.swift.put_object("other", "unrelated", "x", &[]).await?;
    let names = ["parts", "cut"];
    let before = all(&reads, &names, "", &[]).await?;
    let stored = all(&reads, &names, "multipart-manifest=get", &[]).await?;
    // A HEAD of this form, and a range of it, are errors of Swift's own.
    let raw = "multipart-manifest=get&format=raw";
    let mut raw_before = Vec::new();
    for name in names {
        let answer = reads.client.object_request("GET", "c", name, raw, &[], None).await?;
        raw_before.push((name.to_owned(), told(&answer, &[])));
    }
    reads.carry().await?;
    ensure!(reads.site.swift.list("c").await?.is_empty(), "not all is archived");
    compare(before, all(&reads, &names, "", &[]).await?)?;
    compare(stored, all(&reads, &names, "multipart-manifest=get", &[]).await?)?;
    let mut raw_after = Vec::new();
    for name in names {
        let answer = reads.client.object_request("GET", "c", name, raw, &[], None).await?;
        raw_after.push((name.to_owned(), told(&answer, &[])));
    }
    compare(raw_before, raw_after)?;

    for (segment, length) in [("small/1", 100), ("small/2", 200)] {
        let body = content(length).into();
        reads.site.swift.object_request("PUT", "s", segment, "", &[], Some(body)).await?.success()?;
    }
    reads.site.swift.put_object("c", "dynamic", "", &manifest).await?;
    let before = all(&reads, &["dynamic"], "", &[]).await?;
    let stored = all(&reads, &["dynamic"], "multipart-manifest=get", &[]).await?;
    reads.carry().await?;
    ensure!(reads.site.swift.list("c").await?.is_empty(), "the dynamic large object is not archived");
    compare(before, all(&reads, &["dynamic"], "", &[]).await?)?;
    compare(stored, all(&reads, &["dynamic"], "multipart-manifest=get", &[]).await?)
}

#[tokio::test]
async fn objects_archived_to_another_swift_answer_as_they_did() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let remote = SwiftRemote::on(REMOTE.get().await?).await?;
    remote.swift.put_container("copies").await?;
    let mapping = remote.mapping(site.swift.account(), "c", "copies");
    let reads = Reads::with(site, mapping).await?;
    write_plain(&reads).await?;
    reads.put_slo("slo", &[("1", content(100)), ("2", content(200))], &[("Content-Type", "a/b")]).await?;
    let names = ["plain", "unicodé/ö &%41?.txt", "empty", "slo"];
    // The remote manifest names other containers, so its ETag is another one.
    // Nor does the archiver carry the names of its own marks, or the time of expiry unless told to.
    let ignored = ["x-manifest-etag", "x-object-meta-swift-slo-etag", "x-delete-at"];
    let before = all(&reads, &names, "", &ignored).await?;
    reads.carry().await?;
    ensure!(reads.site.swift.list("c").await?.is_empty(), "not all is archived");
    compare(before, all(&reads, &names, "", &ignored).await?)?;
    let manifest =
        reads.client.object_request("GET", "c", "slo", "multipart-manifest=get", &[], None).await?;
    expect(&manifest, 200)?;
    ensure!(String::from_utf8_lossy(&manifest.body).contains("/copies_segments/1"), "{manifest:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_remote_does_not_have_stays_missing_and_what_swift_has_is_not_asked_for() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let missing = reads.ask("GET", "nowhere", &[]).await?;
    expect(&missing, 404)?;
    ensure!(missing.header("x-trans-id").is_some());
    expect(&reads.ask("GET", "nowhere", &[("If-Match", "*")]).await?, 412)?;
    reads.archive("o", "archived", &[]).await?;
    reads.site.faults.forget();
    let archived = reads.ask("GET", "o", &[]).await?;
    expect(&archived, 200)?;
    ensure!(archived.body == "archived" && archived.header("x-trans-id").is_some(), "{archived:?}");
    ensure!(reads.site.faults.requests().total() == 1, "{}", reads.site.faults.requests());
    expect(&reads.ask("HEAD", "o", &[]).await?, 200)?;
    // A second GET goes to the remote again.
    expect(&reads.ask("GET", "o", &[]).await?, 200)?;
    ensure!(reads.site.faults.requests().total() == 3, "{}", reads.site.faults.requests());
    // Containers that are not merged, other accounts, and clients that want to see Swift alone.
    reads.site.faults.forget();
    let bypass = [("X-Cloud-Sync-Shunt-Bypass", "true")];
    expect(&reads.ask("GET", "o", &bypass).await?, 404)?;
    expect(&reads.client.get_object("other", "o").await?, 404)?;
    reads.site.swift.put_object("c", "o", "local again", &[]).await?;
    ensure!(reads.ask("GET", "o", &[]).await?.body == "local again");
    ensure!(reads.site.faults.requests().total() == 0, "{}", reads.site.faults.requests());
    Ok(())
}

#[tokio::test]
async fn an_archived_object_whose_time_has_come_is_gone() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let soon = jiff_now() + 20;
    reads.archive("o", "short-lived", &[("X-Delete-At", &soon.to_string())]).await?;
    let before = reads.ask("GET", "o", &[]).await?;
    ensure!(before.status == 200 || jiff_now() >= soon, "{before:?}");
    swift_s3_tests::wait::until("the object to expire", std::time::Duration::from_secs(40), async || {
        let now = reads.ask("HEAD", "o", &[]).await?;
        ensure!(now.status == 404, "{}", now.status);
        Ok(())
    })
    .await?;
    expect(&reads.ask("GET", "o", &[]).await?, 404)
}

/// Seconds since 1970.
fn jiff_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
