//! The bucket's lifecycle rules follow `remote_delete_after`, and those of others stay as they are.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_s3::types::{
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, Transition,
    TransitionStorageClass,
};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::wait;

use super::mapped;

const TEN_DAYS: u64 = 864_000;

fn expiring(id: &str, prefix: &str, days: i32) -> Result<LifecycleRule> {
    Ok(LifecycleRule::builder()
        .id(id)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .status(ExpirationStatus::Enabled)
        .expiration(LifecycleExpiration::builder().days(days).build())
        .build()?)
}

fn prefix(site: &Site) -> String {
    KeyMapping::new(site.swift.account(), "c", None).key_prefix().to_owned()
}

#[tokio::test]
async fn a_rule_goes_with_the_setting_that_asked_for_it() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let site = mapped(server).await?;
        let ours = prefix(&site);
        site.swift.put_object("c", "o", "x", &[]).await?;
        // A rule that looks like ours and has another name is somebody else's.
        let strangers = vec![expiring("logs", "logs/", 7)?, expiring("theirs", &format!("{ours}x/"), 9)?];
        for others in [strangers, Vec::new()] {
            let with_ours: Vec<_> = others.iter().cloned().chain([expiring(&ours, &ours, 10)?]).collect();
            if !others.is_empty() {
                site.bucket.set_lifecycle_rules(others.clone()).await?;
            }
            site.map([site.mapping("c").set("remote_delete_after", TEN_DAYS)])?;
            site.sync().await?;
            let rules = site.bucket.lifecycle_rules().await?;
            ensure!(rules == with_ours, "{server:?}: {rules:?}");
            site.map([site.mapping("c")])?;
            site.sync().await?;
            let rules = site.bucket.lifecycle_rules().await?;
            ensure!(rules == others, "{server:?}: {rules:?}");
            if !others.is_empty() {
                site.bucket.sdk().delete_bucket_lifecycle().bucket(site.bucket.bucket()).send().await?;
            }
        }
        site.expect_equal("c").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_added_to_our_rule_stays_when_its_expiration_goes() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let ours = prefix(&site);
    site.swift.put_object("c", "o", "x", &[]).await?;
    let transition = Transition::builder().days(30).storage_class(TransitionStorageClass::Glacier).build();
    let mut extended = expiring(&ours, &ours, 10)?;
    extended.transitions = Some(vec![transition]);
    site.bucket.set_lifecycle_rules(vec![extended.clone()]).await?;
    site.sync().await?;
    extended.expiration = None;
    let rules = site.bucket.lifecycle_rules().await?;
    ensure!(rules == [extended], "{rules:?}");
    Ok(())
}

#[tokio::test]
async fn a_running_worker_follows_the_setting() -> Result<()> {
    let site = mapped(S3ServerKind::Memory).await?;
    let ours = prefix(&site);
    site.swift.put_object("c", "o", "x", &[]).await?;
    let days = async || -> Result<Vec<Option<i32>>> {
        let rules = site.bucket.lifecycle_rules().await?;
        ensure!(rules.iter().all(|rule| rule.id() == Some(ours.as_str())), "{rules:?}");
        Ok(rules.iter().map(|rule| rule.expiration()?.days()).collect())
    };
    site.start_workers()?;
    site.wait_equal("c", Duration::from_secs(30)).await?;
    for (seconds, expected) in
        [(Some(TEN_DAYS), vec![Some(10)]), (Some(2 * TEN_DAYS), vec![Some(20)]), (None, vec![])]
    {
        let mapping = site.mapping("c");
        site.map([match seconds {
            Some(seconds) => mapping.set("remote_delete_after", seconds),
            None => mapping,
        }])?;
        for worker in &site.workers {
            worker.reload()?;
        }
        wait::until("the rule follows", Duration::from_secs(30), async || {
            let found = days().await?;
            ensure!(found == expected, "{found:?} instead of {expected:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_without_lifecycle_rules_is_told_of_once_and_gets_its_objects() -> Result<()> {
    let site = mapped(S3ServerKind::S3sFs).await?;
    site.swift.put_object("c", "o", "x", &[]).await?;
    site.map([site.mapping("c").set("remote_delete_after", TEN_DAYS)])?;
    site.start_workers()?;
    site.wait_equal("c", Duration::from_secs(30)).await?;
    let worker = site.workers.first().expect("a worker");
    worker.wait_for_log("copies do not expire", Duration::from_secs(30)).await?;
    // Several looks at the configuration later it was still told once.
    site.swift.put_object("c", "later", "x", &[]).await?;
    site.wait_equal("c", Duration::from_secs(30)).await?;
    let told = worker.log_text().matches("copies do not expire").count();
    ensure!(told == 1, "told {told} times");
    // A mapping that asks for nothing is not told that there are no rules.
    site.map([site.mapping("c")])?;
    let before = site.faults.requests();
    worker.reload()?;
    wait::until("the bucket is asked for rules", Duration::from_secs(30), async || {
        ensure!(site.faults.requests().since(&before).of(Operation::Lifecycle) == 1, "not yet");
        Ok(())
    })
    .await?;
    let told = worker.log_text().matches("copies do not expire").count();
    ensure!(told == 1, "told {told} times");
    Ok(())
}
