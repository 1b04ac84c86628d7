//! The bodies of requests and responses, and the few answers that the shunt makes itself.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

pub use swift_s3_store::BoxError;

/// A streamed body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A response with such a body.
pub type Response = http::Response<Body>;

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body in memory.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Any body as a [`Body`].
#[must_use]
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// For requests that broke off, as Swift tells of them; nobody reads it.
#[must_use]
pub fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// What was to be sent broke off where it comes from: no fault of whom it was sent to.
#[derive(Debug, thiserror::Error)]
#[error("what was to be sent broke off: {0}")]
pub struct SourceBroke(#[source] pub BoxError);

/// An error, and what it came from.
pub(crate) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// A body is larger than it may be.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
pub struct TooLarge(usize);

/// All of a body, in memory.
///
/// # Errors
/// [`TooLarge`], or that of the body.
pub async fn collect(mut body: Body, max_bytes: usize) -> Result<Bytes, BoxError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + all.len() + data.len() > max_bytes {
            return Err(TooLarge(max_bytes).into());
        }
        // Most come in one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A short text for people, with its length and type.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let text = text.into();
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, length);
    response
}
