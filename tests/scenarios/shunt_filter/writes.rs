//! COPY of archived sources, and DELETE and POST where the mapping wants them, through the filter.

use anyhow::{Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor, User};
use swift_s3_tests::sync_json::SyncJson;

use super::{SEGMENTS, archived_site, merged, names, open};

#[tokio::test]
async fn archived_sources_are_copied() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let client = open.client().await?;
    let headers = [("Destination", "desk/by-copy"), ("X-Object-Meta-New", "yes")];
    let copy = client.object_request("COPY", "box", "plain", "", &headers, None).await?;
    ensure!(copy.status == 201, "{copy:?}");
    ensure!(copy.header("x-copied-from") == Some("box/plain"), "{:?}", copy.headers);
    let headers =
        [("X-Copy-From", "/box/%C3%A9%20b/%2B%2541"), ("X-Fresh-Metadata", "true"), ("Content-Length", "0")];
    client.object_request("PUT", "desk", "by-put", "", &headers, None).await?.success()?;
    let headers = [("Destination", "desk/whole")];
    client.object_request("COPY", "box", "slo", "", &headers, None).await?.success()?;
    let got = site.swift.get_object("desk", "by-copy").await?;
    ensure!(got.body == "content of plain", "{got:?}");
    let colour =
        (got.header("x-object-meta-colour"), got.header("x-object-meta-new"), got.header("content-type"));
    ensure!(colour == (Some("grün"), Some("yes"), Some("text/x-test")), "{:?}", got.headers);
    let got = site.swift.get_object("desk", "by-put").await?;
    ensure!(got.body == "odd name" && got.header("x-object-meta-colour").is_none(), "{got:?}");
    let got = site.swift.get_object("desk", "whole").await?;
    ensure!(got.body == SEGMENTS.concat() && got.header("x-static-large-object").is_none(), "{got:?}");
    // Neither the source nor the place of the copy is anybody's who may not use them.
    let reader = open.as_user(User::Reader).await?;
    let refused =
        reader.object_request("COPY", "box", "plain", "", &[("Destination", "desk/no")], None).await?;
    ensure!(matches!(refused.status, 401 | 403), "{refused:?}");
    let missing =
        client.object_request("COPY", "box", "plain", "", &[("Destination", "nowhere/no")], None).await?;
    ensure!(missing.status == 404, "{missing:?}");
    let missing =
        client.object_request("COPY", "box", "never there", "", &[("Destination", "desk/no")], None).await?;
    ensure!(missing.status == 404, "{missing:?}");
    ensure!(site.swift.head_object("desk", "no").await?.status == 404);
    Ok(())
}

async fn listed(open: &OpenDoor) -> Result<Vec<String>> {
    let listed = open.client().await?.list("box").await?;
    Ok(listed.into_iter().map(|entry| entry.name).collect())
}

#[tokio::test]
async fn deletes_and_posts_reach_archived_objects_where_the_mapping_says_so() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let config = SyncJson::new().mapping(merged(&site).set("merge_writes", true));
    let open = OpenDoor::open(Door::Filter, &site, &config).await?;
    let client = open.client().await?;
    client.post_object("box", "plain", &[("X-Object-Meta-New", "ü"), ("Content-Type", "text/new")]).await?;
    let head = client.head_object("box", "plain").await?;
    let found = (head.status, head.header("x-object-meta-new"), head.header("x-object-meta-colour"));
    ensure!(found == (200, Some("ü"), None), "{head:?}");
    let stranger = open.as_user(User::Stranger).await?;
    for method in ["DELETE", "POST"] {
        let refused = stranger.object_request(method, "box", "plain", "", &[], None).await?;
        ensure!(refused.status == 403, "{method}: {refused:?}");
    }
    ensure!(client.get_object("box", "plain").await?.status == 200);
    ensure!(client.delete_object("box", "plain").await?.status == 204);
    ensure!(client.delete_object("box", "plain").await?.status == 404);
    ensure!(client.get_object("box", "plain").await?.status == 404);
    let gone = client.object_request("DELETE", "box", "slo", "multipart-manifest=delete", &[], None).await?;
    ensure!(gone.status == 200, "{gone:?}");
    ensure!(client.get_object("box", "slo").await?.status == 404);
    ensure!(listed(&open).await? == ["empty", "folder/inner", "local", "é b/+%41"]);
    Ok(())
}

#[tokio::test]
async fn without_that_key_writes_of_archived_objects_are_swifts() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let client = open.client().await?;
    ensure!(client.delete_object("box", "plain").await?.status == 404);
    let posted = client.object_request("POST", "box", "plain", "", &[("X-Object-Meta-A", "b")], None).await?;
    ensure!(posted.status == 404, "{posted:?}");
    ensure!(client.get_object("box", "plain").await?.body == "content of plain");
    let path = format!("/v1/{}/box?format=json&prefix=plain", site.swift.account());
    let token = client.token().unwrap_or_default().to_owned();
    let page = client.send_raw("GET", &path, &[("X-Auth-Token", &token)], None).await?;
    ensure!(names(&page.body)? == ["plain"]);
    Ok(())
}
