//! Which objects are copied, and when: patterns, criteria, ages, and how long the remote keeps them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::types::{ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter};
use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::wait;

use super::mapped;

/// The names that S3 has of container `c`, sorted.
async fn names_in_s3(site: &Site) -> Result<Vec<String>> {
    let mapping = KeyMapping::new(site.swift.account(), "c", None);
    let keys = site.bucket.keys("").await?;
    Ok(keys.iter().map(|key| mapping.object_name(key).unwrap_or(key).to_owned()).collect())
}

async fn expect_in_s3(site: &Site, expected: &[&str]) -> Result<()> {
    let found = names_in_s3(site).await?;
    ensure!(found == expected, "S3 has {found:?}, expected {expected:?}");
    Ok(())
}

#[tokio::test]
async fn excluded_names_are_neither_copied_nor_deleted() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let names = ["bár", "foo-1", "foo-1-bar", "foo-12345", "xfoo-1"];
    for name in names {
        site.swift.put_object("c", name, "x", &[]).await?;
    }
    // The pattern that the documentation of old gave as the default excludes nothing.
    site.map([site.mapping("c").set("exclude_pattern", "")])?;
    site.sync().await?;
    expect_in_s3(&site, &names).await?;
    site.map([site.mapping("c").set("exclude_pattern", r"^foo-\d+$|^b\wr$")])?;
    for name in names {
        site.swift.delete_object("c", name).await?.success()?;
    }
    site.swift.put_object("c", "foo-2", "x", &[]).await?;
    site.swift.put_object("c", "foo-2-bar", "x", &[]).await?;
    site.sync().await?;
    expect_in_s3(&site, &["bár", "foo-1", "foo-12345", "foo-2-bar"]).await
}

#[tokio::test]
async fn a_young_object_waits_for_its_age_and_a_delete_does_not() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    site.map([site.mapping("c").set("copy_after", 3600)])?;
    let old = format!("{}.00000", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 3700);
    for name in ["old", "old too"] {
        site.swift.put_object("c", name, "x", &[("X-Timestamp", &old)]).await?;
    }
    site.swift.put_object("c", "young", "x", &[]).await?;
    site.sync().await?;
    expect_in_s3(&site, &["old", "old too"]).await?;
    site.swift.delete_object("c", "old").await?.success()?;
    site.sync().await?;
    expect_in_s3(&site, &["old too"]).await
}

#[tokio::test]
async fn an_object_is_copied_as_soon_as_it_is_old_enough() -> Result<()> {
    const AGE: Duration = Duration::from_secs(3);
    let site = mapped(S3ServerKind::Memory).await?;
    site.map([site.mapping("c").set("copy_after", AGE.as_secs())])?;
    site.start_workers()?;
    let before = Instant::now();
    site.swift.put_object("c", "o", "x", &[]).await?;
    wait::until("the copy", Duration::from_secs(30), async || expect_in_s3(&site, &["o"]).await).await?;
    ensure!(before.elapsed() >= AGE, "copied after {:?}", before.elapsed());
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0);
    }
    Ok(())
}

#[tokio::test]
async fn only_objects_that_meet_the_criteria_are_copied() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let objects = [
        ("123", vec![("X-Object-Meta-K1", "v1"), ("X-Object-Meta-K2", "V2"), ("X-Object-Meta-K3", "v3")]),
        ("12", vec![("X-Object-Meta-K1", "v1"), ("X-Object-Meta-K2", "v2")]),
        ("2", vec![("X-Object-Meta-K2", "v2")]),
        ("none", vec![]),
        ("bár", vec![("X-Object-Meta-K1", "BÁR")]),
        ("blob", vec![("Content-Type", "test/blob")]),
    ];
    for (name, headers) in &objects {
        site.swift.put_object("c", name, "x", headers).await?;
    }
    let nested = |last: &str| {
        json!({"OR": [
            {"AND": [{"NOT": {"x-object-meta-k1": "v1"}}, {"x-object-meta-k2": "v2"}]},
            {"AND": [{"X-Object-Meta-K1": "v1"}, {"NOT": {"x-object-meta-k3": last}}]},
        ]})
    };
    let table: [(Value, &[&str]); 6] = [
        (nested("v4"), &["12", "123", "2"]),
        (nested("v3"), &["12", "2"]),
        (json!({"x-object-meta-k1": "bár"}), &["bár"]),
        (json!({"content-type": "TEST/blob"}), &["blob"]),
        (json!({"x-object-meta-k9": "v"}), &[]),
        (json!({}), &["12", "123", "2", "blob", "bár", "none"]),
    ];
    for (criteria, expected) in table {
        site.bucket.delete_all().await?;
        for worker in &site.workers {
            worker.forget()?;
        }
        site.map([site.mapping("c").set("selection_criteria", criteria.clone())])?;
        site.sync().await?;
        expect_in_s3(&site, expected).await.with_context(|| criteria.to_string())?;
    }
    Ok(())
}

fn expiring(id: &str, prefix: &str, days: i32) -> Result<LifecycleRule> {
    Ok(LifecycleRule::builder()
        .id(id)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .status(ExpirationStatus::Enabled)
        .expiration(LifecycleExpiration::builder().days(days).build())
        .build()?)
}

#[tokio::test]
async fn the_buckets_lifecycle_gets_one_rule_and_keeps_all_others() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        let strangers = [expiring("logs", "logs/", 7)?, expiring("other", "zzz/other/", 365)?];
        site.bucket.set_lifecycle_rules(strangers.to_vec()).await?;
        site.swift.put_object("c", "o", "x", &[]).await?;
        let prefix = KeyMapping::new(site.swift.account(), "c", None).key_prefix().to_owned();
        // One day and a half is rounded up.
        for (seconds, days) in [(129_600, 2), (864_000, 10), (864_000, 10)] {
            site.map([site.mapping("c").set("remote_delete_after", seconds)])?;
            site.sync().await?;
            let rules = site.bucket.lifecycle_rules().await?;
            for stranger in &strangers {
                let kept = rules.iter().find(|rule| rule.id() == stranger.id());
                ensure!(kept == Some(stranger), "{server:?}: {kept:?} instead of {stranger:?}");
            }
            let own: Vec<_> = rules.iter().filter(|rule| rule.id() == Some(&prefix)).collect();
            ensure!(rules.len() == 3 && own == [&expiring(&prefix, &prefix, days)?], "{server:?}: {rules:?}");
        }
        site.expect_equal("c").await?;
        // A stranger's rule that covers the prefix stays alone, and objects are copied all the same.
        let all = [expiring("everything", "", 30)?];
        site.bucket.set_lifecycle_rules(all.to_vec()).await?;
        site.swift.put_object("c", "later", "x", &[]).await?;
        site.sync().await?;
        ensure!(
            site.bucket.lifecycle_rules().await?.len() == 1,
            "{server:?}: a conflicting rule was written"
        );
        site.expect_equal("c").await?;
    }
    Ok(())
}
