//! What a remote's refusal, or the network's, means: from codes, statuses and transport faults to [`ErrorKind`].

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;

/// Headers in which remotes repeat the error code, for answers that have no body.
const CODE_HEADERS: [&str; 2] = ["x-amz-error-code", "x-minio-error-code"];
/// Likewise the message.
const MESSAGE_HEADERS: [&str; 2] = ["x-amz-error-message", "x-minio-error-desc"];
/// Headers with the request's id.
const REQUEST_ID_HEADERS: [&str; 3] = ["x-amz-request-id", "x-amzn-requestid", "x-guploader-uploadid"];

/// A remote's refusal, as far as it tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusal<'a> {
    pub(crate) status: u16,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
}

impl Refusal<'_> {
    /// The kind by code; where the code is missing or says no more than the status, by status.
    ///
    /// Source: Amazon S3 API Reference, "Error responses"; codes of clones as they send them.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self.code {
            Some(code) => self.kind_by_code(code).unwrap_or_else(|| kind_by_status(self.status)),
            None => kind_by_status(self.status),
        }
    }

    fn kind_by_code(&self, code: &str) -> Option<ErrorKind> {
        Some(match code {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" => ErrorKind::NotFound,
            "NoSuchBucket" | "InvalidBucketName" | "PermanentRedirect" => ErrorKind::BucketMissing,
            "AccessDenied"
            | "AccountProblem"
            | "AllAccessDisabled"
            | "AuthorizationHeaderMalformed"
            | "ExpiredToken"
            | "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "InvalidToken"
            | "InvalidTokenId"
            | "MissingSecurityHeader"
            | "NotSignedUp"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "UnauthorizedAccess"
            | "UserKeyMustBeSpecified" => ErrorKind::Denied,
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "BandwidthLimitExceeded"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "TooManyRequestsException" => ErrorKind::Throttled,
            "ServiceUnavailable" => ErrorKind::Throttled,
            // A request that was cut short on its way, and remotes that are full, may pass: nothing is wrong with
            // the object.
            "IncompleteBody"
            | "InternalError"
            | "InternalServerError"
            | "QuotaExceeded"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "TemporaryRedirect"
            | "XMinioStorageFull" => ErrorKind::Unavailable,
            "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
                ErrorKind::BadDigest
            }
            // `InvalidPart`: the upload no longer has the part that it is to be completed with.
            "PreconditionFailed" | "ConditionalRequestConflict" | "InvalidPart" => ErrorKind::Precondition,
            "NotImplemented" | "MethodNotAllowed" => ErrorKind::Unsupported,
            "EntityTooLarge" => ErrorKind::TooLarge,
            // The one code for "this copy is too large for a single request" is shared with many others.
            "InvalidRequest"
                if self.message.is_some_and(|message| message.contains("larger than the maximum")) =>
            {
                ErrorKind::TooLarge
            }
            "KeyTooLong"
            | "KeyTooLongError"
            | "EntityTooSmall"
            | "InvalidPartOrder"
            | "InvalidRange"
            | "InvalidStorageClass"
            | "MetadataTooLarge"
            | "InvalidArgument"
            | "InvalidObjectName"
            | "InvalidObjectState"
            | "InvalidRequest"
            | "InvalidURI"
            | "XMinioInvalidObjectName" => ErrorKind::Invalid,
            code if code.starts_with("KMS.") => ErrorKind::Denied,
            _ => return None,
        })
    }
}

/// The kind by status alone.
fn kind_by_status(status: u16) -> ErrorKind {
    match status {
        301 => ErrorKind::BucketMissing,
        307 | 408 | 500 | 502 | 504..=599 => ErrorKind::Unavailable,
        401 | 403 | 407 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        412 => ErrorKind::Precondition,
        413 => ErrorKind::TooLarge,
        400 | 414 | 422 | 431 => ErrorKind::Invalid,
        429 | 503 => ErrorKind::Throttled,
        _ => ErrorKind::Other,
    }
}

/// The code in an answer's headers: the only place for it in answers to HEAD.
pub(crate) fn header_code(response: &HttpResponse) -> Option<&str> {
    first_header(response, &CODE_HEADERS)
}

/// What the head of a refusal means; its body may say more.
pub(crate) fn kind_of_head(response: &HttpResponse) -> ErrorKind {
    Refusal { status: response.status().as_u16(), code: header_code(response), message: None }.kind()
}

/// The remote's id of a request.
pub(crate) fn request_id(response: &HttpResponse) -> Option<&str> {
    first_header(response, &REQUEST_ID_HEADERS)
}

/// Whether a header, its name in lower case, says something about a refusal or a request.
pub(crate) fn reads_header(name: &str) -> bool {
    CODE_HEADERS.contains(&name) || MESSAGE_HEADERS.contains(&name) || REQUEST_ID_HEADERS.contains(&name)
}

fn first_header<'a>(response: &'a HttpResponse, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| response.headers().get(name))
}

/// The error for an answer that refuses, whose body (if it has one) was parsed to `code` and `message`.
pub(crate) fn refused(
    operation: Operation,
    key: Option<&str>,
    response: &HttpResponse,
    code: Option<&str>,
    message: Option<&str>,
) -> StoreError {
    // A code from the headers is the remote's own word; one that was made from the status (`NotFound`) is not.
    let refusal = Refusal {
        status: response.status().as_u16(),
        code: header_code(response).or(code),
        message: message.or_else(|| first_header(response, &MESSAGE_HEADERS)),
    };
    let error = StoreError::new(refusal.kind(), operation)
        .with_status(refusal.status)
        .with_code(refusal.code)
        .with_message(refusal.message)
        .with_request_id(request_id(response));
    match key {
        Some(key) => error.with_key(key),
        None => error,
    }
}

/// The error for a failed call of the SDK.
pub(crate) fn sdk_error<E>(
    operation: Operation,
    key: Option<&str>,
    error: SdkError<E, HttpResponse>,
) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let classified = match &error {
        _ if find_cause::<NoCredentials>(&error).is_some() => StoreError::new(ErrorKind::Denied, operation),
        SdkError::ServiceError(context) => {
            let told = refused(operation, key, context.raw(), context.err().code(), context.err().message());
            // A document that makes no sense is no refusal: what is wrong with it is all there is to tell.
            return match context.raw().status().is_success() && told.code().is_none() {
                true => told.with_message(Some(&root_cause(context.err()))),
                false => told,
            };
        }
        // An answer that began well and could not be read to its end, or makes no sense.
        SdkError::ResponseError(context) => {
            let kind = if is_transport_fault(&error) { ErrorKind::Unavailable } else { ErrorKind::Other };
            StoreError::new(kind, operation)
                .with_status(context.raw().status().as_u16())
                .with_request_id(request_id(context.raw()))
        }
        SdkError::TimeoutError(_) => StoreError::new(ErrorKind::Unavailable, operation),
        SdkError::DispatchFailure(failure) => {
            let kind = failure.as_connector_error().map_or(ErrorKind::Other, connector_kind);
            StoreError::new(kind, operation)
        }
        SdkError::ConstructionFailure(_) => StoreError::new(ErrorKind::Invalid, operation),
        _ => StoreError::new(ErrorKind::Other, operation),
    };
    let classified = match key {
        Some(key) => classified.with_key(key),
        None => classified,
    };
    classified.with_message(Some(&root_cause(&error))).with_source(error)
}

/// What a fault of the transport means.
pub(crate) fn connector_kind(error: &ConnectorError) -> ErrorKind {
    if error.is_user() { ErrorKind::Other } else { ErrorKind::Unavailable }
}

/// No credentials could be found or renewed.
#[derive(Debug, thiserror::Error)]
#[error("no usable credentials: {0}")]
pub(crate) struct NoCredentials(pub(crate) String);

/// Whether the network, rather than the remote's wits, is behind an error.
fn is_transport_fault(error: &(dyn Error + 'static)) -> bool {
    find_cause::<std::io::Error>(error).is_some()
        || find_cause::<hyper::Error>(error).is_some_and(|error| !error.is_parse())
}

/// An error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn find_cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The innermost cause: the outer layers say little more than that something failed.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error document: `<Error><Code>…</Code><Message>…</Message></Error>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorDocument {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl ErrorDocument {
    /// Reads an answer's body; `None` when it is no error document.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut document = aws_smithy_xml::decode::Document::new(text);
        let mut root = document.root_element().ok()?;
        if root.start_el().local() != "Error" {
            return None;
        }
        let mut parsed = Self::default();
        while let Some(mut tag) = root.next_tag() {
            let field = match tag.start_el().local() {
                "Code" => &mut parsed.code,
                "Message" => &mut parsed.message,
                _ => continue,
            };
            *field = aws_smithy_xml::decode::try_data(&mut tag).ok().map(|text| text.into_owned());
        }
        Some(parsed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kind(status: u16, code: Option<&str>) -> ErrorKind {
        Refusal { status, code, message: None }.kind()
    }

    #[test]
    fn codes_decide_before_statuses() {
        let table = [
            (404, "NoSuchBucket", ErrorKind::BucketMissing),
            (404, "NoSuchKey", ErrorKind::NotFound),
            (403, "AccessDenied", ErrorKind::Denied),
            (403, "InvalidAccessKeyId", ErrorKind::Denied),
            (403, "SignatureDoesNotMatch", ErrorKind::Denied),
            (400, "ExpiredToken", ErrorKind::Denied),
            (400, "InvalidToken", ErrorKind::Denied),
            (403, "RequestTimeTooSkewed", ErrorKind::Denied),
            (403, "InvalidObjectState", ErrorKind::Invalid),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Denied),
            (503, "SlowDown", ErrorKind::Throttled),
            (400, "RequestTimeout", ErrorKind::Unavailable),
            (400, "IncompleteBody", ErrorKind::Unavailable),
            (500, "InternalError", ErrorKind::Unavailable),
            (400, "BadDigest", ErrorKind::BadDigest),
            (400, "InvalidDigest", ErrorKind::BadDigest),
            (400, "XAmzContentSHA256Mismatch", ErrorKind::BadDigest),
            (412, "PreconditionFailed", ErrorKind::Precondition),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (400, "EntityTooLarge", ErrorKind::TooLarge),
            (400, "KeyTooLongError", ErrorKind::Invalid),
            (400, "MetadataTooLarge", ErrorKind::Invalid),
            (400, "InvalidArgument", ErrorKind::Invalid),
            (404, "NoSuchUpload", ErrorKind::NotFound),
            (400, "InvalidPart", ErrorKind::Precondition),
            (400, "EntityTooSmall", ErrorKind::Invalid),
            (416, "InvalidRange", ErrorKind::Invalid),
            (400, "SomethingNew", ErrorKind::Invalid),
            (418, "SomethingNew", ErrorKind::Other),
        ];
        for (status, code, expected) in table {
            assert_eq!(kind(status, Some(code)), expected, "{status} {code}");
        }
    }

    #[test]
    fn statuses_decide_without_a_code() {
        let table = [
            (301, ErrorKind::BucketMissing),
            (307, ErrorKind::Unavailable),
            (400, ErrorKind::Invalid),
            (401, ErrorKind::Denied),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (408, ErrorKind::Unavailable),
            (409, ErrorKind::Other),
            (412, ErrorKind::Precondition),
            (413, ErrorKind::TooLarge),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (501, ErrorKind::Unsupported),
            (502, ErrorKind::Unavailable),
            (503, ErrorKind::Throttled),
            (504, ErrorKind::Unavailable),
            (507, ErrorKind::Unavailable),
        ];
        for (status, expected) in table {
            assert_eq!(kind(status, None), expected, "{status}");
        }
    }

    #[test]
    fn a_copy_that_is_too_large_is_told_from_other_invalid_requests() {
        let mut refusal = Refusal {
            status: 400,
            code: Some("InvalidRequest"),
            message: Some(
                "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
            ),
        };
        assert_eq!(refusal.kind(), ErrorKind::TooLarge);
        refusal.message = Some("Missing required header");
        assert_eq!(refusal.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn error_documents_are_read_with_or_without_namespace() {
        let body = br#"<?xml version="1.0" encoding="UTF-8"?>
            <Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Resource>/b</Resource>
            <Code>SlowDown</Code><Message>a &lt;b&gt; &amp; c</Message></Error>"#;
        assert_eq!(
            ErrorDocument::parse(body).unwrap(),
            ErrorDocument { code: Some("SlowDown".to_owned()), message: Some("a <b> & c".to_owned()) }
        );
    }

    #[test]
    fn what_is_no_error_document_is_not_read_as_one() {
        for body in [&b""[..], b"<html><body>502</body></html>", b"<Error", b"\xff\xfe", b"plain text"] {
            let parsed = ErrorDocument::parse(body);
            assert!(parsed.is_none() || parsed == Some(ErrorDocument::default()), "{parsed:?}");
        }
    }
}
