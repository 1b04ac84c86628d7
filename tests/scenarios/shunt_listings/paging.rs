//! Long listings.

use anyhow::Result;
use futures_util::future::try_join_all;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;

use super::Merged;

#[tokio::test]
async fn a_listing_of_many_pages_is_complete() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let remote: Vec<String> = (0..2_500).map(|number| format!("{:05}", number * 2)).collect();
    let local: Vec<String> = (0..30).map(|number| format!("{:05}", number * 150 + 1)).collect();
    merged.put_remote(remote.iter().map(String::as_str)).await?;
    merged.put_local("c", local.iter().map(String::as_str)).await?;
    let mut all: Vec<String> = remote.iter().chain(&local).cloned().collect();
    all.sort();
    for query in ["", "limit=10000"] {
        assert_eq!(merged.names(query).await?, all, "?{query}");
    }
    let mut walked: Vec<String> = Vec::new();
    loop {
        let marker = walked.last().cloned().unwrap_or_default();
        let page = merged.names(&format!("limit=1000&marker={marker}")).await?;
        if page.is_empty() {
            break;
        }
        assert!(page.len() == 1000 || walked.len() + page.len() == all.len(), "a page of {}", page.len());
        walked.extend(page);
    }
    assert_eq!(walked, all);
    let backwards: Vec<String> = all.iter().rev().take(1_700).cloned().collect();
    assert_eq!(merged.names("reverse=true&limit=1700").await?, backwards);
    Ok(())
}

#[tokio::test]
async fn listings_at_the_same_time_do_not_mix() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let remote: Vec<String> = (0..1_200).map(|number| format!("{}/{number:05}", number % 10)).collect();
    merged.put_remote(remote.iter().map(String::as_str)).await?;
    merged.put_local("c", ["0/local", "9/local"]).await?;
    let before = merged.site.faults.requests();
    let answers = try_join_all((0..60).map(|number| {
        let query = format!("prefix={}/", number % 10);
        let merged = &merged;
        async move { merged.names(&query).await.map(|names| (number % 10, names)) }
    }))
    .await?;
    for (folder, names) in answers {
        let expected = 120 + usize::from(folder == 0 || folder == 9);
        assert_eq!(names.len(), expected, "{folder}");
        assert!(names.iter().all(|name| name.starts_with(&format!("{folder}/"))), "{names:?}");
    }
    assert_eq!(merged.site.faults.requests().since(&before).of(Operation::List), 60);
    Ok(())
}
