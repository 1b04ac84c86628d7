//! For everybody: any size of window, dark or light, by keyboard, by screen reader.

use std::collections::BTreeSet;

use swift_s3_tests::browser::link;

use super::*;

const PHONE: (u32, u32) = (390, 844);
const WIDE: (u32, u32) = (1920, 1080);
/// Parts of a page that keys are tried on: pages of a hundred lines are alike from the second on.
const PARTS: usize = 60;

#[tokio::test]
async fn every_page_is_accessible_in_light_and_dark_on_phones_and_wide_screens() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let operator = here.ui.signed_in(&browser, Caller::Operator).await?;
    let stranger = browser.page().await?;
    let mut wrong = Vec::new();
    let mut paths = pages(&here.control).await?;
    paths.push(("sign-in", "/sign-in".to_owned()));
    for (name, path) in paths {
        let page = if name == "sign-in" { &stranger } else { &operator };
        open(page, &here.ui, &path).await?;
        for (size, (width, height)) in [("phone", PHONE), ("wide", WIDE)] {
            page.set_size(width, height).await?;
            for (colours, is_dark) in [("light", false), ("dark", true)] {
                page.set_dark(is_dark).await?;
                let what = format!("{name}-{size}-{colours}");
                if let Err(error) = page.expect_accessible(&what).await {
                    wrong.push(format!("{error:#}"));
                }
                if page.is_too_wide().await? {
                    wrong.push(format!("{what}: one must scroll sideways: {}", widest(page).await?));
                }
                page.screenshot_all(&what).await?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What sticks out.
async fn widest(page: &Page) -> Result<String> {
    let found = page
        .evaluate(
            "[...document.querySelectorAll('body *')].filter(part => part.getBoundingClientRect().right > innerWidth + 1)\
             .slice(0, 3).map(part => part.outerHTML.slice(0, 120)).join(' | ')",
        )
        .await?;
    Ok(found.to_string())
}

/// Numbers everything that can have the focus.
const NUMBER: &str = "(() => { \
    const wanted = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex=\"0\"]'; \
    const shown = part => part.checkVisibility({ checkVisibilityCSS: true, contentVisibilityAuto: true }) && !part.disabled; \
    window.parts = new Map([...document.querySelectorAll(wanted)].filter(shown).map((part, index) => [part, index])); \
    return [...window.parts.keys()].map(part => part.outerHTML.slice(0, 100)); })()";
/// Which of them has it, and whether one sees that.
const FOCUSED: &str = "(() => { \
    const part = document.activeElement; if (!part || part === document.body) return null; \
    const style = getComputedStyle(part); \
    const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0; \
    return { number: window.parts.get(part) ?? -1, visible: outlined || style.boxShadow !== 'none', \
        html: part.outerHTML.slice(0, 100) }; })()";

#[tokio::test]
async fn everything_can_be_reached_by_keyboard_and_the_focus_shows() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = here.ui.signed_in(&browser, Caller::Operator).await?;
    for (name, path) in pages(&here.control).await? {
        open(&page, &here.ui, &path).await?;
        let all = page.evaluate(NUMBER).await?;
        let all = all.as_array().context("no list")?;
        let wanted = all.len().min(PARTS);
        let mut reached = BTreeSet::new();
        for step in 0..wanted + 10 {
            page.press("Tab").await?;
            let focused = page.evaluate(FOCUSED).await?;
            let Some(number) = focused.get("number").and_then(serde_json::Value::as_i64) else { break };
            ensure!(focused.get("visible").is_some_and(|visible| visible == true), "{name}: {focused}");
            ensure!(step > 0 || focused.to_string().contains("#main"), "{name}: first is {focused}");
            reached.insert(usize::try_from(number).unwrap_or(usize::MAX));
        }
        let missed: Vec<_> =
            all.iter().enumerate().take(wanted).filter(|(index, _)| !reached.contains(index)).collect();
        ensure!(missed.is_empty(), "{name}: never reached {missed:?}");
    }
    open(&page, &here.ui, "/nodes").await?;
    page.press("Tab").await?;
    page.press("Enter").await?;
    let focused = page.evaluate("document.activeElement.id").await?;
    ensure!(focused == "main", "the skip link leads to {focused}");
    page.find(&link("Overview")).await?.focus().await?;
    page.press("Enter").await?;
    page.wait_text("Furthest behind", SOON).await
}
