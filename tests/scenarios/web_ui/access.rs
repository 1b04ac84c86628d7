//! Who gets in, and what those who are in may do.

use serde_json::Value;
use swift_s3_tests::browser::{By, button, link, textbox};

use super::*;

/// Addresses at which forms of this page change something, besides the end of the visit.
async fn changes(page: &Page) -> Result<Vec<String>> {
    let found = page
        .evaluate(
            "[...document.querySelectorAll('form[method=post]')].map(form => new URL(form.action).pathname)",
        )
        .await?;
    let all = found.as_array().context("no list")?.iter().filter_map(Value::as_str);
    Ok(all.filter(|path| *path != "/sign-out").map(str::to_owned).collect())
}

/// What forms of this visitor carry.
async fn form_token(page: &Page) -> Result<String> {
    let token = page.evaluate("document.querySelector('input[name=form_token]').value").await?;
    Ok(token.as_str().context("no form")?.to_owned())
}

#[tokio::test]
async fn a_wrong_token_is_told_and_the_right_one_opens_the_page_that_was_asked_for() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = browser.page().await?;
    // The page is refused on purpose, and browsers tell of each such answer.
    page.allow("Failed to load resource");
    page.open(&here.ui.url("/nodes?state=synced")).await?;
    page.wait_text("Sign in", SOON).await?;
    for wrong in ["no-such-token-0123456789", Caller::Node.token()] {
        page.fill(&textbox("Token"), wrong).await?;
        page.click(&button("Sign in")).await?;
        let told = page.find(&By::role("alert")).await?.text().await?;
        ensure!(!told.trim().is_empty() && !told.contains(wrong), "{told:?}");
        ensure!(page.has(&textbox("Token")).await?, "{}", page.text().await?);
    }
    page.fill(&textbox("Token"), Caller::Viewer.token()).await?;
    page.click(&button("Sign in")).await?;
    page.wait_text("storage0001", SOON).await?;
    ensure!(page.url().await?.ends_with("/nodes?state=synced"), "{}", page.url().await?);
    ensure!(page.evaluate("document.cookie").await? == "", "scripts can read the token");
    for cookie in page.cookies().await? {
        let is = |key: &str, value: Value| cookie.get(key).is_some_and(|found| *found == value);
        ensure!(is("httpOnly", true.into()) && is("sameSite", "Strict".into()), "{cookie}");
    }
    page.click(&button("Sign out")).await?;
    page.find(&textbox("Token")).await?;
    page.open(&here.ui.url("/nodes")).await?;
    ensure!(!page.text().await?.contains("storage0001"), "still signed in");
    Ok(())
}

#[tokio::test]
async fn a_viewer_reads_everything_and_can_change_nothing() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    here.lose_last_node().await?;
    let viewer = here.ui.signed_in(&browser, Caller::Viewer).await?;
    let operator = here.ui.signed_in(&browser, Caller::Operator).await?;
    let mut forms = Vec::new();
    let mut paths = pages(&here.control).await?;
    paths.push(("lost node", "/nodes/storage0008".to_owned()));
    for (name, path) in paths {
        open(&viewer, &here.ui, &path).await?;
        let found = changes(&viewer).await?;
        ensure!(found.is_empty(), "{name}: a viewer is offered {found:?}");
        open(&operator, &here.ui, &path).await?;
        forms.extend(changes(&operator).await?);
    }
    ensure!(!forms.is_empty(), "an operator is offered nothing");
    forms.sort();
    forms.dedup();
    println!("forms of an operator: {forms:?}");
    // What the page does not offer is refused when it is asked for all the same, with a form of the viewer's own.
    viewer.allow("Failed to load resource");
    let token = form_token(&viewer).await?;
    for path in forms {
        let post = format!(
            "fetch({path:?}, {{ method: 'POST', redirect: 'manual', body: new URLSearchParams({{ form_token: {token:?}, \
             expected: '1', expected_revision: '1', revision: '1', document: '{{}}', act: 'apply' }}) }}).then(answer => answer.status)"
        );
        let status = viewer.evaluate(&post).await?;
        ensure!(status == 403, "{path}: {status}");
    }
    ensure!(here.control.revision().await? == 1 && here.control.nodes().await?.len() == 9, "changed");
    Ok(())
}

#[tokio::test]
async fn a_form_that_was_not_made_for_this_visitor_changes_nothing() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    here.lose_last_node().await?;
    let page = here.ui.signed_in(&browser, Caller::Operator).await?;
    let stranger = here.ui.signed_in(&browser, Caller::Viewer).await?;
    let (own, foreign) = (form_token(&page).await?, form_token(&stranger).await?);
    let cookies = page.cookie_header().await?;
    let same = format!("http://{}", here.ui.address());
    let post = async |token: Option<&str>, origin: &str| {
        let body = token.map(|token| format!("form_token={token}")).unwrap_or_default();
        let headers = [
            ("cookie", cookies.as_str()),
            ("origin", origin),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        here.ui.request("POST", "/nodes/storage0008/forget", &headers, &body).await
    };
    for (what, token, origin) in [
        ("no form", None, same.as_str()),
        ("an empty one", Some(""), &same),
        ("somebody else's", Some(foreign.as_str()), &same),
        ("from another site", Some(own.as_str()), "https://evil.example.com"),
        ("from nowhere", Some(own.as_str()), "null"),
    ] {
        let answer = post(token, origin).await?;
        ensure!(answer.status == 403, "{what}: {} {}", answer.status, answer.text);
    }
    let nodes = here.control.nodes().await?.len();
    ensure!(nodes == 9, "{nodes} nodes");
    let answer = post(Some(&own), &same).await?;
    ensure!(answer.status == 303, "{} {}", answer.status, answer.text);
    let nodes = here.control.nodes().await?.len();
    ensure!(nodes == 8, "{nodes} nodes");
    Ok(())
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_browsers_safe() -> Result<()> {
    let here = simulated(|_| {}).await?;
    let bearer = format!("Bearer {}", Caller::Viewer.token());
    let mut paths = pages(&here.control).await?;
    paths.push(("sign-in", "/sign-in".to_owned()));
    paths.push(("missing", "/no-such-page".to_owned()));
    for (name, path) in paths {
        for accept in ["text/html", "application/json"] {
            let headers = [("authorization", bearer.as_str()), ("accept", accept)];
            let answer = here.ui.request("GET", &path, &headers, "").await?;
            let policy = answer.header("content-security-policy");
            ensure!(policy.contains("default-src 'self'"), "{name}: {policy:?}");
            ensure!(!policy.contains("unsafe"), "{name}: {policy:?}");
            for (header, value) in [
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
                ("referrer-policy", ""),
            ] {
                let found = answer.header(header);
                ensure!(!found.is_empty() && found.contains(value), "{name}: {header}: {found:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_page_is_told_as_json_too() -> Result<()> {
    let here = simulated(|_| {}).await?;
    let bearer = format!("Bearer {}", Caller::Viewer.token());
    for (name, path) in pages(&here.control).await? {
        let accepted = [("authorization", bearer.as_str()), ("accept", "application/json")];
        let asked = here.ui.request("GET", &path, &accepted, "").await?;
        let (place, query) = match path.split_once('?') {
            Some((place, query)) => (place, format!("?{query}")),
            None => (path.as_str(), String::new()),
        };
        let ending = format!("{}.json{query}", if place == "/" { "/index" } else { place });
        let named = here.ui.request("GET", &ending, &[("authorization", &bearer)], "").await?;
        for answer in [asked, named] {
            ensure!(answer.status == 200, "{name}: {} {}", answer.status, answer.text);
            ensure!(answer.header("content-type") == "application/json", "{name}: {answer:?}");
            let told: Value = serde_json::from_str(&answer.text).with_context(|| name.to_owned())?;
            ensure!(told.as_object().is_some_and(|told| !told.is_empty()), "{name}: {told}");
        }
        let stranger = here.ui.request("GET", &ending, &[], "").await?;
        ensure!(stranger.status == 401, "{name}: a stranger gets {}", stranger.status);
        ensure!(!stranger.text.contains("AUTH_customer"), "{name}: {}", stranger.text);
    }
    Ok(())
}

#[tokio::test]
async fn strangers_see_nothing_but_the_way_in() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(|_| {}).await?);
    let page = browser.page().await?;
    for (name, path) in pages(&here.control).await? {
        page.open(&here.ui.url(&path)).await?;
        let text = page.text().await?;
        ensure!(page.has(&textbox("Token")).await?, "{name}: {text}");
        ensure!(!text.contains("storage000") && !text.contains("AUTH_"), "{name}: {text}");
        ensure!(!page.has(&link("Nodes")).await?, "{name}: {text}");
    }
    Ok(())
}
