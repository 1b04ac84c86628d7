//! Static and dynamic large objects arrive in S3 as one object with a companion, and can be made again from both.

mod changes;
mod dynamic;
mod faults;
mod lanes;
mod layouts;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_policy::large_object::{Entry, Manifest, rebuild};
use swift_s3_tests::s3_client::S3Object;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;

use crate::CLUSTER;

const MIB: usize = 1 << 20;

/// A site with a mapped container `c`, and a container `s` for segments.
async fn large(server: S3ServerKind) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    for container in ["c", "s"] {
        site.swift.put_container(container).await?;
    }
    site.map([site.mapping("c")])?;
    Ok(site)
}

fn keys(site: &Site) -> KeyMapping {
    KeyMapping::new(site.swift.account(), "c", None)
}

fn md5_hex(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}

/// Bytes that differ from place to place, so that a piece in the wrong place shows.
fn filled(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / 4096) as u8 ^ seed).collect()
}

/// Writes a segment to `s`; answers its entry for a manifest.
async fn segment(site: &Site, name: &str, content: Vec<u8>) -> Result<Value> {
    let entry = json!({"path": format!("/s/{name}"), "etag": md5_hex(&content), "size_bytes": content.len()});
    let length = content.len().to_string();
    site.swift.put_object("s", name, content, &[("Content-Length", &length)]).await?;
    Ok(entry)
}

/// Writes a manifest for `entries`.
async fn put_slo(
    swift: &SwiftClient,
    container: &str,
    name: &str,
    entries: &[Value],
    headers: &[(&str, &str)],
) -> Result<()> {
    let manifest = serde_json::to_vec(entries)?;
    let query = "multipart-manifest=put";
    let put = swift.object_request("PUT", container, name, query, headers, Some(manifest.into())).await?;
    put.success().with_context(|| format!("manifest {name}"))?;
    Ok(())
}

/// The manifest as Swift stores it.
async fn stored_manifest(site: &Site, container: &str, name: &str) -> Result<Bytes> {
    let query = "multipart-manifest=get&format=json";
    let public = site.swift.object_request("GET", container, name, query, &[], None).await?.success()?;
    ensure!(!public.body.is_empty());
    for node in 0..3 {
        let names = [site.swift.account(), container, name];
        let stored = site.cluster.direct_object("GET", node, names, 0, &[]).await?;
        if stored.status == 200 {
            return Ok(stored.body);
        }
    }
    anyhow::bail!("no node has the manifest of {name}")
}

async fn remote(site: &Site, name: &str) -> Result<S3Object> {
    site.bucket.get(&keys(site).object_key(name)).await?.with_context(|| format!("S3 has no {name}"))
}

async fn companion(site: &Site, name: &str) -> Result<Option<S3Object>> {
    site.bucket.get(&keys(site).manifest_key(name).context("no manifest key")?).await
}

/// Fails unless S3 holds content and metadata as a client of Swift sees them, no upload is left open, and the object can be made again.
async fn expect_carried(site: &Site, name: &str) -> Result<S3Object> {
    let local = site.swift.get_object("c", name).await?.success()?;
    let remote = remote(site, name).await?;
    ensure!(
        local.body.len() == remote.body.len(),
        "{name}: {} bytes, S3 has {}",
        local.body.len(),
        remote.body.len()
    );
    ensure!(local.body == remote.body, "{name}: other content");
    for (header, value) in &local.headers {
        if let Some(user) = header.as_str().strip_prefix("x-object-meta-") {
            let found = remote.metadata.get(user).map(String::as_bytes);
            ensure!(found == Some(value.as_bytes()), "{name}: {header} is {found:?}");
        }
    }
    ensure!(local.header("content-type") == Some(&remote.content_type), "{name}: {}", remote.content_type);
    expect_no_open_upload(site).await?;
    let companion = companion(site, name).await?.with_context(|| format!("no companion of {name}"))?;
    ensure!(companion.content_type == "application/json", "{}", companion.content_type);
    let rebuilt = rebuild(&companion.body, remote.length).with_context(|| format!("companion of {name}"))?;
    for segment in &rebuilt.segments {
        let mut content = Vec::new();
        for range in &segment.content {
            content.extend_from_slice(&remote.body[range.start as usize..range.end as usize]);
        }
        ensure!(md5_hex(&content) == segment.etag, "segment {} is not in the remote object", segment.object);
    }
    Ok(remote)
}

async fn expect_no_open_upload(site: &Site) -> Result<()> {
    let open = site.bucket.sdk().list_multipart_uploads().bucket(site.bucket.bucket()).send().await?;
    ensure!(open.uploads().is_empty(), "left open: {:?}", open.uploads());
    Ok(())
}

/// Makes the object again in another account's container `c`, from nothing but the bucket; fails unless it is the same for clients.
async fn expect_restorable(site: &Site, name: &str) -> Result<()> {
    let remote = remote(site, name).await?;
    let companion = companion(site, name).await?.context("no companion")?;
    let rebuilt = rebuild(&companion.body, remote.length)?;
    ensure!(rebuilt.incomplete.is_empty(), "{:?}", rebuilt.incomplete);
    let fresh = site.cluster.internal_client(&format!("{}_restored", site.swift.account()))?;
    let mut containers: Vec<&str> =
        rebuilt.segments.iter().map(|segment| segment.container.as_str()).collect();
    containers.extend(rebuilt.nested.iter().map(|nested| nested.container.as_str()));
    containers.push("c");
    for container in containers {
        fresh.put_container(container).await?;
    }
    for segment in &rebuilt.segments {
        let mut content = Vec::new();
        for range in &segment.content {
            content.extend_from_slice(&remote.body[range.start as usize..range.end as usize]);
        }
        let length = content.len().to_string();
        fresh
            .put_object(&segment.container, &segment.object, content, &[("Content-Length", &length)])
            .await?;
    }
    for nested in &rebuilt.nested {
        put_slo(&fresh, &nested.container, &nested.object, &entries_of(&nested.manifest), &[]).await?;
    }
    put_slo(&fresh, "c", name, &entries_of(&rebuilt.manifest), &[]).await?;
    let (before, after) = (site.swift.get_object("c", name).await?, fresh.get_object("c", name).await?);
    ensure!(before.body == after.body, "{name}: other content when restored");
    let etag = before.header("etag").context("no ETag")?;
    ensure!(after.header("etag") == Some(etag), "{name}: the restored manifest has another ETag");
    let query = "multipart-manifest=get";
    let mut told = Vec::new();
    for client in [&site.swift, &fresh] {
        let manifest = client.object_request("GET", "c", name, query, &[], None).await?.success()?;
        let mut entries: Vec<BTreeMap<String, Value>> = serde_json::from_slice(&manifest.body)?;
        for entry in &mut entries {
            entry.remove("last_modified");
        }
        told.push(entries);
    }
    ensure!(told[0] == told[1], "{name}: {:?}", told);
    Ok(())
}

/// A manifest in the form in which clients write it.
fn entries_of(manifest: &Manifest) -> Vec<Value> {
    let entry = |entry: &Entry| match entry {
        Entry::Data(data) => {
            use base64::Engine as _;
            json!({"data": base64::engine::general_purpose::STANDARD.encode(data)})
        }
        Entry::Object(object) => {
            let mut fields = json!({"path": object.path(), "etag": object.etag, "size_bytes": object.bytes});
            if let Some(range) = &object.range {
                fields["range"] = json!(format!("{}-{}", range.start, range.end - 1));
            }
            fields
        }
    };
    manifest.entries.iter().map(entry).collect()
}
