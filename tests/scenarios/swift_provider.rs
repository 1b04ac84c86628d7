//! The product's client of Swift clusters, against real ones: objects, containers, large objects, tokens, faults.

mod containers;
mod faults;
mod keystone;
mod large_objects;
mod objects;
mod tokens;

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use swift_s3_policy::RemoteMetadata;
use swift_s3_store::{ObjectStore, PutObject, StoreError, body, swift};
use swift_s3_tests::swift_cluster::SharedCluster;
use swift_s3_tests::swift_remote::{SwiftRemote, remote_options};

static REMOTE: SharedCluster = SharedCluster::new(remote_options);

/// An account and the product's client of it.
async fn remote() -> Result<(SwiftRemote, Arc<dyn ObjectStore>)> {
    let remote = SwiftRemote::on(REMOTE.get().await?).await?;
    let store = swift::open(&remote.settings()).await?;
    Ok((remote, store))
}

fn metadata(user: &[(&str, &str)], headers: &[(&str, &str)]) -> RemoteMetadata {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    RemoteMetadata { content_type: "Text/X-Mixed".to_owned(), user: pairs(user), headers: pairs(headers) }
}

fn put_of(content: impl Into<Bytes>, metadata: RemoteMetadata) -> PutObject {
    let content = content.into();
    PutObject {
        length: content.len() as u64,
        content_md5: Some(Md5::digest(&content).into()),
        metadata,
        body: body::from_bytes(content),
        storage_class: None,
    }
}

fn md5_hex(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}

/// The content of an object, whole or in part.
async fn content(store: &dyn ObjectStore, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
    let got = store.get(key, range).await?;
    let got = got.ok_or_else(|| anyhow::anyhow!("{key} is not there"))?;
    let bytes = got.body.collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    ensure!(
        bytes.len() as u64 == got.content_length,
        "{} bytes, announced {}",
        bytes.len(),
        got.content_length
    );
    Ok(bytes)
}

/// Everything an error says, in all its forms.
fn everything(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}
