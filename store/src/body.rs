//! The body of an upload: a stream of bytes that is sent once, as it arrives, and is never collected.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

/// An error of a source stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed body. An `Err` frame ends it and fails the upload with [`crate::ErrorKind::Body`].
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that gives `bytes` in one frame (none when they are empty).
pub fn from_bytes(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without a byte.
pub fn empty() -> Body {
    from_bytes(Bytes::new())
}

/// A body made of any [`http_body::Body`], for instance of a response that is passed on.
pub fn from_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body made of a stream of chunks.
pub fn from_stream<S, E>(stream: S) -> Body
where
    S: futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    use futures_util::TryStreamExt;
    StreamBody::new(stream.map_ok(http_body::Frame::data).map_err(Into::into)).boxed_unsync()
}
