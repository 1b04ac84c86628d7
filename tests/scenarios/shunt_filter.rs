//! Archived objects through both doors of the shunt, by the rights and the clients of Swift.

mod clients;
mod faults;
mod permissions;
mod python;
mod reads;
mod restores;
mod writes;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor};
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};

use crate::CLUSTER;

/// The archived content of [`archived_site`], by name.
const ARCHIVED: [(&str, &str); 4] = [
    ("plain", "content of plain"),
    ("empty", ""),
    ("é b/+%41", "odd name"),
    ("folder/inner", "content of inner"),
];
/// The segments of the archived large object `slo`.
const SEGMENTS: [&str; 3] = ["first segment ", "second segment ", "last"];

/// A site with the container `box`, whose objects are archived but for `local`, and `desk`, which is not mapped and has `other`.
async fn archived_site(server: S3ServerKind) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    let mapping = site.mapping("box").set("retain_local", false);
    archive_to(&site, mapping).await?;
    Ok(site)
}

/// Fills and archives the containers of such a site.
async fn archive_to(site: &Site, mapping: MappingJson) -> Result<()> {
    for container in ["box", "box_segments", "desk"] {
        site.swift.put_container(container).await?;
    }
    site.map([mapping])?;
    for (name, content) in ARCHIVED {
        let length = content.len().to_string();
        let headers = [
            ("Content-Type", "text/x-test"),
            ("X-Object-Meta-Colour", "grün"),
            ("Content-Length", length.as_str()),
        ];
        site.swift.put_object("box", name, content, &headers).await?;
    }
    let mut manifest = Vec::new();
    for (number, content) in SEGMENTS.iter().enumerate() {
        let put = site.swift.put_object("box_segments", &format!("slo/{number}"), *content, &[]).await?;
        let etag = put.header("etag").context("an ETag")?.to_owned();
        manifest.push(
            json!({"path": format!("/box_segments/slo/{number}"), "etag": etag, "size_bytes": content.len()}),
        );
    }
    let manifest = serde_json::to_vec(&manifest)?;
    let query = "multipart-manifest=put";
    site.swift.object_request("PUT", "box", "slo", query, &[], Some(manifest.into())).await?.success()?;
    site.sync().await?;
    for name in ARCHIVED.iter().map(|(name, _)| *name).chain(["slo"]) {
        let status = site.swift.head_object("box", name).await?.status;
        ensure!(status == 404, "{name} is not archived: {status}");
    }
    site.swift.put_object("box", "local", "content of local", &[]).await?;
    site.swift.put_object("desk", "other", "content of other", &[]).await?;
    Ok(())
}

/// The mapping of `box`, for the shunt.
fn merged(site: &Site) -> MappingJson {
    site.mapping("box").set("retain_local", false).set("merge_namespaces", true)
}

/// Opens a door with `box` merged.
async fn open(door: Door, site: &Site) -> Result<OpenDoor> {
    OpenDoor::open(door, site, &SyncJson::new().mapping(merged(site))).await
}

/// The names of a listing in JSON.
fn names(body: &[u8]) -> Result<Vec<String>> {
    let page: Vec<Value> = serde_json::from_slice(body)?;
    let name = |entry: &Value| {
        let name = entry.get("name").or_else(|| entry.get("subdir")).and_then(Value::as_str);
        name.map(str::to_owned).with_context(|| format!("no name in {entry}"))
    };
    page.iter().map(name).collect()
}
