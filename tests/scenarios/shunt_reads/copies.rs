//! Copies of archived objects.

use anyhow::{Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;

use super::{Reads, content, expect};

#[tokio::test]
async fn archived_objects_are_copied_with_their_metadata() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let headers =
        [("X-Object-Meta-Colour", "grün"), ("Content-Type", "text/x"), ("Content-Encoding", "x-none")];
    let body = content(100_000);
    reads.archive("é o", &body, &headers).await?;

    let copied =
        reads.ask("COPY", "é o", &[("Destination", "other/one"), ("X-Object-Meta-New", "1")]).await?;
    expect(&copied, 201)?;
    ensure!(copied.header("x-copied-from") == Some("c/%C3%A9%20o"), "{copied:?}");
    ensure!(copied.header("x-copied-from-account") == Some(reads.site.swift.account()), "{copied:?}");
    let one = reads.site.swift.get_object("other", "one").await?;
    expect(&one, 200)?;
    ensure!(one.body == body);
    for (name, value) in [
        ("x-object-meta-colour", "grün"),
        ("x-object-meta-new", "1"),
        ("content-type", "text/x"),
        ("content-encoding", "x-none"),
    ] {
        ensure!(one.header(name) == Some(value), "{name}: {one:?}");
    }

    let put = [("X-Copy-From", "c/%C3%A9%20o"), ("X-Fresh-Metadata", "true"), ("X-Object-Meta-New", "2")];
    let copied = reads.client.object_request("PUT", "other", "two", "", &put, None).await?;
    expect(&copied, 201)?;
    let two = reads.site.swift.get_object("other", "two").await?;
    ensure!(two.body == body && two.header("x-object-meta-colour").is_none(), "{:?}", two.headers);
    ensure!(two.header("x-object-meta-new") == Some("2") && two.header("content-type") == Some("text/x"));

    // Into a merged container, and a part only.
    let put = [("X-Copy-From", "/c/%C3%A9%20o"), ("Range", "bytes=10-19")];
    expect(&reads.client.object_request("PUT", "c", "part", "", &put, None).await?, 201)?;
    ensure!(reads.site.swift.get_object("c", "part").await?.body == &body[10..20]);
    Ok(())
}

#[tokio::test]
async fn conditions_on_the_source_and_missing_sources_are_answered_as_ever() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    reads.archive("o", "archived", &[]).await?;
    let to = ("Destination", "other/x");
    expect(&reads.ask("COPY", "o", &[to, ("If-Match", "other")]).await?, 412)?;
    expect(
        &reads.ask("COPY", "o", &[to, ("If-Modified-Since", "Sun, 06 Nov 2044 08:49:37 GMT")]).await?,
        304,
    )?;
    expect(&reads.ask("COPY", "nowhere", &[to]).await?, 404)?;
    expect(&reads.ask("COPY", "o", &[("Destination", "nowhere/x")]).await?, 404)?;
    expect(&reads.ask("COPY", "o", &[]).await?, 412)?;
    expect(&reads.site.swift.head_object("other", "x").await?, 404)?;
    // A local source is Swift's own to copy.
    reads.site.swift.put_object("c", "local", "here", &[]).await?;
    reads.site.faults.forget();
    expect(&reads.ask("COPY", "local", &[to]).await?, 201)?;
    ensure!(reads.site.faults.requests().total() == 0);
    Ok(())
}

#[tokio::test]
async fn large_objects_are_copied_as_contents() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let (first, second) = (content(5 << 20), content(1_000));
    reads.put_slo("slo", &[("1", first.clone()), ("2", second.clone())], &[]).await?;
    reads.carry().await?;
    expect(&reads.site.swift.head_object("c", "slo").await?, 404)?;
    expect(&reads.ask("COPY", "slo", &[("Destination", "other/whole")]).await?, 201)?;
    let whole = reads.site.swift.get_object("other", "whole").await?;
    ensure!(whole.body == [first, second].concat() && whole.header("x-static-large-object").is_none());
    Ok(())
}

#[tokio::test]
async fn a_source_that_breaks_leaves_nothing_behind() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    reads.archive("o", content(200_000), &[]).await?;
    reads.site.faults.inject(Rule::new(Fault::TruncateAnswer(100)).on(Operation::Get));
    let copied = reads.ask("COPY", "o", &[("Destination", "other/x")]).await?;
    ensure!(copied.status >= 500, "{copied:?}");
    expect(&reads.site.swift.head_object("other", "x").await?, 404)
}
