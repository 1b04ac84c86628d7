//! The pictures of the README; `make screenshots` puts them there.

use swift_s3_tests::browser::{By, link};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;

use super::*;

/// They are part of the repository.
const MAX_BYTES: u64 = 150 * 1024;

#[tokio::test]
async fn the_pictures_of_the_readme_are_of_the_running_program() -> Result<()> {
    let browser = Browser::start().await?;
    let here = simulated(|script| script.problems.clear()).await?;
    let page = here.ui.signed_in(&browser, Caller::Operator).await?;
    page.set_size(1100, 720).await?;
    open(&page, &here.ui, "/").await?;
    page.wait_text("Furthest behind", SOON).await?;
    let overview = page.screenshot("readme-overview").await?;

    let (site, _control, ui) = real(|mapping| mapping).await?;
    let refusal = Fault::error(400, "InvalidArgument");
    site.faults.inject(Rule::new(refusal).on(Operation::Put).key_containing("summary"));
    site.swift.put_object("c", "reports/2026/summary.pdf", "content", &[]).await?;
    let page = ui.signed_in(&browser, Caller::Operator).await?;
    page.set_size(1100, 720).await?;
    open(&page, &ui, "/failures").await?;
    page.click(&link(&format!("{}/c/reports/2026/summary.pdf", site.swift.account()))).await?;
    page.find(&By::role("heading").containing("node")).await?;
    let object = page.screenshot("readme-object").await?;
    for picture in [overview, object] {
        let bytes = std::fs::metadata(&picture)?.len();
        ensure!(bytes < MAX_BYTES, "{}: {bytes} bytes", picture.display());
    }
    Ok(())
}
