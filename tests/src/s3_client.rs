//! What tests ask an S3 server, by `aws-sdk-s3` itself and not by the product's own store.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLifecycleConfiguration, LifecycleRule, StorageClass};
use bytes::Bytes;

/// Where a server is and how to sign for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Access {
    /// `http://address:port`.
    pub endpoint: String,
    /// Access key.
    pub identity: String,
    /// Secret key.
    pub secret: String,
    /// Region of the signature.
    pub region: String,
}

/// An object, or with an empty body the answer to a HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Object {
    /// The content; empty after a HEAD.
    pub body: Bytes,
    /// Length that the server names.
    pub length: u64,
    /// Without quotes.
    pub etag: String,
    /// Content type.
    pub content_type: String,
    /// User metadata as the client library gives it: names in lower case, values as sent.
    pub metadata: BTreeMap<String, String>,
    /// Storage class; nothing means STANDARD.
    pub storage_class: Option<String>,
    /// `AES256`, `aws:kms`, or nothing.
    pub encryption: Option<String>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Entry {
    /// Key.
    pub key: String,
    /// Without quotes; a server may leave it out.
    pub etag: Option<String>,
    /// Length.
    pub length: u64,
}

/// A client of one bucket. It belongs to the runtime of the test that made it.
#[derive(Debug, Clone)]
pub struct S3Client {
    client: Client,
    bucket: String,
}

impl S3Client {
    /// Path-style requests to `bucket`; nothing is retried, so that a test sees what happens.
    pub fn new(access: &S3Access, bucket: &str) -> Self {
        let credentials = Credentials::new(&access.identity, &access.secret, None, None, "test ground");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&access.endpoint)
            .region(Region::new(access.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(60)).build())
            .build();
        Self { client: Client::from_conf(config), bucket: bucket.to_owned() }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The client library's own client, for anything else.
    pub fn sdk(&self) -> &Client {
        &self.client
    }

    /// Creates the bucket; an own bucket of that name is fine.
    pub async fn create_bucket(&self) -> Result<()> {
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("create bucket {}", self.bucket)),
        }
    }

    /// An object with its content, or nothing when there is none.
    pub async fn get(&self, key: &str) -> Result<Option<S3Object>> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let output = match answer {
            Ok(output) => output,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("GET {key}")),
        };
        let mut object = S3Object {
            body: Bytes::new(),
            length: length(output.content_length),
            etag: unquoted(output.e_tag.as_deref()),
            content_type: output.content_type.unwrap_or_default(),
            metadata: output.metadata.unwrap_or_default().into_iter().collect(),
            storage_class: output.storage_class.map(|class| class.as_str().to_owned()),
            encryption: output.server_side_encryption.map(|kind| kind.as_str().to_owned()),
        };
        let body = output.body.collect().await;
        object.body = body.with_context(|| format!("body of {key}"))?.into_bytes();
        Ok(Some(object))
    }

    /// An object without its content, or nothing when there is none.
    pub async fn head(&self, key: &str) -> Result<Option<S3Object>> {
        let answer = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let output = match answer {
            Ok(output) => output,
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 404) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("HEAD {key}")),
        };
        Ok(Some(S3Object {
            body: Bytes::new(),
            length: length(output.content_length),
            etag: unquoted(output.e_tag.as_deref()),
            content_type: output.content_type.unwrap_or_default(),
            metadata: output.metadata.unwrap_or_default().into_iter().collect(),
            storage_class: output.storage_class.map(|class| class.as_str().to_owned()),
            encryption: output.server_side_encryption.map(|kind| kind.as_str().to_owned()),
        }))
    }

    /// Writes an object as a stranger would, with metadata and perhaps a storage class such as `GLACIER`.
    pub async fn put(
        &self,
        key: &str,
        body: impl Into<Bytes>,
        metadata: &[(&str, &str)],
        storage_class: Option<&str>,
    ) -> Result<()> {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(ByteStream::from(body.into()))
            .set_storage_class(storage_class.map(StorageClass::from));
        for (name, value) in metadata {
            request = request.metadata(*name, *value);
        }
        request.send().await.with_context(|| format!("PUT {key}"))?;
        Ok(())
    }

    /// Deletes an object; no object is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        request.send().await.with_context(|| format!("DELETE {key}"))?;
        Ok(())
    }

    /// All entries whose keys start with `prefix`, in the server's order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<S3Entry>> {
        let mut entries = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("list {prefix:?}"))?;
            for object in page.contents.unwrap_or_default() {
                entries.push(S3Entry {
                    key: object.key.unwrap_or_default(),
                    etag: object.e_tag.as_deref().map(|tag| unquoted(Some(tag))),
                    length: length(object.size),
                });
            }
        }
        Ok(entries)
    }

    /// All keys that start with `prefix`, sorted by bytes.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys: Vec<String> = self.list(prefix).await?.into_iter().map(|entry| entry.key).collect();
        keys.sort();
        Ok(keys)
    }

    /// Deletes every object of the bucket.
    pub async fn delete_all(&self) -> Result<()> {
        for key in self.keys("").await? {
            self.delete(&key).await?;
        }
        Ok(())
    }

    /// The bucket's lifecycle rules; none when it has no configuration.
    pub async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>> {
        let request = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket);
        match request.send().await {
            Ok(output) => Ok(output.rules.unwrap_or_default()),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
            Err(error) => Err(error).context("read lifecycle rules"),
        }
    }

    /// Replaces the bucket's lifecycle rules.
    pub async fn set_lifecycle_rules(&self, rules: Vec<LifecycleRule>) -> Result<()> {
        let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build()?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .lifecycle_configuration(configuration)
            .send()
            .await
            .context("write lifecycle rules")?;
        Ok(())
    }
}

fn length(value: Option<i64>) -> u64 {
    u64::try_from(value.unwrap_or_default()).unwrap_or_default()
}

fn unquoted(tag: Option<&str>) -> String {
    tag.unwrap_or_default().trim_matches('"').to_owned()
}
