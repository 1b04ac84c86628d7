//! The buckets of a set of credentials: what operators ask before there is a mapping.

use crate::error::StoreError;
use crate::metering::Operation;
use crate::s3::{S3Settings, classify, setup};

/// Names of the buckets that the credentials may list; `settings.remote.bucket` means nothing.
///
/// # Errors
/// As of any request.
pub async fn list_buckets(settings: &S3Settings) -> Result<Vec<String>, StoreError> {
    let client = setup::service_client(settings).await?;
    let answer = client.list_buckets().send().await;
    let answer = answer.map_err(|error| classify::sdk_error(Operation::List, None, error))?;
    Ok(answer.buckets.unwrap_or_default().into_iter().filter_map(|bucket| bucket.name).collect())
}
