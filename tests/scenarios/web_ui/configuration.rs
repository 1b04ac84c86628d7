//! The configuration is edited, checked, applied, followed to every node, and rolled back.

use swift_s3_proto::v1::GetConfigRequest;
use swift_s3_tests::browser::{By, button, link, textbox};

use super::*;

const DOCUMENT: &str = "Document (JSON)";

/// The document that is being edited, with one part replaced.
async fn edited(page: &Page, from: &str, to: &str) -> Result<()> {
    let document = page.find(&textbox(DOCUMENT)).await?.value().await?;
    ensure!(document.contains(from), "no {from} in {document}");
    page.fill(&textbox(DOCUMENT), &document.replacen(from, to, 1)).await
}

async fn in_force(control: &Control) -> Result<String> {
    Ok(control.config()?.get_config(GetConfigRequest::default()).await?.into_inner().document)
}

#[tokio::test]
async fn an_error_is_named_while_typing_and_a_change_reaches_every_node_and_is_rolled_back() -> Result<()> {
    let (browser, (site, control, ui)) =
        (Browser::start().await?, real(|mapping| mapping.set("exclude_pattern", "^tmp")).await?);
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    page.click(&link("Config")).await?;
    page.click(&link("Edit")).await?;
    let document = page.find(&textbox(DOCUMENT)).await?.value().await?;
    ensure!(!document.contains(site.access().secret.as_str()), "the secret shows");
    // An error is named at its place, before anything is sent.
    edited(&page, "\"^tmp\"", "\"^tmp(\"").await?;
    page.wait_text("containers[0].exclude_pattern", SOON).await?;
    page.wait_text("1 to mend", SOON).await?;
    page.screenshot("config-error").await?;
    // And when it is submitted all the same.
    page.click(&button("Check, and show what changes")).await?;
    page.wait_text("containers[0].exclude_pattern", SOON).await?;
    page.find(&textbox(DOCUMENT)).await?;
    ensure!(!page.has(&button("Apply to every node")).await?, "{}", page.text().await?);
    ensure!(control.revision().await? == 1, "applied");
    // Mended, the difference is shown, and applied.
    edited(&page, "\"^tmp(\"", "\"^secret\"").await?;
    page.wait_text("Right so far. 1 change.", SOON).await?;
    page.click(&button("Check, and show what changes")).await?;
    page.wait_text("This would change", SOON).await?;
    let text = page.text().await?;
    ensure!(text.contains("^tmp") && text.contains("^secret"), "{text}");
    page.fill(&By::role("textbox").containing("Why"), "hide what is secret").await?;
    page.screenshot("config-changes").await?;
    page.click(&button("Apply to every node")).await?;
    page.wait_text("Revision 2 is stored", SOON).await?;
    mark(&page).await?;
    page.wait_text("Revision 2 is in force on every connected node (3).", SOON).await?;
    expect_same(&page).await?;
    let text = page.text().await?;
    ensure!(text.contains("hide what is secret") && text.contains(Caller::Operator.name()), "{text}");
    page.screenshot("config-applied").await?;
    site.swift.put_object("c", "tmp", "content", &[]).await?;
    wait::until("the new pattern to be in force", SOON, async || {
        let keys = site.bucket.keys("").await?;
        ensure!(keys.iter().any(|key| key.ends_with("/tmp")), "{keys:?}");
        Ok(())
    })
    .await?;
    // Back to what it was.
    page.click(&link("1")).await?;
    page.wait_text("Against revision 2", SOON).await?;
    page.click(&button("Roll back to revision 1")).await?;
    page.wait_text("Revision 3 is in force on every connected node (3).", SOON).await?;
    ensure!(in_force(&control).await?.contains("^tmp"), "{}", in_force(&control).await?);
    control.wait_synced(3).await
}

#[tokio::test]
async fn convergence_is_followed_on_the_page_while_a_node_is_late() -> Result<()> {
    let (browser, (site, control, ui)) = (Browser::start().await?, real(|mapping| mapping).await?);
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    open(&page, &ui, "/config").await?;
    mark(&page).await?;
    page.wait_text("Revision 1 is in force on every connected node (3).", SOON).await?;
    let late = site.workers.last().context("three workers")?;
    late.freeze()?;
    let config =
        SyncJson::new().set("verification_slack", 60).mapping(site.mapping("c").set("copy_after", 1));
    control.apply(&config).await?;
    page.wait_text("Revision 2 is in force on 2 of 3 nodes.", SOON).await?;
    ensure!(page.text().await?.contains(&late.node_id()), "{}", page.text().await?);
    page.screenshot("config-converging").await?;
    late.thaw()?;
    page.wait_text("Revision 2 is in force on every connected node (3).", SOON).await?;
    expect_same(&page).await
}

#[tokio::test]
async fn what_somebody_else_applied_meanwhile_is_not_lost() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let (first, second) = (
        here.ui.signed_in(&browser, Caller::Operator).await?,
        here.ui.signed_in(&browser, Caller::Operator).await?,
    );
    for page in [&first, &second] {
        // The last answer of the slower one is a refusal, told as such.
        page.allow("409");
        open(page, &here.ui, "/config/edit").await?;
    }
    for (page, bucket) in [(&first, "first-bucket"), (&second, "second-bucket")] {
        edited(page, "bucket-0001", bucket).await?;
        page.click(&button("Check, and show what changes")).await?;
        page.find(&button("Apply to every node")).await?;
    }
    first.click(&button("Apply to every node")).await?;
    first.wait_text("Revision 2", SOON).await?;
    second.click(&button("Apply to every node")).await?;
    let told = second.find(&By::role("alert")).await?.text().await?;
    ensure!(told.contains("Revision 2 came in force"), "{told}");
    second.screenshot("config-conflict").await?;
    let document = in_force(&here.control).await?;
    ensure!(document.contains("first-bucket") && !document.contains("second-bucket"), "{document}");
    ensure!(here.control.revision().await? == 2, "applied over it");
    Ok(())
}
