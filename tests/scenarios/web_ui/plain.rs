//! Without scripts everything works, only not by itself.

use swift_s3_tests::browser::{button, link, textbox};

use super::*;

#[tokio::test]
async fn without_scripts_every_page_can_be_read() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = browser.page().await?;
    sign_in_without_scripts(&page, &here.ui).await?;
    for (name, path) in pages(&here.control).await? {
        open(&page, &here.ui, &path).await?;
        let text = page.text().await?;
        ensure!(text.len() > 300, "{name}: {text}");
        page.expect_no_complaints()?;
    }
    page.screenshot("without-scripts").await?;
    Ok(())
}

#[tokio::test]
async fn without_scripts_one_can_retry_and_apply() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = browser.page().await?;
    sign_in_without_scripts(&page, &here.ui).await?;
    page.click(&link("Failures")).await?;
    page.click(&button("Try all 15 again now")).await?;
    page.wait_text("tried again now, on", SOON).await?;
    page.click(&link("Config")).await?;
    page.click(&link("Edit")).await?;
    let document = textbox("Document (JSON)");
    let text = page.find(&document).await?.value().await?;
    page.fill(&document, &text.replace("\"bucket-0003\"", "7")).await?;
    page.click(&button("Check, and show what changes")).await?;
    page.wait_text("to mend", SOON).await?;
    ensure!(page.text().await?.contains("containers[3]"), "{}", page.text().await?);
    page.fill(&document, &text.replace("bucket-0003", "another-bucket")).await?;
    page.click(&button("Check, and show what changes")).await?;
    page.click(&button("Apply to every node")).await?;
    page.wait_text("Revision 2 is stored", SOON).await?;
    ensure!(here.control.revision().await? == 2, "not applied");
    Ok(())
}

async fn sign_in_without_scripts(page: &Page, ui: &WebUi) -> Result<()> {
    page.set_scripts(false).await?;
    page.open(&ui.url("/sign-in")).await?;
    page.fill(&textbox("Token"), Caller::Operator.token()).await?;
    page.click(&button("Sign in")).await?;
    page.wait_text("Furthest behind", SOON).await
}
