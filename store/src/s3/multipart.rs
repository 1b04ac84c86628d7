//! Uploads in parts. Parts go through `direct_put`, as whole objects do; everything else through the SDK.

use async_trait::async_trait;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart as SdkPart, EncodingType, Part, ServerSideEncryption,
};

use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::multipart::{
    CompletedPart, CopyPart, Multipart, NewUpload, PendingUpload, PutPart, StoredPart, UploadMark, UploadPage,
};
use crate::object_store::PutReceipt;
use crate::s3::{COPY_TIMEOUT, S3Store, classify, listing};

/// S3 gives no more uploads, and no more parts, at once.
const MAX_PAGE: i32 = 1000;

/// S3 has no more parts in an upload; a listing that goes on behind them does not end.
const MAX_PARTS: usize = 10_000;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Multipart for S3Store {
    async fn create(&self, key: &str, upload: &NewUpload) -> Result<String, StoreError> {
        let metadata = &upload.metadata;
        let content_type = Some(&metadata.content_type).filter(|value| !value.is_empty());
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(content_type.cloned())
            .set_cache_control(self.kept_header(metadata, "cache-control"))
            .set_content_disposition(self.kept_header(metadata, "content-disposition"))
            .set_content_encoding(self.kept_header(metadata, "content-encoding"))
            .set_content_language(self.kept_header(metadata, "content-language"))
            .set_metadata(Some(metadata.user.clone().into_iter().collect()))
            .set_storage_class(upload.storage_class.as_deref().map(Into::into))
            .set_server_side_encryption(self.encrypts.then_some(ServerSideEncryption::Aes256))
            .send()
            .await
            .map_err(|error| classify::sdk_error(Operation::CreateUpload, Some(key), error))?;
        begun
            .upload_id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| incomplete(Operation::CreateUpload, key, "expected the upload's id, got none"))
    }

    async fn put_part(&self, key: &str, upload_id: &str, part: PutPart) -> Result<String, StoreError> {
        self.uploads.put_part(key, upload_id, part).await
    }

    async fn copy_part(&self, key: &str, upload_id: &str, copy: &CopyPart<'_>) -> Result<String, StoreError> {
        let Some(last) = copy.range.end.checked_sub(1).filter(|last| *last >= copy.range.start) else {
            return Err(StoreError::new(ErrorKind::Invalid, Operation::CopyPart)
                .with_key(key)
                .with_message(Some("expected a range of at least one byte")));
        };
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(COPY_TIMEOUT).build();
        let copied = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(i32::from(copy.number))
            .copy_source(self.copy_source(copy.source_key))
            .copy_source_range(format!("bytes={}-{last}", copy.range.start))
            .copy_source_if_match(format!("\"{}\"", copy.expected_etag))
            .customize()
            .config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(|error| classify::sdk_error(Operation::CopyPart, Some(key), error))?;
        copied
            .copy_part_result()
            .and_then(|result| result.e_tag())
            .map(super::bare_etag)
            .filter(|etag| !etag.is_empty())
            .ok_or_else(|| incomplete(Operation::CopyPart, key, "expected an ETag of the part, got none"))
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[CompletedPart],
    ) -> Result<PutReceipt, StoreError> {
        let parts = parts
            .iter()
            .map(|part| {
                SdkPart::builder()
                    .part_number(i32::from(part.number))
                    .e_tag(format!("\"{}\"", part.etag))
                    .build()
            })
            .collect();
        // The remote may join the parts only now, and answers when it has.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(COPY_TIMEOUT).build();
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(|error| unread(classify::sdk_error(Operation::CompleteUpload, Some(key), error)))?;
        // The status comes before the work is done; only a document says that it was. What the SDK makes of an answer
        // that was cut short has no ETag.
        let Some(etag) = completed.e_tag.as_deref().map(super::bare_etag).filter(|etag| !etag.is_empty())
        else {
            let doubt = incomplete(Operation::CompleteUpload, key, "expected the object's ETag, got none");
            return Err(doubt.into_kind(ErrorKind::Unavailable));
        };
        Ok(PutReceipt {
            etag: Some(etag),
            kms: super::is_kms(completed.server_side_encryption.as_ref().map(ServerSideEncryption::as_str)),
            version_id: completed.version_id,
        })
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let answer = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => {
                super::absent_is_none(classify::sdk_error(Operation::AbortUpload, Some(key), error))
                    .map(|_: Option<()>| ())
            }
        }
    }

    async fn list_uploads(&self, prefix: &str, after: Option<&UploadMark>) -> Result<UploadPage, StoreError> {
        let page = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .set_prefix(Some(prefix).filter(|prefix| !prefix.is_empty()).map(str::to_owned))
            .set_key_marker(after.map(|mark| mark.key.clone()))
            .set_upload_id_marker(after.map(|mark| mark.upload_id.clone()))
            .max_uploads(MAX_PAGE)
            .set_encoding_type(self.encodes_listings.then_some(EncodingType::Url))
            .send()
            .await
            .map_err(|error| classify::sdk_error(Operation::ListUploads, None, error))?;
        read_uploads(page, prefix, after)
    }

    async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<StoredPart>, StoreError> {
        let mut found: Vec<StoredPart> = Vec::new();
        loop {
            let page = self
                .client
                .list_parts()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload_id)
                .max_parts(MAX_PAGE)
                .set_part_number_marker(found.last().map(|part| part.number.to_string()))
                .send()
                .await
                .map_err(|error| classify::sdk_error(Operation::ListParts, Some(key), error))?;
            if page.is_truncated.is_none() && page.upload_id.is_none() && page.parts.is_none() {
                return Err(incomplete(Operation::ListParts, key, "expected a listing, got none"));
            }
            let last = found.last().map_or(0, |part| part.number);
            let mut fresh: Vec<StoredPart> =
                page.parts().iter().filter_map(stored_part).filter(|part| part.number > last).collect();
            fresh.sort_by_key(|part| part.number);
            fresh.dedup_by_key(|part| part.number);
            let is_stuck = fresh.is_empty();
            found.append(&mut fresh);
            if page.is_truncated != Some(true) {
                return Ok(found);
            }
            if is_stuck || found.len() > MAX_PARTS {
                return Err(incomplete(Operation::ListParts, key, "listing does not end"));
            }
        }
    }
}

/// What the remote's page says, as far as it is about `prefix`: nobody else's uploads may be taken for ours.
fn read_uploads(
    page: ListMultipartUploadsOutput,
    prefix: &str,
    after: Option<&UploadMark>,
) -> Result<UploadPage, StoreError> {
    let fail = |why: &str| StoreError::new(ErrorKind::Other, Operation::ListUploads).with_message(Some(why));
    if page.is_truncated.is_none() && page.bucket.is_none() && page.uploads.is_none() {
        return Err(fail("expected a listing, got an answer without content"));
    }
    let is_told_encoded = page.encoding_type() == Some(&EncodingType::Url);
    let keys = || page.uploads().iter().filter_map(|upload| upload.key());
    let is_encoded = is_told_encoded && keys().all(listing::is_encoded);
    let mut last = None;
    let mut uploads = Vec::with_capacity(page.uploads().len());
    for upload in page.uploads() {
        let (Some(key), Some(upload_id)) = (upload.key(), upload.upload_id()) else {
            continue;
        };
        let key = listing::decode(key, is_encoded);
        last = Some(UploadMark { key: key.clone(), upload_id: upload_id.to_owned() });
        if key.starts_with(prefix) {
            uploads.push(PendingUpload {
                key,
                upload_id: upload_id.to_owned(),
                initiated: upload.initiated().and_then(listing::system_time),
            });
        }
    }
    if page.is_truncated != Some(true) {
        return Ok(UploadPage { uploads, next: None });
    }
    let told = page
        .next_key_marker()
        .zip(page.next_upload_id_marker())
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, id)| UploadMark { key: listing::decode(key, is_encoded), upload_id: id.to_owned() });
    let next = told.or(last).ok_or_else(|| fail("listing does not advance: the page is empty"))?;
    if Some(&next) == after {
        return Err(fail("listing does not advance: the same page again"));
    }
    Ok(UploadPage { uploads, next: Some(next) })
}

fn stored_part(part: &Part) -> Option<StoredPart> {
    Some(StoredPart {
        number: part
            .part_number()
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number > 0)?,
        etag: part.e_tag().map(super::bare_etag).unwrap_or_default(),
        length: part.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        last_modified: part.last_modified().and_then(listing::system_time),
    })
}

/// A success whose document makes no sense leaves it open whether the upload is completed: that may be found out later.
fn unread(error: StoreError) -> StoreError {
    let is_success = error.status().is_some_and(|status| (200..300).contains(&status));
    if is_success && error.code().is_none() { error.into_kind(ErrorKind::Unavailable) } else { error }
}

/// An answer that says too little.
fn incomplete(operation: Operation, key: &str, message: &str) -> StoreError {
    StoreError::new(ErrorKind::Other, operation).with_key(key).with_message(Some(message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use aws_sdk_s3::types::MultipartUpload;

    fn page(
        uploads: &[(&str, &str)],
    ) -> aws_sdk_s3::operation::list_multipart_uploads::builders::ListMultipartUploadsOutputBuilder {
        let uploads = uploads
            .iter()
            .map(|(key, id)| MultipartUpload::builder().key(*key).upload_id(*id).build())
            .collect();
        ListMultipartUploadsOutput::builder().bucket("b").set_uploads(Some(uploads))
    }

    fn mark(key: &str, upload_id: &str) -> UploadMark {
        UploadMark { key: key.to_owned(), upload_id: upload_id.to_owned() }
    }

    #[test]
    fn uploads_of_other_prefixes_are_left_out_whatever_the_remote_lists() {
        let page = read_uploads(page(&[("p/a", "1"), ("q/a", "2"), ("p", "3")]).build(), "p/", None).unwrap();
        let keys: Vec<_> = page.uploads.iter().map(|upload| upload.key.as_str()).collect();
        assert_eq!(keys, ["p/a"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn a_truncated_page_goes_on_where_it_says_or_behind_its_last_upload() {
        let told = page(&[("a", "1")])
            .is_truncated(true)
            .next_key_marker("b%20c")
            .next_upload_id_marker("9")
            .encoding_type(EncodingType::Url)
            .build();
        assert_eq!(read_uploads(told, "", None).unwrap().next, Some(mark("b c", "9")));
        let untold = page(&[("a", "1"), ("a", "2")]).is_truncated(true).build();
        assert_eq!(read_uploads(untold, "z", None).unwrap().next, Some(mark("a", "2")));
    }

    #[test]
    fn a_listing_that_does_not_advance_is_an_error() {
        let again = || page(&[("a", "1")]).is_truncated(true).build();
        assert!(read_uploads(again(), "", Some(&mark("a", "1"))).is_err());
        assert!(read_uploads(page(&[]).is_truncated(true).build(), "", None).is_err());
        assert!(read_uploads(ListMultipartUploadsOutput::builder().build(), "", None).is_err());
    }
}
