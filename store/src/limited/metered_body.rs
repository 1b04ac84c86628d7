//! A body whose bytes are counted on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::metering::Meter;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the remote.
    Sent,
    /// From the remote.
    Received,
}

/// The pieces of its source, unchanged.
pub(super) struct MeteredBody {
    source: Body,
    meter: Arc<Meter>,
    direction: Direction,
}

impl MeteredBody {
    pub(super) fn new(source: Body, meter: Arc<Meter>, direction: Direction) -> Self {
        Self { source, meter, direction }
    }
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.source).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.direction {
                Direction::Sent => self.meter.sent(data.len()),
                Direction::Received => self.meter.received(data.len()),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
