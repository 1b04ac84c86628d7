//! Dynamic large objects: what lies below the prefix when they are carried becomes one object.

use swift_s3_tests::operation::Operation;

use super::*;

async fn put_dlo(site: &Site, name: &str, source: &str) -> Result<()> {
    let headers = [("X-Object-Manifest", source), ("Content-Length", "0"), ("X-Object-Meta-Kind", "dlo")];
    site.swift.put_object("c", name, "", &headers).await?;
    Ok(())
}

#[tokio::test]
async fn the_content_is_what_lies_below_exactly_the_prefix() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = large(server).await?;
        for (name, content) in
            [("a/é 1", "one "), ("a/é 2", "two "), ("a/", "zero "), ("ab/3", "no"), ("a", "no")]
        {
            segment(&site, name, content.as_bytes().to_vec()).await?;
        }
        put_dlo(&site, "joined", "s/a/").await?;
        put_dlo(&site, "quoted", "s/a%2F%C3%A9%20").await?;
        put_dlo(&site, "empty", "s/nothing/").await?;
        put_dlo(&site, "no container", "nowhere/x").await?;
        site.sync().await?;
        for (name, content) in [("joined", "zero one two "), ("quoted", "one two "), ("empty", "")] {
            let remote = expect_carried(&site, name).await.with_context(|| format!("{server:?}"))?;
            ensure!(remote.body == content, "{name}: {:?}", remote.body);
            ensure!(remote.metadata.contains_key("x-object-manifest"), "{name}: {:?}", remote.metadata);
        }
        let joined = remote(&site, "joined").await?;
        ensure!(joined.metadata["x-object-manifest"] == "s/a/", "{:?}", joined.metadata);
        let companion = companion(&site, "joined").await?.context("no companion")?;
        let rebuilt = rebuild(&companion.body, joined.length)?;
        let names: Vec<&str> = rebuilt.segments.iter().map(|segment| segment.object.as_str()).collect();
        ensure!(names == ["a/", "a/é 1", "a/é 2"], "{names:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_content_above_64_mib_goes_in_parts_and_is_found_again() -> Result<()> {
    let site = large(S3ServerKind::Memory).await?;
    for number in 0..7_u8 {
        segment(&site, &format!("d/{number}"), filled(10 * MIB, number)).await?;
    }
    put_dlo(&site, "o", "s/d/").await?;
    site.sync().await?;
    expect_carried(&site, "o").await?;
    for worker in &site.workers {
        worker.forget()?;
    }
    site.faults.forget();
    site.sync().await?;
    let requests = site.faults.requests();
    ensure!(requests.of(Operation::UploadPart) + requests.of(Operation::Put) == 0, "{requests}");
    // More segments make another content as soon as the manifest's row is handled again.
    segment(&site, "d/7", filled(100, 9)).await?;
    site.swift
        .post_object("c", "o", &[("X-Object-Meta-Kind", "longer"), ("X-Object-Manifest", "s/d/")])
        .await?;
    site.sync().await?;
    let remote = expect_carried(&site, "o").await?;
    ensure!(remote.length == 70 * MIB as u64 + 100, "{}", remote.length);
    Ok(())
}
