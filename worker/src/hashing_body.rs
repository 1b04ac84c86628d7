//! A body that proves its bytes before it lets the last of them go.
//!
//! Not every S3 server checks Content-MD5, and some keep an object whose check failed. So the content is hashed on its way, and the last
//! piece is held back until the digest is known to be right: a body that is wrong or short ends in an error before it is
//! complete, and an incomplete PUT is never stored.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest, Md5};

/// Small pieces are gathered to this size, so that a body of tiny reads does not become as many tiny writes.
const GATHER_BYTES: usize = 64 * 1024;

/// Why a body was not let through.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The source failed.
    #[error("reading the local object failed: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The source ended early or went on too long.
    #[error("the local object gave {found} bytes, expected {expected}")]
    Length {
        /// What the headers promised.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The bytes are not those the ETag speaks of.
    #[error("the local bytes have MD5 {found}, the object's ETag says {expected}")]
    Digest {
        /// The object's ETag.
        expected: String,
        /// What was read.
        found: String,
    },
}

/// Wraps the local object's body. See the module's description.
#[derive(Debug)]
pub struct HashingBody<B> {
    source: B,
    expected_length: u64,
    expected_md5: Option<[u8; 16]>,
    digest: Md5,
    seen: u64,
    /// The last piece, held back.
    held: BytesMut,
    finished: bool,
    sent: Arc<AtomicU64>,
    observed: Option<Arc<OnceLock<[u8; 16]>>>,
}

impl<B> HashingBody<B> {
    /// A body of `expected_length` bytes with this MD5, when it is known. `sent` counts the bytes read from the source.
    pub fn new(
        source: B,
        expected_length: u64,
        expected_md5: Option<[u8; 16]>,
        sent: Arc<AtomicU64>,
    ) -> Self {
        Self {
            source,
            expected_length,
            expected_md5,
            digest: Md5::new(),
            seen: 0,
            held: BytesMut::new(),
            finished: false,
            sent,
            observed: None,
        }
    }

    /// Tells the MD5 of what came as soon as all of it has come.
    #[must_use]
    pub(crate) fn observed_by(mut self, observer: Arc<OnceLock<[u8; 16]>>) -> Self {
        self.observed = Some(observer);
        self
    }

    fn verify(&self) -> Result<(), BodyError> {
        if self.seen != self.expected_length {
            return Err(BodyError::Length { expected: self.expected_length, found: self.seen });
        }
        if self.expected_md5.is_none() && self.observed.is_none() {
            return Ok(());
        }
        let found = self.digest.clone().finalize();
        if let Some(observer) = &self.observed {
            // Only the first word counts: a body is read once.
            let _ = observer.set(found.into());
        }
        if let Some(expected) = self.expected_md5
            && found.as_slice() != expected
        {
            return Err(BodyError::Digest { expected: hex::encode(expected), found: hex::encode(found) });
        }
        Ok(())
    }
}

impl<B> Body for HashingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut this.source).poll_frame(context)) else {
                this.finished = true;
                let verdict = this.verify();
                let rest = std::mem::take(&mut this.held).freeze();
                return Poll::Ready(match verdict {
                    Err(error) => Some(Err(error)),
                    Ok(()) if rest.is_empty() => None,
                    Ok(()) => Some(Ok(Frame::data(rest))),
                });
            };
            let data = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Err(error) => {
                    this.finished = true;
                    return Poll::Ready(Some(Err(BodyError::Source(error.into()))));
                }
            };
            if data.is_empty() {
                continue;
            }
            this.seen = this.seen.saturating_add(data.len() as u64);
            this.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
            if this.seen > this.expected_length {
                this.finished = true;
                return Poll::Ready(Some(Err(BodyError::Length {
                    expected: this.expected_length,
                    found: this.seen,
                })));
            }
            if this.expected_md5.is_some() || this.observed.is_some() {
                this.digest.update(&data);
            }
            // The piece that completes the body goes out only once the source has ended and the digest is right.
            let ready = if this.held.len() + data.len() > GATHER_BYTES && !this.held.is_empty() {
                std::mem::take(&mut this.held).freeze()
            } else {
                Bytes::new()
            };
            match data.try_into_mut() {
                Ok(data) if this.held.is_empty() => this.held = data,
                Ok(data) => this.held.extend_from_slice(&data),
                Err(data) => this.held.extend_from_slice(&data),
            }
            if !ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(ready))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }

    fn size_hint(&self) -> SizeHint {
        let given = self.seen.saturating_sub(self.held.len() as u64);
        SizeHint::with_exact(self.expected_length.saturating_sub(given))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    type Piece = Result<Frame<Bytes>, std::io::Error>;

    fn pieces(parts: &[&[u8]]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin + use<> {
        let parts: Vec<Piece> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
        StreamBody::new(futures_util::stream::iter(parts))
    }

    /// What a server would have received, and how the body ended.
    fn read(
        body: HashingBody<impl Body<Data = Bytes, Error = std::io::Error> + Unpin>,
    ) -> (Vec<u8>, Option<BodyError>) {
        let mut body = body;
        let mut received = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => return (received, Some(error)),
                }
            }
            (received, None)
        })
    }

    fn body(
        parts: &[&[u8]],
        length: u64,
        md5_of: &[u8],
    ) -> HashingBody<impl Body<Data = Bytes, Error = std::io::Error> + Unpin> {
        HashingBody::new(pieces(parts), length, Some(Md5::digest(md5_of).into()), Arc::default())
    }

    #[test]
    fn an_empty_object_passes() {
        let (received, error) = read(body(&[], 0, b""));
        assert!(received.is_empty() && error.is_none());
    }

    #[test]
    fn a_corrupt_body_never_completes() {
        let (received, error) = read(body(&[b"hel", b"lx"], 5, b"hello"));
        assert!(matches!(error, Some(BodyError::Digest { .. })));
        assert!(received.len() < 5, "the last piece was let go");
    }

    #[test]
    fn a_short_body_is_an_error() {
        let (_, error) = read(body(&[b"hell"], 5, b"hell"));
        assert!(matches!(error, Some(BodyError::Length { expected: 5, found: 4 })));
    }

    #[test]
    fn a_long_body_never_completes() {
        let (received, error) = read(body(&[b"hello", b"!"], 5, b"hello"));
        assert!(matches!(error, Some(BodyError::Length { .. })));
        assert!(received.len() < 5);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_content_arrives_whole(content in proptest::collection::vec(any::<u8>(), 0..300_000), cut in 1..70_000_usize) {
            let parts: Vec<&[u8]> = content.chunks(cut).collect();
            let (received, error) = read(body(&parts, content.len() as u64, &content));
            prop_assert!(error.is_none());
            prop_assert!(received == content);
        }

        #[test]
        fn one_flipped_bit_never_completes(content in proptest::collection::vec(any::<u8>(), 1..200_000), cut in 1..70_000_usize, at in any::<prop::sample::Index>()) {
            let mut wrong = content.clone();
            let at = at.index(wrong.len());
            wrong[at] ^= 1;
            let parts: Vec<&[u8]> = wrong.chunks(cut).collect();
            let (received, error) = read(body(&parts, content.len() as u64, &content));
            let is_digest_error = matches!(error, Some(BodyError::Digest { .. }));
            prop_assert!(is_digest_error);
            prop_assert!(received.len() < content.len());
        }
    }
}
