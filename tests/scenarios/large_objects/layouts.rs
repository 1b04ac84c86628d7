//! How manifests of every kind become one remote object.

use super::*;

#[tokio::test]
async fn whole_segments_become_the_parts_of_an_upload() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        let mut entries = Vec::new();
        for (name, content) in
            [("é/1", vec![b'A'; 5 * MIB]), ("é/2", vec![b'B'; 5 * MIB]), ("é/3", vec![b'C'; 1024])]
        {
            entries.push(segment(&site, name, content).await?);
        }
        let headers = [("X-Object-Meta-Color", "red"), ("Content-Type", "test/large")];
        put_slo(&site.swift, "c", "slo-object", &entries, &headers).await?;
        site.sync().await?;
        let remote = expect_carried(&site, "slo-object").await.with_context(|| format!("{server:?}"))?;
        ensure!(remote.etag == "1c3dafcf2149c7b623d2361636f6528c-3", "{}", remote.etag);
        ensure!(remote.metadata["x-static-large-object"] == "True", "{:?}", remote.metadata);
        ensure!(!remote.metadata.contains_key("swift-slo-etag"), "{:?}", remote.metadata);
        let companion = companion(&site, "slo-object").await?.context("no companion")?;
        ensure!(
            companion.body == stored_manifest(&site, "c", "slo-object").await?,
            "the companion is not the manifest"
        );
        expect_restorable(&site, "slo-object").await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_segment_is_an_upload_of_one_part() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        let only = segment(&site, "only", b"tiny".to_vec()).await?;
        put_slo(&site.swift, "c", "one", &[only], &[]).await?;
        site.sync().await?;
        let remote = expect_carried(&site, "one").await?;
        ensure!(remote.etag.ends_with("-1"), "{}", remote.etag);
        expect_restorable(&site, "one").await?;
    }
    Ok(())
}

#[tokio::test]
async fn segments_that_s3_does_not_take_as_parts_are_cut_anew() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        // A small one in the middle, ranges, inline data, a nested manifest and a range of it.
        let big = segment(&site, "big", filled(6 * MIB, 1)).await?;
        let small = segment(&site, "small", filled(10, 2)).await?;
        put_slo(&site.swift, "c", "small in the middle", &[big.clone(), small.clone(), big.clone()], &[])
            .await?;
        let mut part = big.clone();
        part["range"] = json!("100-1048675");
        let data = json!({"data": "aW5saW5l"});
        put_slo(&site.swift, "c", "ranges", &[part, data.clone(), small.clone()], &[]).await?;
        put_slo(&site.swift, "s", "inner", &[small.clone(), big.clone(), data], &[]).await?;
        let nested = json!({"path": "/s/inner"});
        let nested_part = json!({"path": "/s/inner", "range": "5-2000000"});
        put_slo(&site.swift, "c", "nested", &[nested.clone(), small.clone()], &[("X-Object-Meta-A", "b")])
            .await?;
        put_slo(&site.swift, "c", "nested range", &[nested_part, nested], &[]).await?;
        site.sync().await?;
        for name in ["small in the middle", "ranges", "nested", "nested range"] {
            let remote = expect_carried(&site, name).await.with_context(|| format!("{server:?}"))?;
            let manifest = stored_manifest(&site, "c", name).await?;
            ensure!(remote.metadata["swift-slo-etag"] == md5_hex(&manifest), "{name}: {:?}", remote.metadata);
            if name != "ranges" {
                expect_restorable(&site, name).await.with_context(|| name.to_owned())?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_content_above_64_mib_is_cut_into_legal_parts() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let big = segment(&site, "big", filled(20 * MIB, 3)).await?;
    let small = segment(&site, "small", filled(1000, 4)).await?;
    let mut part = big.clone();
    part["range"] = json!("1-8388608");
    let entries = [small.clone(), big.clone(), part, big.clone(), small, big];
    put_slo(&site.swift, "c", "o", &entries, &[]).await?;
    site.sync().await?;
    let remote = expect_carried(&site, "o").await?;
    ensure!(remote.etag.contains('-'), "{}", remote.etag);
    expect_restorable(&site, "o").await
}

#[tokio::test]
async fn a_thousand_tiny_segments_are_one_object() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    let mut entries = Vec::new();
    for number in 0..1000_u32 {
        entries
            .push(segment(&site, &format!("{number:04}"), format!("segment {number}\n").into_bytes()).await?);
    }
    put_slo(&site.swift, "c", "many", &entries, &[]).await?;
    site.sync().await?;
    expect_carried(&site, "many").await?;
    Ok(())
}
