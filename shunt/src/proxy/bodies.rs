//! Bodies on their way through: given up when they stand still, and held back until they are wanted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::body::{BoxError, SourceBroke, causes};
use crate::metrics::Transfer;

/// A body gave nothing for too long while it was asked.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} s", .0.as_secs())]
struct Stalled(Duration);

/// True when an error comes from a body that stood still.
pub(super) fn has_stalled(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<Stalled>())
}

/// An answer's body, from Swift.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Incoming,
    idle: Duration,
    /// Set while the content is waited for: a client that takes its time is no fault of Swift.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn new(content: Incoming, idle: Duration) -> Self {
        Self { content, idle, alarm: None }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(polled) = Pin::new(&mut this.content).poll_frame(context) {
            this.alarm = None;
            return Poll::Ready(polled.map(|polled| polled.map_err(Into::into)));
        }
        let idle = this.idle;
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep(idle)));
        match alarm.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Stalled(idle).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// A client's body, whose end is told.
#[derive(Debug)]
pub(super) struct ClientBody {
    content: AnswerBody,
    taken: watch::Sender<Taking>,
    transfer: Transfer,
}

/// How far a client's body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    /// The client is waited for.
    Waiting,
    /// A piece was handed on; Swift has not asked for the next one.
    HandedOn(Instant),
    /// All of it was handed on, or dropped.
    Ended(Instant),
}

/// Tells whether Swift takes a client's body.
#[derive(Debug)]
pub(super) struct Sent(watch::Receiver<Taking>);

impl Sent {
    /// Ends when Swift has said nothing for `limit` since it had the body, or has not taken more of it for that long.
    pub(super) async fn late(mut self, limit: Duration) {
        loop {
            let taking = *self.0.borrow_and_update();
            let since = match taking {
                Taking::Waiting => None,
                Taking::HandedOn(since) | Taking::Ended(since) => Some(since),
            };
            let Some(since) = since else {
                if self.0.changed().await.is_err() {
                    return sleep(limit).await;
                }
                continue;
            };
            sleep_until(since + limit).await;
            if *self.0.borrow() == taking {
                return;
            }
        }
    }
}

impl ClientBody {
    pub(super) fn new(content: Incoming, idle: Duration, transfer: Transfer) -> (Self, Sent) {
        let (taken, sent) = watch::channel(Taking::HandedOn(Instant::now()));
        (Self { content: AnswerBody::new(content, idle), taken, transfer }, Sent(sent))
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.taken.send_replace(Taking::Ended(Instant::now()));
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.content).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.transfer.passed(frame.data_ref().map_or(0, Bytes::len));
        }
        self.taken.send_replace(match &polled {
            Poll::Pending => Taking::Waiting,
            Poll::Ready(None) => Taking::Ended(Instant::now()),
            Poll::Ready(Some(_)) => Taking::HandedOn(Instant::now()),
        });
        polled.map_err(|error| SourceBroke(error).into())
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// A body that is not asked for before Swift wants it: the first look at it tells the client to go on.
#[derive(Debug)]
pub(super) struct Continue<B> {
    content: B,
    wait: Option<Wait>,
}

/// The wait for Swift's word.
struct Wait(Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for Wait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Wait")
    }
}

/// Lets the body through.
#[derive(Clone, Debug)]
pub(super) struct Opener(Arc<Notify>);

impl Opener {
    pub(super) fn open(&self) {
        self.0.notify_one();
    }
}

impl<B> Continue<B> {
    pub(super) fn new(content: B, limit: Duration) -> (Self, Opener) {
        let opener = Opener(Arc::new(Notify::new()));
        let opened = Arc::clone(&opener.0);
        let wait = Wait(Box::pin(async move {
            let _ = tokio::time::timeout(limit, opened.notified()).await;
        }));
        (Self { content, wait: Some(wait) }, opener)
    }
}

impl<B> http_body::Body for Continue<B>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wait) = &mut self.wait {
            if wait.0.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
        }
        Pin::new(&mut self.content).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
