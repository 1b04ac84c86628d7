//! The body of a PUT that is fed piece by piece, and never ends early without an error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::body::SourceBroke;
use crate::{Body, BoxError};

/// Pieces under way between the source and a connection: one is written while the next one comes.
const PIECES: usize = 2;

/// The feeding end was dropped before all bytes were there.
#[derive(Debug, thiserror::Error)]
#[error("the restore was broken off")]
pub(super) struct BrokenOff;

struct ChannelBody {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
    failed: bool,
}

/// A body of exactly `length` bytes, and the end that feeds it. Dropping that end before all bytes were given breaks the body off.
pub(super) fn channel(length: u64) -> (mpsc::Sender<Bytes>, Body) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (sender, ChannelBody { pieces, left: length, failed: false }.boxed_unsync())
}

impl HttpBody for ChannelBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 || self.failed {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(context));
        let left = piece.as_ref().and_then(|piece| self.left.checked_sub(piece.len() as u64));
        Poll::Ready(Some(match (piece, left) {
            (Some(piece), Some(left)) => {
                self.left = left;
                Ok(Frame::data(piece))
            }
            _ => {
                self.failed = true;
                Err(SourceBroke(BrokenOff.into()).into())
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_what_it_is_fed() {
        let (sender, body) = channel(5);
        sender.send(Bytes::from_static(b"abc")).await.unwrap();
        sender.send(Bytes::from_static(b"de")).await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcde");
    }

    #[tokio::test]
    async fn never_ends_early_or_late_without_an_error() {
        let (sender, body) = channel(5);
        sender.send(Bytes::from_static(b"abc")).await.unwrap();
        drop(sender);
        assert!(body.collect().await.is_err());
        let (sender, body) = channel(2);
        sender.send(Bytes::from_static(b"abc")).await.unwrap();
        assert!(body.collect().await.is_err());
    }
}
