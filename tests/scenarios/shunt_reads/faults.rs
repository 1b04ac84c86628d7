//! A remote that breaks, lies, or is away: the right status, and never a clean end to a short or wrong body.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, Network, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::wait;

use super::{Reads, content, expect, figure};
use crate::CLUSTER;

const LENGTH: usize = 300_000;

async fn archived() -> Result<(Reads, Vec<u8>)> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let content = content(LENGTH);
    reads.archive("o", &content, &[]).await?;
    reads.site.faults.forget();
    Ok((reads, content))
}

fn on_get(fault: Fault) -> Rule {
    Rule::new(fault).on(Operation::Get)
}

#[tokio::test]
async fn a_content_that_breaks_at_any_byte_is_taken_up_again_where_it_broke() -> Result<()> {
    let (reads, content) = archived().await?;
    for at in [0, 1, 4_095, 65_536, 150_001, 299_999] {
        for (headers, wanted) in
            [(vec![], &content[..]), (vec![("Range", "bytes=1000-299998")], &content[1_000..299_999])]
        {
            reads.site.faults.heal();
            reads.site.faults.inject(on_get(Fault::TruncateAnswer(at)).times(1));
            let answer = reads.ask("GET", "o", &headers).await.with_context(|| format!("cut at {at}"))?;
            ensure!(answer.body == wanted, "cut at {at}: {} bytes", answer.body.len());
        }
    }
    ensure!(figure(&reads.shunt, "swift_s3_shunt_resumed_total").await? >= 3);
    // Several ranges, each cut once.
    reads.site.faults.heal();
    reads.site.faults.inject(on_get(Fault::TruncateAnswer(10)).times(2));
    let answer = reads.ask("GET", "o", &[("Range", "bytes=0-99,200-299,500-599")]).await?;
    expect(&answer, 206)?;
    for part in [&content[..100], &content[200..300], &content[500..600]] {
        ensure!(answer.body.windows(100).any(|window| window == part), "a range is missing");
    }
    Ok(())
}

#[tokio::test]
async fn a_content_that_keeps_breaking_breaks_the_clients_connection() -> Result<()> {
    let (reads, _) = archived().await?;
    // It breaks at once, after the head, or in the midst; a cut may overtake the head, and then nothing was promised.
    reads.site.faults.inject(on_get(Fault::TruncateAnswer(100)));
    match reads.ask("GET", "o", &[]).await {
        Ok(answer) => ensure!(answer.status >= 500, "a clean end after {} bytes", answer.body.len()),
        Err(error) => ensure!(format!("{error:#}").contains("body"), "{error:#}"),
    }
    reads.site.faults.heal();
    wait::until("the remote to be asked again", Duration::from_secs(90), async || {
        expect(&reads.ask("GET", "o", &[]).await?, 200)
    })
    .await?;
    reads.site.faults.inject(on_get(Fault::error(500, "InternalError")));
    reads.site.faults.inject(on_get(Fault::StallAnswer(100_000)).times(1));
    let answer = reads.ask("GET", "o", &[]).await;
    ensure!(answer.is_err(), "a clean end after {} bytes", answer?.body.len());
    Ok(())
}

#[tokio::test]
async fn an_object_that_is_replaced_meanwhile_is_not_stitched_together() -> Result<()> {
    let (reads, _) = archived().await?;
    reads.site.faults.inject(on_get(Fault::wrong_etag()));
    reads.site.faults.inject(on_get(Fault::TruncateAnswer(100_000)).times(1));
    let answer = reads.ask("GET", "o", &[]).await;
    ensure!(answer.is_err(), "two objects became one of {} bytes", answer?.body.len());
    Ok(())
}

#[tokio::test]
async fn a_wrong_byte_breaks_the_clients_connection() -> Result<()> {
    let (reads, content) = archived().await?;
    for at in [0, 150_000, 299_999] {
        reads.site.faults.heal();
        reads.site.faults.inject(on_get(Fault::CorruptAnswer(at)));
        let answer = reads.ask("GET", "o", &[]).await;
        ensure!(answer.is_err(), "byte {at}: a clean end to a wrong content");
    }
    reads.site.faults.heal();
    ensure!(reads.ask("GET", "o", &[]).await?.body == content);
    Ok(())
}

#[tokio::test]
async fn a_content_that_stands_still_is_asked_for_again() -> Result<()> {
    let (reads, content) = archived().await?;
    reads.site.faults.inject(on_get(Fault::StallAnswer(70_000)).times(1));
    ensure!(reads.ask("GET", "o", &[]).await?.body == content);
    Ok(())
}

#[tokio::test]
async fn refusals_of_the_remote_are_never_the_clients_own() -> Result<()> {
    let table = [
        (Fault::denied(), 502),
        (Fault::error(401, "Unauthorized"), 502),
        (Fault::error(400, "ExpiredToken"), 502),
        (Fault::error(403, "InvalidAccessKeyId"), 502),
        (Fault::error(404, "NoSuchBucket"), 502),
        (Fault::error(404, "NoSuchKey"), 404),
        (Fault::error(500, "InternalError"), 502),
        (Fault::slow_down(), 503),
    ];
    let (reads, _) = archived().await?;
    for (fault, status) in table {
        for method in ["GET", "HEAD"] {
            reads.site.faults.heal();
            wait::until("the remote to be asked again", Duration::from_secs(30), async || {
                let healed = reads.ask("GET", "o", &[]).await?;
                expect(&healed, 200)
            })
            .await?;
            if fault == Fault::error(404, "NoSuchKey") {
                // Of an object only; the bucket is there.
                reads.site.faults.inject(Rule::new(fault.clone()).on(Operation::Get));
                reads.site.faults.inject(Rule::new(fault.clone()).on(Operation::Head));
            } else {
                reads.site.faults.inject(Rule::new(fault.clone()));
            }
            let answer = reads.ask(method, "o", &[]).await?;
            expect(&answer, status).with_context(|| format!("{method} {fault:?}"))?;
            ensure!(status != 503 || answer.header("retry-after").is_some(), "{answer:?}");
            ensure!(method == "GET" || answer.body.is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_that_is_away_is_told_and_left_alone_for_a_moment() -> Result<()> {
    let (reads, content) = archived().await?;
    reads.site.swift.put_object("c", "local", "here", &[]).await?;
    reads.site.faults.set_network(Network::Refuse);
    let first = reads.ask("GET", "o", &[]).await?;
    expect(&first, 502)?;
    wait::until("the remote to rest", Duration::from_secs(30), async || {
        let answer = reads.ask("GET", "o", &[]).await?;
        ensure!(answer.status == 503 && answer.header("retry-after").is_some(), "{}", answer.status);
        Ok(())
    })
    .await?;
    // What is local does not care.
    ensure!(reads.ask("GET", "local", &[]).await?.body == "here");
    reads.site.faults.heal();
    wait::until("the remote to be back", Duration::from_secs(90), async || {
        let answer = reads.ask("GET", "o", &[]).await?;
        ensure!(answer.status == 200 && answer.body == content, "{}", answer.status);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_transfer() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    reads.archive("o", content(20 << 20), &[]).await?;
    reads.site.faults.inject(on_get(Fault::SlowAnswer(1 << 20)));
    let before = sockets(reads.shunt.pid()?)?;
    let url = format!("{}/c/o", reads.client.storage_url());
    let mut child = std::process::Command::new("curl").args(["-s", "-o", "/dev/null", &url]).spawn()?;
    wait::until("the transfer to begin", Duration::from_secs(30), async || {
        ensure!(figure(&reads.shunt, "swift_s3_shunt_remote_content_bytes_total").await? > 0);
        Ok(())
    })
    .await?;
    child.kill()?;
    child.wait()?;
    // The connection to the remote is closed: it could not be used again.
    wait::until("its connections to be closed", Duration::from_secs(10), async || {
        let now = sockets(reads.shunt.pid()?)?;
        // The one that asks for figures may be kept.
        ensure!(now <= before + 1, "{now} sockets, {before} before");
        Ok(())
    })
    .await?;
    let sent = figure(&reads.shunt, "swift_s3_shunt_remote_content_bytes_total").await?;
    ensure!(sent < 20 << 20, "all of it was read");
    Ok(())
}

/// Open sockets of a process.
fn sockets(pid: u32) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = std::fs::read_link(entry?.path());
        count += usize::from(target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:")));
    }
    Ok(count)
}

#[tokio::test]
async fn a_big_content_of_a_slow_remote_comes_over_several_connections() -> Result<()> {
    let reads = Reads::on(S3ServerKind::Memory).await?;
    let content = content(30 << 20);
    reads.archive("o", &content, &[]).await?;
    reads.site.faults.inject(on_get(Fault::SlowAnswer(8 << 20)));
    // One of them breaks, too.
    reads.site.faults.inject(on_get(Fault::TruncateAnswer(1 << 20)).after(2).times(1));
    reads.site.faults.forget();
    let answer = reads.ask("GET", "o", &[]).await?;
    ensure!(answer.body == content, "{} bytes, or others", answer.body.len());
    let asked = reads.site.faults.requests().of(Operation::Get);
    ensure!(asked >= 6, "{asked} requests");
    Ok(())
}

#[tokio::test]
async fn of_a_bucket_that_is_missing_nothing_is_known_to_be_gone() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let mapping = site.mapping("c").set("aws_bucket", "removed-by-mistake");
    let reads = Reads::with(site, mapping).await?;
    let headers: [&[(&str, &str)]; 2] = [&[], &[("If-None-Match", "*")]];
    for (method, headers) in [("GET", headers[0]), ("GET", headers[1]), ("HEAD", headers[0])] {
        expect(&reads.ask(method, "o", headers).await?, 502)?;
    }
    // One that is there is asked for once, and not for each object.
    let reads = Reads::on(S3ServerKind::Memory).await?;
    reads.site.faults.forget();
    for name in ["o", "p", "q"] {
        expect(&reads.ask("HEAD", name, &[]).await?, 404)?;
    }
    let asked = reads.site.faults.requests();
    ensure!(asked.of(Operation::List) == 1 && asked.total() == 4, "{asked}");
    Ok(())
}
