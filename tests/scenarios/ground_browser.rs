//! The browser of the test ground sees what a person would, and tells what a person would not see.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use swift_s3_tests::browser::{Browser, By, Page, button, heading, link, row, textbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::SOON;

const GOOD: &str = "<!doctype html><html lang=en><head><title>Good</title><meta name=color-scheme content='light dark'>\
    <link rel=icon href='data:,'><style>body { background: #fff } @media (prefers-color-scheme: dark) { h1::after { content: ' dark' } body { background: #000 } }</style></head><body><main>\
    <h1>Good page</h1><p id=said>not yet</p><noscript>scripts are off</noscript>\
    <label>Token <input id=token></label><button onclick=\"said.textContent = token.value + '!'\">Say it</button>\
    <table><caption>Objects</caption><tr><th>Name</th><th>Do</th></tr>\
    <tr><td>first</td><td><button onclick=\"said.textContent = 'one'\">Retry</button></td></tr>\
    <tr><td>second</td><td><button onclick=\"said.textContent = 'two'\">Retry</button></td></tr></table>\
    <a href='/bad'>Elsewhere</a></main></body></html>";
const BAD: &str = "<!doctype html><html><body><p style='color: #ccc; background: #fff'>pale</p><input><div style='width: 3000px'>wide</div>\
    <script>console.error('told so')</script></body></html>";

/// Answers every request of a path with the page of that name; `/strict` forbids its own script.
async fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let (body, header) = match request.split(' ').nth(1) {
                    Some("/good") => (GOOD, ""),
                    Some("/strict") => (BAD, "Content-Security-Policy: default-src 'self'\r\n"),
                    _ => (BAD, ""),
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

async fn opened(browser: &Browser, path: &str) -> Result<Page> {
    let page = browser.page().await?;
    page.open(&format!("http://{}{path}", serve().await?)).await?;
    Ok(page)
}

#[tokio::test]
async fn the_browser_acts_by_role_and_name() -> Result<()> {
    let browser = Browser::start().await?;
    let page = opened(&browser, "/good").await?;
    page.fill(&textbox("Token"), "<b>hello</b>").await?;
    page.click(&button("Say it")).await?;
    page.wait_text("<b>hello</b>!", SOON).await?;
    page.click(&button("Retry").within(row("second"))).await?;
    page.wait_text("two", SOON).await?;
    // By keyboard alone.
    page.find(&textbox("Token")).await?.focus().await?;
    page.type_text(" and more").await?;
    page.press("Tab").await?;
    page.press("Enter").await?;
    page.wait_text("and more!", SOON).await?;
    ensure!(page.find(&link("Elsewhere")).await?.attribute("href").await?.as_deref() == Some("/bad"));
    ensure!(!page.has(&button("Delete")).await?);
    page.set_dark(true).await?;
    page.find(&By::role("heading").containing("dark")).await?;
    page.expect_accessible("the good page").await?;
    ensure!(!page.is_too_wide().await?);
    let (bytes, painted) = (page.transferred(), page.first_paint().await?);
    ensure!(bytes.len() == 1 && bytes[0].1 > GOOD.len() as u64, "{bytes:?}");
    ensure!(painted < SOON, "{painted:?}");
    ensure!(page.heap().await?.0 > 100_000 && browser.memory_bytes()? > 10 << 20);
    let picture = std::fs::read(page.screenshot_all("ground-browser").await?)?;
    ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 2_000, "{} bytes", picture.len());
    Ok(())
}

#[tokio::test]
async fn the_browser_can_do_without_scripts() -> Result<()> {
    let browser = Browser::start().await?;
    let page = browser.page().await?;
    page.set_scripts(false).await?;
    page.open(&format!("http://{}/good", serve().await?)).await?;
    page.find(&heading("Good page")).await?;
    page.click(&button("Say it")).await?;
    let text = page.text().await?;
    ensure!(text.contains("scripts are off") && text.contains("not yet"), "{text}");
    page.click(&link("Elsewhere")).await?;
    page.wait_text("pale", SOON).await
}

#[tokio::test]
async fn the_browser_tells_what_is_wrong_with_a_page() -> Result<()> {
    let browser = Browser::start().await?;
    let page = opened(&browser, "/bad").await?;
    let complaints = page.take_complaints();
    ensure!(complaints.iter().any(|complaint| complaint.contains("told so")), "{complaints:?}");
    page.set_size(390, 844).await?;
    ensure!(page.is_too_wide().await?);
    let rules: Vec<String> = page.violations().await?.into_iter().map(|found| found.rule).collect();
    for rule in ["color-contrast", "label", "html-has-lang", "document-title"] {
        ensure!(rules.iter().any(|found| found == rule), "{rule}: {rules:?}");
    }
    page.take_complaints();
    let strict = opened(&browser, "/strict").await?;
    let complaints = strict.take_complaints();
    ensure!(
        complaints.iter().any(|complaint| complaint.contains("Content Security Policy")),
        "{complaints:?}"
    );
    ensure!(!complaints.iter().any(|complaint| complaint.contains("told so")), "{complaints:?}");
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "told so")]
async fn what_the_console_complains_about_fails_a_test() {
    let browser = Browser::start().await.unwrap();
    drop(opened(&browser, "/bad").await.unwrap());
}
