//! The path of somebody who is asked at night why an object is not there.

use swift_s3_proto::v1::RetryFailuresRequest;
use swift_s3_tests::browser::{By, button, link, row};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;

use super::*;

#[tokio::test]
async fn a_stuck_object_is_found_understood_tried_again_and_arrives() -> Result<()> {
    let (browser, (site, control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let refusal = site
        .faults
        .inject(Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing("stuck"));
    for name in ["good", "reports/stuck.pdf"] {
        site.swift.put_object("c", name, "content", &[]).await?;
    }
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    open(&page, &ui, "/").await?;
    mark(&page).await?;
    // It shows up by itself, and leads to the reason.
    page.wait_text("set aside after failures", SOON).await?;
    expect_same(&page).await?;
    page.screenshot("stuck-overview").await?;
    page.click(&link("Failures")).await?;
    page.click(&link("remote_refused")).await?;
    page.wait_text("reports/stuck.pdf", SOON).await?;
    ensure!(!page.text().await?.contains("c/good"), "{}", page.text().await?);
    // The remote's own answer.
    page.find(&row("reports/stuck.pdf").within(By::role("table"))).await?;
    page.wait_text("InvalidArgument", SOON).await?;
    page.screenshot("stuck-failures").await?;
    let name = format!("{}/c/reports/stuck.pdf", site.swift.account());
    page.click(&link(&name)).await?;
    page.wait_text("Last failure", SOON).await?;
    let text = page.text().await?;
    for part in ["InvalidArgument", "At the remote", "handles the name first"] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    page.screenshot_all("stuck-object").await?;
    // Whoever mended the remote need not wait for the next try.
    site.faults.remove(refusal);
    page.click(&button("Try again now")).await?;
    page.wait_text("tried again now, on", SOON).await?;
    site.wait_equal("c", SOON).await?;
    open(&page, &ui, "/failures").await?;
    mark(&page).await?;
    page.wait_text("Nothing failed.", SOON).await?;
    ensure!(control.mapping().await?.failures == 0, "still told");
    Ok(())
}

#[tokio::test]
async fn all_failures_of_a_reason_are_tried_again_at_once() -> Result<()> {
    let (browser, (site, _control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let refusal = site
        .faults
        .inject(Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing("stuck"));
    for number in 0..5 {
        site.swift.put_object("c", &format!("stuck{number}"), "content", &[]).await?;
    }
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    open(&page, &ui, "/failures?reason=remote_refused").await?;
    page.wait_text("5 that match", SOON).await?;
    site.faults.remove(refusal);
    page.click(&button("Try all 5 again now")).await?;
    site.wait_equal("c", SOON).await?;
    page.wait_text("Nothing failed.", SOON).await
}

#[tokio::test]
async fn trying_again_is_about_its_own_line_whatever_went_meanwhile() -> Result<()> {
    let (browser, (site, control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let refuse =
        |part| Rule::new(Fault::error(400, "InvalidArgument")).on(Operation::Put).key_containing(part);
    let [first, second] = ["first", "second"].map(|part| site.faults.inject(refuse(part)));
    // Browsers change line breaks in what they send.
    for name in ["a first", "b\nsecond"] {
        site.swift.put_object("c", name, "content", &[]).await?;
    }
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    open(&page, &ui, "/failures").await?;
    mark(&page).await?;
    page.wait_text("2 that match", SOON).await?;
    site.faults.remove(first);
    let again = RetryFailuresRequest { object: "a first".to_owned(), ..RetryFailuresRequest::default() };
    control.status()?.retry_failures(again).await?;
    page.wait_text("1 that match", SOON).await?;
    expect_same(&page).await?;
    site.faults.remove(second);
    page.click(&By::role("button").containing("second")).await?;
    page.wait_text("1 change tried again now", SOON).await?;
    site.wait_equal("c", SOON).await
}

#[tokio::test]
async fn a_paused_mapping_carries_nothing_until_it_is_resumed() -> Result<()> {
    let (browser, (site, control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    page.click(&link("Mappings")).await?;
    page.click(&link(&format!("{}/c", site.swift.account()))).await?;
    page.click(&button("Pause")).await?;
    page.find(&button("Resume")).await?;
    page.wait_text("paused", SOON).await?;
    ensure!(control.mapping().await?.is_paused, "not paused");
    site.swift.put_object("c", "waits", "content", &[]).await?;
    // One row behind, and it stays behind.
    wait::until("the row to be seen", SOON, async || {
        let rows = control.mapping().await?.lag.map_or(0, |lag| lag.rows);
        ensure!(rows == 1, "{rows} rows behind");
        Ok(())
    })
    .await?;
    ensure!(site.bucket.keys("").await?.is_empty(), "it was carried");
    page.screenshot("mapping-paused").await?;
    page.click(&button("Resume")).await?;
    site.wait_equal("c", SOON).await?;
    page.find(&button("Pause")).await?;
    Ok(())
}
