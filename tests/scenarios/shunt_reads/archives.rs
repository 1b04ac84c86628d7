//! Objects in an archive of their remote (Glacier).

use anyhow::{Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;

use super::{Reads, expect};
use crate::CLUSTER;

const WISH: &str = "X-Cloud-Sync-Restore-Request";

async fn frozen(server: S3ServerKind) -> Result<Reads> {
    let site = Site::on(CLUSTER.get().await?, server).await?;
    let mapping = site.mapping("c").set("storage_class", "GLACIER");
    let reads = Reads::with(site, mapping).await?;
    reads.archive("o", "cold", &[("X-Object-Meta-Colour", "blue")]).await?;
    Ok(reads)
}

#[tokio::test]
async fn an_object_in_an_archive_is_refused_with_what_to_do_and_its_state_is_told() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let reads = frozen(server).await?;
        for headers in [vec![], vec![("Range", "bytes=0-1")], vec![("Range", "bytes=-1")]] {
            let answer = reads.ask("GET", "o", &headers).await?;
            expect(&answer, 409)?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(text.contains("GLACIER") && text.contains(WISH), "{text}");
        }
        let head = reads.ask("HEAD", "o", &[]).await?;
        expect(&head, 200)?;
        ensure!(head.header("x-amz-storage-class") == Some("GLACIER"), "{head:?}");
        ensure!(head.header("x-object-meta-colour") == Some("blue"), "{head:?}");
        // What needs no content is answered.
        expect(&reads.ask("GET", "o", &[("If-None-Match", "*")]).await?, 304)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_object_is_brought_out_of_its_archive_when_a_writer_asks() -> Result<()> {
    let reads = frozen(S3ServerKind::Moto).await?;
    for wrong in ["days=0", "tier=quick", "nonsense"] {
        expect(&reads.ask("POST", "o", &[(WISH, wrong)]).await?, 400)?;
    }
    let taken = reads.ask("POST", "o", &[(WISH, "days=2; tier=Bulk")]).await?;
    expect(&taken, 202)?;
    let head = reads.ask("HEAD", "o", &[]).await?;
    ensure!(head.header("x-amz-restore").is_some(), "{head:?}");
    let answer = reads.ask("GET", "o", &[]).await?;
    expect(&answer, 200)?;
    ensure!(answer.body == "cold");
    Ok(())
}

#[tokio::test]
async fn what_is_in_no_archive_is_not_brought_out_and_keeps_its_metadata() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Moto).await?;
    reads.archive("o", "warm", &[]).await?;
    expect(&reads.ask("POST", "o", &[(WISH, "days=1")]).await?, 409)?;
    expect(&reads.ask("POST", "nowhere", &[(WISH, "days=1")]).await?, 404)?;
    reads.site.swift.put_object("c", "local", "here", &[("X-Object-Meta-Colour", "red")]).await?;
    expect(&reads.ask("POST", "local", &[(WISH, "days=1")]).await?, 409)?;
    let elsewhere = [("X-Object-Meta-Colour", "red")];
    reads.site.swift.put_object("other", "local", "here", &elsewhere).await?;
    let wish = [(WISH, "days=1")];
    expect(&reads.client.object_request("POST", "other", "local", "", &wish, None).await?, 409)?;
    for container in ["c", "other"] {
        let head = reads.client.head_object(container, "local").await?;
        ensure!(head.header("x-object-meta-colour") == Some("red"), "{head:?}");
    }
    Ok(())
}
