//! A body that breaks off when the permission to send it is withdrawn.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::limited::Permission;

/// The pieces of its source, as long as there is permission. A body that breaks off is never stored.
pub(super) struct PermittedBody {
    source: Body,
    permission: Arc<dyn Permission>,
}

impl PermittedBody {
    pub(super) fn new(source: Body, permission: Arc<dyn Permission>) -> Self {
        Self { source, permission }
    }
}

impl http_body::Body for PermittedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(context));
        // After the wait for the source: this process may have been stopped meanwhile.
        if !self.permission.is_given() {
            return Poll::Ready(Some(Err("the permission to send was withdrawn".into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
