//! When copies expire.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Pair;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Pair {
    async fn delete_at(&self, name: &str) -> Result<Option<i64>> {
        let copy = self.copy(name).await?;
        copy.header("x-delete-at").map(|at| at.parse().context("x-delete-at")).transpose()
    }
}

#[tokio::test]
async fn expiry_is_propagated_with_its_offset_and_not_touched_again() -> Result<()> {
    for offset in [0, 3600] {
        let pair = Pair::mapped(|mapping| {
            mapping.set("propagate_expiration", true).set("propagate_expiration_offset", offset)
        })
        .await?;
        pair.site.swift.put_object("c", "o", "x", &[("X-Delete-After", "3000")]).await?;
        pair.sync().await?;
        let local: i64 = pair.local("o").await?.header("x-delete-at").context("local expiry")?.parse()?;
        assert_eq!(pair.delete_at("o").await?, Some(local + offset));
        let before = pair.copy("o").await?.header("x-timestamp").map(str::to_owned);
        pair.sync().await?;
        assert_eq!(pair.copy("o").await?.header("x-timestamp").map(str::to_owned), before);
        pair.site.swift.post_object("c", "o", &[("X-Delete-After", "5000")]).await?;
        pair.sync().await?;
        let changed: i64 = pair.local("o").await?.header("x-delete-at").context("local expiry")?.parse()?;
        assert_eq!(pair.delete_at("o").await?, Some(changed + offset));
    }
    Ok(())
}

#[tokio::test]
async fn without_propagation_copies_do_not_expire() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    pair.site.swift.put_object("c", "o", "x", &[("X-Delete-After", "3000")]).await?;
    pair.sync().await?;
    assert_eq!(pair.delete_at("o").await?, None);
    Ok(())
}

#[tokio::test]
async fn copies_live_as_long_as_the_mapping_says_and_looking_does_not_prolong_it() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    pair.site.swift.put_object("c", "o", "x", &[]).await?;
    pair.sync().await?;
    assert_eq!(pair.delete_at("o").await?, None);
    // A mapping that is changed looks at every row again.
    let with = |seconds: i64| {
        move |mapping: swift_s3_tests::sync_json::MappingJson| mapping.set("remote_delete_after", seconds)
    };
    pair.map("c", "copies", with(1000))?;
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with("PUT")), "no content is sent: {asked:?}");
    let first = pair.delete_at("o").await?.context("an expiry")?;
    assert!((first - now() - 1000).abs() < 60, "{first}");
    let asked = pair.sync().await?;
    assert_eq!(pair.delete_at("o").await?, Some(first), "{asked:?}");
    pair.map("c", "copies", with(5000))?;
    pair.sync().await?;
    assert!(pair.delete_at("o").await?.is_some_and(|at| (at - now() - 5000).abs() < 60));
    pair.map("c", "copies", |mapping| mapping)?;
    pair.sync().await?;
    assert_eq!(pair.delete_at("o").await?, None, "the mapping lets them live now");
    Ok(())
}
