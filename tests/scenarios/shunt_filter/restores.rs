//! Restores through the filter: below the authentication, and without any other way into Swift.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor, User};
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use super::{SEGMENTS, archived_site, merged};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_read_object_is_local_again() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let config = SyncJson::new().mapping(merged(&site).set("restore_object", true));
    let open = OpenDoor::open(Door::Filter, &site, &config).await?;
    let owner = open.client().await?;
    // By somebody who may only read.
    let acl = open.login(User::Reader);
    owner.post_container("box", &[("X-Container-Read", &acl)]).await?.success()?;
    let reader = open.as_user(User::Reader).await?;
    let part = reader.object_request("GET", "box", "plain", "", &[("Range", "bytes=0-6")], None).await?;
    ensure!(part.status == 206 && part.body == "content", "{part:?}");
    ensure!(reader.head_object("box", "empty").await?.status == 200);
    for (name, content) in [("plain", "content of plain"), ("empty", ""), ("é b/+%41", "odd name")] {
        ensure!(site.swift.head_object("box", name).await?.status == 404, "{name} came back too early");
        let got = reader.get_object("box", name).await?;
        ensure!(got.body == content, "{got:?}");
        wait::until("the object local again", LIMIT, async || {
            let local = site.swift.get_object("box", name).await?;
            ensure!(local.status == 200, "{name}: {}; the shunt: {}", local.status, open.shunt.log_text());
            ensure!(
                local.body == content && local.header("x-object-meta-colour") == Some("grün"),
                "{local:?}"
            );
            Ok(())
        })
        .await?;
        site.faults.forget();
        ensure!(owner.get_object("box", name).await?.body == content);
        ensure!(site.faults.requests().about_objects() == 0, "{}", site.faults.requests());
    }
    Ok(())
}

#[tokio::test]
async fn a_read_large_object_is_local_again_with_its_segments() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let config = SyncJson::new().mapping(merged(&site).set("restore_object", true));
    let open = OpenDoor::open(Door::Filter, &site, &config).await?;
    let owner = open.client().await?;
    ensure!(owner.get_object("box", "slo").await?.body == SEGMENTS.concat());
    wait::until("the object local again", LIMIT, async || {
        let local = site.swift.get_object("box", "slo").await?;
        ensure!(local.status == 200, "{}; the shunt: {}", local.status, open.shunt.log_text());
        ensure!(
            local.body == SEGMENTS.concat() && local.header("x-static-large-object").is_some(),
            "{local:?}"
        );
        Ok(())
    })
    .await?;
    for (number, content) in SEGMENTS.iter().enumerate() {
        let local = site.swift.get_object("box_segments", &format!("slo/{number}")).await?;
        ensure!(local.body == *content, "{number}: {local:?}");
    }
    Ok(())
}
