//! Pages follow what happens by themselves.

use swift_s3_tests::browser::{heading, link};

use super::*;

/// So long may it take until the page says what happened.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_node_that_dies_is_told_within_five_seconds_without_a_reload() -> Result<()> {
    let (browser, (site, control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let overview = ui.signed_in(&browser, Caller::Viewer).await?;
    let nodes = ui.signed_in(&browser, Caller::Viewer).await?;
    open(&overview, &ui, "/").await?;
    overview.wait_text("3 synced", SOON).await?;
    open(&nodes, &ui, "/nodes").await?;
    mark(&overview).await?;
    mark(&nodes).await?;
    let last = site.workers.last().context("three workers")?;
    last.kill().await?;
    overview.wait_text("1 not seen", AT_ONCE).await?;
    ensure!(overview.text().await?.contains(&last.node_id()), "{}", overview.text().await?);
    nodes.wait_text("not seen", AT_ONCE).await?;
    overview.screenshot("node-lost").await?;
    last.start_under(&[control.url()], &[])?;
    overview.wait_text("3 synced", SOON).await?;
    expect_same(&overview).await?;
    expect_same(&nodes).await
}

#[tokio::test]
async fn a_page_says_that_it_is_out_of_date_and_recovers() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = here.ui.signed_in(&browser, Caller::Viewer).await?;
    open(&page, &here.ui, "/nodes").await?;
    page.wait_text("storage0001", SOON).await?;
    mark(&page).await?;
    page.allow("ERR_");
    page.allow("Failed to load resource");
    here.control.kill().await?;
    page.wait_text("Not up to date", AT_ONCE).await?;
    here.control.restart().await?;
    here.fleet.all_connected().await?;
    page.wait_no_text("Not up to date", SOON).await?;
    page.wait_text("storage0001", SOON).await?;
    expect_same(&page).await
}

#[tokio::test]
async fn the_focus_survives_updates() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    here.fleet.set_heartbeat(Duration::from_millis(200));
    let page = here.ui.signed_in(&browser, Caller::Viewer).await?;
    open(&page, &here.ui, "/nodes").await?;
    page.find(&link("storage0004")).await?.focus().await?;
    let before = page.updates();
    wait::until("a few updates", SOON, async || {
        ensure!(page.updates() >= before + 3, "{} updates", page.updates() - before);
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let focused = page.evaluate("document.activeElement.textContent").await?;
    ensure!(focused == "storage0004", "the focus is on {focused}");
    page.press("Enter").await?;
    page.find(&heading("storage0004")).await?;
    Ok(())
}
