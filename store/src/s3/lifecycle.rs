//! A bucket's lifecycle rules: read all, change ours, write all back.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule as SdkRule,
    LifecycleRuleFilter, TransitionDefaultMinimumObjectSize,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use swift_s3_policy::{LifecyclePlan, LifecycleRule, own_expiration, plan_lifecycle};

use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::s3::classify;

/// The rules as the remote keeps them, with a setting that would fall back to its default when left out on writing.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<SdkRule>,
    minimum_size: Option<TransitionDefaultMinimumObjectSize>,
}

impl Rules {
    pub(crate) async fn read(client: &Client, bucket: &str) -> Result<Self, StoreError> {
        let answer = client.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
        match answer {
            Ok(found) => Ok(Self {
                rules: found.rules.unwrap_or_default(),
                minimum_size: found.transition_default_minimum_object_size,
            }),
            Err(error) => {
                let error = classify::sdk_error(Operation::ReadLifecycle, None, error);
                if error.code() == Some("NoSuchLifecycleConfiguration") {
                    return Ok(Self::default());
                }
                Err(error)
            }
        }
    }

    /// What the rules mean, in their order.
    pub(crate) fn meanings(&self) -> Vec<LifecycleRule> {
        self.rules.iter().map(meaning).collect()
    }

    /// Plans and writes the rule that expires `key_prefix` after `days`.
    pub(crate) async fn expire(
        mut self,
        client: &Client,
        bucket: &str,
        key_prefix: &str,
        days: u32,
    ) -> Result<LifecyclePlan, StoreError> {
        let plan = self.apply(key_prefix, days)?;
        if !matches!(plan, LifecyclePlan::Write { .. }) {
            return Ok(plan);
        }
        self.write(client, bucket).await?;
        Ok(plan)
    }

    /// Takes our expiration of exactly `key_prefix` out, and writes the rest back; answers whether there was one.
    pub(crate) async fn keep(
        mut self,
        client: &Client,
        bucket: &str,
        key_prefix: &str,
    ) -> Result<bool, StoreError> {
        if !self.take_expiration(key_prefix) {
            return Ok(false);
        }
        if !self.rules.is_empty() {
            return self.write(client, bucket).await.map(|()| true);
        }
        // A configuration without a rule cannot be written.
        let answer = client.delete_bucket_lifecycle().bucket(bucket).send().await;
        answer.map(|_| true).map_err(|error| classify::sdk_error(Operation::WriteLifecycle, None, error))
    }

    /// A rule that its owner added something to loses its expiration only; one that covers only some of the keys is not what we wrote.
    fn take_expiration(&mut self, key_prefix: &str) -> bool {
        let Some(index) = own_expiration(&self.meanings(), key_prefix) else {
            return false;
        };
        match self.rules.get_mut(index) {
            Some(rule) if covers_whole_prefix(rule) && does_more(rule) => rule.expiration = None,
            Some(rule) if covers_whole_prefix(rule) => drop(self.rules.remove(index)),
            _ => return false,
        }
        true
    }

    async fn write(self, client: &Client, bucket: &str) -> Result<(), StoreError> {
        let fail = || StoreError::new(ErrorKind::Invalid, Operation::WriteLifecycle);
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(self.rules))
            .build()
            .map_err(|error| fail().with_message(Some(&error.to_string())))?;
        client
            .put_bucket_lifecycle_configuration()
            .bucket(bucket)
            .lifecycle_configuration(configuration)
            .set_transition_default_minimum_object_size(self.minimum_size)
            .customize()
            .mutate_request(add_md5)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| classify::sdk_error(Operation::WriteLifecycle, None, error))
    }

    /// Changes the rules as planned. Of a rule that is replaced only the expiration changes: whatever else its owner
    /// added to it stays. One that covers only some of the keys (by tag or size) is somebody else's.
    fn apply(&mut self, key_prefix: &str, days: u32) -> Result<LifecyclePlan, StoreError> {
        let plan = plan_lifecycle(&self.meanings(), key_prefix, days);
        let LifecyclePlan::Write { replace_index } = plan else {
            return Ok(plan);
        };
        let fail = |message: &str| {
            StoreError::new(ErrorKind::Invalid, Operation::WriteLifecycle).with_message(Some(message))
        };
        let days = i32::try_from(days).map_err(|_| fail("more days than S3 can express"))?;
        let expiration = LifecycleExpiration::builder().days(days).build();
        let Some(index) = replace_index else {
            let rule = SdkRule::builder()
                .id(key_prefix)
                .filter(LifecycleRuleFilter::builder().prefix(key_prefix).build())
                .status(ExpirationStatus::Enabled)
                .expiration(expiration)
                .build()
                .map_err(|error| fail(&error.to_string()))?;
            self.rules.push(rule);
            return Ok(plan);
        };
        let rule = self.rules.get_mut(index).ok_or_else(|| fail("plan names a rule that is not there"))?;
        if !covers_whole_prefix(rule) {
            return Ok(LifecyclePlan::Conflict { rule: rule.id().unwrap_or(key_prefix).to_owned() });
        }
        rule.expiration = Some(expiration);
        rule.status = ExpirationStatus::Enabled;
        Ok(plan)
    }
}

/// The SDK sends a newer checksum; older clones insist on this one.
fn add_md5(request: &mut HttpRequest) {
    let Some(md5) = request.body().bytes().map(Md5::digest) else {
        return;
    };
    request.headers_mut().insert("content-md5", BASE64.encode(md5));
}

/// Whether nothing but its prefix says which keys a rule is about.
fn covers_whole_prefix(rule: &SdkRule) -> bool {
    rule.filter().is_none_or(|filter| {
        filter.and().is_none()
            && filter.tag().is_none()
            && filter.object_size_greater_than().is_none()
            && filter.object_size_less_than().is_none()
    })
}

/// Whether a rule does more than to expire current versions.
fn does_more(rule: &SdkRule) -> bool {
    !rule.transitions().is_empty()
        || !rule.noncurrent_version_transitions().is_empty()
        || rule.noncurrent_version_expiration().is_some()
        || rule.abort_incomplete_multipart_upload().is_some()
}

#[expect(deprecated, reason = "buckets with rules of the older form exist")]
fn meaning(rule: &SdkRule) -> LifecycleRule {
    let filter = rule.filter();
    let prefix = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| filter.and_then(|filter| filter.and()?.prefix()))
        .or_else(|| rule.prefix());
    LifecycleRule {
        id: rule.id().map(str::to_owned),
        prefix: prefix.map(str::to_owned),
        covers_whole: covers_whole_prefix(rule),
        enabled: *rule.status() == ExpirationStatus::Enabled,
        days: rule
            .expiration()
            .and_then(|expiration| expiration.days())
            .and_then(|days| u32::try_from(days).ok()),
    }
}
