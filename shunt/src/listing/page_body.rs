//! A page on its way to a client: it takes a place in memory until it is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::BoxError;

/// What is handed over at once: the server takes the next piece only when it has sent the one before.
const PIECE_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct PageBody {
    rest: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

impl PageBody {
    pub(super) fn new(page: impl Into<Bytes>, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { rest: page.into(), place }
    }
}

impl http_body::Body for PageBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            self.place = None;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_page_gives_its_place_back_once_it_is_sent_or_dropped() {
        let places = Arc::new(Semaphore::new(10));
        let take = || Some(Arc::clone(&places).try_acquire_many_owned(4).unwrap());
        let content = vec![7_u8; 3 * PIECE_BYTES + 1];
        let mut body = PageBody::new(content.clone(), take());
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            assert_eq!(places.available_permits(), 6);
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES);
            sent.extend_from_slice(&piece);
        }
        assert_eq!(sent, content);
        assert_eq!(places.available_permits(), 10);
        drop(PageBody::new(content, take()));
        assert_eq!(places.available_permits(), 10);
    }
}
