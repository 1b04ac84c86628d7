//! The body of a local object, on its way to the remote store.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// A body that yields exactly the length that was promised, or an error.
///
/// Dropping it early closes the connection that it came on.
#[derive(Debug)]
pub struct LocalBody {
    source: Incoming,
    length: u64,
    remaining: u64,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    is_finished: bool,
}

/// Why a body ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum LocalBodyError {
    /// Nothing came for as long as this.
    #[error("the object server sent nothing for {0:?}")]
    Stalled(Duration),
    /// The body ended early, or would not end.
    #[error("the object server promised {expected} bytes and sent {got}")]
    Length {
        /// What the headers promised.
        expected: u64,
        /// What came; one piece too many counts.
        got: u64,
    },
    /// The connection broke.
    #[error("the object server's answer broke off after {got} of {expected} bytes")]
    Broken {
        /// What the headers promised.
        expected: u64,
        /// What came.
        got: u64,
        /// What the connection said.
        source: hyper::Error,
    },
}

impl LocalBody {
    pub(crate) const fn new(source: Incoming, length: u64, stall: Duration) -> Self {
        Self { source, length, remaining: length, stall, timer: None, is_waiting: false, is_finished: false }
    }

    fn fail(&mut self, error: LocalBodyError) -> Poll<Option<Result<Frame<Bytes>, LocalBodyError>>> {
        self.is_finished = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for LocalBody {
    type Data = Bytes;
    type Error = LocalBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LocalBodyError>>> {
        let this = &mut *self;
        if this.is_finished {
            return Poll::Ready(None);
        }
        let expected = this.length;
        let got = this.length - this.remaining;
        loop {
            let frame = match Pin::new(&mut this.source).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // One timer serves the whole body; it is set anew only when there is something to wait for.
                    let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.stall)));
                    if !this.is_waiting {
                        this.is_waiting = true;
                        timer.as_mut().reset(Instant::now() + this.stall);
                    }
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let stall = this.stall;
                    return this.fail(LocalBodyError::Stalled(stall));
                }
            };
            this.is_waiting = false;
            return match frame {
                None if this.remaining == 0 => {
                    this.is_finished = true;
                    Poll::Ready(None)
                }
                None => this.fail(LocalBodyError::Length { expected, got }),
                Some(Err(source)) => this.fail(LocalBodyError::Broken { expected, got, source }),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    let Some(remaining) = this.remaining.checked_sub(length) else {
                        return this
                            .fail(LocalBodyError::Length { expected, got: got.saturating_add(length) });
                    };
                    this.remaining = remaining;
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_finished || (self.remaining == 0 && self.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
