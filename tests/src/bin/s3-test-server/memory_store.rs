//! Buckets in memory, with S3's rules for keys, metadata, ETags, storage classes and lifecycle rules.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::stream;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use crate::conditions::{check_precondition, hasher, with_trailers};
use crate::listing::{Query, encoded, page};
use crate::multipart::{StoredPart, Uploads, check_part_number, piece};
use crate::object::{Attributes, StoredObject, check_key, check_metadata, receive};

#[derive(Default)]
struct BucketState {
    objects: BTreeMap<String, StoredObject>,
    uploads: Uploads,
    lifecycle: Option<Vec<LifecycleRule>>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, BucketState>,
}

impl State {
    fn bucket(&mut self, name: &str) -> S3Result<&mut BucketState> {
        self.buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn object(&mut self, bucket: &str, key: &str) -> S3Result<&mut StoredObject> {
        self.bucket(bucket)?.objects.get_mut(key).ok_or_else(|| s3_error!(NoSuchKey))
    }
}

#[derive(Default)]
pub(crate) struct MemoryStore {
    state: Mutex<State>,
    uploads: AtomicU64,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl S3 for MemoryStore {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let mut state = self.lock();
        if state.buckets.contains_key(&req.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        state.buckets.insert(req.input.bucket, BucketState::default());
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.lock().bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let mut state = self.lock();
        let bucket = state.bucket(&req.input.bucket)?;
        if !bucket.objects.is_empty() || !bucket.uploads.is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        state.buckets.remove(&req.input.bucket);
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self
            .lock()
            .buckets
            .keys()
            .map(|name| Bucket {
                name: Some(name.clone()),
                creation_date: Some(Timestamp::from(SystemTime::UNIX_EPOCH)),
                ..Bucket::default()
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.lock().bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let trailers = req.trailing_headers.take();
        let mut input = req.input;
        check_key(&input.key)?;
        let attributes = Attributes {
            content_type: input.content_type.take(),
            content_encoding: input.content_encoding.take(),
            content_disposition: input.content_disposition.take(),
            content_language: input.content_language.take(),
            cache_control: input.cache_control.take(),
            metadata: input.metadata.take().unwrap_or_default(),
            storage_class: input.storage_class.take().map(|class| class.as_str().to_owned()),
            encryption: input.server_side_encryption.take().map(|kind| kind.as_str().to_owned()),
            kms_key: input.ssekms_key_id.take(),
        };
        check_metadata(&attributes.metadata)?;
        self.lock().bucket(&input.bucket)?;
        let claimed = Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            checksum_type: None,
        };
        let hasher = hasher(&claimed, input.checksum_algorithm.as_ref());
        let expected = || with_trailers(claimed, trailers);
        let received = receive(input.body, input.content_md5.as_deref(), hasher, expected).await?;
        let object = StoredObject::new(received, attributes);
        let output = PutObjectOutput {
            e_tag: Some(object.tag()),
            server_side_encryption: object.attributes.encryption.clone().map(ServerSideEncryption::from),
            ssekms_key_id: object.attributes.kms_key.clone(),
            ..PutObjectOutput::default()
        };
        let mut state = self.lock();
        let objects = &mut state.bucket(&input.bucket)?.objects;
        check_precondition(objects.get(&input.key), input.if_match.as_ref(), input.if_none_match.as_ref())?;
        objects.insert(input.key, object);
        Ok(S3Response::new(output))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        check_key(&input.key)?;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut state = self.lock();
        let mut object = state.object(bucket, key)?.clone();
        if object.is_cold() {
            return Err(s3_error!(InvalidObjectState, "the object is archived"));
        }
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(tag) => tag.value() == object.etag,
        };
        if input.copy_source_if_match.as_ref().is_some_and(|condition| !matches(condition))
            || input.copy_source_if_none_match.as_ref().is_some_and(matches)
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let replaces = input
            .metadata_directive
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let onto_itself = **bucket == *input.bucket && **key == *input.key;
        let changes = replaces || input.storage_class.is_some() || input.server_side_encryption.is_some();
        if onto_itself && !changes {
            return Err(s3_error!(InvalidRequest, "a copy onto itself must change something"));
        }
        if replaces {
            object.attributes = Attributes {
                content_type: input.content_type,
                content_encoding: input.content_encoding,
                content_disposition: input.content_disposition,
                content_language: input.content_language,
                cache_control: input.cache_control,
                metadata: input.metadata.unwrap_or_default(),
                ..Attributes::default()
            };
            check_metadata(&object.attributes.metadata)?;
        }
        // As on S3, class and encryption are the request's, or the default; they are never copied.
        object.attributes.storage_class = input.storage_class.map(|class| class.as_str().to_owned());
        object.attributes.encryption = input.server_side_encryption.map(|kind| kind.as_str().to_owned());
        object.attributes.kms_key = input.ssekms_key_id;
        object.modified = SystemTime::now();
        let result = CopyObjectResult {
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            ..CopyObjectResult::default()
        };
        state.bucket(&input.bucket)?.objects.insert(input.key, object);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let mut state = self.lock();
        let object = state.object(&input.bucket, &input.key)?.clone();
        check_precondition(Some(&object), input.if_match.as_ref(), None)?;
        let attributes = object.attributes.clone();
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(object.length).ok(),
            content_type: content_type(&attributes),
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            metadata: Some(attributes.metadata),
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            storage_class: attributes.storage_class.map(StorageClass::from),
            server_side_encryption: attributes.encryption.map(ServerSideEncryption::from),
            ssekms_key_id: attributes.kms_key,
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.lock().object(&input.bucket, &input.key)?.clone();
        check_precondition(Some(&object), input.if_match.as_ref(), None)?;
        if object.is_cold() {
            return Err(s3_error!(InvalidObjectState, "the object is archived"));
        }
        let range = match input.range {
            Some(range) => range.check(object.length)?,
            None => 0..object.length,
        };
        let content_range = input
            .range
            .map(|_| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), object.length));
        let pieces = object.slice(&range).into_iter().map(Ok::<_, Infallible>);
        let attributes = object.attributes.clone();
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(stream::iter(pieces))),
            content_length: i64::try_from(range.end - range.start).ok(),
            content_range,
            content_type: content_type(&attributes),
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            metadata: Some(attributes.metadata),
            e_tag: Some(object.tag()),
            last_modified: Some(object.modified()),
            storage_class: attributes.storage_class.map(StorageClass::from),
            server_side_encryption: attributes.encryption.map(ServerSideEncryption::from),
            ssekms_key_id: attributes.kms_key,
            ..GetObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.lock().bucket(&req.input.bucket)?.objects.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut state = self.lock();
        let objects = &mut state.bucket(&req.input.bucket)?.objects;
        let mut deleted = Vec::new();
        for named in req.input.delete.objects {
            objects.remove(&named.key);
            deleted.push(DeletedObject { key: Some(named.key), ..DeletedObject::default() });
        }
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let mut state = self.lock();
        let found = page(
            &state.bucket(&input.bucket)?.objects,
            &Query {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref(),
                after: input.marker.as_deref(),
                max_keys: input.max_keys.unwrap_or(1000),
                encoding: input.encoding_type.as_ref(),
            },
        );
        let encode = |text: String| encoded(&text, input.encoding_type.as_ref());
        // S3 names the next marker only with a delimiter.
        let next_marker = found.last.filter(|_| found.truncated && input.delimiter.is_some()).map(encode);
        Ok(S3Response::new(ListObjectsOutput {
            next_marker,
            name: Some(input.bucket),
            prefix: input.prefix.map(encode),
            marker: input.marker.map(encode),
            delimiter: input.delimiter.map(encode),
            max_keys: input.max_keys.or(Some(1000)),
            is_truncated: Some(found.truncated),
            contents: Some(found.contents),
            common_prefixes: Some(found.common_prefixes),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let mut state = self.lock();
        let after = input.continuation_token.as_deref().or(input.start_after.as_deref());
        let found = page(
            &state.bucket(&input.bucket)?.objects,
            &Query {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref(),
                after,
                max_keys: input.max_keys.unwrap_or(1000),
                encoding: input.encoding_type.as_ref(),
            },
        );
        let encode = |text: String| encoded(&text, input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: Some(found.count()),
            next_continuation_token: found.last.filter(|_| found.truncated),
            name: Some(input.bucket),
            prefix: input.prefix.map(encode),
            delimiter: input.delimiter.map(encode),
            start_after: input.start_after.map(encode),
            continuation_token: input.continuation_token,
            max_keys: input.max_keys.or(Some(1000)),
            is_truncated: Some(found.truncated),
            contents: Some(found.contents),
            common_prefixes: Some(found.common_prefixes),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        check_key(&input.key)?;
        let attributes = Attributes {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default(),
            storage_class: input.storage_class.map(|class| class.as_str().to_owned()),
            encryption: input.server_side_encryption.map(|kind| kind.as_str().to_owned()),
            kms_key: input.ssekms_key_id,
        };
        check_metadata(&attributes.metadata)?;
        let id = format!("upload-{:08}", self.uploads.fetch_add(1, Ordering::Relaxed));
        self.lock().bucket(&input.bucket)?.uploads.begin(&input.key, &id, attributes);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let trailers = req.trailing_headers.take();
        let input = req.input;
        let claimed = Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            checksum_type: None,
        };
        let hasher = hasher(&claimed, input.checksum_algorithm.as_ref());
        let expected = || with_trailers(claimed, trailers);
        check_part_number(input.part_number)?;
        self.lock().bucket(&input.bucket)?.uploads.get(&input.key, &input.upload_id)?;
        let received = receive(input.body, input.content_md5.as_deref(), hasher, expected).await?;
        let tag = ETag::Strong(received.md5_hex.clone());
        let mut state = self.lock();
        let upload = state.bucket(&input.bucket)?.uploads.get(&input.key, &input.upload_id)?;
        upload.parts.insert(input.part_number, StoredPart::new(received));
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(tag), ..UploadPartOutput::default() }))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        check_part_number(input.part_number)?;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut state = self.lock();
        state.bucket(&input.bucket)?.uploads.get(&input.key, &input.upload_id)?;
        let source = state.object(bucket, key)?.clone();
        if source.is_cold() {
            return Err(s3_error!(InvalidObjectState, "the object is archived"));
        }
        let unwanted = input.copy_source_if_none_match.as_ref();
        check_precondition(Some(&source), input.copy_source_if_match.as_ref(), unwanted)?;
        let part = StoredPart::new(piece(&source, input.copy_source_range.as_deref())?);
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.content.md5_hex.clone())),
            last_modified: Some(Timestamp::from(part.arrived)),
            ..CopyPartResult::default()
        };
        let upload = state.bucket(&input.bucket)?.uploads.get(&input.key, &input.upload_id)?;
        upload.parts.insert(input.part_number, part);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut state = self.lock();
        let bucket = state.bucket(&input.bucket)?;
        let object = bucket.uploads.get(&input.key, &input.upload_id)?.join(&named)?;
        let existing = bucket.objects.get(&input.key);
        check_precondition(existing, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        bucket.uploads.end(&input.key, &input.upload_id)?;
        let output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key.clone()),
            e_tag: Some(object.tag()),
            server_side_encryption: object.attributes.encryption.clone().map(ServerSideEncryption::from),
            ssekms_key_id: object.attributes.kms_key.clone(),
            ..CompleteMultipartUploadOutput::default()
        };
        bucket.objects.insert(input.key, object);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.lock().bucket(&req.input.bucket)?.uploads.end(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Ok(S3Response::new(self.lock().bucket(&req.input.bucket)?.uploads.list(&req.input)))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let mut state = self.lock();
        let upload = state.bucket(&req.input.bucket)?.uploads.get(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(upload.list_parts(req.input)))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let rules = self.lock().bucket(&req.input.bucket)?.lifecycle.clone();
        let rules = rules.ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration))?;
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(rules),
            ..GetBucketLifecycleConfigurationOutput::default()
        }))
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        req: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        let rules = req.input.lifecycle_configuration.map(|configuration| configuration.rules);
        let rules = rules.ok_or_else(|| s3_error!(MalformedXML))?;
        self.lock().bucket(&req.input.bucket)?.lifecycle = Some(rules);
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    async fn delete_bucket_lifecycle(
        &self,
        req: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        self.lock().bucket(&req.input.bucket)?.lifecycle = None;
        Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
    }
}

fn content_type(attributes: &Attributes) -> Option<String> {
    let default = || "binary/octet-stream".to_owned();
    Some(attributes.content_type.clone().unwrap_or_else(default))
}
