//! POST of archived objects.

use anyhow::{Context, Result, ensure};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;

use super::Front;

#[tokio::test]
async fn a_post_replaces_the_metadata_of_an_archived_object() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let front = Front::start(server).await?;
        let headers =
            [("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("X-Object-Meta-Old", "o")];
        front.archive("o", b"content", &headers).await?;
        let posted = [("X-Object-Meta-New", "grün"), ("Content-Disposition", "inline")];
        let answer = front.client.object_request("POST", "c", "o", "", &posted, None).await?;
        ensure!(answer.status == 202, "{server:?}: {}", answer.status);
        let seen = front.client.head_object("c", "o").await?.success()?;
        let text = |name: &str| {
            seen.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        ensure!(text("content-type").as_deref() == Some("text/html"), "{server:?}: {:?}", seen.headers);
        ensure!(text("x-object-meta-new").as_deref() == Some("grün"), "{server:?}: {:?}", seen.headers);
        ensure!(text("content-disposition").as_deref() == Some("inline"), "{server:?}: {:?}", seen.headers);
        ensure!(text("x-object-meta-old").is_none(), "{server:?}: {:?}", seen.headers);
        ensure!(text("content-encoding").is_none(), "{server:?}: {:?}", seen.headers);
        // It comes back with them, and is found equal when it is archived again.
        front.read("o", b"content").await?;
        let local = front.wait_local("o", b"content").await?;
        ensure!(
            local.headers.get("x-object-meta-new").is_some_and(|value| value.as_bytes() == "grün".as_bytes()),
            "{:?}",
            local.headers
        );
        front.site.faults.forget();
        front.site.sync().await?;
        let requests = front.site.faults.requests();
        ensure!(requests.of(Operation::Put) + requests.of(Operation::Copy) == 0, "{server:?}: {requests}");
        front.expect_gone("o").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_post_to_what_is_nowhere_or_cannot_be_is_refused() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[("X-Object-Meta-Old", "o")]).await?;
    let post = async |name: &str, header: (&str, &str)| {
        let answer = front.client.object_request("POST", "c", name, "", &[header], None).await?;
        Ok::<_, anyhow::Error>(answer.status)
    };
    ensure!(post("nothing", ("X-Object-Meta-A", "1")).await? == 404, "there is nothing");
    ensure!(post("o", ("X-Delete-At", "1")).await? == 400, "that time has passed");
    let names: Vec<String> = (0..20).map(|number| format!("X-Object-Meta-N{number}")).collect();
    let value = "v".repeat(200);
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let answer = front.client.object_request("POST", "c", "o", "", &many, None).await?;
    ensure!(answer.status == 400, "more than S3 keeps: {}", answer.status);
    let seen = front.client.head_object("c", "o").await?.success()?;
    ensure!(seen.header("x-object-meta-old") == Some("o"), "{:?}", seen.headers);
    Ok(())
}

#[tokio::test]
async fn an_expiry_that_a_post_sets_counts_for_the_object_that_comes_back() -> Result<()> {
    let front = Front::start(S3ServerKind::Memory).await?;
    front.archive("o", b"content", &[]).await?;
    front.client.post_object("c", "o", &[("X-Delete-After", "1000")]).await?;
    front.read("o", b"content").await?;
    let local = front.wait_local("o", b"content").await?;
    local.header("x-delete-at").context("it does not expire")?;
    Ok(())
}
