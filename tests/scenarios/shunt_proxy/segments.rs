//! The content of a large object is its segments', and so are the rights to read it.

use anyhow::{Context, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::sync_json::SyncJson;

use crate::CLUSTER;

/// A container with a static and a dynamic large object, archived both; their segments' container is nobody else's.
async fn archived() -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("public").await?;
    site.swift.put_container("segments").await?;
    let keys = KeyMapping::new(site.swift.account(), "public", None);
    let put = async |name: &str, content: &str, metadata: &[(&str, &str)]| {
        site.bucket.put(&keys.object_key(name), content.as_bytes().to_vec(), metadata, None).await
    };
    put("plain", "open", &[]).await?;
    let dynamic =
        [("x-object-manifest", "segments/d"), ("swift-source-dlo-etag", "00112233445566778899aabbccddeeff")];
    put("dynamic", "secret", &dynamic).await?;
    let fixed = [("x-static-large-object", "True"), ("swift-slo-etag", "00112233445566778899aabbccddeeff")];
    put("static", "secret", &fixed).await?;
    let companion = r#"[{"name": "/segments/s/1", "bytes": 6, "hash": "5ebe2294ecd0e0f08eab7690d2a6ee69"}]"#;
    let key = keys.manifest_key("static").unwrap_or_default();
    site.bucket.put(&key, companion.as_bytes().to_vec(), &[], None).await?;
    Ok(site)
}

async fn statuses(client: &SwiftClient, name: &str) -> Result<(u16, u16)> {
    let get = client.get_object("public", name).await?;
    ensure!(get.status == 200 || !get.body.windows(6).any(|window| window == b"secret"), "leaked");
    Ok((get.status, client.head_object("public", name).await?.status))
}

#[tokio::test]
async fn who_may_not_read_the_segments_may_not_read_what_they_make() -> Result<()> {
    let site = archived().await?;
    let config = SyncJson::new().mapping(site.mapping("public").set("merge_namespaces", true));
    for door in Door::ALL {
        let open = OpenDoor::open(door, &site, &config).await?;
        let (owner, anybody) = (open.client().await?, open.anonymous()?);
        owner.post_container("public", &[("X-Container-Read", ".r:*")]).await?;
        for name in ["plain", "dynamic", "static"] {
            assert_eq!(statuses(&owner, name).await?, (200, 200), "{door:?}: {name} for its owner");
        }
        assert_eq!(statuses(&anybody, "plain").await?, (200, 200), "{door:?}");
        // As in Swift: a HEAD of a static one looks at the manifest only.
        assert_eq!(statuses(&anybody, "dynamic").await?, (401, 401), "{door:?}");
        assert_eq!(statuses(&anybody, "static").await?, (409, 200), "{door:?}");
    }
    for door in Door::ALL {
        let open = OpenDoor::open(door, &site, &config).await?;
        let (owner, anybody) = (open.client().await?, open.anonymous()?);
        owner.post_container("segments", &[("X-Container-Read", ".r:*,.rlistings")]).await?;
        for name in ["dynamic", "static"] {
            assert_eq!(statuses(&anybody, name).await?, (200, 200), "{door:?}: {name} of open segments");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_signature_that_nobody_checks_opens_no_segments() -> Result<()> {
    let site = archived().await?;
    let config = SyncJson::new().mapping(site.mapping("public").set("merge_namespaces", true));
    for door in Door::ALL {
        let open = OpenDoor::open_without_tempurl(door, &site, &config).await?;
        let (owner, anybody) = (open.client().await?, open.anonymous()?);
        owner.post_container("public", &[("X-Container-Read", ".r:*")]).await?;
        for (name, refused) in [("dynamic", 401), ("static", 409)] {
            for query in
                ["temp_url_sig=x&temp_url_expires=1", "temp_url_sig=x", "temp%5Furl_sig=&temp_url_expires"]
            {
                let path = format!("/v1/{}/public/{name}?{query}", site.swift.account());
                let got = anybody.send_raw("GET", &path, &[], None).await?;
                assert_eq!(got.status, refused, "{door:?}: {path}: {got:?}");
                // Who may read the segments gets them, whatever else the request says.
                let token = owner.token().context("the owner has signed in")?;
                let got = owner.send_raw("GET", &path, &[("X-Auth-Token", token)], None).await?;
                assert_eq!(got.status, 200, "{door:?}: the owner: {path}: {got:?}");
                assert_eq!(got.body, "secret", "{door:?}: the owner: {path}");
            }
        }
    }
    Ok(())
}
