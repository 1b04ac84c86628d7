//! Uploads, of whole objects and of parts, sent without the SDK's machinery.
//!
//! An upload is the one request that a busy worker makes for every object. The SDK spends several times as much
//! processor time on one as its network traffic costs, so this request is built here. Signing is the SDK's own
//! (`aws-sigv4`), endpoint, credentials and connections are those the SDK uses for everything else.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::body::Body;
use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::multipart::PutPart;
use crate::object_store::{PutObject, PutReceipt};
use crate::observing::Patience;
use crate::s3::classify::{self, ErrorDocument};
use crate::s3::credentials::CredentialCache;
use crate::s3::guarded_body::{GuardedBody, StopOnDrop, Watch, while_moving};
use crate::s3::transport::Transport;

/// What S3 leaves as it is in the path of a request, beside letters and digits.
///
/// Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header", UriEncode.
pub(crate) const KEY_CHARACTERS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Likewise in its query.
const QUERY_CHARACTERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An upload fails when nothing moved for this long: no byte out, no answer in.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// More than any S3 error document; what is longer is not read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends uploads to one bucket.
#[derive(Debug)]
pub(crate) struct DirectPut {
    transport: Transport,
    credentials: Arc<CredentialCache>,
    /// URL of the bucket without a slash at its end.
    bucket_url: String,
    region: String,
    signing_name: String,
    signing: SigningSettings,
    encrypts: bool,
}

/// A request with a body, before it is signed.
struct Upload<'a> {
    operation: Operation,
    key: &'a str,
    /// With its question mark; empty when there is none.
    query: String,
    headers: HeaderMap,
    length: u64,
    content: Body,
}

impl DirectPut {
    pub(crate) fn new(
        transport: Transport,
        credentials: Arc<CredentialCache>,
        bucket_url: &str,
        region: &str,
        signing_name: &str,
        encrypts: bool,
    ) -> Self {
        let mut signing = SigningSettings::default();
        signing.percent_encoding_mode = PercentEncodingMode::Single;
        signing.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        signing.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        Self {
            transport,
            credentials,
            bucket_url: bucket_url.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            signing_name: signing_name.to_owned(),
            signing,
            encrypts,
        }
    }

    /// See [`crate::ObjectStore::put`].
    pub(crate) async fn put(&self, key: &str, put: PutObject) -> Result<PutReceipt, StoreError> {
        let headers = self.object_headers(&put).map_err(|error| invalid(Operation::Put, key, &error))?;
        let response = self
            .send(Upload {
                operation: Operation::Put,
                key,
                query: String::new(),
                headers,
                length: put.length,
                content: put.body,
            })
            .await?;
        let headers = response.headers();
        Ok(PutReceipt {
            etag: headers.get("etag").map(super::bare_etag),
            kms: super::is_kms(headers.get("x-amz-server-side-encryption")),
            version_id: headers.get("x-amz-version-id").map(str::to_owned),
        })
    }

    /// See [`crate::Multipart::put_part`].
    pub(crate) async fn put_part(
        &self,
        key: &str,
        upload_id: &str,
        part: PutPart,
    ) -> Result<String, StoreError> {
        let operation = Operation::PutPart;
        let headers =
            plain_headers(part.length, part.content_md5).map_err(|error| invalid(operation, key, &error))?;
        let upload_id = utf8_percent_encode(upload_id, QUERY_CHARACTERS);
        let response = self
            .send(Upload {
                operation,
                key,
                query: format!("?partNumber={}&uploadId={upload_id}", part.number),
                headers,
                length: part.length,
                content: part.body,
            })
            .await?;
        // Without it the upload could never be completed.
        response.headers().get("etag").map(super::bare_etag).filter(|etag| !etag.is_empty()).ok_or_else(
            || {
                StoreError::new(ErrorKind::Other, operation)
                    .with_key(key)
                    .with_status(response.status().as_u16())
                    .with_message(Some("expected an ETag of the part, got none"))
            },
        )
    }

    /// Sends `upload` and makes sure that it was taken, all of it.
    async fn send(&self, upload: Upload<'_>) -> Result<HttpResponse, StoreError> {
        let Upload { operation, key, query, mut headers, length, content } = upload;
        let fail = |kind| StoreError::new(kind, operation).with_key(key);
        // The SDK, which does the rest, takes no such key; and a request without a key is one about the bucket.
        if key.trim().is_empty() {
            return Err(invalid(operation, key, "expected a key with more than white space"));
        }
        let now = SystemTime::now();
        let identity = self
            .credentials
            .identity(now)
            .await
            .map_err(|error| fail(ErrorKind::Denied).with_message(Some(&error.to_string())))?;
        let url = self.url(key, &query);
        self.sign(&url, &mut headers, identity, now)
            .map_err(|error| fail(ErrorKind::Other).with_message(Some(&error)))?;

        let (mut body, watch) = GuardedBody::new(content, length);
        let _stop = StopOnDrop(Arc::clone(&watch));
        if length == 0 {
            let drained = while_moving(body.drain_empty(), &watch, STALL_LIMIT).await;
            if !matches!(drained, Ok(Ok(()))) {
                return Err(body_error(&watch, fail(ErrorKind::Body)));
            }
        }
        let body = if length == 0 { SdkBody::empty() } else { SdkBody::from_body_1_x(body) };
        let request = request(url, headers, body).map_err(|error| invalid(operation, key, &error))?;
        let (response, body) = self.exchange(request, &watch, fail).await?;
        if let Some(fault) = watch.take_fault() {
            // The remote answered before it had everything. Whatever it says, it cannot have stored the object.
            return Err(fail(ErrorKind::Body).with_message(Some(&fault.to_string())).with_source(fault));
        }
        self.check_answer(operation, key, &response, &body)?;
        // No remote can have stored what it was not sent, and none says so with an answer that breaks off.
        let doubt = if !watch.is_complete() {
            "remote answered before it had the whole body"
        } else if let Err(broken_off) = &body {
            broken_off
        } else {
            return Ok(response);
        };
        Err(fail(ErrorKind::Unavailable).with_status(response.status().as_u16()).with_message(Some(doubt)))
    }

    /// Sends a request and reads the answer, for as long as something moves.
    async fn exchange(
        &self,
        request: HttpRequest,
        watch: &Arc<Watch>,
        fail: impl Fn(ErrorKind) -> StoreError,
    ) -> Result<(HttpResponse, Result<Vec<u8>, String>), StoreError> {
        let exchange = async {
            let patience = Patience::WhileMoving(Arc::clone(watch), STALL_LIMIT);
            let response = self.transport.send(request, patience).await?;
            Ok::<_, ConnectorError>(read_answer(response).await)
        };
        match while_moving(exchange, watch, STALL_LIMIT).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let error = fail(classify::connector_kind(&error))
                    .with_message(Some(&classify::root_cause(&error)))
                    .with_source(error);
                Err(body_error(watch, error))
            }
            Err(stalled) => {
                let stalled = fail(ErrorKind::Unavailable).with_message(Some(&stalled.to_string()));
                Err(body_error(watch, stalled))
            }
        }
    }

    fn url(&self, key: &str, query: &str) -> String {
        let mut url = String::with_capacity(self.bucket_url.len() + 1 + key.len() * 2 + query.len());
        url.push_str(&self.bucket_url);
        url.push('/');
        for part in utf8_percent_encode(key, KEY_CHARACTERS) {
            url.push_str(part);
        }
        url.push_str(query);
        url
    }

    /// Headers of a request for a whole object, but for those of the signature.
    fn object_headers(&self, put: &PutObject) -> Result<HeaderMap, String> {
        let mut headers = plain_headers(put.length, put.content_md5)?;
        headers.reserve(put.metadata.user.len() + 8);
        if !put.metadata.content_type.is_empty() {
            let value = HeaderValue::from_str(&put.metadata.content_type)
                .map_err(|_| "content type does not fit into a header".to_owned())?;
            headers.insert(header::CONTENT_TYPE, value);
        }
        for (name, value) in &put.metadata.headers {
            let misfit = |_| format!("{name} does not fit into a header");
            let header_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| misfit(()))?;
            headers.insert(header_name, HeaderValue::from_str(value).map_err(|_| misfit(()))?);
        }
        if self.encrypts {
            headers.insert(
                HeaderName::from_static("x-amz-server-side-encryption"),
                HeaderValue::from_static("AES256"),
            );
        }
        if let Some(class) = &put.storage_class {
            let value = HeaderValue::from_str(class)
                .map_err(|_| "storage class does not fit into a header".to_owned())?;
            headers.insert(HeaderName::from_static("x-amz-storage-class"), value);
        }
        let mut full_name = String::from("x-amz-meta-");
        let prefix_length = full_name.len();
        for (name, value) in &put.metadata.user {
            full_name.truncate(prefix_length);
            full_name.push_str(name);
            let header_name = HeaderName::from_bytes(full_name.as_bytes())
                .map_err(|_| format!("metadata name {name:?} does not fit into a header"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("value of metadata {name:?} does not fit into a header"))?;
            headers.append(header_name, value);
        }
        Ok(headers)
    }

    fn sign(
        &self,
        url: &str,
        headers: &mut HeaderMap,
        identity: Identity,
        now: SystemTime,
    ) -> Result<(), String> {
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.signing_name)
            .time(now)
            .settings(self.signing.clone())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let request = SignableRequest::new("PUT", url, pairs, SignableBody::UnsignedPayload)
            .map_err(|error| error.to_string())?;
        let (instructions, _signature) =
            sign(request, &params).map_err(|error| error.to_string())?.into_parts();
        let (signed, _query) = instructions.into_parts();
        for signed in signed {
            let mut value = HeaderValue::from_str(signed.value()).map_err(|error| error.to_string())?;
            value.set_sensitive(signed.sensitive());
            headers.insert(HeaderName::from_static(signed.name()), value);
        }
        Ok(())
    }

    /// Whether the answer says that all went well. An error document says that it did not, whatever the status.
    fn check_answer(
        &self,
        operation: Operation,
        key: &str,
        response: &HttpResponse,
        body: &Result<Vec<u8>, String>,
    ) -> Result<(), StoreError> {
        let document = body.as_deref().ok().and_then(ErrorDocument::parse);
        if response.status().is_success() && document.is_none() {
            return Ok(());
        }
        let document = document.unwrap_or_default();
        let error = classify::refused(
            operation,
            Some(key),
            response,
            document.code.as_deref(),
            document.message.as_deref(),
        );
        if matches!(
            error.code(),
            Some("ExpiredToken" | "InvalidAccessKeyId" | "InvalidToken" | "TokenRefreshRequired")
        ) {
            self.credentials.forget();
        }
        Err(error)
    }
}

fn invalid(operation: Operation, key: &str, message: &str) -> StoreError {
    StoreError::new(ErrorKind::Invalid, operation).with_key(key).with_message(Some(message))
}

/// Headers about the content alone.
fn plain_headers(length: u64, content_md5: Option<[u8; 16]>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(md5) = content_md5 {
        let value = HeaderValue::from_str(&BASE64.encode(md5)).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static("content-md5"), value);
    }
    Ok(headers)
}

/// `otherwise`, unless the body broke off: that is then the cause of everything else.
fn body_error(watch: &Watch, otherwise: StoreError) -> StoreError {
    match watch.take_fault() {
        Some(fault) => {
            otherwise.into_kind(ErrorKind::Body).with_message(Some(&fault.to_string())).with_source(fault)
        }
        None => otherwise,
    }
}

fn request(url: String, headers: HeaderMap, body: SdkBody) -> Result<HttpRequest, String> {
    let mut request = http::Request::builder()
        .method(Method::PUT)
        .uri(url)
        .body(body)
        .map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    HttpRequest::try_from(request).map_err(|error| error.to_string())
}

/// Reads an answer's body to its end, which also lets its connection be used again.
async fn read_answer(mut response: HttpResponse) -> (HttpResponse, Result<Vec<u8>, String>) {
    let body = response.take_body();
    let read = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let read = match read {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Ok(Vec::new()),
        Err(error) => {
            let mut text = String::from("answer broke off: ");
            let _ = write!(text, "{}", classify::root_cause(&*error));
            Err(text)
        }
    };
    (response, read)
}
