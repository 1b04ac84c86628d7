//! Says whether a bucket holds what a container holds, and if not, where they differ.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use swift_s3_policy::{KeyMapping, RemoteMetadata, same_meaning, to_remote};

use crate::s3_client::{S3Client, S3Object};
use crate::swift_client::{Listed, Response, SwiftClient};

/// One difference, readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// In the container, not in the bucket.
    MissingRemotely(String),
    /// In the bucket under the mapping's prefix, not in the container.
    OnlyRemotely(String),
    /// In both, and different.
    Content {
        /// Object name.
        name: String,
        /// `length`, `etag`, `content type` or `metadata`.
        what: &'static str,
        /// What Swift has.
        local: String,
        /// What S3 has.
        remote: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingRemotely(name) => write!(formatter, "{name:?} is missing in the bucket"),
            Self::OnlyRemotely(name) => write!(formatter, "{name:?} is in the bucket only"),
            Self::Content { name, what, local, remote } => {
                write!(formatter, "{name:?}: {what} is {local} locally, {remote} remotely")
            }
        }
    }
}

/// All differences, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl Differences {
    /// Fails, naming the first ones, unless there are none.
    pub fn none(&self) -> Result<()> {
        anyhow::ensure!(self.0.is_empty(), "{self}");
        Ok(())
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        writeln!(formatter, "{} differences between container and bucket", self.0.len())?;
        for difference in self.0.iter().take(SHOWN) {
            writeln!(formatter, "  {difference}")?;
        }
        if self.0.len() > SHOWN {
            writeln!(formatter, "  …")?;
        }
        Ok(())
    }
}

/// How thoroughly to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Names and lengths, by listings alone: for very many objects.
    Names,
    /// Also ETag, content type and metadata, by one HEAD on each side.
    #[default]
    Metadata,
    /// Also every byte.
    Content,
}

/// Compares a container with what the bucket has under the container's key prefix. Objects that are large-object
/// manifests compare by name only.
pub async fn compare(
    swift: &SwiftClient,
    container: &str,
    bucket: &S3Client,
    custom_prefix: Option<&str>,
    depth: Depth,
) -> Result<Differences> {
    let mapping = KeyMapping::new(swift.account(), container, custom_prefix);
    let locals = swift.list(container).await?;
    let mut remotes: BTreeMap<String, u64> =
        bucket.list(mapping.key_prefix()).await?.into_iter().map(|entry| (entry.key, entry.length)).collect();
    let mut found = Differences::default();
    for local in &locals {
        let key = mapping.object_key(&local.name);
        let Some(length) = remotes.remove(&key) else {
            found.0.push(Difference::MissingRemotely(local.name.clone()));
            continue;
        };
        if depth == Depth::Names {
            found.differ(&local.name, "length", &local.bytes.to_string(), &length.to_string());
            continue;
        }
        compare_object(swift, container, bucket, &key, local, depth, &mut found).await?;
    }
    let strangers = remotes.into_keys().map(|key| {
        let name = mapping.object_name(&key).unwrap_or(&key);
        Difference::OnlyRemotely(name.to_owned())
    });
    found.0.extend(strangers);
    Ok(found)
}

async fn compare_object(
    swift: &SwiftClient,
    container: &str,
    bucket: &S3Client,
    key: &str,
    listed: &Listed,
    depth: Depth,
    found: &mut Differences,
) -> Result<()> {
    let name = &listed.name;
    let (local, remote) = if depth == Depth::Content {
        (swift.get_object(container, name).await?, bucket.get(key).await?)
    } else {
        (swift.head_object(container, name).await?, bucket.head(key).await?)
    };
    let Some(remote) = remote else {
        found.0.push(Difference::MissingRemotely(name.clone()));
        return Ok(());
    };
    if local.status != 200 {
        found.differ(name, "status", &local.status.to_string(), "200");
        return Ok(());
    }
    if local.header("x-static-large-object").is_some() || local.header("x-object-manifest").is_some() {
        return Ok(());
    }
    let local_etag = local.header("etag").unwrap_or_default().trim_matches('"').to_owned();
    found.differ(name, "etag in listing", &listed.hash, &local_etag);
    found.differ(name, "etag", &local_etag, &remote.etag);
    let local_length = local.header("content-length").unwrap_or_default();
    found.differ(name, "length", local_length, &remote.length.to_string());
    if depth == Depth::Content && local.body != remote.body {
        let at = local.body.iter().zip(&remote.body).take_while(|(a, b)| a == b).count();
        found.differ(name, "content", &format!("different from byte {at}"), "other");
    }
    compare_metadata(name, &local, &remote, found);
    Ok(())
}

fn compare_metadata(name: &str, local: &Response, remote: &S3Object, found: &mut Differences) {
    let headers = local.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let local = to_remote(headers);
    let remote = RemoteMetadata {
        content_type: remote.content_type.clone(),
        user: remote.metadata.clone(),
        ..RemoteMetadata::default()
    };
    if !same_meaning(&local, &remote) {
        let (local, remote) = (format!("{local:?}"), format!("{remote:?}"));
        // `same_meaning` and not the text decides: two spellings may mean the same, and the other way round never.
        found.0.push(Difference::Content { name: name.to_owned(), what: "metadata", local, remote });
    }
}

impl Differences {
    fn differ(&mut self, name: &str, what: &'static str, local: &str, remote: &str) {
        if local != remote {
            self.0.push(Difference::Content {
                name: name.to_owned(),
                what,
                local: local.to_owned(),
                remote: remote.to_owned(),
            });
        }
    }
}
