//! GET, HEAD and listings of archived objects are Swift's own, whichever door they come through.

use anyhow::{Context, Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::Response;
use swift_s3_tests::swift_remote::SwiftRemote;
use swift_s3_tests::sync_json::SyncJson;

use super::{ARCHIVED, SEGMENTS, archive_to, archived_site, names, open};
use crate::CLUSTER;
use crate::swift_remote::REMOTE;

async fn get(open: &OpenDoor, name: &str, headers: &[(&str, &str)]) -> Result<Response> {
    open.client().await?.object_request("GET", "box", name, "", headers, None).await
}

#[tokio::test]
async fn archived_objects_are_read_as_if_they_were_local() -> Result<()> {
    for (door, server) in [(Door::Proxy, S3ServerKind::Memory), (Door::Filter, S3ServerKind::S3sFs)] {
        let site = archived_site(server).await?;
        let open = open(door, &site).await?;
        let client = open.client().await?;
        for (name, content) in ARCHIVED {
            let got = client.get_object("box", name).await?;
            let head = client.head_object("box", name).await?;
            ensure!((got.status, &got.body[..]) == (200, content.as_bytes()), "{door}: {name}: {got:?}");
            ensure!(head.status == 200 && head.body.is_empty(), "{door}: {name}: {head:?}");
            let length = content.len().to_string();
            for answer in [&got, &head] {
                ensure!(answer.header("content-length") == Some(&length), "{door}: {answer:?}");
                ensure!(answer.header("content-type") == Some("text/x-test"), "{door}: {answer:?}");
                ensure!(answer.header("x-object-meta-colour") == Some("grün"), "{door}: {answer:?}");
                let etag = answer.header("etag").context("an ETag")?;
                ensure!(etag.len() == 32, "{door}: ETag {etag}");
                ensure!(answer.header("x-timestamp").is_some() && answer.header("last-modified").is_some());
                ensure!(answer.headers.get_all("x-trans-id").iter().count() == 1, "{door}: {answer:?}");
                let internal = answer.headers.keys().find(|name| {
                    ["x-shunt", "x-backend", "x-amz"].iter().any(|prefix| name.as_str().starts_with(prefix))
                });
                ensure!(internal.is_none(), "{door}: {internal:?}");
            }
        }
        ensure!(client.get_object("box", "never there").await?.status == 404);
        ensure!(client.get_object("box", "local").await?.body == "content of local");
        ensure!(client.get_object("desk", "other").await?.body == "content of other");
        ensure!(client.get_object("desk", "plain").await?.status == 404);
    }
    Ok(())
}

#[tokio::test]
async fn ranges_and_conditions_are_swifts() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let kept = site.swift.get_object("box", "local").await?;
    ensure!(kept.status == 200);
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let etag = get(&open, "plain", &[]).await?.header("etag").context("an ETag")?.to_owned();
        let quoted = format!("\"{etag}\"");
        let table: [(&str, &str, u16, &str); 10] = [
            ("Range", "bytes=0-6", 206, "content"),
            ("Range", "bytes=-5", 206, "plain"),
            ("Range", "bytes=11-", 206, "plain"),
            ("Range", "bytes=100-", 416, ""),
            ("If-None-Match", &quoted, 304, ""),
            ("If-None-Match", "\"other\"", 200, "content of plain"),
            ("If-Match", &quoted, 200, "content of plain"),
            ("If-Match", "\"other\"", 412, ""),
            ("If-Modified-Since", "Fri, 01 Jan 2038 00:00:00 GMT", 304, ""),
            ("If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT", 412, ""),
        ];
        for (name, value, status, content) in table {
            let got = get(&open, "plain", &[(name, value)]).await?;
            ensure!(got.status == status, "{door}: {name}: {value}: {got:?}");
            ensure!(status >= 400 || got.body == content, "{door}: {name}: {value}: {got:?}");
        }
        let got = get(&open, "plain", &[("Range", "bytes=0-1,5-6")]).await?;
        ensure!(got.status == 206, "{door}: {got:?}");
        let kind = got.header("content-type").unwrap_or_default();
        ensure!(kind.starts_with("multipart/byteranges;boundary="), "{door}: {kind}");
    }
    Ok(())
}

#[tokio::test]
async fn large_objects_come_back_whole() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let got = get(&open, "slo", &[]).await?;
        ensure!(got.status == 200 && got.body == SEGMENTS.concat(), "{door}: {got:?}");
        ensure!(got.header("x-static-large-object") == Some("True"), "{door}: {:?}", got.headers);
        let etag = got.header("etag").unwrap_or_default();
        ensure!(etag.starts_with('"') && etag.ends_with('"'), "{door}: ETag {etag}");
        let part = get(&open, "slo", &[("Range", "bytes=10-20")]).await?;
        ensure!(part.status == 206 && part.body == SEGMENTS.concat().get(10..21).unwrap_or_default());
    }
    Ok(())
}

async fn listing(open: &OpenDoor, query: &str) -> Result<Response> {
    let client = open.client().await?;
    let path = client.storage_url();
    let path = path.strip_prefix(&open.url()?).context("a path")?.to_owned();
    let token = client.token().context("a token")?.to_owned();
    client.send_raw("GET", &format!("{path}/box{query}"), &[("X-Auth-Token", &token)], None).await
}

#[tokio::test]
async fn listings_show_local_and_archived_objects_together() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let all = ["empty", "folder/inner", "local", "plain", "slo", "é b/+%41"];
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let table: [(&str, &[&str]); 8] = [
            ("?format=json", &all),
            ("?format=json&limit=3", &["empty", "folder/inner", "local"]),
            ("?format=json&marker=local&limit=2", &["plain", "slo"]),
            ("?format=json&prefix=folder/", &["folder/inner"]),
            ("?format=json&delimiter=/", &["empty", "folder/", "local", "plain", "slo", "é b/"]),
            ("?format=json&end_marker=local", &["empty", "folder/inner"]),
            ("?format=json&reverse=true&limit=2", &["é b/+%41", "slo"]),
            ("?format=json&marker=zzzzz%20", &["é b/+%41"]),
        ];
        for (query, expected) in table {
            let got = listing(&open, query).await?;
            ensure!(got.status == 200, "{door}: {query}: {got:?}");
            ensure!(names(&got.body)? == expected, "{door}: {query}: {:?}", names(&got.body)?);
        }
        let text = listing(&open, "").await?;
        ensure!(
            text.header("content-type") == Some("text/plain; charset=utf-8"),
            "{door}: {:?}",
            text.headers
        );
        ensure!(text.body == format!("{}\n", all.join("\n")), "{door}: {:?}", text.body);
        let xml = listing(&open, "?format=xml&prefix=pl").await?;
        let document = String::from_utf8(xml.body.to_vec())?;
        ensure!(document.contains("<object><name>plain</name>"), "{door}: {document}");
        let unmapped = open.client().await?.list("desk").await?;
        ensure!(unmapped.len() == 1, "{door}: {unmapped:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_asks_to_pass_by_sees_swift_alone() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        site.faults.forget();
        let bypass = [("X-Cloud-Sync-Shunt-Bypass", "true")];
        ensure!(get(&open, "plain", &bypass).await?.status == 404, "{door}");
        let client = open.client().await?;
        for (method, name, status) in
            [("GET", "local", 200), ("HEAD", "local", 200), ("DELETE", "plain", 404)]
        {
            let got = client.object_request(method, "box", name, "", &bypass, None).await?;
            ensure!(got.status == status, "{door}: {method} {name}: {got:?}");
        }
        expect_untouched(&site, door)?;
        // What Swift answers itself is not asked about elsewhere.
        ensure!(client.get_object("box", "local").await?.status == 200);
        ensure!(client.get_object("desk", "plain").await?.status == 404);
        expect_untouched(&site, door)?;
    }
    Ok(())
}

fn expect_untouched(site: &Site, door: Door) -> Result<()> {
    let requests = site.faults.requests();
    ensure!(requests.about_objects() == 0, "{door}: the remote was asked: {requests}");
    Ok(())
}

#[tokio::test]
async fn objects_archived_to_another_cluster_are_read_too() -> Result<()> {
    let remote = SwiftRemote::on(REMOTE.get().await?).await?;
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let mapping = remote.mapping(site.swift.account(), "box", "copies").set("retain_local", false);
    remote.swift.put_container("copies").await?;
    archive_to(&site, mapping.clone()).await?;
    let config = SyncJson::new().mapping(mapping.set("merge_namespaces", true));
    for door in Door::ALL {
        let open = OpenDoor::open(door, &site, &config).await?;
        let client = open.client().await?;
        for (name, content) in ARCHIVED {
            let got = client.get_object("box", name).await?;
            ensure!((got.status, &got.body[..]) == (200, content.as_bytes()), "{door}: {name}: {got:?}");
            let head = client.head_object("box", name).await?;
            let found = (head.status, head.header("content-type"), head.header("x-object-meta-colour"));
            ensure!(found == (200, Some("text/x-test"), Some("grün")), "{door}: {name}: {head:?}");
        }
        let slo = client.get_object("box", "slo").await?;
        ensure!(slo.status == 200 && slo.body == SEGMENTS.concat(), "{door}: {slo:?}");
        let part = get(&open, "plain", &[("Range", "bytes=-5")]).await?;
        ensure!(part.status == 206 && part.body == "plain", "{door}: {part:?}");
        let listed = client.list("box").await?;
        ensure!(listed.len() == 6, "{door}: {listed:?}");
        ensure!(client.get_object("box", "never there").await?.status == 404, "{door}");
    }
    Ok(())
}
