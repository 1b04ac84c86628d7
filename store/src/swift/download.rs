//! The content of an object on its way in: it ends with an error when it stands still, or when it ends early.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::BoxError;

/// A content that gives nothing for this long, while it is asked, is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// The content had not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadFault {
    #[error("nothing came for {} s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("content ended early: expected {expected} bytes, got {got}")]
    Short { expected: u64, got: u64 },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Download {
    content: Incoming,
    expected: u64,
    got: u64,
    /// Set while the content is waited for: a reader that takes its time is no fault of the server.
    alarm: Option<Pin<Box<Sleep>>>,
    done: bool,
}

impl Download {
    pub(crate) fn new(content: Incoming, expected: u64) -> Self {
        Self { content, expected, got: 0, alarm: None, done: false }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.content).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.alarm = None;
                let size = frame.data_ref().map_or(0, Bytes::len);
                this.got = this.got.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.done = true;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.done = true;
                let (expected, got) = (this.expected, this.got);
                if got == expected {
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(DownloadFault::Short { expected, got }.into())))
            }
            Poll::Pending => {
                let alarm = this
                    .alarm
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL_LIMIT)));
                if alarm.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                this.done = true;
                Poll::Ready(Some(Err(DownloadFault::Stalled.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.expected.saturating_sub(self.got))
    }
}
