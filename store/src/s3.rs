//! The provider for everything that speaks the S3 protocol: Amazon, Google, clones.
//!
//! [`open`] settles once what is the same for every request to a bucket (style, region, endpoint, credentials,
//! connections). Uploads then go through `direct_put`, everything else through the SDK; both share all of that.

mod buckets;
mod classify;
mod credentials;
mod direct_put;
mod entries;
pub(crate) mod guarded_body;
mod lifecycle;
mod listing;
mod multipart;
mod reading;
mod setup;
mod style;
mod transport;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{MetadataDirective, ServerSideEncryption, StorageClass};
use percent_encoding::utf8_percent_encode;
use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata, S3Remote};

use crate::entries::{EntryPage, EntryQuery};
use crate::error::{ErrorKind, StoreError};
use crate::metering::{Operation, RequestCounts};
use crate::multipart::Multipart;
use crate::object_store::{
    AnswerNotes, GetObject, ListPage, ObjectStore, PutObject, PutReceipt, RemoteObject, Thaw,
};
use crate::observing::Observer;
use crate::s3::direct_put::DirectPut;
use crate::s3::lifecycle::Rules;
use crate::s3::listing::Lister;
use crate::s3::transport::Transport;
use crate::swift_account::SwiftAccount;

pub use crate::s3::buckets::list_buckets;
pub use crate::s3::style::RequestStyle;

/// The remote copies up to 5 GiB before it answers.
const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The class of objects for which the remote names none.
const STANDARD: &str = "STANDARD";

/// Classes from which an object must be restored before it can be read or copied.
const ARCHIVE_CLASSES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// What is needed to open a bucket. Secrets have been read already; none is shown by `Debug`.
#[derive(Clone)]
pub struct S3Settings {
    /// Where the bucket is and how it is addressed.
    pub remote: S3Remote,
    /// `None` takes them from the AWS default chain (environment, profiles, instance role, …).
    pub credentials: Option<StaticCredentials>,
    /// Proxy for `http://` endpoints, with or without a scheme. It is not used for endpoints on this machine, nor for
    /// those in the environment's `NO_PROXY`. Without it the environment's proxies are used.
    pub http_proxy: Option<String>,
    /// Likewise for `https://` endpoints.
    pub https_proxy: Option<String>,
    /// Connections that are kept open at rest, at least 1: as many as there are transfers at a time.
    pub max_connections: usize,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Proxy URLs may carry a password.
        formatter
            .debug_struct("S3Settings")
            .field("remote", &self.remote)
            .field("credentials", &self.credentials)
            .field("has_http_proxy", &self.http_proxy.is_some())
            .field("has_https_proxy", &self.https_proxy.is_some())
            .field("max_connections", &self.max_connections)
            .finish()
    }
}

/// An access key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// Access key id.
    pub identity: String,
    /// Secret access key.
    pub secret: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StaticCredentials(***)")
    }
}

/// Opens a bucket in the style that suits it. Sends nothing to it yet: see [`ObjectStore::check`].
///
/// # Errors
/// [`ErrorKind::Invalid`] when the settings cannot work.
pub async fn open(settings: &S3Settings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    open_with_style(settings, RequestStyle::of(&settings.remote)).await
}

/// As [`open`], in a style of the caller's.
///
/// # Errors
/// As [`open`].
pub async fn open_with_style(
    settings: &S3Settings,
    style: RequestStyle,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(Arc::new(setup::build(settings, style, Observer::default()).await?))
}

/// As [`open`]; `observer` is told of every request.
pub(crate) async fn open_observed(
    settings: &S3Settings,
    observer: Observer,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(Arc::new(setup::build(settings, RequestStyle::of(&settings.remote), observer).await?))
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct S3Store {
    bucket: String,
    client: Client,
    transport: Transport,
    uploads: DirectPut,
    lister: Lister,
    encrypts: bool,
    keeps_content_encoding: bool,
    encodes_listings: bool,
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError> {
        Ok(self.look(key).await?.map(|(object, _)| object))
    }

    async fn put(&self, key: &str, mut put: PutObject) -> Result<PutReceipt, StoreError> {
        if !self.keeps_content_encoding {
            put.metadata.headers.remove(CONTENT_ENCODING);
        }
        self.uploads.put(key, put).await
    }

    async fn replace_metadata(
        &self,
        key: &str,
        expected_etag: &str,
        metadata: &RemoteMetadata,
        storage_class: Option<&str>,
    ) -> Result<(), StoreError> {
        let user: HashMap<String, String> =
            metadata.user.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let content_type = Some(&metadata.content_type).filter(|value| !value.is_empty());
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(COPY_TIMEOUT).build();
        self.client
            .copy_object()
            .bucket(&self.bucket)
            .key(key)
            .copy_source(self.copy_source(key))
            .copy_source_if_match(format!("\"{expected_etag}\""))
            .metadata_directive(MetadataDirective::Replace)
            .set_content_type(content_type.cloned())
            .set_cache_control(self.kept_header(metadata, "cache-control"))
            .set_content_disposition(self.kept_header(metadata, "content-disposition"))
            .set_content_encoding(self.kept_header(metadata, "content-encoding"))
            .set_content_language(self.kept_header(metadata, "content-language"))
            .set_metadata(Some(user))
            .set_storage_class(storage_class.filter(|class| *class != STANDARD).map(StorageClass::from))
            .set_server_side_encryption(self.encrypts.then_some(ServerSideEncryption::Aes256))
            .customize()
            .config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| classify::sdk_error(Operation::Copy, Some(key), error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let answer = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => absent_is_none(classify::sdk_error(Operation::Delete, Some(key), error))
                .map(|_: Option<()>| ()),
        }
    }

    async fn delete_if(&self, key: &str, expected_etag: &str) -> Result<(), StoreError> {
        if expected_etag.is_empty() {
            return self.delete(key).await;
        }
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        let answer = request.if_match(format!("\"{expected_etag}\"")).send().await;
        let Err(error) = answer else { return Ok(()) };
        let error = classify::sdk_error(Operation::Delete, Some(key), error);
        // A server that knows of the header, and does not take it with a DELETE.
        if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid) {
            return self.delete(key).await;
        }
        absent_is_none(error).map(|_: Option<()>| ())
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError> {
        self.lister.list(prefix, start_after, max_keys).await
    }

    async fn list_entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        self.lister.entries(query).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        match self.lister.list("", None, 1).await {
            // A listing is about the bucket alone, whatever the remote calls it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(error.into_kind(ErrorKind::BucketMissing))
            }
            answer => answer.map(|_| ()),
        }
    }

    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        Ok(Rules::read(&self.client, &self.bucket).await?.meanings())
    }

    async fn set_expiration(&self, key_prefix: &str, days: u32) -> Result<LifecyclePlan, StoreError> {
        Rules::read(&self.client, &self.bucket)
            .await?
            .expire(&self.client, &self.bucket, key_prefix, days)
            .await
    }

    async fn clear_expiration(&self, key_prefix: &str) -> Result<bool, StoreError> {
        Rules::read(&self.client, &self.bucket).await?.keep(&self.client, &self.bucket, key_prefix).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        Ok(self.read(key, range).await?.map(|(object, _)| object))
    }

    async fn look(&self, key: &str) -> Result<Option<(RemoteObject, AnswerNotes)>, StoreError> {
        let answer = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        match answer {
            Ok(found) => {
                let notes = reading::notes(&found, found.restore.as_deref());
                Ok(Some((remote_object(found.into()), notes)))
            }
            Err(error) => absent_is_none(classify::sdk_error(Operation::Head, Some(key), error)),
        }
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<(GetObject, AnswerNotes)>, StoreError> {
        reading::get(&self.client, &self.bucket, key, range).await
    }

    async fn thaw(&self, key: &str, days: u32, tier: Option<&str>) -> Result<Thaw, StoreError> {
        reading::thaw(&self.client, &self.bucket, key, days, tier).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    fn swift(&self) -> Option<&dyn SwiftAccount> {
        None
    }

    fn requests(&self) -> RequestCounts {
        self.transport.counter().counts()
    }
}

impl S3Store {
    /// A header that describes the content, if the remote is to keep it.
    fn kept_header(&self, metadata: &RemoteMetadata, name: &str) -> Option<String> {
        let kept = name != CONTENT_ENCODING || self.keeps_content_encoding;
        metadata.headers.get(name).filter(|_| kept).cloned()
    }

    /// The source of a copy as its header wants it.
    fn copy_source(&self, key: &str) -> String {
        format!("{}/{}", self.bucket, utf8_percent_encode(key, direct_put::KEY_CHARACTERS))
    }
}

/// A key that is not there is an answer, a bucket that is not there is an error.
fn absent_is_none<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    match error.kind() {
        ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    }
}

const CONTENT_ENCODING: &str = "content-encoding";
const DESCRIBING_HEADERS: [&str; 4] =
    ["cache-control", "content-disposition", CONTENT_ENCODING, "content-language"];

/// What an answer tells of an object, whichever request it answers.
struct Described {
    etag: Option<String>,
    length: Option<u64>,
    content_type: Option<String>,
    /// In the order of [`DESCRIBING_HEADERS`].
    headers: [Option<String>; 4],
    metadata: Option<HashMap<String, String>>,
    storage_class: Option<StorageClass>,
    /// Beside what the class says.
    archived: bool,
    last_modified: Option<DateTime>,
    encryption: Option<ServerSideEncryption>,
}

impl From<HeadObjectOutput> for Described {
    fn from(found: HeadObjectOutput) -> Self {
        Self {
            etag: found.e_tag,
            length: found.content_length.and_then(|length| u64::try_from(length).ok()),
            content_type: found.content_type,
            headers: [
                found.cache_control,
                found.content_disposition,
                found.content_encoding,
                found.content_language,
            ],
            metadata: found.metadata,
            storage_class: found.storage_class,
            archived: found.archive_status.is_some() || found.restore.is_some(),
            last_modified: found.last_modified,
            encryption: found.server_side_encryption,
        }
    }
}

fn remote_object(found: Described) -> RemoteObject {
    let user: BTreeMap<String, String> = found
        .metadata
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let storage_class = found.storage_class.map(|class| class.as_str().to_owned());
    let in_archive_class = storage_class.as_deref().is_some_and(|class| ARCHIVE_CLASSES.contains(&class));
    RemoteObject {
        etag: found.etag.as_deref().map(bare_etag).unwrap_or_default(),
        length: found.length.unwrap_or(0),
        metadata: RemoteMetadata {
            content_type: found.content_type.unwrap_or_default(),
            user,
            headers: DESCRIBING_HEADERS
                .into_iter()
                .zip(found.headers)
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
        },
        archived: found.archived || in_archive_class,
        storage_class,
        last_modified: found.last_modified.as_ref().and_then(listing::system_time),
        kms: is_kms(found.encryption.as_ref().map(ServerSideEncryption::as_str)),
    }
}

/// An ETag without its weak mark and its quotes.
fn bare_etag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// Whether an object is encrypted with a key of a key management service (`aws:kms`, `aws:kms:dsse`).
fn is_kms(encryption: Option<&str>) -> bool {
    encryption.is_some_and(|encryption| encryption.starts_with("aws:kms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_quotes_and_weak_mark() {
        let table = [("\"abc\"", "abc"), ("W/\"abc-2\"", "abc-2"), ("abc", "abc"), ("\"\"", "")];
        for (etag, bare) in table {
            assert_eq!(bare_etag(etag), bare);
        }
    }

    #[test]
    fn keys_of_a_management_service_are_told_from_the_remotes_own() {
        assert!(is_kms(Some("aws:kms")));
        assert!(is_kms(Some("aws:kms:dsse")));
        assert!(!is_kms(Some("AES256")));
        assert!(!is_kms(None));
    }
}
