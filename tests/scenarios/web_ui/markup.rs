//! Names and messages made of markup are text wherever they show.

use swift_s3_proto::v1::{ObjectFindings, ObjectState, Problem};
use swift_s3_tests::s3_client::S3Access;

use super::*;

/// Would fetch what is not there and run a script.
const MARKUP: &str = "<img src=x onerror=\"window.hacked=1\">\"'&lt;&amp;{{7*7}}";

fn rewrite(script: &mut Script) {
    for text in [&mut script.hello.host, &mut script.hello.version, &mut script.hello.node_id] {
        *text += MARKUP;
    }
    script.hello.capabilities.push(MARKUP.to_owned());
    script.hello.addresses.push(MARKUP.to_owned());
    for feed in &mut script.feeds {
        feed.container += MARKUP;
        feed.trouble = MARKUP.to_owned();
    }
    for progress in &mut script.progress {
        progress.container += MARKUP;
        for row in &mut progress.parked {
            row.object += MARKUP;
            row.message = MARKUP.to_owned();
            row.reason += "<b>";
        }
    }
    for health in script.health.iter_mut().take(3) {
        health.remote_trouble = MARKUP.to_owned();
    }
    script.problems = vec![Problem {
        path: MARKUP.to_owned(),
        found: MARKUP.to_owned(),
        allowed: MARKUP.to_owned(),
        mapping_id: String::new(),
    }];
    script.findings = vec![ObjectFindings {
        node_id: script.hello.node_id.clone(),
        is_owner: true,
        state: ObjectState::Queued.into(),
        explanation: MARKUP.to_owned(),
        remote_key: MARKUP.to_owned(),
        remote_trouble: MARKUP.to_owned(),
        ..ObjectFindings::default()
    }];
}

#[tokio::test]
async fn markup_in_names_and_messages_shows_as_text_on_every_page() -> Result<()> {
    let (browser, here) = (Browser::start().await?, simulated(rewrite).await?);
    let access = S3Access {
        endpoint: "https://s3.example.com".to_owned(),
        identity: "identity".to_owned(),
        secret: "secret-access-key-0123456789".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let mapping = MappingJson::new("AUTH_<img src=x>", &MARKUP.replace('/', ""), &access, "bucket")
        .set("exclude_pattern", "<img src=x>");
    here.control.apply(&WORLD.config().mapping(mapping)).await?;
    let page = here.ui.signed_in(&browser, Caller::Operator).await?;
    let mut paths = pages(&here.control).await?;
    let mappings = here.control.mappings().await?;
    let marked = mappings.iter().find(|mapping| mapping.account.contains('<')).context("no such mapping")?;
    paths.push(("marked mapping", format!("/mappings/{}", marked.mapping_id)));
    paths.push(("marked revision", "/config/revisions/2".to_owned()));
    let mut shown = Vec::new();
    for (name, path) in paths {
        open(&page, &here.ui, &path).await?;
        // What comes by updates goes another way into the page than what it was made with. Some pages have none.
        let before = page.updates();
        let _ = wait::until("an update", Duration::from_secs(3), async || {
            ensure!(page.updates() > before, "none");
            Ok(())
        })
        .await;
        let parts = "document.querySelectorAll('img, b, iframe, script:not([src]), [onerror]').length";
        let foreign = page.evaluate(&format!("{parts} + (window.hacked ? 1 : 0)")).await?;
        ensure!(foreign == 0, "{name}: {foreign} foreign elements");
        let text = page.text().await?;
        ensure!(!text.contains("&lt;img") && !text.contains("&amp;lt;"), "{name}: escaped twice: {text}");
        if text.contains("<img src=x") {
            shown.push(name);
        }
        page.expect_no_complaints().with_context(|| name.to_owned())?;
        page.screenshot(&format!("markup-{}", name.replace(' ', "-"))).await?;
    }
    ensure!(shown.len() >= 10, "it showed on {shown:?} only");
    Ok(())
}
